//! The guest SDK in every kind of build: program and library, both targets, debug and optimised.

use refcap::{Capability, Captured, Limits, Output, Program, RunError, SpawnerTerms, ambient_authority};

use crate::support::commands::guest;
use crate::support::{engine, net, program, servers};

const NAMES: [&str; 4] = ["probe", "probe-unknown", "probe_lib", "probe_lib-unknown"];
const PROFILES: [&str; 2] = ["release", "debug"];

fn load(profile: &str, name: &str) -> Program {
    let bytes = std::fs::read(guest(profile, name)).unwrap();
    Program::load(engine(), &bytes).unwrap_or_else(|error| panic!("{profile}/{name}: {error}"))
}

/// What the probe starts: it reads once from its stream and exits with the sum of the bytes, or, where it is given a Net,
/// computes for ever.
fn reads() -> Program {
    program(
        r#"(module
  (@custom "refcap.endowments" "stream TcpStream required\nnet Net optional\n")
  (import "refcap_v1" "socket_wait" (func $wait (param externref i32 i32) (result i32)))
  (import "refcap_v1" "stream_read" (func $read (param externref i32 i32) (result i32)))
  (memory (export "memory") 1)
  (table $slots 2 externref)
  (global $granted (mut i32) (i32.const 0))
  (func (export "refcap_grant") (param externref) (result i32)
    (table.set $slots (global.get $granted) (local.get 0))
    (global.set $granted (i32.add (global.get $granted) (i32.const 1)))
    (i32.const 0))
  (func (export "refcap_start") (result i32)
    (block $sum (loop $again
      (br_if $sum (ref.is_null (table.get $slots (i32.const 1))))
      (br $again)))
    (drop (call $wait (table.get $slots (i32.const 0)) (i32.const 1) (i32.const 0)))
    (drop (call $read (table.get $slots (i32.const 0)) (i32.const 0) (i32.const 3)))
    (i32.add (i32.load8_u (i32.const 0))
      (i32.add (i32.load8_u (i32.const 1)) (i32.load8_u (i32.const 2))))))"#,
    )
}

#[tokio::test]
async fn the_sdk_works_in_every_kind_of_build() {
    let server = servers::echo().await;
    for profile in PROFILES {
        for name in NAMES {
            let program = load(profile, name);
            let grant = net(&format!("connect tcp {server}"));
            let errors = Captured::new(1 << 16);
            let vat = program
                .vat()
                .grant("net", &grant)
                .stderr(Output::Capture(errors.clone()));
            let mut vat = vat.start().await.unwrap();
            let late = net("connect tcp 192.0.2.1:1");
            vat.handle().grant("late", &late);
            let terms = SpawnerTerms::new()
                .program("reads", &reads())
                .loads(engine(), 1 << 10);
            let spawner = Capability::spawner("spawner", terms, ambient_authority()).unwrap();
            vat.handle().grant("spawner", &spawner);
            let exit = vat
                .run()
                .await
                .unwrap_or_else(|error| panic!("{profile}/{name}: {error}"));
            let said = (exit.report, errors.text());
            assert_eq!((exit.code, said), (0, (None, String::new())), "{profile}/{name}");
            // Everything was dropped, and so closed, but what `main` was still borrowing.
            assert_eq!(vat.handle().sockets(), 0, "{profile}/{name}");
            assert_eq!(vat.capabilities(), 0, "{profile}/{name}");
        }
    }
}

#[tokio::test]
async fn errors_and_panics_reach_whoever_runs_the_program() {
    for name in NAMES {
        let program = load("release", name);
        let grant = net("");
        let errors = Captured::new(1 << 16);
        let vat = program
            .vat()
            .grant("net", &grant)
            .stderr(Output::Capture(errors.clone()));
        let exit = vat.start().await.unwrap().run().await.unwrap();
        assert_eq!(exit.code, 1, "{name}");
        let said = errors.text() + exit.report.as_deref().unwrap_or_default();
        assert!(said.contains("nothing to connect to in ``"), "{name}: {said}");

        let errors = Captured::new(1 << 16);
        let vat = program.vat().grant("net", &grant).grant("more", &grant);
        let vat = vat
            .stderr(Output::Capture(errors.clone()))
            .limits(Limits::default());
        let error = vat.start().await.unwrap().run().await.unwrap_err();
        let RunError::Trap { report, .. } = error else {
            panic!("{name}: {error}");
        };
        let said = errors.text() + report.as_deref().unwrap_or_default();
        assert!(said.contains("the probe was told to panic"), "{name}: {said}");
    }
}

#[test]
fn a_guest_imports_only_what_it_uses() {
    let inspection = refcap::inspect(&std::fs::read(guest("release", "fetch")).unwrap());
    let names: Vec<_> = inspection
        .imports
        .iter()
        .map(|import| import.name.as_str())
        .collect();
    assert!(names.contains(&"net_connect"), "{names:?}");
    for unused in [
        "net_except",
        "net_revocable",
        "revoker_revoke",
        "grant_take",
        "stream_shutdown",
    ] {
        assert!(!names.contains(&unused), "{names:?}");
    }
    assert_eq!(inspection.refusals, []);
}

#[test]
fn a_guest_with_tasks_that_serves_nobody_can_not_serve() {
    let inspection = refcap::inspect(&std::fs::read(guest("release", "http-server")).unwrap());
    let imports = |name: &str| inspection.imports.iter().any(|import| import.name == name);
    assert!(imports("poller_wait"));
    for unused in [
        "poller_add_calls",
        "object_serve",
        "object_as_net",
        "membrane_new",
        "stream_pair",
    ] {
        assert!(!imports(unused), "{unused}");
    }
}
