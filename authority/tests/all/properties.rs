//! What must hold for all rules, against the model.

use proptest::prelude::*;
use refcap_authority::{Authority, DeriveError, Policy, Query, Remote, Rules, Tuple};

use crate::model::{MRules, closed_rules, rules, universe};

thread_local! {
    static UNIVERSE: Vec<Tuple> = universe();
}

fn for_all(check: impl Fn(&Tuple)) {
    UNIVERSE.with(|universe| universe.iter().for_each(check));
}

fn rules_of(model: &MRules) -> Rules {
    Rules::parse(&model.text()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn authority_is_what_the_rules_say(model in rules()) {
        let authority = model.authority();
        for_all(|tuple| assert_eq!(authority.contains(tuple), model.has(tuple), "{tuple} by {}", model.text()));
    }

    #[test]
    fn operations_are_exact(a in rules(), b in rules()) {
        let (a, b) = (a.authority(), b.authority());
        let union = a.union(&b).unwrap();
        let both = a.intersect(&b).unwrap();
        let less = a.subtract(&b).unwrap();
        for_all(|tuple| {
            let (in_a, in_b) = (a.contains(tuple), b.contains(tuple));
            assert_eq!(union.contains(tuple), in_a || in_b);
            assert_eq!(both.contains(tuple), in_a && in_b);
            assert_eq!(less.contains(tuple), in_a && !in_b);
        });
        prop_assert!(both.is_subset(&a) && both.is_subset(&b) && less.is_subset(&a));
        prop_assert!(a.is_subset(&union) && b.is_subset(&union));
        prop_assert!(less.intersect(&b).unwrap().is_empty());
    }

    #[test]
    fn equal_meaning_is_equality(a in rules(), b in rules(), c in rules()) {
        let (a, b, c) = (a.authority(), b.authority(), c.authority());
        let all = Authority::everything();
        let not = |x: &Authority| all.subtract(x).unwrap();
        let or = |x: &Authority, y: &Authority| x.union(y).unwrap();
        let and = |x: &Authority, y: &Authority| x.intersect(y).unwrap();
        prop_assert_eq!(or(&a, &b).subtract(&b).unwrap(), a.subtract(&b).unwrap());
        prop_assert_eq!(and(&a, &or(&b, &c)), or(&and(&a, &b), &and(&a, &c)));
        prop_assert_eq!(or(&a, &and(&b, &c)), and(&or(&a, &b), &or(&a, &c)));
        prop_assert_eq!(not(&or(&a, &b)), and(&not(&a), &not(&b)));
        prop_assert_eq!(&not(&not(&a)), &a);
        prop_assert_eq!(or(&a, &b), or(&b, &a));
        prop_assert_eq!(&or(&and(&a, &b), &a.subtract(&b).unwrap()), &a);
        prop_assert_eq!(a.subtract(&b).unwrap(), and(&a, &not(&b)));
        prop_assert!(a.is_subset(&all) && Authority::nothing().is_subset(&a));
    }

    #[test]
    fn the_intersection_is_the_greatest_common_subset(a in rules(), b in rules(), c in rules()) {
        let (a, b, c) = (a.authority(), b.authority(), c.authority());
        let both = a.intersect(&b).unwrap();
        let common = c.intersect(&a).unwrap().intersect(&b).unwrap();
        prop_assert!(common.is_subset(&both));
        prop_assert_eq!(c.is_subset(&both), c.is_subset(&a) && c.is_subset(&b));
    }

    #[test]
    fn a_subset_has_no_tuple_more(a in rules(), b in rules()) {
        let (a, b) = (a.authority(), b.authority());
        let subset = a.is_subset(&b);
        prop_assert_eq!(subset, a.subtract(&b).unwrap().is_empty());
        prop_assert_eq!(subset, a.union(&b).unwrap() == b);
        prop_assert_eq!(subset && b.is_subset(&a), a == b);
        if subset {
            for_all(|tuple| assert!(!a.contains(tuple) || b.contains(tuple)));
        }
    }

    #[test]
    fn in_a_closed_universe_subset_is_counted_out(a in closed_rules(), b in closed_rules()) {
        let counted = UNIVERSE.with(|universe| universe.iter().all(|tuple| !a.has(tuple) || b.has(tuple)));
        prop_assert_eq!(a.authority().is_subset(&b.authority()), counted);
    }

    #[test]
    fn order_says_nothing(model in rules()) {
        prop_assert_eq!(model.reversed_text().parse::<Authority>().unwrap(), model.authority());
    }

    #[test]
    fn every_form_comes_back(model in rules()) {
        let authority = model.authority();
        let printed = authority.to_rules();
        prop_assert_eq!(&Authority::from_rules(&printed).unwrap(), &authority, "printed {}", printed);
        prop_assert_eq!(&authority.to_string().parse::<Authority>().unwrap(), &authority);
        prop_assert_eq!(&Authority::from_rules(&printed).unwrap().to_rules(), &printed);
        for rules in [rules_of(&model), printed] {
            prop_assert_eq!(&Rules::parse(&rules.to_string()).unwrap(), &rules);
            prop_assert_eq!(&Rules::decode(&rules.encode()).unwrap(), &rules);
        }
    }

    #[test]
    fn merged_authorities_come_back_too(a in rules(), b in rules(), c in rules()) {
        let merged = a.authority().union(&b.authority()).unwrap().subtract(&c.authority()).unwrap();
        prop_assert_eq!(&merged.to_string().parse::<Authority>().unwrap(), &merged, "printed {}", merged);
    }

    #[test]
    fn derived_authority_is_contained(parent in rules(), request in rules()) {
        let parent = parent.authority();
        let asked = rules_of(&request);
        let child = parent.only(&asked).unwrap();
        prop_assert!(child.is_subset(&parent) && child.is_subset(&request.authority()));
        prop_assert!(parent.except(&asked).unwrap().is_subset(&parent));
        for less in request.with_less() {
            let child = parent.only(&rules_of(&less)).unwrap();
            prop_assert!(child.is_subset(&parent), "{} widened", less.text());
        }
    }

    #[test]
    fn exactly_fails_exactly_for_more(parent in rules(), request in rules()) {
        let parent = parent.authority();
        let subset = request.authority().is_subset(&parent);
        match parent.exactly(&rules_of(&request)) {
            Ok(child) => {
                prop_assert!(subset);
                prop_assert_eq!(child, request.authority());
            }
            Err(DeriveError::NotSubset { index, rule, missing, .. }) => {
                prop_assert!(!subset);
                prop_assert_eq!(&rule, &rules_of(&request).rules[index].to_string());
                let missing: Authority = missing.parse().unwrap();
                prop_assert!(!missing.is_empty());
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
        let narrow = parent.only(&rules_of(&request)).unwrap();
        prop_assert_eq!(parent.exactly(&narrow.to_rules()), Ok(narrow));
    }

    #[test]
    fn permission_is_monotone(parent in rules(), request in rules()) {
        let parent = parent.authority();
        let child = parent.only(&rules_of(&request)).unwrap();
        for_all(|tuple| {
            assert!(!child.permits(tuple) || parent.permits(tuple));
            assert!(!child.permits(tuple) || child.contains(tuple));
        });
    }

    #[test]
    fn explanations_agree_with_permits(model in rules(), step in 1usize..97) {
        let authority = model.authority();
        let rules = rules_of(&model);
        UNIVERSE.with(|universe| {
            for tuple in universe.iter().skip(step).step_by(211) {
                let permitted = authority.permits(tuple);
                let query = Query::from(tuple.clone());
                assert_eq!(authority.allows(&query), permitted);
                for explanation in [authority.explain(&query), rules.explain(&query)] {
                    assert_eq!(explanation.is_allowed(), permitted, "{explanation}");
                    assert!(explanation.to_string().lines().count() <= 2);
                }
                let open = [
                    Query { local: None, ..query.clone() },
                    Query { remote: None, ..query.clone() },
                    Query { local: None, remote: None, ..query.clone() },
                ];
                for query in open {
                    let allowed = authority.allows(&query);
                    assert!(allowed || !permitted, "{query}");
                    assert_eq!(authority.explain(&query).is_allowed(), allowed);
                    assert_eq!(rules.explain(&query).is_allowed(), allowed, "{query} by {rules}");
                }
            }
        });
    }

    #[test]
    fn local_ranges_agree_with_permits(model in rules(), step in 1usize..97) {
        let authority = model.authority();
        UNIVERSE.with(|universe| {
            for tuple in universe.iter().skip(step).step_by(211) {
                let ranges = authority.local_ranges(tuple.operation(), tuple.protocol(), tuple.remote());
                let local = tuple.local();
                assert_eq!(ranges.contains(local), authority.permits(tuple));
                let listed = ranges.iter().any(|(range, ports)| {
                    range.contains(local.ip()) && ports.iter().any(|(a, b)| (*a..=*b).contains(&local.port()))
                });
                assert_eq!(listed, ranges.contains(local));
            }
        });
    }

    #[test]
    fn queries_come_back(step in 0usize..10_000, open in 0u8..4) {
        UNIVERSE.with(|universe| {
            let tuple = &universe[step % universe.len()];
            let mut query = Query::from(tuple.clone());
            if open & 1 != 0 {
                query.local = None;
            }
            if open & 2 != 0 {
                query.remote = None;
            }
            assert_eq!(query.to_string().parse::<Query>().as_ref(), Ok(&query));
            assert_eq!(Query::decode(&query.encode()).as_ref(), Ok(&query));
        });
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}") {
        read_all(&text);
    }

    #[test]
    fn no_nearly_right_text_panics(model in rules(), at in any::<prop::sample::Index>(), piece in "[-a-z0-9*.,:;/#\\[\\]% \n]{0,3}") {
        let mut text = format!("{}; names to private, 10.0.0.1; limit in 1kB/s, lease 1h; label a", model.text());
        if !text.is_empty() {
            let at = at.index(text.len());
            text.replace_range(at..(at + 1).min(text.len()), &piece);
        }
        read_all(&text);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        decode_all(&bytes);
        for version in [1, 2] {
            let mut versioned = vec![version];
            versioned.extend(&bytes);
            decode_all(&versioned);
        }
    }

    #[test]
    fn no_nearly_right_bytes_panic(model in rules(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = rules_of(&model).encode();
        let at = at.index(bytes.len());
        prop_assert!(Rules::decode(&bytes[..at]).is_err());
        bytes[at] = byte;
        decode_all(&bytes);
        bytes.push(byte);
        decode_all(&bytes);
    }
}

pub(crate) fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(96)
}

/// What is read is printed such that it is read again; what is not has an error that can be shown.
fn read_all(text: &str) {
    match Rules::parse(text) {
        Ok(rules) => assert_eq!(Rules::parse(&rules.to_string()).as_ref(), Ok(&rules), "{text:?}"),
        Err(error) => {
            assert!(error.span.start <= error.span.end && error.span.end <= text.len().max(error.span.start));
            assert!(!error.to_string().contains('\n'));
            assert_eq!(error.render(text).lines().count(), 2, "{text:?}");
        }
    }
    match Policy::parse(text) {
        Ok(policy) => assert_eq!(
            Policy::parse(&policy.to_string()).as_ref(),
            Ok(&policy),
            "{text:?}"
        ),
        // Terms are the only thing that it may have and rules may not.
        Err(_) => assert!(Rules::parse(text).is_err(), "{text:?}"),
    }
    if let Ok(query) = text.parse::<Query>() {
        assert_eq!(query.to_string().parse::<Query>().as_ref(), Ok(&query));
    }
}

/// There is one encoding of each value.
fn decode_all(bytes: &[u8]) {
    if let Ok(rules) = Rules::decode(bytes) {
        assert_eq!(rules.encode(), bytes);
    }
    if let Ok(query) = Query::decode(bytes) {
        assert_eq!(query.encode(), bytes);
    }
}

#[test]
fn the_universe_has_every_kind_of_remote_end() {
    UNIVERSE.with(|universe| {
        assert!(universe.len() > 5000);
        let names = universe
            .iter()
            .filter(|tuple| matches!(tuple.remote(), Remote::Name(..)))
            .count();
        assert!(names > 500);
    });
}
