//! The guest SDK in every kind of build: program and library, both targets, debug and optimised.

use refcap::{Captured, Limits, Output, Program, RunError};

use crate::support::commands::guest;
use crate::support::{engine, net, servers};

const NAMES: [&str; 4] = ["probe", "probe-unknown", "probe_lib", "probe_lib-unknown"];
const PROFILES: [&str; 2] = ["release", "debug"];

fn load(profile: &str, name: &str) -> Program {
    let bytes = std::fs::read(guest(profile, name)).unwrap();
    Program::load(engine(), &bytes).unwrap_or_else(|error| panic!("{profile}/{name}: {error}"))
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
