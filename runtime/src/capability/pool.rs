//! What many have in common, kept once and counted.
//!
//! Those who have a pool have it to themselves (a lineage under its lock, a vat's table with its store), so counting takes
//! no atomic operation, which is most of what cloning and dropping an `Arc` costs.

use slab::Slab;

use super::id::{CapId, KEEP, Key};

/// A place where something is, in half the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link(u32);

impl Link {
    pub(super) const NONE: Link = Link(u32::MAX);

    /// Who fills places sees to it that they are smaller than that.
    pub(super) fn to(place: usize) -> Link {
        Link(u32::try_from(place).unwrap_or(u32::MAX))
    }

    pub(super) fn place(self) -> Option<usize> {
        (self != Link::NONE).then_some(self.0 as usize)
    }

    /// The key of what has that number, if it is at the place; of nothing, if the link leads nowhere.
    pub(super) fn key<T>(self, id: CapId) -> Key<T> {
        Key::new(self.0 as usize, id)
    }
}

/// Values, each with the number of those that have it.
#[derive(Debug)]
pub(super) struct Pool<T>(Slab<(u32, T)>);

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Pool(Slab::new())
    }
}

impl<T> Pool<T> {
    /// One has it.
    pub(super) fn add(&mut self, value: T) -> Link {
        if self.0.capacity() == 0 {
            // Most have one value and no other. A vector would begin with room for four.
            self.0.reserve_exact(1);
        }
        Link::to(self.0.insert((1, value)))
    }

    pub(super) fn get(&self, link: Link) -> Option<&T> {
        self.0.get(link.0 as usize).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, link: Link) -> Option<&mut T> {
        self.0.get_mut(link.0 as usize).map(|(_, value)| value)
    }

    /// One more has it.
    pub(super) fn share(&mut self, link: Link) -> Link {
        if let Some((count, _)) = self.0.get_mut(link.0 as usize) {
            *count += 1;
        }
        link
    }

    /// One less has it.
    #[inline]
    pub(super) fn release(&mut self, link: Link) {
        match self.0.get_mut(link.0 as usize) {
            Some((count, _)) if *count > 1 => *count -= 1,
            _ => drop(self.release_many(link, 1)),
        }
    }

    /// So many less have it. Returns the value when they were the last.
    pub(super) fn release_many(&mut self, link: Link, less: usize) -> Option<T> {
        let (count, _) = self.0.get_mut(link.0 as usize)?;
        *count -= u32::try_from(less).unwrap_or(*count);
        if *count > 0 {
            return None;
        }
        let (_, value) = self.0.remove(link.0 as usize);
        if self.0.is_empty() && self.0.capacity() > KEEP {
            // A slab does not shrink by itself.
            self.0 = Slab::new();
        }
        Some(value)
    }

    /// Takes the value out, if there is one and no other, and says how many had it.
    pub(super) fn take_only(&mut self) -> Option<(T, usize)> {
        let is_only = self.0.len() == 1;
        let (count, value) = is_only.then(|| self.0.drain().next()).flatten()?;
        Some((value, count as usize))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// One more has a value, which is most often the one at `likely`.
    #[inline]
    pub(super) fn have(
        &mut self,
        likely: Link,
        is_it: impl FnOnce(&T) -> bool,
        make: impl FnOnce() -> T,
    ) -> Link {
        match self.get(likely) {
            Some(its) if is_it(its) => self.share(likely),
            _ => self.add(make()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_there_for_as_long_as_one_has_it() {
        let mut pool = Pool::default();
        let (a, b) = (pool.add('a'), pool.add('b'));
        assert_eq!(pool.share(a), a);
        pool.release(a);
        assert_eq!((pool.get(a), pool.get(b)), (Some(&'a'), Some(&'b')));
        pool.release(a);
        assert_eq!((pool.get(a), pool.get(b)), (None, Some(&'b')));
        pool.release(a);
        pool.share(b);
        assert_eq!(pool.release_many(b, 2), Some('b'));
        assert_eq!(pool.len(), 0);
    }

    // A vat that labelled very many capabilities once kept the room for their labels when it had given them all up.
    #[test]
    fn an_emptied_pool_gives_its_memory_back() {
        let mut pool = Pool::default();
        let links: Vec<_> = (0..10_000).map(|n| pool.add(n)).collect();
        for (n, &link) in links.iter().enumerate() {
            assert_eq!(pool.release_many(link, 1), Some(n));
        }
        assert!(pool.0.capacity() <= KEEP);
        assert_eq!(pool.get(links[9_999]), None);
        let link = pool.add(1);
        assert_eq!(pool.get(link), Some(&1));
    }

    #[test]
    fn the_only_value_is_taken_with_its_number_and_of_several_none() {
        let mut pool = Pool::default();
        assert_eq!(pool.take_only(), None);
        let a = pool.add('a');
        pool.share(a);
        let b = pool.add('b');
        assert_eq!(pool.take_only(), None);
        pool.release(b);
        assert_eq!(pool.take_only(), Some(('a', 2)));
        assert_eq!((pool.len(), pool.get(a)), (0, None));
    }

    #[test]
    fn what_leads_nowhere_has_nothing() {
        let mut pool = Pool::default();
        pool.add('a');
        assert_eq!(pool.share(Link::NONE), Link::NONE);
        assert_eq!(pool.get(Link::NONE), None);
        pool.release(Link::NONE);
        assert_eq!(pool.len(), 1);
    }
}
