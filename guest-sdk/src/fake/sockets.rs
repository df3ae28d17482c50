//! The stand-in's listeners, datagram sockets, names and pollers.

use std::collections::BTreeMap;
use std::io;
use std::net::{self, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use refcap_abi::wire::{decode_address, encode_address};
use refcap_abi::{EVENT_BYTES, ErrorCode, NO_WAIT, READY_ENDED, WAIT_READ, WAIT_WRITE};
use refcap_authority::{
    Answers, Authority, DnsName, Operation, Protocol, Query, Remote, Terms, Tuple, canonical_socket,
};

use super::lineage::{End, Lineage};
use super::{Object, Slot, failed, failed_with, fill, io_failed, revoked};
use crate::host::{Failure, Status};

/// A socket until it ends.
#[derive(Debug)]
pub(super) struct Closable<T>(Mutex<Option<T>>);

impl<T> Closable<T> {
    fn new(socket: T) -> Arc<Closable<T>> {
        Arc::new(Closable(Mutex::new(Some(socket))))
    }

    pub(super) fn with<R>(&self, use_it: impl FnOnce(&T) -> R) -> Result<R, Failure> {
        lock(&self.0).as_ref().map(use_it).ok_or_else(revoked)
    }
}

impl<T: std::fmt::Debug + Send> End for Closable<T> {
    fn end(&self) {
        lock(&self.0).take();
    }
}

impl End for net::TcpStream {
    fn end(&self) {
        // It may have been shut by the guest or by the peer before.
        let _ = self.shutdown(net::Shutdown::Both);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code can panic while it changes what is inside halfway.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A datagram socket, what it may do, and its peer if it has one.
#[derive(Debug)]
pub(super) struct Udp {
    socket: net::UdpSocket,
    authority: Authority,
    peer: Mutex<Option<SocketAddr>>,
    dropped: AtomicU32,
}

/// A name, and what it stood for.
#[derive(Debug)]
pub(super) struct Name {
    name: DnsName,
    addresses: Vec<SocketAddr>,
    authority: Authority,
}

/// Sockets under their numbers.
#[derive(Debug, Default)]
pub(super) struct Poller(Mutex<BTreeMap<u32, Member>>);

#[derive(Debug)]
struct Member {
    socket: Socket,
    lineage: Arc<Lineage>,
    interest: i32,
}

/// Something to wait for.
#[derive(Debug, Clone)]
pub(super) enum Socket {
    Stream(Arc<net::TcpStream>),
    Listener(Arc<Closable<net::TcpListener>>),
    Udp(Arc<Closable<Udp>>),
}

impl Socket {
    /// Whether there is something to read, as far as std can tell without taking it. A listener always says
    /// yes: that is a hint, and accepting says no.
    fn is_readable(&self) -> bool {
        let blocks =
            |result: io::Result<usize>| result.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        match self {
            Socket::Stream(stream) => !blocks(stream.peek(&mut [0])),
            Socket::Listener(_) => true,
            Socket::Udp(socket) => socket
                .with(|udp| !blocks(udp.socket.peek(&mut [0])))
                .unwrap_or(true),
        }
    }

    fn ready(&self, interest: i32) -> i32 {
        let readable = interest & WAIT_READ != 0 && self.is_readable();
        // What can't be written says so when it is tried.
        i32::from(readable) * WAIT_READ + (interest & WAIT_WRITE)
    }
}

fn denied(authority: &Authority, query: &Query) -> Failure {
    failed_with(ErrorCode::Denied, authority.explain(query).to_string())
}

fn address(bytes: &[u8]) -> Result<SocketAddr, Failure> {
    let address = decode_address(bytes).ok_or_else(|| failed(ErrorCode::BadArgument))?;
    Ok(canonical_socket(address))
}

/// Terms are read and checked, and label, lease and budgets have no effect here.
pub(crate) fn net_limit(net: &Slot, terms: &[u8]) -> Result<Slot, Failure> {
    let text = std::str::from_utf8(terms).map_err(|_| failed(ErrorCode::BadArgument))?;
    text.parse::<Terms>()
        .map_err(|error| failed_with(ErrorCode::BadArgument, error.to_string()))?;
    let (authority, answers) = net.net()?;
    net.child(Object::Net(authority.clone(), answers.clone()))
}

pub(crate) fn net_connect_from(
    net: &Slot,
    remote: &[u8],
    local: &[u8],
    _timeout: u32,
) -> Result<Slot, Failure> {
    let (remote, local) = (address(remote)?, address(local)?);
    let query = Query::new(Operation::Connect, Protocol::Tcp)
        .remote(remote)
        .local(local);
    let (authority, _) = net.net()?;
    if local.port() != 0 && !authority.allows(&query) {
        return Err(denied(authority, &query));
    }
    let message = "the stand-in for a host can't choose the local end of a connection";
    Err(failed_with(ErrorCode::Io, message.to_owned()))
}

fn check_local(authority: &Authority, query: &Query, local: SocketAddr) -> Result<(), Failure> {
    let query = query.clone().local(local);
    match authority.allows(&query) {
        true => Ok(()),
        false => Err(denied(authority, &query)),
    }
}

pub(crate) fn net_listen(net: &Slot, local: &[u8], _backlog: u32) -> Result<Slot, Failure> {
    let local = address(local)?;
    let (authority, _) = net.net()?;
    let listener = net::TcpListener::bind(local).map_err(io_failed)?;
    let bound = listener.local_addr().map_err(io_failed)?;
    for operation in [Operation::Bind, Operation::Listen] {
        let query = Query::new(operation, Protocol::Tcp);
        // Port 0 may be granted itself, or whatever came of it.
        check_local(authority, &query, local).or_else(|failure| match local.port() {
            0 => check_local(authority, &query, bound),
            _ => Err(failure),
        })?;
    }
    listener.set_nonblocking(true).map_err(io_failed)?;
    net.child(Object::Listener(Closable::new(listener), authority.clone()))
}

pub(crate) fn listener_accept(listener: &Slot) -> Result<Slot, Failure> {
    let Object::Listener(socket, authority) = &*listener.live()?.object else {
        return Err(failed(ErrorCode::WrongKind));
    };
    loop {
        let (stream, peer) = socket.with(net::TcpListener::accept)?.map_err(io_failed)?;
        let local = stream.local_addr().map_err(io_failed)?;
        if authority.permits(&Tuple::new(Operation::Accept, Protocol::Tcp, local, peer)) {
            stream.set_nonblocking(true).map_err(io_failed)?;
            return listener.child(Object::Stream(Arc::new(stream)));
        }
    }
}

pub(crate) fn net_bind_udp(net: &Slot, local: &[u8]) -> Result<Slot, Failure> {
    let local = address(local)?;
    let (authority, _) = net.net()?;
    let socket = net::UdpSocket::bind(local).map_err(io_failed)?;
    let bound = socket.local_addr().map_err(io_failed)?;
    let query = Query::bind(Protocol::Udp, local);
    check_local(authority, &query, local).or_else(|failure| match local.port() {
        0 => check_local(authority, &query, bound),
        _ => Err(failure),
    })?;
    socket.set_nonblocking(true).map_err(io_failed)?;
    net.child(Object::Udp(Closable::new(Udp {
        socket,
        authority: authority.clone(),
        peer: Mutex::new(None),
        dropped: AtomicU32::new(0),
    })))
}

impl Slot {
    fn udp<R>(&self, use_it: impl FnOnce(&Udp) -> Result<R, Failure>) -> Result<R, Failure> {
        match &*self.live()?.object {
            Object::Udp(socket) => socket.with(use_it)?,
            _ => Err(failed(ErrorCode::WrongKind)),
        }
    }
}

impl Udp {
    fn check(&self, operation: Operation, remote: SocketAddr) -> Result<(), Failure> {
        let local = self.socket.local_addr().map_err(io_failed)?;
        let tuple = Tuple::new(operation, Protocol::Udp, local, remote);
        match self.authority.permits(&tuple) {
            true => Ok(()),
            false => Err(denied(&self.authority, &tuple.into())),
        }
    }
}

pub(crate) fn udp_connect(socket: &Slot, peer: &[u8]) -> Status {
    let peer = address(peer)?;
    socket.udp(|udp| {
        udp.check(Operation::Connect, peer)?;
        *lock(&udp.peer) = Some(peer);
        Ok(0)
    })
}

pub(crate) fn udp_send(socket: &Slot, data: &[u8], to: &[u8]) -> Status {
    socket.udp(|udp| {
        let to = match (to, *lock(&udp.peer)) {
            ([], None) => return Err(failed(ErrorCode::NotConnected)),
            ([], Some(peer)) => peer,
            (to, peer) => {
                let to = address(to)?;
                if peer.is_some_and(|peer| peer != to) {
                    return Err(failed(ErrorCode::BadArgument));
                }
                to
            }
        };
        udp.check(Operation::Send, to)?;
        let sent = udp.socket.send_to(data, to).map_err(io_failed)?;
        Ok(sent as u32)
    })
}

pub(crate) fn udp_receive(socket: &Slot, buffer: &mut [u8], sender: &mut [u8]) -> Status {
    let mut whole = vec![0; 65_535];
    loop {
        let received = socket.udp(|udp| {
            let (length, from) = udp.socket.recv_from(&mut whole).map_err(io_failed)?;
            let is_peer = lock(&udp.peer).is_none_or(|peer| peer == from);
            if !is_peer || udp.check(Operation::Receive, from).is_err() {
                udp.dropped.fetch_add(1, Ordering::Relaxed);
                return Ok(None);
            }
            Ok(Some((length, from)))
        })?;
        if let Some((length, from)) = received {
            fill(sender, &encode_address(from));
            return Ok(fill(buffer, &whole[..length]));
        }
    }
}

pub(crate) fn udp_dropped(socket: &Slot) -> Status {
    socket.udp(|udp| Ok(udp.dropped.load(Ordering::Relaxed)))
}

/// Asks this machine's own resolver, which does not tell how long an answer is good for: names have no lease
/// here.
pub(crate) fn net_resolve(net: &Slot, name: &str, port: u16, _timeout: u32) -> Result<Slot, Failure> {
    let name = DnsName::new(name)
        .map_err(|error| failed_with(ErrorCode::BadArgument, format!("{name:?}: {error}")))?;
    let (authority, answers) = net.net()?;
    let query = Query::new(Operation::Connect, Protocol::Tcp).remote((name.clone(), port));
    if !authority.allows(&query) {
        return Err(denied(authority, &query));
    }
    let found = (name.as_str(), port)
        .to_socket_addrs()
        .map_err(|error| failed_with(ErrorCode::NameNotResolved, format!("{name}: {error}")))?;
    let addresses: Vec<_> = found.filter(|&address| may_stand_for(answers, address)).collect();
    if addresses.is_empty() {
        let message = format!("{name} stands for no address that is allowed");
        return Err(failed_with(ErrorCode::Denied, message));
    }
    net.child(Object::Name(Name {
        name,
        addresses,
        authority: authority.clone(),
    }))
}

fn may_stand_for(answers: &Answers, remote: SocketAddr) -> bool {
    let local = if remote.is_ipv4() {
        SocketAddr::from(([0; 4], 0))
    } else {
        SocketAddr::from(([0; 16], 0))
    };
    answers.permits(&Tuple::new(Operation::Connect, Protocol::Tcp, local, remote))
}

fn name(slot: &Slot) -> Result<&Name, Failure> {
    match &*slot.live()?.object {
        Object::Name(name) => Ok(name),
        _ => Err(failed(ErrorCode::WrongKind)),
    }
}

pub(crate) fn name_connect(slot: &Slot, timeout: u32) -> Result<Slot, Failure> {
    let name = name(slot)?;
    let mut last = failed(ErrorCode::NameNotResolved);
    for &remote in &name.addresses {
        let stream = match super::open(remote, timeout) {
            Ok(stream) => stream,
            Err(error) => {
                last = io_failed(error);
                continue;
            }
        };
        let local = stream.local_addr().map_err(io_failed)?;
        let judged = Remote::from((name.name.clone(), remote.port()));
        let tuple = Tuple::new(Operation::Connect, Protocol::Tcp, local, judged);
        if !name.authority.permits(&tuple) {
            return Err(denied(&name.authority, &tuple.into()));
        }
        stream.set_nonblocking(true).map_err(io_failed)?;
        return slot.child(Object::Stream(Arc::new(stream)));
    }
    Err(last)
}

pub(crate) fn name_describe(slot: &Slot, buffer: &mut [u8]) -> Status {
    let name = name(slot)?;
    let addresses: Vec<_> = name
        .addresses
        .iter()
        .map(|address| address.ip().to_string())
        .collect();
    let port = name.addresses.first().map_or(0, SocketAddr::port);
    let text = format!("{}:{port} is {}", name.name, addresses.join(", "));
    Ok(fill(buffer, text.as_bytes()))
}

pub(crate) fn poller_new() -> Result<Slot, Failure> {
    Ok(Slot::new(Object::Poller(Poller::default()), Lineage::root()))
}

fn poller(slot: &Slot) -> Result<&Poller, Failure> {
    match &*slot.live()?.object {
        Object::Poller(poller) => Ok(poller),
        _ => Err(failed(ErrorCode::WrongKind)),
    }
}

pub(crate) fn poller_add(slot: &Slot, socket: &Slot, token: u32, interest: i32) -> Status {
    let member = Member {
        socket: socket.socket()?,
        lineage: Arc::clone(&socket.lineage),
        interest,
    };
    lock(&poller(slot)?.0).insert(token, member);
    Ok(0)
}

pub(crate) fn poller_remove(slot: &Slot, token: u32) -> Status {
    Ok(lock(&poller(slot)?.0).remove(&token).is_some().into())
}

/// Looks again and again, as [`socket_wait`](super::socket_wait) does.
pub(crate) fn poller_wait(slot: &Slot, buffer: &mut [u8], timeout: u32) -> Status {
    let most = buffer.len() / EVENT_BYTES;
    let start = Instant::now();
    loop {
        let mut events = Vec::new();
        let poller = poller(slot)?;
        lock(&poller.0).retain(|&token, member| {
            if member.lineage.is_ended() {
                events.push((token, READY_ENDED));
                return false;
            }
            match member.socket.ready(member.interest) {
                0 => {}
                ready => events.push((token, ready)),
            }
            true
        });
        if !events.is_empty() {
            let is_listener = |token| {
                matches!(
                    lock(&poller.0).get(token),
                    Some(Member {
                        socket: Socket::Listener(_),
                        ..
                    })
                )
            };
            if events.iter().all(|(token, _)| is_listener(token)) {
                // They always say that they are ready, and whoever believes it comes back at once.
                std::thread::sleep(super::PAUSE);
            }
            let (slots, _) = buffer.as_chunks_mut::<EVENT_BYTES>();
            for (slot, (token, ready)) in slots.iter_mut().zip(&events) {
                slot[..4].copy_from_slice(&token.to_le_bytes());
                slot[4..].copy_from_slice(&ready.to_le_bytes());
            }
            return Ok(events.len().min(most) as u32);
        }
        let is_over = match timeout {
            0 => false,
            now if now == NO_WAIT.cast_unsigned() => true,
            timeout => super::skip(timeout) || start.elapsed() >= Duration::from_millis(timeout.into()),
        };
        if is_over {
            return Err(failed(ErrorCode::TimedOut));
        }
        std::thread::sleep(super::PAUSE);
    }
}

/// Waits by asking again and again: std cannot wait for a socket in a way that revoking interrupts.
pub(crate) fn socket_wait(slot: &Slot, until: i32, timeout: u32) -> Status {
    let start = Instant::now();
    loop {
        let is_readable = slot.socket()?.is_readable();
        if until == WAIT_READ && is_readable && !matches!(*slot.object, Object::Listener(..)) {
            return Ok(0);
        }
        std::thread::sleep(super::PAUSE);
        if timeout > 0 && start.elapsed() >= Duration::from_millis(timeout.into()) {
            return Err(failed(ErrorCode::TimedOut));
        }
        if until != WAIT_READ || matches!(*slot.object, Object::Listener(..)) {
            // The next attempt finds out.
            slot.live()?;
            return Ok(0);
        }
    }
}

pub(super) fn local_address(slot: &Slot) -> Result<SocketAddr, Failure> {
    match slot.socket()? {
        Socket::Stream(stream) => stream.local_addr().map_err(io_failed),
        Socket::Listener(listener) => listener.with(net::TcpListener::local_addr)?.map_err(io_failed),
        Socket::Udp(socket) => socket.with(|udp| udp.socket.local_addr())?.map_err(io_failed),
    }
}

pub(super) fn peer_address(slot: &Slot) -> Result<SocketAddr, Failure> {
    match slot.socket()? {
        Socket::Stream(stream) => stream.peer_addr().map_err(io_failed),
        Socket::Listener(_) => Err(failed(ErrorCode::NotConnected)),
        Socket::Udp(socket) => socket
            .with(|udp| *lock(&udp.peer))?
            .ok_or_else(|| failed(ErrorCode::NotConnected)),
    }
}
