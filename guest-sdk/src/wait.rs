//! Waiting: for a socket that would block, and no longer than asked for.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use refcap_abi::ErrorCode;
use refcap_abi::wire::{MAX_ADDRESS, decode_address};

use crate::host::{self, Failure, Slot};
use crate::net::milliseconds;
use crate::{Error, Result};

/// Tries, and waits as long as the host says that it would block.
pub(crate) fn until_done<T>(
    socket: &Slot,
    interest: i32,
    timeout: &Timeout,
    operation: &'static str,
    mut attempt: impl FnMut() -> Result<T, Failure>,
) -> Result<T> {
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(Failure::Host(ErrorCode::WouldBlock)) => {
                host::socket_wait(socket, interest, timeout.milliseconds())
                    .map_err(|failure| Error::last(failure, operation))?;
            }
            Err(failure) => return Err(Error::last(failure, operation)),
        }
    }
}

/// One end of a socket.
pub(crate) fn address(socket: &Slot, end: i32, operation: &'static str) -> Result<SocketAddr> {
    let mut buffer = [0; MAX_ADDRESS];
    let length =
        host::socket_address(socket, end, &mut buffer).map_err(|failure| Error::last(failure, operation))?;
    let address = buffer.get(..length as usize).and_then(decode_address);
    address.ok_or_else(|| Error::new(ErrorCode::Io, operation, "the host's answer is not an address"))
}

/// A time limit in milliseconds, 0 for none. It is the guest's own affair and not known to the host.
#[derive(Debug, Default)]
pub(crate) struct Timeout(AtomicU32);

impl Timeout {
    pub(crate) fn set(&self, time: Option<Duration>, operation: &'static str) -> Result<()> {
        let time = time.map_or(Ok(0), |time| milliseconds(time, operation))?;
        self.0.store(time, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn get(&self) -> Option<Duration> {
        match self.milliseconds() {
            0 => None,
            time => Some(Duration::from_millis(time.into())),
        }
    }

    pub(crate) fn milliseconds(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}
