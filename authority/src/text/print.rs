//! The normal form that is printed: equal sets give equal rules, and those are as few as can be told
//! quickly.

use std::collections::HashMap;
use std::sync::Arc;

use super::pieces::{self, AddressSet, Piece, apply};
use crate::form::{Sets, slot};
use crate::region::{Compound, Op, Product, products};
use crate::rules::{End, Exception, Host, Rule, Rules};
use crate::sets::{OperationSet, PortSet, ProtocolSet};
use crate::tuple::{Direction, Operation, Protocol};

/// Rules that stand for exactly these sets.
pub(crate) fn rules(sets: &Sets) -> Rules {
    let mut printer = Printer::new(sets);
    let mut seen: HashMap<(usize, Direction, bool), Vec<usize>> = HashMap::new();
    for operation in Operation::ALL {
        for protocol in Protocol::ALL {
            let set = &sets[slot(operation, protocol)];
            let is_bind = operation == Operation::Bind;
            let key = (Arc::as_ptr(set).addr(), operation.direction(), is_bind);
            let drafts = seen.entry(key).or_insert_with(|| {
                let mut drafts = Vec::new();
                for product in products(set) {
                    printer.product(&product, operation, &mut drafts);
                }
                drafts
            });
            for &draft in drafts.iter() {
                printer.drafts[draft].uses[operation as usize] |= 1 << protocol as u8;
            }
        }
    }
    printer.finish()
}

/// A rule of which it is not known yet for which operations and protocols it will stand.
struct Draft {
    form: Form,
    /// For each operation, the protocols as bits.
    uses: [u8; 6],
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Form {
    direction: Direction,
    main: End,
    from: Option<End>,
    without: Vec<Host>,
}

struct Printer {
    /// Every address that is a remote end of anything: what is not here may be excepted for all rules.
    present: AddressSet,
    drafts: Vec<Draft>,
    places: HashMap<Form, usize>,
    exceptions: Vec<Host>,
}

impl Printer {
    fn new(sets: &Sets) -> Self {
        let mut ranges = Vec::new();
        let mut seen = Vec::new();
        for operation in Operation::ALL {
            for protocol in Protocol::ALL {
                let set = &sets[slot(operation, protocol)];
                if operation != Operation::Bind && !seen.contains(&Arc::as_ptr(set)) {
                    seen.push(Arc::as_ptr(set));
                    ranges.extend(set.addresses.steps().map(|(range, _)| range));
                }
            }
        }
        Printer {
            present: AddressSet::on(&ranges, &true),
            drafts: Vec::new(),
            places: HashMap::new(),
            exceptions: Vec::new(),
        }
    }

    /// The drafts of a product, added to the list.
    fn product(&mut self, product: &Product, operation: Operation, list: &mut Vec<usize>) {
        // A product has at least one range of ports on each side.
        let ports =
            |ranges: &[(u16, u16)]| PortSet::from_ranges(ranges.iter().copied()).unwrap_or_else(PortSet::any);
        let remote_ports = ports(&product.ports);
        let local_ports = ports(&product.local_ports);
        let locals = pieces::of_addresses(&product.local_addresses, pieces::End::Local);
        let remotes = match operation {
            Operation::Bind => vec![None],
            _ => self.remotes(product).into_iter().map(Some).collect(),
        };
        for remote in &remotes {
            for local in &locals {
                let local = End {
                    host: local.host.clone(),
                    ports: local_ports.clone(),
                };
                let form = form(operation.direction(), remote.as_ref(), &remote_ports, local);
                list.push(self.draft(form));
            }
        }
    }

    /// Words for the remote hosts. What they say too much becomes an exception where no rule needs it, and
    /// stays with the word otherwise.
    fn remotes(&mut self, product: &Product) -> Vec<Piece> {
        let mut found = Vec::new();
        if !product.hosts.addresses.is_empty() {
            found = pieces::of_addresses(&product.hosts.addresses, pieces::End::Remote);
            for piece in &mut found {
                piece.without.retain(|host| !self.excepts(host));
            }
        }
        if !product.hosts.names.is_empty() {
            found.extend(pieces::of_names(&product.hosts.names));
        }
        found
    }

    fn excepts(&mut self, host: &Host) -> bool {
        if self.exceptions.contains(host) {
            return true;
        }
        let set = AddressSet::on(host.remote_ranges(), &true);
        let unused = apply(&set, &self.present, Op::Intersect).is_empty();
        // A long list of exceptions would be searched again and again; it is no easier to read either.
        let room = self.exceptions.len() < 64;
        if unused && room {
            self.exceptions.push(host.clone());
        }
        unused && room
    }

    fn draft(&mut self, form: Form) -> usize {
        if let Some(place) = self.places.get(&form) {
            return *place;
        }
        self.places.insert(form.clone(), self.drafts.len());
        self.drafts.push(Draft { form, uses: [0; 6] });
        self.drafts.len() - 1
    }

    fn finish(self) -> Rules {
        let mut rules = Rules::new();
        for draft in self.drafts {
            for protocols in [0b11, 0b01, 0b10] {
                let operations: OperationSet = Operation::ALL
                    .into_iter()
                    .filter(|operation| draft.uses[*operation as usize] == protocols)
                    .collect();
                let protocols: ProtocolSet = Protocol::ALL
                    .into_iter()
                    .filter(|protocol| protocols & (1 << *protocol as u8) != 0)
                    .collect();
                rules.rules.extend(rule(operations, protocols, &draft.form));
            }
        }
        let end = |host| {
            Exception::End(End {
                host,
                ports: PortSet::any(),
            })
        };
        rules.exceptions = self.exceptions.into_iter().map(end).collect();
        rules
    }
}

fn form(direction: Direction, remote: Option<&Piece>, remote_ports: &PortSet, local: End) -> Form {
    let end = |piece: &Piece| End {
        host: piece.host.clone(),
        ports: remote_ports.clone(),
    };
    let remote_end = remote.map(end).unwrap_or_else(End::any);
    let (main, from) = match direction {
        Direction::Outbound => (remote_end, local),
        Direction::Inbound => (local, remote_end),
    };
    Form {
        direction,
        main,
        from: (from != End::any()).then_some(from),
        without: remote.map(|piece| piece.without.clone()).unwrap_or_default(),
    }
}

/// The rule, unless it is for no operation.
fn rule(operations: OperationSet, protocols: ProtocolSet, form: &Form) -> Option<Rule> {
    if operations.is_empty() {
        return None;
    }
    // The forms are made of what rules can say, so that none of these fails.
    let mut rule = Rule::new(operations, protocols, form.main.clone()).ok()?;
    if let Some(from) = &form.from {
        rule = rule.with_from(from.clone()).ok()?;
    }
    rule.with_exclusions(form.without.iter().cloned()).ok()
}
