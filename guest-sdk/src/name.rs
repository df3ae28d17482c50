//! Names that were looked up.

use std::time::Duration;

use refcap_abi::NO_WAIT;

use crate::capability::{capability, sealed::Sealed};
use crate::host::{self, Slot};
use crate::net::milliseconds;
use crate::{Error, Result, TcpStream};

/// A DNS name and a port, with the addresses that it stood for when
/// [`Net::resolve`](crate::Net::resolve) looked it up.
///
/// It can be connected to, and nothing else: hand it to code that needs one server and no network. It keeps
/// its addresses, of which the host has let through only those that the `Net` allows, so nobody can point
/// the name elsewhere between the look-up and the connection. When the answer's time is over, connecting
/// fails with [`Expired`](refcap_abi::ErrorCode::Expired): look the name up again. Connections that were made
/// stay.
#[derive(Debug)]
pub struct Name {
    slot: Slot,
}

capability!(Name { slot });

impl Name {
    /// Opens a TCP connection to the first of the addresses that takes it.
    pub fn connect(&self) -> Result<TcpStream> {
        self.connect_within(0)
    }

    /// Opens a TCP connection, or fails with `TimedOut` after the given time.
    pub fn connect_timeout(&self, timeout: Duration) -> Result<TcpStream> {
        self.connect_within(milliseconds(timeout, "connect")?)
    }

    /// Opens a TCP connection without waiting for it, as `Net::begin_connect` does.
    pub(crate) fn begin_connect(&self) -> Result<TcpStream> {
        self.connect_within(NO_WAIT.cast_unsigned())
    }

    /// The name, the port, the addresses, and for how long they are good, in words.
    pub fn describe(&self) -> Result<String> {
        host::text(|buffer| host::name_describe(&self.slot, buffer))
            .map_err(|failure| Error::last(failure, "describe"))
    }

    fn connect_within(&self, timeout: u32) -> Result<TcpStream> {
        let slot =
            host::name_connect(&self.slot, timeout).map_err(|failure| Error::last(failure, "connect"))?;
        Ok(TcpStream::from_slot(slot))
    }
}
