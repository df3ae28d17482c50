//! The stand-in's listeners, datagram sockets, names and pollers.

use std::collections::BTreeMap;
use std::io;
use std::net::{self, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use refcap_abi::service::NetRequest;
use refcap_abi::wire::{decode_address, encode_address};
use refcap_abi::{EVENT_BYTES, ErrorCode, NO_WAIT, READY_ENDED, WAIT_READ, WAIT_WRITE};
use refcap_authority::{
    Answers, Authority, DnsName, Operation, Protocol, Query, Remote, Terms, Tuple, canonical_socket,
};

use super::lineage::{End, Lineage};
use super::objects::Line;
use super::{Object, Rights, Slot, failed, failed_with, fill, implemented, io_failed, revoked};
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

/// Sockets under their numbers, and the calls that do not come under theirs.
#[derive(Debug, Default)]
pub(super) struct Poller(Mutex<BTreeMap<u32, Member>>);

#[derive(Debug)]
enum Member {
    Socket {
        socket: Socket,
        lineage: Arc<Lineage>,
        interest: i32,
    },
    Calls,
}

impl Member {
    /// What there is to tell of it.
    fn ready(&self) -> i32 {
        match self {
            Member::Socket { lineage, .. } if lineage.is_ended() => READY_ENDED,
            Member::Socket { socket, interest, .. } => socket.ready(*interest),
            Member::Calls => 0,
        }
    }
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
    net.child(Object::Net(net.net()?.clone()))
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
    let Rights { authority, by, .. } = net.net()?;
    if let Some(by) = by {
        check(authority, &query)?;
        let local = Some(local);
        return implemented::ask(net, by, NetRequest::Connect { remote, local });
    }
    if local.port() != 0 {
        check(authority, &query)?;
    }
    let message = "the stand-in for a host can't choose the local end of a connection";
    Err(failed_with(ErrorCode::Io, message.to_owned()))
}

fn check(authority: &Authority, query: &Query) -> Result<(), Failure> {
    match authority.allows(query) {
        true => Ok(()),
        false => Err(denied(authority, query)),
    }
}

/// Whether a local end is allowed. Port 0 may be granted itself, or whatever came of it.
fn check_local(
    authority: &Authority,
    query: Query,
    local: SocketAddr,
    bound: SocketAddr,
) -> Result<(), Failure> {
    let of = |local| check(authority, &query.clone().local(local));
    of(local).or_else(|failure| match local.port() {
        0 => of(bound),
        _ => Err(failure),
    })
}

/// Asks the program that implements a Net for something with a local end, which must be as that Net allows: before, and
/// where the port is chosen later, afterwards too.
fn ask_for_local(
    net: &Slot,
    by: &Line,
    queries: &[Query],
    local: SocketAddr,
    request: NetRequest<'_>,
) -> Result<Slot, Failure> {
    let authority = &net.net()?.authority;
    let check_all = |bound| {
        let mut queries = queries.iter().cloned();
        queries.try_for_each(|query| check_local(authority, query, local, bound))
    };
    if local.port() != 0 {
        check_all(local)?;
    }
    let given = implemented::ask(net, by, request)?;
    check_all(local_address(&given)?)?;
    Ok(given)
}

pub(crate) fn net_listen(net: &Slot, local: &[u8], backlog: u32) -> Result<Slot, Failure> {
    let local = address(local)?;
    let queries = [Operation::Bind, Operation::Listen].map(|what| Query::new(what, Protocol::Tcp));
    let Rights { authority, by, .. } = net.net()?;
    if let Some(by) = by {
        return ask_for_local(net, by, &queries, local, NetRequest::Listen { local, backlog });
    }
    let listener = net::TcpListener::bind(local).map_err(io_failed)?;
    let bound = listener.local_addr().map_err(io_failed)?;
    for query in queries {
        check_local(authority, query, local, bound)?;
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
    let query = Query::bind(Protocol::Udp, local);
    let Rights { authority, by, .. } = net.net()?;
    if let Some(by) = by {
        return ask_for_local(net, by, &[query], local, NetRequest::BindUdp { local });
    }
    let socket = net::UdpSocket::bind(local).map_err(io_failed)?;
    let bound = socket.local_addr().map_err(io_failed)?;
    check_local(authority, query, local, bound)?;
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
    let rights = net.net()?;
    let (authority, answers) = (&rights.authority, &rights.answers);
    let query = Query::new(Operation::Connect, Protocol::Tcp).remote((name.clone(), port));
    check(authority, &query)?;
    if let Some(by) = &rights.by {
        return ask_for_name(net, by, &name, port);
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

/// Asks the program that implements a Net for a name, which must be that name.
fn ask_for_name(net: &Slot, by: &Line, name: &DnsName, port: u16) -> Result<Slot, Failure> {
    let asked_for = name.as_str();
    let request = NetRequest::Resolve {
        name: asked_for,
        port,
    };
    let given = implemented::ask(net, by, request)?;
    let found = self::name(&given)?;
    let its_port = found.addresses.first().map_or(0, SocketAddr::port);
    if (&found.name, its_port) != (name, port) {
        let message = format!(
            "the program that implements the Net answered with {}:{its_port}, and was asked for {name}:{port}",
            found.name
        );
        return Err(failed_with(ErrorCode::CalleeFailed, message));
    }
    Ok(given)
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
    let member = Member::Socket {
        socket: socket.socket()?,
        lineage: Arc::clone(&socket.lineage),
        interest,
    };
    lock(&poller(slot)?.0).insert(token, member);
    Ok(0)
}

pub(crate) fn poller_add_calls(slot: &Slot, token: u32) -> Status {
    let mut members = lock(&poller(slot)?.0);
    if let Some(Member::Socket { .. }) = members.get(&token) {
        let message = format!("the poller has another socket with the token {token}");
        return Err(failed_with(ErrorCode::BadArgument, message));
    }
    members.insert(token, Member::Calls);
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
        let mut members = lock(&poller.0);
        let waits_for_calls = |member: &Member| matches!(member, Member::Calls);
        if timeout == 0 && !members.is_empty() && members.values().all(waits_for_calls) {
            return Err(super::objects::nobody_calls());
        }
        members.retain(|&token, member| {
            let ready = member.ready();
            if ready != 0 {
                events.push((token, ready));
            }
            ready != READY_ENDED
        });
        drop(members);
        if !events.is_empty() {
            let is_listener = |token| {
                matches!(
                    lock(&poller.0).get(token),
                    Some(Member::Socket {
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

/// Two ends of a connection of this machine with itself.
pub(crate) fn stream_pair() -> Result<(Slot, Slot), Failure> {
    let connected = || {
        let listener = net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let first = net::TcpStream::connect(listener.local_addr()?)?;
        let (second, peer) = listener.accept()?;
        if peer != first.local_addr()? {
            return Err(io::Error::other("somebody else came first"));
        }
        Ok([first, second])
    };
    let [first, second] = connected().map_err(io_failed)?;
    let slot = |stream: net::TcpStream| {
        // As for each stream here: what would block says so.
        stream.set_nonblocking(true).map_err(io_failed)?;
        let stream = Arc::new(stream);
        let lineage = Lineage::of_socket(stream.clone());
        Ok(Slot::new(Object::Stream(stream), lineage))
    };
    Ok((slot(first)?, slot(second)?))
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
