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
    pub(crate) capabilities: Vec<Capability>,
}

impl Outgoing {
    /// Takes it all, as a message.
    pub(crate) fn take(&mut self) -> Message {
        Message {
            bytes: std::mem::take(&mut self.bytes),
            capabilities: self.capabilities.drain(..).map(Some).collect(),
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
