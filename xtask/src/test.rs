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
        // The tests run the command and the demo, which `cargo test` builds only for their own packages.
        build_programs(&profile(&self.arguments))?;
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
            // What a guest can do is the same whichever way its references take, and wherever its vat is.
            for way in ["ordinary", "compared"] {
                let mut test = cargo();
                test.env("REFCAP_REFERENCES", way);
                if way == "compared" {
                    test.env("REFCAP_POOLED", "1");
                }
                run(test.args(["test", "--workspace", "--test", "all"]))?;
            }
        }
        let mut test = cargo();
        test.arg("test");
        if !selects_packages(&self.arguments) {
            test.arg("--workspace");
        }
        run(test.args(&self.arguments))
    }
}

/// Those of cargo's arguments that say with which profile to build.
fn profile(arguments: &[String]) -> Vec<&String> {
    let mut profile = Vec::new();
    let mut of_cargo = arguments.iter().take_while(|argument| *argument != "--");
    while let Some(argument) = of_cargo.next() {
        if argument == "--release" || argument == "-r" || argument.starts_with("--profile=") {
            profile.push(argument);
        } else if argument == "--profile" {
            profile.push(argument);
            profile.extend(of_cargo.next());
        }
    }
    profile
}

/// Whether cargo's arguments say which packages to test: `--workspace` would override them, and may stand there once.
fn selects_packages(arguments: &[String]) -> bool {
    let mut of_cargo = arguments.iter().take_while(|argument| *argument != "--");
    of_cargo.any(|argument| {
        argument.starts_with("-p") || argument.starts_with("--package") || argument == "--workspace"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn programs_are_built_with_the_profile_of_the_tests() {
        let profile = |text: &str| {
            profile(&words(text))
                .into_iter()
                .cloned()
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(profile("--release name"), "--release");
        assert_eq!(profile("-p refcap --profile bench name"), "--profile bench");
        assert_eq!(profile("--profile=bench -- --release"), "--profile=bench");
        assert_eq!(profile("name"), "");
    }

    #[test]
    fn packages_are_selected_by_their_option_only() {
        let selects = |text: &str| selects_packages(&words(text));
        assert!(selects("-p refcap name"));
        assert!(selects("--package=refcap"));
        assert!(selects("--workspace --test all name"));
        assert!(!selects("name -- -p"));
        assert!(!selects("--release"));
    }
}
