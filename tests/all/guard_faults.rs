//! Guards that fail, and modules that are no guards: nothing is allowed, and the host goes on.

use refcap::{ErrorCode, Guard, GuardError};

use crate::guards::{guard, guarded, module, says};
use crate::support::servers::Silent;
use crate::support::{Puppet, net};

/// Guards that fail, and what the guest is told then.
fn failing() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let check = |body: &str| {
        guard(&format!(
            r#"(func $check (export "refcap_guard_check") (result i32) {body})"#
        ))
    };
    vec![
        ("loops", check("(loop $l (br $l)) (unreachable)"), "units of fuel"),
        ("traps", check("(unreachable)"), "trapped"),
        (
            "divides by zero",
            check("(i32.div_u (i32.const 1) (i32.const 0))"),
            "trapped",
        ),
        ("reads outside", check("(i32.load (i32.const 65536))"), "trapped"),
        (
            "nests too deep",
            check("(i32.add (call $check) (i32.const 1))"),
            "call stack exhausted",
        ),
        (
            "grows",
            check("(drop (memory.grow (i32.const 31))) (drop (memory.grow (i32.const 1))) (i32.const 1)"),
            "bytes of memory",
        ),
        (
            "grows much",
            check("(drop (memory.grow (i32.const 60000))) (i32.const 1)"),
            "bytes of memory",
        ),
        (
            "fills",
            check(
                "(loop $l (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536)) (br $l)) (unreachable)",
            ),
            "units of fuel",
        ),
    ]
}

#[tokio::test]
async fn a_guard_that_loops_traps_or_grows_denies_from_then_on_and_the_host_goes_on() {
    let mut server = Silent::start().await;
    for (what, module, why) in failing() {
        let mut guest = guarded(&net("connect tcp 127.0.0.1:*"), &module).await;
        for round in 0..3 {
            let result = guest.connect(3, 2, server.address).await;
            assert_eq!(result, Err(ErrorCode::Denied), "{what}");
            let message = guest.error_message().await;
            assert!(message.contains("the guard "), "{what}: {message}");
            assert!(message.contains(why), "{what}, round {round}: {message}");
            assert!(
                message.contains("from then on everything is denied"),
                "{what}: {message}"
            );
        }
        guest.connect(3, 1, server.address).await.unwrap();
        // One connection for each of them, which is the last one.
        server.next().await;
    }
    assert_eq!(server.visits(), failing().len());
}

#[tokio::test]
async fn a_guard_that_failed_stays_dead_and_one_that_answered_nonsense_may_do_better() {
    let server = Silent::start().await;
    let grant = net("connect tcp 127.0.0.1:*");
    // Traps at the first question, and would say yes to the second.
    let first = "(if (i64.eqz (i64.load offset=64 (i32.const 0))) (then (unreachable))) (i32.const 1)";
    let mut guest = guarded(&grant, &says(first)).await;
    for _ in 0..3 {
        assert_eq!(guest.connect(3, 2, server.address).await, Err(ErrorCode::Denied));
    }
    for nonsense in [2, -1, i32::MAX, i32::MIN, 256] {
        let answer = format!(
            "(select (i32.const {nonsense}) (i32.const 1) (i64.eqz (i64.load offset=64 (i32.const 0))))"
        );
        let mut guest = guarded(&grant, &says(&answer)).await;
        assert_eq!(guest.connect(3, 2, server.address).await, Err(ErrorCode::Denied));
        let why = guest.error_message().await;
        assert!(
            why.contains(&format!("answered {nonsense} to connect tcp")),
            "{why}"
        );
        guest.connect(3, 2, server.address).await.unwrap();
    }
}

// Fuel counts instructions and not time, so a guard answers everywhere or nowhere.
#[tokio::test]
async fn a_check_has_its_fuel_anew_and_no_more() {
    let server = Silent::start().await;
    let count = |turns: u64| {
        guard(&format!(
            r#"(func (export "refcap_guard_check") (result i32) (local $i i32)
                (loop $l (br_if $l (i32.lt_u
                    (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {turns}))))
                (i32.const 1))"#
        ))
    };
    // Seven instructions a turn.
    let most = refcap::GUARD_FUEL / 7;
    let mut guest = guarded(&net("connect tcp 127.0.0.1:*"), &count(most)).await;
    for _ in 0..5 {
        guest.connect(3, 2, server.address).await.unwrap();
    }
    let mut guest = guarded(&net("connect tcp 127.0.0.1:*"), &count(most * 2)).await;
    assert_eq!(guest.connect(3, 2, server.address).await, Err(ErrorCode::Denied));
}

/// Modules that are no guards, and what is wrong with each.
fn refused() -> Vec<(Vec<u8>, &'static str)> {
    const MEMORY: &str = r#"(memory (export "memory") 1)"#;
    const RECORD: &str = r#"(global (export "refcap_guard_record") i32 (i32.const 0))"#;
    const CHECK: &str = r#"(func (export "refcap_guard_check") (result i32) (i32.const 1))"#;
    let with = |fields: &[&str]| module(&fields.join(" "));
    vec![
        (vec![], "not a WebAssembly file"),
        (b"\0asm\x01".to_vec(), "not valid"),
        (b"\0asm\x0d\0\x01\0".to_vec(), "component"),
        (with(&[RECORD, CHECK]), "must export `memory`"),
        (with(&[MEMORY, CHECK]), "must export `refcap_guard_record`"),
        (with(&[MEMORY, RECORD]), "must export `refcap_guard_check`"),
        (
            with(&[
                MEMORY,
                r#"(global (export "refcap_guard_record") (mut i32) (i32.const 0))"#,
                CHECK,
            ]),
            "a constant global of type i32",
        ),
        (
            with(&[
                MEMORY,
                r#"(global (export "refcap_guard_record") i64 (i64.const 0))"#,
                CHECK,
            ]),
            "a constant global of type i32",
        ),
        (
            with(&[MEMORY, RECORD, r#"(func (export "refcap_guard_check"))"#]),
            "a function of type () -> (i32)",
        ),
        (
            with(&[
                MEMORY,
                RECORD,
                r#"(func (export "refcap_guard_check") (param i32) (result i32) (i32.const 1))"#,
            ]),
            "a function of type () -> (i32)",
        ),
        (
            with(&[
                r#"(import "refcap_v1" "time_now" (func (param i32 i32) (result i32)))"#,
                MEMORY,
                RECORD,
                CHECK,
            ]),
            "imports `time_now` from `refcap_v1`",
        ),
        (
            with(&[
                r#"(import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))"#,
                MEMORY,
                RECORD,
                CHECK,
            ]),
            "imports `random_get`",
        ),
        (
            with(&[
                r#"(import "env" "memory" (memory 1))"#,
                RECORD,
                CHECK,
                r#"(export "memory" (memory 0))"#,
            ]),
            "imports `memory` from `env`",
        ),
        (
            with(&[r#"(memory (export "memory") 33)"#, RECORD, CHECK]),
            "begins with 2162688 bytes of memory",
        ),
        (
            with(&[
                MEMORY,
                r#"(global (export "refcap_guard_record") i32 (i32.const 65201))"#,
                CHECK,
            ]),
            "does not lie inside its memory",
        ),
        (
            with(&[
                MEMORY,
                r#"(global (export "refcap_guard_record") i32 (i32.const -1))"#,
                CHECK,
            ]),
            "does not lie inside its memory",
        ),
        (
            with(&[MEMORY, RECORD, CHECK, "(func $f unreachable) (start $f)"]),
            "could not be started",
        ),
        (
            with(&[MEMORY, RECORD, CHECK, "(func $f (loop $l (br $l))) (start $f)"]),
            "could not be started",
        ),
        (
            with(&[MEMORY, RECORD, CHECK, "(table 10001 funcref)"]),
            "could not be started",
        ),
        (with(&[MEMORY, RECORD, CHECK, "(table 1 externref)"]), "not valid"),
        (with(&[MEMORY, RECORD, CHECK, "(memory 1)"]), "not valid"),
        (
            with(&[
                MEMORY,
                RECORD,
                CHECK,
                "(func (drop (i32.atomic.load (i32.const 0))))",
            ]),
            "not valid",
        ),
    ]
}

#[tokio::test]
async fn what_is_no_guard_is_refused_with_a_reason() {
    let mut guest = Puppet::start(&net("connect tcp 127.0.0.1:*")).await;
    for (module, why) in refused() {
        assert_eq!(
            guest.guard(2, &module).await,
            Err(ErrorCode::BadArgument),
            "{why}"
        );
        let message = guest.error_message().await;
        assert!(message.contains(why), "`{why}` is not in `{message}`");
        assert_eq!(guest.raw("is_null", &[2]).await, 1);
        let error = Guard::compile("x", &module).unwrap_err().to_string();
        assert_eq!(error, message);
    }
    // A record at the very end fits.
    let fits = module(
        r#"(memory (export "memory") 1) (global (export "refcap_guard_record") i32 (i32.const 65200))
           (func (export "refcap_guard_check") (result i32) (i32.const 1))"#,
    );
    guest.guard(2, &fits).await.unwrap();
}

#[test]
fn a_guard_that_is_too_large_is_refused() {
    let long = vec![0; refcap::MAX_GUARD_BYTES + 1];
    assert!(matches!(
        Guard::compile("x", &long),
        Err(GuardError::TooLarge { .. })
    ));
    let large = |count: usize| format!("(func {})", "(drop (i32.const 1)) ".repeat(count));
    let locals = format!("(func (local {}))", "i64 ".repeat(5_001));
    for (functions, what) in [
        (
            large(2_000).repeat(refcap::MAX_GUARD_CODE / 6_000 + 1),
            "bytes of code",
        ),
        (large(3_000), "bytes in one function"),
        (locals.repeat(2), "local variables"),
    ] {
        let much = guard(&format!(
            r#"(func (export "refcap_guard_check") (result i32) (i32.const 1)) {functions}"#
        ));
        let error = Guard::compile("x", &much).unwrap_err();
        assert!(matches!(error, GuardError::TooMuchCode { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
}
