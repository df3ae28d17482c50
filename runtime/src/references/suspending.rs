//! Host functions that may suspend the guest: registered with their types, one Rust type for each shape of import.

use std::future::Future;
use std::pin::Pin;

use refcap_abi::Import;
use tracing::Instrument;
use wasmtime::{Caller, ExternRef, Linker, Rooted};

use super::{Call, Passage, Reply, Site, enter, leave};
use crate::vat::VatState;

/// A body that may suspend the guest.
pub(crate) type Later = for<'a> fn(&'a mut Call<'_>) -> Pin<Box<dyn Future<Output = Reply> + Send + 'a>>;

type Reference = Option<Rooted<ExternRef>>;

/// Registers one. A linker registers all imports, so one of a shape that is missing here shows at the first start.
pub(super) fn define<P: Passage>(
    linker: &mut Linker<VatState>,
    site: Site,
    import: &'static Import,
    body: Later,
) -> wasmtime::Result<()> {
    assert!(
        !import.consumes,
        "no import that suspends takes a reference for good"
    );
    // Its parameters are references, then numbers; its results are references, then numbers, the status last.
    macro_rules! of_shape {
        ($($refs:literal [$($reference:ident)*] $ints:literal [$($int:ident)*] -> $out:literal $extra:literal $results:ident;)*) => {
            match (import.refs_in(), import.ints_in(), import.refs_out, import.extra_out) {
                $(($refs, $ints, $out, $extra) => {
                    linker.func_wrap_async(
                        site.module,
                        import.name,
                        move |caller: Caller<'_, VatState>,
                              ($($reference,)* $($int,)*): ($(of_type!($reference Reference),)* $(of_type!($int i32),)*)| {
                            Box::new(async move {
                                let (mut call, references) = begin(import, site, caller, [$($reference),*], [$($int),*])?;
                                let status = match enter::<P, $refs, false>(&mut call, references)? {
                                    Ok(()) => finish(&mut call, site, body).await,
                                    Err(code) => call.reply(Err(code.into())),
                                };
                                let status = leave::<P>(&mut call, status)?;
                                call.$results(status)
                            })
                        },
                    )?;
                })*
                _ => unreachable!("`{}` has a shape that no import has that suspends", import.name),
            }
        };
    }
    macro_rules! of_type {
        ($name:ident $ty:ty) => {
            $ty
        };
    }
    of_shape! {
        0 [] 1 [a] -> 0 4 five_numbers;
        0 [] 2 [a b] -> 0 0 number;
        0 [] 2 [a b] -> 1 0 reference;
        1 [r] 0 [] -> 0 0 number;
        1 [r] 1 [a] -> 1 0 reference;
        1 [r] 2 [a b] -> 0 0 number;
        1 [r] 2 [a b] -> 1 0 reference;
        1 [r] 3 [a b c] -> 0 0 number;
        1 [r] 3 [a b c] -> 1 0 reference;
        1 [r] 4 [a b c d] -> 1 0 reference;
        1 [r] 5 [a b c d e] -> 1 0 reference;
    }
    Ok(())
}

/// A call, and its references as wasm holds them.
fn begin<'a, const REFS: usize, const INTS: usize>(
    import: &'static Import,
    site: Site,
    mut caller: Caller<'a, VatState>,
    references: [Reference; REFS],
    ints: [i32; INTS],
) -> wasmtime::Result<(Call<'a>, [u32; REFS])> {
    let mut raw = [0; REFS];
    for (place, reference) in raw.iter_mut().zip(references) {
        // Null is raw 0 already.
        if let Some(reference) = reference {
            *place = reference.to_raw(&mut caller)?;
        }
    }
    let mut call = Call::new(import, site, caller);
    call.ints[..INTS].copy_from_slice(&ints);
    Ok((call, raw))
}

/// Lets the body do what it does, and leaves its reply in the call.
async fn finish(call: &mut Call<'_>, site: Site, body: Later) -> i32 {
    let reply = match site.is_marked() {
        false => body(call).await,
        true => {
            let span = call.span();
            body(call).instrument(span).await
        }
    };
    call.reply(reply)
}

/// The results of a call that is over, by the shape of its import.
impl Call<'_> {
    fn number(&mut self, status: i32) -> wasmtime::Result<i32> {
        Ok(status)
    }

    fn five_numbers(&mut self, status: i32) -> wasmtime::Result<(i32, i32, i32, i32, i32)> {
        let [a, b, c, d] = self.extra;
        Ok((a, b, c, d, status))
    }

    fn reference(&mut self, status: i32) -> wasmtime::Result<(Reference, i32)> {
        let [raw, _] = self.exposed;
        Ok((ExternRef::from_raw(&mut self.caller, raw), status))
    }
}
