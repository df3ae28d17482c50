//! What the fast way remembers: which raw value stands for which key, until the next collection.
//!
//! wasmtime promises that a raw value names its object until a collection, and nothing longer. So each cell
//! is valid for one **epoch**, and an epoch ends in the very collection that could make it wrong: the
//! [`Sentinel`](super::fast::Sentinel) dies in it, and its `Drop` ends the epoch. The number of the epoch is in the
//! vat's [`Mailbox`], beside what else a call must look at first.

use std::sync::Arc;

use refcap_abi::ErrorCode;

use crate::capability::entry::Entry;
use crate::capability::mailbox::{Mailbox, NO_EPOCH};
use crate::capability::{Key, PackedKey};

/// Objects in the heap of references lie this many bits apart: two live ones never share a cell.
const OBJECT_BITS: u32 = 5;
/// Epochs are counted in steps of so much, so that an epoch and what is left of a raw value make one number.
const STEP: u32 = 1 << OBJECT_BITS;
/// The epoch of cells that were never filled. There is none of that number.
const NEVER: u32 = STEP.wrapping_neg();
/// The fewest cells there are, once there are any. Most vats have a handful of references.
const FEWEST: usize = 4;

/// One raw value and its key. The tag is the sum of the epoch and the raw value. The upper bits of the raw value are the
/// cell's place; so in one place two tags are the same only if the epochs are and the whole raw values are, and one
/// comparison turns away what is stale, null, misaligned or another object's.
#[derive(Debug, Clone, Copy)]
struct Cell {
    tag: u32,
    key: PackedKey<Entry>,
}

// Four to a line of the processor's cache.
const _: () = assert!(size_of::<Cell>() == 16);

/// A store's cells. They are a cache, and wrong about nothing: what is not in them is looked up in the
/// ordinary way.
#[derive(Debug)]
pub(crate) struct Cells {
    mailbox: Arc<Mailbox>,
    /// In steps of [`STEP`].
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
            Some(cell) if cell.tag == tag(epoch, raw) => Some(cell.key.key()),
            _ => None,
        }
    }

    /// Remembers a key that was found in the ordinary way, or just made, for this epoch.
    pub(super) fn fill(&mut self, raw: u32, key: Key<Entry>) {
        let epoch = self.mailbox.epoch();
        if epoch == NO_EPOCH || raw == 0 {
            return;
        }
        let key = PackedKey::from(key);
        let place = place(raw);
        if place >= self.cells.len() {
            let length = (place + 1).next_power_of_two().max(FEWEST);
            let more = self.cells.len()..length;
            self.cells.extend(more.map(|place| Cell {
                tag: empty(place),
                key,
            }));
        }
        self.cells[place] = Cell {
            tag: tag(epoch, raw),
            key,
        };
    }

    /// Forgets a raw value.
    pub(super) fn forget(&mut self, raw: u32) {
        let place = place(raw);
        if let Some(cell) = self.cells.get_mut(place) {
            cell.tag = empty(place);
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
        self.last_epoch += STEP;
        if self.last_epoch == NEVER {
            // After 134 million collections the numbers begin again: nothing may be left of the first ones.
            self.cells.clear();
            self.last_epoch = NO_EPOCH + STEP;
        }
        self.mailbox.begin_epoch(self.last_epoch);
    }

    /// How many epochs there were.
    #[cfg(test)]
    pub(super) fn epochs(&self) -> u32 {
        self.last_epoch / STEP
    }

    /// As if there had been 134 million collections.
    #[cfg(test)]
    pub(super) fn wear_out(&mut self) {
        self.last_epoch = NEVER - STEP;
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

fn tag(epoch: u32, raw: u32) -> u32 {
    epoch.wrapping_add(raw)
}

/// The tag of a cell that knows nothing.
fn empty(place: usize) -> u32 {
    tag(NEVER, (place << OBJECT_BITS) as u32)
}

fn place(raw: u32) -> usize {
    (raw >> OBJECT_BITS) as usize
}
