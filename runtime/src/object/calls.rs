//! Calls from other vats, which wait until the implementer serves them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Waker};

use refcap_abi::{ErrorCode, MAX_WAITING_CALLS};
use tokio::sync::{Notify, oneshot};

use super::Message;
use crate::capability::mailbox::lock;
use crate::net::{Ending, Interest, Readiness, Source};

/// The most objects of a vat that nobody holds any more, before it asks for them.
pub(crate) const MAX_FORGOTTEN: usize = 10_000;

/// What came of a call: the implementer's status, and the rest of its answer.
pub(crate) type Reply = (i32, Message);

/// One call from another vat.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) instance: u8,
    pub(crate) number: i32,
    pub(crate) method: i32,
    pub(crate) message: Message,
    /// Whoever waits for the answer is told even when it is dropped.
    pub(crate) answer: oneshot::Sender<Reply>,
}

/// The calls that wait for a vat, and the objects of it that nobody holds any more.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    /// Whom a poller wants woken.
    watcher: Mutex<Option<Waker>>,
}

#[derive(Debug, Default)]
struct Waiting {
    calls: VecDeque<Call>,
    forgotten: VecDeque<(u8, i32)>,
    /// Nobody will serve any more.
    closed: bool,
}

/// Why a call can't wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// There are as many as may wait.
    Full,
    /// The vat has ended.
    Gone,
}

impl Calls {
    /// Leaves a call.
    pub(crate) fn leave(&self, call: Call) -> Result<(), Full> {
        let mut waiting = lock(&self.waiting);
        if waiting.closed {
            return Err(Full::Gone);
        }
        if waiting.calls.len() >= MAX_WAITING_CALLS {
            return Err(Full::Full);
        }
        waiting.calls.push_back(call);
        drop(waiting);
        self.arrived.notify_one();
        self.disturb();
        Ok(())
    }

    /// Waits for the next call whose caller still waits.
    pub(crate) async fn next(&self) -> Call {
        loop {
            if let Some(call) = self.take() {
                return call;
            }
            self.arrived.notified().await;
        }
    }

    /// The next call whose caller still waits, if there is one.
    pub(crate) fn take(&self) -> Option<Call> {
        loop {
            // What was given up is dropped without the lock: it may have objects of this vat.
            let call = lock(&self.waiting).calls.pop_front()?;
            if !call.answer.is_closed() {
                return Some(call);
            }
        }
    }

    /// Removes the calls whose callers do not wait any more, with what is in them.
    pub(crate) fn sweep(&self) {
        let mut waiting = lock(&self.waiting);
        let calls = std::mem::take(&mut waiting.calls);
        let (given_up, left) = calls.into_iter().partition(|call| call.answer.is_closed());
        waiting.calls = left;
        drop(waiting);
        // Without the lock: it may have objects of this vat.
        drop::<VecDeque<Call>>(given_up);
    }

    /// Nobody holds an object any more.
    pub(super) fn forgotten(&self, instance: u8, number: i32) {
        let mut waiting = lock(&self.waiting);
        if !waiting.closed {
            waiting.forgotten.push_back((instance, number));
        }
    }

    /// Whether the vat does not ask for the objects that nobody holds any more.
    pub(crate) fn has_too_many_forgotten(&self) -> bool {
        lock(&self.waiting).forgotten.len() >= MAX_FORGOTTEN
    }

    /// The number of an object of this instance that nobody holds any more, once.
    pub(crate) fn take_forgotten(&self, instance: u8) -> Option<i32> {
        let mut waiting = lock(&self.waiting);
        let place = waiting.forgotten.iter().position(|(of, _)| *of == instance)?;
        waiting.forgotten.remove(place).map(|(_, number)| number)
    }

    /// The vat ends. Whoever waits for an answer hears of it.
    pub(crate) fn close(&self) {
        let left = {
            let mut waiting = lock(&self.waiting);
            waiting.closed = true;
            waiting.forgotten.clear();
            std::mem::take(&mut waiting.calls)
        };
        // Dropped without the lock: what is in them may have objects of this vat.
        drop(left);
    }
}

impl Source for Calls {
    fn poll_ready(&self, _: &mut Context<'_>, interest: Interest) -> Result<Readiness, ErrorCode> {
        // Whoever leaves a call wakes the watcher, which was there before this look.
        let is_there = lock(&self.waiting)
            .calls
            .iter()
            .any(|call| !call.answer.is_closed());
        Ok(match is_there && interest.read {
            true => Readiness::Now(Interest::READ),
            false => Readiness::Later(None),
        })
    }

    fn ending(&self) -> &dyn Ending {
        self
    }
}

impl Ending for Calls {
    /// They are there for as long as the vat, which is who waits for them.
    fn severed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::pending())
    }

    fn watch(&self, watcher: Option<Waker>) {
        *lock(&self.watcher) = watcher;
    }

    fn is_watched(&self) -> bool {
        lock(&self.watcher).is_some()
    }

    fn disturb(&self) {
        let watcher = lock(&self.watcher).clone();
        if let Some(watcher) = watcher {
            watcher.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: i32) -> (Call, oneshot::Receiver<Reply>) {
        let (answer, answered) = oneshot::channel();
        let call = Call {
            instance: 0,
            number,
            method: 0,
            message: Message::default(),
            answer,
        };
        (call, answered)
    }

    #[test]
    fn so_many_calls_wait_and_those_that_nobody_waits_for_make_room() {
        let calls = Calls::default();
        let mut waiting = Vec::new();
        for number in 0..i32::try_from(MAX_WAITING_CALLS).unwrap() {
            let (call, answered) = call(number);
            calls.leave(call).unwrap();
            waiting.push(answered);
        }
        let (more, _answered) = call(-1);
        assert_eq!(calls.leave(more), Err(Full::Full));
        drop(waiting.remove(0));
        calls.sweep();
        drop(waiting.remove(0));
        let (more, mut answered) = call(-2);
        calls.leave(more).unwrap();
        // The first is one whose caller gave up, and is skipped.
        assert_eq!(calls.take().map(|call| call.number), Some(2));
        calls.close();
        let told = answered.try_recv().unwrap_err();
        assert_eq!(told, oneshot::error::TryRecvError::Closed);
        let (more, _answered) = call(-3);
        assert_eq!(calls.leave(more), Err(Full::Gone));
    }

    #[test]
    fn what_nobody_holds_is_told_to_its_instance_once() {
        let calls = Calls::default();
        calls.forgotten(1, 7);
        calls.forgotten(0, 8);
        assert_eq!(calls.take_forgotten(0), Some(8));
        assert_eq!(calls.take_forgotten(0), None);
        assert_eq!(calls.take_forgotten(1), Some(7));
    }
}
