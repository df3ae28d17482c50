//! `cargo xtask guests`

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::Value;

use crate::run::{cargo, copy_if_changed, output, root, show};
use crate::toolchain::Toolchain;

/// The target of guests that do not ask for others.
const USUAL_TARGET: &str = "wasm32-wasip1";

/// Build the guests for wasm, into target/guests/release and target/guests/debug.
///
/// A package says in its manifest which targets it is for, where that is not only wasm32-wasip1:
///
///     [package.metadata.refcap]
///     targets = ["wasm32-wasip1", "wasm32-unknown-unknown"]
///
/// A program NAME is then NAME.wasm for the first and NAME-unknown.wasm for the second.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Guests {}

impl Guests {
    pub(crate) fn run(&self) -> Result<()> {
        let workspaces = workspaces()?;
        let mut targets: Vec<String> = workspaces.iter().flat_map(Workspace::targets).collect();
        targets.sort();
        targets.dedup();
        let toolchain = Toolchain::for_targets(&targets)?;
        for workspace in &workspaces {
            for target in workspace.targets() {
                for profile in ["release", "dev"] {
                    workspace.build(&toolchain, &target, profile)?;
                }
            }
        }
        Ok(())
    }
}

/// A workspace of guests.
pub(crate) struct Workspace {
    pub(crate) manifest: PathBuf,
    packages: Vec<Package>,
}

struct Package {
    name: String,
    targets: Vec<String>,
}

/// The workspaces of guests that there are.
pub(crate) fn workspaces() -> Result<Vec<Workspace>> {
    let folders = ["examples", "tests/guests"].map(|folder| root().join(folder));
    let manifests = folders.iter().map(|folder| folder.join("Cargo.toml"));
    manifests
        .filter(|manifest| manifest.is_file())
        .map(Workspace::read)
        .collect()
}

/// Where cargo puts what it makes of guests.
pub(crate) fn build_folder() -> PathBuf {
    guests_folder().join("build")
}

fn guests_folder() -> PathBuf {
    root().join("target/guests")
}

impl Workspace {
    fn read(manifest: PathBuf) -> Result<Workspace> {
        let mut command = cargo();
        command
            .args(["metadata", "--format-version=1", "--no-deps", "--manifest-path"])
            .arg(&manifest);
        let metadata: Value = serde_json::from_str(&output(&mut command)?)
            .with_context(|| format!("the output of `{}` is not JSON", show(&command)))?;
        let packages = metadata["packages"].as_array().into_iter().flatten();
        let packages = packages.map(Package::read).collect::<Result<_>>()?;
        Ok(Workspace { manifest, packages })
    }

    /// The targets that any of the packages is for.
    pub(crate) fn targets(&self) -> Vec<String> {
        let mut targets: Vec<String> = self
            .packages
            .iter()
            .flat_map(|package| package.targets.clone())
            .collect();
        targets.sort();
        targets.dedup();
        targets
    }

    /// Arguments that name the packages for a target.
    pub(crate) fn packages_for(&self, target: &str) -> Vec<String> {
        let packages = self
            .packages
            .iter()
            .filter(|package| package.targets.iter().any(|t| t == target));
        packages
            .flat_map(|package| ["--package".to_owned(), package.name.clone()])
            .collect()
    }

    fn build(&self, toolchain: &Toolchain, target: &str, profile: &str) -> Result<()> {
        let mut command = toolchain.cargo("build", target);
        command
            .args([
                "--quiet",
                "--message-format=json-render-diagnostics",
                "--profile",
                profile,
            ])
            .args(self.packages_for(target))
            .arg("--manifest-path")
            .arg(&self.manifest)
            .arg("--target-dir")
            .arg(build_folder());
        eprintln!("$ {}", show(&command));
        let folder = guests_folder().join(if profile == "dev" { "debug" } else { profile });
        for module in modules(&output(&mut command)?)? {
            let name = module.file_stem().unwrap_or_default().to_string_lossy();
            let suffix = if target == USUAL_TARGET { "" } else { "-unknown" };
            copy_if_changed(&module, &folder.join(format!("{name}{suffix}.wasm")))?;
        }
        Ok(())
    }
}

impl Package {
    fn read(package: &Value) -> Result<Package> {
        let name = package["name"]
            .as_str()
            .context("a package has no name")?
            .to_owned();
        let targets = &package["metadata"]["refcap"]["targets"];
        let targets = match targets.as_array() {
            None => vec![USUAL_TARGET.to_owned()],
            Some(targets) => targets
                .iter()
                .map(|target| target.as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .with_context(|| format!("the targets of {name} are not strings"))?,
        };
        Ok(Package { name, targets })
    }
}

/// The modules among what cargo says that it made.
fn modules(messages: &str) -> Result<Vec<PathBuf>> {
    let mut modules = Vec::new();
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).context("cargo said something that is not JSON")?;
        if message["reason"] == "compiler-artifact" {
            let files = message["filenames"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str);
            modules.extend(
                files
                    .map(Path::new)
                    .filter(|file| is_module(file))
                    .map(Path::to_owned),
            );
        }
    }
    Ok(modules)
}

fn is_module(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "wasm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_among_other_artifacts() {
        let messages = r#"{"reason":"compiler-artifact","filenames":["/t/libx.rlib"]}
{"reason":"compiler-artifact","filenames":["/t/demo.wasm"]}
{"reason":"build-finished","success":true}"#;
        assert_eq!(modules(messages).unwrap(), [Path::new("/t/demo.wasm")]);
        assert!(modules("warning: x").is_err());
    }

    #[test]
    fn packages_are_for_wasi_unless_they_say_otherwise() {
        let package = |text| Package::read(&serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(package(r#"{"name":"a","metadata":null}"#).targets, [USUAL_TARGET]);
        let other = r#"{"name":"a","metadata":{"refcap":{"targets":["wasm32-unknown-unknown"]}}}"#;
        assert_eq!(package(other).targets, ["wasm32-unknown-unknown"]);
    }
}
