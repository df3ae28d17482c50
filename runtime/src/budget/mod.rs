//! Budgets: how much of the network a capability may use.
//!
//! A budget travels with a capability and is split by deriving, not multiplied: an [`Account`] draws on the
//! account that it was opened under, so a thousand children have no more than their parent. [`bucket`]
//! is the limiter for bytes per second. Nothing here knows sockets or wasm.

mod account;
mod bucket;

pub use account::Usage;
pub(crate) use account::{Account, Connection, Direction, MAX_ACCOUNTS, Short, SocketShare};
