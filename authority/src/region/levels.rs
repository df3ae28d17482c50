//! The key spaces, and the levels that are built of them.

use std::collections::HashSet;
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;

use super::index::{Buckets, Lookup, NameTree};
use super::{Budget, Compound, Extent, Op, Region, Seen, Steps, TooComplex};
use crate::address::{IpRange, MAPPED_END, MAPPED_FIRST};
use crate::name::NameKey;
use crate::tuple::Remote;

/// A key of a step function.
pub(crate) trait Key: Clone + Ord + Debug {
    /// How a key is found among many.
    type Lookup: Lookup<Self>;
    /// The lowest key.
    fn bottom() -> Self;
    /// A part of the space in which nothing ever is.
    fn hole() -> Option<(Self, Self)> {
        None
    }
    /// How many leading bits two keys have in common, as far as [`Key::project`] can leave them out.
    fn shared(&self, other: &Self) -> usize;
    /// A number that rises, not strictly, with the key, among keys that have their first `skip` bits in
    /// common.
    fn project(&self, skip: usize) -> u64;
}

macro_rules! small_key {
    ($($int:ty),+) => {$(
        impl Key for $int {
            type Lookup = Buckets<$int>;

            fn bottom() -> $int {
                0
            }

            fn shared(&self, _: &$int) -> usize {
                0
            }

            fn project(&self, _: usize) -> u64 {
                u64::from(*self)
            }
        }
    )+};
}

small_key!(u16, u32);

impl Key for u128 {
    type Lookup = Buckets<u128>;

    fn bottom() -> u128 {
        0
    }

    /// IPv4-mapped addresses are IPv4 addresses; as IPv6 they do not exist.
    fn hole() -> Option<(u128, u128)> {
        Some((MAPPED_FIRST, MAPPED_END))
    }

    fn shared(&self, other: &u128) -> usize {
        // At most 64 bits are left out: a look-up never shifts everything away.
        (self ^ other).leading_zeros().min(64) as usize
    }

    fn project(&self, skip: usize) -> u64 {
        ((self << skip) >> 64) as u64
    }
}

impl Key for NameKey {
    type Lookup = NameTree;

    fn bottom() -> NameKey {
        NameKey::bottom()
    }

    // Names are not found by number.

    fn shared(&self, _: &NameKey) -> usize {
        0
    }

    fn project(&self, _: usize) -> u64 {
        0
    }
}

/// A set of ports.
pub(crate) type PortSteps = Steps<u16, bool>;
/// A set of local ends.
pub(crate) type LocalSet = Addresses<Arc<PortSteps>>;
/// For each remote port, the local ends from which it may be used.
pub(crate) type RemotePorts = Steps<u16, Arc<LocalSet>>;
/// A set of tuples of one operation and protocol.
pub(crate) type TupleSet = Hosts<Arc<RemotePorts>>;
/// A set of hosts, without ports.
pub(crate) type HostSet = Hosts<bool>;

/// A function of addresses of both families.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addresses<V: Region> {
    pub(crate) v4: Steps<u32, V>,
    pub(crate) v6: Steps<u128, V>,
}

impl<V: Region> Addresses<V> {
    /// `value` on each of the ranges.
    pub(crate) fn on(ranges: &[IpRange], value: &V) -> Self {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for range in ranges {
            push_range(*range, &mut v4, &mut v6);
        }
        Addresses {
            v4: Steps::on(v4, value),
            v6: Steps::on(v6, value),
        }
    }

    /// The value at an address, which must be canonical.
    pub(crate) fn at(&self, address: IpAddr) -> &V {
        match address {
            IpAddr::V4(address) => self.v4.at(&address.into()),
            IpAddr::V6(address) => self.v6.at(&address.into()),
        }
    }

    /// Every range that is not empty, with its value.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (IpRange, &V)> {
        let v4 = self
            .v4
            .steps()
            .map(|(interval, value)| (v4_range(interval), value));
        let v6 = self
            .v6
            .steps()
            .map(|(interval, value)| (v6_range(interval), value));
        v4.chain(v6)
    }
}

/// Adds a range to the intervals of its family.
pub(crate) fn push_range(
    range: IpRange,
    v4: &mut Vec<(u32, Option<u32>)>,
    v6: &mut Vec<(u128, Option<u128>)>,
) {
    match range {
        IpRange::V4(first, last) => v4.push((first.into(), u32::from(last).checked_add(1))),
        IpRange::V6(first, last) => v6.push((first.into(), u128::from(last).checked_add(1))),
    }
}

/// The range of an interval, which must not be empty.
pub(crate) fn v4_range((start, end): (u32, Option<u32>)) -> IpRange {
    IpRange::V4(start.into(), end.map_or(u32::MAX, |end| end - 1).into())
}

/// The range of an interval, which must not be empty.
pub(crate) fn v6_range((start, end): (u128, Option<u128>)) -> IpRange {
    IpRange::V6(start.into(), end.map_or(u128::MAX, |end| end - 1).into())
}

impl<V: Region> Compound for Addresses<V> {
    fn empty() -> Self {
        Addresses {
            v4: Steps::empty(),
            v6: Steps::empty(),
        }
    }

    fn full() -> Self {
        Addresses {
            v4: Steps::full(),
            v6: Steps::full(),
        }
    }

    fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    fn is_full(&self) -> bool {
        self.v4.is_full() && self.v6.is_full()
    }

    fn size(&self) -> usize {
        self.v4.size() + self.v6.size()
    }

    fn combine(&self, other: &Self, op: Op, budget: &mut Budget) -> Result<Self, TooComplex> {
        Ok(Addresses {
            v4: self.v4.combine(&other.v4, op, budget)?,
            v6: self.v6.combine(&other.v6, op, budget)?,
        })
    }

    fn is_subset(&self, of: &Self) -> bool {
        self.v4.is_subset(&of.v4) && self.v6.is_subset(&of.v6)
    }

    fn cells(&self, seen: &mut HashSet<usize>) -> usize {
        self.v4.cells(seen) + self.v6.cells(seen)
    }

    fn extent(&self, seen: &mut Seen) -> Extent {
        self.v4.extent(seen).beside(self.v6.extent(seen))
    }
}

/// A function of remote hosts: addresses and names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hosts<V: Region> {
    pub(crate) addresses: Addresses<V>,
    pub(crate) names: Steps<NameKey, V>,
}

impl<V: Region> Hosts<V> {
    /// The value at a remote end's host.
    pub(crate) fn at(&self, remote: &Remote) -> &V {
        match remote {
            Remote::Address(address) => self.addresses.at(address.ip()),
            Remote::Name(name, _) => self.names.at(name.key()),
        }
    }

    /// The values of all steps that are not empty.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        let addresses = self.addresses.steps().map(|(_, value)| value);
        addresses.chain(self.names.steps().map(|(_, value)| value))
    }
}

impl<V: Region> Compound for Hosts<V> {
    fn empty() -> Self {
        Hosts {
            addresses: Addresses::empty(),
            names: Steps::empty(),
        }
    }

    fn full() -> Self {
        Hosts {
            addresses: Addresses::full(),
            names: Steps::full(),
        }
    }

    fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.names.is_empty()
    }

    fn is_full(&self) -> bool {
        self.addresses.is_full() && self.names.is_full()
    }

    fn size(&self) -> usize {
        self.addresses.size() + self.names.size()
    }

    fn combine(&self, other: &Self, op: Op, budget: &mut Budget) -> Result<Self, TooComplex> {
        Ok(Hosts {
            addresses: self.addresses.combine(&other.addresses, op, budget)?,
            names: self.names.combine(&other.names, op, budget)?,
        })
    }

    fn is_subset(&self, of: &Self) -> bool {
        self.addresses.is_subset(&of.addresses) && self.names.is_subset(&of.names)
    }

    fn cells(&self, seen: &mut HashSet<usize>) -> usize {
        self.addresses.cells(seen) + self.names.cells(seen)
    }

    fn extent(&self, seen: &mut Seen) -> Extent {
        self.addresses.extent(seen).beside(self.names.extent(seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_everywhere_is_in_both_families() {
        let on = |ranges: &[IpRange]| Addresses::on(ranges, &true).everywhere();
        let v4 = IpRange::V4([0, 0, 0, 0].into(), [255, 255, 255, 255].into());
        let v6 = IpRange::V6(0.into(), u128::MAX.into());
        assert_eq!(on(&[]), Some(false));
        assert_eq!(on(&[v4, v6]), Some(true));
        // Of one family alone it depends on the address, and so it does of a part.
        assert_eq!(on(&[v4]), None);
        assert_eq!(on(&[v6]), None);
        let most = IpRange::V4([0, 0, 0, 1].into(), [255, 255, 255, 255].into());
        assert_eq!(on(&[most, v6]), None);
    }
}
