//! What the fast way remembers: which raw value stands for which key, until the next collection.
//!
//! wasmtime promises that a raw value names its object until a collection, and nothing longer. So each cell
//! is valid for one **epoch**, and an epoch ends in the very collection that could make it wrong: the
//! [`Sentinel`](super::fast::Sentinel) dies in it, and its `Drop` ends the epoch. The number of the epoch is in the
//! vat's [`Mailbox`], beside what else a call must look at first.

use std::sync::Arc;

use refcap_abi::ErrorCode;

use crate::capability::Key;
use crate::capability::mailbox::{Mailbox, NO_EPOCH};
use crate::capability::table::Entry;

/// The tag of a cell that was never filled. No raw value is odd, so no look-up makes it.
const EMPTY: u64 = u64::MAX;
/// Objects in the heap of references lie this many bits apart: two live ones never share a cell.
const OBJECT_BITS: u32 = 5;
/// The fewest cells there are, once there are any. Most vats have a handful of references.
const FEWEST: usize = 4;

/// One raw value and its key. The tag is the epoch and the whole raw value, so one comparison turns away
/// what is stale, null, misaligned or another object's.
#[derive(Debug, Clone, Copy)]
struct Cell {
    tag: u64,
    key: Key<Entry>,
}

/// A store's cells. They are a cache, and wrong about nothing: what is not in them is looked up in the
/// ordinary way.
#[derive(Debug)]
pub(crate) struct Cells {
    mailbox: Arc<Mailbox>,
    last_epoch: u32,
    cells: Vec<Cell>,
    /// The capacity at which the heap of references was refused more, in bytes.
    pub(super) refused_at: usize,
    /// How often both ways were asked, and how often a cell had the answer.
    pub(super) comparisons: u64,
    pub(super) hits: u64,
}

impl Cells {
    pub(crate) fn new(mailbox: Arc<Mailbox>) -> Cells {
        Cells {
            mailbox,
            last_epoch: NO_EPOCH,
            cells: Vec::new(),
            refused_at: 0,
            comparisons: 0,
            hits: 0,
        }
    }

    /// The key that a raw value stands for, if that is known and still true.
    #[inline(always)]
    pub(super) fn find(&self, raw: u32) -> Option<Key<Entry>> {
        self.find_in(self.mailbox.epoch(), raw)
    }

    /// The same, if there are no letters to read either.
    #[inline(always)]
    pub(super) fn find_undisturbed(&self, raw: u32) -> Option<Key<Entry>> {
        self.find_in(self.mailbox.undisturbed(), raw)
    }

    // No cell has the tag of no epoch.
    #[inline(always)]
    fn find_in(&self, epoch: u32, raw: u32) -> Option<Key<Entry>> {
        match self.cells.get(place(raw)) {
            Some(cell) if cell.tag == tag(epoch, raw) => Some(cell.key),
            _ => None,
        }
    }

    /// Remembers a key that was found in the ordinary way, or just made, for this epoch.
    pub(super) fn fill(&mut self, raw: u32, key: Key<Entry>) {
        let epoch = self.mailbox.epoch();
        if epoch == NO_EPOCH || raw == 0 {
            return;
        }
        let place = place(raw);
        if place >= self.cells.len() {
            let empty = Cell { tag: EMPTY, key };
            let length = (place + 1).next_power_of_two().max(FEWEST);
            self.cells.resize(length, empty);
        }
        self.cells[place] = Cell {
            tag: tag(epoch, raw),
            key,
        };
    }

    /// Forgets a raw value.
    pub(super) fn forget(&mut self, raw: u32) {
        if let Some(cell) = self.cells.get_mut(place(raw)) {
            cell.tag = EMPTY;
        }
    }

    /// Whether a collection has ended the epoch.
    pub(super) fn is_stale(&self) -> bool {
        self.mailbox.epoch() == NO_EPOCH
    }

    /// Where an epoch is ended, for a sentinel.
    pub(super) fn mailbox(&self) -> Arc<Mailbox> {
        self.mailbox.clone()
    }

    /// Begins an epoch. Its sentinel must exist already, or a collection that makes room for it would be
    /// missed.
    pub(super) fn begin_epoch(&mut self) {
        self.last_epoch = self.last_epoch.wrapping_add(1);
        if self.last_epoch == NO_EPOCH {
            // After four billion collections the numbers begin again: nothing may be left of the first ones.
            self.cells.clear();
            self.last_epoch = NO_EPOCH + 1;
        }
        self.mailbox.begin_epoch(self.last_epoch);
    }

    /// How many epochs there were.
    #[cfg(test)]
    pub(super) fn epochs(&self) -> u32 {
        self.last_epoch
    }

    /// As if there had been four billion collections.
    #[cfg(test)]
    pub(super) fn wear_out(&mut self) {
        self.last_epoch = u32::MAX;
    }

    /// Compares what a cell says with what the ordinary way says. `Err` when the cell is wrong.
    pub(super) fn compare(
        &mut self,
        cached: Option<Key<Entry>>,
        ordinary: Result<Key<Entry>, ErrorCode>,
    ) -> wasmtime::Result<()> {
        self.comparisons += 1;
        let Some(cached) = cached else { return Ok(()) };
        self.hits += 1;
        if ordinary == Ok(cached) {
            return Ok(());
        }
        Err(wasmtime::Error::msg(format!(
            "a reference was taken for {cached:?} and is {ordinary:?}"
        )))
    }
}

fn tag(epoch: u32, raw: u32) -> u64 {
    u64::from(epoch) << 32 | u64::from(raw)
}

fn place(raw: u32) -> usize {
    (raw >> OBJECT_BITS) as usize
}
