//! The clauses that are terms: `limit`, `no` and `label`.

use std::time::Duration;

use super::ParseError;
use super::host::Piece;
use super::parser::Parser;
use crate::terms::{SIZES, TIMES, Terms, TermsError};

impl Parser<'_> {
    /// The clause of terms that begins with the next word: `limit`, `no` or `label`.
    pub(super) fn terms(&mut self, terms: &mut Terms) -> Result<(), ParseError> {
        if self.takes_word("limit") {
            self.limit(terms)?;
            while self.takes_comma() {
                self.limit(terms)?;
            }
            return Ok(());
        }
        if self.takes_word("no") {
            let what = self.word("derive or hand-over")?;
            let flag = match what.text {
                "derive" => &mut terms.no_derive,
                "hand-over" => &mut terms.no_hand_over,
                _ => return Err(what.error("derive or hand-over")),
            };
            *flag = true;
            return Ok(());
        }
        self.bump();
        let label = self.word("a label")?;
        once(&mut terms.label, label.text.to_owned(), label)?;
        checked(terms, label)
    }

    fn limit(&mut self, terms: &mut Terms) -> Result<(), ParseError> {
        const EXPECTED: &str = "sockets, connections, out, in or lease";
        let what = self.word(EXPECTED)?;
        match what.text {
            "sockets" | "connections" => {
                let value = self.word("a number")?;
                let count = number(value)?;
                let place = match what.text {
                    "sockets" => &mut terms.sockets,
                    _ => &mut terms.connections,
                };
                once(place, count, what)
            }
            "out" | "in" => {
                let value = self.word("bytes, such as `10MiB`, or bytes per second, such as `64KiB/s`")?;
                let (size, is_rate) = match value.text.strip_suffix("/s") {
                    Some(size) => (value.part(0..size.len()), true),
                    None => (value, false),
                };
                let bytes = size_of(size)?;
                let place = match (what.text, is_rate) {
                    ("out", false) => &mut terms.bytes_out,
                    ("out", true) => &mut terms.rate_out,
                    (_, false) => &mut terms.bytes_in,
                    (_, true) => &mut terms.rate_in,
                };
                once(place, bytes, what)?;
                checked(terms, value)
            }
            "lease" => {
                let value = self.word("a time, such as `30s`")?;
                once(&mut terms.lease, time_of(value)?, what)?;
                checked(terms, value)
            }
            _ => Err(what.error(EXPECTED)),
        }
    }
}

/// Sets what was not set before.
fn once<T>(place: &mut Option<T>, value: T, what: Piece<'_>) -> Result<(), ParseError> {
    if place.replace(value).is_some() {
        return Err(what.error("each limit and the label once"));
    }
    Ok(())
}

fn checked(terms: &Terms, value: Piece<'_>) -> Result<(), ParseError> {
    terms
        .check()
        .map_err(|error: TermsError| value.error(error.to_string()))
}

/// A decimal number without leading zeros.
fn number(piece: Piece<'_>) -> Result<u64, ParseError> {
    let text = piece.text;
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_short = text.len() == 1 || !text.starts_with('0');
    let number = (is_number && is_short).then(|| text.parse().ok()).flatten();
    number.ok_or_else(|| piece.error(format!("a number from 0 to {}, without leading zeros", u64::MAX)))
}

/// A number and the unit behind it, multiplied.
fn with_unit(
    piece: Piece<'_>,
    units: &[(&str, u64)],
    bare: Option<u64>,
    expected: &str,
) -> Result<u64, ParseError> {
    let digits = piece
        .text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(piece.text.len());
    let unit = &piece.text[digits..];
    let size = match unit {
        "" => bare,
        unit => units
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, size)| *size),
    };
    let size = size.filter(|_| digits > 0).ok_or_else(|| piece.error(expected))?;
    number(piece.part(0..digits))?
        .checked_mul(size)
        .ok_or_else(|| piece.error(format!("at most {} {}", u64::MAX, units[0].0)))
}

fn size_of(piece: Piece<'_>) -> Result<u64, ParseError> {
    const EXPECTED: &str = "a number of bytes, with B, kB, MB, GB, TB, KiB, MiB, GiB or TiB behind it";
    with_unit(piece, &SIZES, Some(1), EXPECTED)
}

fn time_of(piece: Piece<'_>) -> Result<Duration, ParseError> {
    const EXPECTED: &str = "a number with ms, s, m, h or d behind it";
    with_unit(piece, &TIMES, None, EXPECTED).map(Duration::from_millis)
}
