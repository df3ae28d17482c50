//! The host calls of a native build: a small host in the same process, for the tests of guests.
//!
//! It decides with the same algebra as the real host, and its connections are real. It is no sandbox,
//! since the program around it has all the authority of its process, and simpler than the real host in
//! these points: a local end is checked once it is connected, not before; write timeouts do not run out;
//! there are no limits, no audit log and no names.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{self, Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use refcap_abi::wire::{decode_address, encode_address};
use refcap_abi::{ADDRESS_LOCAL, ErrorCode, Kind, SHUTDOWN_BOTH, SHUTDOWN_READ, SHUTDOWN_WRITE, WAIT_READ};
use refcap_authority::{Authority, DeriveError, Operation, Protocol, Query, Rules, TooComplex, Tuple};

use crate::host::{Failure, Status};
use lineage::Lineage;

mod lineage;

/// The owner of a reference.
#[derive(Debug)]
pub(crate) struct Slot {
    object: Object,
    lineage: Arc<Lineage>,
}

/// What a reference names.
#[derive(Debug)]
enum Object {
    Net(Authority),
    Stream(Arc<net::TcpStream>),
    /// What it revokes.
    Revoker(Arc<Lineage>),
}

impl Slot {
    /// A capability that is derived from no other.
    pub(crate) fn root(authority: Authority) -> Slot {
        Slot {
            object: Object::Net(authority),
            lineage: Lineage::root(),
        }
    }

    /// A capability that ends with this one.
    fn child(&self, object: Object) -> Result<Slot, Failure> {
        let stream = match &object {
            Object::Stream(stream) => Some(Arc::clone(stream)),
            Object::Net(_) | Object::Revoker(_) => None,
        };
        let lineage = self.lineage.child(stream).ok_or_else(revoked)?;
        Ok(Slot { object, lineage })
    }

    fn authority(&self) -> Result<&Authority, Failure> {
        match &self.live()?.object {
            Object::Net(authority) => Ok(authority),
            Object::Stream(_) | Object::Revoker(_) => Err(failed(ErrorCode::WrongKind)),
        }
    }

    fn stream(&self) -> Result<&net::TcpStream, Failure> {
        match &self.live()?.object {
            Object::Stream(stream) => Ok(stream),
            Object::Net(_) | Object::Revoker(_) => Err(failed(ErrorCode::WrongKind)),
        }
    }

    /// The result of a read or write. What was transferred before a revocation was transferred; that the
    /// revocation shut the socket must not look like the end of the stream.
    fn transferred(&self, result: io::Result<usize>) -> Status {
        match result {
            Ok(length) if length > 0 => Ok(length as u32),
            result => {
                self.live()?;
                result.map(|length| length as u32).map_err(io_failed)
            }
        }
    }

    fn live(&self) -> Result<&Slot, Failure> {
        if self.lineage.is_revoked() {
            Err(revoked())
        } else {
            Ok(self)
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.lineage.close();
    }
}

thread_local! {
    static MESSAGE: RefCell<String> = const { RefCell::new(String::new()) };
    static GRANTS: RefCell<HashMap<String, Slot>> = RefCell::new(HashMap::new());
}

/// Grants something under a name, for [`grant_take`] in this thread.
pub(crate) fn grant(name: &str, slot: Slot) {
    GRANTS.with_borrow_mut(|grants| grants.insert(name.to_owned(), slot));
}

/// A native program is given nothing.
pub(crate) fn argument(_index: u32) -> Option<Slot> {
    None
}

pub(crate) fn grant_take(name: &str) -> Result<Slot, Failure> {
    GRANTS
        .with_borrow_mut(|grants| grants.remove(name))
        .ok_or_else(|| {
            failed_with(
                ErrorCode::NotFound,
                format!("nothing was granted under the name `{name}`"),
            )
        })
}

pub(crate) fn cap_close(slot: Slot) -> Status {
    drop(slot);
    Ok(0)
}

pub(crate) fn cap_kind(slot: &Slot) -> Status {
    let kind = match &slot.live()?.object {
        Object::Net(_) => Kind::Net,
        Object::Stream(_) => Kind::TcpStream,
        Object::Revoker(_) => Kind::Revoker,
    };
    Ok(kind.code().unsigned_abs())
}

pub(crate) fn net_only(net: &Slot, rules: &[u8]) -> Result<Slot, Failure> {
    let authority = net
        .authority()?
        .only(&decode_rules(rules)?)
        .map_err(too_complex)?;
    net.child(Object::Net(authority))
}

pub(crate) fn net_exactly(net: &Slot, rules: &[u8]) -> Result<Slot, Failure> {
    let authority = net.authority()?.exactly(&decode_rules(rules)?).map_err(|error| {
        let code = match error {
            DeriveError::NotSubset { .. } => ErrorCode::NotSubset,
            _ => ErrorCode::TooComplex,
        };
        failed_with(code, error.to_string())
    })?;
    net.child(Object::Net(authority))
}

pub(crate) fn net_except(net: &Slot, rules: &[u8]) -> Result<Slot, Failure> {
    let authority = net
        .authority()?
        .except(&decode_rules(rules)?)
        .map_err(too_complex)?;
    net.child(Object::Net(authority))
}

pub(crate) fn net_revocable(net: &Slot) -> Result<(Slot, Slot), Failure> {
    let child = net.child(Object::Net(net.authority()?.clone()))?;
    let revoker = net.child(Object::Revoker(Arc::clone(&child.lineage)))?;
    Ok((child, revoker))
}

pub(crate) fn net_connect(net: &Slot, address: &[u8], timeout: u32) -> Result<Slot, Failure> {
    let authority = net.authority()?;
    let remote = decode_address(address).ok_or_else(|| failed(ErrorCode::BadArgument))?;
    let query = Query::new(Operation::Connect, Protocol::Tcp).remote(remote);
    if !authority.allows(&query) {
        return Err(failed_with(
            ErrorCode::Denied,
            authority.explain(&query).to_string(),
        ));
    }
    let stream = match timeout {
        0 => net::TcpStream::connect(remote),
        timeout => net::TcpStream::connect_timeout(&remote, Duration::from_millis(timeout.into())),
    }
    .map_err(io_failed)?;
    let local = stream.local_addr().map_err(io_failed)?;
    if !authority.permits(&Tuple::new(Operation::Connect, Protocol::Tcp, local, remote)) {
        let message = format!("the connection's local end {local} is not one that the capability allows");
        return Err(failed_with(ErrorCode::Denied, message));
    }
    // A read that blocked here could not end with its timeout or `WouldBlock`, as the real host's do.
    stream.set_nonblocking(true).map_err(io_failed)?;
    net.child(Object::Stream(Arc::new(stream)))
}

pub(crate) fn net_allows(net: &Slot, query: &[u8]) -> Status {
    let query =
        Query::decode(query).map_err(|error| failed_with(ErrorCode::BadArgument, error.to_string()))?;
    Ok(net.authority()?.allows(&query).into())
}

pub(crate) fn net_describe(net: &Slot, buffer: &mut [u8]) -> Status {
    Ok(fill(buffer, net.authority()?.to_string().as_bytes()))
}

pub(crate) fn stream_read(stream: &Slot, buffer: &mut [u8]) -> Status {
    stream.transferred(stream.stream()?.read(buffer))
}

pub(crate) fn stream_write(stream: &Slot, data: &[u8]) -> Status {
    stream.transferred(stream.stream()?.write(data))
}

/// Waits by asking again and again: std cannot wait for a socket in a way that revoking interrupts.
pub(crate) fn socket_wait(stream: &Slot, until: i32, timeout: u32) -> Status {
    const PAUSE: Duration = Duration::from_millis(1);
    let start = Instant::now();
    loop {
        let would_block = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
        let blocked = stream.stream()?.peek(&mut [0]).is_err_and(would_block);
        if until == WAIT_READ && !blocked {
            return Ok(0);
        }
        std::thread::sleep(PAUSE);
        if until != WAIT_READ {
            // The next attempt to write finds out.
            return Ok(0);
        }
        if timeout > 0 && start.elapsed() >= Duration::from_millis(timeout.into()) {
            return Err(failed(ErrorCode::TimedOut));
        }
    }
}

pub(crate) fn stream_shutdown(stream: &Slot, how: i32) -> Status {
    let how = match how {
        SHUTDOWN_READ => Shutdown::Read,
        SHUTDOWN_WRITE => Shutdown::Write,
        SHUTDOWN_BOTH => Shutdown::Both,
        _ => return Err(failed(ErrorCode::BadArgument)),
    };
    stream.stream()?.shutdown(how).map_err(io_failed)?;
    Ok(0)
}

pub(crate) fn socket_address(stream: &Slot, end: i32, buffer: &mut [u8]) -> Status {
    let stream = stream.stream()?;
    let address: io::Result<SocketAddr> = match end {
        ADDRESS_LOCAL => stream.local_addr(),
        _ => stream.peer_addr(),
    };
    Ok(fill(buffer, &encode_address(address.map_err(io_failed)?)))
}

pub(crate) fn revoker_revoke(revoker: &Slot) -> Status {
    match &revoker.live()?.object {
        Object::Revoker(lineage) => Ok(lineage.revoke()),
        Object::Net(_) | Object::Stream(_) => Err(failed(ErrorCode::WrongKind)),
    }
}

pub(crate) fn error_message(buffer: &mut [u8]) -> Status {
    Ok(MESSAGE.with_borrow(|message| fill(buffer, message.as_bytes())))
}

/// Writes what fits and returns the length of the whole.
fn fill(buffer: &mut [u8], whole: &[u8]) -> u32 {
    let fits = buffer.len().min(whole.len());
    buffer[..fits].copy_from_slice(&whole[..fits]);
    whole.len() as u32
}

fn decode_rules(rules: &[u8]) -> Result<Rules, Failure> {
    Rules::decode(rules).map_err(|error| failed_with(ErrorCode::BadArgument, error.to_string()))
}

fn too_complex(error: TooComplex) -> Failure {
    failed_with(ErrorCode::TooComplex, error.to_string())
}

fn revoked() -> Failure {
    failed(ErrorCode::Revoked)
}

fn failed(code: ErrorCode) -> Failure {
    failed_with(code, code.message().to_owned())
}

/// Keeps a message for [`error_message`].
fn failed_with(code: ErrorCode, message: String) -> Failure {
    MESSAGE.set(message);
    Failure::Host(code)
}

fn io_failed(error: io::Error) -> Failure {
    use io::ErrorKind;
    let code = match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => ErrorCode::WouldBlock,
        ErrorKind::TimedOut => ErrorCode::TimedOut,
        ErrorKind::ConnectionRefused => ErrorCode::ConnectionRefused,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => ErrorCode::ConnectionReset,
        ErrorKind::NotConnected => ErrorCode::NotConnected,
        ErrorKind::AddrInUse => ErrorCode::AddressInUse,
        ErrorKind::AddrNotAvailable => ErrorCode::AddressNotAvailable,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => ErrorCode::Unreachable,
        _ => ErrorCode::Io,
    };
    failed_with(code, error.to_string())
}
