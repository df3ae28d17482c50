//! What Rust programs put between others and what they have: Nets that they implement, membranes, pairs of streams. What
//! they try stands in `tests/guests/between`; they panic where something is not as it should be.

use refcap::{Capability, Captured, ChildOutput, Limits, Output, SpawnerTerms, ambient_authority};

use crate::interfaces::{PROFILES, TARGETS, load, run};
use crate::support::{SOON, net, servers};

#[tokio::test]
async fn rust_programs_implement_nets_cut_membranes_and_serve_while_they_wait_for_sockets() {
    let server = servers::echo().await;
    let grant = net(&format!("connect tcp {server}"));
    for profile in PROFILES {
        for target in TARGETS {
            let client = load(profile, &format!("between-client{target}"), &[]);
            let errors = Captured::new(1 << 16);
            let terms = SpawnerTerms::new()
                .program("client", &client)
                .output(ChildOutput::To(Output::Capture(errors.clone())));
            let spawner = Capability::spawner("spawner", terms, ambient_authority()).unwrap();
            let between = load(profile, &format!("between{target}"), &[]);
            let vat = between.vat().grant("net", &grant).grant("spawner", &spawner);
            let vat = vat
                .stderr(Output::Capture(errors.clone()))
                .limits(Limits::default().wall_time(SOON));
            let (ended, said) = run(vat.start().await.unwrap(), &errors, 0).await;
            let code = ended
                .unwrap_or_else(|error| panic!("{profile}{target}: {error}: {said}"))
                .code;
            assert_eq!((code, said.as_str()), (0, ""), "{profile}{target}");
            assert_eq!(grant.lineage().len(), 1, "nothing is left of what was derived");
        }
    }
}
