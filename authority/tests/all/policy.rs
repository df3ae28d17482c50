//! Terms, policies, and the addresses that names may stand for.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use refcap_authority::{Answers, DeriveError, Operation, Policy, Protocol, Rules, Terms, TermsError, Tuple};

fn rules(text: &str) -> Rules {
    Rules::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn answers(text: &str) -> Answers {
    Answers::from_rules(&rules(text)).unwrap()
}

fn permits(answers: &Answers, remote: &str) -> bool {
    let remote: SocketAddr = remote.parse().unwrap();
    let local = if remote.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    answers.permits(&Tuple::new(
        Operation::Connect,
        Protocol::Tcp,
        local.parse().unwrap(),
        remote,
    ))
}

#[test]
fn terms_and_rules_mix_in_any_order() {
    let text = "label web\nlimit out 1MiB # all day\nconnect tcp *:443; no derive; except private; limit in 2kB/s,\n lease 90s";
    let policy = Policy::parse(text).unwrap();
    assert_eq!(
        policy.to_string(),
        "connect tcp *:443; except private; limit out 1MiB, in 2000B/s, lease 90s; no derive; label web"
    );
    assert_eq!(Policy::parse(&policy.to_string()), Ok(policy));
    assert_eq!(Policy::parse("").unwrap(), Policy::default());
}

#[test]
fn what_builders_make_is_checked() {
    assert_eq!(Terms::new().check(), Ok(()));
    for (terms, error) in [
        (Terms::new().rate_out(0), TermsError::NoRate { direction: "out" }),
        (Terms::new().rate_in(0), TermsError::NoRate { direction: "in" }),
        (Terms::new().lease(Duration::ZERO), TermsError::Lease),
        (Terms::new().lease(Duration::MAX), TermsError::Lease),
        (Terms::new().label(""), TermsError::Label),
        (Terms::new().label("a".repeat(65)), TermsError::Label),
        (Terms::new().label("a b"), TermsError::Label),
        (Terms::new().label("b\u{fc}ro"), TermsError::Label),
    ] {
        assert_eq!(terms.check(), Err(error), "{terms:?}");
    }
}

#[test]
fn names_stand_for_public_addresses_unless_rules_say_otherwise() {
    let standard = answers("connect tcp *.example.com:443");
    assert_eq!(standard, Answers::standard());
    for remote in ["8.8.8.8:443", "203.0.113.1:1", "[2001:db8::1]:443"] {
        assert!(permits(&standard, remote), "{remote}");
    }
    for remote in [
        "127.0.0.1:443",
        "10.0.0.1:443",
        "169.254.169.254:80",
        "0.0.0.0:1",
        "255.255.255.255:1",
        "[::1]:443",
        "[fd00::1]:443",
        "[::ffff:10.0.0.1]:443",
        "[64:ff9b::a00:1]:443",
    ] {
        assert!(!permits(&standard, remote), "{remote}");
    }
    let inside = answers("names to 10.0.0.0/8, loopback; connect tcp db.corp.example:5432");
    assert!(permits(&inside, "10.1.2.3:5432") && permits(&inside, "[::1]:1"));
    assert!(!permits(&inside, "8.8.8.8:5432") && !permits(&inside, "192.168.0.1:1"));
    // `*` is every ordinary address, private ones with it.
    let all = answers("names to *");
    assert!(permits(&all, "10.0.0.1:1") && permits(&all, "127.0.0.1:1") && !permits(&all, "224.0.0.1:1"));
}

// In the normal form of an authority over names, `except private` is gone: it has no addresses.
#[test]
fn exceptions_hold_for_what_names_stand_for() {
    let answers = answers(
        "connect tcp *.example.com:*; names to *; except private, 8.8.8.8:53, connect tcp 9.9.9.9:25",
    );
    assert!(!permits(&answers, "10.0.0.1:443"));
    assert!(!permits(&answers, "8.8.8.8:53") && permits(&answers, "8.8.8.8:443"));
    assert!(!permits(&answers, "9.9.9.9:25") && permits(&answers, "9.9.9.9:443"));
    assert!(permits(&answers, "1.1.1.1:25"));
}

#[test]
fn asking_for_exactly_more_answers_says_which() {
    let answers = answers("names to 10.0.0.0/8");
    let error = answers
        .exactly(&rules("names to 10.1.0.0/16, 192.168.0.1"))
        .unwrap_err();
    assert!(matches!(&error, DeriveError::Answers { missing } if missing == "192.168.0.1"));
    assert_eq!(
        error.to_string(),
        "`names to` asks for more than is allowed: 192.168.0.1 is missing"
    );
    let less = answers.exactly(&rules("names to 10.1.0.0/16")).unwrap();
    assert!(less.is_subset(&answers) && !answers.is_subset(&less));
    // Saying nothing is leaving it as it is, and never a return to the standard.
    assert_eq!(answers.exactly(&rules("connect tcp a.com:1")).unwrap(), answers);
    let without = answers
        .except(&rules("connect,send tcp,udp 10.1.0.0/16:*"))
        .unwrap();
    assert!(!permits(&without, "10.1.0.1:1") && permits(&without, "10.2.0.1:1"));
}

#[test]
fn what_is_no_label_is_not_read_as_anything_else() {
    for label in ["", "a; connect tcp *:*", "a\nconnect tcp *:*", "a # b", "a b"] {
        let policy = Policy::from(Terms::new().label(label));
        assert!(Policy::parse(&policy.to_string()).is_err(), "{policy}");
    }
}

#[test]
fn policies_are_made_of_either_part() {
    let policy = Policy::from(Terms::new().no_hand_over());
    assert_eq!(policy.to_string(), "no hand-over");
    assert_eq!(policy.rules, Rules::new());
    let policy = Policy::from(rules("connect tcp *:1"));
    assert!(policy.terms.is_empty());
}

#[test]
fn units_are_those_of_their_names() {
    for (text, bytes) in [
        ("1", 1),
        ("1B", 1),
        ("2kB", 2_000),
        ("2MB", 2_000_000),
        ("2GB", 2_000_000_000),
        ("2TB", 2_000_000_000_000),
        ("2KiB", 2 << 10),
        ("2MiB", 2 << 20),
        ("2GiB", 2 << 30),
        ("2TiB", 2 << 40),
        ("18446744073709551615", u64::MAX),
        ("16777215TiB", 16_777_215 << 40),
        ("0", 0),
    ] {
        let terms: Terms = format!("limit out {text}").parse().unwrap();
        assert_eq!(terms, Terms::new().bytes_out(bytes), "{text}");
        assert_eq!(terms.to_string().parse(), Ok(terms));
    }
    for (text, millis, printed) in [
        ("1ms", 1, "1ms"),
        ("1500ms", 1_500, "1500ms"),
        ("60s", 60_000, "1m"),
        ("90m", 5_400_000, "90m"),
        ("24h", 86_400_000, "1d"),
        ("3650d", 315_360_000_000, "3650d"),
    ] {
        let terms: Terms = format!("limit lease {text}").parse().unwrap();
        assert_eq!(terms, Terms::new().lease(Duration::from_millis(millis)));
        assert_eq!(terms.to_string(), format!("limit lease {printed}"));
    }
}

fn terms() -> impl Strategy<Value = Terms> {
    let count = || {
        proptest::option::of(prop_oneof![
            Just(0),
            1u64..10,
            any::<u64>(),
            (0u64..20).prop_map(|bits| 1 << bits)
        ])
    };
    let rate = || proptest::option::of(1u64..=u64::MAX);
    let lease = proptest::option::of((1u64..400_000_000).prop_map(Duration::from_millis));
    let label = proptest::option::of("[A-Za-z0-9._-]{1,64}");
    let flags = any::<(bool, bool)>();
    (
        count(),
        count(),
        count(),
        count(),
        rate(),
        rate(),
        lease,
        label,
        flags,
    )
        .prop_map(
            |(
                sockets,
                connections,
                bytes_out,
                bytes_in,
                rate_out,
                rate_in,
                lease,
                label,
                (derive, hand_over),
            )| {
                let mut terms = Terms::new();
                terms.sockets = sockets;
                terms.connections = connections;
                terms.bytes_out = bytes_out;
                terms.bytes_in = bytes_in;
                terms.rate_out = rate_out;
                terms.rate_in = rate_in;
                terms.lease = lease;
                terms.label = label;
                terms.no_derive = derive;
                terms.no_hand_over = hand_over;
                terms
            },
        )
}

const NAMES_TO: &[&str] = &[
    "",
    "names to *",
    "names to private",
    "names to 10.0.0.0/8, loopback",
    "names to public, [2001:db8::/32]",
    "except metadata",
    "names to *; except 10.0.0.0/9",
    "names to 10.0.0.0/7; except connect tcp 10.0.0.1:80",
];

proptest! {
    #[test]
    fn printed_terms_come_back(terms in terms()) {
        prop_assert_eq!(terms.check(), Ok(()));
        let text = terms.to_string();
        prop_assert_eq!(text.parse::<Terms>(), Ok(terms), "{}", text);
    }

    #[test]
    fn printed_policies_come_back(terms in terms(), which in 0..NAMES_TO.len()) {
        let policy = Policy { rules: rules(&format!("connect tcp *:1; {}", NAMES_TO[which])), terms };
        prop_assert_eq!(Policy::parse(&policy.to_string()), Ok(policy));
    }

    #[test]
    fn a_child_never_believes_more(first in 0..NAMES_TO.len(), second in 0..NAMES_TO.len(), third in 0..NAMES_TO.len()) {
        let parent = answers(NAMES_TO[first]);
        let child = parent.only(&rules(NAMES_TO[second])).unwrap();
        let grandchild = child.only(&rules(NAMES_TO[third])).unwrap();
        prop_assert!(child.is_subset(&parent) && grandchild.is_subset(&child));
        // In either order it is the same.
        let other = parent.only(&rules(NAMES_TO[third])).unwrap().only(&rules(NAMES_TO[second])).unwrap();
        prop_assert_eq!(grandchild, other);
    }

    #[test]
    fn rules_with_answers_come_back_in_all_forms(which in 0..NAMES_TO.len()) {
        let rules = rules(&format!("connect tcp a.example.com:443; {}", NAMES_TO[which]));
        prop_assert_eq!(Rules::decode(&rules.encode()), Ok(rules.clone()));
        prop_assert_eq!(Rules::parse(&rules.to_string()), Ok(rules));
    }
}
