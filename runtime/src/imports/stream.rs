//! What a guest can do with a TcpStream.
//!
//! Reading and writing never wait: they do what can be done at once or return `WouldBlock`, and
//! `stream_wait` waits. So the calls that move bytes are cheap, and there is one place where a guest
//! sleeps, one that a revocation has to wake.

use std::sync::Arc;
use std::time::Duration;

use refcap_abi::{
    ADDRESS_LOCAL, ADDRESS_PEER, ErrorCode, SHUTDOWN_BOTH, SHUTDOWN_READ, SHUTDOWN_WRITE, WAIT_READ,
    WAIT_WRITE, wire,
};

use super::memory::Span;
use crate::audit;
use crate::net::{Interest, TcpDoor};
use crate::references::{Call, Outcome, Reply};
use crate::vat::Refusal;

fn door(call: &Call<'_>) -> Result<Arc<TcpDoor>, ErrorCode> {
    call.state().table.get(call.key(0)?)?.stream().cloned()
}

/// `stream_read(stream, buffer, length) -> status`: take what has arrived.
///
/// - **Needs** a TcpStream, and a buffer.
/// - **Checks** that the connection has not been revoked, before and after.
/// - **Returns** how many bytes were read; 0 is the end of the stream (or of an empty buffer).
///   `WouldBlock` when there is nothing yet, or when the guest has moved much without waiting and others
///   must have their turn: wait, and read again. `ConnectionReset`, `NotConnected`, `Io`.
/// - **Traps** never.
pub(super) fn read(call: &mut Call<'_>) -> Reply {
    let door = door(call)?;
    let span = Span::new(call, call.int(0), call.int(1))?;
    call.state_mut().take_turn()?;
    let (buffer, _) = span.bytes_and_state(call);
    let count = door.try_read(limit(buffer))?;
    moved(call, "read", count)
}

/// `stream_write(stream, bytes, length) -> status`: send what the kernel will take.
///
/// - **Needs** a TcpStream, and bytes.
/// - **Checks** that the connection has not been revoked, before and after.
/// - **Returns** how many bytes were taken. `WouldBlock` as for `stream_read`; `ConnectionReset`,
///   `NotConnected`, `Io`.
/// - **Traps** never.
pub(super) fn write(call: &mut Call<'_>) -> Reply {
    let door = door(call)?;
    let span = Span::new(call, call.int(0), call.int(1))?;
    call.state_mut().take_turn()?;
    let (bytes, _) = span.bytes_and_state(call);
    let count = door.try_write(limit(bytes))?;
    moved(call, "write", count)
}

/// A count must fit a status that is not negative.
fn limit(bytes: &mut [u8]) -> &mut [u8] {
    let length = bytes.len().min(i32::MAX as usize);
    &mut bytes[..length]
}

fn moved(call: &mut Call<'_>, direction: &'static str, count: usize) -> Reply {
    audit::moved(call.key(0)?.id(), call.state().mailbox.vat(), direction, count);
    Ok(Outcome::Done(i32::try_from(count).unwrap_or(i32::MAX)))
}

/// `stream_wait(stream, interest, timeout_ms) -> status`: sleep until the stream can be read or written.
///
/// - **Needs** a TcpStream; `WAIT_READ`, `WAIT_WRITE` or both; a time in milliseconds (0 for no end).
/// - **Checks** the interest.
/// - **Returns** which of them are ready, as the same bits. `BadArgument`, `TimedOut`, `Revoked` as soon
///   as the connection or anything it came from is revoked, `Io`.
/// - **Traps** never. Suspends the guest.
pub(super) async fn wait(call: &mut Call<'_>) -> Reply {
    let door = door(call)?;
    let interest = match call.int(0) {
        WAIT_READ => Interest::Read,
        WAIT_WRITE => Interest::Write,
        both if both == WAIT_READ | WAIT_WRITE => Interest::Either,
        other => {
            let why = format!("{other} is not an interest: WAIT_READ, WAIT_WRITE or both");
            return Err(Refusal::new(ErrorCode::BadArgument, why).into());
        }
    };
    let timeout = match call.int(1) {
        0 => None,
        milliseconds => Some(Duration::from_millis(u64::from(milliseconds.cast_unsigned()))),
    };
    if call.state_mut().end_turn() {
        // The guest has had its share without ever sleeping; tokio's own yield lets I/O and timers run.
        tokio::task::yield_now().await;
    }
    let ready = door.wait(interest, timeout).await?;
    Ok(Outcome::Done(match ready {
        Interest::Read => WAIT_READ,
        Interest::Write => WAIT_WRITE,
        Interest::Either => WAIT_READ | WAIT_WRITE,
    }))
}

/// `stream_shutdown(stream, how) -> status`: end one or both directions.
///
/// - **Needs** a TcpStream; `SHUTDOWN_READ`, `SHUTDOWN_WRITE` or `SHUTDOWN_BOTH`.
/// - **Checks** the direction.
/// - **Returns** 0. `BadArgument`, `NotConnected`, `Io`.
/// - **Traps** never.
pub(super) fn shutdown(call: &mut Call<'_>) -> Reply {
    let door = door(call)?;
    let how = match call.int(0) {
        SHUTDOWN_READ => std::net::Shutdown::Read,
        SHUTDOWN_WRITE => std::net::Shutdown::Write,
        SHUTDOWN_BOTH => std::net::Shutdown::Both,
        other => {
            let why = format!("{other} is not a direction: SHUTDOWN_READ, SHUTDOWN_WRITE or SHUTDOWN_BOTH");
            return Err(Refusal::new(ErrorCode::BadArgument, why).into());
        }
    };
    door.shutdown(how)?;
    Ok(Outcome::Done(0))
}

/// `stream_address(stream, which, buffer, length) -> status`: one of the two ends.
///
/// - **Needs** a TcpStream; `ADDRESS_LOCAL` or `ADDRESS_PEER`; a buffer.
/// - **Checks** which.
/// - **Returns** the length of the address in its wire form, and its beginning in the buffer.
///   `BadArgument`, `NotConnected`, `Io`.
/// - **Traps** never.
pub(super) fn address(call: &mut Call<'_>) -> Reply {
    let door = door(call)?;
    let span = Span::new(call, call.int(1), call.int(2))?;
    let address = match call.int(0) {
        ADDRESS_LOCAL => door.local_address()?,
        ADDRESS_PEER => door.remote_address(),
        other => {
            let why = format!("{other} is not an end: ADDRESS_LOCAL or ADDRESS_PEER");
            return Err(Refusal::new(ErrorCode::BadArgument, why).into());
        }
    };
    Ok(Outcome::Done(span.answer(call, &wire::encode_address(address))))
}
