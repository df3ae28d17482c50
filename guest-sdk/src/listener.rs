//! Listening for TCP connections.

use std::net::SocketAddr;
use std::time::Duration;

use refcap_abi::{ADDRESS_LOCAL, ErrorCode, WAIT_READ};

use crate::capability::{capability, sealed::Sealed};
use crate::host::{self, Failure, Slot};
use crate::wait::{self, Timeout};
use crate::{Error, Result, TcpStream};

/// A TCP socket that takes connections, made by [`Net::listen`](crate::Net::listen).
///
/// Peers that the `Net` does not allow are disconnected by the host, and never seen here. Closing a listener
/// leaves the connections that it took; revoking the `Net` ends them too.
///
/// ```no_run
/// # fn example(net: refcap_guest::Net) -> refcap_guest::Result<()> {
/// let listener = net.listen("127.0.0.1:0")?;
/// println!("listening on {}", listener.local_addr()?);
/// for stream in listener.incoming() {
///     let _stream = stream?;
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct TcpListener {
    slot: Slot,
    timeout: Timeout,
}

capability!(TcpListener {
    slot,
    timeout: Timeout::default()
});

impl TcpListener {
    /// Waits for the next connection, and says who it is from.
    pub fn accept(&self) -> Result<(TcpStream, SocketAddr)> {
        let attempt = || host::listener_accept(&self.slot);
        let slot = wait::until_done(&self.slot, WAIT_READ, &self.timeout, "accept", attempt)?;
        let stream = TcpStream::from_slot(slot);
        let peer = stream.peer_addr()?;
        Ok((stream, peer))
    }

    /// Takes the next connection if there is one.
    pub fn try_accept(&self) -> Result<Option<TcpStream>> {
        match host::listener_accept(&self.slot) {
            Ok(slot) => Ok(Some(TcpStream::from_slot(slot))),
            Err(Failure::Host(ErrorCode::WouldBlock)) => Ok(None),
            Err(failure) => Err(Error::last(failure, "accept")),
        }
    }

    /// The connections, one after the other, without end. An error is an item like any other; where it is
    /// [`Revoked`](ErrorCode::Revoked), so will be the next.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// The address that it listens on: with the port that was chosen, if port 0 was asked for.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        wait::address(&self.slot, ADDRESS_LOCAL, "ask for the local address")
    }

    /// Sets how long [`accept`](TcpListener::accept) waits before it fails with `TimedOut`; `None` is for ever.
    /// At first it is.
    ///
    /// # Errors
    ///
    /// [`BadArgument`](ErrorCode::BadArgument) for a time of zero.
    pub fn set_accept_timeout(&self, time: Option<Duration>) -> Result<()> {
        self.timeout.set(time, "set the accept timeout")
    }

    /// How long [`accept`](TcpListener::accept) waits.
    pub fn accept_timeout(&self) -> Option<Duration> {
        self.timeout.get()
    }
}

/// The connections of a listener.
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = Result<TcpStream>;

    fn next(&mut self) -> Option<Result<TcpStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}
