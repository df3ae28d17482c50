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

    /// Whether what it was last used for came in quantity, so that more of it is on its way.
    fn is_flowing(&self) -> bool {
        false
    }

    /// Its end, and who is to hear of it.
    fn ending(&self) -> &dyn Ending;
}

/// Waits until the socket can be used, and says how. `Revoked` as soon as it is severed.
pub(crate) async fn wait(
    source: &dyn Source,
    interest: Interest,
    timeout: Option<Duration>,
) -> Result<Interest, ErrorCode> {
    let result = match soon(source, interest).await {
        Ok(Some(ready)) => Ok(ready),
        Ok(None) => asleep(source, interest, timeout).await,
        Err(code) => Err(code),
    };
    source.ending().disturb();
    result
}

/// The same, with nothing to do until then.
async fn asleep(
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
    tokio::select! {
        biased;
        () = source.ending().severed() => Err(ErrorCode::Revoked),
        ready = ready => ready,
        () = expired => Err(ErrorCode::TimedOut),
    }
}

/// Looks for what is on its way, if something is, without going to sleep, for a short time. A sleeper must be woken, for
/// which the sender pays: one who reads faster than the other end writes would have it wake the reader for every piece.
///
/// Between two looks everybody else has a turn, so that with much to do there are few looks.
async fn soon(source: &dyn Source, interest: Interest) -> Result<Option<Interest>, ErrorCode> {
    /// About as long as it takes to be woken.
    const SHORT: Duration = Duration::from_micros(20);
    if interest != Interest::READ || !source.is_flowing() {
        return Ok(None);
    }
    let begun = Instant::now();
    loop {
        let look = poll_fn(|context| Poll::Ready(source.poll_ready(context, interest)));
        if let Readiness::Now(ready) = look.await? {
            return Ok(Some(ready));
        }
        if begun.elapsed() >= SHORT {
            return Ok(None);
        }
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::task::Wake;

    use super::super::latch::Latch;
    use super::*;

    /// What can be read from the second look on, of which it tells nobody.
    struct Silent {
        is_flowing: bool,
        looks: AtomicUsize,
        latch: Latch<()>,
    }

    impl fmt::Debug for Silent {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Silent")
        }
    }

    impl Source for Silent {
        fn poll_ready(&self, _: &mut Context<'_>, _: Interest) -> Result<Readiness, ErrorCode> {
            self.latch
                .with(|()| match self.looks.fetch_add(1, Ordering::Relaxed) {
                    0 => Readiness::Later(None),
                    _ => Readiness::Now(Interest::READ),
                })
        }

        fn is_flowing(&self) -> bool {
            self.is_flowing
        }

        fn ending(&self) -> &dyn Ending {
            &self.latch
        }
    }

    /// Whether it was woken.
    struct Bell(AtomicBool);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    // To sleep at once made the sender of much wake the reader for every piece: a third of the throughput was lost.
    #[tokio::test]
    async fn what_flows_is_looked_for_again_before_anybody_sleeps() {
        for (is_flowing, interest, looks_again) in [
            (true, Interest::READ, true),
            (true, Interest::WRITE, false),
            (false, Interest::READ, false),
        ] {
            let source = Silent {
                is_flowing,
                looks: AtomicUsize::new(0),
                latch: Latch::new(()),
            };
            let bell = Arc::new(Bell(AtomicBool::new(false)));
            let waiting = pin!(wait(&source, interest, None));
            let looked = waiting.poll(&mut Context::from_waker(&bell.clone().into()));
            // Those who have let others go first are woken now.
            tokio::task::yield_now().await;
            // On a slow machine the short time can be over after one look.
            let has_looked_again = looked.is_ready() || bell.0.load(Ordering::Relaxed);
            assert_eq!(has_looked_again, looks_again, "{is_flowing} {interest:?}");
        }
    }

    #[tokio::test]
    async fn what_is_severed_is_not_looked_for() {
        let source = Silent {
            is_flowing: true,
            looks: AtomicUsize::new(0),
            latch: Latch::new(()),
        };
        source.latch.sever();
        for interest in [Interest::READ, Interest::WRITE] {
            let found = wait(&source, interest, None).await;
            assert_eq!(found, Err(ErrorCode::Revoked), "{interest:?}");
        }
        assert_eq!(source.looks.into_inner(), 0);
    }
}
