//! Answering calls from other programs while tasks run.

use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use refcap_abi::ErrorCode;

use super::executor::{Executor, running, yield_now};
use crate::{Error, Result, object};

/// Answers calls from other programs to [`Object`](crate::Object)s and [Nets](crate::Net::implemented) of this one, while
/// the other tasks run. It does not end by itself: [`spawn`](super::spawn) it, and it serves until its
/// [`block_on`](super::block_on) ends or it is [aborted](super::JoinHandle::abort).
///
/// What answers a call is a function and no future: while it runs, no task does. It can [`spawn`](super::spawn) one.
///
/// ```no_run
/// use refcap_guest::{Message, Net, Object, Result, Spawner, task};
///
/// refcap_guest::answers_calls!();
///
/// #[refcap_guest::main]
/// fn main(net: Net, spawner: Spawner) -> Result<()> {
///     let clock = Object::new(|_, _| Ok((12, Message::new())))?;
///     let _child = spawner.program("child")?.grant("clock", &clock)?.start()?;
///     task::block_on(async {
///         task::spawn(task::serve());
///         let listener = task::Async::new(net.listen("127.0.0.1:7007")?)?;
///         loop {
///             let (stream, peer) = listener.accept().await?;
///             stream.write_all(format!("hello {peer}").as_bytes()).await?;
///         }
///     })?
/// }
/// ```
///
/// # Errors
///
/// [`BadArgument`](ErrorCode::BadArgument) when another task of this `block_on` serves already, or the calls are in a
/// [`Poller`](crate::Poller) of the program's own. That a call fails is its caller's to hear.
///
/// # Panics
///
/// Outside of [`block_on`](super::block_on), when it is awaited.
pub async fn serve() -> Result<Infallible> {
    let serving = Serving::begin()?;
    loop {
        // The others have their turn after each call, however many there are.
        while object::try_serve()? {
            yield_now().await;
        }
        serving.call().await?;
    }
}

/// The task that serves. There is one: a call is answered once, and so one is woken for it.
struct Serving(Rc<Executor>);

impl Serving {
    fn begin() -> Result<Serving> {
        let executor = running();
        match executor.reactor.begin_serving() {
            true => Ok(Serving(executor)),
            false => Err(Error::new(
                ErrorCode::BadArgument,
                "serve",
                "another task serves already",
            )),
        }
    }

    /// Waits until there may be a call.
    async fn call(&self) -> Result<()> {
        let mut has_waited = false;
        poll_fn(|context| {
            if has_waited {
                return Poll::Ready(Ok(()));
            }
            has_waited = true;
            if !Rc::ptr_eq(&running(), &self.0) {
                // Nobody would ever look whether there is a call.
                let message = "it was begun in another `block_on`";
                return Poll::Ready(Err(Error::new(ErrorCode::BadArgument, "serve", message)));
            }
            match self.0.reactor.wait_for_calls(context.waker()) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            }
        })
        .await
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.reactor.end_serving();
    }
}
