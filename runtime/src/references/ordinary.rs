//! The ordinary way across: wasmtime's own safe interface, at every call.

use std::sync::Arc;

use refcap_abi::ErrorCode;
use wasmtime::{AsContext, ExternRef, RootScope, Rooted};

use super::{Heap, MintError, Passage};
use crate::capability::Key;
use crate::capability::mailbox::{Letter, Mailbox};
use crate::capability::table::Entry;

/// What the host keeps behind a reference: a name, never the object. The socket lives in the vat's table,
/// so it is closed when it is closed and not when the collector gets to it.
#[derive(Debug)]
pub(crate) struct Handle {
    key: Key<Entry>,
    vat: Arc<Mailbox>,
    closed: bool,
}

impl Handle {
    pub(crate) fn new(key: Key<Entry>, vat: Arc<Mailbox>) -> Self {
        Handle {
            key,
            vat,
            closed: false,
        }
    }
}

impl Drop for Handle {
    // Runs inside a collection: it must neither panic nor touch the store.
    fn drop(&mut self) {
        if !self.closed {
            self.vat.post([Letter::Unreachable(self.key)]);
        }
    }
}

/// Asks wasmtime for the host data behind each reference.
#[derive(Debug)]
pub(crate) struct Ordinary;

impl Passage for Ordinary {
    fn resolve<H: Heap>(
        store: &mut H,
        raw: u32,
        consume: bool,
    ) -> wasmtime::Result<Result<Key<Entry>, ErrorCode>> {
        let mut scope = RootScope::new(store);
        let Some(reference) = ExternRef::from_raw(&mut scope, raw) else {
            return Ok(Err(ErrorCode::NullReference));
        };
        let handle = reference
            .data(&scope)?
            .and_then(|data| data.downcast_ref::<Handle>());
        let found = match handle {
            // Not made by `mint`, or made for another vat.
            None => Err(ErrorCode::ForeignReference),
            Some(handle) if !Arc::ptr_eq(&handle.vat, &scope.as_context().data().mailbox) => {
                Err(ErrorCode::ForeignReference)
            }
            Some(handle) if handle.closed => Err(ErrorCode::Closed),
            Some(handle) => Ok(handle.key),
        };
        if consume
            && found.is_ok()
            && let Some(handle) = reference
                .data_mut(&mut scope)?
                .and_then(|data| data.downcast_mut::<Handle>())
        {
            handle.closed = true;
        }
        Ok(found)
    }

    fn mint<H: Heap>(store: &mut H, key: Key<Entry>) -> Result<Rooted<ExternRef>, MintError> {
        let vat = store.as_context().data().mailbox.clone();
        Ok(ExternRef::new(store, Handle::new(key, vat))?)
    }

    fn expose<H: Heap>(
        store: &mut H,
        reference: Rooted<ExternRef>,
        _key: Key<Entry>,
    ) -> wasmtime::Result<u32> {
        reference.to_raw(store)
    }
}
