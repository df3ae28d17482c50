//! The calls that a vat is in the middle of answering.

use refcap_abi::MAX_CALL_DEPTH;

use super::Message;
use crate::capability::membrane::Membranes;

/// A call that an instance is in the middle of answering.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    /// The instance that called; `None` when the call is another vat's, or the host's.
    pub(crate) caller: Option<u8>,
    pub(crate) callee: u8,
    /// What the answer crosses on its way back.
    pub(crate) membranes: Membranes,
    /// What the callee had received before, and has again afterwards.
    pub(crate) before: Message,
}

/// The frames, the innermost last.
///
/// They stay where they are and are used again, so that a call fills one in and moves none: reading in one piece what
/// was just written in several makes a processor wait longer than all the rest of a call takes.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    all: Vec<Frame>,
    depth: usize,
}

impl Frames {
    /// Whether there are as many as there may be.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.depth >= MAX_CALL_DEPTH
    }

    /// The instance that answers the innermost call.
    #[inline]
    pub(crate) fn callee(&self) -> Option<usize> {
        let innermost = self.all.get(self.depth.checked_sub(1)?)?;
        Some(innermost.callee.into())
    }

    /// Begins a call. The caller has seen that they are not full.
    #[inline(always)]
    pub(crate) fn begin(&mut self, caller: Option<u8>, callee: u8, membranes: Membranes, before: Message) {
        if self.depth == self.all.len() {
            self.make_one();
        }
        let frame = &mut self.all[self.depth];
        self.depth += 1;
        frame.caller = caller;
        frame.callee = callee;
        frame.membranes = membranes;
        // Nothing is in the way, for whoever ends a call takes this.
        frame.before.put(before);
    }

    #[cold]
    fn make_one(&mut self) {
        self.all.push(Frame::default());
    }

    /// Ends the innermost call. What is in its frame is for the caller to take.
    #[inline]
    pub(crate) fn end(&mut self) -> Option<&mut Frame> {
        self.depth = self.depth.checked_sub(1)?;
        self.all.get_mut(self.depth)
    }
}
