//! Look-ups in long step functions.
//!
//! A binary search over 100,000 keys touches seventeen places all over the memory, and that is what it
//! costs. The indexes here touch two or three, whatever the number of keys.

use std::collections::HashMap;
use std::fmt::Debug;

use super::Region;
use super::levels::Key;
use crate::name::NameKey;

/// Below this number of keys a plain binary search is as quick.
pub(super) const THRESHOLD: usize = 256;

/// A way to find the step of a key.
pub(crate) trait Lookup<K>: Clone + Debug + Sized {
    /// For a function with that value below all keys, and the values from each key on.
    fn new(first: u32, keys: &[K], values: &[u32]) -> Self;
    /// The value at a key.
    fn find(&self, key: &K) -> u32;
}

/// A step function's index, with its different values side by side: there are few of them as a rule, so
/// they stay in the processor's cache.
#[derive(Clone, Debug)]
pub(super) struct Index<K: Key, V> {
    lookup: K::Lookup,
    values: Vec<V>,
}

impl<K: Key, V: Region> Index<K, V> {
    /// `vals` has one element more than `keys`.
    pub(super) fn new(keys: &[K], vals: &[V]) -> Self {
        let mut values = Vec::new();
        let mut places: HashMap<usize, u32> = HashMap::new();
        let mut place = |value: &V| {
            *places.entry(value.identity()).or_insert_with(|| {
                values.push(value.clone());
                // There are at most as many values as cells.
                values.len() as u32 - 1
            })
        };
        let numbers: Vec<u32> = vals.iter().map(&mut place).collect();
        Index {
            lookup: K::Lookup::new(numbers[0], keys, &numbers[1..]),
            values,
        }
    }

    pub(super) fn find(&self, key: &K) -> &V {
        &self.values[self.lookup.find(key) as usize]
    }
}

/// The index of numbers: the range between the first and the last key is cut into equal buckets, and the
/// index says at which key each bucket begins. Evenly spread keys have one or two in each bucket; where they
/// are not, what is left is a binary search in one bucket.
#[derive(Clone, Debug)]
pub(crate) struct Buckets<K> {
    /// How many leading bits all the keys have in common.
    skip: usize,
    /// The projection of the first key.
    low: u64,
    shift: u32,
    /// `starts[b]` keys lie in the buckets before `b`.
    starts: Box<[u32]>,
    /// The keys and, in the same cache line, the values from there on.
    steps: Box<[(K, u32)]>,
    /// The value below the first key.
    first: u32,
}

/// At most this many buckets, as a power of two: 512 KiB of index.
const MAX_BITS: u32 = 17;

impl<K: Key> Lookup<K> for Buckets<K> {
    fn new(first: u32, keys: &[K], values: &[u32]) -> Self {
        let (Some(lowest), Some(highest)) = (keys.first(), keys.last()) else {
            return Buckets {
                skip: 0,
                low: 0,
                shift: 0,
                starts: Box::new([0, 0]),
                steps: Box::new([]),
                first,
            };
        };
        let skip = lowest.shared(highest);
        let low = lowest.project(skip);
        let span = highest.project(skip) - low;
        let bits = (usize::BITS - keys.len().leading_zeros() + 1).min(MAX_BITS);
        let shift = (u64::BITS - span.leading_zeros()).saturating_sub(bits);
        // No key lies above the highest one, so every bucket has its place.
        let mut starts = vec![0u32; (span >> shift) as usize + 2];
        for key in keys {
            starts[((key.project(skip) - low) >> shift) as usize + 1] += 1;
        }
        for bucket in 1..starts.len() {
            starts[bucket] += starts[bucket - 1];
        }
        Buckets {
            skip,
            low,
            shift,
            starts: starts.into(),
            steps: keys.iter().cloned().zip(values.iter().copied()).collect(),
            first,
        }
    }

    fn find(&self, key: &K) -> u32 {
        let (Some(lowest), Some(highest)) = (self.steps.first(), self.steps.last()) else {
            return self.first;
        };
        if key < &lowest.0 {
            return self.first;
        }
        if key >= &highest.0 {
            return highest.1;
        }
        // Between the lowest and the highest key, `key` begins with what they have in common.
        let bucket = ((key.project(self.skip) - self.low) >> self.shift) as usize;
        let (from, to) = (self.starts[bucket] as usize, self.starts[bucket + 1] as usize);
        let place = from + self.steps[from..to].partition_point(|(boundary, _)| boundary <= key);
        // The lowest key is not above `key`, so there is one below `place`.
        self.steps[place - 1].1
    }
}

/// The index of names: a map of those that have a boundary.
///
/// A set of names is a tree: what a name without a boundary of its own has is what the nearest name above
/// it gives to its subdomains. So a look-up is a probe for each label at most.
#[derive(Clone, Debug)]
pub(crate) struct NameTree {
    names: HashMap<Box<[u8]>, AtName>,
    /// What names have that no other name is above.
    root: u32,
}

/// The values from the boundaries that belong to a name.
#[derive(Clone, Copy, Debug, Default)]
struct AtName {
    exact: Option<u32>,
    under: Option<u32>,
}

impl Lookup<NameKey> for NameTree {
    fn new(first: u32, keys: &[NameKey], values: &[u32]) -> Self {
        let mut names: HashMap<Box<[u8]>, AtName> = HashMap::new();
        for (key, value) in keys.iter().zip(values) {
            match key.bytes() {
                [name @ .., 0] if name.ends_with(&[0]) => {
                    names.entry(name.into()).or_default().under = Some(*value);
                }
                name if name.ends_with(&[0]) => names.entry(name.into()).or_default().exact = Some(*value),
                // Behind a name's subdomains, what is above it goes on.
                _ => {}
            }
        }
        NameTree { names, root: first }
    }

    fn find(&self, key: &NameKey) -> u32 {
        let bytes = key.bytes();
        if let Some(AtName {
            exact: Some(value), ..
        }) = self.names.get(bytes)
        {
            return *value;
        }
        let mut rest = bytes;
        while let [before @ .., _] = rest {
            // The name above ends with the zero byte before the last label.
            let above = before.iter().rposition(|byte| *byte == 0).map_or(0, |at| at + 1);
            rest = &bytes[..above];
            if let Some(name) = self.names.get(rest) {
                // Without a boundary of their own, the subdomains have what the name has.
                if let Some(value) = name.under.or(name.exact) {
                    return value;
                }
            }
        }
        self.root
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::DnsName;

    #[test]
    fn buckets_agree_with_the_search() {
        // Keys of several shapes: even, clustered at both ends, one far outlier.
        let shapes: [Vec<u128>; 4] = [
            (0..2000u128).map(|n| n << 100).collect(),
            (0..1000u128)
                .chain((0..1000).map(|n| u128::MAX - 3000 + 2 * n))
                .collect(),
            (0..2000u128).map(|n| (1 << 64) + n).chain([1 << 90]).collect(),
            vec![],
        ];
        for keys in shapes {
            let values: Vec<u32> = (1..=keys.len() as u32).collect();
            let buckets = Buckets::new(0, &keys, &values);
            for key in keys
                .iter()
                .flat_map(|key| [key.saturating_sub(1), *key, key.saturating_add(1)])
            {
                let place = keys.partition_point(|boundary| *boundary <= key);
                assert_eq!(buckets.find(&key) as usize, place);
            }
        }
    }

    #[test]
    fn the_tree_agrees_with_the_search() {
        // Every combination of what a name and its subdomains have, on three levels.
        let names = ["com", "a.com", "b.a.com", "c.com", "org"].map(|name| DnsName::new(name).unwrap());
        let asked = [
            "com",
            "a.com",
            "b.a.com",
            "x.b.a.com",
            "y.a.com",
            "c.com",
            "z.c.com",
            "w.com",
            "org",
            "v.org",
            "net",
        ];
        for bits in 0u32..1 << 11 {
            let mut boundaries: Vec<(NameKey, bool)> = Vec::new();
            let mut around: Vec<(NameKey, bool)> = Vec::new();
            let root = bits >> 10 == 1;
            let mut order: Vec<usize> = (0..names.len()).collect();
            order.sort_by_key(|place| names[*place].key().clone());
            let close = |around: &mut Vec<(NameKey, bool)>,
                         boundaries: &mut Vec<(NameKey, bool)>,
                         key: Option<&NameKey>| {
                while around
                    .last()
                    .is_some_and(|(end, _)| key.is_none_or(|key| end <= key))
                {
                    let (end, _) = around.pop().unwrap();
                    boundaries.push((end, around.last().map_or(root, |(_, below)| *below)));
                }
            };
            for place in order {
                let key = names[place].key();
                close(&mut around, &mut boundaries, Some(key));
                let (exact, under) = (bits >> (2 * place) & 1 == 1, bits >> (2 * place + 1) & 1 == 1);
                boundaries.push((key.clone(), exact));
                boundaries.push((key.under(), under));
                around.push((key.after(), under));
            }
            close(&mut around, &mut boundaries, None);
            // As in a normal form: no boundary without a change.
            let mut last = root;
            boundaries.retain(|(_, value)| std::mem::replace(&mut last, *value) != *value);
            let keys: Vec<NameKey> = boundaries.iter().map(|(key, _)| key.clone()).collect();
            let values: Vec<u32> = boundaries.iter().map(|(_, value)| u32::from(*value)).collect();
            let tree = NameTree::new(u32::from(root), &keys, &values);
            for name in asked {
                let name = DnsName::new(name).unwrap();
                let place = keys.partition_point(|boundary| boundary <= name.key());
                let expected = if place == 0 {
                    u32::from(root)
                } else {
                    values[place - 1]
                };
                assert_eq!(tree.find(name.key()), expected, "{name} in {boundaries:?}");
            }
        }
    }
}
