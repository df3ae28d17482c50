//! What a guest can do with a TcpStream.
//!
//! Reading and writing never wait: they do what can be done at once or return `WouldBlock`, and
//! `socket_wait` or a poller waits. So the calls that move bytes are cheap, and there are few places where
//! a guest sleeps, each of which a revocation has to wake.

use std::sync::Arc;

use refcap_abi::{ErrorCode, SHUTDOWN_BOTH, SHUTDOWN_READ, SHUTDOWN_WRITE};

use super::memory::{Spans, bytes_at};
use crate::audit;
use crate::net::TcpDoor;
use crate::references::{Call, Outcome, Reply};
use crate::vat::Refusal;

/// The connection that reference argument `index` names.
fn door(call: &Call<'_>, index: usize) -> Result<Arc<TcpDoor>, ErrorCode> {
    call.state().table.get(call.key(index)?)?.stream().cloned()
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
    let door = door(call, 0)?;
    let (buffer, state) = bytes_at(call, call.int(0), call.int(1))?;
    state.take_turn()?;
    let count = door.try_read(limit(buffer))?;
    moved(call, 0, "read", count)
}

/// `stream_write(stream, bytes, length) -> status`: send what the kernel will take.
///
/// - **Needs** a TcpStream, and bytes.
/// - **Checks** that the connection has not been revoked, before and after.
/// - **Returns** how many bytes were taken. `WouldBlock` and `Exhausted` as for `stream_read`;
///   `ConnectionReset`, `NotConnected`, `Io`; for a connection that could not be made, why.
/// - **Traps** never.
pub(super) fn write(call: &mut Call<'_>) -> Reply {
    let door = door(call, 0)?;
    let (bytes, state) = bytes_at(call, call.int(0), call.int(1))?;
    state.take_turn()?;
    let count = door.try_write(limit(bytes))?;
    moved(call, 0, "write", count)
}

/// `stream_read_vectored(stream, list, count) -> status`: take what has arrived, into several buffers.
///
/// - **Needs** a TcpStream, and a list of buffers: `count` pieces of `PIECE_BYTES` each, a pointer and a
///   length. They are filled in their order, each before the next, by one call of the system.
/// - **Checks** as `stream_read`; that no two buffers overlap.
/// - **Returns** how many bytes were read, and errors, as `stream_read`. 0 also if all buffers are empty. Of a
///   list longer than `MAX_PIECES` the first so many are used, and the others not even looked at.
///   `BadArgument` for buffers that overlap; `BadPointer` if the list or one of those buffers does not lie in
///   the memory.
/// - **Traps** never.
pub(super) fn read_vectored(call: &mut Call<'_>) -> Reply {
    let door = door(call, 0)?;
    let spans = Spans::new(call, call.int(0), call.int(1))?;
    call.state_mut().take_turn()?;
    let buffers = spans.buffers(call)?;
    let count = door.try_read_vectored(buffers, MOST)?;
    moved(call, 0, "read", count)
}

/// `stream_write_vectored(stream, list, count) -> status`: send what the kernel will take of several pieces.
///
/// - **Needs** a TcpStream, and a list of pieces as for `stream_read_vectored`, which are sent in their order
///   by one call of the system. They may overlap.
/// - **Checks** as `stream_write`.
/// - **Returns** how many bytes were taken, of all pieces together, and errors, as `stream_write`. Of a list
///   longer than `MAX_PIECES` the first so many are sent. `BadPointer` as for `stream_read_vectored`.
/// - **Traps** never.
pub(super) fn write_vectored(call: &mut Call<'_>) -> Reply {
    let door = door(call, 0)?;
    let spans = Spans::new(call, call.int(0), call.int(1))?;
    call.state_mut().take_turn()?;
    let count = door.try_write_vectored(spans.pieces(call), MOST)?;
    moved(call, 0, "write", count)
}

/// `stream_copy(from, to, most) -> status`: move what has arrived at one stream to another, past the guest.
///
/// - **Needs** two TcpStreams, and the most bytes to move, a `u32`. A call moves 64 KiB at most.
/// - **Checks** that neither connection has been revoked, until the bytes are moved; that they are two. Counts
///   as a read of `from` and a write of `to`, in the budgets of both and in the guest's turn.
/// - **Returns** how many bytes were moved; 0 is the end of the stream `from` (or of `most`). What `to` did not
///   take is still there to be read from `from`. `WouldBlock` when `from` has nothing yet, when `to` takes
///   nothing now, when a rate of either is used up, or when others must have their turn: wait until `from`
///   can be read, and copy again; if that would block too, wait until `to` can be written, and so on in turn.
///   What is there to be read stays there, so of two such waits the one that was not needed ends at once, and
///   the other one sleeps.
///   `Exhausted`, `ConnectionReset`, `NotConnected`, `Io` of either; for a connection that could not be made,
///   why. `BadArgument` if both are the same stream.
/// - **Traps** never.
pub(super) fn copy(call: &mut Call<'_>) -> Reply {
    let from = door(call, 0)?;
    let to = door(call, 1)?;
    if Arc::ptr_eq(&from, &to) {
        let why = "a stream can't be copied to itself";
        return Err(Refusal::new(ErrorCode::BadArgument, why).into());
    }
    // A read and a write.
    call.state_mut().take_turn()?;
    call.state_mut().take_turn()?;
    let most = usize::try_from(call.int(0).cast_unsigned()).unwrap_or(usize::MAX);
    let count = from.copy_to(&to, most)?;
    moved(call, 0, "read", count)?;
    moved(call, 1, "write", count)
}

/// A count must fit a status that is not negative.
const MOST: usize = i32::MAX as usize;

fn limit(bytes: &mut [u8]) -> &mut [u8] {
    let length = bytes.len().min(MOST);
    &mut bytes[..length]
}

/// Tells the audit log that bytes went through the stream of reference argument `index`.
fn moved(call: &mut Call<'_>, index: usize, direction: &'static str, count: usize) -> Reply {
    audit::moved(
        call.key(index)?.id(),
        call.state().mailbox.vat(),
        direction,
        count,
    );
    Ok(Outcome::Done(i32::try_from(count).unwrap_or(i32::MAX)))
}

/// `stream_shutdown(stream, how) -> status`: end one or both directions.
///
/// - **Needs** a TcpStream; `SHUTDOWN_READ`, `SHUTDOWN_WRITE` or `SHUTDOWN_BOTH`.
/// - **Checks** the direction.
/// - **Returns** 0. `BadArgument`, `NotConnected`, `Io`.
/// - **Traps** never.
pub(super) fn shutdown(call: &mut Call<'_>) -> Reply {
    let door = door(call, 0)?;
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
    let door = door(call, 0)?;
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
