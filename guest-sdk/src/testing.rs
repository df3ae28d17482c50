//! Capabilities for the tests of a guest, in native builds.
//!
//! A guest is built for wasm, but its tests need not be: with plain `cargo test`, on the machine itself,
//! this module makes the capabilities that a host would grant. What they allow and refuse is decided by
//! the same rules, and connections go to real sockets.
//!
//! ```
//! use refcap_guest::ErrorCode;
//! use std::net::TcpListener;
//!
//! let server = TcpListener::bind("127.0.0.1:0")?;
//! let net = refcap_guest::testing::net("connect tcp 127.0.0.1:*");
//! let stream = net.connect(server.local_addr()?)?;
//! assert_eq!(stream.peer_addr()?, server.local_addr()?);
//!
//! let elsewhere = net.connect("10.0.0.1:80").unwrap_err();
//! assert_eq!(elsewhere.code(), ErrorCode::Denied);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! This is a tool for tests and not a sandbox: native code can do whatever its process can. It differs
//! from the real host also in that it checks a local end only once that is bound, can't choose the local end
//! of a connection, does not let write timeouts run out, gives names no lease, lets limits and labels have no
//! effect, starts no programs, and has no audit log. Objects and Nets of the program's own are called in the thread that made
//! them, and no calls come from other programs.

use refcap_authority::{Answers, Authority};

use crate::capability::sealed::Sealed;
use crate::fake::{self, Slot};
use crate::{Capability, IntoRules, Net, Spawner};

/// A network capability to what the rules allow.
///
/// # Panics
///
/// When the rules cannot be read, or are too complex.
pub fn net(rules: impl IntoRules) -> Net {
    let rules = rules.into_rules().unwrap_or_else(|error| panic!("{error}"));
    let authority = Authority::from_rules(&rules).unwrap_or_else(|error| panic!("{error}"));
    let answers = Answers::from_rules(&rules).unwrap_or_else(|error| panic!("{error}"));
    Net::from_slot(Slot::root(authority, answers))
}

/// A spawner that starts no programs: preparing one is [`NotStarted`](crate::ErrorCode::NotStarted), for a native test has
/// no host that could run it.
pub fn spawner() -> Spawner {
    Spawner::from_slot(Slot::spawner())
}

/// Stops the clock that [`task`](crate::task) goes by, in this thread: from now on, time passes only when all
/// tasks wait, and then at once, up to the next time that one of them waits for. A test of an hour takes no
/// time.
///
/// Sockets are real and know nothing of it: a task that waits for a peer while another one sleeps sees the sleep end
/// before the peer had any time to answer.
///
/// ```
/// use std::time::{Duration, Instant};
/// use refcap_guest::{task, testing};
///
/// testing::stop_clock();
/// let begun = Instant::now();
/// task::block_on(task::sleep(Duration::from_secs(3600)))??;
/// assert!(begun.elapsed() < Duration::from_secs(60));
/// # Ok::<(), refcap_guest::Error>(())
/// ```
pub fn stop_clock() {
    fake::stop_clock();
}

/// Lets [`grants::take`](crate::grants::take) find a capability under a name, once, in this thread.
pub fn grant(name: &str, capability: impl Capability) {
    fake::grant(name, capability.into_slot());
}
