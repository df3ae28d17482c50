//! Where a vat stands among vats: who is above it, and which are below.

use std::sync::Arc;

use tokio::sync::watch;

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
#[derive(Debug, Default)]
pub(crate) struct Children {
    count: watch::Sender<usize>,
}

impl Children {
    /// Counts one more, until what is returned is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> Place {
        self.count.send_modify(|count| *count += 1);
        Place(self.clone())
    }

    pub(super) fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Returns when there is none.
    pub(super) async fn gone(&self) {
        // An error would say that nobody counts any more, and `self` does.
        let _ = self.count.subscribe().wait_for(|&count| count == 0).await;
    }
}

/// One child's place in the count.
#[derive(Debug)]
pub(super) struct Place(Arc<Children>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.count.send_modify(|count| *count -= 1);
    }
}
