//! What a child has of its parent's limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Refusal, VatState};
use crate::capability::mailbox::Mailbox;
use crate::limits::{Limits, take_memory};

/// Memory, capabilities and sockets that a parent can't use while its child has them. They come back when this is
/// dropped, so a tree of programs never has more than the first of them was given.
#[derive(Debug)]
pub(super) struct Share {
    lender: Arc<Mailbox>,
    lender_memory: Arc<AtomicUsize>,
    memory: usize,
    capabilities: usize,
    sockets: usize,
}

impl Share {
    /// Takes what `limits` say from what the parent has left. `LimitReached` says of what there is too little.
    pub(super) fn draw(parent: &VatState, limits: &Limits) -> Result<Share, Refusal> {
        let &Limits {
            memory,
            capabilities,
            sockets,
            ..
        } = limits;
        let lender = parent.mailbox.clone();
        let lent = lender.lent();
        // One thread takes from these, the one that runs the parent, and it is here; others only give back.
        let held = parent.table.len().max(lender.capabilities()) + lent.capabilities();
        has(
            capabilities,
            parent.limits.capabilities.saturating_sub(held),
            "capabilities",
        )?;
        let open = lender.sockets() + lent.sockets();
        has(sockets, parent.limits.sockets.saturating_sub(open), "sockets")?;
        let lender_memory = parent.meter.memory().clone();
        while !take_memory(&lender_memory, memory) {
            // Some may have come back in between.
            has(memory, lender_memory.load(Ordering::Relaxed), "bytes of memory")?;
        }
        lent.lend(capabilities, sockets);
        Ok(Share {
            lender,
            lender_memory,
            memory,
            capabilities,
            sockets,
        })
    }
}

fn has(wanted: usize, left: usize, what: &str) -> Result<(), Refusal> {
    if wanted <= left {
        return Ok(());
    }
    let why = format!("the child is to have {wanted} {what}, and of this program's {left} are left");
    Err(Refusal::new(refcap_abi::ErrorCode::LimitReached, why))
}

impl Drop for Share {
    fn drop(&mut self) {
        self.lender.lent().take_back(self.capabilities, self.sockets);
        self.lender_memory.fetch_add(self.memory, Ordering::Relaxed);
    }
}
