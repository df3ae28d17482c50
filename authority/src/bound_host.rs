//! The hosts of a simple rule, packed into a few words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::IpRange;
use crate::class::{Class, EVERY};
use crate::name::DnsName;
use crate::rules::Host;
use crate::tuple::Remote;

/// A [`Host`] that is copied and allocates nothing. Its parts are words, and no bytes of an array, so that
/// the compiler can have them in registers until they are where they stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BoundHost {
    kind: Kind,
    /// The length of the name, if it is one.
    length: u8,
    words: Words,
}

/// What [`BoundHost`] holds, and what its words are for that. Those that are not used are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Any,
    AnyName,
    /// The class's place in [`Class::ALL`].
    Class,
    /// Two addresses in one word, the first one above the last one.
    V4,
    /// Two addresses of two words, the first one first, the upper half first.
    V6,
    /// A name in its canonical spelling, [packed].
    Name,
    Under,
}

type Words = [u64; 5];

/// Longer names do not fit.
const MAX_NAME: usize = size_of::<Words>();

impl BoundHost {
    pub(crate) const ANY: BoundHost = BoundHost::new(Kind::Any, 0, [0; 5]);
    pub(crate) const ANY_NAME: BoundHost = BoundHost::new(Kind::AnyName, 0, [0; 5]);

    #[inline(always)]
    const fn new(kind: Kind, length: u8, words: Words) -> BoundHost {
        BoundHost { kind, length, words }
    }

    #[inline(always)]
    pub(crate) fn class(class: Class) -> BoundHost {
        BoundHost::new(Kind::Class, 0, [class as u64, 0, 0, 0, 0])
    }

    #[inline(always)]
    pub(crate) fn v4(first: Ipv4Addr, last: Ipv4Addr) -> BoundHost {
        let word = u64::from(first.to_bits()) << 32 | u64::from(last.to_bits());
        BoundHost::new(Kind::V4, 0, [word, 0, 0, 0, 0])
    }

    #[inline(always)]
    pub(crate) fn v6(first: Ipv6Addr, last: Ipv6Addr) -> BoundHost {
        let (first, last) = (first.to_bits(), last.to_bits());
        let halves = [
            (first >> 64) as u64,
            first as u64,
            (last >> 64) as u64,
            last as u64,
            0,
        ];
        BoundHost::new(Kind::V6, 0, halves)
    }

    /// The name of these bytes if they are few, and so plain that they are their own canonical spelling
    /// beyond doubt. `None` says nothing: [`DnsName`] knows.
    #[inline(never)]
    pub(crate) fn name(name: &[u8]) -> Option<BoundHost> {
        if name.len() > MAX_NAME || !is_plain(name) {
            return None;
        }
        Some(BoundHost::new(Kind::Name, name.len() as u8, packed(name)))
    }

    /// All names under a name, instead of that name.
    #[inline(always)]
    pub(crate) fn under(self) -> BoundHost {
        match self.kind {
            Kind::Name => BoundHost {
                kind: Kind::Under,
                ..self
            },
            _ => self,
        }
    }

    /// `None` for a name that is not short and plain.
    pub(crate) fn of(host: &Host) -> Option<BoundHost> {
        let of_name = |name: &DnsName| BoundHost::name(name.as_str().as_bytes());
        Some(match host {
            Host::Any => BoundHost::ANY,
            Host::AnyName => BoundHost::ANY_NAME,
            Host::Class(class) => BoundHost::class(*class),
            Host::Range(IpRange::V4(first, last)) => BoundHost::v4(*first, *last),
            Host::Range(IpRange::V6(first, last)) => BoundHost::v6(*first, *last),
            Host::Name(name) => of_name(name)?,
            Host::Under(name) => of_name(name)?.under(),
        })
    }

    /// The host that it came from. There is always one: what is packed was checked before.
    pub(crate) fn to_host(self) -> Option<Host> {
        let to_name = || {
            let bytes = self.words.iter().flat_map(|word| word.to_le_bytes());
            let bytes: Vec<u8> = bytes.take(usize::from(self.length)).collect();
            DnsName::new(std::str::from_utf8(&bytes).ok()?).ok()
        };
        Some(match self.kind {
            Kind::Any => Host::Any,
            Kind::AnyName => Host::AnyName,
            Kind::Class => Host::Class(self.to_class()),
            Kind::V4 | Kind::V6 => Host::Range(self.to_range()),
            Kind::Name => Host::Name(to_name()?),
            Kind::Under => Host::Under(to_name()?),
        })
    }

    fn to_class(self) -> Class {
        Class::ALL[self.words[0] as usize]
    }

    fn to_range(self) -> IpRange {
        let [a, b, c, d, _] = self.words;
        let address = |high, low| Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low));
        match self.kind {
            Kind::V6 => IpRange::V6(address(a, b), address(c, d)),
            _ => IpRange::V4(
                Ipv4Addr::from_bits((a >> 32) as u32),
                Ipv4Addr::from_bits(a as u32),
            ),
        }
    }

    /// Whether it stands for names, not for addresses.
    #[inline(always)]
    pub(crate) fn is_name(&self) -> bool {
        matches!(self.kind, Kind::AnyName | Kind::Name | Kind::Under)
    }

    /// Whether it is one address or one name.
    pub(crate) fn is_one(&self) -> bool {
        match self.kind {
            Kind::V4 | Kind::V6 => self.to_range().first() == self.to_range().last(),
            Kind::Name => true,
            Kind::Any | Kind::AnyName | Kind::Class | Kind::Under => false,
        }
    }

    /// Whether it is that remote end's host, as [`Host::matches_remote`] says it.
    pub(crate) fn is_remote(&self, remote: &Remote) -> bool {
        match remote {
            Remote::Address(address) => match self.kind {
                Kind::Any => Host::Any.matches_remote(remote),
                Kind::Class => self.to_class().contains(address.ip()),
                Kind::V4 | Kind::V6 => self.to_range().contains(address.ip()),
                Kind::AnyName | Kind::Name | Kind::Under => false,
            },
            Remote::Name(name, _) => {
                let name = name.as_str().as_bytes();
                let length = usize::from(self.length);
                match self.kind {
                    Kind::AnyName => true,
                    Kind::Name => name.len() == length && packed(name) == self.words,
                    Kind::Under => {
                        let parts = name.len().checked_sub(length).map(|at| name.split_at(at));
                        parts.is_some_and(|(rest, name)| rest.ends_with(b".") && packed(name) == self.words)
                    }
                    Kind::Any | Kind::Class | Kind::V4 | Kind::V6 => false,
                }
            }
        }
    }

    /// Whether it is that local address, as [`Host::matches_local`] says it.
    pub(crate) fn is_local(&self, address: IpAddr) -> bool {
        match self.kind {
            Kind::Any => EVERY.iter().any(|range| range.contains(address)),
            Kind::Class => self.to_class().contains(address),
            Kind::V4 | Kind::V6 => self.to_range().contains(address),
            Kind::AnyName | Kind::Name | Kind::Under => false,
        }
    }
}

/// The first [`MAX_NAME`] bytes of a name, the first one lowest in the first word.
fn packed(name: &[u8]) -> Words {
    let mut words = [0; 5];
    let (whole, rest) = name.as_chunks();
    let rest = rest
        .iter()
        .rev()
        .fold(0, |word, byte| word << 8 | u64::from(*byte));
    let all = whole.iter().map(|bytes| u64::from_le_bytes(*bytes)).chain([rest]);
    for (place, word) in words.iter_mut().zip(all) {
        *place = word;
    }
    words
}

fn is_plain(name: &[u8]) -> bool {
    // Words, each parted from the next by one dot or one hyphen: no label is empty or has a hyphen at an end,
    // and none begins with `xn--`. All together are no longer than one label may be.
    let (mut before, mut wrong) = (PARTS, 0);
    for byte in name {
        let this = BYTES[usize::from(*byte)];
        wrong |= this & (before | OTHER);
        before = this;
    }
    let last_label = name
        .iter()
        .rposition(|byte| *byte == b'.')
        .map_or(0, |dot| dot + 1);
    // A last label that begins with a letter is no number.
    let ends_in_letters = name.get(last_label).is_some_and(u8::is_ascii_lowercase);
    wrong == 0 && before == 0 && ends_in_letters
}

/// Of a byte that parts words. Those of words have neither this bit nor the other.
const PARTS: u8 = 1;
/// Of a byte that no plain name has.
const OTHER: u8 = 2;

const BYTES: [u8; 256] = {
    let mut bytes = [OTHER; 256];
    let mut byte = 0;
    while byte < bytes.len() {
        match byte as u8 {
            b'a'..=b'z' | b'0'..=b'9' | b'_' => bytes[byte] = 0,
            b'.' | b'-' => bytes[byte] = PARTS,
            _ => {}
        }
        byte += 1;
    }
    bytes
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_their_places() {
        assert!(
            Class::ALL
                .iter()
                .enumerate()
                .all(|(place, class)| *class as usize == place)
        );
    }

    #[test]
    fn what_is_plain_is_a_name_in_its_canonical_spelling() {
        // Every text of up to five of the bytes that names are judged by.
        let bytes = b"ax0.-_A\xc3";
        let mut texts: Vec<Vec<u8>> = vec![vec![]];
        let mut plain = 0;
        for _ in 0..5 {
            texts = texts
                .iter()
                .flat_map(|text| bytes.iter().map(move |byte| [text, &[*byte][..]].concat()))
                .collect();
            for text in &texts {
                let Some(short) = BoundHost::name(text) else {
                    continue;
                };
                plain += 1;
                let text = std::str::from_utf8(text).unwrap();
                assert_eq!(short.to_host(), Some(Host::Name(DnsName::new(text).unwrap())));
                assert_eq!(DnsName::new(text).unwrap().as_str(), text);
            }
        }
        assert!(plain > 1000, "{plain}");
        for (text, is_plain) in [
            ("example.com", true),
            ("r3-sn.example-a.com", true),
            ("a.1b", false),
            ("xn--a.example", false),
            ("example.com.", false),
            (&"a".repeat(MAX_NAME), true),
            (&"a".repeat(MAX_NAME + 1), false),
            ("", false),
        ] {
            assert_eq!(BoundHost::name(text.as_bytes()).is_some(), is_plain, "{text}");
        }
    }
}
