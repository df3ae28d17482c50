//! Datagrams.

use std::net::SocketAddr;
use std::time::Duration;

use refcap_abi::wire::{MAX_ADDRESS, decode_address, encode_address};
use refcap_abi::{ADDRESS_LOCAL, ADDRESS_PEER, ErrorCode, WAIT_READ, WAIT_WRITE};

use crate::capability::capability;
use crate::host::{self, Failure, Slot};
use crate::wait::{self, Timeout};
use crate::{Error, Result, ToAddress};

/// A UDP socket, made by [`Net::bind_udp`](crate::Net::bind_udp).
///
/// Each datagram is checked by the rules of the `Net`, in both directions: one that may not be sent is an
/// error, one from a sender that is not allowed is [dropped](UdpSocket::dropped) by the host.
#[derive(Debug)]
pub struct UdpSocket {
    slot: Slot,
    read_timeout: Timeout,
    write_timeout: Timeout,
}

capability!(UdpSocket {
    slot,
    read_timeout: Timeout::default(),
    write_timeout: Timeout::default()
});

impl UdpSocket {
    /// Sends a datagram, and returns its length.
    pub fn send_to(&self, data: &[u8], address: impl ToAddress) -> Result<usize> {
        self.send_datagram(data, &encode_address(address.to_address()?))
    }

    /// Sends a datagram to the peer that [`connect`](UdpSocket::connect) fixed.
    pub fn send(&self, data: &[u8]) -> Result<usize> {
        self.send_datagram(data, &[])
    }

    /// Waits for a datagram. Returns how much of it is in the buffer, and who sent it; what does not fit is
    /// lost.
    pub fn recv_from(&self, buffer: &mut [u8]) -> Result<(usize, SocketAddr)> {
        let attempt = || self.receive(buffer);
        let received = wait::until_done(&self.slot, WAIT_READ, &self.read_timeout, "receive", attempt)?;
        received.datagram()
    }

    /// Takes a datagram if there is one.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](ErrorCode::WouldBlock) when there is none, or when others must have their turn first.
    pub fn try_recv_from(&self, buffer: &mut [u8]) -> Result<(usize, SocketAddr)> {
        let received = self
            .receive(buffer)
            .map_err(|failure| Error::last(failure, "receive"))?;
        received.datagram()
    }

    /// Sends a datagram if there is room.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](ErrorCode::WouldBlock) when there is none, or when others must have their turn first.
    pub fn try_send_to(&self, data: &[u8], address: impl ToAddress) -> Result<usize> {
        self.try_send_datagram(data, &encode_address(address.to_address()?))
    }

    /// Sends a datagram to the peer that [`connect`](UdpSocket::connect) fixed, if there is room.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](ErrorCode::WouldBlock) when there is none, or when others must have their turn first.
    pub fn try_send(&self, data: &[u8]) -> Result<usize> {
        self.try_send_datagram(data, &[])
    }

    fn try_send_datagram(&self, data: &[u8], to: &[u8]) -> Result<usize> {
        let sent = host::udp_send(&self.slot, data, to).map_err(|failure| Error::last(failure, "send"))?;
        Ok(sent as usize)
    }

    fn receive(&self, buffer: &mut [u8]) -> Result<Received, Failure> {
        let mut from = [0; MAX_ADDRESS];
        let length = host::udp_receive(&self.slot, buffer, &mut from)?;
        Ok(Received {
            length: buffer.len().min(length as usize),
            from,
        })
    }

    /// Waits for a datagram, as [`recv_from`](UdpSocket::recv_from) does.
    pub fn recv(&self, buffer: &mut [u8]) -> Result<usize> {
        Ok(self.recv_from(buffer)?.0)
    }

    /// Fixes the peer: from now on the socket sends to it only and takes from it only. Each datagram is
    /// checked as before.
    pub fn connect(&self, address: impl ToAddress) -> Result<()> {
        let address = encode_address(address.to_address()?);
        host::udp_connect(&self.slot, &address).map_err(|failure| Error::last(failure, "connect"))?;
        Ok(())
    }

    /// The address that it is bound to.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        wait::address(&self.slot, ADDRESS_LOCAL, "ask for the local address")
    }

    /// The peer that [`connect`](UdpSocket::connect) fixed.
    pub fn peer_addr(&self) -> Result<SocketAddr> {
        wait::address(&self.slot, ADDRESS_PEER, "ask for the peer's address")
    }

    /// How many datagrams the host dropped because their sender is not allowed.
    pub fn dropped(&self) -> Result<u32> {
        host::udp_dropped(&self.slot).map_err(|failure| Error::last(failure, "ask for what was dropped"))
    }

    /// Sets how long receiving waits before it fails with `TimedOut`; `None` is for ever. At first it is.
    ///
    /// # Errors
    ///
    /// [`BadArgument`](ErrorCode::BadArgument) for a time of zero.
    pub fn set_read_timeout(&self, time: Option<Duration>) -> Result<()> {
        self.read_timeout.set(time, "set the read timeout")
    }

    /// Sets how long sending waits before it fails with `TimedOut`; `None` is for ever. At first it is.
    ///
    /// # Errors
    ///
    /// [`BadArgument`](ErrorCode::BadArgument) for a time of zero.
    pub fn set_write_timeout(&self, time: Option<Duration>) -> Result<()> {
        self.write_timeout.set(time, "set the write timeout")
    }

    fn send_datagram(&self, data: &[u8], to: &[u8]) -> Result<usize> {
        let attempt = || host::udp_send(&self.slot, data, to);
        let sent = wait::until_done(&self.slot, WAIT_WRITE, &self.write_timeout, "send", attempt)?;
        Ok(sent as usize)
    }
}

/// A datagram, as the host tells of it.
struct Received {
    length: usize,
    from: [u8; MAX_ADDRESS],
}

impl Received {
    fn datagram(&self) -> Result<(usize, SocketAddr)> {
        let from = match self.from[0] {
            4 => decode_address(&self.from[..7]),
            _ => decode_address(&self.from),
        };
        let message = "the host's answer is not an address";
        let from = from.ok_or_else(|| Error::new(ErrorCode::Io, "receive", message))?;
        Ok((self.length, from))
    }
}
