//! The load gate on any bytes: it answers, and the engine agrees with what it lets through.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use refcap::{LoadError, Program, Runtime, inspect};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("this machine runs wasmtime"));

fuzz_target!(|bytes: &[u8]| {
    let accepted = inspect(bytes).refusals.is_empty();
    match Program::load(&RUNTIME, bytes) {
        Ok(_) => assert!(accepted),
        Err(LoadError::Refused(_)) => assert!(!accepted),
        Err(_) => {}
    }
});
