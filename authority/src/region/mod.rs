//! The sets behind authority: step functions, nested by the fields of a tuple.
//!
//! A [`Steps`] maps every key of an ordered space to a value; a set of tuples is a step function over
//! hosts, whose values are step functions over ports, whose values are sets of local ends. Since every
//! field is an ordered space and every condition on it an interval, union, intersection and difference
//! are exact, and two sets are equal exactly if their normal forms are.

mod extent;
mod index;
mod levels;
mod products;
mod steps;

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

pub(crate) use extent::{Extent, Seen};
pub(crate) use levels::{Addresses, HostSet, Hosts, LocalSet, PortSteps, RemotePorts, TupleSet, push_range};
pub(crate) use products::{Product, products, spans};
pub(crate) use steps::Steps;

/// The most cells that one authority may have: about 100 MB at the very worst. 200,000 rules with a port
/// list each fit. A cell is one step of a step function; steps that are shared count once.
pub const MAX_CELLS: usize = 2_000_000;

/// The work that every operation may do, however small its operands: a few hundredths of a second.
pub(crate) const FREE_WORK: usize = 1_000_000;

/// The set cannot be represented within [`MAX_CELLS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rules are too complex: they need more than {MAX_CELLS} cells")]
pub struct TooComplex;

/// What to do with two sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Union,
    Intersect,
    Subtract,
}

/// The work that an operation may still do. Each step that is looked at or made costs one, so an operation
/// ends in bounded time whatever it is given.
#[derive(Debug)]
pub(crate) struct Budget(usize);

impl Budget {
    /// What an operation on sets of that many cells in all may take. Honest ones take about the sum; the
    /// product, which contrived ones take, is not to be had.
    pub(crate) fn combining(cells: usize) -> Budget {
        Budget((FREE_WORK + 16 * cells).min(4 * MAX_CELLS))
    }

    /// What making a set of that many rules, ranges of ports and exclusions may take. A balanced union looks
    /// at each of its steps once per round.
    pub(crate) fn building(pieces: usize) -> Budget {
        Budget((FREE_WORK + 512 * pieces).min(8 * MAX_CELLS))
    }

    /// For sets of hosts alone, whose operations take linear time.
    pub(crate) fn linear() -> Budget {
        Budget(usize::MAX)
    }

    /// That much work and no more.
    #[cfg(test)]
    pub(crate) fn exactly(work: usize) -> Budget {
        Budget(work)
    }

    pub(crate) fn spend(&mut self, cells: usize) -> Result<(), TooComplex> {
        self.0 = self.0.checked_sub(cells).ok_or(TooComplex)?;
        Ok(())
    }
}

/// A set, or the value of a step function: `bool` at the bottom, a shared [`Compound`] above it.
pub(crate) trait Region: Clone + Eq + Debug {
    fn empty() -> Self;
    fn full() -> Self;
    fn is_empty(&self) -> bool;
    fn is_full(&self) -> bool;
    /// Equal identities mean equal values; the reverse need not hold.
    fn identity(&self) -> usize;
    /// How large a part of the work on a pair this value is: whether remembering results pays.
    fn size(&self) -> usize;
    /// The operation proper, when none of the shortcuts of [`combine`] applies.
    fn combine_inner(&self, other: &Self, op: Op, budget: &mut Budget) -> Result<Self, TooComplex>;
    /// The comparison proper, when none of the shortcuts of [`is_subset`] applies.
    fn is_subset_inner(&self, of: &Self) -> bool;
    /// The number of cells that are not in `seen` yet.
    fn cells(&self, seen: &mut HashSet<usize>) -> usize;
    /// The size when nothing is shared.
    fn extent(&self, seen: &mut Seen) -> Extent;
}

/// Applies an operation. Where one side decides the result by itself, the result shares that side.
pub(crate) fn combine<R: Region>(a: &R, b: &R, op: Op, budget: &mut Budget) -> Result<R, TooComplex> {
    let same = a.identity() == b.identity();
    Ok(match op {
        Op::Union if same || b.is_empty() || a.is_full() => a.clone(),
        Op::Union if a.is_empty() || b.is_full() => b.clone(),
        Op::Intersect if same || a.is_empty() || b.is_full() => a.clone(),
        Op::Intersect if b.is_empty() || a.is_full() => b.clone(),
        Op::Subtract if a.is_empty() || b.is_empty() => a.clone(),
        Op::Subtract if same || b.is_full() => R::empty(),
        _ => a.combine_inner(b, op, budget)?,
    })
}

/// Whether every element of `a` is one of `b`.
pub(crate) fn is_subset<R: Region>(a: &R, b: &R) -> bool {
    if a.is_empty() || b.is_full() || a.identity() == b.identity() {
        return true;
    }
    !b.is_empty() && a.is_subset_inner(b)
}

impl Region for bool {
    fn empty() -> bool {
        false
    }

    fn full() -> bool {
        true
    }

    fn is_empty(&self) -> bool {
        !self
    }

    fn is_full(&self) -> bool {
        *self
    }

    fn identity(&self) -> usize {
        usize::from(*self)
    }

    fn size(&self) -> usize {
        0
    }

    fn combine_inner(&self, other: &bool, op: Op, _: &mut Budget) -> Result<bool, TooComplex> {
        Ok(match op {
            Op::Union => *self || *other,
            Op::Intersect => *self && *other,
            Op::Subtract => *self && !*other,
        })
    }

    fn is_subset_inner(&self, of: &bool) -> bool {
        !*self || *of
    }

    fn cells(&self, _: &mut HashSet<usize>) -> usize {
        0
    }

    fn extent(&self, _: &mut Seen) -> Extent {
        Extent::default()
    }
}

/// A set that is large enough to be shared.
pub(crate) trait Compound: Eq + Debug {
    fn empty() -> Self;
    fn full() -> Self;
    fn is_empty(&self) -> bool;
    fn is_full(&self) -> bool;
    /// Whether nothing is in it or everything, at every key that there can be; `None` if it depends on the key.
    #[inline]
    fn everywhere(&self) -> Option<bool> {
        if self.is_empty() {
            Some(false)
        } else {
            self.is_full().then_some(true)
        }
    }
    fn size(&self) -> usize;
    fn combine(&self, other: &Self, op: Op, budget: &mut Budget) -> Result<Self, TooComplex>
    where
        Self: Sized;
    fn is_subset(&self, of: &Self) -> bool;
    fn cells(&self, seen: &mut HashSet<usize>) -> usize;
    fn extent(&self, seen: &mut Seen) -> Extent;
}

impl<C: Compound> Region for Arc<C> {
    fn empty() -> Self {
        Arc::new(C::empty())
    }

    fn full() -> Self {
        Arc::new(C::full())
    }

    fn is_empty(&self) -> bool {
        C::is_empty(self)
    }

    fn is_full(&self) -> bool {
        C::is_full(self)
    }

    fn identity(&self) -> usize {
        Arc::as_ptr(self).addr()
    }

    fn size(&self) -> usize {
        C::size(self)
    }

    fn combine_inner(&self, other: &Self, op: Op, budget: &mut Budget) -> Result<Self, TooComplex> {
        C::combine(self, other, op, budget).map(Arc::new)
    }

    fn is_subset_inner(&self, of: &Self) -> bool {
        C::is_subset(self, of)
    }

    fn cells(&self, seen: &mut HashSet<usize>) -> usize {
        if seen.insert(self.identity()) {
            C::cells(self, seen)
        } else {
            0
        }
    }

    fn extent(&self, seen: &mut Seen) -> Extent {
        if let Some(extent) = seen.get(&self.identity()) {
            return *extent;
        }
        let extent = C::extent(self, seen);
        seen.insert(self.identity(), extent);
        extent
    }
}
