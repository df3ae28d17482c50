//! Names that are never given twice.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of one capability: unique in this process, never used again.
///
/// It is what the audit log and [`Capability`](crate::Capability) name a capability by. At a billion
/// capabilities a second the numbers last 584 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CapId(NonZeroU64);

impl CapId {
    /// A number that is higher than all before it: what is derived is younger than what it comes from, and its number says so.
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

/// A [`Key`] in 12 bytes, to be kept: with one, what the fast way knows of a reference is a quarter of a line of the
/// processor's cache.
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

/// Many keys, in 8 bytes each where their capabilities were made not too long before or after the first one's: of the time
/// that listing a million takes, most is spent on getting the memory for it.
pub(crate) struct Keys<T> {
    /// The lowest number that is near.
    base: u64,
    /// Places, and how much higher than `base` the numbers are.
    near: Vec<(u32, u32)>,
    far: Vec<Key<T>>,
}

impl<T> Keys<T> {
    #[inline]
    pub(super) fn push(&mut self, key: Key<T>) {
        if self.is_empty() {
            self.base = key.id.get().saturating_sub(u64::from(u32::MAX / 2));
        }
        let above = key.id.get().checked_sub(self.base);
        match above.and_then(|above| u32::try_from(above).ok()) {
            Some(above) => self.near.push((key.place, above)),
            None => self.far.push(key),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.near.is_empty() && self.far.is_empty()
    }

    /// All of them, those that are far last.
    pub(super) fn iter(&self) -> impl Iterator<Item = Key<T>> + '_ {
        let near = self.near.iter().filter_map(|&(place, above)| {
            let id = NonZeroU64::new(self.base + u64::from(above))?;
            Some(Key::new(place as usize, CapId(id)))
        });
        near.chain(self.far.iter().copied())
    }
}

// Written out, for a derive would ask the same of `T`.
impl<T> Default for Keys<T> {
    fn default() -> Self {
        Keys {
            base: 0,
            near: Vec::new(),
            far: Vec::new(),
        }
    }
}

impl<T> fmt::Debug for Keys<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Entries by key. The place says where to look; the entry's own [`CapId`], which never wraps, decides whether it is the
/// one that is meant.
///
/// The `slab` crate would do, but it moves an entry into its place and out of it as a whole, which waits each time until the
/// parts have arrived in memory: 3 % of what deriving and closing cost. Here an entry is written where it stays, and looked
/// at and dropped where it is.
#[derive(Debug)]
pub(crate) struct Register<T> {
    slots: Vec<Slot<T>>,
    /// The first of those that are free, each of which leads to the next.
    free: u32,
    length: usize,
}

/// An entry with its number, or none. It begins with a line of the processor's cache: what is as large as one would lie in
/// two otherwise, and of those that are used in turn only half as many would be at hand.
#[derive(Debug)]
#[repr(align(64))]
pub(super) enum Slot<T> {
    Taken { id: CapId, entry: T },
    Free { next: u32 },
}

/// A free place of a register. Whoever has it has all that filling it needs: nothing can fail any more, so the compiler may
/// make the entry where it stays.
pub(super) struct Vacancy<'a, T> {
    slot: &'a mut Slot<T>,
    place: u32,
    next: u32,
    free: &'a mut u32,
    length: &'a mut usize,
}

impl<T> Vacancy<'_, T> {
    #[inline(always)]
    pub(super) fn fill(self, id: CapId, entry: T) -> Key<T> {
        *self.free = self.next;
        *self.length += 1;
        // Nothing was there, which the compiler does not see: it would look for an entry to drop.
        std::mem::forget(std::mem::replace(self.slot, Slot::Taken { id, entry }));
        Key::new(self.place as usize, id)
    }
}

/// The places that there are room for at first.
const FEW: usize = 2;

/// Leads to no place.
const END: u32 = u32::MAX;

impl<T> Default for Register<T> {
    fn default() -> Self {
        Register {
            slots: Vec::new(),
            free: END,
            length: 0,
        }
    }
}

impl<T> Register<T> {
    /// The most entries that there may be.
    pub(crate) const MOST: usize = END as usize;

    /// A place for one more entry. `None` when there are [`MOST`](Register::MOST).
    #[inline(always)]
    pub(super) fn vacancy(&mut self) -> Option<Vacancy<'_, T>> {
        if self.free == END {
            self.grow();
        }
        let place = self.free;
        let slot = self.slots.get_mut(place as usize)?;
        let Slot::Free { next } = *slot else { return None };
        Some(Vacancy {
            slot,
            place,
            next,
            free: &mut self.free,
            length: &mut self.length,
        })
    }

    /// Makes a free place, when there is none.
    #[inline(never)]
    fn grow(&mut self) {
        if self.slots.len() < Self::MOST {
            if self.slots.is_empty() {
                // Most vats hold a Net and a socket. A vector would begin with room for four.
                self.slots.reserve_exact(FEW);
            }
            self.free = u32::try_from(self.slots.len()).unwrap_or(END);
            self.slots.push(Slot::Free { next: END });
        }
    }

    #[inline]
    pub(crate) fn get(&self, key: Key<T>) -> Option<&T> {
        match self.slots.get(key.place()) {
            Some(Slot::Taken { id, entry }) if *id == key.id => Some(entry),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        match self.slots.get_mut(key.place()) {
            Some(Slot::Taken { id, entry }) if *id == key.id => Some(entry),
            _ => None,
        }
    }

    /// Takes an entry out and drops it, when `last` has looked at it where it is. Returns what that returns, or `None` if
    /// there is no such entry.
    #[inline]
    pub(crate) fn remove<R>(&mut self, key: Key<T>, last: impl FnOnce(&T) -> R) -> Option<R> {
        let result = last(self.get(key)?);
        if let Some(slot) = self.slots.get_mut(key.place()) {
            *slot = Slot::Free { next: self.free };
            self.free = key.place;
            self.length -= 1;
        }
        if self.length == 0 && self.slots.capacity() > KEEP {
            // It does not shrink by itself.
            *self = Register::default();
        }
        Some(result)
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = Key<T>> + '_ {
        let keys = self.slots.iter().enumerate().map(|(place, slot)| match slot {
            Slot::Taken { id, .. } => Some(Key::new(place, *id)),
            Slot::Free { .. } => None,
        });
        keys.flatten()
    }
}

/// Below this many places, what has places keeps its memory when it is empty.
pub(super) const KEEP: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn insert<T>(register: &mut Register<T>, entry: T) -> Key<T> {
        register.vacancy().unwrap().fill(CapId::next(), entry)
    }

    #[test]
    fn a_removed_key_names_nothing_even_in_the_same_place() {
        let mut register = Register::default();
        let old = insert(&mut register, 'a');
        assert_eq!(register.remove(old, |entry| *entry), Some('a'));
        let new = insert(&mut register, 'b');
        assert_eq!(register.get(old), None);
        assert_eq!(register.remove(old, |entry| *entry), None);
        assert_eq!(register.get(new), Some(&'b'));
    }

    #[test]
    fn a_list_of_keys_has_what_was_put_in_however_far_apart_the_numbers_are() {
        let numbers = [
            5_000_000_000,
            5_000_000_001,
            1,
            u64::MAX,
            4_999_999_999,
            5_000_000_000 - u64::from(u32::MAX / 2),
            5_000_000_000 - u64::from(u32::MAX / 2) - 1,
            5_000_000_000 + u64::from(u32::MAX / 2) + 1,
            5_000_000_000 + u64::from(u32::MAX / 2) + 2,
        ];
        let mut keys = Keys::<()>::default();
        assert!(keys.is_empty());
        let put_in = numbers.map(|number| Key::new(7, CapId(NonZeroU64::new(number).unwrap())));
        put_in.iter().for_each(|&key| keys.push(key));
        let order = [0, 1, 4, 5, 7, 2, 3, 6, 8];
        assert_eq!(keys.iter().collect::<Vec<_>>(), order.map(|index| put_in[index]));
        let mut keys = Keys::<()>::default();
        keys.push(put_in[3]);
        assert!(!keys.is_empty());
        assert_eq!(keys.iter().collect::<Vec<_>>(), [put_in[3]]);
    }

    // slotmap's version of 32 bits would make an old key valid again after 2^31 rounds (orlp/slotmap#125). A key
    // with the same place but the id of the dead capability stands for that moment.
    #[test]
    fn class_23_a_wrapped_slot_version_does_not_revive_a_dead_key() {
        let mut register = Register::default();
        let dead = CapId::next();
        let live = insert(&mut register, 'b');
        let wrapped = Key::new(live.place(), dead);
        assert_eq!(register.get(wrapped), None);
        assert_eq!(register.get_mut(wrapped), None);
        assert_eq!(register.remove(wrapped, |entry| *entry), None);
        assert_eq!(register.get(live), Some(&'b'));
    }

    #[test]
    fn places_are_used_again_before_there_are_more() {
        let mut register = Register::default();
        let keys: Vec<_> = (0..10).map(|n| insert(&mut register, n)).collect();
        for &key in &keys[2..6] {
            assert_eq!(register.remove(key, |entry| *entry), Some(key.place() as i32));
        }
        let left: Vec<_> = register.keys().collect();
        assert_eq!((register.len(), left), (6, [&keys[..2], &keys[6..]].concat()));
        for n in 10..15 {
            let key = insert(&mut register, n);
            assert_eq!(register.get(key), Some(&n));
        }
        assert_eq!((register.len(), register.slots.len()), (11, 11));
        assert!(
            keys[6..]
                .iter()
                .all(|&key| register.get(key) == Some(&(key.place() as i32)))
        );
    }

    #[test]
    fn an_emptied_register_gives_its_memory_back_and_stays_unforgeable() {
        let mut register = Register::default();
        let keys: Vec<_> = (0..10_000).map(|n| insert(&mut register, n)).collect();
        for &key in &keys {
            register.remove(key, |_| ());
        }
        assert_eq!(register.len(), 0);
        assert!(register.slots.capacity() <= KEEP);
        insert(&mut register, 1);
        assert!(keys.iter().all(|&key| register.get(key).is_none()));
    }
}
