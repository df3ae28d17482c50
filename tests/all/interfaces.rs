//! Interfaces between Rust programs: linked in one vat, and in vats of their own. What they try stands in
//! `tests/guests/typed`; they panic where something is not as it should be.

use refcap::{
    Capability, Captured, ChildOutput, Exit, Limits, Output, Program, RunError, SpawnerTerms, Vat,
    ambient_authority,
};

use crate::support::commands::guest;
use crate::support::{SOON, engine, net, servers, soon};

pub(crate) const PROFILES: [&str; 2] = ["release", "debug"];
/// What a guest's name has at its end, for each target.
pub(crate) const TARGETS: [&str; 2] = ["", "-unknown"];

pub(crate) fn load(profile: &str, name: &str, links: &[(&str, &Program)]) -> Program {
    let bytes = std::fs::read(guest(profile, name)).unwrap();
    Program::load_linked(engine(), &bytes, links).unwrap_or_else(|error| panic!("{profile}/{name}: {error}"))
}

/// The program that is linked to another one.
fn app(profile: &str, target: &str) -> Program {
    let shelf = load(profile, &format!("typed{target}"), &[]);
    load(profile, &format!("typed-app{target}"), &[("shelf", &shelf)])
}

/// Runs a program, which holds so many capabilities at its end, and returns what it said too.
pub(crate) async fn run(mut vat: Vat, errors: &Captured, kept: usize) -> (Result<Exit, RunError>, String) {
    let ended = soon(vat.run()).await;
    let report = match &ended {
        Ok(exit) => exit.report.clone(),
        Err(RunError::Trap { report, .. }) => report.clone(),
        Err(_) => None,
    };
    if ended.is_ok() {
        assert_eq!(vat.handle().sockets(), 0);
        assert_eq!(vat.capabilities(), kept, "all else was dropped, and so closed");
    }
    (ended, errors.text() + report.as_deref().unwrap_or_default())
}

/// Runs a program that is granted `net` and a Spawner for another one, and returns what both said. It exits with 0.
pub(crate) async fn parent_and_child(parent: &Program, net: &Capability, child: (&str, &Program)) -> String {
    let errors = Captured::new(1 << 16);
    let terms = SpawnerTerms::new()
        .program(child.0, child.1)
        .output(ChildOutput::To(Output::Capture(errors.clone())));
    let spawner = Capability::spawner("spawner", terms, ambient_authority()).unwrap();
    let vat = parent.vat().grant("net", net).grant("spawner", &spawner);
    let vat = vat
        .stderr(Output::Capture(errors.clone()))
        .limits(Limits::default().wall_time(SOON));
    let (ended, said) = run(vat.start().await.unwrap(), &errors, 0).await;
    let code = ended.unwrap_or_else(|error| panic!("{error}: {said}")).code;
    assert_eq!(code, 0, "{said}");
    said
}

#[tokio::test]
async fn capabilities_and_interfaces_cross_between_linked_programs() {
    let server = servers::echo().await;
    let grant = net(&format!("connect tcp {server}"));
    for profile in PROFILES {
        for target in TARGETS {
            let errors = Captured::new(1 << 16);
            let program = app(profile, target);
            let vat = program.vat().grant("net", &grant);
            let vat = vat
                .stderr(Output::Capture(errors.clone()))
                .limits(Limits::default().wall_time(SOON));
            // The library is not told before it is called again that nobody holds its store, which has a watcher.
            let (ended, said) = run(vat.start().await.unwrap(), &errors, 1).await;
            let code = ended
                .unwrap_or_else(|error| panic!("{profile}{target}: {error}: {said}"))
                .code;
            assert_eq!((code, said.as_str()), (0, ""), "{profile}{target}");
            assert_eq!(grant.lineage().len(), 1, "nothing is left of what was derived");
        }
    }
}

#[tokio::test]
async fn a_callee_that_panics_ends_its_vat_with_its_caller() {
    let server = servers::echo().await;
    let grant = net(&format!("connect tcp {server}"));
    for target in TARGETS {
        let errors = Captured::new(1 << 16);
        let program = app("release", target);
        let vat = program.vat().grant("net", &grant).grant("more", &grant);
        let vat = vat.stderr(Output::Capture(errors.clone()));
        let mut vat = vat.start().await.unwrap();
        let ended = soon(vat.run()).await;
        assert!(matches!(ended, Err(RunError::Trap { .. })), "{target}: {ended:?}");
    }
}

#[tokio::test]
async fn an_interface_is_called_from_another_vat_and_calls_back() {
    let server = servers::echo().await;
    let grant = net(&format!("connect tcp {server}"));
    for profile in PROFILES {
        for target in TARGETS {
            let caller = load(profile, &format!("typed-caller{target}"), &[]);
            let keeper = load(profile, &format!("typed-keeper{target}"), &[]);
            let said = parent_and_child(&keeper, &grant, ("caller", &caller)).await;
            // On the other target a panic is in the child's report, which ends with it.
            if target.is_empty() {
                assert!(said.contains("the watcher was told to panic"), "{said}");
            }
            assert_eq!(grant.lineage().len(), 1, "nothing is left of what was derived");
        }
    }
}
