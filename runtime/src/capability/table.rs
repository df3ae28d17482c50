//! One vat's capabilities: what its references name.
//!
//! The table belongs to the vat's store, so looking into it takes no lock. It follows the lineage through
//! the letters in the vat's mailbox.

use std::sync::Arc;

use refcap_abi::{ErrorCode, Kind};
use refcap_authority::Authority;

use super::Capability;
use super::id::{CapId, Key, Register};
use super::lineage::{Barren, Birth, Bounds, Holder, Node, Sever, Tree};
use super::mailbox::{Letter, Mailbox};
use crate::audit;
use crate::net::TcpDoor;

/// What a capability is a capability to.
#[derive(Debug, Clone)]
pub(crate) enum Object {
    Net(Authority),
    TcpStream(Arc<TcpDoor>),
    /// The power to end another node of the same lineage.
    Revoker(Key<Node>),
}

impl Object {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Object::Net(_) => Kind::Net,
            Object::TcpStream(_) => Kind::TcpStream,
            Object::Revoker(_) => Kind::Revoker,
        }
    }
}

/// One capability that the vat holds.
#[derive(Debug)]
pub(crate) struct Entry {
    tree: Arc<Tree>,
    node: Key<Node>,
    narrowings: u32,
    label: Arc<str>,
    object: Object,
}

impl Entry {
    pub(crate) fn object(&self) -> &Object {
        &self.object
    }

    pub(crate) fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// The authority of a Net.
    pub(crate) fn net(&self) -> Result<&Authority, ErrorCode> {
        match &self.object {
            Object::Net(authority) => Ok(authority),
            Object::TcpStream(_) | Object::Revoker(_) => Err(ErrorCode::WrongKind),
        }
    }

    /// The socket of a TcpStream.
    pub(crate) fn stream(&self) -> Result<&Arc<TcpDoor>, ErrorCode> {
        match &self.object {
            Object::TcpStream(door) => Ok(door),
            Object::Net(_) | Object::Revoker(_) => Err(ErrorCode::WrongKind),
        }
    }

    /// The lineage and target of a Revoker.
    pub(crate) fn revoker(&self) -> Result<(&Arc<Tree>, Key<Node>), ErrorCode> {
        match &self.object {
            Object::Revoker(target) => Ok((&self.tree, *target)),
            Object::Net(_) | Object::TcpStream(_) => Err(ErrorCode::WrongKind),
        }
    }
}

/// The capabilities of one vat.
#[derive(Debug)]
pub(crate) struct CapTable {
    mailbox: Arc<Mailbox>,
    bounds: Bounds,
    /// The most capabilities that the vat may have.
    limit: usize,
    entries: Register<Entry>,
}

/// Why a vat could not get another capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoBirth {
    /// The parent is gone.
    Revoked,
    /// The parent was narrowed since; read the letters and look again.
    Stale,
    /// The vat would have more capabilities than this.
    Capabilities(usize),
    /// The chain of derivations would be longer than this.
    Depth(u32),
    /// The parent would have more children than this.
    FanOut(u32),
}

impl CapTable {
    pub(crate) fn new(mailbox: Arc<Mailbox>, bounds: Bounds, limit: usize) -> Self {
        CapTable {
            mailbox,
            bounds,
            limit,
            entries: Register::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the vat may have `count` more capabilities.
    pub(crate) fn room_for(&self, count: usize) -> Result<(), NoBirth> {
        if self.mailbox.capabilities() + count > self.limit {
            return Err(NoBirth::Capabilities(self.limit));
        }
        Ok(())
    }

    /// Looks a capability up. One that is not there was revoked: a closed one is marked on the reference
    /// itself, and never comes this far.
    pub(crate) fn get(&self, key: Key<Entry>) -> Result<&Entry, ErrorCode> {
        self.entries.get(key).ok_or(ErrorCode::Revoked)
    }

    /// Adds a capability derived from `parent`.
    pub(crate) fn derive(&mut self, parent: Key<Entry>, object: Object) -> Result<Key<Entry>, NoBirth> {
        let above = self.entries.get(parent).ok_or(NoBirth::Revoked)?;
        let (tree, node) = (above.tree.clone(), above.node);
        let (label, narrowings) = (above.label.clone(), above.narrowings);
        self.insert(tree, node, Some(narrowings), label, object)
    }

    /// Adds a capability that the embedder grants: one more below its own.
    pub(crate) fn accept(&mut self, name: &str, grant: &Capability) -> Result<Key<Entry>, NoBirth> {
        loop {
            let narrowings = grant.tree().narrowings(grant.node()).ok_or(NoBirth::Revoked)?;
            let authority = grant.authority().ok_or(NoBirth::Revoked)?;
            let object = Object::Net(authority);
            match self.insert(
                grant.tree().clone(),
                grant.node(),
                Some(narrowings),
                name.into(),
                object,
            ) {
                // Narrowed between the two looks.
                Err(NoBirth::Stale) => {}
                result => return result,
            }
        }
    }

    /// Adds a Net with the authority of `parent`, and a Revoker for it.
    pub(crate) fn derive_revocable(
        &mut self,
        parent: Key<Entry>,
    ) -> Result<(Key<Entry>, Key<Entry>), NoBirth> {
        let above = self.entries.get(parent).ok_or(NoBirth::Revoked)?;
        let object = above.object.clone();
        let net = self.derive(parent, object)?;
        let target = self.entries.get(net).ok_or(NoBirth::Revoked)?.node;
        match self.derive(parent, Object::Revoker(target)) {
            Ok(revoker) => Ok((net, revoker)),
            Err(error) => {
                self.close(net);
                Err(error)
            }
        }
    }

    fn insert(
        &mut self,
        tree: Arc<Tree>,
        parent: Key<Node>,
        narrowings: Option<u32>,
        label: Arc<str>,
        object: Object,
    ) -> Result<Key<Entry>, NoBirth> {
        self.room_for(1)?;
        let kind = object.kind();
        let birth = Birth {
            id: CapId::next(),
            kind,
            label: label.clone(),
            authority: match &object {
                Object::Net(authority) => Some(authority.clone()),
                _ => None,
            },
            target: match &object {
                Object::Revoker(target) => Some(*target),
                _ => None,
            },
            socket: match &object {
                Object::TcpStream(door) => Some(door.clone() as Arc<dyn Sever>),
                _ => None,
            },
        };
        let id = birth.id;
        let authority = birth.authority.clone();
        let mut made = None;
        let place = {
            let (entries, made, tree, label) = (&mut self.entries, &mut made, tree.clone(), label.clone());
            Box::new(move |node| {
                let entry = Entry {
                    tree,
                    node,
                    narrowings: 0,
                    label,
                    object,
                };
                let key = entries.insert(id, entry);
                *made = Some(key);
                key
            })
        };
        let holder = Holder::Vat(&self.mailbox, place);
        tree.derive(parent, narrowings, self.bounds, birth, holder)
            .map_err(|barren| match barren {
                Barren::Revoked => NoBirth::Revoked,
                Barren::Narrowed => NoBirth::Stale,
                Barren::TooDeep => NoBirth::Depth(self.bounds.depth),
                Barren::TooWide => NoBirth::FanOut(self.bounds.fan_out),
            })?;
        audit::derive(
            id,
            parent.id(),
            kind,
            &label,
            Some(self.mailbox.vat()),
            authority.as_ref(),
        );
        made.ok_or(NoBirth::Revoked)
    }

    /// The holder gives a capability up. Returns whether it was there.
    pub(crate) fn close(&mut self, key: Key<Entry>) -> bool {
        let Some(entry) = self.entries.remove(key) else {
            return false;
        };
        entry.tree.close(entry.node);
        if let Object::TcpStream(door) = &entry.object {
            door.sever();
        }
        audit::close(key.id(), entry.object.kind(), &entry.label, self.mailbox.vat());
        true
    }

    /// Does what the letters say.
    pub(crate) fn read_letters(&mut self) {
        for letter in self.mailbox.take_letters() {
            match letter {
                Letter::Revoked(key) => {
                    self.entries.remove(key);
                }
                Letter::Narrowed {
                    entry,
                    authority,
                    narrowings,
                } => {
                    if let Some(entry) = self.entries.get_mut(entry) {
                        entry.object = Object::Net(authority);
                        entry.narrowings = narrowings;
                    }
                }
                Letter::Unreachable(key) => {
                    self.close(key);
                }
            }
        }
    }
}

impl Drop for CapTable {
    fn drop(&mut self) {
        // The vat ends: it gives up all that it holds. What others derived from it lives on.
        self.read_letters();
        let keys: Vec<_> = self.entries.keys().collect();
        for key in keys {
            self.close(key);
        }
        self.mailbox.end();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::ambient::ambient_authority;

    const BOUNDS: Bounds = Bounds {
        depth: 10,
        fan_out: 10,
    };

    fn table() -> CapTable {
        CapTable::new(Mailbox::new(), BOUNDS, 10)
    }

    // Letters once were posted after the lineage was unlocked. Two narrowings then could arrive in the
    // wrong order, and leave the vat with the wider authority for good.
    #[test]
    fn concurrent_narrowings_reach_the_vat_in_order() {
        for round in 0..300 {
            let net = Capability::net(
                "net",
                "connect tcp 10.0.0.1:1-8".parse().unwrap(),
                ambient_authority(),
            );
            let mut table = table();
            let key = table.accept("net", &net).unwrap();
            std::thread::scope(|scope| {
                for bound in ["connect tcp *:1-6", "connect tcp *:3-8"] {
                    let net = &net;
                    scope.spawn(move || net.narrow(&bound.parse().unwrap()).unwrap());
                }
            });
            table.read_letters();
            let entry = table.get(key).unwrap();
            assert_eq!(
                Some(entry.net().unwrap().clone()),
                net.authority(),
                "round {round}"
            );
            assert_eq!(
                Some(entry.narrowings),
                entry.tree.narrowings(entry.node),
                "round {round}"
            );
        }
    }

    /// Takes its time to end.
    #[derive(Debug)]
    struct Slow {
        begun: mpsc::Sender<()>,
        done: AtomicBool,
    }

    impl Sever for Slow {
        fn sever(&self) {
            self.begun.send(()).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            self.done.store(true, Ordering::SeqCst);
        }

        fn is_permitted_by(&self, _: &Authority) -> bool {
            true
        }
    }

    // A second revocation of the same once found nothing to do, and returned while the first was still
    // ending connections.
    #[test]
    fn a_second_revoke_returns_after_the_first_is_done() {
        let net = Capability::net("net", Authority::nothing(), ambient_authority());
        let (begun, first_has_begun) = mpsc::channel();
        let slow = Arc::new(Slow {
            begun,
            done: AtomicBool::new(false),
        });
        let birth = Birth {
            id: CapId::next(),
            kind: Kind::TcpStream,
            label: "slow".into(),
            authority: None,
            target: None,
            socket: Some(slow.clone()),
        };
        net.tree()
            .derive(net.node(), None, BOUNDS, birth, Holder::Host)
            .unwrap();
        let first = std::thread::spawn({
            let net = net.clone();
            move || net.revoke()
        });
        first_has_begun.recv().unwrap();
        assert_eq!(net.revoke(), 0);
        assert!(slow.done.load(Ordering::SeqCst));
        assert_eq!(first.join().unwrap(), 2);
    }
}
