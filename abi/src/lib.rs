//! The refcap guest ABI, defined once.
//!
//! The host registers its functions from [`IMPORTS`], the guest SDK's build script emits one stub for
//! each of them from the same table, and both sides use the same [`ErrorCode`]s, [`Kind`]s and wire
//! forms. Nothing here does I/O, and nothing here depends on another crate.
//!
//! # Calling convention
//!
//! - A capability is a nullable `externref`; every number is an `i32`.
//! - Every import's last result is an `i32` status: zero or more is success (and often a count), less
//!   than zero is an [`ErrorCode`], negated. Imports that make capabilities return them before the
//!   status, and return null in their place when they fail.
//! - Text and binary forms travel as a pointer and a length into the guest's exported memory `memory`.
//! - An import that fills a buffer returns the length of the whole answer; when that is more than the
//!   buffer's length, the buffer holds the answer's beginning.
//!
//! # How a program receives its endowments
//!
//! A module asks for capabilities in the custom section [`ENDOWMENT_SECTION`] (see [`endowment`]). Before
//! it starts, the host calls the export [`GRANT_EXPORT`], of type `(externref) -> i32`, once for each of
//! them, in the order of the section; null stands for an optional one that was not granted. Then it calls
//! [`COMMAND_EXPORT`] or, where there is none, [`START_EXPORT`].

#![forbid(unsafe_code)]

pub mod ending;
pub mod endowment;
mod error;
pub mod guard;
mod import;
mod kind;
pub mod service;
pub mod wire;

pub use error::ErrorCode;
pub use import::{IMPORTS, Import, Param};
pub use kind::Kind;

/// The wasm module name of every host import. It carries the ABI's version.
pub const MODULE: &str = "refcap_v1";

/// The custom section in which a module lists the capabilities that it asks for.
pub const ENDOWMENT_SECTION: &str = "refcap.endowments";

/// The export that receives each endowment: `(externref) -> i32`.
pub const GRANT_EXPORT: &str = "refcap_grant";

/// The export through which a program that is linked to this one takes what this one has put out for it:
/// `() -> (externref)`. Null when nothing is there.
pub const TAKE_EXPORT: &str = "refcap_take";

/// The export that sets up a module without an entry point before anything else of it is called: `() -> ()`.
pub const INITIALIZE_EXPORT: &str = "_initialize";

/// The export that the calls to a program's objects come in by: `(object, method, length, capabilities) -> status`, all
/// `i32`: the number that the program gave to `object_new`, the number of the method, and how many bytes and
/// capabilities the message has. A status below zero is an error for the caller.
pub const DISPATCH_EXPORT: &str = "refcap_dispatch";

/// The most bytes of a message to an object, and of its answer.
pub const MAX_MESSAGE_BYTES: usize = 64 << 10;
/// The most capabilities that go with a message, and with its answer.
pub const MAX_MESSAGE_CAPABILITIES: usize = 16;
/// The most calls of objects inside one another in a vat.
pub const MAX_CALL_DEPTH: usize = 64;
/// The most calls from other vats that wait for one vat to serve them.
pub const MAX_WAITING_CALLS: usize = 64;

/// The most programs in one vat: the one that is run, and those that are linked to it.
pub const MAX_INSTANCES: usize = 16;

/// The entry point of a module that has no [`COMMAND_EXPORT`]: `() -> i32`, the exit code.
pub const START_EXPORT: &str = "refcap_start";

/// The entry point of a WASI command: `() -> ()`.
pub const COMMAND_EXPORT: &str = "_start";

/// The export that names the guest's linear memory.
pub const MEMORY_EXPORT: &str = "memory";

/// `socket_wait`, `poller_add`: until the socket can be read: bytes, a connection or a datagram has
/// arrived, or nothing more will.
pub const WAIT_READ: i32 = 1;
/// `socket_wait`, `poller_add`: until the socket can be written; for a connection that is being made, until
/// it is made or has failed.
pub const WAIT_WRITE: i32 = 2;
/// `poller_wait`: the socket was closed or revoked, and the poller has forgotten it.
pub const READY_ENDED: i32 = 4;

/// `poller_wait`: the bytes of one event: the token and what is ready, both as little-endian `u32`s.
pub const EVENT_BYTES: usize = 8;

/// `stream_read_vectored`, `stream_write_vectored`: the bytes of one piece of the list: a pointer and a
/// length, both as little-endian `u32`s.
pub const PIECE_BYTES: usize = 8;
/// `stream_read_vectored`, `stream_write_vectored`: the most pieces that one call takes. A longer list is no
/// error: what lies in the others is not moved.
pub const MAX_PIECES: usize = 16;

/// `child_limit`: bytes of memory.
pub const LIMIT_MEMORY: i32 = 1;
/// `child_limit`: capabilities held at once.
pub const LIMIT_CAPABILITIES: i32 = 2;
/// `child_limit`: sockets open at once.
pub const LIMIT_SOCKETS: i32 = 3;
/// `child_limit`: milliseconds from its start to its end.
pub const LIMIT_TIME: i32 = 4;

/// `child_argument`: the most bytes of all arguments of a child together, each with a byte for its end.
pub const ARGUMENT_BYTES: usize = 64 << 10;

/// As the time limit of `net_connect`, `net_connect_from` and `name_connect`: return at once with a
/// stream that is not connected yet. `socket_wait` or a poller tells when it can be written; then it is
/// connected, or writing to it tells why not.
pub const NO_WAIT: i32 = -1;

/// `net_flags`: others can be derived from the Net.
pub const FLAG_DERIVABLE: i32 = 1;
/// `net_flags`: the Net may be handed to another vat.
pub const FLAG_TRANSFERABLE: i32 = 2;

/// `socket_address`: the local end.
pub const ADDRESS_LOCAL: i32 = 0;
/// `socket_address`: the remote end.
pub const ADDRESS_PEER: i32 = 1;

/// `stream_shutdown`: no more reads.
pub const SHUTDOWN_READ: i32 = 1;
/// `stream_shutdown`: no more writes; the peer reads the end of the stream.
pub const SHUTDOWN_WRITE: i32 = 2;
/// `stream_shutdown`: both.
pub const SHUTDOWN_BOTH: i32 = 3;
