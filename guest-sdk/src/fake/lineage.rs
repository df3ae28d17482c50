//! Who was derived from whom, as far as revoking needs it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Something that ends with its capability.
pub(super) trait End: std::fmt::Debug + Send + Sync {
    fn end(&self);
}

/// A capability's place in the tree of derivations.
#[derive(Debug)]
pub(super) struct Lineage {
    state: Mutex<State>,
    /// The socket to end when this capability ends.
    socket: Option<Arc<dyn End>>,
    /// Kept, so that what was derived from a capability is found also after that was closed.
    _parent: Option<Arc<Lineage>>,
}

#[derive(Debug)]
struct State {
    revoked: bool,
    /// Whether the capability still has its owner.
    open: bool,
    children: Vec<Weak<Lineage>>,
    /// Those besides its parent that it ends with, kept for the same reason.
    adopted_by: Vec<Arc<Lineage>>,
}

impl Lineage {
    pub(super) fn root() -> Arc<Lineage> {
        Lineage::new(None, None)
    }

    /// The lineage of a socket that was derived from nothing.
    pub(super) fn of_socket(socket: Arc<dyn End>) -> Arc<Lineage> {
        Lineage::new(Some(socket), None)
    }

    /// The lineage of something derived from this or obtained through it, unless this was revoked.
    pub(super) fn child(self: &Arc<Lineage>, socket: Option<Arc<dyn End>>) -> Option<Arc<Lineage>> {
        // Locked from the check on: a child is seen by `revoke`, or is not made.
        let mut state = self.state();
        if state.revoked {
            return None;
        }
        let child = Lineage::new(socket, Some(Arc::clone(self)));
        state.children.retain(|child| child.strong_count() > 0);
        state.children.push(Arc::downgrade(&child));
        Some(child)
    }

    /// Lets something else end with this too, unless this was revoked. Returns whether it was not.
    pub(super) fn adopt(self: &Arc<Lineage>, other: &Arc<Lineage>) -> bool {
        let mut state = self.state();
        if !state.revoked {
            state.children.push(Arc::downgrade(other));
            other.state().adopted_by.push(Arc::clone(self));
        }
        !state.revoked
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.state().revoked
    }

    /// Whether it was revoked or given up.
    pub(super) fn is_ended(&self) -> bool {
        let state = self.state();
        state.revoked || !state.open
    }

    /// The owner gave it up.
    pub(super) fn close(&self) {
        self.state().open = false;
        // What was obtained through it keeps this place, but not the socket.
        if let Some(socket) = &self.socket {
            socket.end();
        }
    }

    /// Ends this and everything below, and returns how many capabilities that were.
    pub(super) fn revoke(&self) -> u32 {
        let mut state = self.state();
        let ended = u32::from(state.open && !state.revoked);
        state.revoked = true;
        if let Some(socket) = &self.socket {
            socket.end();
        }
        let children = state.children.iter().filter_map(Weak::upgrade);
        ended + children.map(|child| child.revoke()).sum::<u32>()
    }

    fn new(socket: Option<Arc<dyn End>>, parent: Option<Arc<Lineage>>) -> Arc<Lineage> {
        let state = State {
            revoked: false,
            open: true,
            children: Vec::new(),
            adopted_by: Vec::new(),
        };
        Arc::new(Lineage {
            state: Mutex::new(state),
            socket,
            _parent: parent,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code can panic while it changes the state halfway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
