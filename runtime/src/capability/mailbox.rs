//! What a vat shares with those who don't run in it.
//!
//! While a guest runs, its store belongs to the thread that runs it. Whoever revokes or narrows from
//! outside changes the lineage and leaves a letter here; the vat reads its letters before it does
//! anything else in a host call. So an ordinary use costs the vat one load, and no lock.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use refcap_authority::Authority;

use super::Capability;
use super::entry::Entry;
use super::fallen::Lost;
use super::id::Key;
use super::lineage::Ended;
use crate::object::Calls;

/// Something that happened to one of the vat's capabilities.
#[derive(Debug)]
pub(crate) enum Letter {
    /// They were revoked, or a lease has ended.
    Ended(Lost, Ended),
    /// It allows less from now on.
    Narrowed {
        entry: Key<Entry>,
        authority: Authority,
        narrowings: u32,
    },
    /// The collector found that the guest can't reach its reference any more.
    Unreachable(Key<Entry>),
}

/// There is no epoch: nothing that was learned of references holds.
pub(crate) const NO_EPOCH: u32 = 0;

/// The part of a vat that other threads may touch.
#[derive(Debug)]
pub(crate) struct Mailbox {
    vat: u64,
    /// The epoch, while there is nothing to read; else [`NO_EPOCH`]. So one number says both that no letter waits and
    /// what is known of references, and an ordinary use looks at nothing else. Whoever posts clears it, a collection
    /// does too; only the vat's own thread sets it, with the letters locked.
    undisturbed: AtomicU32,
    /// Between which collections the vat is, in a number that each of them ends. See [`crate::references`].
    epoch: AtomicU32,
    /// Whether `letters` has any. Set after the letter is there, read before each host call.
    pending: AtomicBool,
    letters: Mutex<Vec<Letter>>,
    /// Set when the vat is stopped: from then on it holds nothing. There are letters for ever after.
    stopped: AtomicBool,
    /// Set when the vat ends: nobody reads letters any more.
    ended: AtomicBool,
    /// Nodes in any lineage that this vat ever made, and those of them that are no more. Only who has the vat's table makes
    /// them, so counting those takes no atomic operation.
    made: AtomicUsize,
    gone: AtomicUsize,
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
            undisturbed: AtomicU32::new(NO_EPOCH),
            epoch: AtomicU32::new(NO_EPOCH),
            pending: AtomicBool::new(false),
            letters: Mutex::new(Vec::new()),
            stopped: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            made: AtomicUsize::new(0),
            gone: AtomicUsize::new(0),
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
        let mut letters = lock(&self.letters);
        // Looked at with the lock: nobody would take it, and what it has would be kept for as long as the mailbox is.
        if !self.ended.load(Ordering::Relaxed) {
            letters.push(letter);
            self.disturb();
        }
        drop(letters);
    }

    /// To be called with the letters locked.
    fn disturb(&self) {
        self.pending.store(true, Ordering::Release);
        self.undisturbed.store(NO_EPOCH, Ordering::Release);
    }

    /// Whether there are letters. One load.
    pub(crate) fn has_letters(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    pub(crate) fn take_letters(&self) -> Vec<Letter> {
        let mut letters = lock(&self.letters);
        let is_stopped = self.is_stopped();
        self.pending.store(is_stopped, Ordering::Release);
        if !is_stopped {
            self.undisturbed.store(self.epoch(), Ordering::Release);
        }
        std::mem::take(&mut letters)
    }

    /// The epoch that holds if there are no letters either. One load, for the hot path.
    #[inline(always)]
    pub(crate) fn undisturbed(&self) -> u32 {
        self.undisturbed.load(Ordering::Acquire)
    }

    /// The epoch that holds. Only the thread that has the store writes it or reads it.
    #[inline(always)]
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Begins an epoch.
    pub(crate) fn begin_epoch(&self, epoch: u32) {
        let letters = lock(&self.letters);
        self.epoch.store(epoch, Ordering::Relaxed);
        if !self.has_letters() {
            self.undisturbed.store(epoch, Ordering::Release);
        }
        drop(letters);
    }

    /// Ends the epoch. Runs inside a collection: two stores, nothing that could fail.
    pub(crate) fn end_epoch(&self) {
        self.epoch.store(NO_EPOCH, Ordering::Relaxed);
        self.undisturbed.store(NO_EPOCH, Ordering::Release);
    }

    /// Stops the vat: when this returns, no host call of it starts that finds a capability.
    pub(crate) fn stop(&self) {
        let letters = lock(&self.letters);
        self.stopped.store(true, Ordering::Relaxed);
        self.disturb();
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

    /// To be called by who has the vat's table, and the lineage locked that the node is in.
    pub(crate) fn count_capability(&self) {
        let made = self.made.load(Ordering::Relaxed);
        self.made.store(made.wrapping_add(1), Ordering::Relaxed);
    }

    pub(crate) fn discount_capabilities(&self, count: usize) {
        self.gone.fetch_add(count, Ordering::Release);
    }

    /// Nodes in any lineage that this vat made and that are still kept.
    pub(crate) fn capabilities(&self) -> usize {
        // In this order: what is known to be gone is known to have been made.
        let gone = self.gone.load(Ordering::Acquire);
        self.made.load(Ordering::Relaxed).wrapping_sub(gone)
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

#[cfg(test)]
mod tests {
    use super::super::id::Keys;
    use super::*;

    fn letter() -> Letter {
        Letter::Ended(Lost::These(Keys::default()), Ended::Revoked)
    }

    #[test]
    fn a_letter_hides_the_epoch_until_it_is_taken_and_a_vat_that_is_stopped_shows_none() {
        let mailbox = Mailbox::new();
        assert_eq!(mailbox.undisturbed(), NO_EPOCH);
        mailbox.begin_epoch(1);
        assert_eq!((mailbox.undisturbed(), mailbox.epoch()), (1, 1));
        mailbox.post(letter());
        assert_eq!((mailbox.undisturbed(), mailbox.epoch()), (NO_EPOCH, 1));
        // A collection, and the epoch after it, do not show what a letter hides.
        mailbox.end_epoch();
        mailbox.begin_epoch(2);
        assert_eq!((mailbox.undisturbed(), mailbox.epoch()), (NO_EPOCH, 2));
        assert_eq!(mailbox.take_letters().len(), 1);
        assert_eq!(mailbox.undisturbed(), 2);
        mailbox.end_epoch();
        assert_eq!((mailbox.undisturbed(), mailbox.epoch()), (NO_EPOCH, NO_EPOCH));
        mailbox.begin_epoch(3);
        mailbox.stop();
        mailbox.take_letters();
        mailbox.begin_epoch(4);
        assert_eq!(mailbox.undisturbed(), NO_EPOCH);
        assert!(mailbox.has_letters());
    }

    #[test]
    fn what_is_posted_to_a_vat_that_has_ended_is_not_kept() {
        let mailbox = Mailbox::new();
        let authority = Authority::everything();
        let narrowed = || Letter::Narrowed {
            entry: Key::to_nothing(),
            authority: authority.clone(),
            narrowings: 1,
        };
        mailbox.post(narrowed());
        mailbox.end();
        mailbox.post(narrowed());
        assert!(lock(&mailbox.letters).is_empty());
    }

    #[test]
    fn class_29_no_letter_is_overlooked_whoever_posts_while_letters_are_taken() {
        const LETTERS: usize = 20_000;
        let mailbox = Mailbox::new();
        mailbox.begin_epoch(1);
        let posted = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..LETTERS {
                    mailbox.post(letter());
                    posted.fetch_add(1, Ordering::SeqCst);
                }
            });
            let mut taken = 0;
            while taken < LETTERS {
                // All that were posted before this look are there, or were taken.
                let before = posted.load(Ordering::SeqCst);
                if mailbox.undisturbed() != NO_EPOCH {
                    assert!(taken >= before, "{taken} were taken, and {before} posted");
                }
                taken += mailbox.take_letters().len();
                if taken % 7 == 0 {
                    mailbox.end_epoch();
                    mailbox.begin_epoch(1);
                }
            }
        });
        assert_eq!(mailbox.undisturbed(), 1);
    }
}
