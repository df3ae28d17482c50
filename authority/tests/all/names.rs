//! Names that are not ASCII, in rules and queries.

use proptest::prelude::*;
#[cfg(feature = "idna")]
use refcap_authority::Rules;
use refcap_authority::{Authority, DnsName, Query};

use crate::properties::cases;

fn allows(rules: &str, query: &str) -> bool {
    let authority: Authority = rules.parse().unwrap_or_else(|error| panic!("{rules}: {error}"));
    authority.allows(&query.parse::<Query>().unwrap())
}

#[test]
fn patterns_are_compared_in_their_one_spelling() {
    for (rules, name, allowed) in [
        ("connect tcp API.Example.COM.:1", "api.example.com", true),
        ("connect tcp *.Example.COM.:1", "a.EXAMPLE.com.", true),
        ("connect tcp *.xn--80AK6AA92E.com:1", "a.XN--80ak6aa92e.COM", true),
        ("connect tcp *.xn--80ak6aa92e.com:1", "apple.com", false),
        (
            "connect tcp *.example.com:1 without A.example.com.",
            "a.example.com",
            false,
        ),
    ] {
        assert_eq!(
            allows(rules, &format!("connect tcp {name}:1")),
            allowed,
            "{rules}"
        );
    }
}

#[cfg(feature = "idna")]
#[test]
fn internationalised_names_are_written_in_rules() {
    let rules = "connect tcp *.B\u{fc}cher.example:443 without bo\u{308}se.b\u{fc}cher.example; \
                 connect tcp \u{4f8b}\u{3048}\u{3002}\u{30c6}\u{30b9}\u{30c8}:443; except \u{e4}.b\u{fc}cher.example";
    assert_eq!(
        Rules::parse(rules).unwrap().to_string(),
        "connect tcp *.xn--bcher-kva.example:443 without xn--bse-sna.xn--bcher-kva.example; \
         connect tcp xn--r8jz45g.xn--zckzah:443; except xn--4ca.xn--bcher-kva.example"
    );
    for (name, allowed) in [
        ("a.b\u{fc}cher.example", true),
        ("a.BU\u{308}CHER.example", true),
        ("a.xn--bcher-kva.example", true),
        ("b\u{fc}cher.example", false),
        ("b\u{f6}se.b\u{fc}cher.example", false),
        ("\u{c4}.b\u{fc}cher.example", false),
        ("\u{4f8b}\u{3048}.\u{30c6}\u{30b9}\u{30c8}", true),
        // Cyrillic letters that look like those of another name.
        ("a.b\u{fc}\u{441}her.example", false),
    ] {
        assert_eq!(
            allows(rules, &format!("connect tcp {name}:443")),
            allowed,
            "{name}"
        );
    }
}

#[cfg(feature = "idna")]
#[test]
fn class_04_what_is_mapped_to_something_else_than_a_name_is_refused() {
    for host in [
        "\u{ff11}\u{ff12}\u{ff17}.\u{ff11}",
        "\u{ff11}\u{ff12}\u{ff17}.0.0.1",
        "127\u{3002}0\u{3002}0\u{3002}1",
        "\u{2460}.b\u{fc}cher.\u{2460}",
        // Not the class, nor the wildcards.
        "\u{ff50}rivate",
        "\u{ff50}rivate\u{3002}",
        "\u{ff0a}",
        "\u{ff0a}.example.com",
        "*\u{3002}example.com",
        "\u{ff41}ny-name",
        "example.com\u{ff1a}443",
        "xn--a.example",
        "*.xn--a.example",
    ] {
        for rules in [format!("connect tcp {host}:443"), format!("except {host}")] {
            let error = Rules::parse(&rules).expect_err(&rules);
            assert!(
                error.to_string().lines().count() == 1 && error.column > 7,
                "{error}"
            );
        }
    }
    // Rules ask one label for its dot; in another alphabet it is an ASCII dot too.
    assert!(Rules::parse("connect tcp b\u{fc}cher.:443").is_ok());
    assert!(Rules::parse("connect tcp b\u{fc}cher:443").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4 * cases(), failure_persistence: None, ..ProptestConfig::default() })]

    /// The space of all names takes each from its spelling again, so there must be one only.
    #[test]
    fn a_name_is_its_own_spelling(text in "(\\PC{1,6}|[a-z\u{df}-\u{17f}]{1,5}|[\u{5d0}-\u{5ea}0-9]{1,4}|xn--[a-z0-9-]{1,9})(\\.(\\PC{1,6}|[a-z]{2,5}|\u{3c3}\u{3c2}?)){0,3}") {
        if let Ok(name) = DnsName::new(&text) {
            prop_assert_eq!(DnsName::new(name.as_str()), Ok(name.clone()), "{:?}", text);
            prop_assert!(name.as_str().is_ascii() && name.as_str().len() <= 253);
            let rules = format!("connect tcp *.{name}:443");
            let authority: Authority = rules.parse().unwrap();
            prop_assert_eq!(authority.to_string(), rules);
        }
    }
}
