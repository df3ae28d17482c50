//! Who was derived from whom: one tree for each capability that was minted, over all vats.
//!
//! The tree decides what is alive. It is locked for as long as it takes to change it: on deriving,
//! closing, revoking and narrowing, never on an ordinary use. What others must hear of a change they are
//! told before it is unlocked: locks are taken in the order lineage, then mailbox or socket. Every walk is a loop over links, so neither
//! depth nor width costs stack (the mistake of attack class 28).

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use refcap_abi::Kind;
use refcap_authority::{Authority, TooComplex};

use super::id::{CapId, Key, Register};
use super::lease::Lease;
use super::mailbox::{Letter, Mailbox, lock};
use super::rights::Rights;
use super::table::Entry;
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
pub(crate) struct Birth {
    pub(crate) id: CapId,
    pub(crate) kind: Kind,
    pub(crate) label: Arc<str>,
    /// What it allows, where that is more than the one object behind it.
    pub(crate) rights: Option<Rights>,
    /// When it ends by itself.
    pub(crate) lease: Option<Instant>,
    /// The capability that a Revoker ends.
    pub(crate) target: Option<Key<Node>>,
    /// The socket behind it.
    pub(crate) socket: Option<Arc<dyn Sever>>,
}

impl Birth {
    /// A capability with nothing yet but its kind.
    pub(crate) fn new(kind: Kind, label: Arc<str>) -> Birth {
        Birth {
            id: CapId::next(),
            kind,
            label,
            rights: None,
            lease: None,
            target: None,
            socket: None,
        }
    }
}

/// Who holds a new capability.
pub(crate) enum Holder<'a> {
    /// The embedder.
    Host,
    /// A vat; the closure puts the capability into its table and runs with the lineage locked, so that
    /// nothing can happen to the node before the vat's entry exists.
    Vat(&'a Arc<Mailbox>, &'a mut dyn FnMut(Key<Node>) -> Key<Entry>),
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

/// One capability's place in the tree.
#[derive(Debug)]
pub(crate) struct Node {
    parent: Option<Key<Node>>,
    first_child: Option<Key<Node>>,
    previous: Option<Key<Node>>,
    next: Option<Key<Node>>,
    children: u32,
    depth: u32,
    kind: Kind,
    label: Arc<str>,
    rights: Option<Rights>,
    /// How often the authority was narrowed in place.
    narrowings: u32,
    lease: Option<Lease>,
    /// The vat that it was handed to, if it may be handed to one only.
    recipient: Option<u64>,
    /// The vat that made it, which pays for it for as long as it is kept.
    owner: Option<Arc<Mailbox>>,
    /// The vat's entry, while the vat holds it.
    entry: Option<Key<Entry>>,
    host_holds: bool,
    target: Option<Key<Node>>,
    /// Revokers that aim at this node.
    revokers: u32,
    socket: Option<Arc<dyn Sever>>,
}

impl Node {
    fn is_held(&self) -> bool {
        self.entry.is_some() || self.host_holds
    }
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
    nodes: Mutex<Register<Node>>,
}

impl Tree {
    /// A new tree, and its first capability, held by the embedder.
    pub(crate) fn plant(birth: Birth) -> (Arc<Tree>, Key<Node>) {
        let tree = Arc::new(Tree::default());
        let (id, lease) = (birth.id, birth.lease);
        let mut node = node(birth, None, 0);
        node.host_holds = true;
        let mut nodes = lock(&tree.nodes);
        let key = nodes.insert(id, node);
        tree.begin_lease(&mut nodes, key, lease);
        drop(nodes);
        (tree, key)
    }

    fn begin_lease(self: &Arc<Tree>, nodes: &mut Register<Node>, key: Key<Node>, ends: Option<Instant>) {
        if let Some(ends) = ends
            && let Some(node) = nodes.get_mut(key)
        {
            node.lease = Some(Lease::begin(ends, &Arc::downgrade(self), key));
        }
    }

    /// Adds a capability below `parent`, which must be alive and, where `narrowings` says so, must not
    /// have been narrowed since the caller looked.
    pub(crate) fn derive(
        self: &Arc<Tree>,
        parent: Key<Node>,
        narrowings: Option<u32>,
        bounds: Bounds,
        birth: Birth,
        holder: Holder<'_>,
    ) -> Result<Key<Node>, Barren> {
        let mut nodes = lock(&self.nodes);
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
            nodes.get_mut(target).ok_or(Barren::Revoked)?.revokers += 1;
        }
        let (id, lease) = (birth.id, birth.lease);
        let mut node = node(birth, Some(parent), depth);
        if let Holder::Vat(mailbox, _) = &holder {
            mailbox.count_capability();
            node.owner = Some(Arc::clone(mailbox));
        } else {
            node.host_holds = true;
        }
        let key = nodes.insert(id, node);
        link(&mut nodes, parent, key);
        self.begin_lease(&mut nodes, key, lease);
        if let (Holder::Vat(_, place), Some(node)) = (holder, nodes.get_mut(key)) {
            node.entry = Some(place(key));
        }
        Ok(key)
    }

    /// Its holder gives a capability up. What was derived from it lives on, and still ends when any of
    /// its ancestors is revoked.
    pub(crate) fn close(&self, key: Key<Node>) {
        let mut nodes = lock(&self.nodes);
        let Some(node) = nodes.get_mut(key) else { return };
        node.entry = None;
        node.host_holds = false;
        node.socket = None;
        let target = node.target.take();
        prune(&mut nodes, key);
        if let Some(target) = target {
            release(&mut nodes, target);
        }
    }

    /// The vat that holds a capability lets it go, and the embedder's side holds it for now: it is on its way to
    /// another vat.
    #[cfg_attr(
        not(test),
        allow(dead_code, reason = "handing over is built before what hands over")
    )]
    pub(crate) fn release_to_host(&self, key: Key<Node>) {
        let mut nodes = lock(&self.nodes);
        let Some(node) = nodes.get_mut(key) else { return };
        node.entry = None;
        node.host_holds = true;
        if let Some(owner) = node.owner.take() {
            owner.discount_capability();
        }
    }

    /// Ends a capability and everything derived from it, in every vat, and returns how many of them
    /// somebody held. When this returns, no operation through any of them starts.
    pub(crate) fn revoke(&self, key: Key<Node>) -> usize {
        let mut nodes = lock(&self.nodes);
        let fallen = fell(&mut nodes, key);
        // Still locked: whoever revokes the same a moment later must not return before it is done.
        fallen.announce(Ended::Revoked)
    }

    /// Ends a capability whose lease has ended, as [`revoke`](Tree::revoke) does.
    pub(crate) fn expire(&self, key: Key<Node>) {
        let mut nodes = lock(&self.nodes);
        let Some(label) = nodes.get(key).map(|node| node.label.clone()) else {
            return;
        };
        let ended = fell(&mut nodes, key).announce(Ended::Expired);
        drop(nodes);
        audit::expire(key.id(), &label, ended);
    }

    /// Hands a capability that may go to one vat only to that vat. Returns whether it may have it.
    pub(crate) fn claim(&self, key: Key<Node>, vat: u64) -> bool {
        let mut nodes = lock(&self.nodes);
        match nodes.get_mut(key) {
            Some(node) => *node.recipient.get_or_insert(vat) == vat,
            // It is revoked, which the caller finds out next.
            None => true,
        }
    }

    /// Intersects the authority of a capability and of everything derived from it with `bound`, in place;
    /// sockets that could not be made any more are ended. Returns how many allow less than before.
    pub(crate) fn narrow(&self, key: Key<Node>, bound: &Authority) -> Result<Option<usize>, TooComplex> {
        let mut nodes = lock(&self.nodes);
        if nodes.get(key).is_none() {
            return Ok(None);
        }
        let mut changes = Vec::new();
        let mut sockets = Vec::new();
        for node_key in subtree(&nodes, key) {
            let Some(node) = nodes.get(node_key) else { continue };
            if let Some(rights) = &node.rights {
                if !rights.authority.is_subset(bound) {
                    changes.push((node_key, rights.authority.intersect(bound)?));
                }
            } else if node.socket.is_some() {
                sockets.push(node_key);
            }
        }
        // From here on nothing fails: either all of it happens or none.
        let changed = changes.len();
        let mut ended = Vec::new();
        for (node_key, authority) in changes {
            let Some(node) = nodes.get_mut(node_key) else {
                continue;
            };
            node.narrowings = node.narrowings.wrapping_add(1);
            if let Some(rights) = &mut node.rights {
                rights.authority = authority.clone();
            }
            if let Some(socket) = &node.socket
                && !socket.restrict(&authority)
            {
                ended.push(node_key);
            }
            if let (Some(owner), Some(entry)) = (&node.owner, node.entry) {
                let narrowings = node.narrowings;
                // Still locked, so that of two changes the vat reads the later one later.
                owner.post([Letter::Narrowed {
                    entry,
                    authority,
                    narrowings,
                }]);
            }
        }
        for node_key in sockets {
            let socket = nodes.get(node_key).and_then(|node| node.socket.as_ref());
            if socket.is_some_and(|socket| !socket.restrict(bound)) {
                ended.push(node_key);
            }
        }
        let mut fallen = Vec::new();
        for node_key in ended {
            let label = nodes.get(node_key).map(|node| node.label.clone());
            let count = fell(&mut nodes, node_key).announce(Ended::Revoked);
            fallen.extend(label.map(|label| (node_key.id(), label, count)));
        }
        drop(nodes);
        for (id, label, count) in fallen {
            audit::revoke(id, &label, None, count);
        }
        Ok(Some(changed))
    }

    pub(crate) fn is_alive(&self, key: Key<Node>) -> bool {
        lock(&self.nodes).get(key).is_some()
    }

    pub(crate) fn info(&self, key: Key<Node>) -> Option<CapabilityInfo> {
        let nodes = lock(&self.nodes);
        nodes.get(key).map(|node| describe(key, node))
    }

    /// What a capability allows, and how often it was narrowed so far.
    pub(crate) fn rights(&self, key: Key<Node>) -> Option<(Option<Rights>, u32)> {
        let nodes = lock(&self.nodes);
        nodes.get(key).map(|node| (node.rights.clone(), node.narrowings))
    }

    /// The capability and all that descend from it, parents before children.
    pub(crate) fn infos(&self, key: Key<Node>) -> Vec<CapabilityInfo> {
        let nodes = lock(&self.nodes);
        subtree(&nodes, key)
            .into_iter()
            .filter_map(|key| nodes.get(key).map(|node| describe(key, node)))
            .collect()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        lock(&self.nodes).len()
    }
}

/// What a revocation has to tell others.
#[derive(Debug, Default)]
struct Fallen {
    held: usize,
    letters: Vec<(Arc<Mailbox>, Key<Entry>)>,
    sockets: Vec<Arc<dyn Sever>>,
}

/// Why a capability is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Revoked,
    Expired,
}

impl Fallen {
    fn announce(self, how: Ended) -> usize {
        // Letters first: a vat that is woken by its socket's end must find them.
        for same_vat in self.letters.chunk_by(|(a, _), (b, _)| Arc::ptr_eq(a, b)) {
            if let Some((mailbox, _)) = same_vat.first() {
                mailbox.post(same_vat.iter().map(|&(_, entry)| Letter::Ended(entry, how)));
            }
        }
        for socket in &self.sockets {
            socket.sever();
        }
        self.held
    }
}

fn node(birth: Birth, parent: Option<Key<Node>>, depth: u32) -> Node {
    Node {
        parent,
        first_child: None,
        previous: None,
        next: None,
        children: 0,
        depth,
        kind: birth.kind,
        label: birth.label,
        rights: birth.rights,
        narrowings: 0,
        lease: None,
        recipient: None,
        owner: None,
        entry: None,
        host_holds: false,
        target: birth.target,
        revokers: 0,
        socket: birth.socket,
    }
}

fn describe(key: Key<Node>, node: &Node) -> CapabilityInfo {
    CapabilityInfo {
        id: key.id(),
        parent: node.parent.map(Key::id),
        kind: node.kind,
        label: node.label.clone(),
        authority: node.rights.as_ref().map(|rights| rights.authority.clone()),
        usage: node
            .rights
            .as_ref()
            .and_then(|rights| rights.account.as_ref())
            .map(|account| account.usage()),
        expires: node.lease.as_ref().map(Lease::ends),
        vat: node.owner.as_ref().map(|owner| owner.vat()),
        held: node.is_held(),
    }
}

/// The keys of a subtree, parents before children.
fn subtree(nodes: &Register<Node>, top: Key<Node>) -> Vec<Key<Node>> {
    let mut keys = Vec::new();
    let mut open = vec![top];
    while let Some(key) = open.pop() {
        let Some(node) = nodes.get(key) else { continue };
        keys.push(key);
        let mut child = node.first_child;
        while let Some(key) = child {
            open.push(key);
            child = nodes.get(key).and_then(|node| node.next);
        }
    }
    keys
}

/// Takes a whole subtree out of the lineage.
fn fell(nodes: &mut Register<Node>, top: Key<Node>) -> Fallen {
    let mut fallen = Fallen::default();
    let Some(parent) = nodes.get(top).map(|node| node.parent) else {
        return fallen;
    };
    unlink(nodes, top);
    let mut targets = Vec::new();
    // Taken out on the way, so that each node is looked at once: most of the time goes into fetching it.
    let mut open = vec![top];
    while let Some(key) = open.pop() {
        let Some(node) = nodes.remove(key) else { continue };
        if key != top {
            open.extend(node.next);
        }
        open.extend(node.first_child);
        fallen.held += usize::from(node.is_held());
        if let Some(owner) = node.owner {
            owner.discount_capability();
            if let Some(entry) = node.entry {
                fallen.letters.push((owner, entry));
            }
        }
        fallen.sockets.extend(node.socket);
        targets.extend(node.target);
    }
    for target in targets {
        release(nodes, target);
    }
    if let Some(parent) = parent {
        prune(nodes, parent);
    }
    fallen
}

/// A revoker that aimed at `target` is gone.
fn release(nodes: &mut Register<Node>, target: Key<Node>) {
    if let Some(node) = nodes.get_mut(target) {
        node.revokers -= 1;
        prune(nodes, target);
    }
}

/// Removes a node that nobody holds and nobody can revoke, and its ancestors that are kept only for its
/// sake: when it has no children, or when its only child can take its place. So a guest that derives and
/// closes the parent for ever has one node, not a chain.
fn prune(nodes: &mut Register<Node>, mut key: Key<Node>) {
    while let Some(node) = nodes.get(key) {
        if node.is_held() || node.revokers > 0 {
            return;
        }
        let parent = node.parent;
        match (node.children, node.first_child) {
            (0, _) => unlink(nodes, key),
            // One with a lease stays where it is: it ends what is below it.
            (1, Some(child)) if node.lease.is_none() => replace(nodes, key, child),
            _ => return,
        }
        if let Some(node) = nodes.remove(key)
            && let Some(owner) = node.owner
        {
            owner.discount_capability();
        }
        match parent {
            Some(parent) => key = parent,
            None => return,
        }
    }
}

/// Makes `child` the first child of `parent`.
fn link(nodes: &mut Register<Node>, parent: Key<Node>, child: Key<Node>) {
    let Some(above) = nodes.get_mut(parent) else {
        return;
    };
    let next = above.first_child.replace(child);
    above.children += 1;
    if let Some(next) = next
        && let Some(node) = nodes.get_mut(next)
    {
        node.previous = Some(child);
    }
    if let Some(node) = nodes.get_mut(child) {
        node.next = next;
    }
}

/// Takes a node (with what is below it) out of its parent's children.
fn unlink(nodes: &mut Register<Node>, key: Key<Node>) {
    let Some(node) = nodes.get_mut(key) else { return };
    let (parent, previous, next) = (node.parent.take(), node.previous.take(), node.next.take());
    join(nodes, parent, previous, next);
    if let Some(parent) = parent.and_then(|parent| nodes.get_mut(parent)) {
        parent.children -= 1;
    }
    if let Some(next) = next.and_then(|next| nodes.get_mut(next)) {
        next.previous = previous;
    }
}

/// Puts a node's only child in the node's place.
fn replace(nodes: &mut Register<Node>, key: Key<Node>, child: Key<Node>) {
    let Some(node) = nodes.get_mut(key) else { return };
    let (parent, previous, next, depth) = (node.parent, node.previous, node.next, node.depth);
    node.first_child = None;
    join(nodes, parent, previous, Some(child));
    if let Some(next) = next.and_then(|next| nodes.get_mut(next)) {
        next.previous = Some(child);
    }
    if let Some(child) = nodes.get_mut(child) {
        child.parent = parent;
        child.previous = previous;
        child.next = next;
        // Its own descendants keep the depth that they had: it is a bound from above.
        child.depth = depth;
    }
}

/// Lets whatever comes before a place in a list of children point at `next`.
fn join(
    nodes: &mut Register<Node>,
    parent: Option<Key<Node>>,
    previous: Option<Key<Node>>,
    next: Option<Key<Node>>,
) {
    if let Some(previous) = previous {
        if let Some(node) = nodes.get_mut(previous) {
            node.next = next;
        }
    } else if let Some(parent) = parent.and_then(|parent| nodes.get_mut(parent)) {
        parent.first_child = next;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    const WIDE: Bounds = Bounds {
        depth: u32::MAX,
        fan_out: u32::MAX,
    };

    fn birth() -> Birth {
        static EVERYTHING: LazyLock<Authority> = LazyLock::new(Authority::everything);
        Birth {
            rights: Some(Rights::of(EVERYTHING.clone())),
            ..Birth::new(Kind::Net, "test".into())
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
        assert_eq!(lock(&tree.nodes).get(last).unwrap().depth, 1);
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
