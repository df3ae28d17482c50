//! How large a set is when nothing of it is shared.

use std::collections::HashMap;
use std::ops::AddAssign;

/// The step functions of a set on each level, every one counted as often as it has a place.
///
/// What an operation looks at, and what it makes, is bounded by this and not by the cells, which count what
/// is shared once. The numbers saturate.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Extent([Level; 4]);

/// One level: remote hosts, remote ports, local addresses or local ports.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Level {
    /// The number of functions.
    pub(crate) functions: u32,
    /// Their steps, all together, empty ones too.
    pub(crate) steps: u32,
    /// The steps of the longest.
    pub(crate) longest: u32,
}

/// The extents of shared parts, by their identity.
pub(crate) type Seen = HashMap<usize, Extent>;

impl Extent {
    /// The extent of one function of that many steps, whose values have `self` in all.
    pub(super) fn under(self, steps: usize) -> Extent {
        let [a, b, c, _] = self.0;
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        let own = Level {
            functions: 1,
            steps,
            longest: steps,
        };
        Extent([own, a, b, c])
    }

    /// The extent of one function that consists of two, for two parts of its space.
    pub(super) fn beside(mut self, other: Extent) -> Extent {
        let [a, b] = [self.0[0], other.0[0]];
        self += other;
        self.0[0].functions = a.functions.max(b.functions);
        self.0[0].longest = a.longest.saturating_add(b.longest);
        self
    }

    /// The levels, remote hosts first.
    pub(crate) fn levels(&self) -> &[Level; 4] {
        &self.0
    }

    /// The most that the same sets can have when nothing but one host is left of each.
    pub(crate) fn of_one_host(&self) -> Extent {
        /// Steps that a walk meets on its way: some around that host, and those of the other walk, which
        /// has the boundaries of a class at the most.
        const ON_THE_WAY: u32 = 64;
        let [hosts, ports, locals, local_ports] = self.0;
        let sets = hosts.functions;
        let least = |steps: u32, most: u32| steps.min(sets.saturating_mul(most));
        Extent([
            Level {
                steps: sets.saturating_mul(ON_THE_WAY),
                longest: ON_THE_WAY,
                ..hosts
            },
            Level {
                functions: sets,
                steps: least(ports.steps, ports.longest),
                ..ports
            },
            locals,
            local_ports,
        ])
    }
}

impl AddAssign for Extent {
    fn add_assign(&mut self, other: Extent) {
        for (own, other) in self.0.iter_mut().zip(other.0) {
            own.functions = own.functions.saturating_add(other.functions);
            own.steps = own.steps.saturating_add(other.steps);
            own.longest = own.longest.max(other.longest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Compound, LocalSet, PortSteps, RemotePorts, Steps};
    use super::*;
    use std::sync::Arc;

    #[test]
    fn shared_parts_count_in_each_place() {
        let locals: Arc<LocalSet> = Arc::new(Compound::full());
        // Two intervals, which share their value: five steps, two of them not empty.
        let ports: RemotePorts = Steps::on(vec![(1, Some(2)), (3, Some(9))], &locals);
        let extent = ports.extent(&mut Seen::new());
        let [ports, addresses, local_ports, nothing] = extent.levels();
        assert_eq!((ports.functions, ports.steps, ports.longest), (1, 5, 5));
        // One step for IPv4, and three for IPv6 with its hole.
        assert_eq!(
            (addresses.functions, addresses.steps, addresses.longest),
            (2, 8, 4)
        );
        assert_eq!(
            (local_ports.functions, local_ports.steps, local_ports.longest),
            (6, 6, 1)
        );
        assert_eq!(nothing.functions, 0);
        let none = PortSteps::empty().extent(&mut Seen::new());
        assert_eq!(none.levels()[0].steps, 1);
    }
}
