//! What a vat keeps of each of its capabilities.

use std::sync::Arc;

use refcap_abi::ErrorCode;
use refcap_authority::Authority;

use super::id::{CapId, Key};
use super::lineage::{Node, Tree};
use super::membrane::Cut;
use super::object::Object;
use super::obtained::Obtained;
use super::pool::Link;
use super::rights::Conditions;
use crate::guard::Guard;
use crate::net::{ListenerDoor, NameDoor, PollSet, Source, TcpDoor, UdpDoor};
use crate::object::Line;
use crate::vat::{Child, Spawner};

/// One capability that the vat holds. With its number it fits into a line of the processor's cache: with many of them, to
/// fetch it is most of what a use costs.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Where its [`Origin`] is in the vat's table.
    pub(super) origin: Link,
    /// The place of its node, which has its number.
    node: Link,
    pub(super) narrowings: u32,
    /// What its conditions say of it, here so that asking for it fetches nothing more.
    flags: i32,
    /// Where a socket comes from that a program gave.
    obtained: Option<Arc<Obtained>>,
    pub(super) object: Object,
}

/// What a capability has in common with most of those that it comes from and that come from it.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) tree: Arc<Tree>,
    pub(crate) label: Arc<str>,
    /// The terms of a Net, or of the one that it was made with.
    pub(crate) conditions: Arc<Conditions>,
}

impl Entry {
    /// One whose node is not known yet.
    #[inline(always)]
    pub(super) fn new(origin: Link, flags: i32, obtained: Option<Arc<Obtained>>, object: Object) -> Entry {
        Entry {
            origin,
            node: Link::NONE,
            narrowings: 0,
            flags,
            obtained,
            object,
        }
    }

    /// Its node, if `id` is its number.
    pub(super) fn node(&self, id: CapId) -> Key<Node> {
        self.node.key(id)
    }

    /// Its node is at that place from now on.
    pub(super) fn put(&mut self, node: Key<Node>) {
        self.node = Link::to(node.place());
    }

    /// It has no node any more.
    pub(super) fn uproot(&mut self) {
        self.node = Link::NONE;
    }

    pub(super) fn obtained(&self) -> Option<&Arc<Obtained>> {
        self.obtained.as_ref()
    }

    pub(super) fn take_obtained(&mut self) -> Option<Arc<Obtained>> {
        self.obtained.take()
    }

    pub(crate) fn object(&self) -> &Object {
        &self.object
    }

    /// What may be done with a Net itself: see [`Conditions::flags`].
    #[inline]
    pub(crate) fn flags(&self) -> Result<i32, ErrorCode> {
        self.net().map(|_| self.flags)
    }

    /// What a Net allows.
    #[inline]
    pub(crate) fn net(&self) -> Result<&Authority, ErrorCode> {
        match &self.object {
            Object::Net(authority) => Ok(authority),
            _ => Err(ErrorCode::WrongKind),
        }
    }

    /// What a Name stands for.
    pub(crate) fn name(&self) -> Result<&Arc<NameDoor>, ErrorCode> {
        match &self.object {
            Object::Name(door) => Ok(door),
            _ => Err(ErrorCode::WrongKind),
        }
    }

    /// The socket of a TcpListener.
    pub(crate) fn listener(&self) -> Result<&Arc<ListenerDoor>, ErrorCode> {
        match &self.object {
            Object::TcpListener(door) => Ok(door),
            _ => Err(ErrorCode::WrongKind),
        }
    }

    /// The socket of a TcpStream.
    pub(crate) fn stream(&self) -> Result<&Arc<TcpDoor>, ErrorCode> {
        match &self.object {
            Object::TcpStream(door) => Ok(door),
            _ => Err(ErrorCode::WrongKind),
        }
    }

    /// The socket of a UdpSocket.
    pub(crate) fn udp(&self) -> Result<&Arc<UdpDoor>, ErrorCode> {
        match &self.object {
            Object::UdpSocket(door) => Ok(door),
            _ => Err(ErrorCode::WrongKind),
        }
    }

    /// A socket of any kind, as something to wait for.
    pub(crate) fn source(&self) -> Result<Arc<dyn Source>, ErrorCode> {
        match &self.object {
            Object::TcpListener(door) => Ok(door.clone()),
            Object::TcpStream(door) => Ok(door.clone()),
            Object::UdpSocket(door) => Ok(door.clone()),
            _ => Err(ErrorCode::WrongKind),
        }
    }

    /// The set of a Poller.
    pub(crate) fn poller(&self) -> Result<&Arc<PollSet>, ErrorCode> {
        match &self.object {
            Object::Poller(set) => Ok(set),
            _ => Err(ErrorCode::WrongKind),
        }
    }

    /// The module of a Guard.
    pub(crate) fn guard(&self) -> Result<&Guard, ErrorCode> {
        match &self.object {
            Object::Guard(guard) => Ok(guard),
            _ => Err(ErrorCode::WrongKind),
        }
    }

    /// The way to the program that implements an Object.
    pub(crate) fn line(&self) -> Result<&Arc<Line>, ErrorCode> {
        match &self.object {
            Object::Implemented(line) => Ok(line),
            _ => Err(ErrorCode::WrongKind),
        }
    }

    /// What a Spawner may start.
    pub(crate) fn spawner(&self) -> Result<&Arc<Spawner>, ErrorCode> {
        match &self.object {
            Object::Spawner(spawner) => Ok(spawner),
            _ => Err(ErrorCode::WrongKind),
        }
    }

    /// The program of a Child.
    pub(crate) fn child(&self) -> Result<&Arc<Child>, ErrorCode> {
        match &self.object {
            Object::Child(child) => Ok(child),
            _ => Err(ErrorCode::WrongKind),
        }
    }

    /// What a Membrane can cut.
    pub(crate) fn membrane(&self) -> Result<&Arc<Cut>, ErrorCode> {
        match &self.object {
            Object::Membrane(cut) => Ok(cut),
            _ => Err(ErrorCode::WrongKind),
        }
    }

    /// The target of a Revoker, which is in the Revoker's lineage.
    pub(crate) fn revoker(&self) -> Result<Key<Node>, ErrorCode> {
        match &self.object {
            Object::Revoker(target) => Ok(target.key()),
            _ => Err(ErrorCode::WrongKind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::id::Slot;
    use super::*;

    #[test]
    fn an_entry_with_its_number_is_a_line_of_the_cache() {
        assert_eq!((size_of::<Slot<Entry>>(), align_of::<Slot<Entry>>()), (64, 64));
    }
}
