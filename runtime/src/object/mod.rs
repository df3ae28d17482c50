//! Capabilities that guests implement: who implements one, and how calls get there.
//!
//! An [`Implementer`] is a number in one instance of one vat. A holder in the same vat calls it by way of the
//! switchboard, from wasm to wasm. A holder in another vat leaves a call in the implementer's [`Calls`] and waits for
//! the answer; the implementer answers when it serves.

mod calls;
mod frames;
mod message;

use std::sync::{Arc, Weak};

use refcap_authority::Authority;
use tokio::sync::watch;

use crate::capability::lineage::Sever;
use crate::capability::mailbox::Mailbox;
use crate::capability::membrane::{Membranes, TooMany};

pub(crate) use calls::{Call, Calls, Full, MAX_FORGOTTEN, Reply};
pub(crate) use frames::Frames;
pub(crate) use message::{Message, Spare};

/// Which object: the number of the vat that implements it, which of its instances does, and the number that this one
/// knows it by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address {
    vat: u64,
    pub(crate) instance: u8,
    pub(crate) number: i32,
}

impl Address {
    /// Whether it is in that vat.
    #[inline]
    pub(crate) fn is_in(&self, vat: &Mailbox) -> bool {
        self.vat == vat.vat()
    }
}

/// What an object is, for as long as somebody holds it.
#[derive(Debug)]
pub(crate) struct Implementer {
    /// Not a strong link: an object does not keep a vat's mailbox that could hold calls with that very object.
    vat: Weak<Mailbox>,
    address: Address,
}

impl Implementer {
    pub(crate) fn new(vat: &Arc<Mailbox>, instance: u8, number: i32) -> Arc<Implementer> {
        let address = Address {
            vat: vat.vat(),
            instance,
            number,
        };
        Arc::new(Implementer {
            vat: Arc::downgrade(vat),
            address,
        })
    }

    /// The vat that implements it, unless that is gone.
    pub(crate) fn vat(&self) -> Option<Arc<Mailbox>> {
        self.vat.upgrade()
    }
}

impl Drop for Implementer {
    fn drop(&mut self) {
        if let Some(vat) = self.vat.upgrade() {
            vat.calls().forgotten(self.address.instance, self.address.number);
        }
    }
}

/// One holder's way to an object. It is cut when that holder's capability ends, and no other's.
#[derive(Debug)]
pub(crate) struct Line {
    /// The implementer's, so that a call in the same vat need not look there.
    address: Address,
    implementer: Arc<Implementer>,
    /// What goes along with a call, and what comes back, crosses these.
    membranes: Membranes,
    cut: watch::Sender<bool>,
}

impl Line {
    pub(crate) fn to(implementer: Arc<Implementer>) -> Arc<Line> {
        Line::through(implementer, Membranes::default())
    }

    fn through(implementer: Arc<Implementer>, membranes: Membranes) -> Arc<Line> {
        Arc::new(Line {
            address: implementer.address,
            implementer,
            membranes,
            cut: watch::Sender::new(false),
        })
    }

    /// The same for one more holder.
    pub(crate) fn for_another(&self) -> Arc<Line> {
        Line::through(self.implementer.clone(), self.membranes.clone())
    }

    /// The same for a holder on the other side of these membranes.
    pub(crate) fn behind(&self, membranes: &Membranes) -> Result<Arc<Line>, TooMany> {
        let membranes = self.membranes.and(membranes)?;
        Ok(Line::through(self.implementer.clone(), membranes))
    }

    /// Which object it leads to.
    #[inline]
    pub(crate) fn address(&self) -> Address {
        self.address
    }

    pub(crate) fn membranes(&self) -> &Membranes {
        &self.membranes
    }

    pub(crate) fn implementer(&self) -> &Arc<Implementer> {
        &self.implementer
    }

    /// Returns when it is cut.
    pub(crate) async fn severed(&self) {
        // Whoever could cut it is `self`.
        let _ = self.cut.subscribe().wait_for(|&cut| cut).await;
    }
}

impl Sever for Line {
    fn sever(&self) {
        self.cut.send_replace(true);
    }

    fn restrict(&self, _: &Authority) -> bool {
        true
    }
}
