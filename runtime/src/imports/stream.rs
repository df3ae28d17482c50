//! What a guest can do with a TcpStream.
//!
//! Reading and writing never wait: they do what can be done at once or return `WouldBlock`, and
//! `socket_wait` or a poller waits. So the calls that move bytes are cheap, and there are few places where
//! a guest sleeps, each of which a revocation has to wake.

use std::sync::Arc;

use refcap_abi::{ErrorCode, SHUTDOWN_BOTH, SHUTDOWN_READ, SHUTDOWN_WRITE};

use super::memory::Span;
use crate::audit;
use crate::net::TcpDoor;
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
///   `WouldBlock` when there is nothing yet, when the rate of a budget is used up for now, or when the
///   guest has moved much without waiting and others must have their turn: wait, and read again.
///   `Exhausted` when a budget is used up for good; `ConnectionReset`, `NotConnected`, `Io`.
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
/// - **Returns** how many bytes were taken. `WouldBlock` and `Exhausted` as for `stream_read`;
///   `ConnectionReset`, `NotConnected`, `Io`; for a connection that could not be made, why.
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

/// `stream_no_delay(stream, on) -> status`: whether small writes are sent at once (`TCP_NODELAY`).
///
/// - **Needs** a TcpStream; 1 for on, 0 for off, which is how a stream begins.
/// - **Checks** the number.
/// - **Returns** 0. `BadArgument`, `WouldBlock` while it is still connecting, `Io`.
/// - **Traps** never.
pub(super) fn no_delay(call: &mut Call<'_>) -> Reply {
    let door = door(call)?;
    let on = match call.int(0) {
        0 => false,
        1 => true,
        other => {
            let why = format!("{other} is neither 0 nor 1");
            return Err(Refusal::new(ErrorCode::BadArgument, why).into());
        }
    };
    door.set_no_delay(on)?;
    Ok(Outcome::Done(0))
}
