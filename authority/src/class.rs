//! The named classes of addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::{IpRange, canonical};

/// A class of addresses that rules can name. An address may be in several of them.
///
/// The classes follow the IANA registries of special-purpose addresses ([IPv4], [IPv6]); where they say
/// more than a registry does, the class's own documentation says so.
///
/// [IPv4]: https://www.iana.org/assignments/iana-ipv4-special-registry/
/// [IPv6]: https://www.iana.org/assignments/iana-ipv6-special-registry/
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// `loopback`: 127.0.0.0/8 and ::1.
    Loopback,
    /// `private`: 10.0.0.0/8, 172.16.0.0/12 and 192.168.0.0/16 (RFC 1918), 100.64.0.0/10 (shared by
    /// carriers, RFC 6598), fc00::/7 (unique local, RFC 4193) and fec0::/10 (site-local, deprecated by
    /// RFC 3879 and still routed by some).
    Private,
    /// `link-local`: 169.254.0.0/16 and fe80::/10.
    LinkLocal,
    /// `metadata`: the addresses at which clouds tell a machine its secrets.
    ///
    /// 169.254.169.254 and fd00:ec2::254 (Amazon EC2, and the IPv4 one nearly everywhere),
    /// 169.254.170.2 (Amazon ECS tasks), 169.254.170.23 and fd00:ec2::23 (Amazon EKS pod identity),
    /// fd20:ce::254 (Google Compute Engine), fe80::a9fe:a9fe (OpenStack), fd00:c1::a9fe:a9fe and
    /// 192.0.0.192 (Oracle), 169.254.42.42 and fd00:42::42 (Scaleway),
    /// 100.100.100.200 (Alibaba ECS), 168.63.129.16 (Azure's host agent; a public address by its number,
    /// which Microsoft documents as "What is IP address 168.63.129.16?").
    Metadata,
    /// `multicast`: 224.0.0.0/4 and ff00::/8.
    Multicast,
    /// `broadcast`: 255.255.255.255. The broadcast address of a subnet cannot be told from its number.
    Broadcast,
    /// `unspecified`: 0.0.0.0/8 and ::. Many systems connect to the loopback interface when asked for them.
    Unspecified,
    /// `documentation`: 192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24, 2001:db8::/32 and 3fff::/20.
    Documentation,
    /// `public`: what is in none of the other classes and may be reached over the open Internet.
    ///
    /// Of IPv4 that leaves out 192.0.0.0/24 (protocol assignments), 192.88.99.0/24 (6to4 relays,
    /// deprecated by RFC 7526), 198.18.0.0/15 (benchmarks) and 240.0.0.0/4 (reserved). Of IPv6 it is
    /// 2000::/3, the only block that global addresses are given out of, without 2001::/23 (protocol
    /// assignments, Teredo among them) and 2002::/16 (6to4); and 64:ff9b::/96 (NAT64), which the registry
    /// calls globally reachable and which is judged by the IPv4 address inside it too.
    Public,
}

impl Class {
    /// Every class.
    pub const ALL: [Class; 9] = [
        Class::Loopback,
        Class::Private,
        Class::LinkLocal,
        Class::Metadata,
        Class::Multicast,
        Class::Broadcast,
        Class::Unspecified,
        Class::Documentation,
        Class::Public,
    ];

    /// Its word in rules.
    pub const fn word(self) -> &'static str {
        match self {
            Class::Loopback => "loopback",
            Class::Private => "private",
            Class::LinkLocal => "link-local",
            Class::Metadata => "metadata",
            Class::Multicast => "multicast",
            Class::Broadcast => "broadcast",
            Class::Unspecified => "unspecified",
            Class::Documentation => "documentation",
            Class::Public => "public",
        }
    }

    /// The class of that word.
    pub fn from_word(word: &str) -> Option<Class> {
        Class::ALL.into_iter().find(|class| class.word() == word)
    }

    /// Whether the address, once canonical, is in the class.
    ///
    /// ```
    /// use refcap_authority::Class;
    /// assert!(Class::Loopback.contains("::ffff:127.0.0.1".parse()?));
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    pub fn contains(self, address: IpAddr) -> bool {
        self.ranges().iter().any(|range| range.contains(address))
    }

    /// The ranges that it consists of.
    pub fn ranges(self) -> &'static [IpRange] {
        match self {
            Class::Loopback => LOOPBACK,
            Class::Private => PRIVATE,
            Class::LinkLocal => LINK_LOCAL,
            Class::Metadata => METADATA,
            Class::Multicast => MULTICAST,
            Class::Broadcast => BROADCAST,
            Class::Unspecified => UNSPECIFIED,
            Class::Documentation => DOCUMENTATION,
            Class::Public => PUBLIC,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The classes that an address is in. None at all is possible: 240.0.0.1 is only reserved.
pub fn classes_of(address: IpAddr) -> impl Iterator<Item = Class> {
    let address = canonical(address);
    Class::ALL
        .into_iter()
        .filter(move |class| class.contains(address))
}

/// What `*` means for a remote end: all but unspecified, multicast and broadcast addresses.
pub(crate) const ORDINARY: &[IpRange] = &[
    v4([1, 0, 0, 0], [223, 255, 255, 255]),
    v4([240, 0, 0, 0], [255, 255, 255, 254]),
    v6([0, 0, 0, 0, 0, 0, 0, 1], [0xfeff, F, F, F, F, F, F, F]),
];

/// Every address.
pub(crate) const EVERY: &[IpRange] = &[v4([0; 4], [255; 4]), v6([0; 8], [F; 8])];

const F: u16 = 0xffff;

const LOOPBACK: &[IpRange] = &[
    v4([127, 0, 0, 0], [127, 255, 255, 255]),
    v6_one([0, 0, 0, 0, 0, 0, 0, 1]),
];

const PRIVATE: &[IpRange] = &[
    v4([10, 0, 0, 0], [10, 255, 255, 255]),
    v4([100, 64, 0, 0], [100, 127, 255, 255]),
    v4([172, 16, 0, 0], [172, 31, 255, 255]),
    v4([192, 168, 0, 0], [192, 168, 255, 255]),
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], [0xfdff, F, F, F, F, F, F, F]),
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], [0xfeff, F, F, F, F, F, F, F]),
];

const LINK_LOCAL: &[IpRange] = &[
    v4([169, 254, 0, 0], [169, 254, 255, 255]),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], [0xfebf, F, F, F, F, F, F, F]),
];

const METADATA: &[IpRange] = &[
    v4_one([100, 100, 100, 200]),
    v4_one([168, 63, 129, 16]),
    v4_one([192, 0, 0, 192]),
    v4_one([169, 254, 42, 42]),
    v4_one([169, 254, 169, 254]),
    v4_one([169, 254, 170, 2]),
    v4_one([169, 254, 170, 23]),
    v6_one([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42]),
    v6_one([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23]),
    v6_one([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]),
    v6_one([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe]),
    v6_one([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]),
    v6_one([0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe]),
];

const MULTICAST: &[IpRange] = &[
    v4([224, 0, 0, 0], [239, 255, 255, 255]),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], [F; 8]),
];

const BROADCAST: &[IpRange] = &[v4_one([255; 4])];

const UNSPECIFIED: &[IpRange] = &[v4([0; 4], [0, 255, 255, 255]), v6_one([0; 8])];

const DOCUMENTATION: &[IpRange] = &[
    v4([192, 0, 2, 0], [192, 0, 2, 255]),
    v4([198, 51, 100, 0], [198, 51, 100, 255]),
    v4([203, 0, 113, 0], [203, 0, 113, 255]),
    v6(
        [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0],
        [0x2001, 0xdb8, F, F, F, F, F, F],
    ),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], [0x3fff, 0xfff, F, F, F, F, F, F]),
];

const PUBLIC: &[IpRange] = &[
    v4([1, 0, 0, 0], [9, 255, 255, 255]),
    v4([11, 0, 0, 0], [100, 63, 255, 255]),
    v4([100, 128, 0, 0], [126, 255, 255, 255]),
    v4([128, 0, 0, 0], [168, 63, 129, 15]),
    v4([168, 63, 129, 17], [169, 253, 255, 255]),
    v4([169, 255, 0, 0], [172, 15, 255, 255]),
    v4([172, 32, 0, 0], [191, 255, 255, 255]),
    v4([192, 0, 1, 0], [192, 0, 1, 255]),
    v4([192, 0, 3, 0], [192, 88, 98, 255]),
    v4([192, 88, 100, 0], [192, 167, 255, 255]),
    v4([192, 169, 0, 0], [198, 17, 255, 255]),
    v4([198, 20, 0, 0], [198, 51, 99, 255]),
    v4([198, 51, 101, 0], [203, 0, 112, 255]),
    v4([203, 0, 114, 0], [223, 255, 255, 255]),
    v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], [0x64, 0xff9b, 0, 0, 0, 0, F, F]),
    v6([0x2000, 0, 0, 0, 0, 0, 0, 0], [0x2000, F, F, F, F, F, F, F]),
    v6(
        [0x2001, 0x200, 0, 0, 0, 0, 0, 0],
        [0x2001, 0xdb7, F, F, F, F, F, F],
    ),
    v6([0x2001, 0xdb9, 0, 0, 0, 0, 0, 0], [0x2001, F, F, F, F, F, F, F]),
    v6([0x2003, 0, 0, 0, 0, 0, 0, 0], [0x3ffe, F, F, F, F, F, F, F]),
    v6([0x3fff, 0x1000, 0, 0, 0, 0, 0, 0], [0x3fff, F, F, F, F, F, F, F]),
];

const fn v4(first: [u8; 4], last: [u8; 4]) -> IpRange {
    IpRange::V4(Ipv4Addr::from_octets(first), Ipv4Addr::from_octets(last))
}

const fn v4_one(address: [u8; 4]) -> IpRange {
    v4(address, address)
}

const fn v6(first: [u16; 8], last: [u16; 8]) -> IpRange {
    IpRange::V6(Ipv6Addr::from_segments(first), Ipv6Addr::from_segments(last))
}

const fn v6_one(address: [u16; 8]) -> IpRange {
    v6(address, address)
}
