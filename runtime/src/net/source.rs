//! Waiting for a socket.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use refcap_abi::{ErrorCode, WAIT_READ, WAIT_WRITE};

use super::latch::Ending;
use crate::vat::Refusal;

/// What to wait for, and what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Interest {
    pub(crate) const READ: Interest = Interest {
        read: true,
        write: false,
    };
    pub(crate) const WRITE: Interest = Interest {
        read: false,
        write: true,
    };

    /// The interest that a guest names by `WAIT_READ`, `WAIT_WRITE` or both.
    pub(crate) fn from_bits(bits: i32) -> Result<Interest, Refusal> {
        if bits == 0 || bits & !(WAIT_READ | WAIT_WRITE) != 0 {
            let why = format!("{bits} is not an interest: WAIT_READ, WAIT_WRITE or both");
            return Err(Refusal::new(ErrorCode::BadArgument, why));
        }
        Ok(Interest {
            read: bits & WAIT_READ != 0,
            write: bits & WAIT_WRITE != 0,
        })
    }

    pub(crate) fn bits(self) -> i32 {
        i32::from(self.read) * WAIT_READ + i32::from(self.write) * WAIT_WRITE
    }
}

/// Whether a socket can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// In these directions. An error counts as ready: the next use tells what it is.
    Now(Interest),
    /// Not yet. The waker is woken when it may be; and not later than at that time it is worth another look.
    Later(Option<Instant>),
}

impl Readiness {
    /// What two directions come to, each ready, to be looked at by a time, or not.
    pub(super) fn of(read: Option<Readiness>, write: Option<Readiness>) -> Readiness {
        let is_now = |readiness| matches!(readiness, Some(Readiness::Now(_)));
        let now = Interest {
            read: is_now(read),
            write: is_now(write),
        };
        if now.read || now.write {
            return Readiness::Now(now);
        }
        let when = |readiness| match readiness {
            Some(Readiness::Later(when)) => when,
            _ => None,
        };
        Readiness::Later(when(read).into_iter().chain(when(write)).min())
    }
}

/// A socket, as something to wait for.
pub(crate) trait Source: fmt::Debug + Send + Sync {
    /// Whether it can be used now; if not, the waker is woken when that may have changed.
    fn poll_ready(&self, context: &mut Context<'_>, interest: Interest) -> Result<Readiness, ErrorCode>;

    /// Its end, and who is to hear of it.
    fn ending(&self) -> &dyn Ending;
}

/// Waits until the socket can be used, and says how. `Revoked` as soon as it is severed.
pub(crate) async fn wait(
    source: &dyn Source,
    interest: Interest,
    timeout: Option<Duration>,
) -> Result<Interest, ErrorCode> {
    let mut look_again = pin!(tokio::time::sleep(Duration::ZERO));
    // What comes at once, as a connection to this machine does, is not worth a timer: setting one takes a system
    // call of its own.
    let mut at_once = pin!(tokio::task::yield_now());
    let mut may_come_at_once = true;
    let ready = poll_fn(|context| {
        loop {
            return match source.poll_ready(context, interest) {
                Err(code) => Poll::Ready(Err(code)),
                Ok(Readiness::Now(ready)) => Poll::Ready(Ok(ready)),
                Ok(Readiness::Later(None)) => Poll::Pending,
                Ok(Readiness::Later(Some(when))) => {
                    if may_come_at_once && at_once.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    may_come_at_once = false;
                    look_again.as_mut().reset(when.into());
                    if look_again.as_mut().poll(context).is_ready() {
                        continue;
                    }
                    Poll::Pending
                }
            };
        }
    });
    let expired = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let result = tokio::select! {
        biased;
        () = source.ending().severed() => Err(ErrorCode::Revoked),
        ready = ready => ready,
        () = expired => Err(ErrorCode::TimedOut),
    };
    source.ending().disturb();
    result
}
