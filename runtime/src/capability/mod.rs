//! Capabilities: what a reference names.
//!
//! A capability is an object (what), an authority (which operations on it) and a place in a lineage (what
//! it was derived from). [`object`] says what, [`id`] gives names that are never reused, [`lineage`] says what is alive
//! and [`nodes`] is what it is made of, [`fallen`] is what a revocation has to tell others, [`lease`] ends what has had its
//! time, [`membrane`] what has crossed one, [`rights`] is what a capability allows and on what terms, [`obtained`] is where
//! a socket comes from that a program gave, [`pool`] keeps once what many have in common, [`table`] is one vat's own view,
//! [`entry`] what it keeps of each capability and [`hand_over`] the way from one to another, [`mailbox`] is how the lineage
//! tells a running vat of changes, and [`handle`] is what the embedder holds. Nothing here knows wasm.

pub(crate) mod entry;
mod fallen;
pub(crate) mod hand_over;
mod handle;
mod id;
mod lease;
pub(crate) mod lineage;
pub(crate) mod mailbox;
pub(crate) mod membrane;
mod nodes;
mod object;
mod obtained;
mod pool;
pub(crate) mod rights;
pub(crate) mod table;

pub(crate) use handle::NotEnclosed;
pub use handle::{Capability, DeriveError, NarrowError};
pub use id::CapId;
pub(crate) use id::{Key, PackedKey};
pub use lineage::CapabilityInfo;
pub use membrane::Membrane;
pub(crate) use obtained::Obtained;
pub use rights::GrantRefused;
