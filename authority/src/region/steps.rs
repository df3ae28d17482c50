//! Step functions: one value for every key of an ordered space.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use super::index::{Index, THRESHOLD};
use super::levels::Key;
use super::{Budget, Compound, Extent, Op, Region, Seen, TooComplex, combine, is_subset};

/// A step function in normal form: `vals[i]` holds from `keys[i - 1]` up to before `keys[i]`, the first
/// value from the bottom of the space, the last one to its top. No two neighbours are equal.
#[derive(Clone, Debug)]
pub(crate) struct Steps<K: Key, V> {
    keys: Vec<K>,
    vals: Vec<V>,
    fill: Fill,
    /// Made at the first look-up, so that the intermediate results of an operation never pay for it.
    index: OnceLock<Box<Index<K, V>>>,
}

/// What is known of a whole function without looking at its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fill {
    Empty,
    Full,
    Mixed,
}

/// From its first key up to before its second, which is `None` at the top of the space.
pub(crate) type Interval<K> = (K, Option<K>);

impl<K: Key, V: Region> Steps<K, V> {
    /// `keys` must rise and have one element less than `vals`; equal neighbours are joined here.
    fn new(keys: Vec<K>, vals: Vec<V>) -> Self {
        let fill = match &*vals {
            [only] if only.is_empty() => Fill::Empty,
            [only] if only.is_full() && K::hole().is_none() => Fill::Full,
            [below, hole, above] if below.is_full() && hole.is_empty() && above.is_full() => {
                match K::hole() {
                    Some((first, end)) if keys[0] == first && keys[1] == end => Fill::Full,
                    _ => Fill::Mixed,
                }
            }
            _ => Fill::Mixed,
        };
        Steps {
            keys,
            vals,
            fill,
            index: OnceLock::new(),
        }
    }

    /// `value` on every one of the intervals, in any order, overlapping or not; empty elsewhere.
    ///
    /// This is the one place where the hole of a key space is cut out: all other functions are made from
    /// results of this one.
    pub(crate) fn on(mut intervals: Vec<Interval<K>>, value: &V) -> Self {
        if value.is_empty() || intervals.is_empty() {
            return Steps::new(vec![], vec![V::empty()]);
        }
        intervals.sort_unstable();
        let mut joined: Vec<Interval<K>> = Vec::with_capacity(intervals.len() + 1);
        for (start, end) in intervals {
            match joined.last_mut() {
                // The one before reaches the top, so it covers this one.
                Some((_, None)) => {}
                Some((_, Some(reach))) if start <= *reach => {
                    let covered = end.as_ref().is_some_and(|end| end <= reach);
                    if !covered && let Some((_, last)) = joined.last_mut() {
                        *last = end;
                    }
                }
                _ => joined.push((start, end)),
            }
        }
        let mut builder = Builder::default();
        // One shared value: a look-up that ends in nothing then ends in the cache.
        let empty = V::empty();
        builder.push_at_bottom(empty.clone());
        for (start, end) in joined {
            for (start, end) in without_hole(start, end).into_iter().flatten() {
                builder.push(start, value.clone());
                if let Some(end) = end {
                    builder.push(end, empty.clone());
                }
            }
        }
        builder.finish()
    }

    /// The value at a key.
    pub(crate) fn at(&self, key: &K) -> &V {
        if self.keys.len() > THRESHOLD {
            return self
                .index
                .get_or_init(|| Box::new(Index::new(&self.keys, &self.vals)))
                .find(key);
        }
        // There is one value more than there are keys.
        &self.vals[self.keys.partition_point(|boundary| boundary <= key)]
    }

    /// Every step that is not empty, with its interval, from the bottom up.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (Interval<K>, &V)> {
        self.vals.iter().enumerate().filter_map(|(i, value)| {
            let start = if i == 0 {
                K::bottom()
            } else {
                self.keys[i - 1].clone()
            };
            (!value.is_empty()).then(|| ((start, self.keys.get(i).cloned()), value))
        })
    }

    /// The value of every step, empty ones too.
    pub(crate) fn values(&self) -> &[V] {
        &self.vals
    }

    /// The intervals on which there is anything at all; neighbours with different values stay apart.
    pub(crate) fn intervals(&self) -> impl Iterator<Item = Interval<K>> {
        self.steps().map(|(interval, _)| interval)
    }

    /// The boundaries.
    pub(crate) fn keys(&self) -> &[K] {
        &self.keys
    }
}

/// An interval without the hole of its space.
fn without_hole<K: Key>(start: K, end: Option<K>) -> [Option<Interval<K>>; 2] {
    let Some((hole, behind)) = K::hole() else {
        return [Some((start, end)), None];
    };
    let reaches = |key: &K| end.as_ref().is_none_or(|end| end > key);
    let below = (start < hole).then(|| {
        let cut = if reaches(&hole) { Some(hole) } else { end.clone() };
        (start.clone(), cut)
    });
    let above = reaches(&behind).then(|| (start.max(behind), end));
    [below, above]
}

/// Collects steps from the bottom up and joins neighbours that are equal.
struct Builder<K, V> {
    keys: Vec<K>,
    vals: Vec<V>,
}

impl<K, V> Default for Builder<K, V> {
    fn default() -> Self {
        Builder {
            keys: Vec::new(),
            vals: Vec::new(),
        }
    }
}

impl<K: Key, V: Region> Builder<K, V> {
    fn push_at_bottom(&mut self, value: V) {
        self.vals.push(value);
    }

    /// `start` must not lie before the one of the step before.
    fn push(&mut self, start: K, value: V) {
        let at_same_place = match self.keys.last() {
            Some(last) => *last == start,
            None => start == K::bottom(),
        };
        if at_same_place {
            self.vals.pop();
            self.keys.pop();
            if self.vals.is_empty() {
                self.vals.push(value);
                return;
            }
        }
        if self.vals.last() != Some(&value) {
            self.keys.push(start);
            self.vals.push(value);
        }
    }

    fn finish(self) -> Steps<K, V> {
        Steps::new(self.keys, self.vals)
    }
}

/// The position in a walk over one of two functions.
struct Cursor<'a, K: Key, V> {
    steps: &'a Steps<K, V>,
    place: usize,
}

impl<'a, K: Key, V: Region> Cursor<'a, K, V> {
    fn new(steps: &'a Steps<K, V>) -> Self {
        Cursor { steps, place: 0 }
    }

    fn value(&self) -> &'a V {
        &self.steps.vals[self.place]
    }

    fn next_key(&self) -> Option<&'a K> {
        self.steps.keys.get(self.place)
    }

    /// Goes on to the step that holds at `key`, which must not lie before the present one.
    fn advance(&mut self, key: &K) {
        let rest = &self.steps.keys[self.place..];
        // Double the reach until it is far enough: near goals cost little, far ones a logarithm.
        let mut reach = 1;
        while rest.get(reach - 1).is_some_and(|boundary| boundary <= key) {
            reach *= 2;
        }
        let from = reach / 2;
        let to = rest.len().min(reach);
        self.place += from + rest[from..to].partition_point(|boundary| boundary <= key);
    }
}

/// The next place where either of two walks changes, or, when `skip` says that a side does not matter now,
/// where the other one does.
fn next_change<'a, K: Key, V>(
    a: &Cursor<'a, K, V>,
    b: &Cursor<'a, K, V>,
    only_a: bool,
    only_b: bool,
) -> Option<&'a K>
where
    V: Region,
{
    match (a.next_key(), b.next_key()) {
        (next, _) if only_a => next,
        (_, next) if only_b => next,
        (Some(a), Some(b)) => Some(a.min(b)),
        (next, None) | (None, next) => next,
    }
}

/// Results of pairs seen before in one walk. The last pair is always kept, others where it pays.
struct Memo<R> {
    last: Option<((usize, usize), R)>,
    all: HashMap<(usize, usize), R>,
}

impl<R: Clone> Memo<R> {
    const WORTH_KEEPING: usize = 32;

    fn new() -> Self {
        Memo {
            last: None,
            all: HashMap::new(),
        }
    }

    fn get<V: Region>(&self, a: &V, b: &V) -> Option<R> {
        let pair = (a.identity(), b.identity());
        match &self.last {
            Some((last, result)) if *last == pair => Some(result.clone()),
            _ => self.all.get(&pair).cloned(),
        }
    }

    fn keep<V: Region>(&mut self, a: &V, b: &V, result: R) {
        let pair = (a.identity(), b.identity());
        if a.size() + b.size() > Self::WORTH_KEEPING {
            self.all.insert(pair, result.clone());
        }
        self.last = Some((pair, result));
    }
}

impl<K: Key, V: Region> Compound for Steps<K, V> {
    fn empty() -> Self {
        Steps::new(vec![], vec![V::empty()])
    }

    fn full() -> Self {
        Steps::on(vec![(K::bottom(), None)], &V::full())
    }

    fn is_empty(&self) -> bool {
        self.fill == Fill::Empty
    }

    fn is_full(&self) -> bool {
        self.fill == Fill::Full
    }

    fn size(&self) -> usize {
        self.keys.len()
    }

    fn combine(&self, other: &Self, op: Op, budget: &mut Budget) -> Result<Self, TooComplex> {
        let (mut a, mut b) = (Cursor::new(self), Cursor::new(other));
        let mut memo = Memo::new();
        let mut builder = Builder::default();
        let mut start: Option<&K> = None;
        loop {
            budget.spend(1)?;
            let (left, right) = (a.value(), b.value());
            let value = match memo.get(left, right) {
                Some(value) => value,
                None => {
                    let value = combine(left, right, op, budget)?;
                    memo.keep(left, right, value.clone());
                    value
                }
            };
            match start {
                Some(start) => builder.push(start.clone(), value),
                None => builder.push_at_bottom(value),
            }
            // While one side decides alone, the steps of the other are passed over.
            let only_a = match op {
                Op::Union => left.is_full(),
                Op::Intersect | Op::Subtract => left.is_empty(),
            };
            let only_b = match op {
                Op::Union | Op::Subtract => right.is_full(),
                Op::Intersect => right.is_empty(),
            };
            let Some(next) = next_change(&a, &b, only_a, only_b) else {
                break;
            };
            a.advance(next);
            b.advance(next);
            start = Some(next);
        }
        Ok(builder.finish())
    }

    fn is_subset(&self, of: &Self) -> bool {
        let (mut a, mut b) = (Cursor::new(self), Cursor::new(of));
        let mut memo = Memo::new();
        loop {
            let (left, right) = (a.value(), b.value());
            if memo.get(left, right).is_none() {
                if !is_subset(left, right) {
                    return false;
                }
                memo.keep(left, right, ());
            }
            let Some(next) = next_change(&a, &b, left.is_empty(), right.is_full()) else {
                return true;
            };
            a.advance(next);
            b.advance(next);
        }
    }

    fn cells(&self, seen: &mut HashSet<usize>) -> usize {
        self.vals.len() + self.vals.iter().map(|value| value.cells(seen)).sum::<usize>()
    }

    fn extent(&self, seen: &mut Seen) -> Extent {
        let mut below = Extent::default();
        for value in self.vals.iter().filter(|value| !value.is_empty()) {
            below += value.extent(seen);
        }
        below.under(self.vals.len())
    }
}

impl<K: Key, V: Region> PartialEq for Steps<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.keys == other.keys && self.vals == other.vals
    }
}

impl<K: Key, V: Region> Eq for Steps<K, V> {}

#[cfg(test)]
mod tests {
    use super::*;

    type Set = Steps<u16, bool>;

    fn set(ranges: &[(u16, Option<u16>)]) -> Set {
        Steps::on(ranges.to_vec(), &true)
    }

    fn apply(a: &Set, b: &Set, op: Op) -> Set {
        Compound::combine(a, b, op, &mut Budget::linear()).unwrap()
    }

    #[test]
    fn intervals_are_joined_into_one_normal_form() {
        let whole = set(&[(0, None)]);
        assert!(whole.is_full());
        assert_eq!(whole, set(&[(10, None), (0, Some(10))]));
        assert_eq!(whole, set(&[(5, Some(6)), (0, None), (7, Some(9))]));
        assert_eq!(
            set(&[(1, Some(3)), (2, Some(5)), (5, Some(6))]),
            set(&[(1, Some(6))])
        );
        assert!(set(&[]).is_empty());
        let above = Steps::<u128, bool>::on(vec![(0, None)], &true);
        assert!(above.is_full() && above.keys.len() == 2);
        let (hole, behind) = u128::hole().unwrap();
        assert!(Steps::<u128, bool>::on(vec![(hole, Some(behind))], &true).is_empty());
        assert!(Steps::<u128, bool>::on(vec![(0, Some(behind)), (hole, None)], &true).is_full());
        assert_eq!(
            Steps::<u128, bool>::on(vec![(hole + 5, Some(behind + 5))], &true).keys,
            [behind, behind + 5]
        );
    }

    #[test]
    fn the_three_operations_at_the_edges() {
        let low = set(&[(0, Some(1))]);
        let high = set(&[(u16::MAX, None)]);
        let ends = apply(&low, &high, Op::Union);
        assert!(*ends.at(&0) && *ends.at(&u16::MAX) && !*ends.at(&1) && !*ends.at(&65534));
        let middle = apply(&set(&[(0, None)]), &ends, Op::Subtract);
        assert_eq!(middle, set(&[(1, Some(u16::MAX))]));
        assert!(apply(&middle, &ends, Op::Intersect).is_empty());
        assert!(apply(&middle, &ends, Op::Union).is_full());
        assert!(Compound::is_subset(&low, &ends) && !Compound::is_subset(&ends, &low));
    }
}
