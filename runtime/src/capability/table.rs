//! One vat's capabilities: what its references name.
//!
//! The table belongs to the vat's store, so looking into it takes no lock. It follows the lineage through
//! the letters in the vat's mailbox.

use std::sync::Arc;
use std::time::Instant;

use refcap_abi::ErrorCode;
use refcap_authority::Authority;

use super::entry::{Entry, Origin};
use super::id::{CapId, Key, Register};
use super::lineage::{Barren, Birth, Bounds, Ended, Holder, Node, Sever, Tree};
use super::mailbox::{Letter, Mailbox};
pub(crate) use super::object::Object;
use super::obtained::Obtained;
use super::pool::{Link, Pool};
use super::rights::{Conditions, Less, RightsRef};
use crate::audit;
use crate::budget::Account;
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
pub(super) struct Beside {
    /// What it allows, where it has an object of its own; a Net's authority is its object.
    pub(super) authority: Option<Authority>,
    pub(super) lease: Option<Instant>,
    pub(super) obtained: Option<Arc<Obtained>>,
}

/// What a new capability is derived from.
pub(super) struct Parent {
    /// The new one's, which it has a share of already.
    pub(super) origin: Link,
    pub(super) node: Key<Node>,
    /// How often it had been narrowed when it was looked at, where that matters.
    pub(super) narrowings: Option<u32>,
}

/// The capabilities of one vat.
#[derive(Debug)]
pub(crate) struct CapTable {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) bounds: Bounds,
    /// The most capabilities that the vat may have.
    limit: usize,
    pub(super) entries: Register<Entry>,
    pub(super) origins: Pool<Origin>,
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

    /// What a Net allows, and on what terms.
    #[inline]
    pub(crate) fn rights(&self, key: Key<Entry>) -> Result<RightsRef<'_>, ErrorCode> {
        let entry = self.get(key)?;
        Ok(RightsRef {
            authority: entry.net()?,
            conditions: &self.origin(entry)?.conditions,
        })
    }

    /// The budget that a Net, a Name, or a socket that is bound draws on.
    pub(crate) fn account(&self, key: Key<Entry>) -> Result<Option<&Arc<Account>>, ErrorCode> {
        let entry = self.get(key)?;
        Ok(match entry.obtained() {
            Some(obtained) => obtained.account(),
            None => self.origin(entry)?.conditions.account.as_ref(),
        })
    }

    /// The lineage that a capability of this table is in, its label and its conditions.
    #[inline]
    pub(crate) fn origin(&self, entry: &Entry) -> Result<&Origin, ErrorCode> {
        self.origins.get(entry.origin).ok_or(ErrorCode::Revoked)
    }

    /// Adds a Net derived from `parent`, which is a Net or what implements one.
    pub(crate) fn derive_net(
        &mut self,
        parent: Key<Entry>,
        less: Less,
        own: Own,
    ) -> Result<Key<Entry>, NoBirth> {
        let beside = Beside {
            lease: own.lease,
            ..Beside::default()
        };
        let above = self.entries.get(parent).ok_or(NoBirth::Revoked)?;
        let before = &self.origins.get(above.origin).ok_or(NoBirth::Revoked)?.conditions;
        let another = less.conditions.as_ref().unwrap_or(before).for_another();
        let parent = self.parent(parent, own.label, another.or(less.conditions))?;
        self.insert(parent, || Object::Net(less.authority), beside)
    }

    /// Adds a capability derived from `parent`, anything but a Net.
    pub(crate) fn derive(
        &mut self,
        parent: Key<Entry>,
        object: Object,
        own: Own,
    ) -> Result<Key<Entry>, NoBirth> {
        let above = self.entries.get(parent).ok_or(NoBirth::Revoked)?;
        let authority = match (&object, &above.object) {
            // These check each peer or packet, by what their Net allows at that time.
            (Object::Name(_) | Object::TcpListener(_) | Object::UdpSocket(_), Object::Net(authority)) => {
                Some(authority.clone())
            }
            _ => None,
        };
        let beside = Beside {
            authority,
            lease: own.lease,
            obtained: None,
        };
        let conditions = self.not_by_program(parent);
        let parent = self.parent(parent, own.label, conditions)?;
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
        let conditions = self.not_by_program(parent);
        let parent = self.parent(parent, None, conditions)?;
        self.insert(parent, || object.for_another(), beside)
    }

    /// The conditions of what comes from a Net that a program implements, and is no Net itself: while somebody has it, the
    /// program is not told that nobody has the Net. `None` where they are the Net's.
    fn not_by_program(&self, parent: Key<Entry>) -> Option<Arc<Conditions>> {
        let origin = self.origin(self.entries.get(parent)?).ok()?;
        let is_by_program = origin.conditions.by.is_some();
        is_by_program.then(|| Conditions::none().clone())
    }

    /// One of the table's own as a parent. The child has the parent's label and conditions where it has none.
    #[inline(always)]
    fn parent(
        &mut self,
        key: Key<Entry>,
        label: Option<Arc<str>>,
        conditions: Option<Arc<Conditions>>,
    ) -> Result<Parent, NoBirth> {
        let above = self.entries.get(key).ok_or(NoBirth::Revoked)?;
        let origin = match (label, conditions) {
            (None, None) => self.origins.share(above.origin),
            (label, conditions) => {
                let its = self.origins.get(above.origin).ok_or(NoBirth::Revoked)?;
                let label = label.unwrap_or_else(|| its.label.clone());
                let conditions = conditions.unwrap_or_else(|| its.conditions.clone());
                match Arc::ptr_eq(&label, &its.label) && Arc::ptr_eq(&conditions, &its.conditions) {
                    true => self.origins.share(above.origin),
                    false => {
                        let tree = its.tree.clone();
                        self.origins.add(Origin {
                            tree,
                            label,
                            conditions,
                        })
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

    /// Adds a capability that comes from nothing and gives no authority: a poller, a guard.
    pub(crate) fn plant(&mut self, label: &str, object: Object) -> Result<Key<Entry>, NoBirth> {
        self.room_for(1)?;
        let label = label.into();
        let (tree, node) = Tree::plant(Birth::new(object.kind(), &label));
        let parent = Parent {
            origin: self.origins.add(Origin {
                tree: tree.clone(),
                label,
                conditions: Conditions::none().clone(),
            }),
            node,
            narrowings: None,
        };
        let key = self.insert(parent, || object, Beside::default())?;
        // Nobody else holds it.
        tree.close(node);
        Ok(key)
    }

    /// Adds a Net or an object that is the same as `parent`, and a Revoker for it.
    pub(crate) fn derive_revocable(
        &mut self,
        parent: Key<Entry>,
    ) -> Result<(Key<Entry>, Key<Entry>), NoBirth> {
        let above = self.entries.get(parent).ok_or(NoBirth::Revoked)?;
        let own = Own::default();
        let net = match above.object.clone() {
            Object::Net(authority) => {
                let same = Less {
                    authority,
                    conditions: None,
                };
                self.derive_net(parent, same, own)?
            }
            object => self.derive(parent, object, own)?,
        };
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
    pub(super) fn insert(
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
            authority,
            lease,
            obtained,
        }: Beside,
    ) -> Result<Key<Entry>, NoBirth> {
        self.room_for(1)?;
        let id = CapId::next();
        let (above, narrowings) = (parent.node, parent.narrowings);
        let origin = self.origins.get(parent.origin).ok_or(NoBirth::Revoked)?;
        let vacancy = self.entries.vacancy();
        let vacancy = vacancy.ok_or(NoBirth::Capabilities(self.limit))?;
        // The entry is there before the node, so that nothing can happen to the node of which the vat does not hear.
        let key = vacancy.fill(
            id,
            Entry::new(parent.origin, origin.conditions.flags(), obtained, object()),
        );
        let entry = self.entries.get_mut(key).ok_or(NoBirth::Revoked)?;
        let kind = entry.object.kind();
        let birth = Birth {
            id,
            kind,
            label: &origin.label,
            authority: match &entry.object {
                Object::Net(authority) => Some(authority),
                _ => authority.as_ref(),
            },
            conditions: &origin.conditions,
            lease,
            target: match &entry.object {
                Object::Revoker(target) => Some(target.key()),
                _ => None,
            },
            socket: match entry.obtained() {
                Some(obtained) => obtained.sever(&entry.object),
                None => what_ends_with(&entry.object, &origin.conditions),
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
            audit::derive(id, above.id(), kind, label, vat, entry.net().ok(), target);
        }
        Ok(key)
    }

    pub(super) fn no_birth(&self, barren: Barren) -> NoBirth {
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
                if let Some(socket) = what_ends_with(&entry.object, &origin.conditions) {
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
                Letter::Ended(lost, Ended::Revoked) => lost.for_each(|key| self.forget(key)),
                Letter::Ended(lost, Ended::Expired) => lost.for_each(|key| {
                    if let Some(entry) = self.entries.get_mut(key) {
                        entry.object = Object::Gone(entry.object.kind(), ErrorCode::Expired);
                    }
                }),
                Letter::Narrowed {
                    entry,
                    authority,
                    narrowings,
                } => {
                    if let Some(entry) = self.entries.get_mut(entry) {
                        if let Object::Net(before) = &mut entry.object {
                            *before = authority;
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

/// What must end with a capability.
#[inline(always)]
fn what_ends_with(object: &Object, conditions: &Conditions) -> Option<Arc<dyn Sever>> {
    match object {
        Object::Net(_) => conditions.by.clone().map(|line| line as Arc<dyn Sever>),
        other => other.sever(),
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
pub(super) mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use refcap_abi::Kind;
    use refcap_authority::{Request, Rules};

    use super::*;
    use crate::ambient::ambient_authority;
    use crate::capability::Capability;
    use crate::capability::lineage::Sever;
    use crate::capability::rights::Rights;
    use crate::object::{Implementer, Line};

    const BOUNDS: Bounds = Bounds {
        depth: 10,
        fan_out: 10,
    };

    pub(in crate::capability) fn table() -> CapTable {
        CapTable::new(Mailbox::new(), BOUNDS, 10)
    }

    pub(in crate::capability) fn net(table: &mut CapTable, text: &str) -> (Capability, Key<Entry>) {
        let net = Capability::net("net", text.parse().unwrap(), ambient_authority());
        let key = table.accept("net", &net).unwrap();
        (net, key)
    }

    /// What a Net allows, for one more.
    fn unchanged(table: &CapTable, key: Key<Entry>) -> Less {
        Less {
            authority: table.get(key).unwrap().net().unwrap().clone(),
            conditions: None,
        }
    }

    #[test]
    fn what_comes_from_a_net_has_its_conditions_unless_it_is_given_others() {
        let mut table = table();
        let (_net, key) = net(&mut table, "connect tcp 10.0.0.1:1-8");
        let only = |table: &mut CapTable, key, rules: &str| {
            let rules: Rules = rules.parse().unwrap();
            let less = table.rights(key).unwrap().only(&Request::from(rules)).unwrap();
            table.derive_net(key, less, Own::default()).unwrap()
        };
        let conditions = |table: &CapTable, key| Arc::as_ptr(table.rights(key).unwrap().conditions);
        let same = only(&mut table, key, "connect tcp *:3");
        assert_eq!(conditions(&table, same), conditions(&table, key));
        let answers = only(&mut table, key, "connect tcp *:3; names to 10.0.0.0/8");
        assert_ne!(conditions(&table, answers), conditions(&table, key));
        assert_eq!(table.origins.len(), 2);
        let limited = {
            let terms = "limit sockets 3; no derive".parse().unwrap();
            let less = table.rights(key).unwrap().limit(&terms).unwrap();
            table.derive_net(key, less, Own::default()).unwrap()
        };
        assert!(!table.rights(limited).unwrap().conditions.derivable);
        assert!(table.account(limited).unwrap().is_some());
        assert!(table.rights(key).unwrap().conditions.derivable);
        assert!(table.account(key).unwrap().is_none());
        for key in [limited, answers, same] {
            table.close(key);
        }
        assert_eq!(table.origins.len(), 1);
    }

    #[test]
    fn who_implements_a_net_hears_that_nobody_has_it_though_what_came_from_it_is_held() {
        let mut table = table();
        let line = Line::to(Implementer::new(&table.mailbox, 0, 7));
        let rights = Rights::implemented(line.clone(), &"connect tcp *:1".parse().unwrap()).unwrap();
        let object = table.plant("object", Object::Implemented(line)).unwrap();
        let net = table.derive_net(object, rights.into(), Own::default()).unwrap();
        // Who gets it can lose it alone.
        let other = table.derive_net(net, unchanged(&table, net), Own::default());
        let by = |table: &CapTable, key| table.rights(key).unwrap().conditions.by.clone().unwrap();
        assert!(!Arc::ptr_eq(&by(&table, net), &by(&table, other.unwrap())));
        let poller = table.derive(net, Object::Poller(Arc::default()), Own::default());
        for key in [object, other.unwrap(), net] {
            assert_eq!(table.mailbox.calls().take_forgotten(0), None);
            assert!(table.close(key));
        }
        assert_eq!(table.mailbox.calls().take_forgotten(0), Some(7));
        assert!(table.get(poller.unwrap()).is_ok());
    }

    #[test]
    fn origins_are_there_for_as_long_as_capabilities_have_them() {
        let mut table = table();
        let (net, key) = net(&mut table, "connect tcp 10.0.0.1:1-8");
        let derive = |table: &mut CapTable, label: Option<&str>| {
            let own = Own {
                label: label.map(Into::into),
                ..Own::default()
            };
            table.derive_net(key, unchanged(table, key), own)
        };
        let same = derive(&mut table, None).unwrap();
        let label = table.label(key).cloned();
        let own = Own {
            label,
            ..Own::default()
        };
        let less = unchanged(&table, key);
        let also = table.derive_net(key, less, own).unwrap();
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
