//! The nodes of a lineage: a dense array of small records that are linked by their places in it.
//!
//! A record is plain numbers, as large as a line of the processor's cache, for a revocation has to look at each:
//! what nodes have in common (who made them, their label, their rights) is kept once and counted, and what
//! few nodes have (a socket, a lease, a target) is kept aside. All of it is under the lineage's lock, so
//! counting costs no atomic operation.

use std::collections::{HashMap, hash_map};
use std::sync::Arc;

use refcap_abi::Kind;
use refcap_authority::Authority;
use slab::Slab;

use super::entry::Entry;
use super::fallen::{Fallen, Lost};
use super::id::{CapId, KEEP, Key, Keys};
use super::lease::Lease;
use super::lineage::{Birth, Holder, Sever};
use super::mailbox::Mailbox;
use super::membrane::Seat;
use super::pool::{Link, Pool};
use super::rights::{Conditions, RightsRef};

/// Where a node is. Valid until the node is taken out, which those who have the lineage's lock see to.
pub(super) type Place = usize;

/// One capability's place in the tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    id: CapId,
    parent: Link,
    first_child: Link,
    previous: Link,
    next: Link,
    pub(super) children: u32,
    pub(super) depth: u32,
    /// How often the authority was narrowed in place.
    pub(super) narrowings: u32,
    /// Revokers that aim at this node.
    pub(super) revokers: u32,
    owner: Link,
    /// The place of the vat's entry, while the vat holds it.
    entry: Link,
    common: Link,
    authority: Link,
    more: Link,
    pub(super) kind: Kind,
    pub(super) host_holds: bool,
}

impl Node {
    pub(super) fn is_held(&self) -> bool {
        self.entry != Link::NONE || self.host_holds
    }

    /// The vat's entry, while the vat holds it.
    pub(super) fn entry(&self) -> Option<Key<Entry>> {
        self.entry.place().map(|place| Key::new(place, self.id))
    }

    /// Where what many nodes have in common is kept: who made it, its label and conditions, its authority.
    fn shared(&self) -> [Link; 3] {
        [self.owner, self.common, self.authority]
    }

    pub(super) fn id(&self) -> CapId {
        self.id
    }

    pub(super) fn key(&self, place: Place) -> Key<Node> {
        Key::new(place, self.id)
    }
}

/// What most nodes have from those above them.
#[derive(Debug)]
struct Common {
    label: Arc<str>,
    conditions: Arc<Conditions>,
}

impl Common {
    fn of(birth: &Birth<'_>) -> Common {
        Common {
            label: birth.label.clone(),
            conditions: birth.conditions.clone(),
        }
    }

    fn is_of(&self, birth: &Birth<'_>) -> bool {
        Arc::ptr_eq(&self.label, birth.label) && Arc::ptr_eq(&self.conditions, birth.conditions)
    }
}

/// What few nodes have.
#[derive(Debug, Default)]
pub(super) struct More {
    pub(super) lease: Option<Lease>,
    /// The vat that it was handed to, if it may be handed to one only.
    pub(super) recipient: Option<u64>,
    /// The capability that a Revoker ends.
    pub(super) target: Option<Key<Node>>,
    pub(super) socket: Option<Arc<dyn Sever>>,
    /// Its places in the membranes that it crossed.
    pub(super) seats: Vec<Seat>,
}

impl More {
    /// Whether its node ends what is below it at a time of its own, and so stays where it is.
    fn stays(&self) -> bool {
        self.lease.is_some() || !self.seats.is_empty()
    }
}

/// A vat that has made nodes of this lineage.
#[derive(Debug)]
struct Owner {
    mailbox: Arc<Mailbox>,
    /// What a revocation that is under way has ended of its nodes, and which of them it held.
    ended: usize,
    fallen: Keys<Entry>,
}

impl Pool<Owner> {
    /// Notes what its vat has to hear of a node that has fallen. `noted` are the owners of those before it.
    fn note_fallen(&mut self, node: &Node, noted: &mut Vec<Link>) {
        if let Some(owner) = self.get_mut(node.owner) {
            if owner.ended == 0 {
                noted.push(node.owner);
            }
            owner.ended += 1;
            if let Some(entry) = node.entry() {
                owner.fallen.push(entry);
            }
        }
    }
}

/// All nodes of a tree.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    nodes: Slab<Node>,
    /// How many of them somebody holds.
    held: usize,
    owners: Pool<Owner>,
    /// Where a vat is among the owners.
    by_vat: HashMap<u64, Link>,
    common: Pool<Common>,
    authorities: Pool<Authority>,
    more: Slab<More>,
}

impl Nodes {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The place of the node with that key, if it is there.
    pub(super) fn find(&self, key: Key<Node>) -> Option<Place> {
        let place = key.place();
        let node = self.nodes.get(place)?;
        (node.id == key.id()).then_some(place)
    }

    pub(super) fn get(&self, place: Place) -> Option<&Node> {
        self.nodes.get(place)
    }

    pub(super) fn get_mut(&mut self, place: Place) -> Option<&mut Node> {
        self.nodes.get_mut(place)
    }

    fn common(&self, node: &Node) -> Option<&Common> {
        self.common.get(node.common)
    }

    pub(super) fn label(&self, place: Place) -> Option<Arc<str>> {
        let common = self.common(self.get(place)?)?;
        Some(common.label.clone())
    }

    /// What it allows, and on what terms, where that is more than the one object behind it.
    pub(super) fn rights(&self, node: &Node) -> Option<RightsRef<'_>> {
        Some(RightsRef {
            authority: self.authorities.get(node.authority)?,
            conditions: &self.common(node)?.conditions,
        })
    }

    /// The vat that made a node.
    pub(super) fn owner(&self, node: &Node) -> Option<&Arc<Mailbox>> {
        self.owners.get(node.owner).map(|owner| &owner.mailbox)
    }

    pub(super) fn more(&self, node: &Node) -> Option<&More> {
        self.more.get(node.more.place()?)
    }

    /// What few nodes have, and from now on this one.
    pub(super) fn more_mut(&mut self, place: Place) -> Option<&mut More> {
        let node = self.nodes.get_mut(place)?;
        if node.more == Link::NONE {
            node.more = Link::to(self.more.insert(More::default()));
        }
        self.more.get_mut(node.more.place()?)
    }

    pub(super) fn parent(&self, place: Place) -> Option<Place> {
        self.nodes.get(place)?.parent.place()
    }

    /// Adds a node, as the first child of `parent` if there is one. `None` when four billion are there.
    pub(super) fn insert(
        &mut self,
        parent: Option<Place>,
        depth: u32,
        birth: Birth<'_>,
        holder: Holder<'_>,
    ) -> Option<Place> {
        let place = self.nodes.vacant_key();
        if place >= u32::MAX as usize {
            return None;
        }
        let above = parent.and_then(|parent| self.nodes.get(parent));
        let [owner, common, authority] = above.map_or([Link::NONE; 3], Node::shared);
        let (owner, entry) = match holder {
            Holder::Host => (Link::NONE, Link::NONE),
            Holder::Vat(mailbox, entry) => {
                mailbox.count_capability();
                (self.own(owner, mailbox), Link::to(entry.place()))
            }
        };
        let common = self
            .common
            .have(common, |its| its.is_of(&birth), || Common::of(&birth));
        let authority = birth.authority.map_or(Link::NONE, |new| {
            let is_it = |its: &Authority| its.as_ptr() == new.as_ptr();
            self.authorities.have(authority, is_it, || new.clone())
        });
        let more = match (birth.target, birth.socket) {
            (None, None) => Link::NONE,
            (target, socket) => Link::to(self.more.insert(More {
                target,
                socket,
                ..More::default()
            })),
        };
        let node = Node {
            id: birth.id,
            parent: Link::NONE,
            first_child: Link::NONE,
            previous: Link::NONE,
            next: Link::NONE,
            children: 0,
            depth,
            narrowings: 0,
            revokers: 0,
            owner,
            entry,
            common,
            authority,
            more,
            kind: birth.kind,
            host_holds: matches!(holder, Holder::Host),
        };
        self.held += usize::from(node.is_held());
        self.nodes.insert(node);
        if let Some(parent) = parent {
            self.link(parent, place);
        }
        Some(place)
    }

    /// Where a vat is among the owners. Most often it is the owner of the parent.
    fn own(&mut self, above: Link, mailbox: &Arc<Mailbox>) -> Link {
        let is_it = |owner: &Owner| Arc::ptr_eq(&owner.mailbox, mailbox);
        if self.owners.get(above).is_some_and(is_it) {
            return self.owners.share(above);
        }
        if let Some(&link) = self.by_vat.get(&mailbox.vat()) {
            return self.owners.share(link);
        }
        let link = self.owners.add(Owner {
            mailbox: mailbox.clone(),
            ended: 0,
            fallen: Keys::default(),
        });
        self.by_vat.insert(mailbox.vat(), link);
        link
    }

    /// Nobody holds a node any more. Returns its target, if it is a Revoker.
    pub(super) fn let_go(&mut self, place: Place) -> Option<Key<Node>> {
        let node = self.nodes.get_mut(place)?;
        self.held -= usize::from(node.is_held());
        node.entry = Link::NONE;
        node.host_holds = false;
        let more = self.more.get_mut(node.more.place()?)?;
        more.socket = None;
        more.target.take()
    }

    /// The host holds a node from now on, in place of the vat that made it.
    pub(super) fn give_to_host(&mut self, place: Place) {
        let Some(node) = self.nodes.get_mut(place) else {
            return;
        };
        self.held += usize::from(!node.is_held());
        node.entry = Link::NONE;
        node.host_holds = true;
        let owner = std::mem::replace(&mut node.owner, Link::NONE);
        self.disown(owner, 1);
    }

    /// Gives nodes other authorities; those that are the same in several are kept once.
    pub(super) fn replace_authorities(&mut self, changes: &[(Place, Authority)]) {
        let mut links: HashMap<*const (), Link> = HashMap::new();
        for (place, authority) in changes {
            let Some(node) = self.nodes.get_mut(*place) else {
                continue;
            };
            let new = match links.entry(authority.as_ptr()) {
                hash_map::Entry::Occupied(link) => self.authorities.share(*link.get()),
                hash_map::Entry::Vacant(vacant) => *vacant.insert(self.authorities.add(authority.clone())),
            };
            let old = std::mem::replace(&mut node.authority, new);
            self.authorities.release(old);
        }
    }

    /// Gives one node other conditions.
    pub(super) fn replace_conditions(&mut self, place: Place, conditions: Arc<Conditions>) {
        let Some(node) = self.nodes.get_mut(place) else {
            return;
        };
        let Some(Common { label, .. }) = self.common.get(node.common) else {
            return;
        };
        let label = label.clone();
        let new = self.common.add(Common { label, conditions });
        let old = std::mem::replace(&mut node.common, new);
        self.common.release(old);
    }

    /// The places of a subtree, parents before children.
    pub(super) fn subtree(&self, top: Place) -> Vec<Place> {
        let mut places = Vec::new();
        let mut open = vec![top];
        while let Some(place) = open.pop() {
            let Some(node) = self.nodes.get(place) else {
                continue;
            };
            places.push(place);
            let mut child = node.first_child.place();
            while let Some(place) = child {
                open.push(place);
                child = self.nodes.get(place).and_then(|node| node.next.place());
            }
        }
        places
    }

    /// Takes a whole subtree out.
    pub(super) fn fell(&mut self, top: Place) -> Fallen {
        match self.parent(top) {
            Some(parent) => self.fell_below(parent, top),
            None => self.fell_all(),
        }
    }

    fn fell_below(&mut self, parent: Place, top: Place) -> Fallen {
        let mut fallen = Fallen::default();
        self.unlink(top);
        let mut targets = Vec::new();
        let mut owners: Vec<Link> = Vec::new();
        // Taken out on the way, so that each node is looked at once: most of the time goes into fetching it.
        let mut open = vec![top];
        while let Some(place) = open.pop() {
            let Some(node) = self.nodes.get(place) else {
                continue;
            };
            // The top has no siblings any more.
            open.extend(node.next.place());
            open.extend(node.first_child.place());
            fallen.held += usize::from(node.is_held());
            self.owners.note_fallen(node, &mut owners);
            if let Some(more) = self.take_out(place) {
                fallen.sockets.extend(more.socket);
                targets.extend(more.target);
            }
        }
        for owner in owners {
            self.collect_mail(owner, &mut fallen);
        }
        self.held -= fallen.held;
        for target in targets {
            self.release(target);
        }
        self.prune(parent);
        self.give_back();
        fallen
    }

    /// What has no parent is what all others descend from: nothing is left, so nothing has to be put in order.
    fn fell_all(&mut self) -> Fallen {
        let mut all = std::mem::take(self);
        debug_assert_eq!(
            all.held,
            all.nodes.iter().filter(|(_, node)| node.is_held()).count()
        );
        let mut fallen = Fallen {
            held: all.held,
            // Not left to who takes the rest apart: they end now, and so do leases and seats.
            sockets: all.more.drain().filter_map(|more| more.socket).collect(),
            ..Fallen::default()
        };
        match all.owners.take_only() {
            Some((owner, made)) => {
                owner.mailbox.discount_capabilities(made);
                fallen.letters.push((owner.mailbox, Lost::All(Box::new(all))));
            }
            None => all.tell_owners(&mut fallen),
        }
        fallen
    }

    /// Notes what each of several vats has to hear. The nodes need not be looked for by their links, where each has to be
    /// fetched before the next is known: they are read in the order in which they lie in memory.
    fn tell_owners(mut self, fallen: &mut Fallen) {
        let mut owners = Vec::new();
        for (_, node) in &self.nodes {
            self.owners.note_fallen(node, &mut owners);
        }
        for owner in owners {
            self.collect_mail(owner, fallen);
        }
    }

    /// The entries of those that a vat holds.
    pub(super) fn entries(&self) -> impl Iterator<Item = Key<Entry>> + '_ {
        self.nodes.iter().filter_map(|(_, node)| node.entry())
    }

    /// What a vat has to hear of a revocation.
    fn collect_mail(&mut self, link: Link, fallen: &mut Fallen) {
        let Some(owner) = self.owners.get_mut(link) else {
            return;
        };
        let ended = std::mem::take(&mut owner.ended);
        let keys = std::mem::take(&mut owner.fallen);
        if !keys.is_empty() {
            fallen.letters.push((owner.mailbox.clone(), Lost::These(keys)));
        }
        self.disown(link, ended);
    }

    /// A vat has so many nodes less.
    fn disown(&mut self, link: Link, count: usize) {
        if let Some(owner) = self.owners.get(link) {
            owner.mailbox.discount_capabilities(count);
        }
        if let Some(owner) = self.owners.release_many(link, count) {
            self.by_vat.remove(&owner.mailbox.vat());
        }
    }

    /// A revoker that aimed at `target` is gone.
    pub(super) fn release(&mut self, target: Key<Node>) {
        if let Some(place) = self.find(target)
            && let Some(node) = self.nodes.get_mut(place)
        {
            node.revokers -= 1;
            self.prune(place);
        }
    }

    /// Removes a node that nobody holds and nobody can revoke, and its ancestors that are kept only for its
    /// sake: when it has no children, or when its only child can take its place. So a guest that derives and
    /// closes the parent for ever has one node, not a chain.
    pub(super) fn prune(&mut self, mut place: Place) {
        while let Some(node) = self.nodes.get(place) {
            if node.is_held() || node.revokers > 0 {
                return;
            }
            let parent = node.parent.place();
            match (node.children, node.first_child.place()) {
                (0, _) => self.unlink(place),
                (1, Some(child)) if !self.more(node).is_some_and(More::stays) => {
                    self.replace(place, child);
                }
                _ => return,
            }
            self.remove(place);
            match parent {
                Some(parent) => place = parent,
                None => return,
            }
        }
    }

    /// Takes out one node, which nothing links to any more.
    fn remove(&mut self, place: Place) {
        let Some(owner) = self.nodes.get(place).map(|node| node.owner) else {
            return;
        };
        self.take_out(place);
        if owner != Link::NONE {
            self.disown(owner, 1);
        }
        self.give_back();
    }

    /// Takes a node out, and what it has of what is kept elsewhere; its vat still counts it. It is read where it lies: a
    /// copy of it would be waited for.
    #[inline(always)]
    fn take_out(&mut self, place: Place) -> Option<More> {
        let node = self.nodes.get(place)?;
        self.common.release(node.common);
        self.authorities.release(node.authority);
        let more = node.more.place().and_then(|more| self.more.try_remove(more));
        self.nodes.try_remove(place);
        more
    }

    /// Gives memory back when nothing is left: none of the parts shrinks by itself.
    fn give_back(&mut self) {
        if self.nodes.is_empty() && self.nodes.capacity() > KEEP {
            *self = Nodes::default();
        }
    }

    /// Makes `child` the first child of `parent`.
    fn link(&mut self, parent: Place, child: Place) {
        let Some(above) = self.nodes.get_mut(parent) else {
            return;
        };
        let next = std::mem::replace(&mut above.first_child, Link::to(child));
        above.children += 1;
        if let Some(node) = next.place().and_then(|next| self.nodes.get_mut(next)) {
            node.previous = Link::to(child);
        }
        if let Some(node) = self.nodes.get_mut(child) {
            node.parent = Link::to(parent);
            node.next = next;
        }
    }

    /// Takes a node (with what is below it) out of its parent's children.
    fn unlink(&mut self, place: Place) {
        let Some(node) = self.nodes.get_mut(place) else {
            return;
        };
        let (parent, previous, next) = (node.parent, node.previous, node.next);
        (node.parent, node.previous, node.next) = (Link::NONE, Link::NONE, Link::NONE);
        self.join(parent, previous, next);
        if let Some(parent) = parent.place().and_then(|parent| self.nodes.get_mut(parent)) {
            parent.children -= 1;
        }
        if let Some(next) = next.place().and_then(|next| self.nodes.get_mut(next)) {
            next.previous = previous;
        }
    }

    /// Puts a node's only child in the node's place.
    fn replace(&mut self, place: Place, child: Place) {
        let Some(node) = self.nodes.get_mut(place) else {
            return;
        };
        let (parent, previous, next, depth) = (node.parent, node.previous, node.next, node.depth);
        node.first_child = Link::NONE;
        self.join(parent, previous, Link::to(child));
        if let Some(next) = next.place().and_then(|next| self.nodes.get_mut(next)) {
            next.previous = Link::to(child);
        }
        if let Some(child) = self.nodes.get_mut(child) {
            child.parent = parent;
            child.previous = previous;
            child.next = next;
            // Its own descendants keep the depth that they had: it is a bound from above.
            child.depth = depth;
        }
    }

    /// Lets whatever comes before a place in a list of children point at `next`.
    fn join(&mut self, parent: Link, previous: Link, next: Link) {
        if let Some(previous) = previous.place() {
            if let Some(node) = self.nodes.get_mut(previous) {
                node.next = next;
            }
        } else if let Some(parent) = parent.place().and_then(|parent| self.nodes.get_mut(parent)) {
            parent.first_child = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Each is fetched from memory when a big tree is revoked.
    #[test]
    fn a_node_is_one_line_of_the_cache() {
        assert_eq!(size_of::<Node>(), 64);
        assert!(!std::mem::needs_drop::<Node>());
    }

    fn insert(nodes: &mut Nodes, parent: Option<Place>, holder: Holder<'_>) -> Place {
        let label = Arc::<str>::from("net");
        nodes
            .insert(parent, 0, Birth::new(Kind::Net, &label), holder)
            .unwrap()
    }

    fn entry(place: usize) -> Key<Entry> {
        Key::new(place, CapId::next())
    }

    fn told(lost: Lost) -> Vec<Key<Entry>> {
        let mut told = Vec::new();
        lost.for_each(|key| told.push(key));
        told
    }

    #[test]
    fn a_lineage_of_one_vat_is_left_to_that_vat_as_it_is() {
        let (mut nodes, vat) = (Nodes::default(), Mailbox::new());
        let top = insert(&mut nodes, None, Holder::Host);
        let places: Vec<_> = (0..100)
            .map(|place| insert(&mut nodes, Some(top), Holder::Vat(&vat, entry(place))))
            .collect();
        // One that the vat has given up and that another descends from, and one that it has handed to the host.
        insert(&mut nodes, Some(places[7]), Holder::Host);
        nodes.let_go(places[7]);
        nodes.prune(places[7]);
        nodes.give_to_host(places[8]);
        let expected: Vec<_> = places
            .iter()
            .filter_map(|&place| nodes.get(place)?.entry())
            .collect();
        assert_eq!(expected.len(), 98);
        let fallen = nodes.fell(top);
        assert_eq!((fallen.held, nodes.len(), vat.capabilities()), (101, 0, 0));
        assert_eq!(fallen.letters.len(), 1);
        for (whose, lost) in fallen.letters {
            assert!(Arc::ptr_eq(&whose, &vat));
            assert!(
                matches!(lost, Lost::All(_)),
                "it was taken apart by who revoked it"
            );
            assert_eq!(told(lost), expected);
        }
    }

    #[test]
    fn of_a_lineage_of_several_vats_each_hears_of_its_own() {
        for is_whole in [true, false] {
            let (mut nodes, vats) = (Nodes::default(), [Mailbox::new(), Mailbox::new()]);
            let root = insert(&mut nodes, None, Holder::Host);
            let top = insert(&mut nodes, Some(root), Holder::Host);
            let mut expected = [Vec::new(), Vec::new()];
            for place in 0..10 {
                for (vat, expected) in vats.iter().zip(&mut expected) {
                    let made = insert(&mut nodes, Some(top), Holder::Vat(vat, entry(place)));
                    expected.extend(nodes.get(made).and_then(Node::entry));
                }
            }
            let fallen = nodes.fell(if is_whole { root } else { top });
            assert_eq!(fallen.held, if is_whole { 22 } else { 21 });
            assert_eq!(nodes.len(), if is_whole { 0 } else { 1 });
            assert_eq!(nodes.held, nodes.len());
            let mut letters = fallen.letters;
            letters.sort_by_key(|(vat, _)| vat.vat());
            assert_eq!(letters.len(), 2);
            for (((whose, lost), vat), expected) in letters.into_iter().zip(&vats).zip(expected) {
                assert!(Arc::ptr_eq(&whose, vat));
                assert_eq!(vat.capabilities(), 0);
                let mut told = told(lost);
                told.sort_by_key(|key| key.id());
                assert_eq!(told, expected);
            }
        }
    }

    #[test]
    fn what_many_have_is_kept_once_and_only_as_long_as_one_has_it() {
        let mut nodes = Nodes::default();
        let (label, vat) = (Arc::<str>::from("net"), Mailbox::new());
        let authority = Authority::everything();
        let conditions = Arc::new(Conditions::clone(Conditions::none()));
        let mut insert = |parent| {
            let birth = Birth {
                authority: Some(&authority),
                conditions: &conditions,
                ..Birth::new(Kind::Net, &label)
            };
            let holder = Holder::Vat(&vat, Key::to_nothing());
            nodes.insert(parent, 0, birth, holder).unwrap()
        };
        let top = insert(None);
        for _ in 0..100 {
            insert(Some(top));
        }
        assert_eq!(vat.capabilities(), 101);
        let kept = |nodes: &Nodes| (nodes.common.len(), nodes.authorities.len(), nodes.owners.len());
        assert_eq!(kept(&nodes), (1, 1, 1));
        assert_eq!(
            (Arc::strong_count(&label), Arc::strong_count(&conditions)),
            (2, 2)
        );
        nodes.fell(top);
        assert_eq!(kept(&nodes), (0, 0, 0));
        assert_eq!(
            (Arc::strong_count(&label), Arc::strong_count(&conditions)),
            (1, 1)
        );
        assert_eq!((vat.capabilities(), Arc::strong_count(&vat)), (0, 1));
    }
}
