//! Rules from any text: parsed or refused, and what is parsed means the same when it is printed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use refcap_authority::{Authority, Rules};

fuzz_target!(|text: &str| {
    let Ok(rules) = Rules::parse(text) else { return };
    let again = Rules::parse(&rules.to_string()).expect("what is printed can be parsed");
    let (Ok(first), Ok(second)) = (Authority::from_rules(&rules), Authority::from_rules(&again)) else {
        return;
    };
    assert_eq!(first, second);
    assert_eq!(Authority::from_rules(&first.to_rules()), Ok(first));
});
