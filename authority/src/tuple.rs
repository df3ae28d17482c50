//! What authority is over: an operation, a protocol, a local end and a remote end.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::address::{canonical, canonical_socket};
use crate::name::DnsName;

/// What is done with the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Open a connection, or fix the peer of a datagram socket.
    Connect,
    /// Take a local address and port.
    Bind,
    /// Wait for connections of that remote end.
    Listen,
    /// Take a connection that the remote end opened.
    Accept,
    /// Send a datagram.
    Send,
    /// Take a datagram that the remote end sent.
    Receive,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Operation; 6] = [
        Operation::Connect,
        Operation::Bind,
        Operation::Listen,
        Operation::Accept,
        Operation::Send,
        Operation::Receive,
    ];

    /// Its word in rules.
    pub const fn word(self) -> &'static str {
        match self {
            Operation::Connect => "connect",
            Operation::Bind => "bind",
            Operation::Listen => "listen",
            Operation::Accept => "accept",
            Operation::Send => "send",
            Operation::Receive => "receive",
        }
    }

    /// The operation of that word.
    pub fn from_word(word: &str) -> Option<Operation> {
        Operation::ALL
            .into_iter()
            .find(|operation| operation.word() == word)
    }

    /// Whether its rules say the remote end first ([`Direction::Outbound`]) or the local end.
    pub const fn direction(self) -> Direction {
        match self {
            Operation::Connect | Operation::Send => Direction::Outbound,
            Operation::Bind | Operation::Listen | Operation::Accept | Operation::Receive => {
                Direction::Inbound
            }
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Which end of an operation is its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The remote end is the destination: connect, send.
    Outbound,
    /// The local end is the destination: bind, listen, accept, receive.
    Inbound,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Both.
    pub const ALL: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

    /// Its word in rules.
    pub const fn word(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }

    /// The protocol of that word.
    pub fn from_word(word: &str) -> Option<Protocol> {
        Protocol::ALL.into_iter().find(|protocol| protocol.word() == word)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The far end of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Remote {
    /// An address, canonical.
    Address(SocketAddr),
    /// A name and a port: authority over a name is authority to resolve it and to reach what it stands for.
    Name(DnsName, u16),
}

impl Remote {
    /// The port.
    pub fn port(&self) -> u16 {
        match self {
            Remote::Address(address) => address.port(),
            Remote::Name(_, port) => *port,
        }
    }

    fn canonical(self) -> Remote {
        match self {
            Remote::Address(address) => Remote::Address(canonical_socket(address)),
            name @ Remote::Name(..) => name,
        }
    }
}

impl From<SocketAddr> for Remote {
    fn from(address: SocketAddr) -> Remote {
        Remote::Address(canonical_socket(address))
    }
}

impl From<(IpAddr, u16)> for Remote {
    fn from((address, port): (IpAddr, u16)) -> Remote {
        Remote::Address(SocketAddr::new(canonical(address), port))
    }
}

impl From<(DnsName, u16)> for Remote {
    fn from((name, port): (DnsName, u16)) -> Remote {
        Remote::Name(name, port)
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remote::Address(address) => address.fmt(f),
            Remote::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// One thing that can be done: the element of the sets that an [`Authority`](crate::Authority) is made of.
///
/// Both ends are canonical from the beginning. A bind has no remote end; its tuples all have
/// [`Tuple::NOWHERE`] in that place, whatever they are made with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tuple {
    operation: Operation,
    protocol: Protocol,
    local: SocketAddr,
    remote: Remote,
}

impl Tuple {
    /// The remote end of every bind.
    pub const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

    /// A tuple of canonical ends.
    pub fn new(
        operation: Operation,
        protocol: Protocol,
        local: SocketAddr,
        remote: impl Into<Remote>,
    ) -> Tuple {
        let remote = match operation {
            Operation::Bind => Remote::Address(Tuple::NOWHERE),
            _ => remote.into().canonical(),
        };
        Tuple {
            operation,
            protocol,
            local: canonical_socket(local),
            remote,
        }
    }

    /// A bind to a local end.
    pub fn bind(protocol: Protocol, local: SocketAddr) -> Tuple {
        Tuple::new(Operation::Bind, protocol, local, Tuple::NOWHERE)
    }

    /// The operation.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// The protocol.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The near end.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The far end.
    pub fn remote(&self) -> &Remote {
        &self.remote
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::Query::from(self.clone()).fmt(f)
    }
}
