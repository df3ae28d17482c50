//! Names that are never given twice.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use slab::Slab;

/// The number of one capability: unique in this process, never used again.
///
/// It is what the audit log and [`Capability`](crate::Capability) name a capability by. At a billion
/// capabilities a second the numbers last 584 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CapId(NonZeroU64);

impl CapId {
    pub(crate) fn next() -> CapId {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Begins at one, and does not come round.
        CapId(NonZeroU64::new(NEXT.fetch_add(1, Ordering::Relaxed)).unwrap_or(NonZeroU64::MAX))
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for CapId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// A key that never names another entry than the one that it was made for: the place where to look, and
/// the capability that must be there. `T` says whose key it is.
pub(crate) struct Key<T> {
    /// The place, which others may have had before and may have afterwards: nobody looks at it alone.
    place: u32,
    id: CapId,
    of: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// A key of these parts, for who had one and kept it so.
    pub(crate) fn new(place: usize, id: CapId) -> Self {
        Key {
            // There is nothing at the last place.
            place: u32::try_from(place).unwrap_or(u32::MAX),
            id,
            of: PhantomData,
        }
    }

    /// A key that names nothing, in no register, and differs from every other.
    pub(crate) fn to_nothing() -> Self {
        Key::new(u32::MAX as usize, CapId::next())
    }

    #[inline]
    pub(crate) fn place(self) -> usize {
        self.place as usize
    }

    #[inline]
    pub(crate) fn id(self) -> CapId {
        self.id
    }
}

// Written out, for a derive would ask the same of `T`.
impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place && self.id == other.id
    }
}

impl<T> Eq for Key<T> {}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.id, self.place)
    }
}

/// A [`Key`] in 12 bytes, to be kept: there are several with each capability. With one, what the fast way knows of a
/// reference is a quarter of a line of the processor's cache, and what the collector keeps behind it half of one.
#[repr(Rust, packed(4))]
pub(crate) struct PackedKey<T> {
    place: u32,
    id: CapId,
    of: PhantomData<fn() -> T>,
}

impl<T> PackedKey<T> {
    #[inline]
    pub(crate) fn key(self) -> Key<T> {
        Key {
            place: self.place,
            id: self.id,
            of: PhantomData,
        }
    }
}

impl<T> From<Key<T>> for PackedKey<T> {
    #[inline]
    fn from(key: Key<T>) -> Self {
        PackedKey {
            place: key.place,
            id: key.id,
            of: PhantomData,
        }
    }
}

impl<T> Clone for PackedKey<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for PackedKey<T> {}

impl<T> fmt::Debug for PackedKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key().fmt(f)
    }
}

/// Entries by key. A slab gives the place; the entry's own [`CapId`], which never wraps, decides whether it is the
/// one that is meant.
#[derive(Debug)]
pub(crate) struct Register<T> {
    entries: Slab<Slot<T>>,
}

/// An entry with its number. It begins with a line of the processor's cache: what is as large as one would lie in two
/// otherwise, and of those that are used in turn only half as many would be at hand.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Slot<T> {
    id: CapId,
    entry: T,
}

impl<T> Default for Register<T> {
    fn default() -> Self {
        Register { entries: Slab::new() }
    }
}

impl<T> Register<T> {
    /// The most entries that there may be. What was put in beyond that would not be found.
    pub(crate) const MOST: usize = u32::MAX as usize;

    pub(crate) fn insert(&mut self, id: CapId, entry: T) -> Key<T> {
        Key::new(self.entries.insert(Slot { id, entry }), id)
    }

    #[inline]
    pub(crate) fn get(&self, key: Key<T>) -> Option<&T> {
        match self.entries.get(key.place()) {
            Some(slot) if slot.id == key.id => Some(&slot.entry),
            _ => None,
        }
    }

    pub(crate) fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        match self.entries.get_mut(key.place()) {
            Some(slot) if slot.id == key.id => Some(&mut slot.entry),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, key: Key<T>) -> Option<T> {
        self.get(key)?;
        let Slot { entry, .. } = self.entries.try_remove(key.place())?;
        if self.entries.is_empty() && self.entries.capacity() > KEEP {
            // A slab does not shrink by itself.
            self.entries = Slab::new();
        }
        Some(entry)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = Key<T>> + '_ {
        self.entries.iter().map(|(place, slot)| Key::new(place, slot.id))
    }
}

/// Below this many places an empty register keeps its memory.
const KEEP: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_key_names_nothing_even_in_the_same_place() {
        let mut register = Register::default();
        let old = register.insert(CapId::next(), 'a');
        assert_eq!(register.remove(old), Some('a'));
        let new = register.insert(CapId::next(), 'b');
        assert_eq!(register.get(old), None);
        assert_eq!(register.remove(old), None);
        assert_eq!(register.get(new), Some(&'b'));
    }

    // slotmap's version of 32 bits would make an old key valid again after 2^31 rounds (orlp/slotmap#125). A key
    // with the same place but the id of the dead capability stands for that moment.
    #[test]
    fn class_23_a_wrapped_slot_version_does_not_revive_a_dead_key() {
        let mut register = Register::default();
        let dead = CapId::next();
        let live = register.insert(CapId::next(), 'b');
        let wrapped = Key::new(live.place(), dead);
        assert_eq!(register.get(wrapped), None);
        assert_eq!(register.get_mut(wrapped), None);
        assert_eq!(register.remove(wrapped), None);
        assert_eq!(register.get(live), Some(&'b'));
    }

    #[test]
    fn an_emptied_register_gives_its_memory_back_and_stays_unforgeable() {
        let mut register = Register::default();
        let keys: Vec<_> = (0..10_000).map(|n| register.insert(CapId::next(), n)).collect();
        for &key in &keys {
            register.remove(key);
        }
        assert_eq!(register.len(), 0);
        assert!(register.entries.capacity() <= KEEP);
        register.insert(CapId::next(), 1);
        assert!(keys.iter().all(|&key| register.get(key).is_none()));
    }
}
