//! Places, and the programs that the commands run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, ensure};

/// The root of the project.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask
        .parent()
        .expect("xtask is a folder of the project")
        .to_owned()
}

/// The cargo that started this, in the root, as if it were started there by hand.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    clean(&mut command);
    command
}

/// Takes from a command's environment what the cargo around this program set for this program, and what
/// its user set for native code.
///
/// An inner cargo would take it for its own: `RUSTFLAGS` for the machine do not suit wasm, and a package
/// would be compiled with the variables of another one.
pub(crate) fn clean(command: &mut Command) {
    const NAMES: &[&str] = &[
        "CARGO",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_TARGET_TMPDIR",
        "OUT_DIR",
        "RUSTFLAGS",
    ];
    const PREFIXES: &[&str] = &[
        "CARGO_BIN_",
        "CARGO_CRATE_",
        "CARGO_MANIFEST_",
        "CARGO_PKG_",
        "CARGO_PROFILE_",
    ];
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else {
            continue;
        };
        if NAMES.contains(&text) || PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
}

/// Runs a command, whose output is the user's to see, and fails when it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    eprintln!("$ {shown}");
    let status = command
        .status()
        .with_context(|| format!("cannot run `{shown}`"))?;
    ensure!(status.success(), "`{shown}` failed: {status}");
    Ok(())
}

/// Runs a command and gives its standard output. The rest of its output is the user's to see.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run `{shown}`"))?;
    ensure!(output.status.success(), "`{shown}` failed: {}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("the output of `{shown}` is not text"))
}

/// Copies a file unless the same is there already, so that what depends on its time stays valid.
pub(crate) fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|there| there == content) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    fs::write(to, content).with_context(|| format!("cannot write {}", to.display()))
}

/// A command as one would type it.
pub(crate) fn show(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words = [name].into_iter().chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .map(quote)
        .collect::<Vec<_>>()
        .join(" ")
}

fn quote(word: std::borrow::Cow<'_, str>) -> String {
    if word.is_empty() || word.contains([' ', '\'', '"', ';', '*', '$']) {
        format!("'{}'", word.replace('\'', r"'\''"))
    } else {
        word.into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_as_one_types_them() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["run", "--", "--grant", "net=connect tcp *:*", "it's"]);
        assert_eq!(
            show(&command),
            r"cargo run -- --grant 'net=connect tcp *:*' 'it'\''s'"
        );
    }

    #[test]
    fn the_root_is_the_project() {
        assert!(root().join("guest-sdk/Cargo.toml").is_file());
    }
}
