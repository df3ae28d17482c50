//! The native programs of the workspace.

use std::env::consts::EXE_SUFFIX;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::run::{cargo, root, run};

/// Builds the `refcap` command and the host examples, with cargo's arguments for a profile, if any.
///
/// The whole workspace at once, as the tests are built: cargo gives the packages that are built together
/// one set of features, so a smaller choice would compile the engine a second time.
pub(crate) fn build_programs(profile: &[&String]) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--workspace", "--bins", "--examples"]);
    run(build.args(profile))
}

/// Where a program is once it is built: `refcap`, or `examples/NAME`.
pub(crate) fn program(name: &str) -> PathBuf {
    let folder = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(Path::new(&folder)),
        None => root().join("target"),
    };
    folder.join("debug").join(format!("{name}{EXE_SUFFIX}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_in_the_target_folder() {
        assert!(program("examples/demo").ends_with(format!("debug/examples/demo{EXE_SUFFIX}")));
    }
}
