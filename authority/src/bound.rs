//! A request of one simple rule, as a value that is copied and allocates nothing.
//!
//! Most requests of those who derive are one rule with a destination and nothing else. Such a rule is so
//! small that it is judged as it stands: no set has to be made of it to say whether it allows something.

use std::net::SocketAddr;

use crate::address::IpRange;
use crate::bound_host::BoundHost;
use crate::class::{Class, ORDINARY};
use crate::rules::{End, Host, Rule, Rules};
use crate::sets::{OperationSet, PortSet, ProtocolSet};
use crate::tuple::{Direction, Operation, Protocol, Remote};

/// One rule without source and exclusions, with few ranges of ports and no name but a short and plain one, and no
/// exceptions and no `names to` beside it.
///
/// To copy it is a good part of what deriving costs, so it is small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Bound {
    operations: OperationSet,
    protocols: ProtocolSet,
    ports: BoundPorts,
    host: BoundHost,
}

/// The ports of a destination, as ranges that rise and do not touch; no range stands for every port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BoundPorts {
    count: u8,
    /// What is behind `count` is zero.
    ranges: [PortRange; MAX_RANGES],
}

/// The first port and the last, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct PortRange(u32);

/// Longer lists of ports are not simple.
const MAX_RANGES: usize = 4;

/// Numbers of boundaries on each level of a set: remote hosts, remote ports, local addresses, local ports.
pub(crate) type Boundaries = [u64; 4];

impl Bound {
    /// The rule of these operations and protocols with that destination; `None` if that is no rule.
    #[inline(always)]
    pub(crate) fn new(
        operations: OperationSet,
        protocols: ProtocolSet,
        host: BoundHost,
        ports: BoundPorts,
    ) -> Option<Bound> {
        if protocols.is_empty() || operations.direction()? == Direction::Inbound && host.is_name() {
            return None;
        }
        Some(Bound {
            operations,
            protocols,
            ports,
            host,
        })
    }

    /// The bound that says all that the rules say, if there is one.
    pub(crate) fn of(rules: &Rules) -> Option<Bound> {
        let [rule] = &*rules.rules else { return None };
        let plain = rules.exceptions.is_empty()
            && rules.names_to.is_empty()
            && rule.source().is_none()
            && rule.without().is_empty();
        if !plain {
            return None;
        }
        let End { host, ports } = rule.main();
        let ranges = if ports.is_any() { &[] } else { ports.ranges() };
        let ports = BoundPorts::new(ranges.len(), |place| ranges[place])?;
        Bound::new(rule.operations(), rule.protocols(), BoundHost::of(host)?, ports)
    }

    /// The rules that it came from.
    pub(crate) fn to_rules(self) -> Rules {
        let ports = match self.ports.count {
            0 => Some(PortSet::any()),
            _ => PortSet::from_ranges(self.ports.iter()),
        };
        // All of this was checked when it came in: there is always one rule.
        self.host
            .to_host()
            .zip(ports)
            .and_then(|(host, ports)| Rule::new(self.operations, self.protocols, End { host, ports }).ok())
            .into_iter()
            .collect()
    }

    /// The direction of all the operations.
    #[inline(always)]
    pub(crate) fn direction(&self) -> Direction {
        // There is one, or there would be no bound.
        self.operations.direction().unwrap_or(Direction::Inbound)
    }

    /// Whether it stands for one remote host only.
    pub(crate) fn has_one_remote(&self) -> bool {
        self.direction() == Direction::Outbound && self.host.is_one()
    }

    /// How many boundaries its set has on each level at the most.
    pub(crate) fn boundaries(&self) -> Boundaries {
        let hosts = match self.host.to_host() {
            // A name, or all names under one, is one interval.
            Some(Host::Name(_) | Host::Under(_)) => 2,
            host => host.map_or(0, |host| of_ranges(host.remote_ranges())),
        };
        placed(self.direction(), hosts, 2 * u64::from(self.ports.count))
    }

    /// The most that any bound of that direction has of [`boundaries`](Bound::boundaries).
    pub(crate) fn most_boundaries(direction: Direction) -> Boundaries {
        let classes = Class::ALL.map(|class| of_ranges(class.ranges()));
        let hosts = classes.into_iter().fold(of_ranges(ORDINARY), u64::max);
        placed(direction, hosts, 2 * MAX_RANGES as u64)
    }

    /// Whether its set has the tuple of these canonical ends. A bind's remote end says nothing: sets have
    /// [`Tuple::NOWHERE`](crate::Tuple::NOWHERE) there, and nothing else.
    pub(crate) fn contains(
        &self,
        operation: Operation,
        protocol: Protocol,
        local: SocketAddr,
        remote: &Remote,
    ) -> bool {
        match operation.direction() {
            Direction::Outbound => self.reaches(operation, protocol, remote),
            Direction::Inbound => {
                self.is_about(operation, protocol)
                    && self.ports.contains(local.port())
                    && self.host.is_local(local.ip())
                    // No source is said, which stands for every ordinary address.
                    && (operation == Operation::Bind || Host::Any.matches_remote(remote))
            }
        }
    }

    /// Whether an outbound operation may have that remote end. From where says nothing.
    pub(crate) fn reaches(&self, operation: Operation, protocol: Protocol, remote: &Remote) -> bool {
        self.is_about(operation, protocol)
            && self.ports.contains(remote.port())
            && self.host.is_remote(remote)
    }

    fn is_about(&self, operation: Operation, protocol: Protocol) -> bool {
        self.operations.contains(operation) && self.protocols.contains(protocol)
    }
}

/// The boundaries of a destination on the levels that it has for that direction.
fn placed(direction: Direction, hosts: u64, ports: u64) -> Boundaries {
    match direction {
        Direction::Outbound => [hosts, ports, 0, 0],
        // The remote end is `*`, or nowhere for a bind, which has less. A local end `*` has less, too.
        Direction::Inbound => [of_ranges(ORDINARY), 0, hosts, ports],
    }
}

/// Each range has two ends, and one of them may have the mapped block cut out.
fn of_ranges(ranges: &[IpRange]) -> u64 {
    2 * ranges.len() as u64 + 2
}

impl BoundPorts {
    pub(crate) const ANY: BoundPorts = BoundPorts {
        count: 0,
        ranges: [PortRange(0); MAX_RANGES],
    };

    /// So many ranges, ends included. `None` for too many, for ranges that do not rise or that touch, and
    /// for the range of every port, for which there is [`ANY`](BoundPorts::ANY).
    #[inline(always)]
    pub(crate) fn new(count: usize, range: impl Fn(usize) -> (u16, u16)) -> Option<BoundPorts> {
        if count > MAX_RANGES {
            return None;
        }
        let mut ports = BoundPorts {
            count: count as u8,
            ..BoundPorts::ANY
        };
        // The lowest port at which the next range may begin.
        let mut free = 0;
        // Not up to `count`: places that the compiler knows stay in registers.
        for place in 0..MAX_RANGES {
            if place == count {
                break;
            }
            let (first, last) = range(place);
            if u32::from(first) < free || first > last {
                return None;
            }
            free = u32::from(last) + 2;
            ports.ranges[place] = PortRange(u32::from(first) << 16 | u32::from(last));
        }
        (ports.ranges[0] != PortRange(u16::MAX.into())).then_some(ports)
    }

    fn iter(&self) -> impl Iterator<Item = (u16, u16)> {
        let ranges = self.ranges.iter().take(usize::from(self.count));
        ranges.map(|PortRange(range)| ((range >> 16) as u16, *range as u16))
    }

    fn contains(&self, port: u16) -> bool {
        self.count == 0 || self.iter().any(|(first, last)| (first..=last).contains(&port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_come_back() {
        for text in [
            "connect tcp *:*",
            "connect,send tcp,udp any-name:1,3,5-9,65535",
            "send udp public:0-65534",
            "connect tcp 10.0.0.0/8:443",
            "connect tcp [2001:db8::1]:443",
            "connect tcp *.a-b.example:443",
            "bind,listen,accept,receive tcp 10.0.0.1:0",
        ] {
            let rules = Rules::parse(text).unwrap();
            assert_eq!(Bound::of(&rules).unwrap().to_rules(), rules);
        }
        for text in [
            "",
            "connect tcp *:1,3,5,7,9",
            "connect tcp *:1 from *",
            "connect tcp *:1 without private",
            "connect tcp *:1; except private",
            "connect tcp *:1; names to private",
            "connect tcp *:1; connect tcp *:2",
            "connect tcp xn--bcher-kva.example:443",
            "connect tcp a.example.1a:443",
        ] {
            assert_eq!(Bound::of(&Rules::parse(text).unwrap()), None, "{text}");
        }
        let long = format!("connect tcp {}.{}.com:1", "a".repeat(40), "b".repeat(40));
        assert_eq!(Bound::of(&Rules::parse(&long).unwrap()), None);
    }
}
