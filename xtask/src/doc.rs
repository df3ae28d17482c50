//! `cargo xtask doc`

use anyhow::Result;
use clap::Args;

use crate::run::{cargo, run};

/// Build the documentation. A broken link in it is an error.
#[derive(Debug, Args)]
pub(crate) struct Doc {
    /// Open it in a browser.
    #[arg(long)]
    open: bool,
}

impl Doc {
    pub(crate) fn run(&self) -> Result<()> {
        let mut doc = cargo();
        doc.args(["doc", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "-D warnings");
        if self.open {
            doc.arg("--open");
        }
        run(&mut doc)
    }
}
