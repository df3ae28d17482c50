//! How a capability gets from one table to another: by the embedder's grant, or out of a vat's hands into another's.

use std::sync::Arc;

use refcap_abi::{ErrorCode, Kind};

use super::Capability;
use super::entry::{Entry, Origin};
use super::id::Key;
use super::lineage::{Birth, Holder};
use super::object::{Object, Passing};
use super::rights::Conditions;
use super::table::{Beside, CapTable, NoBirth, Parent};
use crate::audit;

/// Why a capability could not leave its vat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotHandedOver {
    /// It is not there, or was granted on terms that forbid it.
    Code(ErrorCode),
    /// This kind means something in one vat only.
    Never(Kind),
    /// The socket is in a poller of this vat.
    InPoller,
    /// There is no room in the lineage.
    Barren(NoBirth),
}

impl CapTable {
    /// Adds a capability that somebody else holds: one more below theirs. The embedder grants so, and so do
    /// other vats, by way of [`hand_over`](CapTable::hand_over).
    pub(crate) fn accept(&mut self, name: &str, grant: &Capability) -> Result<Key<Entry>, NoBirth> {
        loop {
            let (rights, narrowings) = grant.tree().rights(grant.node()).ok_or(NoBirth::Revoked)?;
            let (mut authority, mut conditions) = match rights {
                Some(rights) => (Some(rights.authority), rights.conditions),
                None => (None, Conditions::none().clone()),
            };
            let object = match grant.object() {
                Some(object) => object.clone(),
                None => {
                    let claimed = || grant.tree().claim(grant.node(), self.mailbox.vat());
                    if !conditions.transferable && !claimed() {
                        return Err(NoBirth::NotTransferable);
                    }
                    if let Some(another) = conditions.for_another() {
                        conditions = another;
                    }
                    Object::Net(authority.take().ok_or(NoBirth::Revoked)?)
                }
            };
            let (tree, label) = (grant.tree().clone(), self.granted_as(name, grant));
            let parent = Parent {
                origin: self.origins.add(Origin {
                    tree,
                    label,
                    conditions,
                }),
                node: grant.node(),
                narrowings: Some(narrowings),
            };
            let beside = Beside {
                authority,
                lease: None,
                obtained: grant.obtained().cloned(),
            };
            match self.insert(parent, || object.for_another(), beside) {
                // Narrowed between the two looks.
                Err(NoBirth::Stale) => {}
                result => return result,
            }
        }
    }

    /// Gives a capability out of the vat's hands, for another one to [`accept`](CapTable::accept). A socket or
    /// a Name leaves this vat, whose reference is `Closed` from now on; of anything else the other vat gets
    /// one that is derived from this.
    pub(crate) fn hand_over(&mut self, key: Key<Entry>) -> Result<Capability, NotHandedOver> {
        loop {
            match self.try_hand_over(key) {
                // It was narrowed, which a letter says: look again.
                Err(NotHandedOver::Barren(NoBirth::Stale)) => self.read_letters(),
                result => return result,
            }
        }
    }

    fn try_hand_over(&mut self, key: Key<Entry>) -> Result<Capability, NotHandedOver> {
        let entry = self.get(key).map_err(NotHandedOver::Code)?;
        let origin = self.origin(entry).map_err(NotHandedOver::Code)?;
        let (tree, kind, label) = (origin.tree.clone(), entry.object.kind(), origin.label.clone());
        match entry.object.passing() {
            Passing::Never => Err(NotHandedOver::Never(kind)),
            Passing::Moved => {
                if entry.source().is_ok_and(|socket| socket.ending().is_watched()) {
                    return Err(NotHandedOver::InPoller);
                }
                let entry = self.entries.get_mut(key).ok_or(ErrorCode::Revoked);
                let entry = entry.map_err(NotHandedOver::Code)?;
                let node = entry.node(key.id());
                entry.uproot();
                let object = std::mem::replace(&mut entry.object, Object::Gone(kind, ErrorCode::Closed));
                let obtained = entry.take_obtained();
                tree.release_to_host(node);
                let moved = Capability::new(tree, node, kind, label, Some(object));
                Ok(moved.obtained_from(obtained))
            }
            Passing::Derived => {
                let (object, authority) = match &entry.object {
                    Object::Net(_) if !origin.conditions.transferable => {
                        return Err(NotHandedOver::Code(ErrorCode::NotTransferable));
                    }
                    Object::Net(authority) => (None, Some(authority)),
                    other => (Some(other.clone()), None),
                };
                let mut birth = Birth {
                    authority,
                    conditions: &origin.conditions,
                    ..Birth::new(kind, &label)
                };
                if let Some(Object::Revoker(target)) = &object {
                    birth.target = Some(target.key());
                }
                let (parent, narrowings) = (entry.node(key.id()), Some(entry.narrowings));
                let target = birth.target.map(Key::id);
                let (id, holder) = (birth.id, Holder::Host);
                let made = tree.derive(parent, narrowings, self.bounds, birth, holder);
                let node = made.map_err(|barren| NotHandedOver::Barren(self.no_birth(barren)))?;
                audit::derive(
                    id,
                    parent.id(),
                    kind,
                    &label,
                    Some(self.mailbox.vat()),
                    None,
                    target,
                );
                Ok(Capability::new(tree, node, kind, label, object))
            }
        }
    }

    /// The name that a vat's grant goes by: its endowment's, and the labels that the embedder's terms gave.
    fn granted_as(&self, name: &str, grant: &Capability) -> Arc<str> {
        match grant.label().split_once('/') {
            Some((_, labels)) => format!("{name}/{labels}").into(),
            None => name.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::{net, table};
    use super::*;
    use crate::ambient::ambient_authority;

    #[test]
    fn what_is_handed_over_is_derived_and_ends_with_what_it_came_from() {
        let (mut ours, mut theirs) = (table(), table());
        let (net, key) = net(&mut ours, "connect tcp 10.0.0.1:1-8");
        let on_its_way = ours.hand_over(key).unwrap();
        let theirs_key = theirs.accept("lent", &on_its_way).unwrap();
        drop(on_its_way);
        // The hold in between is gone: granted, ours, theirs.
        assert_eq!(net.lineage().len(), 3);
        net.narrow(&"connect tcp *:3".parse().unwrap()).unwrap();
        theirs.read_letters();
        let rights = theirs.get(theirs_key).unwrap().net().unwrap();
        assert_eq!(*rights, "connect tcp 10.0.0.1:3".parse().unwrap());
        // Ours is closed, and theirs lives on until what both come from is revoked.
        assert!(ours.close(key));
        assert!(theirs.get(theirs_key).is_ok());
        assert_eq!(net.revoke(), 2);
        theirs.read_letters();
        assert_eq!(theirs.get(theirs_key).err(), Some(ErrorCode::Revoked));
    }

    #[test]
    fn what_was_narrowed_a_moment_ago_is_handed_over_as_it_is_now() {
        let (mut ours, mut theirs) = (table(), table());
        let (net, key) = net(&mut ours, "connect tcp 10.0.0.1:1-8");
        net.narrow(&"connect tcp *:3".parse().unwrap()).unwrap();
        let on_its_way = ours.hand_over(key).unwrap();
        let key = theirs.accept("lent", &on_its_way).unwrap();
        let rights = theirs.get(key).unwrap().net().unwrap();
        assert_eq!(*rights, "connect tcp 10.0.0.1:3".parse().unwrap());
    }

    #[test]
    fn a_net_that_may_not_be_handed_on_and_a_poller_stay() {
        let mut ours = table();
        let policy = "connect tcp *:*; no hand-over".parse().unwrap();
        let net = Capability::granted("net", &policy, ambient_authority()).unwrap();
        let key = ours.accept("net", &net).unwrap();
        let refused = NotHandedOver::Code(ErrorCode::NotTransferable);
        assert_eq!(ours.hand_over(key).err(), Some(refused));
        let poller = ours.plant("poller", Object::Poller(Arc::default())).unwrap();
        assert_eq!(
            ours.hand_over(poller).err(),
            Some(NotHandedOver::Never(Kind::Poller))
        );
    }
}
