//! `cargo xtask test`

use anyhow::Result;
use clap::Args;

use crate::guests::{Guests, build_folder};
use crate::programs::build_programs;
use crate::run::{cargo, run};

/// Build the guests and run all tests. What cargo says about them comes last.
#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Arguments for `cargo test`, such as `-p refcap NAME`, or `-- --nocapture`.
    #[arg(last = true)]
    pub(crate) arguments: Vec<String>,
}

impl Test {
    pub(crate) fn run(&self) -> Result<()> {
        Guests {}.run()?;
        // Tests of the command run it, and cargo builds a program for the tests of its own package only.
        build_programs()?;
        if self.arguments.is_empty() {
            // The examples' own tests, natively.
            let mut test = cargo();
            test.args([
                "test",
                "--quiet",
                "--manifest-path",
                "examples/Cargo.toml",
                "--target-dir",
            ]);
            run(test.arg(build_folder()))?;
        }
        let mut test = cargo();
        test.arg("test");
        if !selects_packages(&self.arguments) {
            test.arg("--workspace");
        }
        run(test.args(&self.arguments))
    }
}

/// Whether cargo's arguments say which packages to test: `--workspace` would override them.
fn selects_packages(arguments: &[String]) -> bool {
    let of_cargo = arguments.iter().take_while(|argument| *argument != "--");
    let mut names =
        of_cargo.filter(|argument| argument.starts_with("-p") || argument.starts_with("--package"));
    names.next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_selected_by_their_option_only() {
        let selects = |text: &str| selects_packages(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert!(selects("-p refcap name"));
        assert!(selects("--package=refcap"));
        assert!(!selects("name -- -p"));
        assert!(!selects("--release"));
    }
}
