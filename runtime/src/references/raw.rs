//! The runtime's only `unsafe`: registering host functions that take raw wasm values.
//!
//! wasmtime's typed registration has one Rust type per signature. Here the signatures come from a table,
//! and a call that answers at once must not allocate, so it takes the values as they are. Two things make
//! that sound, and both can be checked in this file: the function type that is registered and the way the
//! values are read and written come from the same [`Import`].
#![allow(
    unsafe_code,
    reason = "wasmtime's unchecked host functions are the price of one table for all imports"
)]

use std::mem::MaybeUninit;

use refcap_abi::{Import, MODULE, Param};
use wasmtime::{Engine, ExternRef, FuncType, Linker, Val, ValRaw, ValType};

use super::{Arguments, Body, MAX_INTS, MAX_REFS, Passage, Results, run_later, run_now};
use crate::vat::VatState;

/// Registers one host function.
pub(super) fn define<P: Passage>(
    linker: &mut Linker<VatState>,
    import: &'static Import,
    body: Body,
) -> wasmtime::Result<()> {
    assert!(import.refs_in() <= MAX_REFS && import.refs_out <= MAX_REFS && import.ints_in() <= MAX_INTS);
    let ty = signature(linker.engine(), import);
    match body {
        Body::Now(body) => {
            // SAFETY: wasmtime passes at least as many values as the larger of the numbers of parameters
            // and results of `ty`, and has set those of the parameters to values of their types. `read`
            // takes just these, in this order; `write` sets each result to a value of its type. Both
            // follow `import`, from which `ty` was made.
            unsafe {
                linker.func_new_unchecked(MODULE, import.name, ty, move |caller, values| {
                    let arguments = read(import, values);
                    let results = run_now::<P>(caller, import, arguments, body)?;
                    write(import, values, &results);
                    Ok(())
                })?;
            }
        }
        Body::Later(body) => {
            linker.func_new_async(MODULE, import.name, ty, move |mut caller, values, out| {
                Box::new(async move {
                    let mut arguments = Arguments {
                        refs: [0; MAX_REFS],
                        ints: [0; MAX_INTS],
                    };
                    let (mut refs, mut ints) = (arguments.refs.iter_mut(), arguments.ints.iter_mut());
                    for value in values {
                        match value {
                            Val::ExternRef(Some(reference)) => {
                                if let Some(place) = refs.next() {
                                    *place = reference.to_raw(&mut caller)?;
                                }
                            }
                            // Null is raw 0 already.
                            Val::ExternRef(None) => {
                                refs.next();
                            }
                            Val::I32(number) => {
                                if let Some(place) = ints.next() {
                                    *place = *number;
                                }
                            }
                            _ => {}
                        }
                    }
                    let (mut call, results) = run_later::<P>(caller, import, arguments, body).await?;
                    let (refs, status) = out.split_at_mut(import.refs_out);
                    for (place, raw) in refs.iter_mut().zip(results.refs) {
                        *place = Val::ExternRef(ExternRef::from_raw(call.caller(), raw));
                    }
                    if let [status] = status {
                        *status = Val::I32(results.status);
                    }
                    Ok(())
                })
            })?;
        }
    }
    Ok(())
}

/// The wasm type of an import.
pub(super) fn signature(engine: &Engine, import: &Import) -> FuncType {
    let params = import.params.iter().map(|param| match param {
        Param::Ref => ValType::EXTERNREF,
        Param::I32 => ValType::I32,
    });
    let results = std::iter::repeat_n(ValType::EXTERNREF, import.refs_out).chain([ValType::I32]);
    FuncType::new(engine, params, results)
}

/// Reads the parameters of `import`.
///
/// # Safety
///
/// `values` has at least as many elements as `import` has parameters, each set to a value of its type.
unsafe fn read(import: &Import, values: &[MaybeUninit<ValRaw>]) -> Arguments {
    let mut arguments = Arguments {
        refs: [0; MAX_REFS],
        ints: [0; MAX_INTS],
    };
    let (refs, ints) = values[..import.params.len()].split_at(import.refs_in());
    for (place, value) in arguments.refs.iter_mut().zip(refs) {
        // SAFETY: references come first, so this is a parameter of type `externref`, set by the caller.
        *place = unsafe { value.assume_init_ref() }.get_externref();
    }
    for (place, value) in arguments.ints.iter_mut().zip(ints) {
        // SAFETY: what is not a reference is an `i32`, set by the caller.
        *place = unsafe { value.assume_init_ref() }.get_i32();
    }
    arguments
}

/// Writes the results of `import`.
fn write(import: &Import, values: &mut [MaybeUninit<ValRaw>], results: &Results) {
    let (refs, rest) = values.split_at_mut(import.refs_out);
    for (value, raw) in refs.iter_mut().zip(results.refs) {
        value.write(ValRaw::externref(raw));
    }
    if let Some(value) = rest.first_mut() {
        value.write(ValRaw::i32(results.status));
    }
}
