//! Sockets that a guest makes: connections, listeners, what they accept, and datagram sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use refcap_abi::service::NetRequest;
use refcap_abi::{ErrorCode, NO_WAIT, wire};
use refcap_authority::canonical_socket;

use super::implemented::{self, Use};
use super::memory::{at_most, bytes_at};
use crate::audit;
use crate::budget::{Account, Connection};
use crate::capability::Key;
use crate::capability::entry::Entry;
use crate::capability::rights::Rights;
use crate::capability::table::{NoBirth, Object, Own};
use crate::net::{ListenerDoor, Permit, TcpDoor, UdpDoor, connect};
use crate::references::{Call, Failure, Outcome, Reply};
use crate::vat::Refusal;

/// `net_connect(net, address, length, timeout_ms) -> (stream, status)`: open a TCP connection.
///
/// - **Needs** a Net, an address in its wire form, and a time in milliseconds: 0 for the vat's own limit,
///   `NO_WAIT` to return before the connection is there.
/// - **Checks**, before any packet leaves: the remote address and the IPv4 addresses inside it; that some
///   local end is granted towards it; what the socket was really bound to. And the limits and budgets of
///   sockets, connections and capabilities.
/// - **Returns** a TcpStream derived from the Net. `BadArgument`, `Denied` (with the nearest rule),
///   `AddressNotAvailable`, `AddressInUse`, `ConnectionRefused`, `ConnectionReset`, `Unreachable`,
///   `TimedOut`, `LimitReached`, `Exhausted`, `Io`; `Revoked` when the Net is revoked while it waits. With
///   `NO_WAIT`, what becomes of the connection is told by the stream: `socket_wait` or a poller says when
///   it can be written, and writing nothing then succeeds or says why there is no connection. A Net that a
///   program implements: what that program answers, and `CalleeFailed`.
/// - **Traps** never by itself; when the program that implements the Net is of the same vat and traps, the vat ends.
///   Suspends the guest until the connection is there or not.
pub(super) async fn connect(call: &mut Call<'_>) -> Reply {
    let net = call.key(0)?;
    call.state().table.get(net)?.net()?;
    let remote = address(call, 0, 1)?;
    let time = connect_time(call, 2);
    if let Some(rights) = implemented::by_program(call, net) {
        // In a box, for what this needs room for most connections don't.
        return Box::pin(through_program(call, net, &rights, remote, None, time)).await;
    }
    let door = prepare(call, net, |rights, permit| {
        connect::to_address(rights, remote, None, time.limit(), permit)
    })?;
    finish(call, net, door, time).await
}

/// `net_connect_from(net, remote, length, local, length, timeout_ms) -> (stream, status)`: open a TCP
/// connection from a chosen local end.
///
/// - **Needs** a Net, two addresses in their wire form, and a time as for `net_connect`. Port 0 of the local
///   end is any of the ports that are granted.
/// - **Checks** as `net_connect` does, with this local end.
/// - **Returns** as `net_connect` does.
/// - **Traps** as `net_connect`. Suspends the guest until the connection is there or not.
pub(super) async fn connect_from(call: &mut Call<'_>) -> Reply {
    let net = call.key(0)?;
    call.state().table.get(net)?.net()?;
    let local = address(call, 2, 3)?;
    let remote = address(call, 0, 1)?;
    let time = connect_time(call, 4);
    if let Some(rights) = implemented::by_program(call, net) {
        return Box::pin(through_program(call, net, &rights, remote, Some(local), time)).await;
    }
    let door = prepare(call, net, |rights, permit| {
        connect::to_address(rights, remote, Some(local), time.limit(), permit)
    })?;
    finish(call, net, door, time).await
}

/// A connection through a Net that a program implements. There is no connection that is still to be made, so `NO_WAIT`
/// waits for the program too.
async fn through_program(
    call: &mut Call<'_>,
    net: Key<Entry>,
    rights: &Rights,
    remote: SocketAddr,
    local: Option<SocketAddr>,
    time: ConnectTime,
) -> Reply {
    let remote = connect::reachable(remote)?;
    let local = local.map(canonical_socket);
    let request = NetRequest::Connect { remote, local };
    implemented::ask(call, net, rights, &Use::Request(request), time.limit()).await
}

/// Checks a connection through a Net and makes its socket.
fn prepare(
    call: &mut Call<'_>,
    net: Key<Entry>,
    open: impl FnOnce(&Rights, Permit) -> Result<TcpDoor, Refusal>,
) -> Result<(TcpDoor, Option<Connection>), Failure> {
    make_room(call, 1)?;
    let rights = call.state().table.rights(net)?.to_owned();
    let (permit, connection) = connection_permit(call, rights.conditions.account.as_ref())?;
    Ok((open(&rights, permit)?, connection))
}

/// One socket and one connection.
pub(super) fn connection_permit(
    call: &Call<'_>,
    account: Option<&Arc<Account>>,
) -> Result<(Permit, Option<Connection>), Refusal> {
    let permit = call.state().socket_permit(account)?;
    let connection = account.map(|account| account.take_connection()).transpose()?;
    Ok((permit, connection))
}

/// Puts a prepared connection into the lineage below `parent`, sends its first packet, and waits for it.
pub(super) async fn finish(
    call: &mut Call<'_>,
    parent: Key<Entry>,
    (door, connection): (TcpDoor, Option<Connection>),
    time: ConnectTime,
) -> Reply {
    let door = Arc::new(door);
    let object = Object::TcpStream(door.clone());
    // From here on the connection is in the lineage: whoever revokes the parent ends it, in whatever state.
    let stream = match call.state_mut().table.derive(parent, object, Own::default()) {
        Ok(stream) => stream,
        // Narrowed since the check: the guest can ask again, and will be told what is allowed now.
        Err(NoBirth::Stale) => return Err(denied_now(call, parent, &door)),
        Err(barren) => return Err(Refusal::from(barren).into()),
    };
    let mut connected = door.begin();
    if let Some(connection) = connection {
        connection.used();
    }
    if audit::is_watched() {
        let label = call.state().table.label(stream).cloned().unwrap_or_default();
        audit::used(stream.id(), &label, call.state().mailbox.vat(), &door.query());
    }
    if let (Ok(()), ConnectTime::AtMost(_)) = (&connected, time) {
        connected = door.connected().await;
    }
    if call.state().has_letters() {
        call.state_mut().read_letters();
    }
    match connected.and_then(|()| Ok(call.state().table.get(stream).map(|_| ())?)) {
        Ok(()) => Ok(Outcome::One(stream)),
        Err(refusal) => {
            call.state_mut().table.close(stream);
            Err(refusal.into())
        }
    }
}

/// The error for a Net or Name that was narrowed while a connection was prepared.
fn denied_now(call: &mut Call<'_>, parent: Key<Entry>, door: &TcpDoor) -> Failure {
    call.state_mut().read_letters();
    match call.state().table.get(parent).map(Entry::net) {
        Ok(Ok(authority)) => Refusal::denied(authority.clone(), door.query()).into(),
        // A Name does not show what is left of its Net; the next call through it will tell.
        Ok(Err(_)) => ErrorCode::Denied.into(),
        Err(code) => code.into(),
    }
}

/// How long a guest waits for a connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum ConnectTime {
    AtMost(Duration),
    /// It does not; the connection has this time all the same.
    NoWait(Duration),
}

impl ConnectTime {
    pub(super) fn limit(self) -> Duration {
        match self {
            ConnectTime::AtMost(time) | ConnectTime::NoWait(time) => time,
        }
    }
}

/// The time that number argument `index` says.
pub(super) fn connect_time(call: &Call<'_>, index: usize) -> ConnectTime {
    let limit = call.state().limits.connect_timeout;
    match call.int(index) {
        0 => ConnectTime::AtMost(limit),
        NO_WAIT => ConnectTime::NoWait(limit),
        milliseconds => {
            let time = Duration::from_millis(u64::from(milliseconds.cast_unsigned()));
            ConnectTime::AtMost(limit.min(time))
        }
    }
}

/// `net_listen(net, address, length, backlog) -> (listener, status)`: take connections.
///
/// - **Needs** a Net, a local address in its wire form, and how many connections may wait to be accepted (0
///   for a default; the system has a limit of its own). Port 0 is any free port of those that are granted.
/// - **Checks** that `bind` and `listen` are granted for the address, before and after the system has bound
///   it; the limits and budgets of sockets and capabilities.
/// - **Returns** a TcpListener derived from the Net. An IPv6 listener takes no IPv4 connections. `Denied`
///   (with the nearest rule), `BadArgument`, `AddressInUse`, `AddressNotAvailable`, `LimitReached`,
///   `Exhausted`, `Io`. A Net that a program implements: what that program answers, and `CalleeFailed`; the listener
///   needs what both Nets allow.
/// - **Traps** as `net_connect`. Suspends the guest only where a program implements the Net.
pub(super) async fn listen(call: &mut Call<'_>) -> Reply {
    let backlog = call.int(2).cast_unsigned();
    let request = |local| NetRequest::Listen { local, backlog };
    bind(call, request, |rights, local, permit| {
        let door = ListenerDoor::open(rights, local, backlog, permit)?;
        Ok(Object::TcpListener(Arc::new(door)))
    })
    .await
}

/// `net_bind_udp(net, address, length) -> (socket, status)`: send and receive datagrams.
///
/// - **Needs** a Net, and a local address in its wire form. Port 0 is any free port of those that are granted.
/// - **Checks** that `bind` is granted for the address, before and after the system has bound it; the limits
///   and budgets of sockets and capabilities. What may be sent and received is checked for each datagram.
/// - **Returns** a UdpSocket derived from the Net. Errors as `net_listen`, and so a Net that a program implements.
/// - **Traps** as `net_connect`. Suspends the guest only where a program implements the Net.
pub(super) async fn bind_udp(call: &mut Call<'_>) -> Reply {
    let request = |local| NetRequest::BindUdp { local };
    bind(call, request, |rights, local, permit| {
        let door = UdpDoor::open(rights, local, permit)?;
        Ok(Object::UdpSocket(Arc::new(door)))
    })
    .await
}

/// Makes a socket with a local end, and puts it into the lineage below its Net.
async fn bind(
    call: &mut Call<'_>,
    request: impl Fn(SocketAddr) -> NetRequest<'static>,
    open: impl Fn(&Rights, SocketAddr, Permit) -> Result<Object, Refusal>,
) -> Reply {
    let net = call.key(0)?;
    call.state().table.get(net)?.net()?;
    let local = address(call, 0, 1)?;
    let time = call.state().limits.connect_timeout;
    let asked = Use::Request(request(canonical_socket(local)));
    if let Some(reply) = implemented::through(call, net, asked, time).await {
        return reply;
    }
    make_room(call, 1)?;
    loop {
        let rights = call.state().table.rights(net)?.to_owned();
        let permit = call.state().socket_permit(rights.conditions.account.as_ref())?;
        let object = open(&rights, local, permit)?;
        let bound = match &object {
            Object::TcpListener(door) => door.query(),
            Object::UdpSocket(door) => door.query(),
            _ => return Err(ErrorCode::WrongKind.into()),
        };
        match call.state_mut().table.derive(net, object.clone(), Own::default()) {
            Ok(socket) => {
                let (id, vat) = (socket.id(), call.state().mailbox.vat());
                let label = call.state().table.label(socket).cloned().unwrap_or_default();
                audit::used(id, &label, vat, &bound);
                if let Object::TcpListener(door) = object {
                    door.kept_by(audit::Doorkeeper { id, label, vat });
                }
                return Ok(Outcome::One(socket));
            }
            // Narrowed since the check: look again. The socket closes with this round.
            Err(NoBirth::Stale) => call.state_mut().read_letters(),
            Err(barren) => return Err(Refusal::from(barren).into()),
        }
    }
}

/// `listener_accept(listener) -> (stream, status)`: take the next connection.
///
/// - **Needs** a TcpListener.
/// - **Checks** that `accept` is granted for both ends; the limits and budgets of sockets, connections and
///   capabilities. A peer that is not granted is disconnected and never seen by the guest; its place in
///   limits and budgets is free again.
/// - **Returns** a TcpStream derived from the listener. `WouldBlock` when nobody waits, or when the guest
///   has accepted much without waiting; `LimitReached`, `Exhausted`, `Io`.
/// - **Traps** never.
pub(super) fn accept(call: &mut Call<'_>) -> Reply {
    let listener = call.key(0)?;
    let table = &call.state().table;
    let entry = table.get(listener)?;
    let (door, label) = (entry.listener()?.clone(), table.origin(entry)?.label.clone());
    make_room(call, 1)?;
    call.state_mut().take_turn()?;
    let vat = call.state().mailbox.vat();
    loop {
        let account = call.state().table.account(listener)?.cloned();
        let (permit, connection) = connection_permit(call, account.as_ref())?;
        let peer = door.accept()?;
        let stream = Arc::new(peer.welcome(permit));
        let object = Object::TcpStream(stream.clone());
        match call.state_mut().table.derive(listener, object, Own::default()) {
            Ok(key) => {
                if let Some(connection) = connection {
                    connection.used();
                }
                if audit::is_watched() {
                    audit::used(key.id(), &label, vat, &stream.query());
                }
                return Ok(Outcome::One(key));
            }
            // Narrowed since this peer was let in: it is turned away, and the next one looked at.
            Err(NoBirth::Stale) => {
                door.turn_away(&stream.query());
                call.state_mut().read_letters();
            }
            Err(barren) => return Err(Refusal::from(barren).into()),
        }
    }
}

/// `stream_pair() -> (stream, stream, status)`: make two streams that are connected to each other.
///
/// - **Needs** nothing: a pair reaches nobody but who is given an end of it.
/// - **Checks** the vat's limits on sockets and capabilities.
/// - **Returns** two TcpStreams: what is written to one is read from the other. No network is involved, and their
///   addresses are `0.0.0.0:0`. A program that implements a Net can give one and answer by the other. `LimitReached`, `Io`.
/// - **Traps** never.
pub(super) fn pair(call: &mut Call<'_>) -> Reply {
    make_room(call, 2)?;
    let permits = [
        call.state().socket_permit(None)?,
        call.state().socket_permit(None)?,
    ];
    let [first, second] = crate::net::pair(permits)?.map(|door| Object::TcpStream(Arc::new(door)));
    let table = &mut call.state_mut().table;
    let first = table.plant("pair", first).map_err(Refusal::from)?;
    match table.plant("pair", second) {
        Ok(second) => Ok(Outcome::Two(first, second)),
        Err(barren) => {
            table.close(first);
            Err(Refusal::from(barren).into())
        }
    }
}

/// The address at the pointer and length that are the number arguments `pointer` and `length`.
pub(super) fn address(call: &mut Call<'_>, pointer: usize, length: usize) -> Result<SocketAddr, Refusal> {
    let (pointer, length) = (call.int(pointer), call.int(length));
    let (bytes, _) = bytes_at(call, pointer, length)?;
    at_most(bytes.len(), wire::MAX_ADDRESS, "the address")?;
    wire::decode_address(bytes)
        .ok_or_else(|| Refusal::new(ErrorCode::BadArgument, "the address is not in its wire form"))
}

/// Makes sure that the vat may have `count` more capabilities. If it seems not, the collector gets a
/// chance to find some that the guest has dropped without closing.
pub(super) fn make_room(call: &mut Call<'_>, count: usize) -> Result<(), Failure> {
    if call.state().table.room_for(count).is_err() {
        call.collect()?;
        call.state().table.room_for(count).map_err(Refusal::from)?;
    }
    Ok(())
}
