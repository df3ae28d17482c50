//! Gives the guest what rustc cannot: a table of `externref`s and functions that use it.
//!
//! Rust has no `externref` type, so the SDK's host calls cannot be declared in Rust. This script writes
//! a small relocatable wasm object, in which each host function has a stub that takes and gives *slots*
//! of a private table instead of references, and hands it to the linker in a static archive. No linker
//! argument, no tool after linking, no nightly compiler is needed.
//!
//! The object is encoded by hand, without the crate `wasm-encoder`: that crate does not write relocation
//! sections, so that the code section would have to be encoded here anyway, and every user of the SDK
//! would build it.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

mod archive;
mod encode;
mod object;
mod stubs;

/// The name of the archive, and the value of `links` in the manifest.
const LIBRARY: &str = "refcap_guest";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build");
    if env::var("CARGO_CFG_TARGET_FAMILY").as_deref() != Ok("wasm") {
        return Ok(());
    }
    let out = env::var("OUT_DIR")?;
    let archive = archive::with_one_member("refcap_guest.o", &stubs::object().encode());
    fs::write(Path::new(&out).join(format!("lib{LIBRARY}.a")), archive)?;
    println!("cargo:rustc-link-search=native={out}");
    println!("cargo:rustc-link-lib=static={LIBRARY}");
    Ok(())
}
