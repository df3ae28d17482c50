//! The edges of each class: the first and last address of each range, and their neighbours outside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use refcap_authority::{Authority, Class, classes_of};

const RANGES: &[(Class, &[(&str, &str)])] = &[
    (
        Class::Loopback,
        &[("127.0.0.0", "127.255.255.255"), ("::1", "::1")],
    ),
    (
        Class::Private,
        &[
            ("10.0.0.0", "10.255.255.255"),
            ("100.64.0.0", "100.127.255.255"),
            ("172.16.0.0", "172.31.255.255"),
            ("192.168.0.0", "192.168.255.255"),
            ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ],
    ),
    (
        Class::LinkLocal,
        &[
            ("169.254.0.0", "169.254.255.255"),
            ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ],
    ),
    (
        Class::Metadata,
        &[
            ("100.100.100.200", "100.100.100.200"),
            ("168.63.129.16", "168.63.129.16"),
            ("192.0.0.192", "192.0.0.192"),
            ("169.254.42.42", "169.254.42.42"),
            ("fd00:42::42", "fd00:42::42"),
            ("169.254.169.254", "169.254.169.254"),
            ("169.254.170.2", "169.254.170.2"),
            ("169.254.170.23", "169.254.170.23"),
            ("fd00:ec2::254", "fd00:ec2::254"),
            ("fd00:ec2::23", "fd00:ec2::23"),
            ("fd00:c1::a9fe:a9fe", "fd00:c1::a9fe:a9fe"),
            ("fd20:ce::254", "fd20:ce::254"),
            ("fe80::a9fe:a9fe", "fe80::a9fe:a9fe"),
        ],
    ),
    (
        Class::Multicast,
        &[
            ("224.0.0.0", "239.255.255.255"),
            ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ],
    ),
    (Class::Broadcast, &[("255.255.255.255", "255.255.255.255")]),
    (Class::Unspecified, &[("0.0.0.0", "0.255.255.255"), ("::", "::")]),
    (
        Class::Documentation,
        &[
            ("192.0.2.0", "192.0.2.255"),
            ("198.51.100.0", "198.51.100.255"),
            ("203.0.113.0", "203.0.113.255"),
            ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ],
    ),
];

/// Blocks that are in no class: reserved, or for protocols only.
const UNCLASSED: &[(&str, &str)] = &[
    ("192.0.0.0", "192.0.0.255"),
    ("192.88.99.0", "192.88.99.255"),
    ("198.18.0.0", "198.19.255.255"),
    ("240.0.0.0", "255.255.255.254"),
    ("::2", "::fffe:ffff:ffff"),
    ("::1:0:0:0", "64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("64:ff9b::1:0:0", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("4000::", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("fe00::", "fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn before(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).checked_sub(1).map(|ip| Ipv4Addr::from(ip).into()),
        IpAddr::V6(ip) => u128::from(ip).checked_sub(1).map(|ip| Ipv6Addr::from(ip).into()),
    }
}

fn after(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).checked_add(1).map(|ip| Ipv4Addr::from(ip).into()),
        IpAddr::V6(ip) => u128::from(ip).checked_add(1).map(|ip| Ipv6Addr::from(ip).into()),
    }
}

#[test]
fn each_class_ends_where_it_should() {
    for (class, ranges) in RANGES {
        assert_eq!(class.ranges().len(), ranges.len(), "{class}");
        let inside = |ip: &IpAddr| {
            ranges
                .iter()
                .any(|(a, b)| (self::ip(a)..=self::ip(b)).contains(ip))
        };
        for (first, last) in *ranges {
            let (first, last) = (ip(first), ip(last));
            assert!(class.contains(first) && class.contains(last), "{class}");
            for outside in [before(first), after(last)].into_iter().flatten() {
                assert_eq!(class.contains(outside), inside(&outside), "{outside} in {class}");
            }
        }
    }
}

#[test]
fn public_is_what_no_other_class_or_block_has() {
    let named = RANGES.iter().flat_map(|(_, ranges)| ranges.iter());
    let edges: Vec<(IpAddr, IpAddr)> = named.chain(UNCLASSED).map(|(a, b)| (ip(a), ip(b))).collect();
    for (first, last) in &edges {
        for address in [Some(*first), Some(*last), before(*first), after(*last)]
            .into_iter()
            .flatten()
        {
            let mapped = matches!(address, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
            let elsewhere = edges
                .iter()
                .any(|(first, last)| (first..=last).contains(&&address));
            if !mapped {
                assert_eq!(Class::Public.contains(address), !elsewhere, "{address}");
            }
        }
    }
    for address in [
        "1.1.1.1",
        "8.8.8.8",
        "223.255.255.255",
        "2001:4860:4860::8888",
        "2a00::1",
        "64:ff9b::808:808",
    ] {
        assert!(classes_of(ip(address)).eq([Class::Public]), "{address}");
    }
}

#[test]
fn the_classes_and_blocks_fill_the_space() {
    // Public and everything else come to the whole, without an overlap.
    let mut text: Vec<String> = Class::ALL
        .iter()
        .map(|class| format!("connect tcp {class}:1"))
        .collect();
    for (first, last) in UNCLASSED {
        text.push(match ip(first) {
            IpAddr::V4(_) => format!("connect tcp {first}-{last}:1"),
            IpAddr::V6(_) => format!("connect tcp [{first}-{last}]:1"),
        });
    }
    let whole: Authority = "connect tcp 0.0.0.0/0:1; connect tcp [::/0]:1".parse().unwrap();
    assert_eq!(text.join("\n").parse(), Ok(whole));
    let public: Authority = "connect tcp public:1".parse().unwrap();
    let others: Authority = text
        .iter()
        .filter(|rule| !rule.contains("public"))
        .cloned()
        .collect::<Vec<_>>()
        .join(";")
        .parse()
        .unwrap();
    assert!(public.intersect(&others).unwrap().is_empty());
}

#[test]
fn an_address_may_be_in_several_classes() {
    for (address, classes) in [
        ("169.254.169.254", &[Class::LinkLocal, Class::Metadata][..]),
        ("fd00:ec2::254", &[Class::Private, Class::Metadata]),
        ("100.100.100.200", &[Class::Private, Class::Metadata]),
        ("::ffff:10.0.0.1", &[Class::Private]),
        ("240.0.0.1", &[]),
        ("255.255.255.255", &[Class::Broadcast]),
    ] {
        assert!(classes_of(ip(address)).eq(classes.iter().copied()), "{address}");
    }
}

#[test]
fn star_is_every_ordinary_address() {
    let star: Authority = "connect tcp *:1".parse().unwrap();
    let whole = "connect tcp 0.0.0.0/0:1; connect tcp [::/0]:1; except unspecified, multicast, broadcast";
    assert_eq!(star, whole.parse().unwrap());
    let all: Authority = "bind tcp *:1".parse().unwrap();
    assert_eq!(all, "bind tcp 0.0.0.0/0:1; bind tcp [::/0]:1".parse().unwrap());
}
