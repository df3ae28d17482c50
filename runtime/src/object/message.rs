//! What goes to an object and back: bytes, and capabilities on their way.

use crate::capability::Capability;
use crate::capability::NotEnclosed;
use crate::capability::membrane::Membranes;

/// Bytes and capabilities, one way.
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    /// Each until it is taken.
    pub(crate) capabilities: Vec<Option<Capability>>,
}

impl Message {
    /// Takes what is in it across membranes. What can't cross ends here, and with it the message.
    pub(crate) fn cross(&mut self, membranes: &Membranes) -> Result<(), NotEnclosed> {
        if membranes.is_empty() {
            return Ok(());
        }
        self.capabilities
            .iter_mut()
            .flatten()
            .try_for_each(|capability| capability.enclose(membranes))
    }
}

/// What an instance is about to send: with its next call, or with its answer.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) bytes: Vec<u8>,
    /// As a message has them, each of them there.
    pub(crate) capabilities: Vec<Option<Capability>>,
}

impl Outgoing {
    /// The longest buffer that is kept for the next message.
    const KEPT: usize = 4096;

    /// Takes it all, as a message.
    #[inline]
    pub(crate) fn take(&mut self) -> Message {
        Message {
            bytes: std::mem::take(&mut self.bytes),
            capabilities: std::mem::take(&mut self.capabilities),
        }
    }

    /// Keeps the buffer of a message that was received for the next one that is sent, so that a call of some bytes
    /// allocates nothing.
    #[inline]
    pub(crate) fn reuse(&mut self, mut spent: Message) {
        if self.bytes.capacity() == 0 && spent.bytes.capacity() <= Self::KEPT {
            spent.bytes.clear();
            self.bytes = spent.bytes;
        }
    }
}

/// A call that an instance is in the middle of answering.
#[derive(Debug)]
pub(crate) struct Frame {
    /// The instance that called; `None` when the call is another vat's.
    pub(crate) caller: Option<u8>,
    pub(crate) callee: u8,
    /// What the answer crosses on its way back.
    pub(crate) membranes: Membranes,
    /// What the callee had received before, and has again afterwards.
    pub(crate) before: Message,
}
