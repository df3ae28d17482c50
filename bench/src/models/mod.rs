//! Who is compared: the same loops over the same work, with another handle each.
//!
//! | model | what a guest holds | file |
//! |---|---|---|
//! | `reference` | refcap's reference | [`reference`] |
//! | `ordinary` | the same, by wasmtime's own interface at every call | [`reference`] |
//! | `integer` | a number, the index of a slot in a vector | [`integer`] |
//! | `empty` | a number that nobody looks at | [`integer`] |
//! | `sdk` | a reference, in Rust through refcap's SDK | [`rust`] |
//! | `externref-crate` | a reference, in Rust through the shims of the `externref` crate | [`rust`] |
//! | `wasi-p1` | a descriptor of WASI preview 1 | [`wasi`] |
//! | `component` | a resource of the component model | [`component`] |
//! | `wasi-p2` | a socket of WASI 0.2, behind `std::net` | [`std_net`] |
//! | `link_give` | a reference, handed over as the SDK does it | [`instances`] |
//! | `object` | a reference to what another program of the vat implements | [`service`] |
//! | `native` | what the system gives, and no wasm | |

pub(crate) mod component;
pub(crate) mod guest;
pub(crate) mod instances;
pub(crate) mod integer;
pub(crate) mod reference;
pub(crate) mod rust;
pub(crate) mod service;
pub(crate) mod std_net;
pub(crate) mod wasi;

use std::path::Path;

pub(crate) const REFERENCE: &str = "reference";
pub(crate) const ORDINARY: &str = "ordinary";
pub(crate) const INTEGER: &str = "integer";
pub(crate) const EMPTY: &str = "empty";
pub(crate) const WASI_P1: &str = "wasi-p1";
pub(crate) const COMPONENT: &str = "component";
pub(crate) const SDK: &str = "sdk";
pub(crate) const EXTERNREF_CRATE: &str = "externref-crate";
pub(crate) const WASI_P2: &str = "wasi-p2";
pub(crate) const LINK_GIVE: &str = "link_give";
pub(crate) const OBJECT: &str = "object";
pub(crate) const NATIVE: &str = "native";

/// A guest that `cargo xtask bench` has built; says so where it is missing.
pub(crate) fn guest_module(target: &str, name: &str) -> Option<Vec<u8>> {
    let path = Path::new("target/bench/guests")
        .join(target)
        .join(format!("release/{name}.wasm"));
    let module = std::fs::read(&path).ok();
    if module.is_none() {
        eprintln!(
            "  left out: {} is missing, which `cargo xtask bench` builds",
            path.display()
        );
    }
    module
}

/// Runs futures of guests: one thread, for all models.
pub(crate) fn executor() -> wasmtime::Result<std::rc::Rc<tokio::runtime::Runtime>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(std::rc::Rc::new(runtime))
}
