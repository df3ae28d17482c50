//! Sockets, each behind its one door.
//!
//! Every use of a socket passes the object that was made when the socket was made: [`door`] for a
//! connection, with [`stream`] behind it, [`listener`], [`udp`], and [`name`] for what a name was resolved to. [`latch`] is what they
//! have in common: it can end at any moment. [`copy`] moves bytes between two connections, [`pieces`] cuts
//! lists of buffers to a budget. [`connect`] and [`bind`] settle both ends before the first packet; [`source`]
//! waits for one socket, [`poll_set`] for many. Nothing here knows wasm.

mod bind;
pub(crate) mod connect;
mod copy;
mod door;
mod latch;
mod listener;
mod name;
mod pair;
mod permit;
mod pieces;
mod poll_set;
mod source;
mod stream;
mod udp;

pub(crate) use door::TcpDoor;
pub(crate) use latch::Ending;
pub(crate) use listener::ListenerDoor;
pub(crate) use name::NameDoor;
pub(crate) use pair::pair;
pub(crate) use permit::Permit;
pub(crate) use poll_set::PollSet;
pub(crate) use source::{Interest, Readiness, Source, wait};
pub(crate) use udp::{MAX_DATAGRAM, UdpDoor};
