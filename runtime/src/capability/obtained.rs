//! Sockets and Names that the host did not open itself: a program gave them, who implements a Net.
//!
//! Such a socket is in two lineages. It is below the Net through which its holder asked for it, and it stays where it
//! was below the Net with which it was opened. Whoever revokes above it in either lineage severs its door; no lock
//! of one lineage is taken under that of another.

use std::sync::Arc;

use refcap_authority::{Authority, Query};

use super::Capability;
use super::lineage::Sever;
use super::object::Object;
use crate::budget::Account;

/// Where such a socket comes from.
#[derive(Debug)]
pub(crate) struct Obtained {
    /// What it was before, held for as long as the socket is.
    _source: Capability,
    /// What the holder asked for.
    asked: Query,
    /// The budget that it draws on: that of the Net with which it was opened.
    account: Option<Arc<Account>>,
}

impl Obtained {
    pub(crate) fn from(source: Capability, asked: Query) -> Arc<Obtained> {
        let rights = source.tree().rights(source.node()).and_then(|(rights, _)| rights);
        Arc::new(Obtained {
            account: rights.and_then(|rights| rights.conditions.account.clone()),
            asked,
            _source: source,
        })
    }

    pub(super) fn account(&self) -> Option<&Arc<Account>> {
        self.account.as_ref()
    }

    /// Takes authority away from the socket. Returns whether it may go on.
    pub(crate) fn restrict(&self, object: &Object, authority: &Authority) -> bool {
        self.sever(object).is_none_or(|socket| socket.restrict(authority))
    }

    /// What must end with the holder's capability.
    pub(super) fn sever(&self, object: &Object) -> Option<Arc<dyn Sever>> {
        let borrowed = Borrowed {
            door: object.sever()?,
            // What a connection is really connected to is the giver's affair. All others show their real addresses.
            asked: matches!(object, Object::TcpStream(_)).then(|| self.asked.clone()),
        };
        Some(Arc::new(borrowed))
    }
}

/// A door that its holder did not open.
#[derive(Debug)]
struct Borrowed {
    door: Arc<dyn Sever>,
    asked: Option<Query>,
}

impl Sever for Borrowed {
    fn sever(&self) {
        self.door.sever();
    }

    fn restrict(&self, authority: &Authority) -> bool {
        match &self.asked {
            Some(asked) => authority.allows(asked),
            None => self.door.restrict(authority),
        }
    }
}
