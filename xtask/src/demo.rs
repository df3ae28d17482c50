//! `cargo xtask demo`

use anyhow::Result;
use clap::Args;

use crate::guests::Guests;
use crate::run::{cargo, root, run};

/// Show what a capability is: granted, derived, allowed, refused and revoked.
///
/// The host is runtime/examples/demo.rs and the guest examples/demo. The host starts the servers that the
/// guest talks to, on 127.0.0.1, and nothing else is needed.
#[derive(Debug, Args)]
pub(crate) struct Demo {}

impl Demo {
    pub(crate) fn run(&self) -> Result<()> {
        Guests {}.run()?;
        let guest = root().join("target/guests/release/demo.wasm");
        run(cargo()
            .args(["run", "--quiet", "--package", "refcap", "--example", "demo", "--"])
            .arg(guest))
    }
}
