//! Membranes: what crosses one ends when it is cut, and so does all that comes from it.
//!
//! A membrane is a mark in the lineage and not a proxy before each capability: what crosses is derived, as it is for
//! any other vat, and the node that this makes has a seat in the membrane. Cutting revokes the nodes that have one.
//! An ordinary use of what crossed therefore costs nothing more than of anything else. Only calls to objects carry
//! a membrane on: what goes along with one, or comes back, crosses it too. The idea of the membrane is Mark Miller's
//! ("Robust Composition", 2006, section 9.3), who builds it of forwarders.

use std::sync::{Arc, Mutex, Weak};

use slab::Slab;

use super::handle::{Capability, DeriveError};
use super::id::Key;
use super::lineage::{Node, Tree};
use super::mailbox::lock;
use crate::audit;

/// The most membranes that one object may be behind.
pub(crate) const MAX_MEMBRANES: usize = 8;

/// One membrane. Locks are taken in the order `cutting`, then a lineage's, then `seats`.
#[derive(Debug, Default)]
pub(crate) struct Cut {
    /// Held from the beginning to the end of a cut, so that a second one returns after the first is done.
    cutting: Mutex<()>,
    seats: Mutex<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    is_cut: bool,
    nodes: Slab<(Weak<Tree>, Key<Node>)>,
}

impl Cut {
    /// Whether it was cut.
    pub(crate) fn is_cut(&self) -> bool {
        lock(&self.seats).is_cut
    }

    /// Gives a node a seat, unless it was cut. To be called with the lineage locked.
    pub(super) fn enter(self: &Arc<Cut>, tree: &Arc<Tree>, node: Key<Node>) -> Option<Seat> {
        let mut seats = lock(&self.seats);
        if seats.is_cut {
            return None;
        }
        let place = seats.nodes.insert((Arc::downgrade(tree), node));
        Some(Seat {
            membrane: self.clone(),
            place,
        })
    }

    /// Revokes all that crossed, in every vat, for good: nothing crosses any more. Returns how many capabilities
    /// ended. When it returns, no operation through any of them starts.
    pub(crate) fn cut(&self, label: &str, vat: Option<u64>) -> usize {
        let _until_it_is_done = lock(&self.cutting);
        let nodes = {
            let mut seats = lock(&self.seats);
            seats.is_cut = true;
            std::mem::take(&mut seats.nodes)
        };
        let mut ended = 0;
        for (_, (tree, node)) in nodes {
            let count = tree.upgrade().map_or(0, |tree| tree.revoke(node));
            if count > 0 {
                audit::revoke(node.id(), label, vat, count);
            }
            ended += count;
        }
        ended
    }
}

/// A boundary between two sides that the embedder can cut: all that crossed it ends then, in either direction, at
/// whatever time it crossed.
///
/// [`wrap`](Membrane::wrap) what each side gets, and grant that. Capabilities that go along with calls of objects that
/// are behind the membrane, and those that come back, are wrapped by the host. What the programs of one vat pass
/// to each other as references does not cross: it stays on one side.
///
/// ```
/// use refcap::{Capability, Membrane, ambient_authority};
///
/// let net = Capability::net("net", "connect tcp 10.0.0.1:443".parse()?, ambient_authority());
/// let membrane = Membrane::new("partner");
/// let theirs = membrane.wrap(&net)?;
/// assert_eq!(membrane.cut(), 1);
/// assert!(!theirs.is_alive());
/// assert!(net.is_alive());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Clones are the same membrane. Dropping it cuts nothing.
#[derive(Debug, Clone)]
pub struct Membrane {
    label: Arc<str>,
    cut: Arc<Cut>,
}

impl Membrane {
    /// A membrane through which nothing has crossed. The label names it in the audit log.
    pub fn new(label: &str) -> Membrane {
        Membrane {
            label: label.into(),
            cut: Arc::default(),
        }
    }

    /// Derives a capability that is the same, and ends when the membrane is cut.
    ///
    /// # Errors
    ///
    /// [`DeriveError::Revoked`]: the capability is revoked, or the membrane was cut.
    pub fn wrap(&self, capability: &Capability) -> Result<Capability, DeriveError> {
        let mut wrapped = capability.another()?;
        let enclosed = wrapped.enclose(&Membranes::of(&self.cut));
        enclosed.map_err(|_| DeriveError::Revoked(capability.id()))?;
        Ok(wrapped)
    }

    /// Ends all that crossed, and all that was derived from it or obtained through it, in every vat. Returns how many
    /// capabilities ended; 0 when it was cut before. When it returns, no operation through any of them starts, and
    /// nothing crosses any more.
    pub fn cut(&self) -> usize {
        self.cut.cut(&self.label, None)
    }
}

/// A node's place in a membrane, for as long as there is the node.
#[derive(Debug)]
pub(super) struct Seat {
    membrane: Arc<Cut>,
    place: usize,
}

impl Seat {
    pub(super) fn is_in(&self, membrane: &Arc<Cut>) -> bool {
        Arc::ptr_eq(&self.membrane, membrane)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // It is gone already where the membrane was cut.
        lock(&self.membrane.seats).nodes.try_remove(self.place);
    }
}

/// The membranes that something is behind. Nearly always there are none, and then this is a null pointer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Membranes(Option<Arc<Vec<Arc<Cut>>>>);

/// It would be behind more than [`MAX_MEMBRANES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Membranes {
    pub(crate) fn of(membrane: &Arc<Cut>) -> Membranes {
        Membranes(Some(Arc::new(vec![membrane.clone()])))
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Cut>> {
        self.0.iter().flat_map(|all| all.iter())
    }

    /// These and those, each once.
    pub(crate) fn and(&self, others: &Membranes) -> Result<Membranes, TooMany> {
        let mut all: Vec<_> = self.iter().cloned().collect();
        for other in others.iter() {
            if !all.iter().any(|one| Arc::ptr_eq(one, other)) {
                all.push(other.clone());
            }
        }
        match all.len() {
            0 => Ok(Membranes::default()),
            1..=MAX_MEMBRANES => Ok(Membranes(Some(Arc::new(all)))),
            _ => Err(TooMany),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::ambient::ambient_authority;

    fn net() -> Capability {
        Capability::net("net", "connect tcp *:*".parse().unwrap(), ambient_authority())
    }

    fn seats(membrane: &Membrane) -> usize {
        lock(&membrane.cut.seats).nodes.len()
    }

    #[test]
    fn what_ends_before_has_no_seat_any_more() {
        let (membrane, net) = (Membrane::new("membrane"), net());
        let wrapped = membrane.wrap(&net).unwrap();
        let below = wrapped.another().unwrap();
        drop(wrapped);
        // It is kept for as long as something comes from it.
        assert_eq!((seats(&membrane), net.lineage().len()), (1, 3));
        drop(below);
        assert_eq!((seats(&membrane), net.lineage().len()), (0, 1));
        let wrapped = membrane.wrap(&net).unwrap();
        assert_eq!((seats(&membrane), net.revoke()), (1, 2));
        assert_eq!((seats(&membrane), membrane.cut()), (0, 0));
        assert!(!wrapped.is_alive());
    }

    #[test]
    fn cutting_reaches_many_lineages() {
        let (membrane, nets) = (Membrane::new("membrane"), [net(), net(), net()]);
        let wrapped: Vec<_> = nets.iter().map(|net| membrane.wrap(net).unwrap()).collect();
        let below: Vec<_> = wrapped.iter().map(|one| one.another().unwrap()).collect();
        assert_eq!(membrane.cut(), 6);
        assert!(nets.iter().all(Capability::is_alive));
        assert!(!wrapped.iter().chain(&below).any(Capability::is_alive));
        assert!(matches!(membrane.wrap(&nets[0]), Err(DeriveError::Revoked(_))));
        assert_eq!(nets.map(|net| net.lineage().len()), [1, 1, 1]);
    }

    // Two lineages and two membranes, each of which reaches both.
    #[test]
    fn crossing_cutting_and_revoking_at_once_do_not_wait_for_each_other_and_leave_nothing() {
        for _ in 0..100 {
            let (nets, membranes) = ([net(), net()], [Membrane::new("a"), Membrane::new("b")]);
            let crossed = AtomicUsize::new(0);
            let held = Mutex::new(Vec::new());
            std::thread::scope(|scope| {
                for net in &nets {
                    for membrane in &membranes {
                        let (crossed, held) = (&crossed, &held);
                        scope.spawn(move || {
                            while let Ok(wrapped) = membrane.wrap(net) {
                                crossed.fetch_add(1, Ordering::Relaxed);
                                lock(held).push((wrapped, membrane));
                            }
                        });
                    }
                }
                for membrane in &membranes {
                    scope.spawn(|| {
                        while crossed.load(Ordering::Relaxed) < 8 {
                            std::hint::spin_loop();
                        }
                        membrane.cut();
                    });
                }
                scope.spawn(|| nets[1].revoke());
            });
            for (wrapped, _) in held.into_inner().unwrap() {
                assert!(!wrapped.is_alive());
            }
            assert_eq!(membranes.map(|membrane| seats(&membrane)), [0, 0]);
            assert_eq!(nets[0].lineage().len(), 1);
        }
    }
}
