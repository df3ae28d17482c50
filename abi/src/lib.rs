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

pub mod endowment;
mod error;
mod import;
mod kind;
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

/// The entry point of a module that has no [`COMMAND_EXPORT`]: `() -> i32`, the exit code.
pub const START_EXPORT: &str = "refcap_start";

/// The entry point of a WASI command: `() -> ()`.
pub const COMMAND_EXPORT: &str = "_start";

/// The export that names the guest's linear memory.
pub const MEMORY_EXPORT: &str = "memory";

/// `stream_wait`: wait until the stream can be read.
pub const WAIT_READ: i32 = 1;
/// `stream_wait`: wait until the stream can be written.
pub const WAIT_WRITE: i32 = 2;

/// `stream_address`: the local end.
pub const ADDRESS_LOCAL: i32 = 0;
/// `stream_address`: the remote end.
pub const ADDRESS_PEER: i32 = 1;

/// `stream_shutdown`: no more reads.
pub const SHUTDOWN_READ: i32 = 1;
/// `stream_shutdown`: no more writes; the peer reads the end of the stream.
pub const SHUTDOWN_WRITE: i32 = 2;
/// `stream_shutdown`: both.
pub const SHUTDOWN_BOTH: i32 = 3;
