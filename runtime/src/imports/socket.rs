//! What a guest can do with a socket of any kind.

use std::time::Duration;

use refcap_abi::{ADDRESS_LOCAL, ADDRESS_PEER, ErrorCode, wire};

use super::memory::Span;
use crate::capability::table::Object;
use crate::net;
use crate::references::{Call, Outcome, Reply};
use crate::vat::Refusal;

/// `socket_wait(socket, interest, timeout_ms) -> status`: sleep until the socket can be used.
///
/// - **Needs** a TcpStream, TcpListener or UdpSocket; `WAIT_READ`, `WAIT_WRITE` or both; a time in
///   milliseconds (0 for no end). A listener is read when a connection waits; it is never written. A stream
///   that is still connecting can be written when that has ended.
/// - **Checks** the interest.
/// - **Returns** which of them are ready, as the same bits; where a rate of a budget stands in the way, not
///   before it gives something. Being ready is a hint: it holds until a use has returned `WouldBlock`. `BadArgument`, `TimedOut`, `Revoked` as soon as the socket or anything it came
///   from is revoked, `Io`.
/// - **Traps** never. Suspends the guest.
pub(super) async fn wait(call: &mut Call<'_>) -> Reply {
    let source = call.state().table.get(call.key(0)?)?.source()?;
    let interest = net::Interest::from_bits(call.int(0))?;
    let timeout = match call.int(1) {
        0 => None,
        milliseconds => Some(Duration::from_millis(u64::from(milliseconds.cast_unsigned()))),
    };
    if call.state_mut().end_turn() {
        // The guest has had its share without ever sleeping; tokio's own yield lets I/O and timers run.
        tokio::task::yield_now().await;
    }
    let ready = net::wait(&*source, interest, timeout).await;
    if call.state().has_letters() {
        call.state_mut().read_letters();
    }
    match ready {
        Ok(ready) => Ok(Outcome::Done(ready.bits())),
        // Ended while it waited: by the lease, perhaps.
        Err(ErrorCode::Revoked) => Err(call
            .state()
            .table
            .get(call.key(0)?)
            .err()
            .unwrap_or(ErrorCode::Revoked)
            .into()),
        Err(code) => Err(code.into()),
    }
}

/// `socket_address(socket, which, buffer, length) -> status`: one of its two ends.
///
/// - **Needs** a TcpStream, TcpListener or UdpSocket; `ADDRESS_LOCAL` or `ADDRESS_PEER`; a buffer.
/// - **Checks** which.
/// - **Returns** the length of the address in its wire form, and its beginning in the buffer.
///   `BadArgument`, `NotConnected` for the peer of a listener or of a datagram socket that has none, `Io`.
/// - **Traps** never.
pub(super) fn address(call: &mut Call<'_>) -> Reply {
    let entry = call.state().table.get(call.key(0)?)?;
    // Finds out whether it is a socket at all, before the arguments are looked at.
    entry.source()?;
    let object = entry.object().clone();
    let span = Span::new(call, call.int(1), call.int(2))?;
    let address = match (call.int(0), &object) {
        (ADDRESS_LOCAL, Object::TcpStream(door)) => door.local_address()?,
        (ADDRESS_LOCAL, Object::TcpListener(door)) => door.local_address()?,
        (ADDRESS_LOCAL, Object::UdpSocket(door)) => door.local_address()?,
        (ADDRESS_PEER, Object::TcpStream(door)) => door.remote_address()?,
        (ADDRESS_PEER, Object::UdpSocket(door)) => door.peer_address()?,
        (ADDRESS_PEER, _) => return Err(ErrorCode::NotConnected.into()),
        (other, _) => {
            let why = format!("{other} is not an end: ADDRESS_LOCAL or ADDRESS_PEER");
            return Err(Refusal::new(ErrorCode::BadArgument, why).into());
        }
    };
    Ok(Outcome::Done(span.answer(call, &wire::encode_address(address))))
}
