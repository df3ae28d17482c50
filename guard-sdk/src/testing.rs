//! For the native tests of guards.
//!
//! ```
//! use refcap_guard::testing::{Question, ask, connect};
//! use refcap_guard::{Act, Once};
//!
//! let mut once = Once::new();
//! assert!(ask(&mut once, &Question { name: Some("example.com"), ..Question::new(Act::Resolve) }));
//! assert!(ask(&mut once, &connect("192.0.2.1:443")));
//! assert!(!ask(&mut once, &connect("192.0.2.2:443")));
//! ```

use std::net::SocketAddr;

use crate::request::Record;
use crate::{Act, Guard, Request};

pub use refcap_abi::guard::{Question, TCP, UDP};

/// Puts a question to a guard, as the host does.
pub fn ask(guard: &mut impl Guard, question: &Question<'_>) -> bool {
    let record = Record::of(question);
    Request::new(&record).is_some_and(|request| guard.allows(&request))
}

/// The question whether to connect to an address by TCP, at the first second of 1970.
///
/// # Panics
///
/// If that is no address with a port.
pub fn connect(remote: &str) -> Question<'static> {
    with_peer(Act::Connect, remote)
}

/// The question about an act that has a remote end, at the first second of 1970.
///
/// # Panics
///
/// If that is no address with a port.
pub fn with_peer(act: Act, remote: &str) -> Question<'static> {
    let remote: SocketAddr = remote
        .parse()
        .unwrap_or_else(|error| panic!("`{remote}` is not ADDRESS:PORT: {error}"));
    Question {
        remote: Some(remote.ip()),
        remote_port: remote.port(),
        ..Question::new(act)
    }
}
