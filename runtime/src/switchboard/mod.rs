//! How the programs of one vat reach each other: a small wasm module beside each of them.
//!
//! A program that names an export of another in its import section is linked to it as wasm links, and calls it
//! without anything in between. The switchboard is for what cannot be said there: rustc has no type for
//! references, so a Rust program hands one over with `link_give` and gets one with `link_take`. Both lead from
//! wasm to wasm, and the host is not called.
//!
//! `link_give(reference, program) -> slot`:
//!
//! - **Needs** a reference of any kind, also null; the number of a program from `link_find`.
//! - **Checks** the number. Nothing else: handing on a reference needs no permission within a vat.
//! - **Returns** what the other program's `refcap_grant` returns, the slot that the reference is in there.
//!   `NotFound` for a number that is none of a linked program, or of one that takes no references; `LimitReached`
//!   when it has no room.
//! - **Traps** never by itself; when the other program traps, the vat ends.
//!
//! `link_take(program) -> (reference, status)`:
//!
//! - **Needs** the number of a program from `link_find`.
//! - **Checks** the number.
//! - **Returns** the reference that the other program has put out (its `refcap_take`). `NullReference` when there
//!   is none, `NotFound` as above.
//! - **Traps** as above.

use refcap_abi::{GRANT_EXPORT, TAKE_EXPORT};
use wasmtime::{AsContextMut, Engine, Instance, Module, Ref, Store};

use crate::vat::VatState;

/// The module, compiled.
pub(crate) fn compile(engine: &Engine) -> wasmtime::Result<Module> {
    let bytes = wat::parse_str(include_str!("switchboard.wat"))
        .map_err(|error| wasmtime::Error::msg(error.to_string()))?;
    Module::from_binary(engine, &bytes)
}

/// Connects a program's switchboard to the programs that it is linked to, in the order of their numbers.
pub(crate) fn connect(
    store: &mut Store<VatState>,
    board: Instance,
    links: &[Instance],
) -> wasmtime::Result<()> {
    for (table, export) in [("grants", GRANT_EXPORT), ("takes", TAKE_EXPORT)] {
        let table = board
            .get_table(store.as_context_mut(), table)
            .ok_or_else(|| wasmtime::Error::msg("the switchboard lacks a table"))?;
        for (number, link) in (0..).zip(links) {
            // The load gate has seen that an export of this name has the right type.
            if let Some(function) = link.get_func(store.as_context_mut(), export) {
                table.set(store.as_context_mut(), number, Ref::Func(Some(function)))?;
            }
        }
    }
    Ok(())
}
