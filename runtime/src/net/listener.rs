//! The one door of a TCP listener.

use std::fmt;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use refcap_abi::ErrorCode;
use refcap_abi::guard::Act;
use refcap_authority::{Authority, Operation, Protocol, Query, Tuple, canonical_socket};
use tokio::net::{TcpListener, TcpStream};

use super::bind::{bind, narrow, need_also};
use super::door::{TcpDoor, refusal};
use super::latch::{Ending, Latch};
use super::permit::Permit;
use super::source::{Interest, Readiness, Source};
use crate::audit::Doorkeeper;
use crate::capability::lineage::Sever;
use crate::capability::rights::Rights;
use crate::guard::{Asked, Guards};
use crate::vat::Refusal;

/// Connections that wait to be accepted, where the guest does not say how many.
const BACKLOG: i32 = 1_024;
/// Refused peers that are turned away in one go; behind them others have their turn.
const REFUSALS: usize = 64;

/// A socket that takes connections from the peers that are granted. The guest never sees any other.
#[derive(Debug)]
pub(crate) struct ListenerDoor {
    local: SocketAddr,
    /// Whether the guest asked for port 0, and may go on while that is granted.
    any_port: bool,
    /// Known once the socket has its place in the lineage. Nobody is let in or turned away before.
    keeper: OnceLock<Doorkeeper>,
    latch: Latch<Listening>,
}

#[derive(Debug)]
struct Listening {
    socket: TcpListener,
    /// What its Net allows.
    authority: Authority,
    guards: Guards,
    /// A connection whose peer was let in, and that the guest has not taken yet.
    waiting: Option<Peer>,
    _permit: Permit,
}

/// A connection with a peer that is let in.
#[derive(Debug)]
pub(crate) struct Peer {
    stream: TcpStream,
    local: SocketAddr,
    remote: SocketAddr,
    /// Who let it in.
    guards: Guards,
}

impl Peer {
    fn tuple(&self) -> Tuple {
        Tuple::new(Operation::Accept, Protocol::Tcp, self.local, self.remote)
    }

    /// Asks the guards whether it may be let in.
    fn ask(&self) -> Result<(), Refusal> {
        let asked = Asked::between(Act::Accept, Protocol::Tcp, Some(self.local), self.remote);
        self.guards.check(&asked)
    }

    /// Turns it away: with a reset, so that the peer learns at once and the kernel keeps nothing.
    fn dismiss(self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// The connection, which is the guest's from now on.
    pub(crate) fn welcome(self, permit: Permit) -> TcpDoor {
        TcpDoor::accepted(
            self.stream.into(),
            self.local,
            self.remote,
            permit.counted_by(&self.guards),
        )
    }
}

impl ListenerDoor {
    /// Binds and listens, which is one question to the guards. `backlog` 0 is the default.
    pub(crate) fn open(
        rights: &Rights,
        local: SocketAddr,
        backlog: u32,
        permit: Permit,
    ) -> Result<ListenerDoor, Refusal> {
        let any_port = local.port() == 0;
        let operations = [Operation::Bind, Operation::Listen];
        let (socket, local) = bind(&rights.authority, Protocol::Tcp, &operations, local)?;
        let asked = Asked::at(Act::Listen, Protocol::Tcp, local);
        rights.conditions.guards.check(&asked)?;
        let backlog = match backlog {
            0 => BACKLOG,
            backlog => i32::try_from(backlog).unwrap_or(i32::MAX),
        };
        let listening = socket
            .listen(backlog)
            .and_then(|()| TcpListener::from_std(socket.into()));
        Ok(ListenerDoor {
            local,
            any_port,
            keeper: OnceLock::new(),
            latch: Latch::new(Listening {
                socket: listening.map_err(|error| refusal(&error))?,
                authority: rights.authority.clone(),
                guards: rights.conditions.guards.clone(),
                waiting: None,
                _permit: permit.counted_by(&rights.conditions.guards),
            }),
        })
    }

    /// From now on it also needs what another Net allows, through which its new holder asked for it.
    pub(crate) fn also(&self, rights: &Rights) -> Result<(), Refusal> {
        if !self.may_listen(&rights.authority) {
            return Err(Refusal::denied(rights.authority.clone(), self.query()));
        }
        rights
            .conditions
            .guards
            .check(&Asked::at(Act::Listen, Protocol::Tcp, self.local))?;
        self.latch
            .with(|listening| need_also(&mut listening.authority, &mut listening.guards, rights))?
    }

    fn may_listen(&self, authority: &Authority) -> bool {
        [Operation::Bind, Operation::Listen].into_iter().all(|operation| {
            let at = |port| {
                let local = SocketAddr::new(self.local.ip(), port);
                authority.allows(&Query::new(operation, Protocol::Tcp).local(local))
            };
            at(self.local.port()) || (self.any_port && at(0))
        })
    }

    /// Who is to be named when a peer is turned away.
    pub(crate) fn kept_by(&self, keeper: Doorkeeper) {
        // A socket gets its place once.
        let _ = self.keeper.set(keeper);
    }

    /// A peer is not let in.
    pub(crate) fn turn_away(&self, peer: &dyn fmt::Display) {
        if let Some(keeper) = self.keeper.get() {
            keeper.turn_away(peer);
        }
    }

    /// The next connection of a peer that is let in; `WouldBlock` when there is none.
    pub(crate) fn accept(&self) -> Result<Peer, Refusal> {
        let mut context = Context::from_waker(Waker::noop());
        let accepted = self.latch.with(|listening| {
            if !listening.look(&mut context, &|peer| self.turn_away(peer))? {
                return Err(ErrorCode::WouldBlock.into());
            }
            listening
                .waiting
                .take()
                .ok_or_else(|| ErrorCode::WouldBlock.into())
        })?;
        // Looking took the place of whoever waits for this socket with a poller.
        self.latch.disturb();
        accepted
    }

    /// What the socket was made for.
    pub(crate) fn query(&self) -> Query {
        Query::new(Operation::Listen, Protocol::Tcp).local(self.local)
    }

    pub(crate) fn local_address(&self) -> Result<SocketAddr, Refusal> {
        self.latch.with(|_| ())?;
        Ok(self.local)
    }
}

impl Listening {
    /// Whether there is a connection for the guest. `refused` hears of the peers that are turned away.
    fn look(
        &mut self,
        context: &mut Context<'_>,
        refused: &dyn Fn(&dyn fmt::Display),
    ) -> Result<bool, Refusal> {
        if let Some(peer) = &self.waiting
            && !self.authority.permits(&peer.tuple())
        {
            // Narrowed since it was let in.
            refused(&Query::from(peer.tuple()));
            self.waiting = None;
        }
        for _ in 0..REFUSALS {
            if self.waiting.is_some() {
                return Ok(true);
            }
            match self.socket.poll_accept(context) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Err(error)) => return Err(refusal(&error)),
                Poll::Ready(Ok((stream, remote))) => {
                    let local = stream.local_addr().map_err(|error| refusal(&error))?;
                    let peer = Peer {
                        stream,
                        local: canonical_socket(local),
                        remote: canonical_socket(remote),
                        guards: self.guards.clone(),
                    };
                    if !self.authority.permits(&peer.tuple()) {
                        refused(&Query::from(peer.tuple()));
                        peer.dismiss();
                    } else if let Err(refusal) = peer.ask() {
                        refused(&refusal);
                        peer.dismiss();
                    } else {
                        self.waiting = Some(peer);
                    }
                }
            }
        }
        context.waker().wake_by_ref();
        Ok(false)
    }
}

impl Source for ListenerDoor {
    fn poll_ready(&self, context: &mut Context<'_>, interest: Interest) -> Result<Readiness, ErrorCode> {
        if !interest.read {
            return self.latch.with(|_| Readiness::Later(None));
        }
        self.latch.with(|listening| {
            // An error is for `accept` to tell.
            match listening.look(context, &|peer| self.turn_away(peer)) {
                Ok(false) => Readiness::Later(None),
                Ok(true) | Err(_) => Readiness::Now(Interest {
                    read: true,
                    write: false,
                }),
            }
        })
    }

    fn ending(&self) -> &dyn Ending {
        &self.latch
    }
}

impl Sever for ListenerDoor {
    fn sever(&self) {
        self.latch.sever();
    }

    fn restrict(&self, authority: &Authority) -> bool {
        let narrowed = self
            .latch
            .with(|listening| narrow(&mut listening.authority, authority));
        narrowed.unwrap_or(true) && self.may_listen(authority)
    }
}
