//! Words, commas and ends of rules.

use std::ops::Range;

/// A piece of text, without the spaces and comments around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) span: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Anything between spaces, commas, semicolons and comments.
    Word,
    /// `,`
    Comma,
    /// `;` or the end of a line.
    Stop,
    /// The end of the text.
    Eof,
}

/// Reads one token after the other. A copy reads ahead.
#[derive(Debug, Clone)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    /// A list goes on in the next line when the line ends with a comma.
    after_comma: bool,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Lexer {
            text,
            at: 0,
            after_comma: false,
        }
    }

    pub(super) fn next(&mut self) -> Token {
        let token = self.scan();
        self.at = token.span.end;
        self.after_comma = token.kind == Kind::Comma;
        token
    }

    fn scan(&mut self) -> Token {
        loop {
            let rest = &self.text[self.at..];
            let start = self.at;
            let token = |kind, length| Token {
                kind,
                span: start..start + length,
            };
            match rest.chars().next() {
                None => return token(Kind::Eof, 0),
                Some('#') => self.at += rest.find('\n').unwrap_or(rest.len()),
                Some('\n') if !self.after_comma => return token(Kind::Stop, 1),
                Some(space) if space.is_whitespace() => self.at += space.len_utf8(),
                Some(',') => return token(Kind::Comma, 1),
                Some(';') => return token(Kind::Stop, 1),
                Some(_) => {
                    let ends = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '#');
                    return token(Kind::Word, rest.find(ends).unwrap_or(rest.len()));
                }
            }
        }
    }
}
