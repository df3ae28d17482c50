//! The compiler that builds guests: whichever can build for wasm on this machine.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::run::{cargo, clean, output, run, show};

/// A cargo to build guests with.
#[derive(Debug)]
pub(crate) struct Toolchain {
    from_source: Option<FromSource>,
}

/// A compiler without a standard library for wasm, which it builds from source.
///
/// Debian's packages of Rust have that source; its package wasi-libc has the C library that std needs on
/// WASI. Rustup's toolchains have the linker.
#[derive(Debug)]
struct FromSource {
    cargo: PathBuf,
    rustc: PathBuf,
    linker: PathBuf,
    /// The folder of the C library.
    wasi_libc: PathBuf,
}

impl Toolchain {
    /// Finds a toolchain for some targets, and installs what is missing where that can be done.
    ///
    /// `REFCAP_GUEST_CARGO` and `REFCAP_GUEST_RUSTC` name a toolchain that builds its standard library
    /// from source, with the linker `REFCAP_GUEST_LINKER` or rustup's, and the C library in the folder
    /// `REFCAP_GUEST_WASI_LIBC` or Debian's.
    pub(crate) fn for_targets(targets: &[String]) -> Result<Toolchain> {
        if let (Some(cargo), Some(rustc)) = (variable("REFCAP_GUEST_CARGO"), variable("REFCAP_GUEST_RUSTC")) {
            let from_source = FromSource::new(cargo, rustc)?;
            return Ok(Toolchain {
                from_source: Some(from_source),
            });
        }
        let missing: Vec<&String> = targets.iter().filter(|target| !is_installed(target)).collect();
        if missing.is_empty() {
            return Ok(Toolchain { from_source: None });
        }
        let mut add = Command::new("rustup");
        add.args(["target", "add"]).args(&missing);
        if run(&mut add).is_ok() && targets.iter().all(|target| is_installed(target)) {
            return Ok(Toolchain { from_source: None });
        }
        // What Debian's packages rustc-web and cargo-web install.
        let (cargo, rustc) = (Path::new("/usr/bin/cargo"), Path::new("/usr/bin/rustc"));
        if cargo.exists() && has_source(rustc) {
            let from_source = FromSource::new(cargo.to_owned(), rustc.to_owned())?;
            return Ok(Toolchain {
                from_source: Some(from_source),
            });
        }
        bail!(
            "Rust's standard library is not installed for {}; install it with\n\n    {}\n",
            missing
                .iter()
                .map(|target| target.as_str())
                .collect::<Vec<_>>()
                .join(" and "),
            show(&add),
        );
    }

    /// Cargo with a subcommand that builds for a target.
    pub(crate) fn cargo(&self, subcommand: &str, target: &str) -> Command {
        let mut command = match &self.from_source {
            None => cargo(),
            Some(toolchain) => toolchain.cargo(target),
        };
        command.args([subcommand, "--target", target]);
        if self.from_source.is_some() {
            command.arg("-Zbuild-std=std,panic_abort");
        }
        command
    }
}

impl FromSource {
    fn new(cargo: PathBuf, rustc: PathBuf) -> Result<FromSource> {
        let linker = match variable("REFCAP_GUEST_LINKER") {
            Some(linker) => linker,
            None => rustup_linker()?,
        };
        let wasi_libc = variable("REFCAP_GUEST_WASI_LIBC").unwrap_or_else(|| "/usr/lib/wasm32-wasi".into());
        Ok(FromSource {
            cargo,
            rustc,
            linker,
            wasi_libc,
        })
    }

    fn cargo(&self, target: &str) -> Command {
        let mut command = Command::new(&self.cargo);
        clean(&mut command);
        let setting = |name| format!("CARGO_TARGET_{}_{name}", target.to_uppercase().replace('-', "_"));
        command
            .current_dir(crate::run::root())
            .env("RUSTC", &self.rustc)
            // Building the standard library is an unstable option.
            .env("RUSTC_BOOTSTRAP", "1")
            .env(setting("LINKER"), &self.linker)
            // rustup's variables would send this cargo to another compiler.
            .env_remove("RUSTUP_TOOLCHAIN");
        if target.contains("wasi") {
            // Where rustc looks for the C library and for its start-up object.
            let mut flags = OsString::from("-Lnative=");
            flags.push(&self.wasi_libc);
            command.env(setting("RUSTFLAGS"), flags);
        }
        command
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// Whether the compiler has a standard library for a target.
fn is_installed(target: &str) -> bool {
    let mut rustc = rustc("rustc");
    rustc.args(["--print", "target-libdir", "--target", target]);
    let Ok(folder) = output(&mut rustc) else {
        return false;
    };
    // The folder's name is known for every target that the compiler knows.
    fs::read_dir(folder.trim()).is_ok_and(|mut entries| entries.next().is_some())
}

/// Whether a compiler has the source of its standard library.
fn has_source(compiler: &Path) -> bool {
    let sysroot = output(rustc(compiler).args(["--print", "sysroot"]));
    sysroot.is_ok_and(|sysroot| {
        Path::new(sysroot.trim())
            .join("lib/rustlib/src/rust/library/std")
            .is_dir()
    })
}

/// The linker in the toolchain of the compiler that builds this project.
fn rustup_linker() -> Result<PathBuf> {
    let sysroot = output(rustc("rustc").args(["--print", "sysroot"]))?;
    let host = output(rustc("rustc").arg("-vV"))?;
    let host = host
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("`rustc -vV` does not name its host")?;
    let linker = Path::new(sysroot.trim())
        .join("lib/rustlib")
        .join(host)
        .join("bin/rust-lld");
    if linker.is_file() {
        Ok(linker)
    } else {
        bail!(
            "there is no linker for wasm: REFCAP_GUEST_LINKER is not set, and {} does not exist",
            linker.display()
        )
    }
}

fn rustc(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(crate::run::root());
    command
}
