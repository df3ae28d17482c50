//! What an open socket costs its vat and its capability.

use std::sync::Arc;

use crate::budget::{Account, SocketShare};
use crate::capability::mailbox::SocketPermit;
use crate::guard::{Guards, Open};

/// The right to have one socket open, from the vat's limit and from the capability's budget. Both come back
/// when it is dropped, which is when the socket is closed.
#[derive(Debug)]
pub(crate) struct Permit {
    _vat: SocketPermit,
    _share: Option<SocketShare>,
    account: Option<Arc<Account>>,
    /// Where its guards count it.
    _open: Option<Open>,
}

impl Permit {
    pub(crate) fn new(vat: SocketPermit, share: Option<SocketShare>, account: Option<Arc<Account>>) -> Self {
        Permit {
            _vat: vat,
            _share: share,
            account,
            _open: None,
        }
    }

    /// The same, counted by the guards that have let the socket through.
    pub(super) fn counted_by(self, guards: &Guards) -> Permit {
        Permit {
            _open: Some(guards.count()),
            ..self
        }
    }

    /// The budget that the socket's bytes are taken from.
    pub(super) fn account(&self) -> Option<&Arc<Account>> {
        self.account.as_ref()
    }

    #[cfg(test)]
    pub(super) fn for_tests(account: Option<Arc<Account>>) -> Permit {
        let mailbox = crate::capability::mailbox::Mailbox::new();
        let vat = SocketPermit::take(&mailbox, 1).expect("there is one");
        Permit::new(vat, None, account)
    }
}
