//! What a revocation has to tell others: the vats that lost something, and the sockets that end.

use std::sync::Arc;

use super::entry::Entry;
use super::id::{Key, Keys};
use super::lineage::Sever;
use super::mailbox::Mailbox;
use super::nodes::Nodes;

/// What has fallen.
#[derive(Debug, Default)]
pub(super) struct Fallen {
    /// How many of them somebody held.
    pub(super) held: usize,
    /// What each vat has lost.
    pub(super) letters: Vec<(Arc<Mailbox>, Lost)>,
    pub(super) sockets: Vec<Arc<dyn Sever>>,
}

/// What a vat has lost.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The capabilities of these entries.
    These(Keys<Entry>),
    /// A whole lineage, in which no other vat had anything. The vat takes it apart in its own time: who revokes does
    /// not pay for how much a guest has derived.
    All(Box<Nodes>),
}

impl Lost {
    pub(super) fn for_each(self, lose: impl FnMut(Key<Entry>)) {
        match self {
            Lost::These(entries) => entries.iter().for_each(lose),
            Lost::All(nodes) => nodes.entries().for_each(lose),
        }
    }
}
