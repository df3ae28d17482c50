//! The user's rules: who gets which connections, and how often.
//!
//! ```text
//! rules  = { [ rule ] , stop } , [ rule ] ;         (* the first one that is about a question decides it *)
//! rule   = "allow" who [ often ] connection | "refuse" who connection ;
//! who    = "*" | (* the name of a program *) ;
//! often  = "once" | number "times" ;
//! stop   = ";" | (* the end of a line *) ;
//! ```
//!
//! A connection is a rule of refcap's own for `connect tcp`, such as `connect tcp 10.0.0.0/8:80,443 without 10.0.0.1`. A
//! comment begins with `#` and goes to the end of its line.

use std::fmt;
use std::net::SocketAddr;

use refcap_guest::authority::{Authority, Operation, Protocol, Query, Rules};

/// The rules, in their order.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// As it was written.
    pub text: String,
    /// Whether it gives what it is about.
    pub allows: bool,
    /// How often it may be asked for, if that has an end.
    pub times: Option<u32>,
    /// The program that it is about; `None` for all.
    who: Option<String>,
    about: Authority,
}

/// Why rules can't be read: a place in the text, what would be right there, and what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What would be right.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unreadable {
            line,
            column,
            expected,
            found,
        } = self;
        write!(
            f,
            "line {line}, column {column}: expected {expected}, found {found}"
        )
    }
}

impl std::error::Error for Unreadable {}

impl Policy {
    /// Reads the rules. They may name these programs, for a rule about nobody is a mistake.
    pub fn parse(text: &str, programs: &[&str]) -> Result<Policy, Unreadable> {
        let mut rules = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let code = line.split('#').next().unwrap_or_default();
            let mut column = 1;
            for piece in code.split(';') {
                let mut words = Words {
                    rest: piece,
                    line: number,
                    column,
                };
                if !piece.trim().is_empty() {
                    rules.push(rule(&mut words, piece.trim(), programs)?);
                }
                column += piece.chars().count() + 1;
            }
        }
        Ok(Policy { rules })
    }

    /// The place of the first rule that is about this.
    pub fn decide(&self, who: &str, address: SocketAddr) -> Option<usize> {
        let query = Query::new(Operation::Connect, Protocol::Tcp).remote(address);
        self.rules.iter().position(|rule| {
            rule.who.as_deref().is_none_or(|about| about == who) && rule.about.allows(&query)
        })
    }

    /// The rule at a place.
    pub fn rule(&self, place: usize) -> &Rule {
        &self.rules[place]
    }
}

impl Rule {
    /// What it has of the way to an address: no more than it says, also of the local ends.
    pub fn part(&self, address: SocketAddr) -> anyhow::Result<Rules> {
        let asked = Rules::parse(&format!("connect tcp {address}"))?;
        Ok(self.about.only(&asked)?.to_rules())
    }
}

fn rule(words: &mut Words<'_>, text: &str, programs: &[&str]) -> Result<Rule, Unreadable> {
    let allows = match words.next() {
        Some(word) if word.text == "allow" => true,
        Some(word) if word.text == "refuse" => false,
        other => return Err(words.wrong(other, "`allow` or `refuse`")),
    };
    let who = match words.next() {
        Some(word) if word.text == "*" => None,
        Some(word) if programs.contains(&word.text) => Some(word.text.to_owned()),
        other => return Err(words.wrong(other, &format!("`*` or one of {}", programs.join(", ")))),
    };
    let before = words.clone();
    let times = match words.next() {
        Some(word) if allows && word.text == "once" => Some(1),
        Some(word) if allows && word.text.starts_with(|first: char| first.is_ascii_digit()) => {
            let times = word.text.parse().ok().filter(|&times| times > 0);
            let times = times.ok_or_else(|| words.wrong(Some(word), "how often, from 1"))?;
            match words.next() {
                Some(word) if word.text == "times" => Some(times),
                other => return Err(words.wrong(other, "`times`")),
            }
        }
        _ => {
            *words = before;
            None
        }
    };
    Ok(Rule {
        text: text.to_owned(),
        allows,
        times,
        who,
        about: connection(words)?,
    })
}

/// What a rule is about, as refcap reads it.
fn connection(words: &mut Words<'_>) -> Result<Authority, Unreadable> {
    let all = words.clone();
    for expected in ["connect", "tcp"] {
        match words.next() {
            Some(word) if word.text == expected => {}
            other => return Err(words.wrong(other, &format!("`{expected}`"))),
        }
    }
    // At its place in the text, so that an error names that.
    let place = "\n".repeat(all.line - 1) + &" ".repeat(all.column - 1);
    let unreadable = |line, column, expected: &str, found: String| Unreadable {
        line,
        column,
        expected: expected.to_owned(),
        found,
    };
    let rules = Rules::parse(&(place + all.rest))
        .map_err(|error| unreadable(error.line, error.column, &error.expected, error.found))?;
    // A rule for a name would decide nothing.
    if rules.rules.iter().any(|rule| rule.main().host.is_name()) {
        let name = words.next();
        return Err(words.wrong(name, "an address, for that is what programs ask for"));
    }
    Authority::from_rules(&rules).map_err(|error| {
        unreadable(
            all.line,
            all.column,
            "a rule that is not so complex",
            error.to_string(),
        )
    })
}

/// What is left of a rule.
#[derive(Debug, Clone)]
struct Words<'a> {
    rest: &'a str,
    line: usize,
    /// Where the rest begins.
    column: usize,
}

#[derive(Debug, Clone, Copy)]
struct Word<'a> {
    text: &'a str,
    column: usize,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<Word<'a>> {
        let start = self.rest.trim_start();
        self.column += self.rest.chars().count() - start.chars().count();
        let end = start.find(char::is_whitespace).unwrap_or(start.len());
        let (text, rest) = start.split_at(end);
        let word = Word {
            text,
            column: self.column,
        };
        self.column += text.chars().count();
        self.rest = rest;
        (!text.is_empty()).then_some(word)
    }

    fn wrong(&self, word: Option<Word<'_>>, expected: &str) -> Unreadable {
        Unreadable {
            line: self.line,
            column: word.map_or(self.column, |word| word.column),
            expected: expected.to_owned(),
            found: word.map_or("the end of the rule".to_owned(), |word| {
                format!("`{}`", word.text)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAMS: [&str; 2] = ["editor", "game"];

    fn decides(text: &str, who: &str, address: &str) -> Option<usize> {
        let policy = Policy::parse(text, &PROGRAMS).unwrap_or_else(|error| panic!("{text}: {error}"));
        policy.decide(who, address.parse().unwrap())
    }

    #[test]
    fn the_first_rule_that_is_about_a_question_decides_it() {
        let text = "allow editor once connect tcp 10.0.0.1:80 # the page\n\
                    refuse * connect tcp 10.0.0.1:80; allow * 12 times connect tcp 10.0.0.0/8:* without 10.0.0.9";
        assert_eq!(decides(text, "editor", "10.0.0.1:80"), Some(0));
        assert_eq!(decides(text, "game", "10.0.0.1:80"), Some(1));
        assert_eq!(decides(text, "game", "10.0.0.1:81"), Some(2));
        assert_eq!(decides(text, "game", "10.0.0.9:81"), None);
        assert_eq!(decides(text, "game", "11.0.0.1:80"), None);
        assert_eq!(decides("# nothing\n;;\n", "game", "10.0.0.1:80"), None);
        let policy = Policy::parse(text, &PROGRAMS).unwrap();
        let said = |place| (policy.rule(place).allows, policy.rule(place).times);
        assert_eq!(
            [0, 1, 2].map(said),
            [(true, Some(1)), (false, None), (true, Some(12))]
        );
        assert_eq!(policy.rule(1).text, "refuse * connect tcp 10.0.0.1:80");
    }

    #[test]
    fn what_a_rule_has_of_an_address_is_no_more_than_it_says() {
        let policy = Policy::parse("allow * connect tcp *:80 from 10.0.0.1:*", &PROGRAMS).unwrap();
        let part = policy.rule(0).part("10.0.0.7:80".parse().unwrap()).unwrap();
        assert_eq!(part.to_string(), "connect tcp 10.0.0.7:80 from 10.0.0.1");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, says) in [
            (
                "permit * connect tcp *:80",
                "line 1, column 1: expected `allow` or `refuse`, found `permit`",
            ),
            (
                "\n  allow",
                "line 2, column 8: expected `*` or one of editor, game, found the end of the rule",
            ),
            (
                "allow editr connect tcp *:80",
                "line 1, column 7: expected `*` or one of editor, game, found `editr`",
            ),
            (
                "allow * 0 times connect tcp *:80",
                "line 1, column 9: expected how often, from 1, found `0`",
            ),
            (
                "allow * 3 connect tcp *:80",
                "line 1, column 11: expected `times`, found `connect`",
            ),
            (
                "refuse * once connect tcp *:80",
                "line 1, column 10: expected `connect`, found `once`",
            ),
            (
                "allow * connect tcp,udp *:80",
                "line 1, column 17: expected `tcp`, found `tcp,udp`",
            ),
            (
                "allow * bind tcp *:80",
                "line 1, column 9: expected `connect`, found `bind`",
            ),
            (
                "refuse * connect tcp example.com:80",
                "line 1, column 22: expected an address, for that is what programs ask for, found `example.com:80`",
            ),
            (
                "# first\nallow game connect tcp *:1; allow * once connect tcp 10.0.0.1/8:80",
                "line 2, column 54: expected `10.0.0.0/8`, the prefix without host bits, found `10.0.0.1/8`",
            ),
        ] {
            let error = Policy::parse(text, &PROGRAMS).unwrap_err();
            assert_eq!(error.to_string(), says, "{text:?}");
        }
    }
}
