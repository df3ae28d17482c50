//! What a vat shares with those who don't run in it.
//!
//! While a guest runs, its store belongs to the thread that runs it. Whoever revokes or narrows from
//! outside changes the lineage and leaves a letter here; the vat reads its letters before it does
//! anything else in a host call. So an ordinary use costs the vat one load, and no lock.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Capability;
use super::id::Key;
use super::lineage::Ended;
use super::rights::Rights;
use super::table::Entry;
use crate::object::Calls;

/// Something that happened to one of the vat's capabilities.
#[derive(Debug)]
pub(crate) enum Letter {
    /// They were revoked, or a lease has ended.
    Ended(Vec<Key<Entry>>, Ended),
    /// It allows less from now on.
    Narrowed {
        entry: Key<Entry>,
        rights: Arc<Rights>,
        narrowings: u32,
    },
    /// The collector found that the guest can't reach its reference any more.
    Unreachable(Key<Entry>),
}

/// The part of a vat that other threads may touch.
#[derive(Debug)]
pub(crate) struct Mailbox {
    vat: u64,
    /// Whether `letters` has any. Set after the letter is there, read before each host call.
    pending: AtomicBool,
    letters: Mutex<Vec<Letter>>,
    /// Set when the vat is stopped: from then on it holds nothing. There are letters for ever after.
    stopped: AtomicBool,
    /// Set when the vat ends: nobody reads letters any more.
    ended: AtomicBool,
    /// Nodes in any lineage that this vat made and that are still kept.
    capabilities: AtomicUsize,
    sockets: AtomicUsize,
    /// Guards that this vat brought, and their instances.
    guards: AtomicUsize,
    /// What its children have of its limits.
    lent: Lent,
    /// Granted while the guest runs, not yet taken.
    parcels: Mutex<Vec<(String, Capability)>>,
    /// Calls of its objects from other vats.
    calls: Arc<Calls>,
}

impl Mailbox {
    pub(crate) fn new() -> Arc<Mailbox> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(Mailbox {
            vat: NEXT.fetch_add(1, Ordering::Relaxed),
            pending: AtomicBool::new(false),
            letters: Mutex::new(Vec::new()),
            stopped: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            capabilities: AtomicUsize::new(0),
            sockets: AtomicUsize::new(0),
            guards: AtomicUsize::new(0),
            lent: Lent::default(),
            parcels: Mutex::new(Vec::new()),
            calls: Arc::default(),
        })
    }

    /// The vat's number, for the audit log.
    pub(crate) fn vat(&self) -> u64 {
        self.vat
    }

    /// Leaves a letter. May run inside a collection: it takes one lock, allocates, and never panics.
    pub(crate) fn post(&self, letter: Letter) {
        if self.ended.load(Ordering::Relaxed) {
            return;
        }
        lock(&self.letters).push(letter);
        self.pending.store(true, Ordering::Release);
    }

    /// Whether there are letters. One load, for the hot path.
    pub(crate) fn has_letters(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    pub(crate) fn take_letters(&self) -> Vec<Letter> {
        let mut letters = lock(&self.letters);
        self.pending.store(self.is_stopped(), Ordering::Release);
        std::mem::take(&mut letters)
    }

    /// Stops the vat: when this returns, no host call of it starts that finds a capability.
    pub(crate) fn stop(&self) {
        let letters = lock(&self.letters);
        self.stopped.store(true, Ordering::Relaxed);
        self.pending.store(true, Ordering::Release);
        drop(letters);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// The vat ends: what it has not read is of no use.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.calls.close();
        drop(self.take_letters());
        let parcels = std::mem::take(&mut *lock(&self.parcels));
        // Dropped without the lock, for a capability's end may post letters.
        drop(parcels);
    }

    /// Calls of its objects from other vats.
    pub(crate) fn calls(&self) -> &Arc<Calls> {
        &self.calls
    }

    pub(crate) fn count_capability(&self) {
        self.capabilities.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn discount_capabilities(&self, count: usize) {
        self.capabilities.fetch_sub(count, Ordering::Relaxed);
    }

    pub(crate) fn capabilities(&self) -> usize {
        self.capabilities.load(Ordering::Relaxed)
    }

    pub(crate) fn sockets(&self) -> usize {
        self.sockets.load(Ordering::Relaxed)
    }

    /// What its children have of its limits.
    pub(crate) fn lent(&self) -> &Lent {
        &self.lent
    }

    /// Leaves a capability for the guest to take under that name; the newest of a name wins.
    pub(crate) fn leave(&self, name: &str, capability: Capability) {
        let replaced = {
            let mut parcels = lock(&self.parcels);
            // Nobody would take it, and it would be dropped with the mailbox, by whoever has the lineage locked.
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            let old = parcels.iter().position(|(other, _)| other == name);
            let old = old.map(|index| parcels.swap_remove(index));
            parcels.push((name.to_owned(), capability));
            old
        };
        drop(replaced);
    }

    pub(crate) fn pick_up(&self, name: &str) -> Option<Capability> {
        let mut parcels = lock(&self.parcels);
        let index = parcels.iter().position(|(other, _)| other == name)?;
        Some(parcels.swap_remove(index).1)
    }
}

/// What a vat's children have of its limits, until they are gone. Only the vat's own thread lends.
#[derive(Debug, Default)]
pub(crate) struct Lent {
    capabilities: AtomicUsize,
    sockets: AtomicUsize,
}

impl Lent {
    pub(crate) fn capabilities(&self) -> usize {
        self.capabilities.load(Ordering::Relaxed)
    }

    pub(crate) fn sockets(&self) -> usize {
        self.sockets.load(Ordering::Relaxed)
    }

    pub(crate) fn lend(&self, capabilities: usize, sockets: usize) {
        self.capabilities.fetch_add(capabilities, Ordering::Relaxed);
        self.sockets.fetch_add(sockets, Ordering::Relaxed);
    }

    pub(crate) fn take_back(&self, capabilities: usize, sockets: usize) {
        self.capabilities.fetch_sub(capabilities, Ordering::Relaxed);
        self.sockets.fetch_sub(sockets, Ordering::Relaxed);
    }
}

/// One of the sockets that a vat may have open; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct SocketPermit(Arc<Mailbox>);

impl SocketPermit {
    /// Takes one, unless `limit` are taken or lent.
    pub(crate) fn take(mailbox: &Arc<Mailbox>, limit: usize) -> Option<SocketPermit> {
        let limit = limit.saturating_sub(mailbox.lent.sockets());
        mailbox
            .sockets
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < limit).then_some(open + 1)
            })
            .ok()
            .map(|_| SocketPermit(mailbox.clone()))
    }
}

impl Drop for SocketPermit {
    fn drop(&mut self) {
        self.0.sockets.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One of the guards, or instances of a guard, that a vat may have; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct GuardPermit(Arc<Mailbox>);

impl GuardPermit {
    /// Takes one, unless `limit` are taken.
    pub(crate) fn take(mailbox: &Arc<Mailbox>, limit: usize) -> Option<GuardPermit> {
        mailbox
            .guards
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |guards| {
                (guards < limit).then_some(guards + 1)
            })
            .ok()
            .map(|_| GuardPermit(mailbox.clone()))
    }
}

impl Drop for GuardPermit {
    fn drop(&mut self) {
        self.0.guards.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Locks, also when a thread panicked with the lock held: every change under these locks is whole before
/// anything in it can panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
