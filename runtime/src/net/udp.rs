//! The one door of a datagram socket: each datagram is checked, in both directions.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use refcap_abi::ErrorCode;
use refcap_abi::guard::Act;
use refcap_authority::{Authority, Operation, Protocol, Query, Tuple, canonical_socket};
use socket2::SockRef;
use tokio::net::UdpSocket;

use super::bind::{bind, narrow, need_also};
use super::connect;
use super::door::refusal;
use super::latch::{Ending, Latch};
use super::permit::Permit;
use super::source::{Interest, Readiness, Source};
use crate::budget::{Account, Direction};
use crate::capability::lineage::Sever;
use crate::capability::rights::Rights;
use crate::guard::{Asked, Guards};
use crate::vat::Refusal;

/// The longest datagram that there is.
pub(crate) const MAX_DATAGRAM: usize = 65_535;
/// Refused datagrams that are dropped in one call; behind them others have their turn.
const DROPS: usize = 64;

/// A datagram socket.
///
/// Its local end, in what it is asked about, is what it was bound to: a socket on `0.0.0.0` sends and
/// receives as `0.0.0.0`, so a rule for one address of this machine does not cover it.
#[derive(Debug)]
pub(crate) struct UdpDoor {
    local: SocketAddr,
    /// Whether the guest asked for port 0, and may go on while that is granted.
    any_port: bool,
    account: Option<Arc<Account>>,
    /// Datagrams from senders that are not granted.
    dropped: AtomicU32,
    latch: Latch<Bound>,
}

#[derive(Debug)]
struct Bound {
    socket: UdpSocket,
    /// What its Net allows.
    authority: Authority,
    guards: Guards,
    /// The only one to talk with, once the guest has fixed it. Every datagram is checked all the same.
    peer: Option<SocketAddr>,
    _permit: Permit,
}

impl UdpDoor {
    pub(crate) fn open(rights: &Rights, local: SocketAddr, permit: Permit) -> Result<UdpDoor, Refusal> {
        let any_port = local.port() == 0;
        let (socket, local) = bind(&rights.authority, Protocol::Udp, &[Operation::Bind], local)?;
        let asked = Asked::at(Act::Bind, Protocol::Udp, local);
        rights.conditions.guards.check(&asked)?;
        let socket = UdpSocket::from_std(socket.into()).map_err(|error| refusal(&error))?;
        Ok(UdpDoor {
            local,
            any_port,
            account: permit.account().cloned(),
            dropped: AtomicU32::new(0),
            latch: Latch::new(Bound {
                socket,
                authority: rights.authority.clone(),
                guards: rights.conditions.guards.clone(),
                peer: None,
                _permit: permit.counted_by(&rights.conditions.guards),
            }),
        })
    }

    /// From now on it also needs what another Net allows, through which its new holder asked for it.
    pub(crate) fn also(&self, rights: &Rights) -> Result<(), Refusal> {
        if !self.may_be_bound(&rights.authority) {
            return Err(Refusal::denied(rights.authority.clone(), self.query()));
        }
        rights
            .conditions
            .guards
            .check(&Asked::at(Act::Bind, Protocol::Udp, self.local))?;
        self.latch
            .with(|bound| need_also(&mut bound.authority, &mut bound.guards, rights))?
    }

    fn may_be_bound(&self, authority: &Authority) -> bool {
        let at = |port| {
            let local = SocketAddr::new(self.local.ip(), port);
            authority.allows(&Query::bind(Protocol::Udp, local))
        };
        at(self.local.port()) || (self.any_port && at(0))
    }

    fn tuple(&self, operation: Operation, remote: SocketAddr) -> Tuple {
        Tuple::new(operation, Protocol::Udp, self.local, remote)
    }

    /// Asks the guards, once the authority has permitted.
    fn ask(&self, bound: &Bound, act: Act, remote: SocketAddr) -> Result<(), Refusal> {
        let asked = Asked::between(act, Protocol::Udp, Some(self.local), remote);
        bound.guards.check(&asked)
    }

    /// Fixes the peer. No packet leaves.
    pub(crate) fn connect(&self, remote: SocketAddr) -> Result<(), Refusal> {
        let remote = self.reachable(remote)?;
        self.latch.with(|bound| {
            bound.check(&self.tuple(Operation::Connect, remote))?;
            self.ask(bound, Act::Connect, remote)?;
            bound.peer = Some(remote);
            Ok(())
        })?
    }

    /// Sends one datagram, to the fixed peer if no address is given.
    pub(crate) fn send(&self, bytes: &[u8], to: Option<SocketAddr>) -> Result<usize, Refusal> {
        let to = to.map(|to| self.reachable(to)).transpose()?;
        self.latch.with(|bound| {
            let to = match (to, bound.peer) {
                (Some(to), Some(peer)) if to != peer => {
                    let why = format!("the socket is connected to {peer}, so it can't send to {to}");
                    return Err(Refusal::new(ErrorCode::BadArgument, why));
                }
                (Some(to), _) | (None, Some(to)) => to,
                (None, None) => {
                    let why = "the socket is not connected, so the datagram needs an address";
                    return Err(Refusal::new(ErrorCode::NotConnected, why));
                }
            };
            bound.check(&self.tuple(Operation::Send, to))?;
            let length = bytes.len() as u64;
            if let Some(account) = &self.account {
                account.reserve_whole(Direction::Out, length)?;
            }
            let result = self.send_if_guards_agree(bound, bytes, to);
            if let Some(account) = &self.account {
                account.settle(Direction::Out, length, if result.is_ok() { length } else { 0 });
            }
            result
        })?
    }

    /// Sends one datagram that the authority permits and the budget has paid for.
    fn send_if_guards_agree(&self, bound: &Bound, bytes: &[u8], to: SocketAddr) -> Result<usize, Refusal> {
        if !bound.guards.is_empty() {
            // Their yes is for this attempt, so there should be room for it.
            let room = bound.socket.try_io(tokio::io::Interest::WRITABLE, || Ok(()));
            room.map_err(|error| refusal(&error))?;
            self.ask(bound, Act::Send, to)?;
        }
        bound.send(bytes, to).map_err(|error| match too_long(&error) {
            true => Refusal::new(
                ErrorCode::MessageTooLong,
                format!("{} bytes are too many for one datagram", bytes.len()),
            ),
            false => refusal(&error),
        })
    }

    /// Takes one datagram into `buffer`, which must have room for the longest, from a sender that is
    /// granted. Others are dropped, and `refused` hears of them.
    pub(crate) fn receive(
        &self,
        buffer: &mut [u8],
        refused: &mut dyn FnMut(&dyn fmt::Display),
    ) -> Result<(usize, SocketAddr), Refusal> {
        for _ in 0..DROPS {
            let received = self.latch.with(|bound| {
                if let Some(account) = &self.account {
                    // Nothing is taken from the system that could not be paid for at all.
                    account.reserve_whole(Direction::In, 1)?;
                    account.settle(Direction::In, 1, 0);
                }
                let received = bound.socket.try_recv_from(buffer);
                let (length, from) = received.map_err(|error| refusal(&error))?;
                let from = canonical_socket(from);
                let tuple = self.tuple(Operation::Receive, from);
                let is_peer = bound.peer.is_none_or(|peer| peer == from);
                if !is_peer || !bound.authority.permits(&tuple) {
                    return Ok(Err(Query::from(tuple).to_string()));
                }
                if let Err(refusal) = self.ask(bound, Act::Receive, from) {
                    return Ok(Err(refusal.to_string()));
                }
                if let Some(account) = &self.account {
                    let length = length as u64;
                    account.reserve_whole(Direction::In, length)?;
                    account.settle(Direction::In, length, length);
                }
                Ok(Ok((length, from)))
            })?;
            match received {
                Ok(Ok(datagram)) => return Ok(datagram),
                Ok(Err(why)) => {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                    refused(&why);
                }
                Err(refusal) => return Err(refusal),
            }
        }
        Err(ErrorCode::WouldBlock.into())
    }

    /// How many datagrams were dropped because their sender is not granted.
    pub(crate) fn dropped(&self) -> Result<u32, Refusal> {
        self.latch.with(|_| ())?;
        Ok(self.dropped.load(Ordering::Relaxed))
    }

    /// What the socket was made for.
    pub(crate) fn query(&self) -> Query {
        Query::bind(Protocol::Udp, self.local)
    }

    pub(crate) fn local_address(&self) -> Result<SocketAddr, Refusal> {
        self.latch.with(|_| ())?;
        Ok(self.local)
    }

    pub(crate) fn peer_address(&self) -> Result<SocketAddr, Refusal> {
        let peer = self.latch.with(|bound| bound.peer)?;
        peer.ok_or_else(|| ErrorCode::NotConnected.into())
    }

    /// An address that this socket could send to.
    fn reachable(&self, remote: SocketAddr) -> Result<SocketAddr, Refusal> {
        let remote = connect::reachable(remote)?;
        connect::same_family(self.local, remote)?;
        Ok(remote)
    }
}

impl Bound {
    fn check(&self, tuple: &Tuple) -> Result<(), Refusal> {
        if self.authority.permits(tuple) {
            Ok(())
        } else {
            Err(Refusal::denied(self.authority.clone(), tuple.clone().into()))
        }
    }

    fn send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
        let socket = SockRef::from(&self.socket);
        // Only for the one address that means everybody, and only for this datagram: with the option set,
        // the address of a network's own broadcast, which looks like any other, would work too.
        let everybody = to.ip() == IpAddr::V4(Ipv4Addr::BROADCAST);
        if everybody {
            socket.set_broadcast(true)?;
        }
        let result = self.socket.try_send_to(bytes, to);
        if everybody {
            socket.set_broadcast(false)?;
        }
        result
    }
}

/// Whether the system refused a datagram for its length: Rust's standard library has no stable kind for it.
fn too_long(error: &io::Error) -> bool {
    const CODES: &[i32] = if cfg!(target_os = "linux") {
        &[90]
    } else if cfg!(windows) {
        &[10_040]
    } else {
        &[40]
    };
    error.raw_os_error().is_some_and(|code| CODES.contains(&code))
}

impl Source for UdpDoor {
    fn poll_ready(&self, context: &mut Context<'_>, interest: Interest) -> Result<Readiness, ErrorCode> {
        let throttled = |direction| {
            self.account
                .as_ref()
                .and_then(|account| account.throttled(direction))
        };
        let readiness = |poll: Poll<io::Result<()>>, direction| match (poll, throttled(direction)) {
            (Poll::Pending, _) => Readiness::Later(None),
            (Poll::Ready(_), Some(when)) => Readiness::Later(Some(when)),
            (Poll::Ready(_), None) => Readiness::Now(interest),
        };
        self.latch.with(|bound| {
            let socket = &bound.socket;
            let read = interest
                .read
                .then(|| readiness(socket.poll_recv_ready(context), Direction::In));
            let write = interest
                .write
                .then(|| readiness(socket.poll_send_ready(context), Direction::Out));
            Readiness::of(read, write)
        })
    }

    fn ending(&self) -> &dyn Ending {
        &self.latch
    }
}

impl Sever for UdpDoor {
    fn sever(&self) {
        self.latch.sever();
    }

    fn restrict(&self, authority: &Authority) -> bool {
        let narrowed = self.latch.with(|bound| narrow(&mut bound.authority, authority));
        narrowed.unwrap_or(true) && self.may_be_bound(authority)
    }
}
