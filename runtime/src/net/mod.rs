//! Sockets. Each has one door, made when the socket is made, and every use of it goes through there.
//!
//! Nothing here knows wasm; nothing outside touches a socket.

pub(crate) mod connect;
mod door;

pub(crate) use door::{Interest, TcpDoor};
