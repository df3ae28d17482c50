//! Both ways across at every call, and a trap where they disagree.

use refcap_abi::ErrorCode;
use wasmtime::{ExternRef, Rooted};

use super::fast::{Fast, resolve_slowly};
use super::{Heap, MintError, Passage};
use crate::capability::Key;
use crate::capability::entry::Entry;

/// The fast way, which the ordinary way checks: what it costs is both.
#[derive(Debug)]
pub(crate) struct Compared;

impl Passage for Compared {
    fn resolve<H: Heap>(
        store: &mut H,
        raw: u32,
        consume: bool,
    ) -> wasmtime::Result<Result<Key<Entry>, ErrorCode>> {
        let cached = store.as_context().data().cells.find(raw);
        let ordinary = resolve_slowly(store, raw, consume)?;
        let mut store = store.as_context_mut();
        store.data_mut().cells.compare(cached, ordinary)?;
        Ok(ordinary)
    }

    fn mint<H: Heap>(store: &mut H, key: Key<Entry>) -> Result<Rooted<ExternRef>, MintError> {
        Fast::mint(store, key)
    }

    fn expose<H: Heap>(
        store: &mut H,
        reference: &Rooted<ExternRef>,
        key: Key<Entry>,
    ) -> wasmtime::Result<u32> {
        Fast::expose(store, reference, key)
    }
}
