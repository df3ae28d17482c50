//! What goes to an object and back: bytes, and capabilities on their way.

use crate::capability::Capability;

/// Bytes and capabilities, one way.
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    /// Each until it is taken.
    pub(crate) capabilities: Vec<Option<Capability>>,
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
    /// What the callee had received before, and has again afterwards.
    pub(crate) before: Message,
}
