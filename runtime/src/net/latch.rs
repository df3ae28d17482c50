//! What can end at any moment, and who must hear of it.

use std::cmp::Ordering;
use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Mutex;
use std::task::Waker;

use refcap_abi::ErrorCode;
use tokio::sync::Notify;

use crate::capability::mailbox::lock;

/// Holds a socket, or what stands for one, until it is severed. Every use happens under its lock, so a use
/// is either done before [`sever`](Latch::sever) begins or not at all; and severing drops what is held,
/// which closes it and frees its port before `sever` returns.
pub(super) struct Latch<T> {
    held: Mutex<Option<T>>,
    severed: Notify,
    /// Whom a poller wants woken: a socket keeps one waker for each direction only, so whoever waits for
    /// it directly takes the poller's place there.
    watcher: Mutex<Option<Waker>>,
}

impl<T: Send> Latch<T> {
    pub(super) fn new(held: T) -> Self {
        Latch {
            held: Mutex::new(Some(held)),
            severed: Notify::new(),
            watcher: Mutex::new(None),
        }
    }

    /// Uses what is held. `Revoked` if it was severed.
    pub(super) fn with<R>(&self, use_it: impl FnOnce(&mut T) -> R) -> Result<R, ErrorCode> {
        lock(&self.held).as_mut().map(use_it).ok_or(ErrorCode::Revoked)
    }

    /// Uses what two latches hold, of which neither can be severed meanwhile. `Revoked` if one was, and
    /// `BadArgument` if they are the same.
    ///
    /// This is the only place where one latch is taken while another is held, and it takes the one with
    /// the lower address first; a latch never moves while it is shared. So two that want the same two do
    /// not each hold one and wait for the other. Whoever severs holds the lineage's lock and takes one latch
    /// at a time; `use_them` must not ask the lineage for anything, as no use under a latch does.
    pub(super) fn with_both<R>(
        one: &Latch<T>,
        other: &Latch<T>,
        use_them: impl FnOnce(&mut T, &mut T) -> R,
    ) -> Result<R, ErrorCode> {
        let (mut first, mut second);
        match std::ptr::from_ref(one).cmp(&std::ptr::from_ref(other)) {
            Ordering::Equal => return Err(ErrorCode::BadArgument),
            Ordering::Less => {
                first = lock(&one.held);
                second = lock(&other.held);
            }
            Ordering::Greater => {
                second = lock(&other.held);
                first = lock(&one.held);
            }
        }
        match (&mut *first, &mut *second) {
            (Some(one), Some(other)) => Ok(use_them(one, other)),
            _ => Err(ErrorCode::Revoked),
        }
    }

    fn is_severed(&self) -> bool {
        lock(&self.held).is_none()
    }

    /// Ends it: when this returns no use starts any more, and what was held is dropped.
    pub(super) fn sever(&self) {
        let held = lock(&self.held).take();
        drop(held);
        self.severed.notify_waiters();
        self.disturb();
    }
}

/// The end of something, seen from outside: who waits for it, and who watches it.
pub(crate) trait Ending: Send + Sync {
    /// Returns when it is severed.
    fn severed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Sets whom to wake when it is severed, or when somebody else may have taken its place at the socket;
    /// `None` for nobody.
    fn watch(&self, watcher: Option<Waker>);

    /// Whether there is a watcher.
    fn is_watched(&self) -> bool;

    /// Wakes the watcher, who then looks for itself.
    fn disturb(&self);
}

impl<T: Send> Ending for Latch<T> {
    fn severed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            let mut severed = pin!(self.severed.notified());
            // Enlist before looking, or an end between the two would be missed.
            severed.as_mut().enable();
            if !self.is_severed() {
                severed.await;
            }
        })
    }

    fn watch(&self, watcher: Option<Waker>) {
        *lock(&self.watcher) = watcher;
    }

    fn is_watched(&self) -> bool {
        lock(&self.watcher).is_some()
    }

    fn disturb(&self) {
        let watcher = lock(&self.watcher).clone();
        if let Some(watcher) = watcher {
            watcher.wake();
        }
    }
}

impl<T: Send> fmt::Debug for Latch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latch")
            .field("severed", &self.is_severed())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn severing_drops_what_is_held_before_it_returns() {
        let held = Arc::new(());
        let latch = Latch::new(held.clone());
        assert_eq!(latch.with(|held| Arc::strong_count(held)), Ok(2));
        latch.sever();
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(latch.with(|_| ()), Err(ErrorCode::Revoked));
        latch.sever();
    }

    #[test]
    fn two_are_used_if_they_are_two_and_neither_is_severed() {
        let (one, other) = (Latch::new(1), Latch::new(2));
        assert_eq!(
            Latch::with_both(&one, &other, |one, other| (*one, *other)),
            Ok((1, 2))
        );
        assert_eq!(
            Latch::with_both(&other, &one, |one, other| (*one, *other)),
            Ok((2, 1))
        );
        assert_eq!(
            Latch::with_both(&one, &one, |_, _| ()),
            Err(ErrorCode::BadArgument)
        );
        other.sever();
        assert_eq!(Latch::with_both(&one, &other, |_, _| ()), Err(ErrorCode::Revoked));
        assert_eq!(Latch::with_both(&other, &one, |_, _| ()), Err(ErrorCode::Revoked));
        // The one that lives was let go.
        assert_eq!(one.with(|held| *held), Ok(1));
    }

    // With no order between them, this would hang sooner or later.
    #[test]
    fn two_that_use_the_same_two_in_either_order_do_not_wait_for_each_other() {
        let (one, other) = (Latch::new(0), Latch::new(0));
        std::thread::scope(|scope| {
            for (first, second) in [(&one, &other), (&other, &one)] {
                scope.spawn(move || {
                    for _ in 0..100_000 {
                        Latch::with_both(first, second, |first, second| {
                            *first += 1;
                            *second += 1;
                        })
                        .unwrap();
                    }
                });
            }
        });
        assert_eq!(one.with(|count| *count), Ok(200_000));
        assert_eq!(other.with(|count| *count), Ok(200_000));
    }

    #[tokio::test]
    async fn whoever_waits_hears_of_the_end_early_or_late() {
        let latch = Arc::new(Latch::new(()));
        let waiting = tokio::spawn({
            let latch = latch.clone();
            async move { latch.severed().await }
        });
        tokio::task::yield_now().await;
        latch.sever();
        waiting.await.unwrap();
        latch.severed().await;
    }
}
