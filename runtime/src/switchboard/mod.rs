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
//!
//! `object_call(object, method, pointer, length, timeout_ms) -> status`:
//!
//! - **Needs** an Object; the number of a method, which means what the two programs agree on; the bytes of the message;
//!   a time in milliseconds (0 for 30 s), which counts for an object of another vat.
//! - **Checks** the length; how many calls are inside one another; for another vat, how many wait for it.
//! - **Returns** what the implementer returns: a number that is not negative, or an error. The answer's bytes are
//!   there for `message_read`, its capabilities for `message_take`. What was attached (`message_attach`) goes with
//!   the message; where the call can't begin, it is given up. `CalleeFailed` when the program has ended, has no `refcap_dispatch`, or
//!   returns what is no error; `TimedOut`, `LimitReached`; `Revoked` when the object is revoked while it waits.
//! - **Traps** never by itself; when the implementer is in the same vat and traps, the vat ends.
//!
//! `object_serve(timeout_ms) -> status`:
//!
//! - **Needs** a time in milliseconds: 0 for no end, `NO_WAIT` to look and not wait.
//! - **Checks** how many calls are inside one another.
//! - **Returns** 0 when it has answered one call from another vat, to an object of any program of this vat.
//!   `TimedOut`, with `NO_WAIT` `WouldBlock`; `LimitReached`.
//! - **Traps** as above.

use refcap_abi::{DISPATCH_EXPORT, GRANT_EXPORT, TAKE_EXPORT};
use wasmtime::{AsContextMut, Engine, Instance, Module, Ref, Store};

use crate::vat::VatState;

/// The module from which the switchboard, and no guest, imports what it asks the host.
pub(crate) const MODULE: &str = "refcap_switchboard";

/// The module, compiled.
pub(crate) fn compile(engine: &Engine) -> wasmtime::Result<Module> {
    let bytes = wat::parse_str(include_str!("switchboard.wat"))
        .map_err(|error| wasmtime::Error::msg(error.to_string()))?;
    Module::from_binary(engine, &bytes)
}

/// Connects a program's switchboard to the programs that it is linked to, in the order of their numbers.
pub(crate) fn connect_links(
    store: &mut Store<VatState>,
    board: Instance,
    links: &[Instance],
) -> wasmtime::Result<()> {
    for (table, export) in [("grants", GRANT_EXPORT), ("takes", TAKE_EXPORT)] {
        fill(store, board, table, export, (0..).zip(links))?;
    }
    Ok(())
}

/// Connects a program's switchboard to all programs of the vat, each with its number there.
pub(crate) fn connect_all<'a>(
    store: &mut Store<VatState>,
    board: Instance,
    programs: impl Iterator<Item = (u64, &'a Instance)>,
) -> wasmtime::Result<()> {
    fill(store, board, "dispatches", DISPATCH_EXPORT, programs)
}

fn fill<'a>(
    store: &mut Store<VatState>,
    board: Instance,
    table: &str,
    export: &str,
    programs: impl Iterator<Item = (u64, &'a Instance)>,
) -> wasmtime::Result<()> {
    let table = board
        .get_table(store.as_context_mut(), table)
        .ok_or_else(|| wasmtime::Error::msg("the switchboard lacks a table"))?;
    for (number, program) in programs {
        // The load gate has seen that an export of this name has the right type.
        if let Some(function) = program.get_func(store.as_context_mut(), export) {
            table.set(store.as_context_mut(), number, Ref::Func(Some(function)))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
