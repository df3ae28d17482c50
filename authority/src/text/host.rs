//! Hosts and ports: what is inside a word.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ParseError;
use crate::address::{IpRange, mask};
use crate::class::Class;
use crate::name::DnsName;
use crate::rules::Host;

/// A piece of a text: what is read, and where it begins.
#[derive(Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) whole: &'a str,
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Piece<'a> {
    /// A part of this piece.
    pub(super) fn part(&self, range: std::ops::Range<usize>) -> Piece<'a> {
        Piece {
            whole: self.whole,
            text: &self.text[range.clone()],
            at: self.at + range.start,
        }
    }

    pub(super) fn error(&self, expected: impl Into<String>) -> ParseError {
        ParseError::at(self.whole, self.at..self.at + self.text.len(), expected)
    }
}

/// The host and, behind the colon, the ports of a word.
pub(super) fn split_end<'a>(word: Piece<'a>) -> Result<(Piece<'a>, Option<Piece<'a>>), ParseError> {
    let host_end = if word.text.starts_with('[') {
        let Some(bracket) = word.text.find(']') else {
            return Err(word.error("`]` behind the IPv6 address"));
        };
        bracket + 1
    } else {
        if word.text.matches(':').count() > 1 {
            return Err(word.error("an IPv6 address in brackets, such as `[::1]:443`"));
        }
        word.text.find(':').unwrap_or(word.text.len())
    };
    let host = word.part(0..host_end);
    match word.text[host_end..].chars().next() {
        None => Ok((host, None)),
        Some(':') => Ok((host, Some(word.part(host_end + 1..word.text.len())))),
        Some(_) => Err(word
            .part(host_end..word.text.len())
            .error("`:` and the ports behind `]`")),
    }
}

/// A host.
pub(super) fn host(piece: Piece<'_>) -> Result<Host, ParseError> {
    let text = piece.text;
    if text == "*" {
        return Ok(Host::Any);
    }
    if text == "any-name" {
        return Ok(Host::AnyName);
    }
    if let Some(class) = Class::from_word(text) {
        return Ok(Host::Class(class));
    }
    if text.starts_with('[') {
        return v6(piece);
    }
    if text.contains('%') {
        return Err(piece.error("an address without a zone id"));
    }
    if text.contains('/')
        || text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'))
    {
        return range(piece, v4_address, 32).map(Host::Range);
    }
    name(piece)
}

fn name(piece: Piece<'_>) -> Result<Host, ParseError> {
    let text = piece.text;
    if let Some(under) = text.strip_prefix("*.") {
        return match DnsName::new(under) {
            Ok(name) => Ok(Host::Under(name)),
            Err(error) => Err(piece.error(format!("`*.` and a DNS name ({error})"))),
        };
    }
    if text.starts_with('*') {
        return Err(piece.error("`*`, or `*.` and a DNS name"));
    }
    match DnsName::new(text) {
        Ok(name) if name.is_single_label() && !text.ends_with('.') => {
            let classes: Vec<&str> = Class::ALL.iter().map(|class| class.word()).collect();
            Err(piece.error(format!(
                "`*`, `any-name`, an address, a class ({}) or a DNS name; a name of one label ends in a dot: `{name}.`",
                classes.join(", ")
            )))
        }
        Ok(name) => Ok(Host::Name(name)),
        Err(error) => Err(piece.error(format!("an address, a class or a DNS name ({error})"))),
    }
}

/// One DNS name with or without the dot that rules ask of a single label.
pub(super) fn plain_name(piece: Piece<'_>) -> Result<DnsName, ParseError> {
    DnsName::new(piece.text).map_err(|error| piece.error(format!("an address or a DNS name ({error})")))
}

fn v6(piece: Piece<'_>) -> Result<Host, ParseError> {
    // The caller cut the piece behind the bracket, if there is one.
    if !piece.text.ends_with(']') || piece.text.len() < 2 {
        return Err(piece.error("`]` behind the IPv6 address"));
    }
    range(piece.part(1..piece.text.len() - 1), v6_address, 128).map(Host::Range)
}

/// An address, a prefix or a range.
fn range(
    piece: Piece<'_>,
    address: fn(Piece<'_>) -> Result<IpAddr, ParseError>,
    bits: u8,
) -> Result<IpRange, ParseError> {
    let text = piece.text;
    if let Some(slash) = text.find('/') {
        let first = address(piece.part(0..slash))?;
        let length = piece.part(slash + 1..text.len());
        let expected = || format!("a prefix length from 0 to {bits}, such as `/{}`", bits / 2);
        let number: u8 = match decimal(length.text) {
            Some(number) if number <= u32::from(bits) => number as u8,
            _ => return Err(if length.text.is_empty() { piece } else { length }.error(expected())),
        };
        return IpRange::prefix(first, number).ok_or_else(|| {
            piece.error(format!(
                "`{}/{number}`, the prefix without host bits",
                mask(first, number)
            ))
        });
    }
    if let Some(dash) = text.find('-') {
        let first = address(piece.part(0..dash))?;
        if dash + 1 == text.len() {
            return Err(piece.error("both ends of the range, such as `10.0.0.1-10.0.0.9`"));
        }
        let last = address(piece.part(dash + 1..text.len()))?;
        return IpRange::new(first, last)
            .ok_or_else(|| piece.error(format!("the lower address first: `{last}-{first}`")));
    }
    address(piece).map(IpRange::single)
}

pub(super) fn v4_address(piece: Piece<'_>) -> Result<IpAddr, ParseError> {
    piece.text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| {
        piece.error("an IPv4 address of four decimal parts from 0 to 255, without leading zeros")
    })
}

pub(super) fn v6_address(piece: Piece<'_>) -> Result<IpAddr, ParseError> {
    if piece.text.contains('%') {
        return Err(piece.error("an address without a zone id"));
    }
    piece
        .text
        .parse::<Ipv6Addr>()
        .map(IpAddr::V6)
        .map_err(|_| piece.error("an IPv6 address"))
}

/// `N` or `A-B`.
pub(super) fn port_range(piece: Piece<'_>) -> Result<(u16, u16), ParseError> {
    let text = piece.text;
    let Some(dash) = text.find('-') else {
        let port = port(piece)?;
        return Ok((port, port));
    };
    if dash == 0 || dash + 1 == text.len() {
        return Err(piece.error("both ends of the range of ports, such as `1-65535`"));
    }
    let (first, last) = (
        port(piece.part(0..dash))?,
        port(piece.part(dash + 1..text.len()))?,
    );
    if first > last {
        return Err(piece.error(format!("the lower port first: `{last}-{first}`")));
    }
    Ok((first, last))
}

pub(super) fn port(piece: Piece<'_>) -> Result<u16, ParseError> {
    let text = piece.text;
    if let Some(port) = decimal(text).and_then(|number| u16::try_from(number).ok()) {
        return Ok(port);
    }
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    Err(piece.error(match text.trim_start_matches('0') {
        short if digits && text.starts_with('0') && short.len() < 6 => {
            format!(
                "a port without leading zeros: `{}`",
                if short.is_empty() { "0" } else { short }
            )
        }
        _ => "a port from 0 to 65535".to_owned(),
    }))
}

/// A number as it is written by a machine: digits, no sign, no leading zeros.
fn decimal(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let short = text.len() <= 5 && (text.len() == 1 || !text.starts_with('0'));
    (plain && short).then(|| text.parse().ok()).flatten()
}
