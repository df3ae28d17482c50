//! Waiting for many sockets at once.

use std::time::Duration;

use refcap_abi::{EVENT_BYTES, ErrorCode, NO_WAIT, READY_ENDED, WAIT_READ, WAIT_WRITE};

use crate::capability::{Capability, capability};
use crate::host::{self, Failure, Slot};
use crate::net::milliseconds;
use crate::{Error, Result, TcpListener, TcpStream, UdpSocket};

/// A set of sockets, each under a number, of which it tells which are ready.
///
/// One wait costs as much as there are sockets that have something, not as there are sockets.
///
/// ```no_run
/// # fn example(net: refcap_guest::Net) -> refcap_guest::Result<()> {
/// use refcap_guest::{Interest, Poller};
///
/// let poller = Poller::new()?;
/// let listener = net.listen("127.0.0.1:8080")?;
/// poller.add(&listener, 0, Interest::READ)?;
/// let mut events = Vec::new();
/// loop {
///     poller.wait(&mut events, None)?;
///     for event in &events {
///         // 0 is the listener: there is somebody to accept.
///         println!("{event:?}");
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Poller {
    slot: Slot,
}

capability!(Poller { slot });

/// A socket that a [`Poller`] can wait for.
pub trait Pollable: Capability {}

impl Pollable for TcpListener {}
impl Pollable for TcpStream {}
impl Pollable for UdpSocket {}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest(i32);

impl Interest {
    /// Until there is something to read, to receive or to accept.
    pub const READ: Interest = Interest(WAIT_READ);
    /// Until there is room to write or send.
    pub const WRITE: Interest = Interest(WAIT_WRITE);
    /// Until there is one or the other.
    pub const BOTH: Interest = Interest(WAIT_READ | WAIT_WRITE);
}

/// What a socket is ready for. It is a hint: trying may still say that it would block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The number that the socket was added under, or the calls.
    pub token: u32,
    /// There is something to read, to receive, to accept or to serve, or an error to be told.
    pub readable: bool,
    /// There is room to write or send, or an error to be told.
    pub writable: bool,
    /// The socket was closed or revoked. The poller has forgotten it.
    pub ended: bool,
}

/// The most events of one wait.
const MOST_EVENTS: usize = 256;

impl Poller {
    /// An empty set.
    pub fn new() -> Result<Poller> {
        let slot = host::poller_new().map_err(|failure| Error::last(failure, "make a poller"))?;
        Ok(Poller { slot })
    }

    /// Adds a socket under a number, or changes what to wait for if it is in this poller under that number.
    /// A socket can be in one poller only.
    pub fn add(&self, socket: &impl Pollable, token: u32, interest: Interest) -> Result<()> {
        host::poller_add(&self.slot, socket.slot(), token, interest.0)
            .map_err(|failure| Error::last(failure, "add to a poller"))?;
        Ok(())
    }

    /// Adds the calls from other programs to [`Object`](crate::Object)s and Nets of this one, under a number: while one waits, an
    /// event tells that the number is readable, and [`object::try_serve`](crate::object::try_serve) answers it.
    /// [`remove`](Poller::remove) takes them out again.
    ///
    /// ```no_run
    /// # fn example(net: refcap_guest::Net) -> refcap_guest::Result<()> {
    /// use refcap_guest::{Interest, Poller, object};
    ///
    /// const LISTENER: u32 = 0;
    /// const CALLS: u32 = 1;
    ///
    /// let poller = Poller::new()?;
    /// let listener = net.listen("127.0.0.1:8080")?;
    /// poller.add(&listener, LISTENER, Interest::READ)?;
    /// poller.add_calls(CALLS)?;
    /// let mut events = Vec::new();
    /// loop {
    ///     poller.wait(&mut events, None)?;
    ///     for event in &events {
    ///         match event.token {
    ///             CALLS => drop(object::try_serve()?),
    ///             _ => drop(listener.try_accept()?),
    ///         }
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// A program that uses [`task`](crate::task) has [`task::serve`](crate::task::serve) for this.
    ///
    /// # Errors
    ///
    /// [`BadArgument`](ErrorCode::BadArgument) when the number is a socket's, or the calls are in another poller.
    pub fn add_calls(&self, token: u32) -> Result<()> {
        host::poller_add_calls(&self.slot, token)
            .map_err(|failure| Error::last(failure, "add calls to a poller"))?;
        Ok(())
    }

    /// Removes the socket of that number, or the calls, and says whether there was one.
    pub fn remove(&self, token: u32) -> Result<bool> {
        let was_there = host::poller_remove(&self.slot, token)
            .map_err(|failure| Error::last(failure, "remove from a poller"))?;
        Ok(was_there != 0)
    }

    /// Waits until a socket is ready or the time has passed, puts what is ready into `events` in place of
    /// what was there, and returns how many there are: 0 when the time has passed. Without a time it waits
    /// for ever; with a time of zero it does not wait.
    ///
    /// What is still ready is told again by the next wait.
    pub fn wait(&self, events: &mut Vec<Event>, timeout: Option<Duration>) -> Result<usize> {
        events.clear();
        let timeout = match timeout {
            None => 0,
            Some(Duration::ZERO) => NO_WAIT.cast_unsigned(),
            Some(time) => milliseconds(time, "wait")?,
        };
        let mut buffer = [0; MOST_EVENTS * EVENT_BYTES];
        let count = match host::poller_wait(&self.slot, &mut buffer, timeout) {
            Ok(count) => count as usize,
            Err(Failure::Host(ErrorCode::TimedOut)) => return Ok(0),
            Err(failure) => return Err(Error::last(failure, "wait")),
        };
        let (chunks, _) = buffer.as_chunks::<EVENT_BYTES>();
        events.extend(chunks.iter().take(count).map(|bytes| {
            let [a, b, c, d, ready, ..] = *bytes;
            let is = |flag: i32| i32::from(ready) & flag != 0;
            Event {
                token: u32::from_le_bytes([a, b, c, d]),
                readable: is(WAIT_READ),
                writable: is(WAIT_WRITE),
                ended: is(READY_ENDED),
            }
        }));
        Ok(events.len())
    }
}
