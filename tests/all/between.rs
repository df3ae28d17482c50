//! What Rust programs put between others and what they have: Nets that they implement, membranes, pairs of streams. What
//! they try stands in `tests/guests/between`; they panic where something is not as it should be.

use crate::interfaces::{PROFILES, TARGETS, load, parent_and_child};
use crate::support::{net, servers};

#[tokio::test]
async fn rust_programs_implement_nets_cut_membranes_and_serve_while_they_wait_for_sockets() {
    let server = servers::echo().await;
    let grant = net(&format!("connect tcp {server}"));
    for profile in PROFILES {
        for target in TARGETS {
            let client = load(profile, &format!("between-client{target}"), &[]);
            let between = load(profile, &format!("between{target}"), &[]);
            let said = parent_and_child(&between, &grant, ("client", &client)).await;
            assert_eq!(said, "", "{profile}{target}");
            assert_eq!(grant.lineage().len(), 1, "nothing is left of what was derived");
        }
    }
}
