//! Taking a local address: checked before, and what was really taken checked again.

use std::io;
use std::net::{IpAddr, SocketAddr};

use refcap_abi::ErrorCode;
use refcap_authority::{Authority, LocalRanges, Operation, Protocol, Query, Remote, Tuple, canonical_socket};
use socket2::{Domain, SockAddr, Socket, Type};

use super::door::refusal;
use crate::capability::rights::Rights;
use crate::guard::Guards;
use crate::vat::Refusal;

/// Ports of a granted range that are tried before giving up. Each costs a system call or two.
pub(super) const PORT_TRIES: usize = 256;

/// Binds a socket to `asked`, for `operations`, one of which is `bind`. Port 0 is any free port of those that
/// are granted, or, where port 0 itself is granted, one that the system chooses.
pub(super) fn bind(
    authority: &Authority,
    protocol: Protocol,
    operations: &[Operation],
    asked: SocketAddr,
) -> Result<(Socket, SocketAddr), Refusal> {
    let asked = canonical_socket(asked);
    let missing = |local: SocketAddr| {
        operations
            .iter()
            .map(|&operation| query(operation, protocol, local))
            .find(|query| !authority.allows(query))
    };
    let denied = |query| Refusal::denied(authority.clone(), query);
    let Some(at_asked) = missing(asked) else {
        return open(protocol, asked).map_err(|error| refusal(&error));
    };
    if asked.port() != 0 {
        return Err(denied(at_asked));
    }
    let nowhere = Remote::from(Tuple::NOWHERE);
    let ranges = ports_at(
        &authority.local_ranges(Operation::Bind, protocol, &nowhere),
        asked.ip(),
    );
    let mut last = None;
    let free = |port| SocketAddr::new(asked.ip(), port);
    let candidates = candidates(&ranges, |port| port == 0 || missing(free(port)).is_none());
    for port in candidates {
        match open(protocol, free(port)) {
            Ok((socket, local)) => match missing(local) {
                None => return Ok((socket, local)),
                Some(query) => last = Some(denied(query)),
            },
            Err(error) => {
                let error = refusal(&error);
                let try_another = error.code() == ErrorCode::AddressInUse;
                last = Some(error);
                if !try_another {
                    break;
                }
            }
        }
    }
    Err(last.unwrap_or_else(|| denied(at_asked)))
}

fn query(operation: Operation, protocol: Protocol, local: SocketAddr) -> Query {
    Query::new(operation, protocol).local(local)
}

/// A new socket, bound. An IPv6 socket never takes IPv4: a grant of `::` is none of `0.0.0.0`.
fn open(protocol: Protocol, local: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let kind = match protocol {
        Protocol::Tcp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
    };
    let socket = new_socket(Domain::for_address(local), kind)?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // For a listener on unix this is no sharing: it only lets a port be taken whose last connections the
    // kernel still remembers. Elsewhere, and for datagrams, it would let two sockets have one port.
    if cfg!(unix) && protocol == Protocol::Tcp {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&local.into())?;
    let bound = local_address(&socket)?;
    Ok((socket, bound))
}

/// A socket that does not block, and that no other program inherits.
pub(super) fn new_socket(domain: Domain, kind: Type) -> io::Result<Socket> {
    // In one system call, where there is one that can.
    #[cfg(target_os = "linux")]
    let socket = Socket::new(domain, kind.nonblocking(), None)?;
    #[cfg(not(target_os = "linux"))]
    let socket = Socket::new(domain, kind, None).and_then(|socket| {
        socket.set_nonblocking(true)?;
        Ok(socket)
    })?;
    Ok(socket)
}

/// What a socket is bound to.
pub(super) fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    address(socket.local_addr()?)
}

/// An address as the system says it.
pub(super) fn address(address: SockAddr) -> io::Result<SocketAddr> {
    address
        .as_socket()
        .ok_or_else(|| io::Error::other("the socket has no network address"))
}

/// Takes authority away from a door. Returns whether that could be done; what is left is nothing otherwise.
pub(super) fn narrow(authority: &mut Authority, bound: &Authority) -> bool {
    let narrowed = authority.intersect(bound);
    let is_done = narrowed.is_ok();
    *authority = narrowed.unwrap_or_else(|_| Authority::nothing());
    is_done
}

/// Lets a door that one Net opened also need what another allows.
pub(super) fn need_also(
    authority: &mut Authority,
    guards: &mut Guards,
    rights: &Rights,
) -> Result<(), Refusal> {
    let too_many = |error| Refusal::new(ErrorCode::LimitReached, error);
    *guards = guards.and(&rights.conditions.guards).map_err(too_many)?;
    match narrow(authority, &rights.authority) {
        true => Ok(()),
        false => Err(ErrorCode::TooComplex.into()),
    }
}

/// The ports that are granted at one local address, as ranges.
pub(super) fn ports_at(locals: &LocalRanges, ip: IpAddr) -> Vec<(u16, u16)> {
    locals
        .iter()
        .filter(|(range, _)| range.contains(ip))
        .flat_map(|(_, ports)| ports)
        .collect()
}

/// Ports to try: the kernel's choice where all are granted, else some of each range, spread over it so
/// that two guests with one range do not always meet.
pub(super) fn candidates(ranges: &[(u16, u16)], is_granted: impl Fn(u16) -> bool) -> Vec<u16> {
    if ranges.iter().any(|&(first, last)| first <= 1 && last == u16::MAX) && is_granted(0) {
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
        .filter(|&port| is_granted(port))
        .take(PORT_TRIES)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(_: u16) -> bool {
        true
    }

    #[test]
    fn all_ports_leave_the_choice_to_the_kernel() {
        assert_eq!(candidates(&[(0, u16::MAX)], any), [0]);
        assert_eq!(candidates(&[(1, u16::MAX)], any), [0]);
    }

    #[test]
    fn some_ports_are_tried_one_by_one_and_never_port_0() {
        let mut ports = candidates(&[(0, 3), (9, 9)], any);
        ports.sort_unstable();
        assert_eq!(ports, [1, 2, 3, 9]);
        assert_eq!(candidates(&[(0, 0)], any), []);
        assert_eq!(candidates(&[(2, u16::MAX)], any).len(), PORT_TRIES);
        assert_eq!(candidates(&[(2, 9)], |port| port == 7), [7]);
    }

    fn authority(text: &str) -> Authority {
        text.parse().unwrap()
    }

    #[test]
    fn port_0_takes_a_free_port_of_the_granted_range() {
        let authority = authority("bind udp 127.0.0.1:22000-22099");
        let asked = "127.0.0.1:0".parse().unwrap();
        let sockets: Vec<_> = (0..20)
            .map(|_| bind(&authority, Protocol::Udp, &[Operation::Bind], asked).unwrap())
            .collect();
        for (_, local) in &sockets {
            assert!((22000..22100).contains(&local.port()), "{local}");
        }
    }

    #[test]
    fn port_0_where_it_is_granted_is_the_systems_choice() {
        let authority = authority("bind,listen tcp 127.0.0.1:0");
        let operations = [Operation::Bind, Operation::Listen];
        let (_, local) = bind(
            &authority,
            Protocol::Tcp,
            &operations,
            "127.0.0.1:0".parse().unwrap(),
        )
        .unwrap();
        assert_ne!(local.port(), 0);
        let by_number = bind(&authority, Protocol::Tcp, &operations, local).unwrap_err();
        assert_eq!(by_number.code(), ErrorCode::Denied);
    }

    #[test]
    fn every_operation_must_be_granted_for_the_port() {
        let authority = authority("bind tcp 127.0.0.1:22100-22120; listen tcp 127.0.0.1:22110");
        let operations = [Operation::Bind, Operation::Listen];
        let (_, local) = bind(
            &authority,
            Protocol::Tcp,
            &operations,
            "127.0.0.1:0".parse().unwrap(),
        )
        .unwrap();
        assert_eq!(local.port(), 22110);
        let other = bind(
            &authority,
            Protocol::Tcp,
            &operations,
            "127.0.0.1:22111".parse().unwrap(),
        );
        assert_eq!(other.unwrap_err().code(), ErrorCode::Denied);
    }

    #[test]
    fn class_13_an_ipv6_socket_never_takes_ipv4() {
        let authority = authority("bind,listen tcp [::]:*; bind udp [::]:*");
        for (protocol, operations) in [
            (Protocol::Tcp, &[Operation::Bind, Operation::Listen][..]),
            (Protocol::Udp, &[Operation::Bind]),
        ] {
            let Ok((socket, _)) = bind(&authority, protocol, operations, "[::]:0".parse().unwrap()) else {
                eprintln!("this machine has no IPv6");
                return;
            };
            assert!(socket.only_v6().unwrap());
        }
    }
}
