//! The fast way across: a cell for each reference, valid until the next collection.
//!
//! To look an object up in the ordinary way costs about ten times what an array costs. Here an array of
//! [`Cells`] is asked first: it costs one load of the epoch, one of the cell, and one comparison, in which it shows also
//! that no letter waits to be read. Why that is sound, in the order in which an attacker would look for a hole:
//!
//! 1. **A cell is filled only with what the ordinary way has said**, or with a key whose reference was just
//!    made, and only while an epoch holds.
//! 2. **Every collection ends the epoch.** The [`Sentinel`] is an object that nothing refers to from the moment
//!    it exists: whatever collects, frees it, and its `Drop` ends the epoch before any other code runs. It
//!    does not matter who collected, how often, or whether anybody looks afterwards.
//! 3. **An epoch begins after its sentinel exists**, because making the sentinel may itself collect, twice even.
//! 4. **Within an epoch no raw value is used twice**: the collector gives memory out from one end, and takes it
//!    back only by collecting.
//! 5. **A raw value is looked at first of all**, before anything in the call can collect, and never again; what
//!    a call returns is exposed last of all. That is in [`enter`](super::enter) and [`leave`](super::leave).
//! 6. **Closing forgets.** A reference that is given up is marked itself, and loses its cell.
//!
//! The design, with its measurements and the variants that turned out wrong ("the sentinel counts the epoch
//! up" misses the second of two collections; "a pinned object has moved" misses two within one call), is in
//! `design.md`. Nothing here is `unsafe`: a wrong cell would be a wrong capability, not a wrong pointer.

use std::sync::Arc;

use refcap_abi::ErrorCode;
use wasmtime::{AsContextMut, ExternRef, RootScope, Rooted};

use super::ordinary::Ordinary;
use super::{Heap, MintError, Passage};
use crate::capability::Key;
use crate::capability::entry::Entry;
use crate::capability::mailbox::Mailbox;
use crate::vat::VatState;

/// Bytes of one reference in the collector's heap.
const OBJECT: usize = 32;

/// Asks a cell, and wasmtime only when the cell does not know.
#[derive(Debug)]
pub(crate) struct Fast;

/// Dies in the next collection, whatever starts it, and takes the epoch with it.
#[derive(Debug)]
pub(super) struct Sentinel(Arc<Mailbox>);

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.0.end_epoch();
    }
}

impl Passage for Fast {
    #[inline(always)]
    fn known(state: &VatState, raw: u32) -> Option<Key<Entry>> {
        state.cells.find_undisturbed(raw)
    }

    fn resolve<H: Heap>(
        store: &mut H,
        raw: u32,
        consume: bool,
    ) -> wasmtime::Result<Result<Key<Entry>, ErrorCode>> {
        match store.as_context().data().cells.find(raw) {
            Some(key) if !consume => Ok(Ok(key)),
            _ => resolve_slowly(store, raw, consume),
        }
    }

    fn mint<H: Heap>(store: &mut H, key: Key<Entry>) -> Result<Rooted<ExternRef>, MintError> {
        let reference = Ordinary::mint(store, key)?;
        if store.as_context().data().cells.is_stale() {
            // Making it has collected, or something before it: once for each collection.
            after_collection(store, reference)?;
        }
        Ok(reference)
    }

    fn expose<H: Heap>(
        store: &mut H,
        reference: &Rooted<ExternRef>,
        key: Key<Entry>,
    ) -> wasmtime::Result<u32> {
        let raw = Ordinary::expose(store, reference, key)?;
        store.as_context_mut().data_mut().cells.fill(raw, key);
        Ok(raw)
    }
}

/// What no cell knows, or what is given up.
#[cold]
pub(super) fn resolve_slowly<H: Heap>(
    store: &mut H,
    raw: u32,
    consume: bool,
) -> wasmtime::Result<Result<Key<Entry>, ErrorCode>> {
    let found = Ordinary::resolve(store, raw, consume)?;
    let mut store = store.as_context_mut();
    let cells = &mut store.data_mut().cells;
    match found {
        Ok(_) if consume => cells.forget(raw),
        Ok(key) => cells.fill(raw, key),
        Err(_) => {}
    }
    Ok(found)
}

/// Makes room and begins an epoch.
#[cold]
fn after_collection<H: Heap>(store: &mut H, newest: Rooted<ExternRef>) -> Result<(), MintError> {
    keep_headroom(store, newest)?;
    begin_epoch(store).map_err(MintError::Engine)
}

/// Makes a sentinel, then begins its epoch. Without memory for one there is no epoch, and every look-up goes
/// the ordinary way.
fn begin_epoch<H: Heap>(store: &mut H) -> wasmtime::Result<()> {
    let sentinel = Sentinel(store.as_context().data().cells.mailbox());
    {
        // The scope ends at once: from here on nothing refers to the sentinel.
        let mut scope = RootScope::new(&mut *store);
        match ExternRef::new(&mut scope, sentinel).map_err(MintError::from) {
            Ok(_) => {}
            Err(MintError::Full) => return Ok(()),
            Err(MintError::Engine(error)) => return Err(error),
        }
    }
    store.as_context_mut().data_mut().cells.begin_epoch();
    Ok(())
}

/// Lets the heap of references grow before it is full.
///
/// The collector copies from one half of the heap to the other, and lets it grow only when a half is full of
/// **live** references. A guest that holds nearly that many would make it collect for every new one: 11 us
/// each at 1,020 live ones, 144 us at 16,380. So when more than half of a half is live, the rest is filled
/// once with references that live until it has grown.
///
/// Where the vat's limit refuses that, nothing can be done but to stop short of the worst: with more than three
/// quarters live there are no more references.
fn keep_headroom<H: Heap>(store: &mut H, newest: Rooted<ExternRef>) -> Result<(), MintError> {
    let Some(capacity) = store.capacity() else {
        return Ok(());
    };
    let half = capacity / 2;
    // It was made right after the live ones were moved to the beginning of a half.
    let raw = newest.to_raw(&mut *store).map_err(MintError::Engine)? as usize;
    let live = if raw < half { raw } else { raw - half };
    if live <= half / 2 {
        return Ok(());
    }
    if store.as_context().data().cells.refused_at != capacity {
        let mut scope = RootScope::new(&mut *store);
        for _ in 0..(half - live.min(half)) / OBJECT + 2 {
            match ExternRef::new(&mut scope, ()).map_err(MintError::from) {
                Ok(_) => {}
                Err(MintError::Full) => {
                    scope.as_context_mut().data_mut().cells.refused_at = capacity;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
    }
    if store.as_context().data().cells.refused_at == capacity && live > half / 4 * 3 {
        return Err(MintError::Full);
    }
    Ok(())
}

/// The parts of a store that a passage needs.
impl Heap for wasmtime::Store<VatState> {
    fn capacity(&self) -> Option<usize> {
        Some(self.gc_heap_capacity())
    }
}

impl Heap for wasmtime::Caller<'_, VatState> {
    fn capacity(&self) -> Option<usize> {
        Some(self.gc_heap_capacity())
    }
}

impl<H: Heap> Heap for RootScope<H> {
    // A scope does not let its store be asked; endowments, which are made in one, are few.
    fn capacity(&self) -> Option<usize> {
        None
    }
}

impl<H: Heap> Heap for &mut H {
    fn capacity(&self) -> Option<usize> {
        (**self).capacity()
    }
}
