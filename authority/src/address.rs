//! Canonical addresses, and the IPv4 addresses hidden inside IPv6 addresses.
//!
//! Every address that this crate compares, stores or prints went through [`canonical`] once. What reaches
//! an IPv4 host through IPv6 is found by [`embedded`] and judged a second time by
//! [`Authority::permits`](crate::Authority::permits).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

/// The first address of ::ffff:0:0/96, whose addresses all have an IPv4 spelling.
pub(crate) const MAPPED_FIRST: u128 = 0xffff_0000_0000;
/// The first address behind that block.
pub(crate) const MAPPED_END: u128 = 0x1_0000_0000_0000;

/// The one spelling of an address: IPv4-mapped IPv6 (`::ffff:a.b.c.d`) becomes IPv4, everything else stays.
///
/// ```
/// use refcap_authority::canonical;
/// assert_eq!(canonical("::ffff:7f00:1".parse()?), "127.0.0.1".parse::<std::net::IpAddr>()?);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// [`canonical`] for a socket address. Zone ids and flow labels are dropped: no rule can name them.
pub fn canonical_socket(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(canonical(address.ip()), address.port())
}

/// The IPv4 addresses that a packet to this IPv6 address may really go to.
///
/// | form | block | where the IPv4 address is |
/// |---|---|---|
/// | IPv4-compatible (RFC 4291) | `::/96` but `::` and `::1` | low 32 bits |
/// | IPv4-translated, SIIT (RFC 2765) | `::ffff:0:0:0/96` | low 32 bits |
/// | NAT64 (RFC 6052) | `64:ff9b::/96` | low 32 bits |
/// | local-use NAT64 (RFC 8215) | `64:ff9b:1::/48` | at each of the places RFC 6052 gives for /48, /56, /64 and /96 |
/// | 6to4 (RFC 3056) | `2002::/16` | bits 16 to 47 |
/// | Teredo (RFC 4380) | `2001::/32` | the server in bits 32 to 63, the client in the low 32 bits, inverted |
/// | ISATAP (RFC 5214) | interface id `0000:5efe` or `0200:5efe` | low 32 bits |
///
/// An address of the local-use block does not say which prefix length its translator uses, so all four
/// readings count. IPv4 addresses, mapped ones among them, embed nothing: they *are* what they reach.
pub fn embedded(address: IpAddr) -> Embedded {
    let mut found = Embedded::default();
    let IpAddr::V6(address) = canonical(address) else {
        return found;
    };
    let bytes = address.octets();
    let low = [bytes[12], bytes[13], bytes[14], bytes[15]];
    match address.segments() {
        [0, 0, 0, 0, 0, 0, _, _] if u128::from(address) > 1 => found.push(low),
        [0, 0, 0, 0, 0xffff, 0, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => found.push(low),
        [0x64, 0xff9b, 1, ..] => {
            found.push([bytes[6], bytes[7], bytes[9], bytes[10]]);
            found.push([bytes[7], bytes[9], bytes[10], bytes[11]]);
            found.push([bytes[9], bytes[10], bytes[11], bytes[12]]);
            found.push(low);
        }
        [0x2002, ..] => found.push([bytes[2], bytes[3], bytes[4], bytes[5]]),
        [0x2001, 0, ..] => {
            found.push([bytes[4], bytes[5], bytes[6], bytes[7]]);
            found.push(low.map(|byte| !byte));
        }
        _ => {}
    }
    if matches!(address.segments(), [_, _, _, _, 0 | 0x200, 0x5efe, _, _]) {
        found.push(low);
    }
    found
}

/// The iterator over the addresses that [`embedded`] found, without repetitions.
#[derive(Debug, Clone, Default)]
pub struct Embedded {
    // Four readings of local-use NAT64 and one of ISATAP are the most that one address can have.
    addresses: [Option<Ipv4Addr>; 5],
    next: usize,
}

impl Embedded {
    fn push(&mut self, bytes: [u8; 4]) {
        let address = Some(Ipv4Addr::from(bytes));
        for place in &mut self.addresses {
            if *place == address {
                return;
            }
            if place.is_none() {
                *place = address;
                return;
            }
        }
    }
}

impl Iterator for Embedded {
    type Item = Ipv4Addr;

    fn next(&mut self) -> Option<Ipv4Addr> {
        let address = self.addresses.get(self.next).copied().flatten();
        self.next += 1;
        address
    }
}

/// A range of addresses of one family, both ends included. IPv4-mapped ends become IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IpRange {
    /// IPv4, from the first to the last.
    V4(Ipv4Addr, Ipv4Addr),
    /// IPv6, from the first to the last. The mapped block inside it, if any, is not part of the range.
    V6(Ipv6Addr, Ipv6Addr),
}

impl IpRange {
    /// From `first` to `last`; `None` when they are of two families or in the wrong order.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<IpRange> {
        if first.is_ipv6() && last.is_ipv6() && first > last {
            return None;
        }
        match (canonical(first), canonical(last)) {
            (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => Some(IpRange::V4(first, last)),
            (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => Some(IpRange::V6(first, last)),
            // One end of an IPv6 range lies in the mapped block: the range goes up to, or from, its edge.
            (IpAddr::V4(_), IpAddr::V6(last)) if first.is_ipv6() => {
                Some(IpRange::V6(Ipv6Addr::from(MAPPED_END), last))
            }
            (IpAddr::V6(first), IpAddr::V4(_)) if last.is_ipv6() => {
                Some(IpRange::V6(first, Ipv6Addr::from(MAPPED_FIRST - 1)))
            }
            _ => None,
        }
    }

    /// One address.
    pub fn single(address: IpAddr) -> IpRange {
        match canonical(address) {
            IpAddr::V4(address) => IpRange::V4(address, address),
            IpAddr::V6(address) => IpRange::V6(address, address),
        }
    }

    /// The addresses whose first `length` bits are those of `address`; `None` when `length` is more than
    /// the family has or when `address` has bits set behind them.
    pub fn prefix(address: IpAddr, length: u8) -> Option<IpRange> {
        let (first, last): (IpAddr, IpAddr) = match address {
            IpAddr::V4(address) if length <= 32 => {
                let host = u32::MAX.checked_shr(length.into()).unwrap_or(0);
                (address.into(), Ipv4Addr::from(u32::from(address) | host).into())
            }
            IpAddr::V6(address) if length <= 128 => {
                let host = u128::MAX.checked_shr(length.into()).unwrap_or(0);
                (address.into(), Ipv6Addr::from(u128::from(address) | host).into())
            }
            _ => return None,
        };
        let clean = mask(address, length) == address;
        clean.then(|| IpRange::new(first, last)).flatten()
    }

    /// The first address.
    pub fn first(&self) -> IpAddr {
        match *self {
            IpRange::V4(first, _) => first.into(),
            IpRange::V6(first, _) => first.into(),
        }
    }

    /// The last address.
    pub fn last(&self) -> IpAddr {
        match *self {
            IpRange::V4(_, last) => last.into(),
            IpRange::V6(_, last) => last.into(),
        }
    }

    /// Whether the address, once canonical, lies in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self, canonical(address)) {
            (IpRange::V4(first, last), IpAddr::V4(address)) => (first..=last).contains(&&address),
            (IpRange::V6(first, last), IpAddr::V6(address)) => (first..=last).contains(&&address),
            _ => false,
        }
    }

    /// The prefix length, when the range is exactly one prefix.
    pub fn prefix_length(&self) -> Option<u8> {
        let (first, last, bits) = match *self {
            IpRange::V4(first, last) => (u128::from(u32::from(first)), u128::from(u32::from(last)), 32),
            IpRange::V6(first, last) => (u128::from(first), u128::from(last), 128),
        };
        let host = first ^ last;
        let is_prefix = host & host.wrapping_add(1) == 0 && first & host == 0;
        // Both fit: there are at most 128 bits.
        is_prefix.then(|| bits - (128 - host.leading_zeros() as u8))
    }
}

/// The addresses of a network. Host bits that are set in it are not looked at: `10.1.2.3/8` is the network
/// `10.0.0.0/8`, as it is for that crate.
impl From<IpNet> for IpRange {
    fn from(network: IpNet) -> IpRange {
        let network = network.trunc();
        // The ends of a network are of one family and in order.
        IpRange::new(network.network(), network.broadcast())
            .unwrap_or_else(|| IpRange::single(network.addr()))
    }
}

/// The address with every bit behind the first `length` cleared.
pub(crate) fn mask(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let host = u32::MAX.checked_shr(length.into()).unwrap_or(0);
            Ipv4Addr::from(u32::from(address) & !host).into()
        }
        IpAddr::V6(address) => {
            let host = u128::MAX.checked_shr(length.into()).unwrap_or(0);
            Ipv6Addr::from(u128::from(address) & !host).into()
        }
    }
}

impl std::fmt::Display for IpRange {
    /// As in rules: an address, a prefix or a range; IPv6 in brackets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (open, close) = match self {
            IpRange::V4(..) => ("", ""),
            IpRange::V6(..) => ("[", "]"),
        };
        let (first, last) = (self.first(), self.last());
        match self.prefix_length() {
            _ if first == last => write!(f, "{open}{first}{close}"),
            Some(length) => write!(f, "{open}{first}/{length}{close}"),
            None => write!(f, "{open}{first}-{last}{close}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn inside(text: &str) -> Vec<String> {
        embedded(ip(text)).map(|address| address.to_string()).collect()
    }

    #[test]
    fn mapped_addresses_are_ipv4_in_every_spelling() {
        for text in [
            "::ffff:127.0.0.1",
            "::ffff:7f00:1",
            "0:0:0:0:0:ffff:7f00:0001",
            "0000:0000:0000:0000:0000:FFFF:127.0.0.1",
        ] {
            assert_eq!(canonical(ip(text)), ip("127.0.0.1"), "{text}");
            assert_eq!(inside(text), [""; 0]);
        }
        for text in ["::127.0.0.1", "::fffe:127.0.0.1", "::1:ffff:127.0.0.1"] {
            assert_eq!(canonical(ip(text)), ip(text));
        }
    }

    #[test]
    fn every_embedding_is_seen() {
        for (address, found) in [
            ("10.0.0.1", &[][..]),
            ("::", &[]),
            ("::1", &[]),
            ("::2", &["0.0.0.2"]),
            ("::127.0.0.1", &["127.0.0.1"]),
            ("::255.255.255.255", &["255.255.255.255"]),
            ("::ffff:0:127.0.0.1", &["127.0.0.1"]),
            ("64:ff9b::7f00:1", &["127.0.0.1"]),
            ("64:ff9b:0:0:0:1:7f00:1", &[]),
            (
                "64:ff9b:1:7f00:0:100::",
                &["127.0.0.1", "0.0.1.0", "0.1.0.0", "0.0.0.0"],
            ),
            (
                "64:ff9b:1:7f:0:1::",
                &["0.127.0.0", "127.0.0.1", "0.0.1.0", "0.0.0.0"],
            ),
            (
                "64:ff9b:1:0:7f:0:100::",
                &["0.0.127.0", "0.127.0.0", "127.0.0.1", "1.0.0.0"],
            ),
            ("64:ff9b:1::7f00:1", &["0.0.0.0", "0.0.0.127", "127.0.0.1"]),
            ("64:ff9b:2::7f00:1", &[]),
            ("2002:7f00:1::", &["127.0.0.1"]),
            ("2003:7f00:1::", &[]),
            ("2001:0:7f00:1::f5ff:fffe", &["127.0.0.1", "10.0.0.1"]),
            ("2001:1:7f00:1::f5ff:fffe", &[]),
            ("fe80::5efe:10.0.0.1", &["10.0.0.1"]),
            ("2001:db8::200:5efe:10.0.0.1", &["10.0.0.1"]),
            ("2001:db8::100:5efe:10.0.0.1", &[]),
            ("2002:7f00:1::5efe:10.0.0.1", &["127.0.0.1", "10.0.0.1"]),
        ] {
            assert_eq!(inside(address), found, "{address}");
        }
    }

    #[test]
    fn prefixes_and_ranges() {
        for (address, length, text) in [
            ("0.0.0.0", 0, "0.0.0.0/0"),
            ("10.0.0.0", 8, "10.0.0.0/8"),
            ("255.255.255.255", 32, "255.255.255.255"),
            ("::", 0, "[::/0]"),
            ("fe80::", 10, "[fe80::/10]"),
            ("::1", 128, "[::1]"),
            ("::ffff:10.0.0.0", 104, "10.0.0.0/8"),
            ("::ffff:0:0", 96, "0.0.0.0/0"),
        ] {
            assert_eq!(IpRange::prefix(ip(address), length).unwrap().to_string(), text);
        }
        assert_eq!(IpRange::prefix(ip("10.0.0.1"), 8), None);
        assert_eq!(IpRange::prefix(ip("10.0.0.0"), 33), None);
        assert_eq!(IpRange::prefix(ip("::"), 129), None);
        assert_eq!(IpRange::new(ip("10.0.0.2"), ip("10.0.0.1")), None);
        assert_eq!(IpRange::new(ip("10.0.0.2"), ip("::1")), None);
        assert_eq!(IpRange::new(ip("::"), ip("10.0.0.1")), None);
        let across = IpRange::new(ip("::2"), ip("::ffff:1.2.3.4")).unwrap();
        assert_eq!(across.to_string(), "[::2-::fffe:ffff:ffff]");
        let across = IpRange::new(ip("::ffff:1.2.3.4"), ip("::2:0:0:0")).unwrap();
        assert_eq!(across.to_string(), "[::1:0:0:0-::2:0:0:0]");
        assert!(across.contains(ip("::1:0:0:5")) && !across.contains(ip("1.2.3.5")));
    }

    #[test]
    fn networks_are_ranges() {
        for (network, first, last) in [
            ("10.1.2.3/8", "10.0.0.0", "10.255.255.255"),
            ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
            ("192.0.2.1/32", "192.0.2.1", "192.0.2.1"),
            (
                "2001:db8::1/32",
                "2001:db8::",
                "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            ),
            ("::ffff:10.0.0.0/104", "10.0.0.0", "10.255.255.255"),
        ] {
            let range = IpRange::from(network.parse::<IpNet>().unwrap());
            assert_eq!(
                (range.first(), range.last()),
                (first.parse().unwrap(), last.parse().unwrap())
            );
        }
    }
}
