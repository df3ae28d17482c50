//! A runtime in which a WebAssembly program holds no ambient authority and no integer descriptors.
//!
//! A guest acts only through **references**: wasm `externref`s that this host made, each naming one
//! capability, which the guest can use, narrow, hand on and lose, but never make up. The first capability
//! is the network: a set of operations on addresses and ports, from which a guest derives smaller ones,
//! and which the embedder can take back, with everything derived from it, while the guest runs.
//!
//! # The parts
//!
//! - [`Runtime`]: the engine. One per process.
//! - [`Program`]: a module that passed the load gate, and the endowments that it asks for.
//! - [`Capability`]: authority in the embedder's hand. [`Capability::net`] mints one.
//! - [`Vat`]: a program that was given its endowments. [`VatHandle`] watches it while it runs.
//! - [`Guard`]: a small module that says yes or no to each use of a Net, beside its rules.
//! - [`Policy`]: rules and terms, from text: what is granted, how much of it, and until when.
//! - [`Resolver`]: where names that guests look up come from.
//! - [`SpawnerTerms`]: which programs a program may start by itself. [`Capability::spawner`] mints the power to.
//! - [`Limits`]: how much of the host a vat may use.
//! - [`audit`]: what happened, as `tracing` events.
//!
//! # Example
//!
//! ```no_run
//! use refcap::{Capability, Output, Program, Runtime, ambient_authority};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let runtime = Runtime::new()?;
//! let program = Program::load(&runtime, &std::fs::read("app.wasm")?)?;
//!
//! // The program's whole network: one port of one machine.
//! let net = Capability::net("net", "connect tcp 127.0.0.1:7777".parse()?, ambient_authority());
//!
//! let mut vat = program.vat().grant("net", &net).stdout(Output::Inherit).start().await?;
//! let watch = tokio::spawn({
//!     let net = net.clone();
//!     async move {
//!         tokio::time::sleep(std::time::Duration::from_secs(60)).await;
//!         net.revoke();
//!     }
//! });
//! let exit = vat.run().await?;
//! watch.abort();
//! println!("it ended with {}", exit.code);
//! # Ok(())
//! # }
//! ```
//!
//! The embedding interface needs no `unsafe`, and every function that makes authority from nothing takes
//! an [`AmbientAuthority`].

mod ambient;
pub mod audit;
mod budget;
mod cache;
mod capability;
mod guard;
mod imports;
mod limits;
mod net;
mod object;
mod pool;
mod program;
mod references;
mod resolver;
mod runtime;
mod switchboard;
mod vat;

pub use ambient::{AmbientAuthority, ambient_authority};
pub use budget::Usage;
pub use cache::CacheUse;
pub use capability::{CapId, Capability, CapabilityInfo, DeriveError, GrantRefused, Membrane, NarrowError};
pub use guard::{
    FUEL as GUARD_FUEL, Guard, GuardError, MAX_GUARD_BYTES, MAX_GUARD_CODE, MAX_GUARD_MEMORY, MAX_GUARDS,
    is_guard,
};
pub use limits::{
    DEFAULT_CAPABILITIES, DEFAULT_CONNECT_TIMEOUT, DEFAULT_DEPTH, DEFAULT_FAN_OUT, DEFAULT_GUARDS,
    DEFAULT_MEMORY, DEFAULT_RULE_BYTES, DEFAULT_SOCKETS, DEFAULT_TABLE_ELEMENTS, Limits,
};
pub use pool::PoolSize;
pub use program::{
    Entry, ImportReport, Inspection, LinkError, LoadError, MAX_MODULE_BYTES, Program, Provider, Refusal,
    inspect, inspect_linked,
};
pub use refcap_abi::endowment::Endowment;
pub use refcap_abi::{ErrorCode, Kind};
pub use refcap_authority::{Authority, DnsName, Policy, Rules, Terms};
pub use references::References;
pub use resolver::{Answer, Lookup, ResolveError, Resolver, SystemResolver};
pub use runtime::{Runtime, RuntimeBuilder, RuntimeError};
pub use vat::{
    Captured, ChildOutput, DEFAULT_CHILD_CAPABILITIES, DEFAULT_CHILD_MEMORY, DEFAULT_CHILD_SOCKETS,
    DEFAULT_CHILDREN, Exit, Input, Output, RunError, SpawnerRefused, SpawnerTerms, StartError, Vat,
    VatBuilder, VatHandle,
};
