//! Guests that are written in Rust: through refcap's SDK, and through the shims of the `externref` crate. What they
//! call is the same host.

use std::rc::Rc;

use externref::processor::Processor;
use refcap::References;
use wasmtime::Result;
use wasmtime::error::Context;

use super::guest_module;
use super::reference::Guest;

/// The guest that uses the SDK; `None` where it was not built.
pub(crate) fn sdk(executor: &Rc<tokio::runtime::Runtime>) -> Result<Option<Guest>> {
    let Some(module) = guest_module("wasm32-unknown-unknown", "bench_sdk") else {
        return Ok(None);
    };
    let guest = Guest::of(executor, References::Fast, &module)?;
    // It has its capability from then on.
    guest.call("refcap_start", &[], 0)?;
    Ok(Some(guest))
}

/// The guest that uses the `externref` crate; `None` where it was not built.
pub(crate) fn externref_crate(executor: &Rc<tokio::runtime::Runtime>) -> Result<Option<Guest>> {
    let Some(module) = guest_module("wasm32-unknown-unknown", "bench_externref_crate") else {
        return Ok(None);
    };
    let processed = Processor::default()
        // The load gate refuses a module that exports its references.
        .set_ref_table(None)
        .process_bytes(&module)
        .context("the processor of the externref crate refuses the module")?;
    Ok(Some(Guest::of(executor, References::Fast, &processed)?))
}
