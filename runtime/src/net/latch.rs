//! What can end at any moment, and who must hear of it.

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

    pub(super) fn is_severed(&self) -> bool {
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
