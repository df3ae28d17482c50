//! Who was derived from whom: one tree for each capability that was minted, over all vats.
//!
//! The tree decides what is alive. It is locked for as long as it takes to change it: on deriving,
//! closing, revoking and narrowing, never on an ordinary use. What others must hear of a change they are
//! told before it is unlocked: locks are taken in the order lineage, then mailbox or socket. Every walk is a loop over links, so neither
//! depth nor width costs stack (the mistake of attack class 28).

use std::collections::{HashMap, hash_map};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use refcap_abi::Kind;
use refcap_authority::{Authority, TooComplex};

use super::entry::Entry;
use super::fallen::Fallen;
use super::handle::NotEnclosed;
use super::id::{CapId, Key};
use super::lease::Lease;
use super::mailbox::{Letter, Mailbox, lock};
use super::membrane::Membranes;
pub(crate) use super::nodes::Node;
use super::nodes::{Nodes, Place};
use super::rights::{Conditions, Rights, RightsRef};
use crate::audit;
use crate::budget::Usage;

/// Something outside of the lineage that must end with its capability: a socket, a look-up of a name.
pub(crate) trait Sever: fmt::Debug + Send + Sync {
    /// Ends it. When this returns, no operation through it starts any more, and what is blocked in one
    /// has been woken.
    fn sever(&self);

    /// From now on it may do only what the authority allows: its capability's own where it has one, else
    /// the bound that an ancestor was narrowed to. Returns whether it may exist at all; if not, it is
    /// severed next.
    fn restrict(&self, authority: &Authority) -> bool;
}

/// What a new capability is.
#[derive(Debug)]
pub(crate) struct Birth<'a> {
    pub(crate) id: CapId,
    pub(crate) kind: Kind,
    pub(crate) label: &'a Arc<str>,
    /// What it allows, where that is more than the one object behind it.
    pub(crate) authority: Option<&'a Authority>,
    /// The terms of a Net, or of the one that it was made with.
    pub(crate) conditions: &'a Arc<Conditions>,
    /// When it ends by itself.
    pub(crate) lease: Option<Instant>,
    /// The capability that a Revoker ends.
    pub(crate) target: Option<Key<Node>>,
    /// The socket behind it.
    pub(crate) socket: Option<Arc<dyn Sever>>,
}

impl<'a> Birth<'a> {
    /// A capability with nothing yet but its kind.
    pub(crate) fn new(kind: Kind, label: &'a Arc<str>) -> Birth<'a> {
        Birth {
            id: CapId::next(),
            kind,
            label,
            authority: None,
            conditions: Conditions::none(),
            lease: None,
            target: None,
            socket: None,
        }
    }
}

/// Who holds a new capability.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Holder<'a> {
    /// The embedder.
    Host,
    /// A vat, which has an entry for it in its table already: whatever happens to the node as soon as it is
    /// there, a letter about it finds the entry.
    Vat(&'a Arc<Mailbox>, Key<Entry>),
}

/// How far a lineage may grow at one place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) depth: u32,
    pub(crate) fan_out: u32,
}

/// Why a capability could not be derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Barren {
    /// The parent is not alive.
    Revoked,
    /// The parent allows less than the caller knew; look again.
    Narrowed,
    /// It would be too many derivations away from the grant.
    TooDeep,
    /// The parent has too many children.
    TooWide,
}

/// What an embedder sees of one capability.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CapabilityInfo {
    /// The capability's number.
    pub id: CapId,
    /// What it was derived from; `None` for the first of a tree.
    pub parent: Option<CapId>,
    /// What it is a capability to.
    pub kind: Kind,
    /// The name under which it, or what it comes from, was granted.
    pub label: Arc<str>,
    /// What it allows, for a Net and what has rules of its own: listeners, datagram sockets, names.
    pub authority: Option<Authority>,
    /// How much is used of the budget that it draws on, if there is one.
    pub usage: Option<Usage>,
    /// How the guards before it are called, the one nearest to the grant first.
    pub guards: Vec<String>,
    /// When its lease ends, if it has one of its own.
    pub expires: Option<Instant>,
    /// The vat that holds it or held it; `None` when the embedder does.
    pub vat: Option<u64>,
    /// Whether somebody holds it. One that nobody holds is kept while others descend from it.
    pub held: bool,
}

/// A tree of capabilities.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    nodes: Mutex<Nodes>,
}

impl Tree {
    /// A new tree, and its first capability, held by the embedder.
    pub(crate) fn plant(birth: Birth<'_>) -> (Arc<Tree>, Key<Node>) {
        let tree = Arc::new(Tree::default());
        let (id, lease) = (birth.id, birth.lease);
        let mut nodes = lock(&tree.nodes);
        // The first of all finds a place.
        let place = nodes.insert(None, 0, birth, Holder::Host).unwrap_or_default();
        let key = Key::new(place, id);
        tree.begin_lease(&mut nodes, place, key, lease);
        drop(nodes);
        (tree, key)
    }

    fn begin_lease(self: &Arc<Tree>, nodes: &mut Nodes, place: Place, key: Key<Node>, ends: Option<Instant>) {
        if let Some(ends) = ends
            && let Some(more) = nodes.more_mut(place)
        {
            more.lease = Some(Lease::begin(ends, &Arc::downgrade(self), key));
        }
    }

    /// Adds a capability below `parent`, which must be alive and, where `narrowings` says so, must not
    /// have been narrowed since the caller looked.
    pub(crate) fn derive(
        self: &Arc<Tree>,
        parent: Key<Node>,
        narrowings: Option<u32>,
        bounds: Bounds,
        birth: Birth<'_>,
        holder: Holder<'_>,
    ) -> Result<Key<Node>, Barren> {
        let mut nodes = lock(&self.nodes);
        let parent = nodes.find(parent).ok_or(Barren::Revoked)?;
        let above = nodes.get(parent).ok_or(Barren::Revoked)?;
        if narrowings.is_some_and(|seen| seen != above.narrowings) {
            return Err(Barren::Narrowed);
        }
        if above.children >= bounds.fan_out {
            return Err(Barren::TooWide);
        }
        if above.depth >= bounds.depth {
            return Err(Barren::TooDeep);
        }
        let depth = above.depth + 1;
        if let Some(target) = birth.target {
            let target = nodes.find(target).and_then(|target| nodes.get_mut(target));
            target.ok_or(Barren::Revoked)?.revokers += 1;
        }
        let (id, target, lease) = (birth.id, birth.target, birth.lease);
        let Some(place) = nodes.insert(Some(parent), depth, birth, holder) else {
            if let Some(target) = target {
                nodes.release(target);
            }
            return Err(Barren::TooWide);
        };
        let key = Key::new(place, id);
        self.begin_lease(&mut nodes, place, key, lease);
        Ok(key)
    }

    /// Its holder gives a capability up. What was derived from it lives on, and still ends when any of
    /// its ancestors is revoked.
    pub(crate) fn close(&self, key: Key<Node>) {
        let mut nodes = lock(&self.nodes);
        let Some(place) = nodes.find(key) else { return };
        let target = nodes.let_go(place);
        nodes.prune(place);
        if let Some(target) = target {
            nodes.release(target);
        }
    }

    /// The vat that holds a capability lets it go, and the embedder's side holds it for now: it is on its way to
    /// another vat.
    pub(crate) fn release_to_host(&self, key: Key<Node>) {
        let mut nodes = lock(&self.nodes);
        if let Some(place) = nodes.find(key) {
            nodes.give_to_host(place);
        }
    }

    /// Ends a capability and everything derived from it, in every vat, and returns how many of them
    /// somebody held. When this returns, no operation through any of them starts.
    pub(crate) fn revoke(&self, key: Key<Node>) -> usize {
        let mut nodes = lock(&self.nodes);
        let Some(place) = nodes.find(key) else { return 0 };
        let fallen = nodes.fell(place);
        // Still locked: whoever revokes the same a moment later must not return before it is done.
        announce(fallen, Ended::Revoked)
    }

    /// Ends a capability whose lease has ended, as [`revoke`](Tree::revoke) does.
    pub(crate) fn expire(&self, key: Key<Node>) {
        let mut nodes = lock(&self.nodes);
        let Some(place) = nodes.find(key) else { return };
        let label = nodes.label(place);
        let ended = announce(nodes.fell(place), Ended::Expired);
        drop(nodes);
        audit::expire(key.id(), &label.unwrap_or_default(), ended);
    }

    /// Hands a capability that may go to one vat only to that vat. Returns whether it may have it.
    pub(crate) fn claim(&self, key: Key<Node>, vat: u64) -> bool {
        let mut nodes = lock(&self.nodes);
        match nodes.find(key).and_then(|place| nodes.more_mut(place)) {
            Some(more) => *more.recipient.get_or_insert(vat) == vat,
            // It is revoked, which the caller finds out next.
            None => true,
        }
    }

    /// Gives a capability a seat in each of the membranes: it ends, with everything derived from it, when one of them
    /// is cut. Fails when one was cut before, or the capability is not alive.
    pub(crate) fn enclose(
        self: &Arc<Tree>,
        key: Key<Node>,
        membranes: &Membranes,
    ) -> Result<(), NotEnclosed> {
        let mut nodes = lock(&self.nodes);
        let place = nodes.find(key).ok_or(NotEnclosed::Revoked)?;
        let rights = nodes.get(place).and_then(|node| nodes.rights(node));
        if let Some(rights) = rights
            && let Some(behind) = rights.conditions.behind(membranes)?
        {
            nodes.replace_conditions(place, behind);
        }
        let more = nodes.more_mut(place).ok_or(NotEnclosed::Revoked)?;
        for membrane in membranes.iter() {
            // What crosses the same one again is inside already.
            if !more.seats.iter().any(|seat| seat.is_in(membrane)) {
                more.seats
                    .push(membrane.enter(self, key).ok_or(NotEnclosed::Revoked)?);
            }
        }
        Ok(())
    }

    /// Intersects the authority of a capability and of everything derived from it with `bound`, in place;
    /// sockets that could not be made any more are ended. Returns how many allow less than before.
    pub(crate) fn narrow(&self, key: Key<Node>, bound: &Authority) -> Result<Option<usize>, TooComplex> {
        let mut nodes = lock(&self.nodes);
        let Some(top) = nodes.find(key) else {
            return Ok(None);
        };
        // What many have in common is narrowed once, and is common to them afterwards.
        let mut narrowed: HashMap<*const (), Option<Authority>> = HashMap::new();
        let mut changes = Vec::new();
        let mut sockets = Vec::new();
        for place in nodes.subtree(top) {
            let Some(node) = nodes.get(place) else { continue };
            if let Some(RightsRef { authority, .. }) = nodes.rights(node) {
                let less = match narrowed.entry(authority.as_ptr()) {
                    hash_map::Entry::Occupied(less) => less.into_mut(),
                    hash_map::Entry::Vacant(vacant) => vacant.insert(match authority.is_subset(bound) {
                        true => None,
                        false => Some(authority.intersect(bound)?),
                    }),
                };
                changes.extend(less.as_ref().map(|less| (place, less.clone())));
            } else if nodes.more(node).is_some_and(|more| more.socket.is_some()) {
                sockets.push(node.key(place));
            }
        }
        // From here on nothing fails: either all of it happens or none.
        nodes.replace_authorities(&changes);
        let changed = changes.len();
        let mut ended = Vec::new();
        for (place, authority) in changes {
            let Some(node) = nodes.get_mut(place) else {
                continue;
            };
            node.narrowings = node.narrowings.wrapping_add(1);
            let node = *node;
            let socket = nodes.more(&node).and_then(|more| more.socket.as_ref());
            if socket.is_some_and(|socket| !socket.restrict(&authority)) {
                ended.push(node.key(place));
            }
            if let (Some(owner), Some(entry)) = (nodes.owner(&node), node.entry()) {
                // Still locked, so that of two changes the vat reads the later one later.
                owner.post(Letter::Narrowed {
                    entry,
                    authority,
                    narrowings: node.narrowings,
                });
            }
        }
        for key in sockets {
            let node = nodes.find(key).and_then(|place| nodes.get(place));
            let more = node.and_then(|node| nodes.more(node));
            let socket = more.and_then(|more| more.socket.as_ref());
            if socket.is_some_and(|socket| !socket.restrict(bound)) {
                ended.push(key);
            }
        }
        let mut fallen = Vec::new();
        for key in ended {
            // It may have fallen with one before it.
            if let Some(place) = nodes.find(key) {
                let label = nodes.label(place);
                let count = announce(nodes.fell(place), Ended::Revoked);
                fallen.extend(label.map(|label| (key.id(), label, count)));
            }
        }
        drop(nodes);
        for (id, label, count) in fallen {
            audit::revoke(id, &label, None, count);
        }
        Ok(Some(changed))
    }

    pub(crate) fn is_alive(&self, key: Key<Node>) -> bool {
        lock(&self.nodes).find(key).is_some()
    }

    pub(crate) fn info(&self, key: Key<Node>) -> Option<CapabilityInfo> {
        let nodes = lock(&self.nodes);
        describe(&nodes, nodes.find(key)?)
    }

    /// What a capability allows, where that is more than the one object behind it, and how often it was narrowed so far.
    pub(crate) fn rights(&self, key: Key<Node>) -> Option<(Option<Rights>, u32)> {
        let nodes = lock(&self.nodes);
        let node = nodes.get(nodes.find(key)?)?;
        Some((nodes.rights(node).map(RightsRef::to_owned), node.narrowings))
    }

    /// The capability and all that descend from it, parents before children.
    pub(crate) fn infos(&self, key: Key<Node>) -> Vec<CapabilityInfo> {
        let nodes = lock(&self.nodes);
        let places = nodes.find(key).map(|top| nodes.subtree(top));
        places
            .into_iter()
            .flatten()
            .filter_map(|place| describe(&nodes, place))
            .collect()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        lock(&self.nodes).len()
    }
}

/// Why a capability is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Revoked,
    Expired,
}

/// Tells vats and sockets what has fallen. Returns how many of it somebody held.
fn announce(fallen: Fallen, how: Ended) -> usize {
    // Letters first: a vat that is woken by its socket's end must find them.
    for (mailbox, lost) in fallen.letters {
        mailbox.post(Letter::Ended(lost, how));
    }
    for socket in &fallen.sockets {
        socket.sever();
    }
    fallen.held
}

fn describe(nodes: &Nodes, place: Place) -> Option<CapabilityInfo> {
    let node = nodes.get(place)?;
    let parent = nodes.parent(place).and_then(|parent| nodes.get(parent));
    let rights = nodes.rights(node);
    Some(CapabilityInfo {
        id: node.id(),
        parent: parent.map(Node::id),
        kind: node.kind,
        label: nodes.label(place).unwrap_or_default(),
        authority: rights.map(|rights| rights.authority.clone()),
        usage: rights
            .and_then(|rights| rights.conditions.account.as_ref())
            .map(|account| account.usage()),
        guards: rights
            .map(|rights| rights.conditions.guards.names())
            .unwrap_or_default(),
        expires: nodes
            .more(node)
            .and_then(|more| more.lease.as_ref())
            .map(Lease::ends),
        vat: nodes.owner(node).map(|owner| owner.vat()),
        held: node.is_held(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    const WIDE: Bounds = Bounds {
        depth: u32::MAX,
        fan_out: u32::MAX,
    };

    fn birth() -> Birth<'static> {
        static EVERYTHING: LazyLock<Authority> = LazyLock::new(Authority::everything);
        static LABEL: LazyLock<Arc<str>> = LazyLock::new(|| "test".into());
        Birth {
            authority: Some(&EVERYTHING),
            ..Birth::new(Kind::Net, &LABEL)
        }
    }

    fn derive(tree: &Arc<Tree>, parent: Key<Node>) -> Key<Node> {
        tree.derive(parent, None, WIDE, birth(), Holder::Host).unwrap()
    }

    #[test]
    fn revoking_ends_the_subtree_and_nothing_else() {
        let (tree, root) = Tree::plant(birth());
        let (a, b) = (derive(&tree, root), derive(&tree, root));
        let (a1, a2) = (derive(&tree, a), derive(&tree, a));
        let a11 = derive(&tree, a1);
        assert_eq!(tree.revoke(a), 4);
        for gone in [a, a1, a2, a11] {
            assert!(!tree.is_alive(gone));
        }
        assert!(tree.is_alive(root) && tree.is_alive(b));
        assert_eq!(tree.revoke(a), 0);
        assert_eq!(
            tree.derive(a, None, WIDE, birth(), Holder::Host),
            Err(Barren::Revoked)
        );
        assert_eq!(tree.len(), 2);
    }

    #[test]
    fn closing_leaves_descendants_revocable() {
        let (tree, root) = Tree::plant(birth());
        let a = derive(&tree, root);
        let (a1, a2) = (derive(&tree, a), derive(&tree, a));
        tree.close(a);
        assert!(tree.is_alive(a1) && tree.is_alive(a2));
        assert_eq!(tree.revoke(root), 3);
        assert_eq!(tree.len(), 0);
    }

    #[test]
    fn deriving_and_closing_the_parent_for_ever_keeps_one_node() {
        let (tree, root) = Tree::plant(birth());
        let mut last = derive(&tree, root);
        for _ in 0..1_000 {
            let next = derive(&tree, last);
            tree.close(last);
            last = next;
        }
        assert_eq!(tree.len(), 2);
        let nodes = lock(&tree.nodes);
        assert_eq!(nodes.get(nodes.find(last).unwrap()).unwrap().depth, 1);
        drop(nodes);
        assert_eq!(tree.revoke(root), 2);
    }

    #[test]
    fn a_closed_capability_is_kept_while_a_revoker_aims_at_it() {
        let (tree, root) = Tree::plant(birth());
        let net = derive(&tree, root);
        let mut revoker = birth();
        revoker.target = Some(net);
        let revoker = tree.derive(root, None, WIDE, revoker, Holder::Host).unwrap();
        let below = derive(&tree, net);
        tree.close(net);
        assert!(tree.is_alive(net));
        assert_eq!(tree.revoke(net), 1);
        assert!(!tree.is_alive(below));
        tree.close(revoker);
        assert_eq!(tree.len(), 1);
    }

    #[test]
    fn bounds_are_errors() {
        let (tree, root) = Tree::plant(birth());
        let bounds = Bounds { depth: 2, fan_out: 2 };
        let a = tree.derive(root, None, bounds, birth(), Holder::Host).unwrap();
        let b = tree.derive(a, None, bounds, birth(), Holder::Host).unwrap();
        assert_eq!(
            tree.derive(b, None, bounds, birth(), Holder::Host),
            Err(Barren::TooDeep)
        );
        tree.derive(a, None, bounds, birth(), Holder::Host).unwrap();
        assert_eq!(
            tree.derive(a, None, bounds, birth(), Holder::Host),
            Err(Barren::TooWide)
        );
    }

    #[test]
    fn narrowing_reaches_all_descendants_and_is_seen_by_who_looked_before() {
        let (tree, root) = Tree::plant(birth());
        let a = derive(&tree, root);
        let bound: Authority = "connect tcp 10.0.0.0/8:443".parse().unwrap();
        assert_eq!(tree.narrow(root, &bound).unwrap(), Some(2));
        assert_eq!(tree.info(a).unwrap().authority, Some(bound.clone()));
        assert_eq!(tree.narrow(root, &bound).unwrap(), Some(0));
        assert_eq!(
            tree.derive(a, Some(0), WIDE, birth(), Holder::Host),
            Err(Barren::Narrowed)
        );
        tree.revoke(root);
        assert_eq!(tree.narrow(root, &bound).unwrap(), None);
    }

    // The recursion of other systems ends at a few thousand levels; these run on a small stack.
    #[test]
    fn class_28_a_million_deep_or_wide_needs_no_stack() {
        let run = || {
            for deep in [true, false] {
                let (tree, root) = Tree::plant(birth());
                let mut parent = root;
                for _ in 0..1_000_000 {
                    let child = derive(&tree, parent);
                    if deep {
                        parent = child;
                    }
                }
                assert_eq!(tree.infos(root).len(), 1_000_001);
                assert_eq!(tree.revoke(root), 1_000_001);
                assert_eq!(tree.len(), 0);
            }
        };
        std::thread::Builder::new()
            .stack_size(128 << 10)
            .spawn(run)
            .unwrap()
            .join()
            .unwrap();
    }
}
