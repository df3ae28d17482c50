//! Which addresses names may stand for, against the model.

use std::net::SocketAddr;

use proptest::prelude::*;
use refcap_authority::{
    Answers, DeriveError, Host, Operation, Policy, Protocol, Remote, RuleError, Rules, Terms, Tuple, embedded,
};

use crate::model::{ADDRESSES, MHost, MRules, addresses, rules};
use crate::properties::cases;

/// Rules of the model, and hosts of a `names to`, which is said in as many clauses.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    rules: MRules,
    names_to: Vec<MHost>,
}

impl Granted {
    fn text(&self) -> String {
        let hosts = self
            .names_to
            .iter()
            .map(|host| format!("names to {}", host.text()));
        std::iter::once(self.rules.text())
            .chain(hosts)
            .collect::<Vec<_>>()
            .join("; ")
    }

    pub(crate) fn rules(&self) -> Rules {
        Rules::parse(&self.text()).unwrap()
    }

    fn answers(&self) -> Answers {
        Answers::from_rules(&self.rules()).unwrap()
    }

    /// Whether the hosts, or the standard ones, have the address and no exception has the tuple.
    fn has(&self, tuple: &Tuple, address: SocketAddr) -> bool {
        let refused = ["loopback", "private", "link-local", "metadata"];
        let said = if self.names_to.is_empty() {
            MHost::Star.has_address(address.ip(), true)
                && !refused
                    .iter()
                    .any(|class| MHost::Class(class).has_address(address.ip(), true))
        } else {
            self.names_to
                .iter()
                .any(|host| host.has_address(address.ip(), true))
        };
        said && !self.excepts(tuple, address)
    }

    fn excepts(&self, tuple: &Tuple, address: SocketAddr) -> bool {
        let tuple = Tuple::new(tuple.operation(), tuple.protocol(), tuple.local(), address);
        self.rules
            .exceptions
            .iter()
            .any(|exception| exception.has(&tuple))
    }

    /// The same for the address and every other that it carries.
    fn permits(&self, tuple: &Tuple) -> bool {
        carried(tuple).all(|address| self.has(tuple, address))
    }
}

fn carried(tuple: &Tuple) -> impl Iterator<Item = SocketAddr> + use<> {
    let Remote::Address(remote) = *tuple.remote() else {
        panic!("{tuple} has no address");
    };
    let inside = embedded(remote.ip()).map(move |ip| SocketAddr::new(ip.into(), remote.port()));
    std::iter::once(remote).chain(inside)
}

pub(crate) fn granted() -> impl Strategy<Value = Granted> {
    let hosts = prop_oneof![
        1 => Just(vec![]),
        3 => prop::collection::vec(addresses(), 1..4),
    ];
    (rules(), hosts).prop_map(|(rules, names_to)| Granted { rules, names_to })
}

/// Everything that a name could be asked to stand for.
fn asked() -> Vec<Tuple> {
    let mut tuples = Vec::new();
    for operation in [Operation::Connect, Operation::Send] {
        for protocol in Protocol::ALL {
            for (ip, _) in ADDRESSES {
                for port in [0, 80, 443, 65535] {
                    for local in ["10.0.0.1:443", "[::]:0"] {
                        let remote = SocketAddr::new(ip.parse().unwrap(), port);
                        tuples.push(Tuple::new(operation, protocol, local.parse().unwrap(), remote));
                    }
                }
            }
        }
    }
    tuples
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn answers_are_what_the_rules_say(granted in granted()) {
        let answers = granted.answers();
        for tuple in asked() {
            let permitted = granted.permits(&tuple);
            prop_assert_eq!(answers.permits(&tuple), permitted, "{} by {}", tuple, granted.text());
            let why = answers.explain(&tuple);
            prop_assert_eq!(why.contains("names may stand for ") && !why.contains(" only"), permitted, "{}", why);
            prop_assert_eq!(why.lines().count(), 1);
        }
    }

    #[test]
    fn derived_answers_are_contained(parent in granted(), request in granted()) {
        let (whole, asked_for) = (parent.answers(), request.rules());
        let only = whole.only(&asked_for).unwrap();
        let except = whole.except(&asked_for).unwrap();
        prop_assert!(only.is_subset(&whole) && except.is_subset(&whole));
        let authority = request.rules.authority();
        for tuple in asked() {
            let wanted = request.names_to.is_empty() || carried(&tuple).all(|address| {
                request.names_to.iter().any(|host| host.has_address(address.ip(), true))
            });
            let excepted = carried(&tuple).any(|address| request.excepts(&tuple, address));
            prop_assert_eq!(
                only.permits(&tuple),
                parent.permits(&tuple) && wanted && !excepted,
                "{} by {} under {}", tuple, request.text(), parent.text()
            );
            // What an exception takes away is looked at for each of the addresses.
            let taken = carried(&tuple).any(|address| {
                authority.contains(&Tuple::new(tuple.operation(), tuple.protocol(), tuple.local(), address))
            });
            prop_assert_eq!(except.permits(&tuple), parent.permits(&tuple) && !taken);
        }
    }

    #[test]
    fn exactly_is_only_or_an_error(parent in granted(), request in granted()) {
        let (whole, asked_for) = (parent.answers(), request.rules());
        let fits = request.names_to.is_empty() || request.answers().is_subset(&whole);
        match whole.exactly(&asked_for) {
            Ok(child) => {
                prop_assert!(fits);
                prop_assert_eq!(child, whole.only(&asked_for).unwrap());
            }
            Err(DeriveError::Answers { missing }) => {
                prop_assert!(!fits);
                prop_assert!(missing.parse::<refcap_authority::End>().is_ok(), "{}", missing);
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn every_form_keeps_the_hosts(granted in granted(), end in any::<prop::sample::Index>()) {
        let rules = granted.rules();
        prop_assert_eq!(rules.names_to.len(), granted.names_to.len());
        prop_assert_eq!(&Rules::parse(&rules.to_string()).unwrap(), &rules);
        let bytes = rules.encode();
        prop_assert_eq!(&Rules::decode(&bytes).unwrap(), &rules);
        prop_assert!(Rules::decode(&bytes[..end.index(bytes.len())]).is_err());
        let policy = Policy { rules, terms: Terms::new().sockets(3).label("a.b") };
        prop_assert_eq!(&Policy::parse(&policy.to_string()).unwrap(), &policy);
    }
}

#[test]
fn names_have_no_place_among_the_hosts() {
    let host = |text: &str| text.parse::<Host>().unwrap();
    let rules = Rules::new()
        .names_to([host("private"), host("*")])
        .and_then(|rules| rules.names_to([host("[2001:db8::/32]")]))
        .unwrap();
    assert_eq!(rules.to_string(), "names to private, *, [2001:db8::/32]");
    for name in ["a.com", "*.a.com", "any-name"] {
        assert_eq!(
            Rules::new().names_to([host("*"), host(name)]),
            Err(RuleError::NameAsAnswer)
        );
    }
}

#[test]
fn clauses_add_up_wherever_they_stand() {
    let rules = Rules::parse(
        "names to private; connect tcp any-name:1; except 10.0.0.1\nnames to loopback,\n public",
    )
    .unwrap();
    assert_eq!(
        rules.to_string(),
        "connect tcp any-name:1; names to private, loopback, public; except 10.0.0.1"
    );
    let same = Rules::parse("names to loopback; names to public, private; except 10.0.0.1").unwrap();
    assert_eq!(Answers::from_rules(&rules), Answers::from_rules(&same));
}
