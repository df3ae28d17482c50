//! Waiting for a time.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use refcap_abi::ErrorCode;

use super::executor::{Executor, running};
use super::reactor::{Timer, now};
use crate::{Error, Result};

/// Waits for a time: not less, and on a busy machine more.
///
/// # Errors
///
/// None but those of a host that does not tell the time.
///
/// # Panics
///
/// Outside of [`block_on`](super::block_on), when it is awaited.
pub async fn sleep(time: Duration) -> Result<()> {
    if time.is_zero() {
        return Ok(());
    }
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let until = now()?.saturating_add(nanos);
    Sleep { until, timer: None }.await
}

/// Waits for a future, and no longer than a time.
///
/// # Errors
///
/// [`TimedOut`](ErrorCode::TimedOut) when the future was not done in time; it is dropped then.
///
/// # Panics
///
/// Outside of [`block_on`](super::block_on), when it is awaited.
pub async fn timeout<T>(time: Duration, future: impl Future<Output = T>) -> Result<T> {
    let mut future = pin!(future);
    let mut expired = pin!(sleep(time));
    std::future::poll_fn(|context| {
        if let Poll::Ready(value) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(value));
        }
        expired.as_mut().poll(context).map(|slept| {
            slept.and(Err(Error::new(
                ErrorCode::TimedOut,
                "wait",
                format!("not done within {time:?}"),
            )))
        })
    })
    .await
}

struct Sleep {
    until: u64,
    timer: Option<(Rc<Executor>, Timer)>,
}

impl Sleep {
    fn cancel(&mut self) {
        if let Some((executor, timer)) = self.timer.take() {
            executor.reactor.forget_timer(timer);
        }
    }
}

impl Future for Sleep {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let executor = running();
        // The reactor looks at the clock once for all, and a time that has come it has forgotten.
        match &self.timer {
            Some((own, timer)) if Rc::ptr_eq(own, &executor) => {
                if !own.reactor.rewake(*timer, context.waker()) {
                    return Poll::Ready(Ok(()));
                }
            }
            _ => {
                self.cancel();
                let timer = executor.reactor.wake_at(self.until, context.waker());
                self.timer = Some((executor, timer));
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}
