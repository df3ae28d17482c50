//! Random sequences of operations against a small reference model, with collections and revocations by
//! the embedder in between.
//!
//! The model knows nothing of trees with links, slots or letters: a capability is a number, a parent, a
//! set of allowed ports, and three flags. After every step each slot of the guest must behave as the
//! model says. (Attack classes 22, 25 and 29.)

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use refcap::{Capability, ErrorCode};
use refcap_abi::Kind;

use crate::support::{Puppet, authority, block_on, net};

/// Slots 1 to 9 of the puppet.
const SLOTS: usize = 9;
/// The model's network: ports 1 to 6 of one address.
const PORTS: std::ops::RangeInclusive<u16> = 1..=6;

#[derive(Debug, Clone)]
enum Step {
    Only {
        to: usize,
        from: usize,
        first: u16,
        last: u16,
    },
    Except {
        to: usize,
        from: usize,
        port: u16,
    },
    Revocable {
        net: usize,
        revoker: usize,
        from: usize,
    },
    Revoke {
        with: usize,
    },
    Close {
        slot: usize,
    },
    Copy {
        to: usize,
        from: usize,
    },
    Forget {
        slot: usize,
    },
    Collect,
    /// The embedder takes ports away, in place.
    Narrow {
        first: u16,
        last: u16,
    },
    /// The embedder grants once more.
    Grant {
        to: usize,
    },
    /// The embedder revokes a grant.
    RevokeGrant {
        which: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let slot = || 1..=SLOTS;
    let port = || PORTS;
    let step = prop_oneof![
        6 => (slot(), slot(), port(), port()).prop_map(|(to, from, a, b)| Step::Only { to, from, first: a.min(b), last: a.max(b) }),
        2 => (slot(), slot(), port()).prop_map(|(to, from, port)| Step::Except { to, from, port }),
        4 => (slot(), slot(), slot()).prop_map(|(net, revoker, from)| Step::Revocable { net, revoker, from }),
        4 => slot().prop_map(|with| Step::Revoke { with }),
        3 => slot().prop_map(|slot| Step::Close { slot }),
        2 => (slot(), slot()).prop_map(|(to, from)| Step::Copy { to, from }),
        2 => slot().prop_map(|slot| Step::Forget { slot }),
        2 => Just(Step::Collect),
        1 => (port(), port()).prop_map(|(a, b)| Step::Narrow { first: a.min(b), last: a.max(b) }),
        1 => slot().prop_map(|to| Step::Grant { to }),
        1 => (0..3usize).prop_map(|which| Step::RevokeGrant { which }),
    ];
    prop::collection::vec(step, 1..60)
}

/// One capability of the model.
#[derive(Debug, Clone)]
struct Cap {
    parent: Option<usize>,
    /// The ports of a Net; what a Revoker aims at.
    what: What,
    revoked: bool,
    closed: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum What {
    Ports(Vec<u16>),
    Revoker(usize),
}

#[derive(Debug, Default)]
struct Model {
    caps: Vec<Cap>,
    /// What each slot of the guest holds.
    slots: [Option<usize>; SLOTS + 1],
    grants: Vec<usize>,
}

impl Model {
    fn add(&mut self, parent: Option<usize>, what: What) -> usize {
        self.caps.push(Cap {
            parent,
            what,
            revoked: false,
            closed: false,
        });
        self.caps.len() - 1
    }

    /// What using a slot must give.
    fn look(&self, slot: usize) -> Result<usize, ErrorCode> {
        let cap = self.slots[slot].ok_or(ErrorCode::NullReference)?;
        match &self.caps[cap] {
            Cap { closed: true, .. } => Err(ErrorCode::Closed),
            Cap { revoked: true, .. } => Err(ErrorCode::Revoked),
            _ => Ok(cap),
        }
    }

    fn ports(&self, slot: usize) -> Result<(usize, Vec<u16>), ErrorCode> {
        let cap = self.look(slot)?;
        match &self.caps[cap].what {
            What::Ports(ports) => Ok((cap, ports.clone())),
            What::Revoker(_) => Err(ErrorCode::WrongKind),
        }
    }

    fn descends(&self, mut cap: usize, from: usize) -> bool {
        loop {
            if cap == from {
                return true;
            }
            match self.caps[cap].parent {
                Some(parent) => cap = parent,
                None => return false,
            }
        }
    }

    /// Revokes a subtree and counts what was held in it.
    fn revoke(&mut self, from: usize) -> usize {
        let mut held = 0;
        for cap in 0..self.caps.len() {
            if self.descends(cap, from) && !self.caps[cap].revoked {
                held += usize::from(!self.caps[cap].closed);
                self.caps[cap].revoked = true;
            }
        }
        held
    }

    fn narrow(&mut self, from: usize, keep: &[u16]) {
        for cap in 0..self.caps.len() {
            if self.descends(cap, from)
                && let What::Ports(ports) = &mut self.caps[cap].what
            {
                ports.retain(|port| keep.contains(port));
            }
        }
    }

    /// What the guest cannot reach any more is closed by a collection.
    fn collect(&mut self) {
        for cap in 0..self.caps.len() {
            let reachable = self.slots.contains(&Some(cap));
            let is_guests = self.caps[cap].parent.is_some();
            if is_guests && !reachable {
                self.caps[cap].closed = true;
            }
        }
    }

    fn held(&self) -> usize {
        let guests = self.caps.iter().filter(|cap| cap.parent.is_some());
        guests.filter(|cap| !cap.closed && !cap.revoked).count()
    }
}

/// The real thing beside the model.
struct Pair {
    guest: Puppet,
    grants: Vec<Capability>,
    model: Model,
}

fn number(slot: usize) -> i32 {
    i32::try_from(slot).unwrap()
}

fn rules(ports: &[u16]) -> String {
    ports
        .iter()
        .map(|port| format!("connect tcp 10.0.0.1:{port}; "))
        .collect()
}

impl Pair {
    async fn start() -> Pair {
        let all: Vec<u16> = PORTS.collect();
        let grant = net(&rules(&all));
        let guest = Puppet::start(&grant).await;
        let mut model = Model::default();
        let root = model.add(None, What::Ports(all.clone()));
        let net = model.add(Some(root), What::Ports(all));
        model.slots[1] = Some(net);
        model.grants.push(root);
        Pair {
            guest,
            grants: vec![grant],
            model,
        }
    }

    async fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Only {
                to,
                from,
                first,
                last,
            } => {
                let request = format!("connect tcp *:{first}-{last}");
                let real = self.guest.only(number(to), number(from), &request).await;
                let model = self.model.ports(from).map(|(cap, mut ports)| {
                    ports.retain(|port| (first..=last).contains(port));
                    self.model.add(Some(cap), What::Ports(ports))
                });
                prop_assert_eq!(real.map(drop), model.map(drop));
                self.model.slots[to] = model.ok();
            }
            Step::Except { to, from, port } => {
                let request = format!("connect tcp *:{port}");
                let real = self
                    .guest
                    .derive("net_except", number(to), number(from), &request)
                    .await;
                let model = self.model.ports(from).map(|(cap, mut ports)| {
                    ports.retain(|&other| other != port);
                    self.model.add(Some(cap), What::Ports(ports))
                });
                prop_assert_eq!(real.map(drop), model.map(drop));
                self.model.slots[to] = model.ok();
            }
            Step::Revocable { net, revoker, from } => {
                let arguments = [number(net), number(revoker), number(from)];
                let real = self.guest.call("net_revocable", &arguments).await;
                let model = self.model.ports(from).map(|(cap, ports)| {
                    let net = self.model.add(Some(cap), What::Ports(ports));
                    (net, self.model.add(Some(cap), What::Revoker(net)))
                });
                prop_assert_eq!(real.map(drop), model.map(drop));
                let (made, revokes) = model.ok().unzip();
                self.model.slots[net] = made;
                self.model.slots[revoker] = revokes;
            }
            Step::Revoke { with } => {
                let real = self.guest.call("revoker_revoke", &[number(with)]).await;
                let model = self
                    .model
                    .look(with)
                    .and_then(|cap| match self.model.caps[cap].what {
                        What::Revoker(target) => Ok(number(self.model.revoke(target))),
                        What::Ports(_) => Err(ErrorCode::WrongKind),
                    });
                prop_assert_eq!(real, model);
            }
            Step::Close { slot } => {
                let real = self.guest.close(number(slot)).await;
                let model = self.model.look(slot);
                // Also when it is revoked, its holder has closed it from now on.
                if let (Some(cap), Ok(_) | Err(ErrorCode::Revoked)) = (self.model.slots[slot], model) {
                    self.model.caps[cap].closed = true;
                }
                prop_assert_eq!(real.map(drop), model.map(drop));
            }
            Step::Copy { to, from } => {
                self.guest.raw("copy", &[number(to), number(from)]).await;
                self.model.slots[to] = self.model.slots[from];
            }
            Step::Forget { slot } => {
                self.guest.raw("forget", &[number(slot)]).await;
                self.model.slots[slot] = None;
            }
            Step::Collect => {
                let held = self
                    .guest
                    .vat()
                    .collect()
                    .map_err(|error| TestCaseError::fail(error.to_string()))?;
                self.model.collect();
                prop_assert_eq!(held, self.model.held());
            }
            Step::Narrow { first, last } => {
                let keep: Vec<u16> = (first..=last).collect();
                let real = self.grants[0].narrow(&authority(&rules(&keep)));
                let root = self.model.grants[0];
                prop_assert_eq!(real.is_ok(), !self.model.caps[root].revoked);
                self.model.narrow(root, &keep);
            }
            Step::Grant { to } => {
                let all: Vec<u16> = PORTS.collect();
                let grant = net(&rules(&all));
                self.guest.handle().grant("more", &grant);
                self.guest.write(1024, b"more").await;
                self.guest
                    .call("grant_take", &[number(to), 1024, 4])
                    .await
                    .map_err(|error| TestCaseError::fail(error.to_string()))?;
                let root = self.model.add(None, What::Ports(all.clone()));
                self.model.slots[to] = Some(self.model.add(Some(root), What::Ports(all)));
                self.grants.push(grant);
                self.model.grants.push(root);
            }
            Step::RevokeGrant { which } => {
                if let Some(grant) = self.grants.get(which) {
                    let root = self.model.grants[which];
                    prop_assert_eq!(grant.revoke(), self.model.revoke(root));
                }
            }
        }
        Ok(())
    }

    /// Every slot behaves as the model says.
    async fn check(&mut self) -> Result<(), TestCaseError> {
        for slot in 1..=SLOTS {
            let kind = self.guest.call("cap_kind", &[number(slot)]).await;
            let expected = self.model.look(slot).map(|cap| match self.model.caps[cap].what {
                What::Ports(_) => Kind::Net.code(),
                What::Revoker(_) => Kind::Revoker.code(),
            });
            prop_assert_eq!(kind, expected, "slot {}", slot);
            if let Ok((_, ports)) = self.model.ports(slot) {
                let text = self.guest.describe(number(slot)).await.unwrap();
                prop_assert_eq!(authority(&text), authority(&rules(&ports)), "slot {}", slot);
            }
        }
        Ok(())
    }
}

#[test]
fn the_runtime_does_what_a_simple_model_does() {
    let config = Config {
        cases: 150,
        failure_persistence: None,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(&steps(), |steps| {
        block_on(async {
            let mut pair = Pair::start().await;
            for step in &steps {
                pair.step(step).await?;
                pair.check().await?;
            }
            Ok(())
        })
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}
