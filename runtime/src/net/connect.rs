//! Both ends of a connection, settled before its first packet.
//!
//! The order is: canonicalise the remote address; find the local ends that are granted towards it; bind
//! to one; look at what the socket was really bound to, and check the whole tuple. Only then may it
//! connect. Checking after an implicit bind is too late, for the first packet has left by then.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use refcap_abi::ErrorCode;
use refcap_authority::{
    Authority, Family, IpRange, LocalRanges, Operation, Protocol, Query, Remote, Tuple, canonical,
};
use tokio::net::TcpSocket;

use super::door::{TcpDoor, refusal};
use crate::capability::mailbox::SocketPermit;
use crate::vat::Refusal;

/// Ports of a granted range that are tried before giving up. Each costs a system call or two.
const PORT_TRIES: usize = 256;

/// A connection that was checked and may be made.
pub(crate) struct Plan {
    pub(crate) socket: TcpSocket,
    pub(crate) door: Arc<TcpDoor>,
}

/// Checks a connection and prepares its socket. No packet leaves.
pub(crate) fn prepare(
    authority: &Authority,
    remote: SocketAddr,
    permit: SocketPermit,
) -> Result<Plan, Refusal> {
    let remote = SocketAddr::new(canonical(remote.ip()), remote.port());
    if remote.port() == 0 {
        return Err(Refusal::new(
            ErrorCode::BadArgument,
            "nothing can be reached at port 0",
        ));
    }
    let query = Query::new(Operation::Connect, Protocol::Tcp).remote(remote);
    let locals = authority.local_ranges(Operation::Connect, Protocol::Tcp, &Remote::from(remote));
    if locals.is_empty() {
        return Err(Refusal::denied(authority.clone(), query));
    }
    let family = Family::from(remote.ip());
    if locals.is_unrestricted(family) {
        // Whatever the kernel chooses is granted.
        let socket = new_socket(family)?;
        let door = Arc::new(TcpDoor::new(None, remote, permit));
        return Ok(Plan { socket, door });
    }
    let (socket, local) = bind_within(&locals, family, remote)?;
    let tuple = Tuple::new(Operation::Connect, Protocol::Tcp, local, remote);
    if !authority.permits(&tuple) {
        return Err(Refusal::denied(authority.clone(), query.local(local)));
    }
    let door = Arc::new(TcpDoor::new(Some(local), remote, permit));
    Ok(Plan { socket, door })
}

fn new_socket(family: Family) -> Result<TcpSocket, Refusal> {
    match family {
        Family::V4 => TcpSocket::new_v4(),
        Family::V6 => TcpSocket::new_v6(),
    }
    .map_err(|error| refusal(&error))
}

/// Binds a new socket to a granted local end, and says to which.
fn bind_within(
    locals: &LocalRanges,
    family: Family,
    remote: SocketAddr,
) -> Result<(TcpSocket, SocketAddr), Refusal> {
    // The address that the kernel would take is the best where it is granted.
    let own = source_towards(remote);
    let mut last = None;
    for (range, ports) in locals.iter() {
        let Some(ip) = address_in(&range, family, own) else {
            continue;
        };
        for port in candidates(&ports) {
            let socket = new_socket(family)?;
            allow_reuse(&socket, port)?;
            match socket.bind(SocketAddr::new(ip, port)) {
                Ok(()) => {
                    let local = socket.local_addr().map_err(|error| refusal(&error))?;
                    return Ok((socket, local));
                }
                Err(error) => {
                    let error = refusal(&error);
                    let other_port = error.code() == ErrorCode::AddressInUse;
                    last = Some(error);
                    if !other_port {
                        break;
                    }
                }
            }
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

/// A port that was used a moment ago is still kept by the kernel for late packets of the old connection.
/// Where ports are granted by number, waiting a minute for it would make the grant useless.
fn allow_reuse(socket: &TcpSocket, port: u16) -> Result<(), Refusal> {
    // Elsewhere the option means that two sockets may have the same port at once.
    if cfg!(unix) && port != 0 {
        socket.set_reuseaddr(true).map_err(|error| refusal(&error))?;
    }
    Ok(())
}

/// The address that the kernel would send from. Connecting a datagram socket sends nothing.
fn source_towards(remote: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match remote {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
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

/// Ports to try: the kernel's choice where all are granted, else some of each range, spread over it so
/// that two guests with one range do not always meet.
fn candidates(ranges: &[(u16, u16)]) -> Vec<u16> {
    if ranges.iter().any(|&(first, last)| first <= 1 && last == u16::MAX) {
        return vec![0];
    }
    let all: Vec<u16> = ranges
        .iter()
        .flat_map(|&(first, last)| first..=last)
        .filter(|&port| port != 0)
        .collect();
    if all.is_empty() {
        return all;
    }
    let start =
        std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), all.len()) as usize % all.len();
    all[start..]
        .iter()
        .chain(&all[..start])
        .copied()
        .take(PORT_TRIES)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ports_leave_the_choice_to_the_kernel() {
        assert_eq!(candidates(&[(0, u16::MAX)]), [0]);
        assert_eq!(candidates(&[(1, u16::MAX)]), [0]);
    }

    #[test]
    fn some_ports_are_tried_one_by_one_and_never_port_0() {
        let mut ports = candidates(&[(0, 3), (9, 9)]);
        ports.sort_unstable();
        assert_eq!(ports, [1, 2, 3, 9]);
        assert_eq!(candidates(&[(0, 0)]), []);
        assert_eq!(candidates(&[(2, u16::MAX)]).len(), PORT_TRIES);
    }
}
