//! A nested set as a list of products: hosts × remote ports × local addresses × local ports.
//!
//! The products may overlap: `*:443` and `10.0.0.5:22,443` come out as all hosts × 443 and one host × 22,
//! not as a hole around that host.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use super::levels::{Key, v4_range, v6_range};
use super::{
    Addresses, Budget, LocalSet, MAX_CELLS, Op, Region, RemotePorts, Steps, TupleSet, combine, is_subset,
};
use crate::address::IpRange;
use crate::name::NameKey;

/// Up to this many different values on one level, products are merged; beyond it every value stands for
/// itself, since the merging compares each value with each other one.
const MERGED_VALUES: usize = 64;

/// One product. Local ports and remote ports are ranges, ends included.
pub(crate) struct Product {
    pub(crate) hosts: HostParts,
    pub(crate) ports: Vec<(u16, u16)>,
    pub(crate) local_addresses: Vec<IpRange>,
    pub(crate) local_ports: Vec<(u16, u16)>,
}

/// A set of hosts as intervals.
#[derive(Clone, Default)]
pub(crate) struct HostParts {
    pub(crate) addresses: Vec<IpRange>,
    pub(crate) names: Vec<(NameKey, Option<NameKey>)>,
}

/// Products whose union is the set.
pub(crate) fn products(set: &TupleSet) -> Vec<Product> {
    let mut values = Values::default();
    let mut parts: Vec<HostParts> = Vec::new();
    for (range, value) in set.addresses.steps() {
        values.part(value, &mut parts).addresses.push(range);
    }
    for (interval, value) in set.names.steps() {
        values.part(value, &mut parts).names.push(interval);
    }
    let mut products = Vec::new();
    for (members, ports) in rectangles(&values.values) {
        let hosts = match &*members {
            // Nothing is merged, so nothing has to be copied together.
            [only] => parts[*only].clone(),
            _ => joined(&members, &parts),
        };
        of_ports(&hosts, &ports, &mut products);
    }
    products
}

fn joined(members: &[usize], parts: &[HostParts]) -> HostParts {
    let mut hosts = HostParts::default();
    for member in members {
        hosts.addresses.extend(&parts[*member].addresses);
        hosts.names.extend(parts[*member].names.iter().cloned());
    }
    hosts
}

fn of_ports(hosts: &HostParts, set: &RemotePorts, products: &mut Vec<Product>) {
    let mut values = Values::default();
    let mut parts: Vec<Vec<(u16, u16)>> = Vec::new();
    for ((first, end), value) in set.steps() {
        values.part(value, &mut parts).push((first, last_port(end)));
    }
    for (members, locals) in rectangles(&values.values) {
        let ports: Vec<(u16, u16)> = members
            .iter()
            .flat_map(|member| parts[*member].iter().copied())
            .collect();
        of_locals(hosts, &ports, &locals, products);
    }
}

fn of_locals(hosts: &HostParts, ports: &[(u16, u16)], set: &LocalSet, products: &mut Vec<Product>) {
    let mut values = Values::default();
    let mut parts: Vec<Vec<IpRange>> = Vec::new();
    for (range, value) in set.steps() {
        values.part(value, &mut parts).push(range);
    }
    for (members, local_ports) in rectangles(&values.values) {
        products.push(Product {
            hosts: hosts.clone(),
            ports: ports.to_vec(),
            local_addresses: members
                .iter()
                .flat_map(|member| parts[*member].iter().copied())
                .collect(),
            local_ports: local_ports
                .intervals()
                .map(|(first, end)| (first, last_port(end)))
                .collect(),
        });
    }
}

fn last_port(end: Option<u16>) -> u16 {
    end.map_or(u16::MAX, |end| end - 1)
}

/// The different values of a level, in the order in which they come up.
struct Values<V> {
    values: Vec<V>,
    by_identity: HashMap<usize, usize>,
    by_value: HashMap<V, usize>,
}

impl<V> Default for Values<V> {
    fn default() -> Self {
        Values {
            values: Vec::new(),
            by_identity: HashMap::new(),
            by_value: HashMap::new(),
        }
    }
}

impl<V: Region + Hash> Values<V> {
    /// The part that goes with a value.
    fn part<'p, P: Default>(&mut self, value: &V, parts: &'p mut Vec<P>) -> &'p mut P {
        let place = *self.by_identity.entry(value.identity()).or_insert_with(|| {
            *self.by_value.entry(value.clone()).or_insert_with(|| {
                self.values.push(value.clone());
                parts.push(P::default());
                parts.len() - 1
            })
        });
        &mut parts[place]
    }
}

/// For values that each stand for a part of a key space: pieces, each with all the values that contain it,
/// such that every value is the union of its pieces.
fn rectangles<V: Region>(values: &[V]) -> Vec<(Vec<usize>, V)> {
    if values.len() == 1 || values.len() > MERGED_VALUES {
        return each_by_itself(values);
    }
    // What is part of many others is written once for all of them.
    let supersets = |value: &V| values.iter().filter(|other| is_subset(value, *other)).count();
    let mut order: Vec<(usize, usize)> = values.iter().map(supersets).zip(0..).collect();
    order.sort_by_key(|&(supersets, place)| (std::cmp::Reverse(supersets), place));
    let mut rest = values.to_vec();
    let mut pieces = Vec::new();
    let mut budget = Budget::combining(MAX_CELLS);
    for (_, place) in order {
        let piece = rest[place].clone();
        if piece.is_empty() {
            continue;
        }
        let members: Vec<usize> = (0..values.len())
            .filter(|&other| is_subset(&piece, &values[other]))
            .collect();
        for &member in &members {
            match combine(&rest[member], &piece, Op::Subtract, &mut budget) {
                Ok(less) => rest[member] = less,
                Err(_) => return each_by_itself(values),
            }
        }
        pieces.push((members, piece));
    }
    pieces
}

fn each_by_itself<V: Region>(values: &[V]) -> Vec<(Vec<usize>, V)> {
    values
        .iter()
        .cloned()
        .enumerate()
        .map(|(place, value)| (vec![place], value))
        .collect()
}

// The hashes look at the beginning of a value only: with shared parts, a whole value may be much larger
// than the memory it takes.

impl<K: Key + Hash, V: Region + Hash> Hash for Steps<K, V> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.keys().len().hash(state);
        for key in self.keys().iter().take(16) {
            key.hash(state);
        }
        if let Some((_, value)) = self.steps().next() {
            value.hash(state);
        }
    }
}

impl<V: Region + Hash> Hash for Addresses<V> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.v4.hash(state);
        self.v6.hash(state);
    }
}

/// The addresses of a set, as ranges; IPv6 goes on across the mapped block, where there is nothing.
pub(crate) fn spans(set: &Addresses<bool>) -> Vec<IpRange> {
    let mut ranges: Vec<IpRange> = set.v4.intervals().map(v4_range).collect();
    let mut v6 = set.v6.intervals().peekable();
    while let Some((start, mut end)) = v6.next() {
        if let (Some((hole, behind)), Some((next, further))) = (u128::hole(), v6.peek())
            && end == Some(hole)
            && *next == behind
        {
            end = *further;
            v6.next();
        }
        ranges.push(v6_range((start, end)));
    }
    ranges
}
