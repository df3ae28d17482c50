//! The ordinary way across: wasmtime's own safe interface, at every call.

use std::sync::Arc;

use refcap_abi::ErrorCode;
use wasmtime::{AsContext, ExternRef, RootScope, Rooted};

use super::{Heap, MintError, Passage};
use crate::capability::entry::Entry;
use crate::capability::mailbox::{Letter, Mailbox};
use crate::capability::{CapId, Key};

/// What the host keeps behind a reference: a name, never the object. The socket lives in the vat's table,
/// so it is closed when it is closed and not when the collector gets to it.
///
/// Its parts are as wide as they are moved: a word that is written in halves and read whole waits for both to arrive in
/// memory, and making a reference moves this twice.
#[derive(Debug)]
pub(crate) struct Handle {
    place: usize,
    /// The number of the capability; none once it is closed.
    id: Option<CapId>,
    vat: Arc<Mailbox>,
}

// The smallest piece that glibc gives has room for that.
const _: () = assert!(size_of::<Handle>() <= 24);

impl Handle {
    pub(crate) fn new(key: Key<Entry>, vat: Arc<Mailbox>) -> Self {
        Handle {
            place: key.place(),
            id: Some(key.id()),
            vat,
        }
    }

    fn key(&self) -> Option<Key<Entry>> {
        Some(Key::new(self.place, self.id?))
    }

    /// What it names, for the vat with that mailbox.
    fn key_for(&self, vat: *const Mailbox) -> Result<Key<Entry>, ErrorCode> {
        if Arc::as_ptr(&self.vat) != vat {
            return Err(ErrorCode::ForeignReference);
        }
        self.key().ok_or(ErrorCode::Closed)
    }
}

impl Drop for Handle {
    // Runs inside a collection: it must neither panic nor touch the store.
    fn drop(&mut self) {
        if let Some(key) = self.key() {
            self.vat.post(Letter::Unreachable(key));
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
        // Looked at where it is: it would be moved as a whole, which waits for its parts to arrive in memory.
        let reference = ExternRef::from_raw(&mut scope, raw);
        let Some(reference) = &reference else {
            return Ok(Err(ErrorCode::NullReference));
        };
        let vat = Arc::as_ptr(&scope.as_context().data().mailbox);
        // Looked up once in either case: to look behind a reference is what all of this costs.
        if consume {
            let data = reference.data_mut(&mut scope)?;
            let handle = data.and_then(|data| data.downcast_mut::<Handle>());
            return Ok(handle.map_or(Err(ErrorCode::ForeignReference), |handle| {
                let found = handle.key_for(vat);
                if found.is_ok() {
                    handle.id = None;
                }
                found
            }));
        }
        let data = reference.data(&scope)?;
        let handle = data.and_then(|data| data.downcast_ref::<Handle>());
        Ok(handle.map_or(Err(ErrorCode::ForeignReference), |handle| handle.key_for(vat)))
    }

    fn mint<H: Heap>(store: &mut H, key: Key<Entry>) -> Result<Rooted<ExternRef>, MintError> {
        let vat = store.as_context().data().mailbox.clone();
        Ok(ExternRef::new(store, Handle::new(key, vat))?)
    }

    fn expose<H: Heap>(
        store: &mut H,
        reference: &Rooted<ExternRef>,
        _key: Key<Entry>,
    ) -> wasmtime::Result<u32> {
        reference.to_raw(store)
    }
}
