//! What capabilities are capabilities to.

use std::sync::Arc;

use refcap_abi::{ErrorCode, Kind};
use refcap_authority::Authority;

use super::id::PackedKey;
use super::lineage::{Node, Sever};
use super::membrane::Cut;
use crate::guard::Guard;
use crate::net::{ListenerDoor, NameDoor, PollSet, TcpDoor, UdpDoor};
use crate::object::Line;
use crate::vat::{Child, Spawner};

/// What a capability is a capability to.
#[derive(Debug, Clone)]
pub(crate) enum Object {
    /// Its conditions are kept elsewhere, for many have the same.
    Net(Authority),
    Name(Arc<NameDoor>),
    TcpListener(Arc<ListenerDoor>),
    TcpStream(Arc<TcpDoor>),
    UdpSocket(Arc<UdpDoor>),
    Poller(Arc<PollSet>),
    Guard(Guard),
    /// Something that a program implements.
    Implemented(Arc<Line>),
    Spawner(Arc<Spawner>),
    Child(Arc<Child>),
    /// The power to end all that crosses it.
    Membrane(Arc<Cut>),
    /// The power to end another node of the same lineage.
    Revoker(PackedKey<Node>),
    /// What was one of these, until its lease ended or it was moved to another vat: the error that tells.
    Gone(Kind, ErrorCode),
}

/// How a capability gets from one vat to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passing {
    /// The other vat gets one that is derived from it.
    Derived,
    /// The other vat gets this one. Two vats can't read from one connection: each would have half of it.
    Moved,
    /// It means something in one vat only.
    Never,
}

impl Object {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Object::Net(_) => Kind::Net,
            Object::Name(_) => Kind::Name,
            Object::TcpListener(_) => Kind::TcpListener,
            Object::TcpStream(_) => Kind::TcpStream,
            Object::UdpSocket(_) => Kind::UdpSocket,
            Object::Poller(_) => Kind::Poller,
            Object::Guard(_) => Kind::Guard,
            Object::Implemented(_) => Kind::Object,
            Object::Spawner(_) => Kind::Spawner,
            Object::Child(_) => Kind::Child,
            Object::Membrane(_) => Kind::Membrane,
            Object::Revoker(_) => Kind::Revoker,
            Object::Gone(kind, _) => *kind,
        }
    }

    /// What must end with the capability, unless it is a Net: what implements that is in its conditions.
    pub(super) fn sever(&self) -> Option<Arc<dyn Sever>> {
        match self {
            Object::Name(door) => Some(door.clone()),
            Object::TcpListener(door) => Some(door.clone()),
            Object::TcpStream(door) => Some(door.clone()),
            Object::UdpSocket(door) => Some(door.clone()),
            Object::Child(child) => Some(child.control().clone()),
            Object::Implemented(line) => Some(line.clone()),
            Object::Net(_)
            | Object::Poller(_)
            | Object::Guard(_)
            | Object::Revoker(_)
            | Object::Membrane(_)
            | Object::Spawner(_)
            | Object::Gone(..) => None,
        }
    }

    /// The same for one more holder, who can lose it alone.
    #[inline(always)]
    pub(super) fn for_another(self) -> Object {
        match self {
            Object::Implemented(line) => Object::Implemented(line.for_another()),
            other => other,
        }
    }

    pub(super) fn passing(&self) -> Passing {
        match self {
            Object::Net(_)
            | Object::Guard(_)
            | Object::Revoker(_)
            | Object::Membrane(_)
            | Object::Implemented(_)
            | Object::Spawner(_) => Passing::Derived,
            Object::Name(_) | Object::TcpListener(_) | Object::TcpStream(_) | Object::UdpSocket(_) => {
                Passing::Moved
            }
            Object::Poller(_) | Object::Child(_) | Object::Gone(..) => Passing::Never,
        }
    }
}
