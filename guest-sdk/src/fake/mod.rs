//! The host calls of a native build: a small host in the same process, for the tests of guests.
//!
//! It decides with the same algebra as the real host, and its connections are real. It is no sandbox,
//! since the program around it has all the authority of its process, and simpler than the real host in
//! these points: a local end is checked once it is bound or connected, not before, and can't be chosen for a
//! connection; write timeouts do not run out, and a listener's time limit is for each attempt; names have no
//! lease; limits, flags and labels have no effect; spawners start no programs; objects are called in the thread that made
//! them, and nobody else's calls come; what was obtained through a Net that a program implements needs what that Net allows
//! when it is obtained, and later what its own does; a pair of streams is a connection of this machine with itself; there are no
//! guards and no audit log.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{self, Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use refcap_abi::service::NetRequest;
use refcap_abi::wire::{decode_address, encode_address};
use refcap_abi::{
    ADDRESS_LOCAL, ErrorCode, FLAG_DERIVABLE, FLAG_TRANSFERABLE, Kind, MAX_PIECES, NO_WAIT, SHUTDOWN_BOTH,
    SHUTDOWN_READ, SHUTDOWN_WRITE,
};
use refcap_authority::{
    Answers, Authority, DeriveError, Operation, Protocol, Query, Rules, TooComplex, Tuple,
};

use crate::host::{Failure, Status};
use lineage::{End, Lineage};
use sockets::{Closable, Socket};

mod children;
mod implemented;
mod lineage;
mod membranes;
mod objects;
mod sockets;

pub(crate) use children::{
    child_argument, child_grant, child_limit, child_start, child_stop, child_wait, spawner_load,
    spawner_program,
};
pub(crate) use implemented::object_as_net;
pub(crate) use membranes::{membrane_cut, membrane_new, membrane_wrap};
pub(crate) use objects::{
    message_answer, message_attach, message_count, message_discard, message_read, message_take, object_call,
    object_forgotten, object_new, object_revocable, object_serve, take_out,
};
pub(crate) use sockets::{
    listener_accept, name_connect, name_describe, net_bind_udp, net_connect_from, net_limit, net_listen,
    net_resolve, poller_add, poller_add_calls, poller_new, poller_remove, poller_wait, socket_wait,
    stream_pair, udp_connect, udp_dropped, udp_receive, udp_send,
};

/// Between two looks at a socket.
const PAUSE: Duration = Duration::from_millis(1);

/// The owner of a reference.
#[derive(Debug)]
pub(crate) struct Slot {
    object: Arc<Object>,
    lineage: Arc<Lineage>,
    /// Whether what it owned has another owner now.
    moved: AtomicBool,
}

/// What a reference names.
#[derive(Debug)]
enum Object {
    Net(Rights),
    Name(sockets::Name),
    Stream(Arc<net::TcpStream>),
    Listener(Arc<Closable<net::TcpListener>>, Authority),
    Udp(Arc<Closable<sockets::Udp>>),
    Poller(sockets::Poller),
    /// What it revokes.
    Revoker(Arc<Lineage>),
    /// It starts nothing.
    Spawner,
    Implemented(objects::Line),
    Membrane(Arc<membranes::Cut>),
}

/// What a Net allows, and who implements it where it is a program.
#[derive(Debug, Clone)]
struct Rights {
    authority: Authority,
    answers: Answers,
    by: Option<objects::Line>,
}

impl Rights {
    /// The same Net with less.
    fn narrowed(&self, authority: Authority, answers: Answers) -> Object {
        let by = self.by.clone();
        Object::Net(Rights {
            authority,
            answers,
            by,
        })
    }
}

impl Slot {
    /// A capability that is derived from no other.
    pub(crate) fn root(authority: Authority, answers: Answers) -> Slot {
        let by = None;
        let rights = Rights {
            authority,
            answers,
            by,
        };
        Slot::new(Object::Net(rights), Lineage::root())
    }

    fn new(object: Object, lineage: Arc<Lineage>) -> Slot {
        Slot::of(Arc::new(object), lineage)
    }

    fn of(object: Arc<Object>, lineage: Arc<Lineage>) -> Slot {
        Slot {
            object,
            lineage,
            moved: AtomicBool::new(false),
        }
    }

    /// A capability that ends with this one.
    fn child(&self, object: Object) -> Result<Slot, Failure> {
        let socket: Option<Arc<dyn End>> = match &object {
            Object::Stream(stream) => Some(stream.clone()),
            Object::Listener(listener, _) => Some(listener.clone()),
            Object::Udp(socket) => Some(socket.clone()),
            Object::Net(..)
            | Object::Name(_)
            | Object::Poller(_)
            | Object::Revoker(_)
            | Object::Spawner
            | Object::Implemented(_)
            | Object::Membrane(_) => None,
        };
        let lineage = self.lineage.child(socket).ok_or_else(revoked)?;
        Ok(Slot::new(object, lineage))
    }

    fn net(&self) -> Result<&Rights, Failure> {
        match &*self.live()?.object {
            Object::Net(rights) => Ok(rights),
            _ => Err(failed(ErrorCode::WrongKind)),
        }
    }

    fn stream(&self) -> Result<&net::TcpStream, Failure> {
        match &*self.live()?.object {
            Object::Stream(stream) => Ok(stream),
            _ => Err(failed(ErrorCode::WrongKind)),
        }
    }

    fn socket(&self) -> Result<Socket, Failure> {
        match &*self.live()?.object {
            Object::Stream(stream) => Ok(Socket::Stream(stream.clone())),
            Object::Listener(listener, _) => Ok(Socket::Listener(listener.clone())),
            Object::Udp(socket) => Ok(Socket::Udp(socket.clone())),
            _ => Err(failed(ErrorCode::WrongKind)),
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
        if self.moved.load(Ordering::Relaxed) {
            return Err(failed(ErrorCode::NullReference));
        }
        if self.lineage.is_revoked() {
            Err(revoked())
        } else {
            Ok(self)
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.moved.load(Ordering::Relaxed) {
            self.lineage.close();
        }
    }
}

thread_local! {
    static MESSAGE: RefCell<String> = const { RefCell::new(String::new()) };
    static GRANTS: RefCell<HashMap<String, Slot>> = RefCell::new(HashMap::new());
    /// The time in nanoseconds, where the clock was stopped.
    static STOPPED: Cell<Option<u64>> = const { Cell::new(None) };
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

/// A native program is linked to none.
pub(crate) fn link_find(name: &str) -> Status {
    let message = format!("this is a native build, which is linked to no program, so there is no `{name}`");
    Err(failed_with(ErrorCode::NotFound, message))
}

pub(crate) fn link_give(_capability: Slot, _program: u32) -> Status {
    Err(failed(ErrorCode::NotFound))
}

pub(crate) fn link_take(_program: u32) -> Result<Slot, Failure> {
    Err(failed(ErrorCode::NotFound))
}

pub(crate) fn received(_number: u32) -> Option<Slot> {
    None
}

pub(crate) fn put_out(_capability: Slot) -> Status {
    Err(failed(ErrorCode::NotFound))
}

pub(crate) fn cap_close(slot: Slot) -> Status {
    drop(slot);
    Ok(0)
}

pub(crate) fn cap_kind(slot: &Slot) -> Status {
    let kind = match &*slot.live()?.object {
        Object::Net(..) => Kind::Net,
        Object::Name(_) => Kind::Name,
        Object::Stream(_) => Kind::TcpStream,
        Object::Listener(..) => Kind::TcpListener,
        Object::Udp(_) => Kind::UdpSocket,
        Object::Poller(_) => Kind::Poller,
        Object::Revoker(_) => Kind::Revoker,
        Object::Spawner => Kind::Spawner,
        Object::Implemented(_) => Kind::Object,
        Object::Membrane(_) => Kind::Membrane,
    };
    Ok(kind.code().unsigned_abs())
}

pub(crate) fn net_only(net: &Slot, rules: &[u8]) -> Result<Slot, Failure> {
    let rights = net.net()?;
    let rules = decode_rules(rules)?;
    let authority = rights.authority.only(&rules).map_err(too_complex)?;
    let answers = rights.answers.only(&rules).map_err(too_complex)?;
    net.child(rights.narrowed(authority, answers))
}

pub(crate) fn net_exactly(net: &Slot, rules: &[u8]) -> Result<Slot, Failure> {
    let rights = net.net()?;
    let rules = decode_rules(rules)?;
    let derived = rights.authority.exactly(&rules);
    let derived = derived.and_then(|authority| Ok((authority, rights.answers.exactly(&rules)?)));
    let (authority, answers) = derived.map_err(|error| {
        let code = match error {
            DeriveError::TooComplex(_) => ErrorCode::TooComplex,
            _ => ErrorCode::NotSubset,
        };
        failed_with(code, error.to_string())
    })?;
    net.child(rights.narrowed(authority, answers))
}

pub(crate) fn net_except(net: &Slot, rules: &[u8]) -> Result<Slot, Failure> {
    let rights = net.net()?;
    let rules = decode_rules(rules)?;
    let authority = rights.authority.except(&rules).map_err(too_complex)?;
    let answers = rights.answers.except(&rules).map_err(too_complex)?;
    net.child(rights.narrowed(authority, answers))
}

pub(crate) fn net_revocable(net: &Slot) -> Result<(Slot, Slot), Failure> {
    let child = net.child(Object::Net(net.net()?.clone()))?;
    let revoker = net.child(Object::Revoker(Arc::clone(&child.lineage)))?;
    Ok((child, revoker))
}

/// The stand-in has no engine to run a guard in. It refuses here, so that nobody takes a Net for guarded that is not.
pub(crate) fn guard_new(_module: &[u8]) -> Result<Slot, Failure> {
    let message = "the stand-in for a host has no engine to run guards in: test a guard by itself, as a type of the \
                   crate refcap-guard, and a program with one as wasm";
    Err(failed_with(ErrorCode::Io, message.to_owned()))
}

/// Nobody has a Guard here, so this is given something else.
pub(crate) fn net_guarded(net: &Slot, guard: &Slot) -> Result<Slot, Failure> {
    net.net()?;
    guard.live()?;
    Err(failed(ErrorCode::WrongKind))
}

pub(crate) fn net_connect(net: &Slot, address: &[u8], timeout: u32) -> Result<Slot, Failure> {
    let Rights { authority, by, .. } = net.net()?;
    let remote = decode_address(address).ok_or_else(|| failed(ErrorCode::BadArgument))?;
    let query = Query::new(Operation::Connect, Protocol::Tcp).remote(remote);
    if !authority.allows(&query) {
        return Err(failed_with(
            ErrorCode::Denied,
            authority.explain(&query).to_string(),
        ));
    }
    if let Some(by) = by {
        return implemented::ask(net, by, NetRequest::Connect { remote, local: None });
    }
    let stream = open(remote, timeout).map_err(io_failed)?;
    let local = stream.local_addr().map_err(io_failed)?;
    if !authority.permits(&Tuple::new(Operation::Connect, Protocol::Tcp, local, remote)) {
        let message = format!("the connection's local end {local} is not one that the capability allows");
        return Err(failed_with(ErrorCode::Denied, message));
    }
    // A read that blocked here could not end with its timeout or `WouldBlock`, as the real host's do.
    stream.set_nonblocking(true).map_err(io_failed)?;
    net.child(Object::Stream(Arc::new(stream)))
}

/// Connects, within a time in milliseconds if there is one.
fn open(remote: SocketAddr, timeout: u32) -> io::Result<net::TcpStream> {
    match timeout {
        // Not waiting is beyond std.
        0 => net::TcpStream::connect(remote),
        no_wait if no_wait == NO_WAIT.cast_unsigned() => net::TcpStream::connect(remote),
        timeout => net::TcpStream::connect_timeout(&remote, Duration::from_millis(timeout.into())),
    }
}

pub(crate) fn net_allows(net: &Slot, query: &[u8]) -> Status {
    let query =
        Query::decode(query).map_err(|error| failed_with(ErrorCode::BadArgument, error.to_string()))?;
    Ok(net.net()?.authority.allows(&query).into())
}

pub(crate) fn net_describe(net: &Slot, buffer: &mut [u8]) -> Status {
    Ok(fill(buffer, net.net()?.authority.to_string().as_bytes()))
}

pub(crate) fn net_flags(net: &Slot) -> Status {
    net.net()?;
    Ok((FLAG_DERIVABLE | FLAG_TRANSFERABLE).cast_unsigned())
}

pub(crate) fn stream_read(stream: &Slot, buffer: &mut [u8]) -> Status {
    stream.transferred(stream.stream()?.read(buffer))
}

pub(crate) fn stream_write(stream: &Slot, data: &[u8]) -> Status {
    stream.transferred(stream.stream()?.write(data))
}

pub(crate) fn stream_read_vectored(stream: &Slot, buffers: &mut [IoSliceMut<'_>]) -> Status {
    let mut taken: Vec<_> = buffers
        .iter_mut()
        .filter(|buffer| !buffer.is_empty())
        .take(MAX_PIECES)
        .map(|buffer| IoSliceMut::new(buffer))
        .collect();
    stream.transferred(stream.stream()?.read_vectored(&mut taken))
}

pub(crate) fn stream_write_vectored(stream: &Slot, data: &[IoSlice<'_>]) -> Status {
    let taken: Vec<_> = data
        .iter()
        .filter(|piece| !piece.is_empty())
        .take(MAX_PIECES)
        .copied()
        .collect();
    stream.transferred(stream.stream()?.write_vectored(&taken))
}

/// Takes what the other stream took, and leaves the rest where it is, as the real host does.
pub(crate) fn stream_copy(from: &Slot, to: &Slot, most: u32) -> Status {
    /// As much as the real host moves at once.
    const CHUNK: usize = 64 << 10;
    let (mut source, mut sink) = (from.stream()?, to.stream()?);
    if std::ptr::eq(source, sink) {
        let message = "a stream can't be copied to itself";
        return Err(failed_with(ErrorCode::BadArgument, message.to_owned()));
    }
    let mut buffer = vec![0; CHUNK.min(most as usize)];
    let arrived = from.transferred(source.peek(&mut buffer))?;
    if arrived == 0 {
        return Ok(0);
    }
    let taken = to.transferred(sink.write(&buffer[..arrived as usize]))?;
    let consumed = source.read_exact(&mut buffer[..taken as usize]);
    from.transferred(consumed.map(|()| taken as usize))
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

pub(crate) fn stream_no_delay(stream: &Slot, on: bool) -> Status {
    stream.stream()?.set_nodelay(on).map_err(io_failed)?;
    Ok(0)
}

pub(crate) fn socket_address(socket: &Slot, end: i32, buffer: &mut [u8]) -> Status {
    let address = match end {
        ADDRESS_LOCAL => sockets::local_address(socket)?,
        _ => sockets::peer_address(socket)?,
    };
    Ok(fill(buffer, &encode_address(address)))
}

pub(crate) fn revoker_revoke(revoker: &Slot) -> Status {
    match &*revoker.live()?.object {
        Object::Revoker(lineage) => Ok(lineage.revoke()),
        _ => Err(failed(ErrorCode::WrongKind)),
    }
}

pub(crate) fn time_now(buffer: &mut [u8]) -> Status {
    let nanos = STOPPED.get().unwrap_or_else(running_clock);
    Ok(fill(buffer, &nanos.to_le_bytes()))
}

fn running_clock() -> u64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let nanos = START.get_or_init(std::time::Instant::now).elapsed().as_nanos();
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

/// Stops the clock of this thread. From now on, a poller's time limit passes at once.
pub(crate) fn stop_clock() {
    STOPPED.set(Some(STOPPED.get().unwrap_or_else(running_clock)));
}

/// Lets the time limit of a wait pass, if the clock was stopped. Returns whether it was.
fn skip(milliseconds: u32) -> bool {
    let now = STOPPED.get();
    let nanos = u64::from(milliseconds) * 1_000_000;
    STOPPED.set(now.map(|now| now.saturating_add(nanos)));
    now.is_some()
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
