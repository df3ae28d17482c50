//! From rules to the set that they stand for.

use std::collections::HashMap;
use std::sync::Arc;

use crate::form::{Sets, slot};
use crate::name::NameKey;
use crate::region::{
    Addresses, Budget, Compound, HostSet, Hosts, LocalSet, Op, PortSteps, Region, RemotePorts, Steps,
    TooComplex, TupleSet, combine, push_range,
};
use crate::rules::{End, Exception, Host, Rule};
use crate::sets::{OperationSet, PortSet, ProtocolSet};
use crate::tuple::{Direction, Operation, Protocol, Remote, Tuple};

/// What one rule or exception adds: these operations and protocols, from any of the hosts, to the ports and
/// local ends in `ports`.
struct Part<'a> {
    operations: OperationSet,
    protocols: ProtocolSet,
    hosts: PartHosts<'a>,
    ports: Arc<RemotePorts>,
}

/// The remote hosts of a part.
enum PartHosts<'a> {
    /// Those of `host` but not those of `without`.
    Remote { host: &'a Host, without: &'a [Host] },
    /// The place of a bind's missing remote end.
    Nowhere,
}

/// The union of all the rules.
pub(crate) fn rules(rules: &[Rule], budget: &mut Budget) -> Result<Sets, TooComplex> {
    let mut shared = Shared::default();
    let parts: Vec<Part<'_>> = rules.iter().flat_map(|rule| shared.rule(rule)).collect();
    union(&parts, budget)
}

/// The union of all that the exceptions take away.
pub(crate) fn exceptions(exceptions: &[Exception], budget: &mut Budget) -> Result<Sets, TooComplex> {
    let mut shared = Shared::default();
    let parts: Vec<Part<'_>> = exceptions
        .iter()
        .flat_map(|exception| match exception {
            Exception::Rule(rule) => shared.rule(rule),
            Exception::End(end) => vec![shared.end(end)],
        })
        .collect();
    union(&parts, budget)
}

/// Everything of one operation that any rule can stand for.
pub(crate) fn universe(operation: Operation) -> TupleSet {
    let all = Arc::<RemotePorts>::full();
    match operation {
        Operation::Bind => nowhere(&all),
        _ => Hosts {
            addresses: Addresses {
                v4: Steps::on(vec![(0, None)], &all),
                v6: Steps::on(vec![(0, None)], &all),
            },
            names: match operation.direction() {
                Direction::Outbound => Steps::on(vec![(NameKey::bottom(), None)], &all),
                Direction::Inbound => Steps::empty(),
            },
        },
    }
}

/// The parts are made with as few different values as possible: the same ports and local ends are one
/// shared value, so that most comparisons later are of two pointers.
#[derive(Default)]
struct Shared<'a> {
    locals: HashMap<Option<&'a End>, Arc<LocalSet>>,
    remotes: HashMap<(Option<&'a PortSet>, Option<&'a End>), Arc<RemotePorts>>,
}

impl<'a> Shared<'a> {
    /// A rule's parts: bind's has another place for the remote end than those of other operations.
    fn rule(&mut self, rule: &'a Rule) -> Vec<Part<'a>> {
        let mut parts = Vec::with_capacity(1);
        let (binds, others): (Vec<_>, Vec<_>) = rule
            .operations()
            .iter()
            .partition(|operation| *operation == Operation::Bind);
        if !binds.is_empty() {
            parts.push(Part {
                operations: binds.into_iter().collect(),
                protocols: rule.protocols(),
                hosts: PartHosts::Nowhere,
                ports: self.remote(None, rule.local()),
            });
        }
        if !others.is_empty() {
            parts.push(Part {
                operations: others.into_iter().collect(),
                protocols: rule.protocols(),
                hosts: PartHosts::Remote {
                    host: rule.remote().map_or(&Host::Any, |end| &end.host),
                    without: rule.without(),
                },
                ports: self.remote(rule.remote().map(|end| &end.ports), rule.local()),
            });
        }
        parts
    }

    /// A remote end, whatever is done with it.
    fn end(&mut self, end: &'a End) -> Part<'a> {
        Part {
            operations: Operation::ALL
                .into_iter()
                .filter(|operation| *operation != Operation::Bind)
                .collect(),
            protocols: Protocol::ALL.into_iter().collect(),
            hosts: PartHosts::Remote {
                host: &end.host,
                without: &[],
            },
            ports: self.remote(Some(&end.ports), None),
        }
    }

    fn remote(&mut self, ports: Option<&'a PortSet>, local: Option<&'a End>) -> Arc<RemotePorts> {
        let locals = self
            .locals
            .entry(local)
            .or_insert_with(|| local_set(local))
            .clone();
        let remote = self.remotes.entry((ports, local));
        remote
            .or_insert_with(|| Arc::new(port_steps(ports, &locals)))
            .clone()
    }
}

fn local_set(end: Option<&End>) -> Arc<LocalSet> {
    let (ranges, ports) = match end {
        Some(end) => (end.host.local_ranges(), Some(&end.ports)),
        None => (Host::Any.local_ranges(), None),
    };
    Arc::new(Addresses::on(ranges, &Arc::new(port_steps(ports, &true))))
}

/// `value` at each of the ports, or at every one.
fn port_steps<V: Region>(ports: Option<&PortSet>, value: &V) -> Steps<u16, V> {
    match ports {
        Some(ports) => {
            let intervals = ports
                .ranges()
                .iter()
                .map(|(first, last)| (*first, last.checked_add(1)));
            Steps::on(intervals.collect(), value)
        }
        None => Steps::on(vec![(0, None)], value),
    }
}

fn nowhere(value: &Arc<RemotePorts>) -> TupleSet {
    let mut intervals = HostIntervals::default();
    intervals.add_host(&Host::from(Tuple::NOWHERE.ip()));
    intervals.on(value)
}

/// The union of parts, for every operation and protocol.
fn union(parts: &[Part<'_>], budget: &mut Budget) -> Result<Sets, TooComplex> {
    let mut lists: [Vec<usize>; 12] = Default::default();
    for (index, part) in parts.iter().enumerate() {
        for operation in part.operations.iter() {
            for protocol in part.protocols.iter() {
                lists[slot(operation, protocol)].push(index);
            }
        }
    }
    // Operations and protocols to which the same parts apply share their set.
    let mut made: HashMap<(bool, Vec<usize>), Arc<TupleSet>> = HashMap::new();
    let mut sets = crate::form::nothing();
    for operation in Operation::ALL {
        for protocol in Protocol::ALL {
            let slot = slot(operation, protocol);
            let list = std::mem::take(&mut lists[slot]);
            if list.is_empty() {
                continue;
            }
            let has_names = operation.direction() == Direction::Outbound;
            sets[slot] = match made.get(&(has_names, list.clone())) {
                Some(set) => set.clone(),
                None => {
                    let set = Arc::new(union_of_one(parts, &list, has_names, budget)?);
                    made.insert((has_names, list), set.clone());
                    set
                }
            };
        }
    }
    Ok(sets)
}

/// The union of the listed parts: first of all those that share their value, which takes a sort, then of
/// what remains, in pairs.
fn union_of_one(
    parts: &[Part<'_>],
    list: &[usize],
    has_names: bool,
    budget: &mut Budget,
) -> Result<TupleSet, TooComplex> {
    let mut order: Vec<(HostIntervals, &Arc<RemotePorts>)> = Vec::new();
    let mut places: HashMap<usize, usize> = HashMap::new();
    for &index in list {
        let part = &parts[index];
        let place = *places.entry(part.ports.identity()).or_insert_with(|| {
            order.push((HostIntervals::default(), &part.ports));
            order.len() - 1
        });
        let intervals = &mut order[place].0;
        match part.hosts {
            PartHosts::Nowhere => intervals.add_host(&Host::from(Tuple::NOWHERE.ip())),
            PartHosts::Remote { host, without: [] } => intervals.add_host(host),
            PartHosts::Remote { host, without } => {
                budget.spend(without.len())?;
                intervals.add_set(&host_set(host, without, budget)?);
            }
        }
        budget.spend(1)?;
    }
    let mut sets: Vec<TupleSet> = order
        .into_iter()
        .map(|(mut intervals, value)| {
            if !has_names {
                intervals.names.clear();
            }
            intervals.on(value)
        })
        .collect();
    while sets.len() > 1 {
        let mut pairs = sets.into_iter();
        let mut next = Vec::with_capacity(pairs.len().div_ceil(2));
        while let Some(a) = pairs.next() {
            next.push(match pairs.next() {
                Some(b) => a.combine(&b, Op::Union, budget)?,
                None => a,
            });
        }
        sets = next;
    }
    Ok(sets.pop().unwrap_or_else(Hosts::empty))
}

/// The hosts of `host` but those of `without`.
fn host_set(host: &Host, without: &[Host], budget: &mut Budget) -> Result<HostSet, TooComplex> {
    let mut intervals = HostIntervals::default();
    intervals.add_host(host);
    let mut taken = HostIntervals::default();
    for host in without {
        taken.add_host(host);
    }
    intervals
        .on(&true)
        .combine(&taken.on(&true), Op::Subtract, budget)
}

/// Remote hosts, before they are put in order.
#[derive(Default)]
struct HostIntervals {
    v4: Vec<(u32, Option<u32>)>,
    v6: Vec<(u128, Option<u128>)>,
    names: Vec<(NameKey, Option<NameKey>)>,
}

impl HostIntervals {
    fn add_host(&mut self, host: &Host) {
        for range in host.remote_ranges() {
            push_range(*range, &mut self.v4, &mut self.v6);
        }
        match host {
            Host::AnyName => self.names.push((NameKey::bottom(), None)),
            Host::Name(name) => self.names.push((name.key().clone(), Some(name.key().under()))),
            Host::Under(name) => self.names.push((name.key().under(), Some(name.key().after()))),
            Host::Any | Host::Class(_) | Host::Range(_) => {}
        }
    }

    fn add_set(&mut self, set: &HostSet) {
        self.v4.extend(set.addresses.v4.intervals());
        self.v6.extend(set.addresses.v6.intervals());
        self.names.extend(set.names.intervals());
    }

    fn on<V: Region>(self, value: &V) -> Hosts<V> {
        Hosts {
            addresses: Addresses {
                v4: Steps::on(self.v4, value),
                v6: Steps::on(self.v6, value),
            },
            names: Steps::on(self.names, value),
        }
    }
}

/// The local ends that are permitted towards all of the remote ends.
pub(crate) fn locals_towards<'a>(set: &'a TupleSet, remotes: &[Remote]) -> Result<Arc<LocalSet>, TooComplex> {
    let at = |remote: &Remote| -> &'a Arc<LocalSet> { set.at(remote).at(&remote.port()) };
    let mut budget = Budget::combining(set.size());
    let mut locals: Option<Arc<LocalSet>> = None;
    for remote in remotes {
        let more = at(remote);
        locals = Some(match locals {
            Some(locals) => combine(&locals, more, Op::Intersect, &mut budget)?,
            None => more.clone(),
        });
    }
    Ok(locals.unwrap_or_else(Region::empty))
}

/// A set of ports as sorted ranges, ends included.
pub(crate) fn port_ranges(ports: &PortSteps) -> Vec<(u16, u16)> {
    ports
        .intervals()
        .map(|(first, end)| (first, end.map_or(u16::MAX, |end| end - 1)))
        .collect()
}
