//! Both ends of a connection, settled before its first packet.
//!
//! The order is: canonicalise the remote address; find the local ends that are granted towards it; bind
//! to one; look at what the socket was really bound to, and check the whole tuple. Only then may it
//! connect. Checking after an implicit bind is too late, for the first packet has left by then.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use refcap_abi::ErrorCode;
use refcap_abi::guard::Act;
use refcap_authority::{
    Authority, Family, IpRange, LocalRanges, Operation, Protocol, Query, Remote, Tuple, canonical_socket,
};
use socket2::{Domain, Socket, Type};

use super::bind::{self, candidates, ports_at};
use super::door::{Attempt, TcpDoor, refusal};
use super::permit::Permit;
use super::stream::Stream;
use crate::capability::rights::Rights;
use crate::guard::Asked;
use crate::vat::Refusal;

/// A socket that may connect, and the end that it is bound to; none where any is granted.
type Prepared = (Socket, Option<SocketAddr>);

/// Checks a connection to an address, from `from` if that is given, and prepares its socket. No packet
/// leaves.
pub(crate) fn to_address(
    rights: &Rights,
    remote: SocketAddr,
    from: Option<SocketAddr>,
    timeout: Duration,
    permit: Permit,
) -> Result<TcpDoor, Refusal> {
    let remote = reachable(remote)?;
    let judged = Remote::from(remote);
    let (socket, local) = prepare(&rights.authority, &judged, remote, from)?;
    let asked = Asked::between(Act::Connect, Protocol::Tcp, local, remote);
    rights.conditions.guards.check(&asked)?;
    let permit = permit.counted_by(&rights.conditions.guards);
    let attempt: Attempt = Box::pin(async move {
        let connected = Stream::connect(socket, remote).await;
        connected.map_err(|error| refusal(&error))
    });
    Ok(TcpDoor::connecting(judged, local, attempt, timeout, permit))
}

/// A connection to a name that was resolved: to the first of its addresses that takes it. Each is checked
/// by itself, and bound by itself, before its first packet.
pub(super) fn to_name(
    rights: Rights,
    judged: Remote,
    addresses: Vec<IpAddr>,
    timeout: Duration,
    permit: Permit,
) -> TcpDoor {
    let name = judged.clone();
    let permit = permit.counted_by(&rights.conditions.guards);
    let attempt: Attempt = Box::pin(async move {
        let mut last = ErrorCode::NameNotResolved.into();
        // Each gets an equal part of the time, so that the first one can't use it all.
        let share = timeout / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        for address in addresses {
            let remote = SocketAddr::new(address, name.port());
            let connecting = async {
                let (socket, bound) = prepare(&rights.authority, &name, remote, None)?;
                let local = bound.unwrap_or_else(|| unspecified(remote));
                let tuple = Tuple::new(Operation::Connect, Protocol::Tcp, local, remote);
                if !rights.conditions.answers.permits(&tuple) {
                    let why = format!("{name} stands for {address}, which is not allowed from {local}");
                    return Err(Refusal::new(ErrorCode::Denied, why));
                }
                let asked = Asked::between(Act::Connect, Protocol::Tcp, bound, remote);
                rights.conditions.guards.check(&asked.called(&name))?;
                let connected = Stream::connect(socket, remote).await;
                connected.map_err(|error| refusal(&error))
            };
            match tokio::time::timeout(share, connecting).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(refused)) => last = refused,
                Err(_) => {
                    let why = format!("no connection to {name} at {address} after {share:?}");
                    last = Refusal::new(ErrorCode::TimedOut, why);
                }
            }
        }
        Err(last)
    });
    TcpDoor::connecting(judged, None, attempt, timeout, permit)
}

/// An address that something could be sent to.
pub(crate) fn reachable(remote: SocketAddr) -> Result<SocketAddr, Refusal> {
    let remote = canonical_socket(remote);
    match remote.port() {
        0 => Err(Refusal::new(
            ErrorCode::BadArgument,
            "nothing can be reached at port 0",
        )),
        _ => Ok(remote),
    }
}

/// Binds a socket for a connection to `remote`, which authority knows as `judged`.
fn prepare(
    authority: &Authority,
    judged: &Remote,
    remote: SocketAddr,
    from: Option<SocketAddr>,
) -> Result<Prepared, Refusal> {
    let query = Query::new(Operation::Connect, Protocol::Tcp).remote(judged.clone());
    let locals = authority.local_ranges(Operation::Connect, Protocol::Tcp, judged);
    let denied = |query| Refusal::denied(authority.clone(), query);
    if locals.is_empty() {
        return Err(denied(query));
    }
    let family = Family::from(remote.ip());
    let (socket, local) = match from.map(canonical_socket) {
        None if locals.is_unrestricted(family) => {
            // Whatever the kernel chooses is granted.
            return Ok((new_socket(family)?, None));
        }
        None => bind_within(&locals, family, remote)?,
        Some(from) => {
            same_family(from, remote)?;
            let ports = granted_ports(&locals, from);
            if ports.is_empty() {
                return Err(denied(query.local(from)));
            }
            bind_to(from.ip(), ports, family)?
        }
    };
    let tuple = Tuple::new(Operation::Connect, Protocol::Tcp, local, judged.clone());
    match authority.permits(&tuple) {
        true => Ok((socket, Some(local))),
        false => Err(denied(query.local(local))),
    }
}

/// Nothing goes from IPv4 to IPv6, or back.
pub(super) fn same_family(local: SocketAddr, remote: SocketAddr) -> Result<(), Refusal> {
    if local.is_ipv4() == remote.is_ipv4() {
        return Ok(());
    }
    let why = format!("{remote} can't be reached from {local}: one is IPv4, the other IPv6");
    Err(Refusal::new(ErrorCode::BadArgument, why))
}

/// No particular local end, of the family of the other one.
pub(super) fn unspecified(like: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match like {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, 0)
}

/// A socket that does not block.
fn new_socket(family: Family) -> Result<Socket, Refusal> {
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let socket = bind::new_socket(domain, Type::STREAM);
    socket.map_err(|error| refusal(&error))
}

/// The ports to try for a local end that the guest chose: its own, or for port 0 any that is granted.
fn granted_ports(locals: &LocalRanges, from: SocketAddr) -> Vec<u16> {
    if from.port() != 0 {
        return locals.contains(from).then_some(from.port()).into_iter().collect();
    }
    candidates(&ports_at(locals, from.ip()), |_| true)
}

/// Binds a new socket to a granted local end, and says to which.
fn bind_within(
    locals: &LocalRanges,
    family: Family,
    remote: SocketAddr,
) -> Result<(Socket, SocketAddr), Refusal> {
    // The address that the kernel would take is the best where it is granted.
    let own = source_towards(remote);
    let mut last = None;
    for (range, ports) in locals.iter() {
        let Some(ip) = address_in(&range, family, own) else {
            continue;
        };
        let ports = candidates(&ports, |_| true);
        if ports.is_empty() {
            continue;
        }
        match bind_to(ip, ports, family) {
            Ok(bound) => return Ok(bound),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| {
        let own = own.map_or_else(|| "none".to_owned(), |ip| ip.to_string());
        Refusal::new(
            ErrorCode::AddressNotAvailable,
            format_args!(
                "this machine's address towards {remote} is {own}, which is not a granted local address"
            ),
        )
    }))
}

/// Binds a new socket to the first of the ports that is free.
fn bind_to(ip: IpAddr, ports: Vec<u16>, family: Family) -> Result<(Socket, SocketAddr), Refusal> {
    let mut last = ErrorCode::AddressInUse.into();
    for port in ports {
        let socket = new_socket(family)?;
        allow_reuse(&socket, port)?;
        match socket.bind(&SocketAddr::new(ip, port).into()) {
            Ok(()) => {
                let local = bind::local_address(&socket).map_err(|error| refusal(&error))?;
                return Ok((socket, local));
            }
            Err(error) => {
                last = refusal(&error);
                if last.code() != ErrorCode::AddressInUse {
                    break;
                }
            }
        }
    }
    Err(last)
}

/// A port that was used a moment ago is still kept by the kernel for late packets of the old connection.
/// Where ports are granted by number, waiting a minute for it would make the grant useless.
fn allow_reuse(socket: &Socket, port: u16) -> Result<(), Refusal> {
    // Elsewhere the option means that two sockets may have the same port at once.
    if cfg!(unix) && port != 0 {
        socket.set_reuse_address(true).map_err(|error| refusal(&error))?;
    }
    Ok(())
}

/// The address that the kernel would send from. Connecting a datagram socket sends nothing.
fn source_towards(remote: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(unspecified(remote)).ok()?;
    socket.connect(remote).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// An address of the range to bind to: this machine's own, or the only one that there is.
fn address_in(range: &IpRange, family: Family, own: Option<IpAddr>) -> Option<IpAddr> {
    let only = (range.first() == range.last()).then(|| range.first());
    own.filter(|&ip| range.contains(ip))
        .or(only)
        .filter(|&ip| Family::from(ip) == family)
}
