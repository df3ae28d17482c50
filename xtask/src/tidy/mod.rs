//! `cargo xtask tidy`

use anyhow::{Result, bail};
use clap::Args;

use crate::bench::{GUESTS_MANIFEST as BENCH_GUESTS, MANIFEST as BENCH, target_folder as bench_folder};
use crate::guests::{build_folder, workspaces};
use crate::run::{cargo, root, run};
use crate::toolchain::Toolchain;
use tree::Tree;

mod invariants;
mod manifests;
mod sources;
mod tree;

/// Check what a reviewer should not have to: format, lints and the project's own conventions.
#[derive(Debug, Args)]
pub(crate) struct Tidy {}

impl Tidy {
    pub(crate) fn run(&self) -> Result<()> {
        // The quick ones first; all of them are shown at once.
        let tree = Tree::read(&root())?;
        let mut problems = sources::check(&tree);
        problems.extend(manifests::check(&tree));
        problems.extend(invariants::check(&tree));
        if !problems.is_empty() {
            for problem in &problems {
                eprintln!("{problem}");
            }
            bail!("{} things are not tidy", problems.len());
        }
        format()?;
        lints()
    }
}

fn format() -> Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    run(cargo().args(["fmt", "--check", "--manifest-path", BENCH]))?;
    run(cargo().args(["fmt", "--all", "--check", "--manifest-path", BENCH_GUESTS]))?;
    for workspace in workspaces()? {
        // A workspace without a package of its own: `--all` is the only way to name its members.
        run(cargo()
            .args(["fmt", "--all", "--check", "--manifest-path"])
            .arg(&workspace.manifest))?;
    }
    Ok(())
}

fn lints() -> Result<()> {
    const DENY: [&str; 3] = ["--", "-D", "warnings"];
    run(cargo()
        .args(["clippy", "--quiet", "--all-targets", "--manifest-path", BENCH])
        .arg("--target-dir")
        .arg(bench_folder())
        .args(DENY))?;
    run(cargo()
        .args(["clippy", "--quiet", "--workspace", "--all-targets"])
        .args(DENY))?;
    // For this machine: not every toolchain has all the targets of these.
    run(cargo()
        .args([
            "clippy",
            "--quiet",
            "--workspace",
            "--manifest-path",
            BENCH_GUESTS,
        ])
        .arg("--target-dir")
        .arg(bench_folder().join("guests"))
        .args(DENY))?;
    for workspace in workspaces()? {
        let targets = workspace.targets();
        let toolchain = Toolchain::for_targets(&targets)?;
        for target in targets {
            let mut clippy = toolchain.cargo("clippy", &target);
            clippy.arg("--quiet").args(workspace.packages_for(&target));
            clippy.arg("--manifest-path").arg(&workspace.manifest);
            // The SDK is a dependency here, and linted in the form that it has in guests.
            run(clippy.arg("--target-dir").arg(build_folder()).args(DENY))?;
        }
    }
    Ok(())
}
