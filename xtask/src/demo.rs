//! `cargo xtask demo`

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::guests::Guests;
use crate::programs::{build_programs, program};
use crate::run::{root, run};

/// Show what a capability is: granted, derived, allowed, refused and revoked.
///
/// The host is runtime/examples/demo.rs and the guest examples/demo. The host starts the servers that the
/// guest talks to, on 127.0.0.1, and nothing else is needed.
#[derive(Debug, Args)]
pub(crate) struct Demo {}

impl Demo {
    pub(crate) fn run(&self) -> Result<()> {
        Guests {}.run()?;
        build_programs(&[])?;
        let guest = root().join("target/guests/release/demo.wasm");
        let host = program("examples/demo");
        run(Command::new(host).current_dir(root()).arg(guest))
    }
}
