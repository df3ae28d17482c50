//! What a guest can do with a UdpSocket.
//!
//! As with streams, nothing here waits: `socket_wait` or a poller does.

use std::sync::Arc;

use refcap_abi::{ErrorCode, wire};

use super::memory::Span;
use super::open::address;
use crate::audit::{self, Doorkeeper};
use crate::net::{MAX_DATAGRAM, UdpDoor};
use crate::references::{Call, Outcome, Reply};
use crate::vat::Refusal;

fn door(call: &Call<'_>) -> Result<Arc<UdpDoor>, ErrorCode> {
    call.state().table.get(call.key(0)?)?.udp().cloned()
}

/// `udp_connect(socket, address, length) -> status`: fix the peer.
///
/// - **Needs** a UdpSocket, and an address in its wire form.
/// - **Checks** that `connect udp` is granted for both ends.
/// - **Returns** 0. From now on the socket sends to that peer only and takes from that peer only, and each
///   datagram is checked as before. `Denied`, `BadArgument`.
/// - **Traps** never.
pub(super) fn connect(call: &mut Call<'_>) -> Reply {
    let door = door(call)?;
    let remote = address(call, 0, 1)?;
    door.connect(remote)?;
    Ok(Outcome::Done(0))
}

/// `udp_send(socket, bytes, length, address, length) -> status`: send one datagram.
///
/// - **Needs** a UdpSocket; bytes; an address in its wire form, or a length of 0 for the peer that
///   `udp_connect` fixed.
/// - **Checks** that `send udp` is granted for both ends, for this datagram; the budget of bytes.
/// - **Returns** how many bytes were sent: all. `Denied` (with the nearest rule), `NotConnected` when there
///   is neither address nor peer, `MessageTooLong`, `WouldBlock` and `Exhausted` as for `stream_write`,
///   `BadArgument`, `Unreachable`, `Io`.
/// - **Traps** never.
pub(super) fn send(call: &mut Call<'_>) -> Reply {
    let door = door(call)?;
    let span = Span::new(call, call.int(0), call.int(1))?;
    let to = match call.int(3) {
        0 => None,
        _ => Some(address(call, 2, 3)?),
    };
    if span.len() > MAX_DATAGRAM {
        let why = format!("{} bytes are too many for one datagram", span.len());
        return Err(Refusal::new(ErrorCode::MessageTooLong, why).into());
    }
    call.state_mut().take_turn()?;
    let (bytes, _) = span.bytes_and_state(call);
    let count = door.send(bytes, to)?;
    audit::moved(call.key(0)?.id(), call.state().mailbox.vat(), "send", count);
    Ok(Outcome::Done(i32::try_from(count).unwrap_or(i32::MAX)))
}

/// `udp_receive(socket, buffer, length, address, length) -> status`: take one datagram.
///
/// - **Needs** a UdpSocket; a buffer for the datagram; a buffer for the sender's address.
/// - **Checks** that `receive udp` is granted for both ends, for this datagram. One from anybody else is
///   dropped and counted; no byte of it reaches the guest. The budget of bytes.
/// - **Returns** the length of the datagram, and its beginning in the first buffer; the beginning of the
///   sender's address, in its wire form, in the second. `WouldBlock` and `Exhausted` as for `stream_read`;
///   `Io`.
/// - **Traps** never.
pub(super) fn receive(call: &mut Call<'_>) -> Reply {
    let door = door(call)?;
    let bytes = Span::new(call, call.int(0), call.int(1))?;
    let address = Span::new(call, call.int(2), call.int(3))?;
    call.state_mut().take_turn()?;
    let (id, vat) = (call.key(0)?.id(), call.state().mailbox.vat());
    let label = call
        .state()
        .table
        .label(call.key(0)?)
        .cloned()
        .unwrap_or_default();
    // Into the host's memory first: what the sender may not send must not be seen.
    let mut buffer = std::mem::take(&mut call.state_mut().datagram);
    buffer.resize(MAX_DATAGRAM, 0);
    let keeper = Doorkeeper { id, label, vat };
    let received = door.receive(&mut buffer, &mut |operation| keeper.turn_away(operation));
    let reply = received.map(|(length, from)| {
        address.answer(call, &wire::encode_address(from));
        audit::moved(id, vat, "receive", length);
        Outcome::Done(bytes.answer(call, &buffer[..length]))
    });
    call.state_mut().datagram = buffer;
    Ok(reply?)
}

/// `udp_dropped(socket) -> status`: how many datagrams were dropped?
///
/// - **Needs** a UdpSocket.
/// - **Checks** nothing more.
/// - **Returns** how many datagrams came from senders that are not granted, or not the fixed peer.
/// - **Traps** never.
pub(super) fn dropped(call: &mut Call<'_>) -> Reply {
    let count = door(call)?.dropped()?;
    Ok(Outcome::Done(i32::try_from(count).unwrap_or(i32::MAX)))
}
