//! The forms for serde.

use proptest::prelude::*;
use refcap_authority::{Authority, Policy, Rules, Structured, Terms};

use crate::answers::granted;
use crate::properties::cases;

#[test]
fn unknown_fields_are_refused() {
    let good = r#"{"rules":[{"operations":["connect"],"protocols":["tcp"],"host":"*","ports":"443","from":{"host":"10.0.0.1"}}],"exceptions":[{"host":"private"},{"rule":{"operations":["send"],"protocols":["udp"],"host":"a.com","ports":"*"}}]}"#;
    let Structured(rules) = serde_json::from_str(good).unwrap();
    assert_eq!(
        rules.to_string(),
        "connect tcp *:443 from 10.0.0.1; except private, send udp a.com:*"
    );
    assert_eq!(serde_json::to_string(&Structured(rules)).unwrap(), good);
    for (right, wrong) in [
        ("\"rules\"", "\"rule\""),
        ("\"host\":\"*\"", "\"host\":\"*\",\"comment\":\"\""),
        ("\"ports\":\"443\",", ""),
        ("\"from\":{", "\"from\":{\"port\":\"1\","),
        ("\"exceptions\"", "\"except\""),
        ("{\"host\":\"private\"}", "{}"),
        (
            "{\"host\":\"private\"}",
            "{\"host\":\"private\",\"operations\":[]}",
        ),
        ("{\"host\":\"private\"}", "{\"ports\":\"80\"}"),
        ("\"connect\"", "\"connect\",\"bind\""),
        ("\"connect\"", ""),
        ("\"private\"", "\"privat\""),
    ] {
        let text = good.replacen(right, wrong, 1);
        assert!(serde_json::from_str::<Structured>(&text).is_err(), "{text}");
    }
    assert_eq!(
        serde_json::from_str::<Structured>("{}").unwrap(),
        Structured::default()
    );
    assert!(serde_json::from_str::<Rules>("\"connect tcp privat:1\"").is_err());
    assert!(serde_json::from_str::<Authority>("\"connect tcp private:1\"").is_ok());
}

#[test]
fn hosts_that_names_stand_for_are_addresses() {
    let good = r#"{"names_to":["private","[2001:db8::/32]"]}"#;
    let Structured(rules) = serde_json::from_str(good).unwrap();
    assert_eq!(rules.to_string(), "names to private, [2001:db8::/32]");
    assert_eq!(serde_json::to_string(&Structured(rules)).unwrap(), good);
    for name in ["a.com", "*.a.com", "any-name"] {
        let json = format!(r#"{{"names_to":["10.0.0.1","{name}"]}}"#);
        let error = serde_json::from_str::<Structured>(&json).unwrap_err();
        assert!(
            error.to_string().contains("a name stands for addresses"),
            "{error}"
        );
    }
}

#[test]
fn policies_and_terms_are_their_text() {
    let text = "\"connect tcp *:1; limit sockets 1; no derive\"";
    let policy: Policy = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&policy).unwrap(), text);
    assert_eq!(
        serde_json::from_str::<Terms>("\"limit out 1MB\"").unwrap(),
        Terms::new().bytes_out(1_000_000)
    );
    assert!(serde_json::from_str::<Policy>("\"limit out 0/s\"").is_err());
    assert!(serde_json::from_str::<Rules>("\"limit out 1MB\"").is_err());
    assert!(serde_json::from_str::<Terms>("\"connect tcp *:1\"").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_form_comes_back(granted in granted()) {
        let rules = granted.rules();
        let authority = Authority::from_rules(&rules).unwrap();
        let json = serde_json::to_string(&authority).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Authority>(&json).unwrap(), &authority);
        for rules in [rules, authority.to_rules()] {
            let json = serde_json::to_string(&rules).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Rules>(&json).unwrap(), &rules);
            let json = serde_json::to_string(&Structured(rules.clone())).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Structured>(&json).unwrap().0, &rules);
            let policy = Policy { rules, terms: Terms::new().lease(std::time::Duration::from_secs(1)) };
            let json = serde_json::to_string(&policy).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Policy>(&json).unwrap(), &policy);
        }
    }
}
