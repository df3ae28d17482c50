//! A model of rules that shares nothing with the crate: its rules are made of pieces whose meaning is told
//! here, once more and in the plainest way, over a universe that is small enough to be counted out.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use refcap_authority::{Authority, DnsName, Operation, Protocol, Remote, Tuple};

/// The addresses of the universe with their classes, told by hand.
pub(crate) const ADDRESSES: [(&str, &[&str]); 17] = [
    ("0.0.0.0", &["unspecified"]),
    ("8.8.8.8", &["public"]),
    ("10.0.0.1", &["private"]),
    ("10.0.0.2", &["private"]),
    ("127.0.0.1", &["loopback"]),
    ("169.254.169.254", &["link-local", "metadata"]),
    ("192.0.2.1", &["documentation"]),
    ("224.0.0.1", &["multicast"]),
    ("255.255.255.255", &["broadcast"]),
    ("::", &["unspecified"]),
    ("::1", &["loopback"]),
    ("64:ff9b::a00:1", &["public"]),
    ("2001:db8::1", &["documentation"]),
    ("2606:4700::1", &["public"]),
    ("fd00::1", &["private"]),
    ("ff02::1", &["multicast"]),
    ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", &["multicast"]),
];
const LOCALS: [&str; 5] = ["0.0.0.0", "10.0.0.1", "255.255.255.255", "::", "2001:db8::1"];
const NAMES: [&str; 5] = [
    "example.com",
    "a.example.com",
    "b.a.example.com",
    "example.org",
    "com",
];
const REMOTE_PORTS: [u16; 4] = [0, 80, 443, 65535];
const LOCAL_PORTS: [u16; 3] = [0, 443, 65535];

#[derive(Debug, Clone)]
pub(crate) enum MHost {
    Star,
    AnyName,
    Class(&'static str),
    /// The text, and the first and last address.
    Range(String, IpAddr, IpAddr),
    Name(&'static str),
    Under(&'static str),
}

/// The text, and the ranges.
#[derive(Debug, Clone)]
pub(crate) struct MPorts(Vec<(u16, u16)>);

#[derive(Debug, Clone)]
pub(crate) struct MRule {
    pub(crate) operations: Vec<Operation>,
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) main: (MHost, MPorts),
    pub(crate) from: Option<(MHost, Option<MPorts>)>,
    pub(crate) without: Vec<MHost>,
}

#[derive(Debug, Clone)]
pub(crate) enum MException {
    End(MHost, Option<MPorts>),
    Rule(MRule),
}

#[derive(Debug, Clone)]
pub(crate) struct MRules {
    pub(crate) rules: Vec<MRule>,
    pub(crate) exceptions: Vec<MException>,
}

impl MHost {
    pub(crate) fn text(&self) -> String {
        match self {
            MHost::Star => "*".into(),
            MHost::AnyName => "any-name".into(),
            MHost::Class(class) => (*class).into(),
            MHost::Range(text, ..) => text.clone(),
            MHost::Name("com") => "com.".into(),
            MHost::Name(name) => (*name).into(),
            MHost::Under(name) => format!("*.{name}"),
        }
    }

    pub(crate) fn has_address(&self, address: IpAddr, remote: bool) -> bool {
        let classes = || {
            let text = address.to_string();
            ADDRESSES.iter().find(|(other, _)| *other == text).unwrap().1
        };
        match self {
            MHost::Star => {
                let odd = ["unspecified", "multicast", "broadcast"];
                !remote || !classes().iter().any(|class| odd.contains(class))
            }
            MHost::Class(class) => classes().contains(class),
            MHost::Range(_, first, last) => {
                first.is_ipv4() == address.is_ipv4() && *first <= address && address <= *last
            }
            MHost::AnyName | MHost::Name(_) | MHost::Under(_) => false,
        }
    }

    fn has_name(&self, name: &str) -> bool {
        match self {
            MHost::AnyName => true,
            MHost::Name(own) => *own == name,
            MHost::Under(own) => name.ends_with(&format!(".{own}")),
            _ => false,
        }
    }

    fn has_remote(&self, remote: &Remote) -> bool {
        match remote {
            Remote::Address(address) => self.has_address(address.ip(), true),
            Remote::Name(name, _) => self.has_name(name.as_str()),
        }
    }
}

impl MPorts {
    fn text(&self) -> String {
        if self.0.is_empty() {
            return "*".into();
        }
        let items: Vec<String> = self
            .0
            .iter()
            .map(|(first, last)| {
                if first == last {
                    format!("{first}")
                } else {
                    format!("{first}-{last}")
                }
            })
            .collect();
        items.join(",")
    }

    fn has(&self, port: u16) -> bool {
        self.0.is_empty() || self.0.iter().any(|(first, last)| *first <= port && port <= *last)
    }
}

impl MRule {
    fn text(&self) -> String {
        let words = |items: Vec<String>| items.join(",");
        let mut text = format!(
            "{} {} {}:{}",
            words(
                self.operations
                    .iter()
                    .map(|o| format!("{o:?}").to_lowercase())
                    .collect()
            ),
            words(
                self.protocols
                    .iter()
                    .map(|p| format!("{p:?}").to_lowercase())
                    .collect()
            ),
            self.main.0.text(),
            self.main.1.text()
        );
        match &self.from {
            Some((host, Some(ports))) => text += &format!(" from {}:{}", host.text(), ports.text()),
            Some((host, None)) => text += &format!(" from {}", host.text()),
            None => {}
        }
        if !self.without.is_empty() {
            let hosts: Vec<String> = self.without.iter().map(MHost::text).collect();
            text += &format!(" without {}", hosts.join(", "));
        }
        text
    }

    fn has(&self, tuple: &Tuple) -> bool {
        let any = (MHost::Star, Some(MPorts(vec![])));
        let main = (self.main.0.clone(), Some(self.main.1.clone()));
        let from = self.from.clone().unwrap_or(any);
        let outbound = matches!(tuple.operation(), Operation::Connect | Operation::Send);
        let (remote, local) = if outbound { (main, from) } else { (from, main) };
        let remote_fits = tuple.operation() == Operation::Bind
            || remote.0.has_remote(tuple.remote())
                && remote.1.is_none_or(|ports| ports.has(tuple.remote().port()))
                && !self.without.iter().any(|host| host.has_remote(tuple.remote()));
        self.operations.contains(&tuple.operation())
            && self.protocols.contains(&tuple.protocol())
            && remote_fits
            && local.0.has_address(tuple.local().ip(), false)
            && local.1.is_none_or(|ports| ports.has(tuple.local().port()))
    }
}

impl MException {
    fn text(&self) -> String {
        match self {
            MException::End(host, Some(ports)) => format!("{}:{}", host.text(), ports.text()),
            MException::End(host, None) => host.text(),
            MException::Rule(rule) => rule.text(),
        }
    }

    pub(crate) fn has(&self, tuple: &Tuple) -> bool {
        match self {
            MException::End(host, ports) => {
                tuple.operation() != Operation::Bind
                    && host.has_remote(tuple.remote())
                    && ports
                        .as_ref()
                        .is_none_or(|ports| ports.has(tuple.remote().port()))
            }
            MException::Rule(rule) => rule.has(tuple),
        }
    }
}

impl MRules {
    pub(crate) fn text(&self) -> String {
        let rules = self.rules.iter().map(MRule::text);
        let exceptions = self
            .exceptions
            .iter()
            .map(|exception| format!("except {}", exception.text()));
        rules.chain(exceptions).collect::<Vec<_>>().join("; ")
    }

    /// The same with the exceptions first and everything in the other order.
    pub(crate) fn reversed_text(&self) -> String {
        let exceptions: Vec<String> = self.exceptions.iter().rev().map(MException::text).collect();
        let mut parts: Vec<String> = exceptions.iter().map(|text| format!("except {text}")).collect();
        parts.extend(self.rules.iter().rev().map(MRule::text));
        parts.join("\n")
    }

    pub(crate) fn authority(&self) -> Authority {
        let text = self.text();
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    pub(crate) fn has(&self, tuple: &Tuple) -> bool {
        self.rules.iter().any(|rule| rule.has(tuple))
            && !self.exceptions.iter().any(|exception| exception.has(tuple))
    }

    /// These rules with one optional field less, in every way there is.
    pub(crate) fn with_less(&self) -> Vec<MRules> {
        let mut all = Vec::new();
        for at in 0..self.rules.len() {
            let mut less = self.clone();
            if let Some((_, ports @ Some(_))) = &mut less.rules[at].from {
                *ports = None;
                all.push(less.clone());
            }
            less.rules[at].from = None;
            all.push(less.clone());
            less.rules[at].without.clear();
            all.push(less);
        }
        for at in 0..self.exceptions.len() {
            let mut less = self.clone();
            less.exceptions.remove(at);
            all.push(less);
        }
        all
    }
}

/// Every tuple of the universe. Inbound operations have no names: no rule could say any.
pub(crate) fn universe() -> Vec<Tuple> {
    let mut remotes: Vec<Remote> = Vec::new();
    for port in REMOTE_PORTS {
        remotes.extend(
            ADDRESSES
                .iter()
                .map(|(ip, _)| Remote::from((ip.parse::<IpAddr>().unwrap(), port))),
        );
        remotes.extend(
            NAMES
                .iter()
                .map(|name| Remote::from((DnsName::new(name).unwrap(), port))),
        );
    }
    let mut tuples = Vec::new();
    for operation in Operation::ALL {
        let outbound = matches!(operation, Operation::Connect | Operation::Send);
        for protocol in Protocol::ALL {
            for ip in LOCALS {
                for port in LOCAL_PORTS {
                    let local = SocketAddr::new(ip.parse().unwrap(), port);
                    if operation == Operation::Bind {
                        tuples.push(Tuple::bind(protocol, local));
                        continue;
                    }
                    let fitting = remotes
                        .iter()
                        .filter(|r| outbound || matches!(r, Remote::Address(_)));
                    tuples
                        .extend(fitting.map(|remote| Tuple::new(operation, protocol, local, remote.clone())));
                }
            }
        }
    }
    tuples
}

fn range(text: &str, first: &str, last: &str) -> MHost {
    MHost::Range(text.into(), first.parse().unwrap(), last.parse().unwrap())
}

pub(crate) fn addresses() -> impl Strategy<Value = MHost> {
    let top = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let fixed = vec![
        range("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
        range("10.0.0.0/8", "10.0.0.0", "10.255.255.255"),
        range("10.0.0.0/31", "10.0.0.0", "10.0.0.1"),
        range("10.0.0.1/32", "10.0.0.1", "10.0.0.1"),
        range("10.0.0.2-127.0.0.1", "10.0.0.2", "127.0.0.1"),
        range("128.0.0.0/1", "128.0.0.0", "255.255.255.255"),
        range("[::/0]", "::", top),
        range("[::1/128]", "::1", "::1"),
        range("[::/1]", "::", "7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        range(
            "[2001:db8::/32]",
            "2001:db8::",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
        ),
        range("[64:ff9b::/96]", "64:ff9b::", "64:ff9b::ffff:ffff"),
        range("[::1-2001:db8::1]", "::1", "2001:db8::1"),
        range(
            "[fd00::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]",
            "fd00::1",
            top,
        ),
        range("[::ffff:10.0.0.0/104]", "10.0.0.0", "10.255.255.255"),
        range("[::ffff:8.8.8.8]", "8.8.8.8", "8.8.8.8"),
    ];
    let classes = vec![
        "loopback",
        "private",
        "link-local",
        "metadata",
        "multicast",
        "broadcast",
        "unspecified",
        "documentation",
        "public",
    ];
    prop_oneof![
        3 => Just(MHost::Star),
        4 => select(fixed),
        3 => select(classes).prop_map(MHost::Class),
        3 => select(ADDRESSES.to_vec()).prop_map(|(ip, _)| {
            let text = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
            range(&text, ip, ip)
        }),
    ]
}

fn remotes() -> impl Strategy<Value = MHost> {
    prop_oneof![
        3 => addresses(),
        1 => Just(MHost::AnyName),
        1 => select(NAMES.to_vec()).prop_map(MHost::Name),
        1 => select(NAMES.to_vec()).prop_map(MHost::Under),
    ]
}

fn ports() -> impl Strategy<Value = MPorts> {
    let edges = vec![0u16, 1, 79, 80, 81, 443, 1024, 65534, 65535];
    let one = (select(edges.clone()), select(edges)).prop_map(|(a, b)| (a.min(b), a.max(b)));
    prop_oneof![
        2 => Just(MPorts(vec![])),
        2 => select(REMOTE_PORTS.to_vec()).prop_map(|port| MPorts(vec![(port, port)])),
        2 => prop::collection::vec(one, 1..3).prop_map(MPorts),
    ]
}

fn rule() -> impl Strategy<Value = MRule> {
    let protocols = || subsequence(Protocol::ALL.to_vec(), 1..=2);
    let outbound = (
        subsequence(vec![Operation::Connect, Operation::Send], 1..=2),
        protocols(),
        (remotes(), ports()),
        prop::option::weighted(0.4, (addresses(), prop::option::of(ports()))),
        prop_oneof![4 => Just(vec![]), 1 => prop::collection::vec(remotes(), 1..3)],
    );
    let inbound = (
        subsequence(
            vec![Operation::Listen, Operation::Accept, Operation::Receive],
            1..=3,
        ),
        protocols(),
        (addresses(), ports()),
        prop::option::weighted(0.6, (addresses(), prop::option::of(ports()))),
        prop_oneof![4 => Just(vec![]), 1 => prop::collection::vec(addresses(), 1..3)],
    );
    let with_bind = (
        subsequence(vec![Operation::Listen, Operation::Receive], 0..=2),
        protocols(),
        (addresses(), ports()),
    )
        .prop_map(|(mut operations, protocols, main)| {
            operations.push(Operation::Bind);
            (operations, protocols, main, None, vec![])
        });
    prop_oneof![3 => outbound, 2 => inbound, 1 => with_bind].prop_map(
        |(operations, protocols, main, from, without)| MRule {
            operations,
            protocols,
            main,
            from,
            without,
        },
    )
}

/// A rule of operations, protocols and a destination, as most requests are.
pub(crate) fn simple_rules() -> impl Strategy<Value = MRules> {
    rule().prop_map(|rule| MRules {
        rules: vec![MRule {
            from: None,
            without: vec![],
            ..rule
        }],
        exceptions: vec![],
    })
}

fn exception() -> impl Strategy<Value = MException> {
    prop_oneof![
        2 => (remotes(), prop::option::of(ports())).prop_map(|(host, ports)| MException::End(host, ports)),
        1 => rule().prop_map(MException::Rule),
    ]
}

/// A few rules and exceptions.
pub(crate) fn rules() -> impl Strategy<Value = MRules> {
    (
        prop::collection::vec(rule(), 0..5),
        prop::collection::vec(exception(), 0..3),
    )
        .prop_map(|(rules, exceptions)| MRules { rules, exceptions })
}

/// Rules of single addresses, names and ports of the universe, so that the universe has every tuple that
/// they could differ in.
pub(crate) fn closed_rules() -> impl Strategy<Value = MRules> {
    let one = |list: Vec<&'static str>| {
        select(list).prop_map(|ip| {
            let text = if ip.contains(':') {
                format!("[{ip}]")
            } else {
                ip.to_owned()
            };
            range(&text, ip, ip)
        })
    };
    let port = |list: Vec<u16>| select(list).prop_map(|port| MPorts(vec![(port, port)]));
    let remote = prop_oneof![
        one(ADDRESSES.iter().map(|(ip, _)| *ip).take(4).collect()),
        select(NAMES[..2].to_vec()).prop_map(MHost::Name),
    ];
    let rule = (
        subsequence(vec![Operation::Connect, Operation::Send], 1..=2),
        (remote, port(REMOTE_PORTS[..2].to_vec())),
        (one(LOCALS[..2].to_vec()), port(LOCAL_PORTS[..2].to_vec())),
    )
        .prop_map(|(operations, main, (host, ports))| MRule {
            operations,
            protocols: vec![Protocol::Tcp],
            main,
            from: Some((host, Some(ports))),
            without: vec![],
        });
    prop::collection::vec(rule, 0..6).prop_map(|rules| MRules {
        rules,
        exceptions: vec![],
    })
}
