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

use super::{Body, Call, MAX_INTS, MAX_REFS, Outcome, Passage, Reply, Results, enter, leave};
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
        // The number of references is known to the compiler, so that it makes straight code of each.
        Body::Now(body) => match import.refs_in() {
            0 => define_now::<P, 0>(linker, import, ty, body)?,
            1 => define_now::<P, 1>(linker, import, ty, body)?,
            _ => define_now::<P, 2>(linker, import, ty, body)?,
        },
        Body::Later(body) => {
            linker.func_new_async(MODULE, import.name, ty, move |mut caller, values, out| {
                Box::new(async move {
                    let (mut references, mut ints) = ([0; MAX_REFS], [0; MAX_INTS]);
                    let (mut refs, mut numbers) = (references.iter_mut(), ints.iter_mut());
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
                                if let Some(place) = numbers.next() {
                                    *place = *number;
                                }
                            }
                            _ => {}
                        }
                    }
                    let mut call = Call::new(import, caller);
                    call.ints = ints;
                    let entered = match import.refs_in() {
                        0 => enter::<P, 0>(&mut call, [])?,
                        1 => enter::<P, 1>(&mut call, [references[0]])?,
                        _ => enter::<P, MAX_REFS>(&mut call, references)?,
                    };
                    let reply = match entered {
                        Ok(()) => body(&mut call).await,
                        Err(code) => Err(code.into()),
                    };
                    let results = leave::<P>(&mut call, reply)?;
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

/// Registers a host function that answers at once and takes `REFS` references.
fn define_now<P: Passage, const REFS: usize>(
    linker: &mut Linker<VatState>,
    import: &'static Import,
    ty: FuncType,
    body: fn(&mut Call<'_>) -> Reply,
) -> wasmtime::Result<()> {
    assert_eq!(import.refs_in(), REFS);
    let (ints, refs_out) = (import.ints_in(), import.refs_out);
    // SAFETY: wasmtime passes at least as many values as the larger of the numbers of parameters and results of
    // `ty`, and has set those of the parameters to values of their types. `read` takes just these, in this
    // order; the results are set to values of their types. All of it follows `import`, from which `ty` was made.
    unsafe {
        linker.func_new_unchecked(MODULE, import.name, ty, move |caller, values| {
            let mut call = Call::new(import, caller);
            let references = read::<REFS>(ints, values, &mut call.ints);
            let reply = match enter::<P, REFS>(&mut call, references)? {
                Ok(()) => body(&mut call),
                Err(code) => Err(code.into()),
            };
            match reply {
                // Most calls: nothing has to be made, and the reply is not moved.
                Ok(Outcome::Done(status)) if refs_out == 0 => {
                    values[0].write(ValRaw::i32(status));
                }
                reply => write(import, values, &leave::<P>(&mut call, reply)?),
            }
            Ok(())
        })?;
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

/// Reads the parameters: `REFS` references, which it returns, then `ints` numbers.
///
/// # Safety
///
/// `values` has at least that many elements, each set to a value of its type.
#[inline(always)]
unsafe fn read<const REFS: usize>(
    ints: usize,
    values: &[MaybeUninit<ValRaw>],
    numbers: &mut [i32; MAX_INTS],
) -> [u32; REFS] {
    let (refs, rest) = values.split_at(REFS);
    for (place, value) in numbers.iter_mut().zip(&rest[..ints]) {
        // SAFETY: what is not a reference is an `i32`, set by the caller.
        *place = unsafe { value.assume_init_ref() }.get_i32();
    }
    // SAFETY: references come first, so this is a parameter of type `externref`, set by the caller.
    std::array::from_fn(|place| unsafe { refs[place].assume_init_ref() }.get_externref())
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
