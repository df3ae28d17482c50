//! Rules from any bytes, as a guest hands them over: decoded or refused, and a child is never more than
//! its parent.
#![no_main]

use libfuzzer_sys::fuzz_target;
use refcap_authority::{Authority, Rules};

fuzz_target!(|bytes: (&[u8], &[u8])| {
    let (Ok(parent), Ok(request)) = (Rules::decode(bytes.0), Rules::decode(bytes.1)) else {
        return;
    };
    assert_eq!(Rules::decode(&parent.encode()).expect("what is encoded can be decoded"), parent);
    let Ok(parent) = Authority::from_rules(&parent) else { return };
    if let Ok(child) = parent.only(&request) {
        assert!(child.is_subset(&parent));
    }
    if let Ok(child) = parent.exactly(&request) {
        assert!(child.is_subset(&parent));
    }
    if let Ok(child) = parent.except(&request) {
        assert!(child.is_subset(&parent));
    }
});
