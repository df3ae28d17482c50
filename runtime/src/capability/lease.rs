//! The clock that ends leases.
//!
//! One thread for the process, started with the first lease. It revokes what has had its time, so a lease
//! that ends is a revocation: connections end, whoever waits is woken, and ports are free again, also
//! when the guest that held them does nothing at all.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Condvar, LazyLock, Mutex, PoisonError, Weak};
use std::time::Instant;

use super::id::{CapId, Key};
use super::lineage::{Node, Tree};
use super::mailbox::lock;

/// A capability that ends by the clock. Dropping it takes it off the clock.
pub(crate) struct Lease {
    ends: Instant,
    id: CapId,
}

#[derive(Default)]
struct Clock {
    leases: Mutex<Leases>,
    changed: Condvar,
}

#[derive(Default)]
struct Leases {
    /// By when they end; a capability's number tells those of one moment apart.
    ends: BTreeMap<(Instant, CapId), (Weak<Tree>, Key<Node>)>,
    is_running: bool,
}

static CLOCK: LazyLock<Clock> = LazyLock::new(Clock::default);

impl Lease {
    /// Puts a capability on the clock.
    pub(crate) fn begin(ends: Instant, tree: &Weak<Tree>, node: Key<Node>) -> Lease {
        let clock = &*CLOCK;
        let mut leases = lock(&clock.leases);
        let is_next = leases
            .ends
            .first_key_value()
            .is_none_or(|((first, _), _)| ends < *first);
        leases.ends.insert((ends, node.id()), (tree.clone(), node));
        if !leases.is_running {
            let thread = std::thread::Builder::new().name("refcap-leases".to_owned());
            // Without the thread, a lease ends when the next one is put on the clock and it can start.
            leases.is_running = thread.spawn(run).is_ok();
        } else if is_next {
            clock.changed.notify_one();
        }
        Lease { ends, id: node.id() }
    }

    /// When it ends.
    pub(crate) fn ends(&self) -> Instant {
        self.ends
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        lock(&CLOCK.leases).ends.remove(&(self.ends, self.id));
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({:?})", self.ends)
    }
}

fn run() {
    let clock = &*CLOCK;
    let mut leases = lock(&clock.leases);
    loop {
        let Some(entry) = leases.ends.first_entry() else {
            leases = clock.changed.wait(leases).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let (ends, _) = *entry.key();
        let left = ends.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            let waited = clock.changed.wait_timeout(leases, left);
            leases = waited.unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        let (tree, node) = entry.remove();
        // The lineage drops leases while it is locked, so it must not be locked under this lock.
        drop(leases);
        if let Some(tree) = tree.upgrade() {
            Tree::expire(&tree, node);
        }
        leases = lock(&clock.leases);
    }
}
