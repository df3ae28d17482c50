//! What an open socket costs its vat and its capability.

use std::sync::Arc;

use crate::budget::{Account, SocketShare};
use crate::capability::mailbox::SocketPermit;

/// The right to have one socket open, from the vat's limit and from the capability's budget. Both come back
/// when it is dropped, which is when the socket is closed.
#[derive(Debug)]
pub(crate) struct Permit {
    _vat: SocketPermit,
    _share: Option<SocketShare>,
    account: Option<Arc<Account>>,
}

impl Permit {
    pub(crate) fn new(vat: SocketPermit, share: Option<SocketShare>, account: Option<Arc<Account>>) -> Self {
        Permit {
            _vat: vat,
            _share: share,
            account,
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
