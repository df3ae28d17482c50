#![doc = include_str!("../README.md")]

// The crate's own macro writes `::refcap_guest`, also in the crate's own tests.
extern crate self as refcap_guest;

mod address;
mod capability;
mod child;
mod endowment;
mod error;
#[cfg(not(target_family = "wasm"))]
mod fake;
pub mod grants;
mod guard;
mod host;
pub mod interface;
pub mod link;
mod listener;
mod membrane;
mod name;
mod net;
mod network;
pub mod object;
mod poller;
#[cfg(target_family = "wasm")]
mod raw;
mod revoker;
mod rules;
mod stream;
pub mod task;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod udp;
mod wait;

pub use refcap_abi::ending::Ending;
pub use refcap_abi::{ErrorCode, Kind};
pub use refcap_authority as authority;
pub use refcap_authority::Terms;

pub use address::ToAddress;
pub use capability::Capability;
pub use child::{Child, Derived, Launch, Moved, Spawner};
pub use error::{Error, Result};
pub use guard::Guard;
pub use listener::{Incoming, TcpListener};
pub use membrane::Membrane;
pub use name::Name;
pub use net::Net;
pub use network::Network;
pub use object::{Message, Object};
pub use poller::{Event, Interest, Pollable, Poller};
pub use revoker::Revoker;
pub use rules::{IntoQuery, IntoRules, IntoTerms};
pub use stream::TcpStream;
pub use udp::UdpSocket;

/// Makes a function the program's entry, with the capabilities that it needs as parameters.
///
/// ```no_run
/// use refcap_guest::{Net, Result};
///
/// #[refcap_guest::main]
/// fn main(net: Net, log: Option<Net>) -> Result<()> {
///     println!("{}", net.describe()?);
///     Ok(())
/// }
/// ```
///
/// Each parameter is an endowment: whoever runs the program grants it under the parameter's name, here
/// with `--grant net='connect tcp 10.0.0.0/8:443'`. The program does not start without it, unless its
/// type is an `Option`. `#[endowment(name = "...")]` before a parameter gives it another name.
///
/// The function returns nothing, a [`std::process::ExitCode`], or a `Result` of one of these whose error
/// is `Display`. An error is shown as `Error: ...`, and the exit code is then 1.
///
/// It works in the `main.rs` of a program and in the `lib.rs` of a `cdylib`, for `wasm32-wasip1` and for
/// `wasm32-unknown-unknown`. It also works in crates that say `#![forbid(unsafe_code)]`.
pub use refcap_guest_macros::main;

/// Makes a function one that programs linked to this one can call, under its own name or
/// `#[refcap_guest::export(name = "...")]`. See [`link`].
///
/// ```compile_fail
/// #[refcap_guest::export]
/// fn read(bytes: &[u8]) {}
/// ```
pub use refcap_guest_macros::export;

/// Declares functions of a program that this one is linked to: `#[refcap_guest::linked(name = "...")]` on a block
/// `extern "C" { ... }`. See [`link`].
///
/// ```compile_fail
/// #[refcap_guest::linked(name = "plugin")]
/// extern "C" {
///     fn cannot_fail(number: u32) -> u32;
/// }
/// ```
pub use refcap_guest_macros::linked;

/// Makes of a trait the type of a reference to something that implements it: `StoreRef` of `trait Store`. See
/// [`interface`](mod@interface).
///
/// The trait is in the program as it was written. Each of its methods takes `&self` and values, and returns a
/// [`Result`] with this crate's [`Error`]; it may have a body, which an implementer can do without. A call of the
/// reference goes to the implementer whatever it is.
///
/// What can't be called from another program is an error: parameters that are references or generic, methods that take
/// `&mut self` or no `self`, `async` methods, associated types and constants, supertraits, and `#[cfg]` on a
/// method, since methods are known by their place.
///
/// ```compile_fail
/// #[refcap_guest::interface]
/// trait Store {
///     fn put(&self, value: &[u8]) -> refcap_guest::Result<()>;
/// }
/// ```
///
/// Neither can a value that is nothing to serde:
///
/// ```compile_fail,E0277
/// #[refcap_guest::interface]
/// trait Store {
///     fn put(&self, value: std::rc::Rc<u32>) -> refcap_guest::Result<()>;
/// }
/// # fn main() {}
/// ```
///
/// nor a capability that stays in its program:
///
/// ```compile_fail,E0277
/// #[refcap_guest::interface]
/// trait Waits {
///     fn wait_with(&self, poller: refcap_guest::Poller) -> refcap_guest::Result<()>;
/// }
/// # fn main() {}
/// ```
///
/// and an error of another type is none that a call could give:
///
/// ```compile_fail,E0308
/// #[refcap_guest::interface]
/// trait Store {
///     fn put(&self, value: Vec<u8>) -> Result<(), String>;
/// }
/// # fn main() {}
/// ```
pub use refcap_guest_macros::interface;

/// What the code that [`main`](macro@main) writes needs. Not for other use, and not under semver.
#[doc(hidden)]
pub mod __private {
    pub use crate::endowment::{Arguments, Declaration, declare, exit_code, run, section, section_length};
    pub use crate::interface::{Method, Proxy, answer, call, receive, send, unknown};
    pub use crate::object::dispatch;
    pub use serde;
}
