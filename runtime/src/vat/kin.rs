//! Where a vat stands among vats: who is above it, and which are below.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::Output;
use super::stdio::World;
use crate::capability::mailbox::Mailbox;
use crate::resolver::Resolver;

/// One vat's place among others.
#[derive(Debug)]
pub(crate) struct Kin {
    pub(crate) mailbox: Arc<Mailbox>,
    /// How many programs are above it: none for one that the embedder started.
    pub(crate) generation: u32,
    pub(crate) children: Arc<Children>,
    /// What children get of the vat's own, where they get it.
    pub(super) stdout: Output,
    pub(super) stderr: Output,
    pub(super) resolver: Option<Arc<dyn Resolver>>,
}

impl Default for Kin {
    fn default() -> Self {
        Kin::below(0)
    }
}

impl Kin {
    /// A new vat's place, with so many programs above it.
    pub(super) fn below(generation: u32) -> Kin {
        Kin {
            mailbox: Mailbox::new(),
            generation,
            children: Arc::default(),
            stdout: Output::Discard,
            stderr: Output::Discard,
            resolver: None,
        }
    }

    /// Keeps what children get of what the vat was given.
    pub(super) fn leave(&mut self, world: &World, resolver: Option<&Arc<dyn Resolver>>) {
        self.stdout = world.stdout.clone();
        self.stderr = world.stderr.clone();
        self.resolver = resolver.cloned();
    }
}

/// How many programs that a vat started are not gone yet.
// Not a channel of tokio's, which weighs 350 bytes: every vat has one of these, and few have children.
#[derive(Debug, Default)]
pub(crate) struct Children {
    count: AtomicUsize,
    gone: Notify,
}

impl Children {
    /// Counts one more, until what is returned is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> Place {
        self.count.fetch_add(1, Ordering::AcqRel);
        Place(self.clone())
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Returns when there is none.
    pub(super) async fn gone(&self) {
        loop {
            let mut gone = pin!(self.gone.notified());
            // From here on nothing is missed, so the count is looked at after it.
            gone.as_mut().enable();
            if self.count() == 0 {
                return;
            }
            gone.await;
        }
    }
}

/// One child's place in the count.
#[derive(Debug)]
pub(super) struct Place(Arc<Children>);

impl Drop for Place {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.gone.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn who_waits_for_children_hears_when_the_last_is_gone_and_not_before() {
        let children = Arc::new(Children::default());
        children.gone().await;
        let places = [children.enter(), children.enter()];
        let waits = tokio::spawn({
            let children = children.clone();
            async move { children.gone().await }
        });
        for (place, left) in places.into_iter().zip([1, 0]) {
            tokio::time::sleep(Duration::from_millis(5)).await;
            assert!(!waits.is_finished());
            drop(place);
            assert_eq!(children.count(), left);
        }
        tokio::time::timeout(Duration::from_secs(10), waits)
            .await
            .unwrap()
            .unwrap();
    }
}
