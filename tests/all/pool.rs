//! Vats in places of a pool do what others do, and leave nothing behind. `REFCAP_POOLED` runs all other tests in a
//! pool.

use refcap::{Capability, ErrorCode, LoadError, PoolSize, Program, Runtime, StartError, Vat};

use crate::support::servers::{Silent, closed};
use crate::support::{Puppet, net};

const RULES: &str = "connect tcp 127.0.0.1:*";

fn pooled(size: PoolSize) -> Runtime {
    let runtime = Runtime::builder().pooled(size).build();
    runtime.unwrap_or_else(|error| panic!("{error}"))
}

async fn start(runtime: &Runtime, wat: &str, net: &Capability) -> Result<Vat, StartError> {
    let program = Program::load(runtime, &wat::parse_str(wat).unwrap()).unwrap();
    program.vat().grant("net", net).start().await
}

#[tokio::test]
async fn a_pooled_vat_connects_is_revoked_and_has_its_limits() {
    let mut server = Silent::start().await;
    let runtime = pooled(PoolSize::vats(2));
    let net = net(RULES);
    let mut guest = Puppet::start_in(&runtime, &net).await.unwrap();
    guest.only(2, 1, RULES).await.unwrap();
    guest.connect(3, 2, server.address).await.unwrap();
    let (mut peer, _) = server.next().await;
    assert_eq!(
        guest.call("stream_read", &[3, 1024, 1]).await,
        Err(ErrorCode::WouldBlock)
    );
    net.revoke();
    assert_eq!(
        guest.call("stream_read", &[3, 1024, 1]).await,
        Err(ErrorCode::Revoked)
    );
    closed(&mut peer).await;
}

#[tokio::test]
async fn a_full_pool_is_an_error_and_a_vat_that_ends_makes_room() {
    let runtime = pooled(PoolSize::vats(2));
    let net = net(RULES);
    // More often than there are places of any kind, so that each is given back.
    for _ in 0..10 {
        let first = Puppet::start_in(&runtime, &net).await.unwrap();
        let mut second = Puppet::start_in(&runtime, &net).await.unwrap();
        let third = Puppet::start_in(&runtime, &net).await;
        let error = third.err().expect("there are two places");
        assert!(matches!(error, StartError::PoolFull(2)), "{error}");
        assert!(error.to_string().contains("room for 2 programs"), "{error}");
        // Those that have a place go on.
        second.only(2, 1, RULES).await.unwrap();
        drop(first);
        Puppet::start_in(&runtime, &net).await.unwrap();
    }
}

/// Writes into its memory, its table and a global, or says how much of that it found.
const TRACES: &str = r#"(module
  (@custom "refcap.endowments" "net Net required\n")
  (import "refcap_v1" "cap_kind" (func $kind (param externref) (result i32)))
  (memory (export "memory") 4)
  (table $t 100 externref)
  (global $net (mut externref) (ref.null extern))
  (func (export "refcap_grant") (param externref) (result i32)
    (global.set $net (local.get 0)) (i32.const 1))
  (func (export "refcap_start") (result i32) (i32.const 0))
  (func (export "mark")
    (memory.fill (i32.const 0) (i32.const 0xaa) (i32.const 262144))
    (drop (memory.grow (i32.const 4)))
    (i32.store (i32.const 500000) (i32.const 1))
    (drop (table.grow $t (global.get $net) (i32.const 1000)))
    (table.fill $t (i32.const 0) (global.get $net) (i32.const 1100)))
  (func (export "found") (result i32)
    (local $at i32) (local $found i32)
    (loop $bytes
      (local.set $found (i32.add (local.get $found) (i32.ne (i32.load (local.get $at)) (i32.const 0))))
      (br_if $bytes (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4))) (i32.const 262144))))
    (drop (memory.grow (i32.const 4)))
    (local.set $found (i32.add (local.get $found) (i32.load (i32.const 500000))))
    (drop (table.grow $t (ref.null extern) (i32.const 1000)))
    (local.set $at (i32.const 0))
    (loop $places
      (local.set $found
        (i32.add (local.get $found) (i32.eqz (ref.is_null (table.get $t (local.get $at))))))
      (br_if $places (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 1100))))
    ;; Its own net is a Net.
    (i32.add (local.get $found) (i32.ne (call $kind (global.get $net)) (i32.const 1)))))"#;

#[tokio::test]
async fn a_place_has_nothing_of_the_vat_before() {
    let runtime = pooled(PoolSize::vats(1));
    let net = net(RULES);
    for _ in 0..5 {
        let mut first = start(&runtime, TRACES, &net).await.unwrap();
        first.call_export("mark", &[]).await.unwrap();
        assert_ne!(first.call_export("found", &[]).await.unwrap(), Some(0));
        drop(first);
        let mut second = start(&runtime, TRACES, &net).await.unwrap();
        assert_eq!(second.call_export("found", &[]).await.unwrap(), Some(0));
    }
}

#[tokio::test]
async fn what_does_not_fit_into_a_place_says_so() {
    let runtime = pooled(PoolSize::vats(1).memory(1 << 20).table_elements(10));
    let load = |wat: &str| Program::load(&runtime, &wat::parse_str(wat).unwrap());
    for (wat, what) in [
        ("(module (memory (export \"memory\") 17))", "memory"),
        ("(module (table 11 externref))", "table"),
    ] {
        match load(wat) {
            Err(LoadError::Compile(message)) => assert!(message.contains(what), "{message}"),
            other => panic!("{other:?}"),
        }
    }
    // What fits at first can't grow beyond.
    let grows = r#"(module
      (@custom "refcap.endowments" "net Net required\n")
      (memory (export "memory") 16)
      (func (export "refcap_grant") (param externref) (result i32) (i32.const 1))
      (func (export "refcap_start") (result i32) (i32.const 0))
      (func (export "grow") (result i32) (memory.grow (i32.const 1))))"#;
    let mut vat = start(&runtime, grows, &net(RULES)).await.unwrap();
    assert_eq!(vat.call_export("grow", &[]).await.unwrap(), Some(-1));
}

#[test]
fn a_pool_that_can_not_be_is_refused() {
    let refused = |builder: refcap::RuntimeBuilder, what: &str| {
        let error = builder.build().expect_err(what).to_string();
        assert!(error.contains(what), "{error}");
    };
    let size = PoolSize::vats(1);
    refused(
        Runtime::builder().pooled(size.clone()).dense(true),
        "pooled or dense",
    );
    refused(
        Runtime::builder().pooled(size.memory((4 << 30) + 1)),
        "4 GiB of memory",
    );
    refused(
        Runtime::builder().pooled(PoolSize::vats(0)),
        "room for one vat at least",
    );
    refused(
        Runtime::builder().pooled(PoolSize::vats(1 << 30)),
        "address space",
    );
}
