//! TCP connections.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use refcap_abi::{
    ADDRESS_LOCAL, ADDRESS_PEER, ErrorCode, SHUTDOWN_BOTH, SHUTDOWN_READ, SHUTDOWN_WRITE, WAIT_READ,
    WAIT_WRITE,
};

use crate::capability::{capability, sealed::Sealed};
use crate::host::{self, Failure, Slot};
use crate::wait::{self, Timeout};
use crate::{Error, Result};

/// A TCP connection, made by [`Net::connect`](crate::Net::connect) or
/// [`Name::connect`](crate::Name::connect), or taken by [`TcpListener::accept`](crate::TcpListener::accept).
///
/// It is read and written like a `std::net::TcpStream`, also through a shared reference. It is closed
/// when it is dropped, and ends when the `Net` that it was made with is revoked, also in the middle of a
/// read or write.
#[derive(Debug)]
pub struct TcpStream {
    slot: Slot,
    read_timeout: Timeout,
    write_timeout: Timeout,
}

capability!(TcpStream {
    slot,
    read_timeout: Timeout::default(),
    write_timeout: Timeout::default()
});

impl TcpStream {
    /// Makes two streams that are connected to each other: what is written to one is read from the other. No network is
    /// involved, and no capability is needed, for a pair reaches nobody but who is given an end of it. Their addresses are
    /// `0.0.0.0:0`.
    ///
    /// A [`Network`](crate::Network) can answer by itself with one; a parent and a [`Child`](crate::Child) can talk by one.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use refcap_guest::TcpStream;
    ///
    /// let (mut here, mut there) = TcpStream::pair()?;
    /// here.write_all(b"hello")?;
    /// drop(here);
    /// let mut heard = String::new();
    /// there.read_to_string(&mut heard)?;
    /// assert_eq!(heard, "hello");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`LimitReached`](refcap_abi::ErrorCode::LimitReached) when this program has as many sockets as it may have, of which
    /// a pair is two; [`Io`](refcap_abi::ErrorCode::Io) when the host has no room.
    pub fn pair() -> Result<(TcpStream, TcpStream)> {
        let (first, second) =
            host::stream_pair().map_err(|failure| Error::last(failure, "make a pair of streams"))?;
        Ok((TcpStream::from_slot(first), TcpStream::from_slot(second)))
    }

    /// Ends one direction or both. Ending writes tells the peer that nothing more comes.
    pub fn shutdown(&self, how: Shutdown) -> Result<()> {
        let how = match how {
            Shutdown::Read => SHUTDOWN_READ,
            Shutdown::Write => SHUTDOWN_WRITE,
            Shutdown::Both => SHUTDOWN_BOTH,
        };
        host::stream_shutdown(&self.slot, how).map_err(|failure| Error::last(failure, "shut down"))?;
        Ok(())
    }

    /// The address of the other end.
    pub fn peer_addr(&self) -> Result<SocketAddr> {
        wait::address(&self.slot, ADDRESS_PEER, "ask for the peer's address")
    }

    /// The address of this end.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        wait::address(&self.slot, ADDRESS_LOCAL, "ask for the local address")
    }

    /// Sets how long a read waits before it fails with `TimedOut`; `None` is for ever. At first it is.
    ///
    /// # Errors
    ///
    /// [`BadArgument`](refcap_abi::ErrorCode::BadArgument) for a time of zero.
    pub fn set_read_timeout(&self, time: Option<Duration>) -> Result<()> {
        self.read_timeout.set(time, "set the read timeout")
    }

    /// Sets how long a write waits before it fails with `TimedOut`; `None` is for ever. At first it is.
    ///
    /// # Errors
    ///
    /// [`BadArgument`](refcap_abi::ErrorCode::BadArgument) for a time of zero.
    pub fn set_write_timeout(&self, time: Option<Duration>) -> Result<()> {
        self.write_timeout.set(time, "set the write timeout")
    }

    /// How long a read waits.
    pub fn read_timeout(&self) -> Option<Duration> {
        self.read_timeout.get()
    }

    /// How long a write waits.
    pub fn write_timeout(&self) -> Option<Duration> {
        self.write_timeout.get()
    }

    /// Reads what has arrived, without waiting.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](refcap_abi::ErrorCode::WouldBlock) when that is nothing, or when others must have their
    /// turn first. A [`Poller`](crate::Poller) waits for it.
    pub fn try_read(&self, buffer: &mut [u8]) -> Result<usize> {
        let length = buffer.len().min(MAX_TRANSFER);
        let read = host::stream_read(&self.slot, &mut buffer[..length])
            .map_err(|failure| Error::last(failure, "read"))?;
        Ok(read as usize)
    }

    /// Writes what the host takes, without waiting.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](refcap_abi::ErrorCode::WouldBlock) when that is nothing, or when others must have their
    /// turn first.
    pub fn try_write(&self, data: &[u8]) -> Result<usize> {
        let data = &data[..data.len().min(MAX_TRANSFER)];
        let written =
            host::stream_write(&self.slot, data).map_err(|failure| Error::last(failure, "write"))?;
        Ok(written as usize)
    }

    /// Reads what has arrived into several buffers, one after the other, without waiting.
    ///
    /// One call fills at most 16 of them that are not empty ([`MAX_PIECES`](refcap_abi::MAX_PIECES)).
    ///
    /// # Errors
    ///
    /// As [`try_read`](TcpStream::try_read).
    pub fn try_read_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> Result<usize> {
        let read = host::stream_read_vectored(&self.slot, buffers)
            .map_err(|failure| Error::last(failure, "read"))?;
        Ok(read as usize)
    }

    /// Writes what the host takes of several pieces, one after the other, without waiting.
    ///
    /// One call sends at most 16 of them that are not empty ([`MAX_PIECES`](refcap_abi::MAX_PIECES)).
    ///
    /// # Errors
    ///
    /// As [`try_write`](TcpStream::try_write).
    pub fn try_write_vectored(&self, data: &[IoSlice<'_>]) -> Result<usize> {
        let written =
            host::stream_write_vectored(&self.slot, data).map_err(|failure| Error::last(failure, "write"))?;
        Ok(written as usize)
    }

    /// Moves up to `most` bytes that have arrived here to another stream, inside the host: they don't pass
    /// through this program's memory. Waits until there are some and the other stream takes them, for as long
    /// as a read of this one and a write of the other one may. Returns how many were moved; 0 is the end of this
    /// stream.
    ///
    /// What the other stream does not take is still here to be read.
    ///
    /// ```no_run
    /// use refcap_guest::{Result, TcpStream};
    ///
    /// /// Answers a connection with all that another one says.
    /// fn pass_on(from: &TcpStream, to: &TcpStream) -> Result<()> {
    ///     while from.copy_to(to, usize::MAX)? > 0 {}
    ///     to.shutdown(std::net::Shutdown::Write)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As a read of this stream and as a write of the other one.
    /// [`BadArgument`](refcap_abi::ErrorCode::BadArgument) if they are the same.
    pub fn copy_to(&self, to: &TcpStream, most: usize) -> Result<usize> {
        if most == 0 {
            return Ok(0);
        }
        let mut waits_for_room = false;
        loop {
            let waited = match host::stream_copy(&self.slot, &to.slot, at_most(most)) {
                Ok(moved) => return Ok(moved as usize),
                Err(Failure::Host(ErrorCode::WouldBlock)) if waits_for_room => {
                    host::socket_wait(&to.slot, WAIT_WRITE, to.write_timeout.milliseconds())
                }
                Err(Failure::Host(ErrorCode::WouldBlock)) => {
                    host::socket_wait(&self.slot, WAIT_READ, self.read_timeout.milliseconds())
                }
                Err(failure) => Err(failure),
            };
            waited.map_err(|failure| Error::last(failure, "copy"))?;
            // Mostly it is something to read that is missing. Where it is not, that wait is over at once.
            waits_for_room = !waits_for_room;
        }
    }

    /// Moves what can be moved now to another stream, as [`copy_to`](TcpStream::copy_to) does, without
    /// waiting.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](refcap_abi::ErrorCode::WouldBlock) when that is nothing: because nothing has arrived here,
    /// because the other stream takes nothing, or because others must have their turn first. Wait until this one
    /// can be read, and try again; if that would block too, wait until the other one can be written, and so on in
    /// turn. One of the two waits sleeps. [`task::copy`](crate::task::copy) does that.
    pub fn try_copy_to(&self, to: &TcpStream, most: usize) -> Result<usize> {
        let moved = host::stream_copy(&self.slot, &to.slot, at_most(most))
            .map_err(|failure| Error::last(failure, "copy"))?;
        Ok(moved as usize)
    }

    /// Whether small writes are sent at once instead of waiting for more (`TCP_NODELAY`). At first they are
    /// not.
    pub fn set_nodelay(&self, on: bool) -> Result<()> {
        host::stream_no_delay(&self.slot, on).map_err(|failure| Error::last(failure, "set no delay"))?;
        Ok(())
    }
}

/// The status of a host call is at most `i32::MAX`, and so is what one call can read or write.
const MAX_TRANSFER: usize = i32::MAX as usize;

/// The host takes the most that it is to copy as 32 bits, and copies less at once.
fn at_most(most: usize) -> u32 {
    u32::try_from(most).unwrap_or(u32::MAX)
}

impl Read for &TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let length = buffer.len().min(MAX_TRANSFER);
        let buffer = &mut buffer[..length];
        let attempt = || host::stream_read(&self.slot, buffer);
        Ok(wait::until_done(&self.slot, WAIT_READ, &self.read_timeout, "read", attempt)? as usize)
    }

    /// As [`try_read_vectored`](TcpStream::try_read_vectored), and waits until there is something.
    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if buffers.iter().all(|buffer| buffer.is_empty()) {
            return Ok(0);
        }
        let attempt = || host::stream_read_vectored(&self.slot, buffers);
        Ok(wait::until_done(&self.slot, WAIT_READ, &self.read_timeout, "read", attempt)? as usize)
    }
}

impl Write for &TcpStream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if data.is_empty() {
            return Ok(0);
        }
        let data = &data[..data.len().min(MAX_TRANSFER)];
        let attempt = || host::stream_write(&self.slot, data);
        Ok(wait::until_done(&self.slot, WAIT_WRITE, &self.write_timeout, "write", attempt)? as usize)
    }

    /// As [`try_write_vectored`](TcpStream::try_write_vectored), and waits until there is room.
    fn write_vectored(&mut self, data: &[IoSlice<'_>]) -> io::Result<usize> {
        if data.iter().all(|piece| piece.is_empty()) {
            return Ok(0);
        }
        let attempt = || host::stream_write_vectored(&self.slot, data);
        Ok(wait::until_done(&self.slot, WAIT_WRITE, &self.write_timeout, "write", attempt)? as usize)
    }

    /// Does nothing: what was written is with the host's system already.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }
}

impl Write for TcpStream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        (&*self).write(data)
    }

    fn write_vectored(&mut self, data: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}
