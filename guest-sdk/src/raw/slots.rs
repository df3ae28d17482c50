//! What Rust knows of the slots of the table: who owns each, and which are free.

use std::cell::{RefCell, UnsafeCell};

use refcap_abi::ErrorCode;

use super::{
    refcap_v1_free_slots, refcap_v1_stub_cap_close, refcap_v1_table_clear, refcap_v1_table_grow,
    refcap_v1_table_is_null, refcap_v1_table_size,
};
use crate::host::Failure;

/// The owner of one slot of the table and of the reference in it.
///
/// When it is dropped, the reference is closed at the host and the slot is free again.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(super) number: u32,
    /// Which use of the slot this is. A slot that is freed and used again is another one, so that a
    /// `Slot` that somehow outlives its reference is an error and not someone else's capability.
    generation: u64,
}

impl Slot {
    /// Takes a slot for a reference that is about to be made.
    pub(super) fn new() -> Result<Slot, Failure> {
        const FULL: Failure = Failure::Guest(ErrorCode::LimitReached, "the table of references cannot grow");
        with_book(Book::allocate).ok_or(FULL)
    }

    /// The slot's number, if it still belongs to this owner.
    pub(super) fn number(&self) -> Result<u32, Failure> {
        if with_book(|book| book.owns(self)) {
            Ok(self.number)
        } else {
            Err(Failure::Guest(ErrorCode::Closed, ErrorCode::Closed.message()))
        }
    }

    /// Frees the slot, and closes nothing.
    pub(super) fn release(&self) {
        if with_book(|book| book.free(self)) {
            // The host forgets the reference, but a collector can only drop it once it is out of the table.
            refcap_v1_table_clear(self.number);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Ok(number) = self.number() {
            if refcap_v1_table_is_null(number) == 0 {
                // It is gone in any case, and there is no one to tell.
                let _ = refcap_v1_stub_cap_close(number);
            }
            self.release();
        }
    }
}

/// The head of the list of free slots, in the object's memory.
///
/// The export that receives capabilities takes slots from it, on its own, whenever the host calls it.
#[repr(C)]
pub(super) struct FreeSlots {
    pointer: UnsafeCell<*const u32>,
    length: UnsafeCell<u32>,
    /// The slot that holds what is put out; 0 as long as nothing ever was.
    out: UnsafeCell<u32>,
}

// SAFETY: there is one thread (see the check at the top of `raw`).
unsafe impl Sync for FreeSlots {}

impl FreeSlots {
    fn length(&self) -> usize {
        // SAFETY: one thread, and no reference to the inside of the cell exists outside of this impl.
        unsafe { *self.length.get() as usize }
    }

    pub(super) fn out(&self) -> u32 {
        // SAFETY: as for `length`.
        unsafe { *self.out.get() }
    }

    pub(super) fn set_out(&self, slot: u32) {
        // SAFETY: as for `length`.
        unsafe { *self.out.get() = slot };
    }

    /// Makes the first `length` elements of the array the free slots.
    fn set(&self, array: &[u32], length: usize) {
        assert!(length <= array.len(), "more free slots than the list holds");
        // SAFETY: as for `length`. The array is `Book::free`, which lives as long as the program, and
        // each change of its buffer is followed by this call before the host can call in.
        unsafe {
            *self.pointer.get() = array.as_ptr();
            *self.length.get() = length as u32;
        }
    }
}

pub(super) fn free_slots() -> &'static FreeSlots {
    // SAFETY: the object defines the symbol as 12 zero bytes, aligned to 4: null and 0s, a valid value.
    unsafe { &refcap_v1_free_slots }
}

/// What Rust knows about the slots.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// One for each slot, odd while the slot has an owner. It never wraps: that would take centuries.
    generations: Vec<u64>,
    /// One element for each slot, so that freeing never allocates. The free slots are the first ones;
    /// how many they are stands in [`FreeSlots`].
    free: Vec<u32>,
}

impl Book {
    fn allocate(&mut self) -> Option<Slot> {
        if free_slots().length() == 0 {
            self.grow()?;
        }
        let length = free_slots().length() - 1;
        free_slots().set(&self.free, length);
        self.adopt(self.free[length])
    }

    /// Doubles the table or, where that is more than the host allows, adds one slot.
    fn grow(&mut self) -> Option<()> {
        const FAILED: u32 = u32::MAX;
        let double = refcap_v1_table_size().max(8);
        let (first, added) = [double, 1]
            .into_iter()
            .map(|slots| (refcap_v1_table_grow(slots), slots))
            .find(|&(first, _)| first != FAILED)?;
        self.cover_table();
        // The lowest number last, so that it is taken first.
        for (place, slot) in self.free.iter_mut().zip((first..first + added).rev()) {
            *place = slot;
        }
        free_slots().set(&self.free, added as usize);
        Some(())
    }

    /// Makes a slot's owner, unless it has one or there is no such slot.
    pub(super) fn adopt(&mut self, number: u32) -> Option<Slot> {
        self.cover_table();
        let generation = self.generations.get_mut(number as usize)?;
        if *generation % 2 == 1 {
            return None;
        }
        *generation += 1;
        Some(Slot {
            number,
            generation: *generation,
        })
    }

    /// Takes note of slots that were added, by `grow` or by the host's handing something over.
    fn cover_table(&mut self) {
        let size = refcap_v1_table_size() as usize;
        if self.generations.len() < size {
            self.generations.resize(size, 0);
            let length = free_slots().length();
            self.free.resize(size, 0);
            free_slots().set(&self.free, length);
        }
    }

    fn owns(&self, slot: &Slot) -> bool {
        self.generations.get(slot.number as usize) == Some(&slot.generation)
    }

    /// Puts a slot back on the list, if this is its owner.
    fn free(&mut self, slot: &Slot) -> bool {
        let owned = self.owns(slot);
        if owned {
            self.generations[slot.number as usize] += 1;
            let length = free_slots().length();
            self.free[length] = slot.number;
            free_slots().set(&self.free, length + 1);
        }
        owned
    }
}

/// A value that is only ever used by the one thread there is.
struct OneThread<T>(RefCell<T>);

// SAFETY: there is one thread (see the check at the top of `raw`).
unsafe impl<T> Sync for OneThread<T> {}

static BOOK: OneThread<Book> = OneThread(RefCell::new(Book {
    generations: Vec::new(),
    free: Vec::new(),
}));

pub(super) fn with_book<T>(action: impl FnOnce(&mut Book) -> T) -> T {
    action(&mut BOOK.0.borrow_mut())
}
