//! TCP connections.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use refcap_abi::wire::{MAX_ADDRESS, decode_address};
use refcap_abi::{
    ADDRESS_LOCAL, ADDRESS_PEER, ErrorCode, SHUTDOWN_BOTH, SHUTDOWN_READ, SHUTDOWN_WRITE, WAIT_READ,
    WAIT_WRITE,
};

use crate::capability::capability;
use crate::host::{self, Failure, Slot, Status};
use crate::net::milliseconds;
use crate::{Error, Result};

/// A TCP connection, made by [`Net::connect`](crate::Net::connect).
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
        self.address(ADDRESS_PEER, "ask for the peer's address")
    }

    /// The address of this end.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        self.address(ADDRESS_LOCAL, "ask for the local address")
    }

    /// Sets how long a read waits before it fails with `TimedOut`; `None` is for ever. At first it is.
    ///
    /// # Errors
    ///
    /// [`BadArgument`](ErrorCode::BadArgument) for a time of zero.
    pub fn set_read_timeout(&self, time: Option<Duration>) -> Result<()> {
        self.read_timeout.set(time, "set the read timeout")
    }

    /// Sets how long a write waits before it fails with `TimedOut`; `None` is for ever. At first it is.
    ///
    /// # Errors
    ///
    /// [`BadArgument`](ErrorCode::BadArgument) for a time of zero.
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

    fn address(&self, end: i32, operation: &'static str) -> Result<SocketAddr> {
        let mut buffer = [0; MAX_ADDRESS];
        let length = host::socket_address(&self.slot, end, &mut buffer)
            .map_err(|failure| Error::last(failure, operation))?;
        let address = buffer.get(..length as usize).and_then(decode_address);
        address.ok_or_else(|| Error::new(ErrorCode::Io, operation, "the host's answer is not an address"))
    }

    /// Tries, and waits as long as the host says that it would block.
    fn wait_for(
        &self,
        until: i32,
        timeout: &Timeout,
        operation: &'static str,
        mut attempt: impl FnMut() -> Status,
    ) -> Result<usize> {
        loop {
            match attempt() {
                Ok(length) => return Ok(length as usize),
                Err(Failure::Host(ErrorCode::WouldBlock)) => {
                    host::socket_wait(&self.slot, until, timeout.milliseconds())
                        .map_err(|failure| Error::last(failure, operation))?;
                }
                Err(failure) => return Err(Error::last(failure, operation)),
            }
        }
    }
}

/// The status of a host call is at most `i32::MAX`, and so is what one call can read or write.
const MAX_TRANSFER: usize = i32::MAX as usize;

impl Read for &TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let length = buffer.len().min(MAX_TRANSFER);
        let buffer = &mut buffer[..length];
        let attempt = || host::stream_read(&self.slot, buffer);
        Ok(self.wait_for(WAIT_READ, &self.read_timeout, "read", attempt)?)
    }
}

impl Write for &TcpStream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if data.is_empty() {
            return Ok(0);
        }
        let data = &data[..data.len().min(MAX_TRANSFER)];
        let attempt = || host::stream_write(&self.slot, data);
        Ok(self.wait_for(WAIT_WRITE, &self.write_timeout, "write", attempt)?)
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
}

impl Write for TcpStream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        (&*self).write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

/// A time limit in milliseconds, 0 for none. It is the guest's own affair and not known to the host.
#[derive(Debug, Default)]
struct Timeout(AtomicU32);

impl Timeout {
    fn set(&self, time: Option<Duration>, operation: &'static str) -> Result<()> {
        let time = time.map_or(Ok(0), |time| milliseconds(time, operation))?;
        self.0.store(time, Ordering::Relaxed);
        Ok(())
    }

    fn get(&self) -> Option<Duration> {
        match self.milliseconds() {
            0 => None,
            time => Some(Duration::from_millis(time.into())),
        }
    }

    fn milliseconds(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}
