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

use refcap_abi::{ErrorCode, Import, Param};
use wasmtime::{Caller, Engine, FuncType, Linker, ValRaw, ValType};

use super::{
    Body, Call, MAX_EXTRA, MAX_INTS, MAX_REFS, MORE, Outcome, Passage, Site, enter, leave, suspending,
};
use crate::capability::Key;
use crate::capability::entry::Entry;
use crate::vat::VatState;

/// Registers one host function.
pub(super) fn define<P: Passage>(
    linker: &mut Linker<VatState>,
    site: Site,
    import: &'static Import,
    body: Body,
) -> wasmtime::Result<()> {
    assert!(import.refs_in() <= MAX_REFS && import.refs_out <= MAX_REFS && import.ints_in() <= MAX_INTS);
    let ty = signature(linker.engine(), import);
    match body {
        Body::Now(body) => define_now::<P>(linker, site, import, ty, body)?,
        Body::Inlined(registers) => registers(linker, site, import, ty)?,
        Body::Later(body) => suspending::define::<P>(linker, site, import, body)?,
    }
    Ok(())
}

/// Registers a host function that asks about one capability.
pub(crate) fn define_peek<P: Passage, Q>(
    linker: &mut Linker<VatState>,
    site: Site,
    import: &'static Import,
    ty: FuncType,
    question: Q,
) -> wasmtime::Result<()>
where
    Q: Fn(&VatState, Key<Entry>) -> Result<i32, ErrorCode> + Copy + Send + Sync + 'static,
{
    assert_eq!(
        (import.params, import.refs_out, import.consumes),
        (&[Param::Ref][..], 0, false)
    );
    // SAFETY: there is one parameter, a reference, which wasmtime has set, and one result, which is set.
    unsafe {
        linker.func_new_unchecked(site.module, import.name, ty, move |caller, values| {
            let [raw] = read::<1, 0>(values, &mut [0; MAX_INTS]);
            let state = caller.data();
            let answer = match P::known(state, raw) {
                Some(key) => question(state, key).ok(),
                None => None,
            };
            let status = match answer {
                Some(status) => status,
                None => peek_slowly::<P, Q>(caller, site, import, raw, question)?,
            };
            values[0].write(ValRaw::i32(status));
            Ok(())
        })?;
    }
    Ok(())
}

/// The same, where there is something to find out first, or an error to tell.
#[cold]
fn peek_slowly<P: Passage, Q>(
    caller: Caller<'_, VatState>,
    site: Site,
    import: &'static Import,
    raw: u32,
    question: Q,
) -> wasmtime::Result<i32>
where
    Q: Fn(&VatState, Key<Entry>) -> Result<i32, ErrorCode>,
{
    let mut call = Call::new(import, site, caller);
    let reply = match enter::<P, 1, false>(&mut call, [raw])? {
        Ok(()) => call.key(0).and_then(|key| question(call.state(), key)),
        Err(code) => Err(code),
    };
    let reply = reply.map(Outcome::Done).map_err(Into::into);
    let status = call.reply(reply);
    leave::<P>(&mut call, status)
}

/// Registers a host function that answers at once.
fn define_now<P: Passage>(
    linker: &mut Linker<VatState>,
    site: Site,
    import: &'static Import,
    ty: FuncType,
    body: fn(&mut Call<'_>) -> i32,
) -> wasmtime::Result<()> {
    // The numbers of parameters are the compiler's to know, so that it makes straight code of each combination.
    macro_rules! of_shape {
        ($($refs:literal: $($ints:literal)*,)*) => {
            match (import.refs_in(), import.ints_in()) {
                (1, 0) if import.consumes => {
                    define_of_shape::<P, _, 1, 0, true>(linker, site, import, ty, body)
                }
                $($(($refs, $ints) => {
                    define_of_shape::<P, _, $refs, $ints, false>(linker, site, import, ty, body)
                })*)*
                _ => unreachable!("`{}` has more parameters than any import may have", import.name),
            }
        };
    }
    of_shape!(0: 0 1 2 3 4 5, 1: 0 1 2 3 4 5, 2: 0 1 2 3 4 5,)
}

/// Registers a host function that takes `REFS` references and `INTS` numbers.
pub(crate) fn define_of_shape<P, B, const REFS: usize, const INTS: usize, const CONSUMES: bool>(
    linker: &mut Linker<VatState>,
    site: Site,
    import: &'static Import,
    ty: FuncType,
    body: B,
) -> wasmtime::Result<()>
where
    P: Passage,
    B: Fn(&mut Call<'_>) -> i32 + Copy + Send + Sync + 'static,
{
    assert_eq!(
        (import.refs_in(), import.ints_in(), import.consumes),
        (REFS, INTS, CONSUMES)
    );
    let makes = import.refs_out > 0;
    let extra_out = import.extra_out;
    // SAFETY: wasmtime passes at least as many values as the larger of the numbers of parameters and results of
    // `ty`, and has set those of the parameters to values of their types. `read` takes just these, in this
    // order; the results are set to values of their types. All of it follows `import`, from which `ty` was made.
    unsafe {
        linker.func_new_unchecked(site.module, import.name, ty, move |caller, values| {
            let mut call = Call::new(import, site, caller);
            let references = read::<REFS, INTS>(values, &mut call.ints);
            let status = match enter::<P, REFS, CONSUMES>(&mut call, references)? {
                Ok(()) if !site.is_marked() => body(&mut call),
                Ok(()) => in_span(&mut call, body),
                Err(code) => call.reply(Err(code.into())),
            };
            if status != MORE && !makes {
                // Most calls: nothing has to be made.
                if extra_out > 0 {
                    write_extra(values, &call.extra, extra_out);
                }
                values[extra_out].write(ValRaw::i32(status));
                // No reply is left in it, which the compiler does not see: it would look for one to drop.
                std::mem::forget(call);
            } else {
                let status = leave::<P>(&mut call, status)?;
                write(import, values, &call, status);
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// A call by a linked program, whose events somebody may hear.
#[cold]
#[inline(never)]
fn in_span(call: &mut Call<'_>, body: impl Fn(&mut Call<'_>) -> i32) -> i32 {
    let span = call.span();
    span.in_scope(|| body(call))
}

/// The wasm type of an import.
pub(super) fn signature(engine: &Engine, import: &Import) -> FuncType {
    let params = import.params.iter().map(|param| match param {
        Param::Ref => ValType::EXTERNREF,
        Param::I32 => ValType::I32,
    });
    let results = std::iter::repeat_n(ValType::EXTERNREF, import.refs_out)
        .chain(std::iter::repeat_n(ValType::I32, import.extra_out + 1));
    FuncType::new(engine, params, results)
}

/// Reads the parameters: `REFS` references, which it returns, then `INTS` numbers.
///
/// # Safety
///
/// `values` has at least that many elements, each set to a value of its type.
#[inline(always)]
unsafe fn read<const REFS: usize, const INTS: usize>(
    values: &[MaybeUninit<ValRaw>],
    numbers: &mut [i32; MAX_INTS],
) -> [u32; REFS] {
    let (refs, ints) = values[..REFS + INTS].split_at(REFS);
    for (place, value) in numbers.iter_mut().zip(ints) {
        // SAFETY: what is not a reference is an `i32`, set by the caller.
        *place = unsafe { value.assume_init_ref() }.get_i32();
    }
    // SAFETY: references come first, so this is a parameter of type `externref`, set by the caller.
    std::array::from_fn(|place| unsafe { refs[place].assume_init_ref() }.get_externref())
}

/// Writes the numbers that come before the status.
fn write_extra(values: &mut [MaybeUninit<ValRaw>], numbers: &[i32; MAX_EXTRA], count: usize) {
    for (value, &number) in values.iter_mut().zip(numbers).take(count) {
        value.write(ValRaw::i32(number));
    }
}

/// Writes the results of `import`: the references, the numbers, the status.
fn write(import: &Import, values: &mut [MaybeUninit<ValRaw>], call: &Call<'_>, status: i32) {
    let (refs, numbers) = values.split_at_mut(import.refs_out);
    for (value, &raw) in refs.iter_mut().zip(&call.exposed) {
        value.write(ValRaw::externref(raw));
    }
    write_extra(numbers, &call.extra, import.extra_out);
    numbers[import.extra_out].write(ValRaw::i32(status));
}
