//! What is asked for when authority is derived.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::address::{MAPPED_END, MAPPED_FIRST};
use crate::binary::DecodeError;
use crate::bound::{Bound, BoundPorts};
use crate::bound_host::BoundHost;
use crate::class::Class;
use crate::rules::{Rule, Rules};
use crate::sets::{OperationSet, ProtocolSet};

/// Rules that somebody asks for, in the form in which [`Authority::only_request`] is cheapest.
///
/// Simple is a request of one rule with a destination and nothing else: no source, no exclusions, at most
/// four ranges of ports, and neither exceptions nor `names to` beside it. A name in it has at most 40
/// characters, no two hyphens in a row (so it is not internationalised), and a last label that begins with a
/// letter. Such a request is read without allocating anything. Every other is kept as [`Rules`]; what is
/// asked for never depends on which it is.
///
/// ```
/// use refcap_authority::{Authority, Request, Rules};
/// let parent: Authority = "connect tcp *:443; except private".parse()?;
/// let bytes = Rules::parse("connect tcp 10.0.0.0/7:*")?.encode();
/// let child = parent.only_request(&Request::decode(&bytes)?)?;
/// assert_eq!(child.to_string(), "connect tcp 11.0.0.0/8:443");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// [`Authority::only_request`]: crate::Authority::only_request
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Request(Asked);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Asked {
    Simple(Bound),
    /// Rules that are not simple.
    Rules(Rules),
}

impl Request {
    /// Reads the binary form, which is that of [`Rules::encode`]. It takes and refuses the same bytes as
    /// [`Rules::decode`], with the same errors.
    pub fn decode(bytes: &[u8]) -> Result<Request, DecodeError> {
        match simple(bytes) {
            Some(bound) => Ok(Request(Asked::Simple(bound))),
            None => Rules::decode(bytes).map(Request::from),
        }
    }

    /// The rules that are asked for.
    pub fn to_rules(&self) -> Rules {
        self.rules().into_owned()
    }

    /// Whether deriving by it, with [`only`](crate::Answers::only) or [`exactly`](crate::Answers::exactly), is sure to leave
    /// what names may stand for as it is. So it is for a simple one.
    #[inline(always)]
    pub fn leaves_answers(&self) -> bool {
        self.simple().is_some()
    }

    pub(crate) fn rules(&self) -> Cow<'_, Rules> {
        match &self.0 {
            Asked::Simple(bound) => Cow::Owned(bound.to_rules()),
            Asked::Rules(rules) => Cow::Borrowed(rules),
        }
    }

    #[inline(always)]
    pub(crate) fn simple(&self) -> Option<&Bound> {
        match &self.0 {
            Asked::Simple(bound) => Some(bound),
            Asked::Rules(_) => None,
        }
    }
}

impl From<Rules> for Request {
    fn from(rules: Rules) -> Request {
        Request(match Bound::of(&rules) {
            Some(bound) => Asked::Simple(bound),
            None => Asked::Rules(rules),
        })
    }
}

impl From<Rule> for Request {
    fn from(rule: Rule) -> Request {
        Request::from(Rules::from(rule))
    }
}

/// The simple request that these bytes are. `None` says that [`Rules::decode`] has to read them: what is not
/// simple and what is not valid are not told apart here.
#[inline(always)]
fn simple(bytes: &[u8]) -> Option<Bound> {
    // The version, one rule, and no flags on it.
    let [1, 1, operations, protocols, 0, rest @ ..] = bytes else {
        return None;
    };
    let operations = OperationSet::from_bits(*operations)?;
    let protocols = ProtocolSet::from_bits(*protocols)?;
    let (host, rest) = host(rest)?;
    let ports = ports(rest)?;
    Bound::new(operations, protocols, host, ports)
}

#[inline(always)]
fn host(bytes: &[u8]) -> Option<(BoundHost, &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    Some(match tag {
        0 => (BoundHost::ANY, rest),
        1 => (BoundHost::ANY_NAME, rest),
        2 => {
            let (class, rest) = rest.split_first()?;
            (BoundHost::class(*Class::ALL.get(usize::from(*class))?), rest)
        }
        3 => {
            let (address, rest) = v4(rest)?;
            (BoundHost::v4(address, address), rest)
        }
        4 => {
            let (first, rest) = v4(rest)?;
            let (last, rest) = v4(rest)?;
            let rises = first.to_bits() < last.to_bits();
            (rises.then(|| BoundHost::v4(first, last))?, rest)
        }
        5 => {
            let (address, rest) = v6(rest)?;
            (BoundHost::v6(address, address), rest)
        }
        6 => {
            let (first, rest) = v6(rest)?;
            let (last, rest) = v6(rest)?;
            let rises = first.to_bits() < last.to_bits();
            (rises.then(|| BoundHost::v6(first, last))?, rest)
        }
        7 => name(rest)?,
        8 => {
            let (name, rest) = name(rest)?;
            (name.under(), rest)
        }
        _ => return None,
    })
}

#[inline(always)]
fn v4(bytes: &[u8]) -> Option<(Ipv4Addr, &[u8])> {
    let (octets, rest) = bytes.split_first_chunk()?;
    Some((Ipv4Addr::from_octets(*octets), rest))
}

/// An address that is not IPv4 in disguise.
#[inline(always)]
fn v6(bytes: &[u8]) -> Option<(Ipv6Addr, &[u8])> {
    let (octets, rest) = bytes.split_first_chunk()?;
    let address = Ipv6Addr::from_octets(*octets);
    let is_mapped = (MAPPED_FIRST..MAPPED_END).contains(&address.to_bits());
    (!is_mapped).then_some((address, rest))
}

#[inline(always)]
fn name(bytes: &[u8]) -> Option<(BoundHost, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((BoundHost::name(name)?, rest))
}

/// The ports. No exceptions follow them, and nothing behind that.
#[inline(always)]
fn ports(bytes: &[u8]) -> Option<BoundPorts> {
    let [count, ranges @ .., 0] = bytes else {
        return None;
    };
    let (ranges, rest) = ranges.as_chunks();
    if usize::from(*count) != ranges.len() || !rest.is_empty() {
        return None;
    }
    BoundPorts::new(ranges.len(), |place| {
        let [a, b, c, d] = ranges[place];
        (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
    })
}
