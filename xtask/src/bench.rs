//! `cargo xtask bench`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::run::{cargo, root, run};
use crate::toolchain::Toolchain;

/// The benchmark is a workspace of its own.
pub(crate) const MANIFEST: &str = "bench/Cargo.toml";

/// Guests that take part: where they are, what they are called, and what they are built for.
const GUESTS: &[(&str, &str, &str)] = &[
    ("bench/guests", "bench-sdk", "wasm32-unknown-unknown"),
    ("bench/guests", "bench-externref-crate", "wasm32-unknown-unknown"),
    ("bench/guests", "bench-std-net", "wasm32-wasip2"),
    ("examples", "http-server", "wasm32-wasip1"),
];

/// The workspace of those that are nothing else.
pub(crate) const GUESTS_MANIFEST: &str = "bench/guests/Cargo.toml";

/// Where it is built.
pub(crate) fn target_folder() -> PathBuf {
    root().join("target/bench")
}

/// Measure what references cost, beside integer descriptors and what others use. Builds for some minutes at
/// first; `cargo xtask bench -- --help` says what can be measured.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Leave out the largest sizes, and measure each less often: under three minutes.
    #[arg(long)]
    quick: bool,

    /// Print each result as an object of JSON on a line of standard output, and write no report.
    #[arg(long)]
    json: bool,

    /// Count instructions under callgrind instead of measuring time, and write them to bench/results/counts.csv. Needs
    /// valgrind.
    #[arg(long, conflicts_with_all = ["json", "quick", "groups"])]
    counts: bool,

    /// Count instructions, and compare them with bench/results/counts.csv instead of writing it: fails if something takes
    /// more than two in a hundred more.
    #[arg(long, conflicts_with_all = ["json", "quick", "groups"])]
    compare: bool,

    /// Groups of rows to measure, and further arguments behind `--`.
    #[arg(value_name = "GROUP")]
    groups: Vec<String>,

    /// Further arguments for the benchmark.
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Bench {
    pub(crate) fn run(&self) -> Result<()> {
        for (workspace, package, target) in GUESTS {
            // The benchmark says which rows it leaves out for that.
            if let Err(error) = build_guest(workspace, package, target) {
                eprintln!("{package} can't be built for {target}: {error:#}");
            }
        }
        let mut bench = cargo();
        // Its results may be read by a script: what cargo says goes elsewhere.
        bench.args(["run", "--quiet", "--release", "--manifest-path", MANIFEST]);
        bench.arg("--target-dir").arg(target_folder()).arg("--");
        bench.args(self.quick.then_some("--quick"));
        bench.args(self.json.then_some("--json"));
        bench.args(self.counts.then_some("--counts"));
        bench.args(self.compare.then_some("--compare"));
        bench.args(&self.groups).args(&self.arguments);
        run(&mut bench)
    }
}

fn build_guest(workspace: &str, package: &str, target: &str) -> Result<()> {
    let toolchain = Toolchain::for_targets(&[target.to_owned()])?;
    let mut build = toolchain.cargo("build", target);
    build.args(["--quiet", "--release", "--package", package, "--manifest-path"]);
    build.arg(root().join(workspace).join("Cargo.toml"));
    // Examples are built for their size; what they are compared with here is built for speed, as these are.
    build.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3");
    // `models::guest_module` of the benchmark looks for it there.
    build.arg("--target-dir").arg(target_folder().join("guests"));
    run(&mut build)
}
