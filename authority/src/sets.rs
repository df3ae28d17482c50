//! The small sets that rules are made of: operations, protocols, ports.

use std::fmt;

use crate::tuple::{Direction, Operation, Protocol};

/// A set of operations, of one direction in a [`Rule`](crate::Rule).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct OperationSet(u8);

impl OperationSet {
    /// Whether the operation is in the set.
    pub fn contains(self, operation: Operation) -> bool {
        self.0 & (1 << operation as u8) != 0
    }

    /// The operations, in the order of [`Operation::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Operation> {
        Operation::ALL
            .into_iter()
            .filter(move |operation| self.contains(*operation))
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The direction that all of them have; `None` when there are none or they differ.
    pub fn direction(self) -> Option<Direction> {
        let outbound = self.0 & OperationSet::OUTBOUND != 0;
        let inbound = self.0 & !OperationSet::OUTBOUND != 0;
        match (outbound, inbound) {
            (true, false) => Some(Direction::Outbound),
            (false, true) => Some(Direction::Inbound),
            (true, true) | (false, false) => None,
        }
    }

    const OUTBOUND: u8 = 1 << Operation::Connect as u8 | 1 << Operation::Send as u8;

    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    /// The set of these [`bits`](OperationSet::bits); `None` if no set has them.
    pub(crate) fn from_bits(bits: u8) -> Option<Self> {
        (bits >> Operation::ALL.len() == 0).then_some(OperationSet(bits))
    }
}

impl FromIterator<Operation> for OperationSet {
    fn from_iter<I: IntoIterator<Item = Operation>>(operations: I) -> Self {
        OperationSet(
            operations
                .into_iter()
                .fold(0, |bits, operation| bits | 1 << operation as u8),
        )
    }
}

impl From<Operation> for OperationSet {
    fn from(operation: Operation) -> Self {
        OperationSet(1 << operation as u8)
    }
}

impl fmt::Display for OperationSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(f, self.iter(), ",")
    }
}

/// A set of protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct ProtocolSet(u8);

impl ProtocolSet {
    /// Whether the protocol is in the set.
    pub fn contains(self, protocol: Protocol) -> bool {
        self.0 & (1 << protocol as u8) != 0
    }

    /// The protocols, in the order of [`Protocol::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Protocol> {
        Protocol::ALL
            .into_iter()
            .filter(move |protocol| self.contains(*protocol))
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    /// The set of these [`bits`](ProtocolSet::bits); `None` if no set has them.
    pub(crate) fn from_bits(bits: u8) -> Option<Self> {
        (bits >> Protocol::ALL.len() == 0).then_some(ProtocolSet(bits))
    }
}

impl FromIterator<Protocol> for ProtocolSet {
    fn from_iter<I: IntoIterator<Item = Protocol>>(protocols: I) -> Self {
        ProtocolSet(
            protocols
                .into_iter()
                .fold(0, |bits, protocol| bits | 1 << protocol as u8),
        )
    }
}

impl From<Protocol> for ProtocolSet {
    fn from(protocol: Protocol) -> Self {
        ProtocolSet(1 << protocol as u8)
    }
}

impl fmt::Display for ProtocolSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(f, self.iter(), ",")
    }
}

/// A set of ports that is not empty, as ranges in rising order that do not touch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortSet(Vec<(u16, u16)>);

impl PortSet {
    /// Every port.
    pub fn any() -> PortSet {
        PortSet(vec![(0, u16::MAX)])
    }

    /// One port.
    pub fn single(port: u16) -> PortSet {
        PortSet(vec![(port, port)])
    }

    /// The ports of all the ranges, ends included, in any order. `None` when there is no range, or one
    /// whose first port is above its last.
    pub fn from_ranges(ranges: impl IntoIterator<Item = (u16, u16)>) -> Option<PortSet> {
        let mut ranges: Vec<(u16, u16)> = ranges.into_iter().collect();
        if ranges.is_empty() || ranges.iter().any(|(first, last)| first > last) {
            return None;
        }
        ranges.sort_unstable();
        let mut joined: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match joined.last_mut() {
                Some((_, reach)) if first <= reach.saturating_add(1) => *reach = last.max(*reach),
                _ => joined.push((first, last)),
            }
        }
        Some(PortSet(joined))
    }

    /// The ranges.
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }

    /// Whether it has every port.
    pub fn is_any(&self) -> bool {
        self.0 == [(0, u16::MAX)]
    }

    /// Whether the port is in the set.
    pub fn contains(&self, port: u16) -> bool {
        let place = self.0.partition_point(|(_, last)| *last < port);
        self.0.get(place).is_some_and(|(first, _)| *first <= port)
    }
}

impl From<u16> for PortSet {
    fn from(port: u16) -> PortSet {
        PortSet::single(port)
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_any() {
            return f.write_str("*");
        }
        for (i, (first, last)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

/// Writes a list with something between its items.
pub(crate) fn write_list<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    items: impl Iterator<Item = T>,
    separator: &str,
) -> fmt::Result {
    for (i, item) in items.enumerate() {
        if i > 0 {
            f.write_str(separator)?;
        }
        item.fmt(f)?;
    }
    Ok(())
}
