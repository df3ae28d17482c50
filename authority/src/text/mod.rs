//! The text form of rules: reading it, and the normal form that is printed.
//!
//! The grammar is in `GRAMMAR.md` beside this crate's manifest.

mod host;
mod lexer;
mod parser;
mod pieces;
pub(crate) mod print;
mod terms;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use self::parser::Content;
use crate::policy::Policy;
use crate::rules::{End, Host, Rule, RuleError, Rules};
use crate::terms::Terms;

/// The longest text that is read, in bytes. A host policy of [`MAX_RULES`] rules fits.
pub const MAX_TEXT: usize = 16 << 20;
/// The most rules and exceptions that are read.
pub const MAX_RULES: usize = 250_000;

/// Where and how a text is not what it should be.
///
/// Displayed, it is one line; [`ParseError::render`] shows the place in the text.
///
/// ```
/// use refcap_authority::Rules;
/// let text = "connect tcp 10.0.0.1/8:443";
/// let error = Rules::parse(text).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "line 1, column 13: expected `10.0.0.0/8`, the prefix without host bits, found `10.0.0.1/8`"
/// );
/// assert_eq!(
///     error.render(text),
///     "1 | connect tcp 10.0.0.1/8:443\n  |             ^^^^^^^^^^ \
///      expected `10.0.0.0/8`, the prefix without host bits"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// The bytes of the text that are wrong; empty at its end.
    pub span: Range<usize>,
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters from 1.
    pub column: usize,
    /// What would be right.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl ParseError {
    /// The error at a place of the text.
    fn at(text: &str, span: Range<usize>, expected: impl Into<String>) -> ParseError {
        let before = text.get(..span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        ParseError {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            expected: expected.into(),
            found: found(text, &span),
            span,
        }
    }

    /// The line of the source with the place marked under it. `source` must be the text that was read.
    pub fn render(&self, source: &str) -> String {
        let start = self.span.start.min(source.len());
        let from = source
            .get(..start)
            .and_then(|before| before.rfind('\n'))
            .map_or(0, |at| at + 1);
        let line = source
            .get(from..)
            .and_then(|rest| rest.lines().next())
            .unwrap_or_default();
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let marked = source
            .get(start..self.span.end.min(from + line.len()))
            .unwrap_or_default();
        // Tabs stay tabs, so that the mark stands under its place.
        let indent: String = line
            .chars()
            .take(self.column - 1)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let mark = "^".repeat(marked.chars().count().max(1));
        format!(
            "{number} | {line}\n{margin} | {indent}{mark} expected {}",
            self.expected
        )
    }
}

/// What is at a place of the text, in words.
fn found(text: &str, span: &Range<usize>) -> String {
    const LONGEST: usize = 48;
    match text.get(span.clone()) {
        None | Some("") if span.start >= text.len() => "the end of the text".to_owned(),
        None | Some("") => "nothing".to_owned(),
        Some("\n") => "the end of the line".to_owned(),
        Some(found) if found.chars().count() > LONGEST => {
            let start: String = found.chars().take(LONGEST).collect();
            format!("`{}...`", start.escape_debug())
        }
        Some(found) => format!("`{}`", found.escape_debug()),
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}, column {}: expected {}, found {}",
            self.line, self.column, self.expected, self.found
        )
    }
}

impl std::error::Error for ParseError {}

impl Rules {
    /// Reads rules. An empty text has none, and allows nothing. Terms do not belong here: [`Policy::parse`]
    /// reads both.
    ///
    /// ```
    /// use refcap_authority::Rules;
    /// let rules = Rules::parse("connect tcp *.example.com:443; send udp 8.8.8.8:53; except private")?;
    /// assert_eq!((rules.rules.len(), rules.exceptions.len()), (2, 1));
    /// # Ok::<(), refcap_authority::ParseError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Rules, ParseError> {
        Ok(parser::policy(text, Content::Rules)?.rules)
    }
}

impl Policy {
    /// Reads rules and terms, mixed in any order. An empty text has none, and allows nothing.
    ///
    /// ```
    /// use refcap_authority::Policy;
    /// let policy = Policy::parse("limit sockets 4; connect tcp *:443; no derive; except private")?;
    /// assert_eq!(policy.to_string(), "connect tcp *:443; except private; limit sockets 4; no derive");
    /// # Ok::<(), refcap_authority::ParseError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Policy, ParseError> {
        parser::policy(text, Content::Both)
    }
}

impl FromStr for Policy {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Policy, ParseError> {
        Policy::parse(text)
    }
}

impl FromStr for Terms {
    type Err = ParseError;

    /// Reads terms alone; rules do not belong here.
    fn from_str(text: &str) -> Result<Terms, ParseError> {
        Ok(parser::policy(text, Content::Terms)?.terms)
    }
}

impl FromStr for Rules {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Rules, ParseError> {
        Rules::parse(text)
    }
}

impl FromStr for Rule {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Rule, ParseError> {
        parser::rule(text)
    }
}

impl FromStr for Host {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Host, ParseError> {
        parser::host(text)
    }
}

impl FromStr for End {
    type Err = ParseError;

    /// Reads `HOST:PORTS`, or `HOST` for every port.
    fn from_str(text: &str) -> Result<End, ParseError> {
        parser::end(text)
    }
}

impl FromStr for crate::Query {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<crate::Query, ParseError> {
        parser::query(text)
    }
}

impl FromStr for crate::sets::PortSet {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<crate::sets::PortSet, ParseError> {
        parser::ports(text)
    }
}

/// An authority's text is not rules, or its rules are too complex.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// The text is not rules.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The rules are too complex.
    #[error(transparent)]
    TooComplex(#[from] crate::TooComplex),
}

impl FromStr for crate::Authority {
    type Err = TextError;

    fn from_str(text: &str) -> Result<crate::Authority, TextError> {
        Ok(crate::Authority::from_rules(&Rules::parse(text)?)?)
    }
}

/// The error of a typed rule, as one of its text.
pub(crate) fn of_rule(text: &str, span: Range<usize>, error: RuleError) -> ParseError {
    ParseError::at(
        text,
        span,
        error.to_string().trim_start_matches("a rule has ").to_owned(),
    )
}

/// `HOST:PORTS`, with the ports said.
pub(crate) fn required_end(text: &str) -> Result<End, ParseError> {
    parser::destination(text)
}
