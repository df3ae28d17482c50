//! What a capability is a capability to.

use std::fmt;

/// The kind of object that a capability names.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A set of things that may be done on the network.
    Net,
    /// One TCP connection.
    TcpStream,
    /// The power to revoke one capability and everything derived from it.
    Revoker,
    /// A DNS name with the addresses that it stood for when it was resolved: it can be connected to.
    Name,
    /// A TCP socket that takes connections.
    TcpListener,
    /// A UDP socket.
    UdpSocket,
    /// A set of sockets to wait for.
    Poller,
    /// Something that a program implements, and that others call.
    Object,
    /// The power to start programs.
    Spawner,
    /// A program that was started through a Spawner, or is about to be.
    Child,
    /// A small program that says yes or no to each use of a Net that it is put before.
    Guard,
    /// The power to end all that crosses it, in both directions.
    Membrane,
}

impl Kind {
    /// Every kind, in the order of their codes.
    pub const ALL: &[Kind] = &[
        Kind::Net,
        Kind::TcpStream,
        Kind::Revoker,
        Kind::Name,
        Kind::TcpListener,
        Kind::UdpSocket,
        Kind::Poller,
        Kind::Object,
        Kind::Spawner,
        Kind::Child,
        Kind::Guard,
        Kind::Membrane,
    ];

    /// The number that stands for this kind on the wire (from 1).
    pub const fn code(self) -> i32 {
        match self {
            Kind::Net => 1,
            Kind::TcpStream => 2,
            Kind::Revoker => 3,
            Kind::Name => 4,
            Kind::TcpListener => 5,
            Kind::UdpSocket => 6,
            Kind::Poller => 7,
            Kind::Object => 8,
            Kind::Spawner => 9,
            Kind::Child => 10,
            Kind::Guard => 11,
            Kind::Membrane => 12,
        }
    }

    /// The kind that a number stands for.
    pub fn from_code(code: i32) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|kind| kind.code() == code)
    }

    /// The name used in endowment sections, messages and the audit log.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Net => "Net",
            Kind::TcpStream => "TcpStream",
            Kind::Revoker => "Revoker",
            Kind::Name => "Name",
            Kind::TcpListener => "TcpListener",
            Kind::UdpSocket => "UdpSocket",
            Kind::Poller => "Poller",
            Kind::Object => "Object",
            Kind::Spawner => "Spawner",
            Kind::Child => "Child",
            Kind::Guard => "Guard",
            Kind::Membrane => "Membrane",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_one_to_one() {
        for &kind in Kind::ALL {
            assert_eq!(Kind::from_code(kind.code()), Some(kind));
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(Kind::from_code(0), None);
        assert_eq!(Kind::from_name("net"), None);
    }
}
