//! One vat's capabilities: what its references name.
//!
//! The table belongs to the vat's store, so looking into it takes no lock. It follows the lineage through
//! the letters in the vat's mailbox.

use std::sync::Arc;
use std::time::Instant;

use refcap_abi::{ErrorCode, Kind};

use super::Capability;
use super::entry::{Aside, Entry, Origin};
use super::id::{CapId, Key, Register};
use super::lineage::{Barren, Birth, Bounds, Ended, Holder, Node, Tree};
use super::mailbox::{Letter, Mailbox};
pub(crate) use super::object::Object;
use super::object::Passing;
use super::obtained::Obtained;
use super::pool::{Link, Pool};
use super::rights::Rights;
use crate::audit;
use crate::vat::Child;

/// What a new capability has of its own, beside its object.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// Its label, if it is not its parent's.
    pub(crate) label: Option<Arc<str>>,
    /// When its lease ends.
    pub(crate) lease: Option<Instant>,
}

/// What a new entry has beside its object.
#[derive(Default)]
struct Beside {
    /// What it allows, where it has an object of its own; a Net's rights are its object.
    rights: Option<Arc<Rights>>,
    lease: Option<Instant>,
    obtained: Option<Arc<Obtained>>,
}

/// What a new capability is derived from.
struct Parent {
    /// The new one's, which it has a share of already.
    origin: Link,
    node: Key<Node>,
    /// How often it had been narrowed when it was looked at, where that matters.
    narrowings: Option<u32>,
}

/// The capabilities of one vat.
#[derive(Debug)]
pub(crate) struct CapTable {
    mailbox: Arc<Mailbox>,
    bounds: Bounds,
    /// The most capabilities that the vat may have.
    limit: usize,
    entries: Register<Entry>,
    origins: Pool<Origin>,
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
    /// It went to another vat, and may go to one only.
    NotTransferable,
}

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
    pub(crate) fn new(mailbox: Arc<Mailbox>, bounds: Bounds, limit: usize) -> Self {
        CapTable {
            mailbox,
            bounds,
            limit: limit.min(Register::<Entry>::MOST),
            entries: Register::default(),
            origins: Pool::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the vat may have `count` more capabilities.
    pub(crate) fn room_for(&self, count: usize) -> Result<(), NoBirth> {
        // What has expired is in no lineage any more, and in the table for as long as its reference is held.
        let held = self.mailbox.capabilities().max(self.entries.len());
        // What children were given is out of reach until they are gone.
        if held + self.mailbox.lent().capabilities() + count > self.limit {
            return Err(NoBirth::Capabilities(self.limit));
        }
        Ok(())
    }

    /// Looks a capability up. One that is not there was revoked: a closed one is marked on the reference
    /// itself, and never comes this far.
    #[inline]
    pub(crate) fn get(&self, key: Key<Entry>) -> Result<&Entry, ErrorCode> {
        match self.entries.get(key) {
            None => Err(ErrorCode::Revoked),
            Some(entry) => match entry.object {
                Object::Gone(_, why) => Err(why),
                _ => Ok(entry),
            },
        }
    }

    /// The label of a capability that is or was in the table.
    pub(crate) fn label(&self, key: Key<Entry>) -> Option<&Arc<str>> {
        let origin = self.origin(self.entries.get(key)?).ok()?;
        Some(&origin.label)
    }

    /// The lineage that a capability of this table is in, and its label.
    pub(crate) fn origin(&self, entry: &Entry) -> Result<&Origin, ErrorCode> {
        self.origins.get(entry.origin).ok_or(ErrorCode::Revoked)
    }

    /// Adds a Net derived from `parent`: what [`derive`](CapTable::derive) would add. That it is a Net is known when this is
    /// compiled, so the object need not be made before its place is there.
    pub(crate) fn derive_net(
        &mut self,
        parent: Key<Entry>,
        rights: Arc<Rights>,
        own: Own,
    ) -> Result<Key<Entry>, NoBirth> {
        let beside = Beside {
            lease: own.lease,
            ..Beside::default()
        };
        let parent = self.parent(parent, own.label)?;
        self.insert(parent, || Object::Net(rights.for_another()), beside)
    }

    /// Adds a capability derived from `parent`.
    pub(crate) fn derive(
        &mut self,
        parent: Key<Entry>,
        object: Object,
        own: Own,
    ) -> Result<Key<Entry>, NoBirth> {
        let above = self.entries.get(parent).ok_or(NoBirth::Revoked)?;
        let rights = match (&object, &above.object) {
            // These check each peer or packet, by what their Net allows at that time.
            (Object::Name(_) | Object::TcpListener(_) | Object::UdpSocket(_), Object::Net(rights)) => {
                Some(rights.clone())
            }
            _ => None,
        };
        let beside = Beside {
            rights,
            lease: own.lease,
            obtained: None,
        };
        let parent = self.parent(parent, own.label)?;
        self.insert(parent, || object.for_another(), beside)
    }

    /// Adds a socket or Name that a program gave who implements the Net `parent`.
    pub(crate) fn obtain(
        &mut self,
        parent: Key<Entry>,
        object: Object,
        obtained: Arc<Obtained>,
    ) -> Result<Key<Entry>, NoBirth> {
        let beside = Beside {
            obtained: Some(obtained),
            ..Beside::default()
        };
        let parent = self.parent(parent, None)?;
        self.insert(parent, || object.for_another(), beside)
    }

    /// One of the table's own as a parent. The child has the parent's label if it has none.
    #[inline(always)]
    fn parent(&mut self, key: Key<Entry>, label: Option<Arc<str>>) -> Result<Parent, NoBirth> {
        let above = self.entries.get(key).ok_or(NoBirth::Revoked)?;
        let origin = match label {
            None => self.origins.share(above.origin),
            Some(label) => {
                let origin = self.origins.get(above.origin).ok_or(NoBirth::Revoked)?;
                match Arc::ptr_eq(&origin.label, &label) {
                    true => self.origins.share(above.origin),
                    false => {
                        let tree = origin.tree.clone();
                        self.origins.add(Origin { tree, label })
                    }
                }
            }
        };
        Ok(Parent {
            origin,
            node: above.node(key.id()),
            narrowings: Some(above.narrowings),
        })
    }

    /// Adds a capability that somebody else holds: one more below theirs. The embedder grants so, and so do
    /// other vats, by way of [`hand_over`](CapTable::hand_over).
    pub(crate) fn accept(&mut self, name: &str, grant: &Capability) -> Result<Key<Entry>, NoBirth> {
        loop {
            let (rights, narrowings) = grant.tree().rights(grant.node()).ok_or(NoBirth::Revoked)?;
            let object = match grant.object() {
                Some(object) => object.clone(),
                None => Object::Net(rights.clone().ok_or(NoBirth::Revoked)?),
            };
            if let Object::Net(rights) = &object
                && !rights.transferable
                && !grant.tree().claim(grant.node(), self.mailbox.vat())
            {
                return Err(NoBirth::NotTransferable);
            }
            let (tree, label) = (grant.tree().clone(), self.granted_as(name, grant));
            let parent = Parent {
                origin: self.origins.add(Origin { tree, label }),
                node: grant.node(),
                narrowings: Some(narrowings),
            };
            let beside = Beside {
                rights,
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
        let Origin { tree, label } = self.origin(entry).map_err(NotHandedOver::Code)?;
        let (tree, kind, label) = (tree.clone(), entry.object.kind(), label.clone());
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
                let (object, rights) = match &entry.object {
                    Object::Net(rights) if !rights.transferable => {
                        return Err(NotHandedOver::Code(ErrorCode::NotTransferable));
                    }
                    Object::Net(rights) => (None, Some(rights.clone())),
                    other => (Some(other.clone()), None),
                };
                let mut birth = Birth {
                    rights: rights.as_ref(),
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

    /// Adds a capability that comes from nothing and gives no authority: a poller, a guard.
    pub(crate) fn plant(&mut self, label: &str, object: Object) -> Result<Key<Entry>, NoBirth> {
        self.room_for(1)?;
        let label = label.into();
        let (tree, node) = Tree::plant(Birth::new(object.kind(), &label));
        let parent = Parent {
            origin: self.origins.add(Origin {
                tree: tree.clone(),
                label,
            }),
            node,
            narrowings: None,
        };
        let key = self.insert(parent, || object, Beside::default())?;
        // Nobody else holds it.
        tree.close(node);
        Ok(key)
    }

    /// Adds a Net with the authority of `parent`, and a Revoker for it.
    pub(crate) fn derive_revocable(
        &mut self,
        parent: Key<Entry>,
    ) -> Result<(Key<Entry>, Key<Entry>), NoBirth> {
        let above = self.entries.get(parent).ok_or(NoBirth::Revoked)?;
        let object = above.object.clone();
        let net = self.derive(parent, object, Own::default())?;
        let target = self.entries.get(net).ok_or(NoBirth::Revoked)?.node(net.id());
        match self.derive(parent, Object::Revoker(target.into()), Own::default()) {
            Ok(revoker) => Ok((net, revoker)),
            Err(error) => {
                self.close(net);
                Err(error)
            }
        }
    }

    /// Adds a capability with its entry and its node.
    // Inlined, and the object made where it stays: what is written in parts and moved on as a whole waits for the parts to
    // arrive in memory.
    #[inline(always)]
    fn insert(
        &mut self,
        parent: Parent,
        object: impl FnOnce() -> Object,
        beside: Beside,
    ) -> Result<Key<Entry>, NoBirth> {
        let origin = parent.origin;
        let made = self.try_insert(parent, object, beside);
        if made.is_err() {
            self.origins.release(origin);
        }
        made
    }

    #[inline(always)]
    fn try_insert(
        &mut self,
        parent: Parent,
        object: impl FnOnce() -> Object,
        Beside {
            rights,
            lease,
            obtained,
        }: Beside,
    ) -> Result<Key<Entry>, NoBirth> {
        self.room_for(1)?;
        let id = CapId::next();
        let account = match &obtained {
            Some(obtained) => obtained.account().cloned(),
            None => rights
                .as_ref()
                .and_then(|rights| rights.conditions.account.clone()),
        };
        let aside = Aside::of(account, obtained);
        let (above, narrowings) = (parent.node, parent.narrowings);
        let origin = self.origins.get(parent.origin).ok_or(NoBirth::Revoked)?;
        let vacancy = self.entries.vacancy();
        let vacancy = vacancy.ok_or(NoBirth::Capabilities(self.limit))?;
        // The entry is there before the node, so that nothing can happen to the node of which the vat does not hear.
        let key = vacancy.fill(id, Entry::new(parent.origin, aside, object()));
        let entry = self.entries.get_mut(key).ok_or(NoBirth::Revoked)?;
        let kind = entry.object.kind();
        let birth = Birth {
            id,
            kind,
            label: &origin.label,
            rights: match &entry.object {
                Object::Net(rights) => Some(rights),
                _ => rights.as_ref(),
            },
            lease,
            target: match &entry.object {
                Object::Revoker(target) => Some(target.key()),
                _ => None,
            },
            socket: match entry.obtained() {
                Some(obtained) => obtained.sever(&entry.object),
                None => entry.object.sever(),
            },
        };
        let target = birth.target.map(Key::id);
        let holder = Holder::Vat(&self.mailbox, key);
        match origin.tree.derive(above, narrowings, self.bounds, birth, holder) {
            Ok(node) => entry.put(node),
            Err(barren) => {
                self.entries.remove(key, |_| ());
                return Err(self.no_birth(barren));
            }
        }
        if audit::is_watched()
            && let Some(entry) = self.entries.get(key)
        {
            let (label, vat) = (&origin.label, Some(self.mailbox.vat()));
            let authority = entry.net().ok().map(|rights| &rights.authority);
            audit::derive(id, above.id(), kind, label, vat, authority, target);
        }
        Ok(key)
    }

    fn no_birth(&self, barren: Barren) -> NoBirth {
        match barren {
            Barren::Revoked => NoBirth::Revoked,
            Barren::Narrowed => NoBirth::Stale,
            Barren::TooDeep => NoBirth::Depth(self.bounds.depth),
            Barren::TooWide => NoBirth::FanOut(self.bounds.fan_out),
        }
    }

    /// The holder gives a capability up. Returns whether it was there.
    pub(crate) fn close(&mut self, key: Key<Entry>) -> bool {
        let (origins, vat) = (&self.origins, self.mailbox.vat());
        let closed = self.entries.remove(key, |entry| {
            if let Some(origin) = origins.get(entry.origin) {
                origin.tree.close(entry.node(key.id()));
                if let Some(socket) = entry.object.sever() {
                    socket.sever();
                }
                audit::close(key.id(), entry.object.kind(), &origin.label, vat);
            }
            entry.origin
        });
        if let Some(origin) = closed {
            self.origins.release(origin);
        }
        closed.is_some()
    }

    /// Takes out what is in no lineage any more.
    fn forget(&mut self, key: Key<Entry>) {
        if let Some(origin) = self.entries.remove(key, |entry| entry.origin) {
            self.origins.release(origin);
        }
    }

    /// The programs that this vat started, and may have stopped since.
    pub(crate) fn children(&self) -> impl Iterator<Item = &Arc<Child>> {
        let entries = self.entries.keys().filter_map(|key| self.entries.get(key));
        entries.filter_map(|entry| entry.child().ok())
    }

    /// Gives up all that the vat holds. What others derived from it lives on.
    fn close_all(&mut self) {
        let keys: Vec<_> = self.entries.keys().collect();
        for key in keys {
            self.close(key);
        }
    }

    /// Does what the letters say.
    pub(crate) fn read_letters(&mut self) {
        for letter in self.mailbox.take_letters() {
            match letter {
                Letter::Ended(keys, Ended::Revoked) => {
                    for key in keys {
                        self.forget(key);
                    }
                }
                Letter::Ended(keys, Ended::Expired) => {
                    for key in keys {
                        if let Some(entry) = self.entries.get_mut(key) {
                            entry.object = Object::Gone(entry.object.kind(), ErrorCode::Expired);
                        }
                    }
                }
                Letter::Narrowed {
                    entry,
                    rights,
                    narrowings,
                } => {
                    if let Some(entry) = self.entries.get_mut(entry) {
                        if let Object::Net(before) = &mut entry.object {
                            *before = rights;
                        }
                        entry.narrowings = narrowings;
                    }
                }
                Letter::Unreachable(key) => {
                    self.close(key);
                }
            }
        }
        if self.mailbox.is_stopped() {
            self.close_all();
        }
    }
}

impl Drop for CapTable {
    fn drop(&mut self) {
        self.read_letters();
        self.close_all();
        self.mailbox.end();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use refcap_authority::Authority;

    use super::*;
    use crate::ambient::ambient_authority;
    use crate::capability::lineage::Sever;

    const BOUNDS: Bounds = Bounds {
        depth: 10,
        fan_out: 10,
    };

    fn table() -> CapTable {
        CapTable::new(Mailbox::new(), BOUNDS, 10)
    }

    fn net(table: &mut CapTable, text: &str) -> (Capability, Key<Entry>) {
        let net = Capability::net("net", text.parse().unwrap(), ambient_authority());
        let key = table.accept("net", &net).unwrap();
        (net, key)
    }

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
        assert_eq!(rights.authority, "connect tcp 10.0.0.1:3".parse().unwrap());
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
        assert_eq!(rights.authority, "connect tcp 10.0.0.1:3".parse().unwrap());
    }

    #[test]
    fn origins_are_there_for_as_long_as_capabilities_have_them() {
        let mut table = table();
        let (net, key) = net(&mut table, "connect tcp 10.0.0.1:1-8");
        let derive = |table: &mut CapTable, label: Option<&str>| {
            let object = table.get(key).unwrap().object().clone();
            let own = Own {
                label: label.map(Into::into),
                ..Own::default()
            };
            table.derive(key, object, own)
        };
        let same = derive(&mut table, None).unwrap();
        let label = table.label(key).cloned();
        let object = table.get(key).unwrap().object().clone();
        let own = Own {
            label,
            ..Own::default()
        };
        let also = table.derive(key, object, own).unwrap();
        let other = derive(&mut table, Some("net/other")).unwrap();
        assert_eq!(table.origins.len(), 2);
        assert_eq!(table.label(same).map(|label| &**label), Some("net"));
        assert_eq!(table.label(other).map(|label| &**label), Some("net/other"));
        for key in [same, also, other] {
            table.close(key);
        }
        assert_eq!(table.origins.len(), 1);
        for _ in 0..9 {
            derive(&mut table, Some("net/one")).unwrap();
        }
        // What could not be made has left nothing.
        assert_eq!(
            derive(&mut table, Some("net/two")),
            Err(NoBirth::Capabilities(10))
        );
        assert_eq!(table.accept("more", &net), Err(NoBirth::Capabilities(10)));
        assert_eq!(table.origins.len(), 10);
        net.revoke();
        table.read_letters();
        assert_eq!((table.len(), table.origins.len()), (0, 0));
        assert_eq!(Arc::strong_count(net.tree()), 1);
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
                Some(entry.net().unwrap().authority.clone()),
                net.authority(),
                "round {round}"
            );
            assert_eq!(
                Some(entry.narrowings),
                net.tree()
                    .rights(entry.node(key.id()))
                    .map(|(_, narrowings)| narrowings),
                "round {round}"
            );
        }
    }

    #[test]
    fn a_vat_that_is_stopped_holds_nothing_and_gets_nothing() {
        let net = Capability::net("net", "connect tcp *:*".parse().unwrap(), ambient_authority());
        let mut table = table();
        let key = table.accept("net", &net).unwrap();
        table.mailbox.stop();
        assert!(table.mailbox.has_letters());
        table.read_letters();
        assert_eq!(table.get(key).err(), Some(ErrorCode::Revoked));
        assert_eq!(table.mailbox.capabilities(), 0);
        // Nor does it keep what comes later, and it looks each time.
        let later = table.accept("net", &net).unwrap();
        assert!(table.mailbox.has_letters());
        table.read_letters();
        assert_eq!(table.get(later).err(), Some(ErrorCode::Revoked));
        assert_eq!(net.lineage().len(), 1);
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

        fn restrict(&self, _: &Authority) -> bool {
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
        let label = "slow".into();
        let birth = Birth {
            socket: Some(slow.clone()),
            ..Birth::new(Kind::TcpStream, &label)
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
