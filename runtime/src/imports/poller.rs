//! What a guest can do with a Poller: wait for many sockets at once.

use std::sync::Arc;
use std::time::Duration;

use refcap_abi::{EVENT_BYTES, ErrorCode, NO_WAIT};

use super::memory::Span;
use super::open::make_room;
use crate::capability::table::Object;
use crate::net::{Interest, PollSet};
use crate::references::{Call, Outcome, Reply};
use crate::vat::Refusal;

/// The most events that one wait gives.
const MOST_EVENTS: usize = 1_024;

/// `poller_new() -> (poller, status)`: make an empty set of sockets.
///
/// - **Needs** nothing: a poller gives no authority.
/// - **Checks** the vat's limit on capabilities.
/// - **Returns** a Poller. `LimitReached`.
/// - **Traps** never.
pub(super) fn new(call: &mut Call<'_>) -> Reply {
    make_room(call, 1)?;
    let object = Object::Poller(Arc::new(PollSet::default()));
    let poller = call
        .state_mut()
        .table
        .plant("poller", object)
        .map_err(Refusal::from)?;
    Ok(Outcome::One(poller))
}

/// `poller_add(poller, socket, token, interest) -> status`: add a socket.
///
/// - **Needs** a Poller; a TcpStream, TcpListener or UdpSocket; a number that events will carry;
///   `WAIT_READ`, `WAIT_WRITE` or both.
/// - **Checks** the interest; that the socket is in no other poller; that the number is not another socket's.
/// - **Returns** 0. A socket that is in this poller under this number gets the new interest. `BadArgument`.
/// - **Traps** never.
pub(super) fn add(call: &mut Call<'_>) -> Reply {
    let set = call.state().table.get(call.key(0)?)?.poller()?.clone();
    let source = call.state().table.get(call.key(1)?)?.source()?;
    let interest = Interest::from_bits(call.int(1))?;
    set.add(source, call.int(0).cast_unsigned(), interest)?;
    Ok(Outcome::Done(0))
}

/// `poller_add_calls(poller, token) -> status`: be told when a call from another vat waits to be served.
///
/// - **Needs** a Poller; a number that events will carry.
/// - **Checks** that the calls are in no other poller; that the number is not a socket's.
/// - **Returns** 0. While a call waits, to an object of any program of this vat, the number is ready with `WAIT_READ`:
///   `object_serve` with `NO_WAIT` answers it. `poller_remove` takes it out again. `BadArgument`.
/// - **Traps** never.
pub(super) fn add_calls(call: &mut Call<'_>) -> Reply {
    let set = call.state().table.get(call.key(0)?)?.poller()?.clone();
    let calls = call.state().mailbox.calls().clone();
    set.add(calls, call.int(0).cast_unsigned(), Interest::READ)?;
    Ok(Outcome::Done(0))
}

/// `poller_remove(poller, token) -> status`: remove a socket.
///
/// - **Needs** a Poller; the number that the socket was added under.
/// - **Checks** nothing more.
/// - **Returns** 1 if it was there, else 0.
/// - **Traps** never.
pub(super) fn remove(call: &mut Call<'_>) -> Reply {
    let set = call.state().table.get(call.key(0)?)?.poller()?.clone();
    let was_there = set.remove(call.int(0).cast_unsigned());
    Ok(Outcome::Done(i32::from(was_there)))
}

/// `poller_wait(poller, buffer, length, timeout_ms) -> status`: sleep until a socket can be used.
///
/// - **Needs** a Poller; a buffer for at least one event; a time in milliseconds (0 for no end, `NO_WAIT`
///   to look and not sleep).
/// - **Checks** the buffer's length.
/// - **Returns** how many events are in the buffer: each is the socket's number and what is ready
///   (`WAIT_READ`, `WAIT_WRITE`), two 32-bit numbers, little-endian. What is still ready is told again by the
///   next wait. `READY_ENDED` is told once, when a socket was closed or revoked; the poller has forgotten it
///   then. `TimedOut` when there was none in time; `BadArgument`.
/// - **Traps** never. Suspends the guest.
pub(super) async fn wait(call: &mut Call<'_>) -> Reply {
    let set = call.state().table.get(call.key(0)?)?.poller()?.clone();
    let span = Span::new(call, call.int(0), call.int(1))?;
    let most = (span.len() / EVENT_BYTES).min(MOST_EVENTS);
    if most == 0 {
        let why = format!("the buffer has {} bytes; an event has {EVENT_BYTES}", span.len());
        return Err(Refusal::new(ErrorCode::BadArgument, why).into());
    }
    let timeout = match call.int(2) {
        0 => None,
        NO_WAIT => Some(Duration::ZERO),
        milliseconds => Some(Duration::from_millis(u64::from(milliseconds.cast_unsigned()))),
    };
    if call.state_mut().end_turn() {
        tokio::task::yield_now().await;
    }
    let events = set.wait(most, timeout).await;
    if events.is_empty() {
        return Err(ErrorCode::TimedOut.into());
    }
    let mut bytes = Vec::with_capacity(events.len() * EVENT_BYTES);
    for event in &events {
        bytes.extend(event.token.to_le_bytes());
        bytes.extend(event.ready.to_le_bytes());
    }
    span.answer(call, &bytes);
    Ok(Outcome::Done(i32::try_from(events.len()).unwrap_or(i32::MAX)))
}
