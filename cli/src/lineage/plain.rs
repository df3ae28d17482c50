//! Text that can do no harm where it is shown.
//!
//! Guests and peers have a part in what an audit log says. What comes of it is shown in terminals, in
//! browsers and by Graphviz, so nothing in it may move a cursor, turn the direction of writing round, or
//! end the string or element that it stands in.

use std::fmt;
use std::sync::Arc;

/// The longest text that is kept, in characters.
const LONGEST: usize = 1000;

/// One line of printable characters, of which there are not too many. It says nothing of quotes and angle
/// brackets, which are harmless in a terminal: [`xml`] and [`dot`] see to them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Plain(Arc<str>);

impl Plain {
    pub(super) fn new(text: &str) -> Plain {
        let mut plain = String::with_capacity(text.len().min(LONGEST));
        for (index, character) in text.chars().enumerate() {
            if index == LONGEST {
                plain.push('…');
                break;
            }
            match character {
                '"' | '\'' | '\\' => plain.push(character),
                // Escapes all that is no visible character of its own: controls, marks of direction, what
                // joins with its neighbours, what Unicode does not know.
                _ => plain.extend(character.escape_debug()),
            }
        }
        Plain(plain.into())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Cuts rules to that many columns: whole ones are kept if possible, and how many more there are is said.
pub(super) fn shorten(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let rules: Vec<&str> = text.split("; ").collect();
    for kept in (1..rules.len()).rev() {
        let more = rules.len() - kept;
        let short = format!("{}; … {more} more", rules[..kept].join("; "));
        if width(&short) <= columns {
            return short;
        }
    }
    cut(text, columns)
}

/// Cuts a text to that many columns.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut left = columns.saturating_sub(1);
    let mut short: String = text
        .chars()
        .take_while(|&character| {
            let wide = columns_of(character);
            let fits = wide <= left;
            left = left.saturating_sub(wide);
            fits
        })
        .collect();
    short.push('…');
    short
}

/// How many columns a text takes, at most: what is not ASCII is taken to be wide.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

fn columns_of(character: char) -> usize {
    match character {
        '…' | '·' => 1,
        _ if character.is_ascii() => 1,
        _ => 2,
    }
}

/// A text as content or as an attribute's value of XML.
pub(super) fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// A text inside a quoted string of DOT. Graphviz reads backslashes and entities in it.
pub(super) fn dot(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '&' => escaped.push_str("&amp;"),
            '\n' => escaped.push_str("\\n"),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_written_out() {
        for (text, plain) in [
            ("net/billing", "net/billing"),
            ("say \"no\" \\ 'yes'", "say \"no\" \\ 'yes'"),
            ("\x1b[2J\x07", "\\u{1b}[2J\\u{7}"),
            ("two\nlines\r\t\0", "two\\nlines\\r\\t\\0"),
            ("\u{202e}gnp.exe", "\\u{202e}gnp.exe"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\u{200b}\u{feff}\u{e0001}", "\\u{200b}\\u{feff}\\u{e0001}"),
            ("e\u{301}", "e\\u{301}"),
            ("\u{ffff}", "\\u{ffff}"),
            ("größe 網", "größe 網"),
        ] {
            assert_eq!(Plain::new(text).as_str(), plain);
        }
    }

    #[test]
    fn what_is_long_ends_somewhere() {
        let plain = Plain::new(&"x".repeat(1 << 20));
        assert_eq!(plain.as_str().chars().count(), LONGEST + 1);
    }

    #[test]
    fn rules_are_cut_between_rules() {
        let rules = "connect tcp 10.0.0.0/8:443; connect tcp 10.0.0.0/8:80; accept tcp *:*";
        assert_eq!(shorten(rules, 100), rules);
        assert_eq!(shorten(rules, 60), "connect tcp 10.0.0.0/8:443; … 2 more");
        assert_eq!(shorten(rules, 20), "connect tcp 10.0.0.…");
        assert_eq!(cut(rules, 30), "connect tcp 10.0.0.0/8:443; c…");
        assert_eq!(cut("網網網", 4), "網…");
        assert_eq!(cut("ab", 0), "…");
        for columns in 1..80 {
            assert!(width(&shorten(rules, columns)) <= columns);
        }
    }

    #[test]
    fn markup_stays_text() {
        assert_eq!(
            xml("</text><script a='b' c=\"d\">&"),
            "&lt;/text&gt;&lt;script a=&#39;b&#39; c=&quot;d&quot;&gt;&amp;"
        );
        assert_eq!(dot("\"];\\N&lt;\n"), "\\\"];\\\\N&amp;lt;\\n");
    }
}
