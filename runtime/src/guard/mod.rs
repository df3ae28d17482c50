//! Guards: attenuation by code.
//!
//! A guard is a small module without imports that says yes or no to each use of a Net that it is put before
//! (`refcap_abi::guard` has its interface). It is asked after the authority has permitted, and never instead, so
//! it can only narrow. [`gate`] says what a module must be, [`engine`] runs them apart from all guests, [`post`]
//! is a guard at one Net with what it remembers, and [`chain`] is all that stand before a Net.

mod chain;
mod engine;
mod gate;
mod post;

use std::fmt;
use std::sync::Arc;

use thiserror::Error;
use wasmtime::{InstancePre, Linker, Module};

use crate::capability::mailbox::GuardPermit;
use engine::Meter;

pub(crate) use chain::{Asked, Guards, Open};
pub use engine::{FUEL, MAX_GUARD_MEMORY};
pub use gate::{MAX_GUARD_BYTES, MAX_GUARD_CODE, is_guard};
pub(crate) use post::Post;

/// The most guards in a row before one Net.
pub const MAX_GUARDS: usize = 8;

/// A program that says yes or no to uses of a Net; [`Capability::guarded`](crate::Capability::guarded) puts it
/// before one.
///
/// It is compiled once. Each Net that it is put before has an instance of its own, with a memory of its own,
/// which all that is derived from that Net share. Cheap to clone.
///
/// ```
/// use refcap::{Capability, Guard, ambient_authority};
///
/// // Ordinarily it comes from a file, and is written in Rust with the crate `refcap-guard`.
/// let never = wat::parse_str(r#"(module
///     (memory (export "memory") 1)
///     (global (export "refcap_guard_record") i32 (i32.const 0))
///     (func (export "refcap_guard_check") (result i32) (i32.const 0)))"#)?;
/// let never = Guard::compile("never", &never)?;
///
/// let net = Capability::net("net", "connect tcp 10.0.0.0/8:443".parse()?, ambient_authority());
/// let guarded = net.guarded(&never)?;
/// # assert_eq!(guarded.authority(), net.authority());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Guard {
    parts: Arc<Parts>,
}

struct Parts {
    /// Empty for one that a guest brought: it goes by its number.
    name: String,
    linked: InstancePre<Meter>,
    _permit: Option<GuardPermit>,
}

/// Why a module is no guard, or could not be put before a Net.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GuardError {
    /// The bytes do not begin as wasm does.
    #[error("this is not a WebAssembly file: it does not begin with the bytes `\\0asm`")]
    NotWasm,
    /// It is a component.
    #[error("this is a component, and a guard is a core module: build for wasm32-unknown-unknown")]
    Component,
    /// It is too large.
    #[error("the guard has {bytes} bytes; at most {MAX_GUARD_BYTES} are compiled")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Compiling it would take too long.
    #[error("the guard has {count} {what}; at most {most} are compiled")]
    TooMuchCode {
        /// What it has too much of.
        what: &'static str,
        /// How much it has.
        count: usize,
        /// How much is compiled at most.
        most: usize,
    },
    /// It is not valid, or uses a feature that guards may not use, such as references or threads.
    #[error(
        "the guard is not valid, or uses a feature that guards may not use, at byte {offset:#x}: {message}"
    )]
    Malformed {
        /// Where.
        offset: usize,
        /// What the validator says.
        message: String,
    },
    /// It imports something.
    #[error(
        "the guard imports `{name}` from `{module}`; a guard imports nothing and sees only what it is asked"
    )]
    Imports {
        /// The import's module name.
        module: String,
        /// The import's field name.
        name: String,
    },
    /// It lacks an export, or the export has another type.
    #[error("the guard must export `{name}` as {expected}; the crate `refcap-guard` does that")]
    Export {
        /// The export's name.
        name: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// It wants more memory to begin with than a guard may have.
    #[error("the guard begins with {bytes} bytes of memory; at most {MAX_GUARD_MEMORY} are given")]
    TooMuchMemory {
        /// What it wants.
        bytes: u64,
    },
    /// Its record does not lie inside its memory.
    #[error("the guard's record at {address:#x} does not lie inside its memory")]
    RecordOutside {
        /// The address that it exports.
        address: u32,
    },
    /// It could not be compiled.
    #[error("the guard could not be compiled: {0}")]
    Compile(String),
    /// It could not be started: its start function trapped, or it wants larger tables than it may have.
    #[error("the guard could not be started: {0}")]
    Start(String),
    /// There would be too many guards in a row before one Net.
    #[error("there would be more than {MAX_GUARDS} guards in a row")]
    TooMany,
}

impl Guard {
    /// Vets and compiles a module in its binary form, and starts it once to see that it does. The name stands in
    /// refusals and in the audit log.
    ///
    /// Compiling takes some milliseconds, and for the worst module that is taken some seconds.
    ///
    /// # Errors
    ///
    /// [`GuardError`]: the module is not a guard, or could not be compiled or started.
    pub fn compile(name: &str, bytes: &[u8]) -> Result<Guard, GuardError> {
        Guard::make(format!("`{name}`"), bytes, None)
    }

    /// The same for a guest, which pays for it with a permit.
    pub(crate) fn compile_for(permit: GuardPermit, bytes: &[u8]) -> Result<Guard, GuardError> {
        Guard::make(String::new(), bytes, Some(permit))
    }

    fn make(name: String, bytes: &[u8], permit: Option<GuardPermit>) -> Result<Guard, GuardError> {
        gate::check(bytes)?;
        let compile = |error: wasmtime::Error| GuardError::Compile(format!("{error:#}"));
        let engine = engine::engine()?;
        let module = Module::from_binary(engine, bytes).map_err(compile)?;
        let linked = Linker::new(engine).instantiate_pre(&module).map_err(compile)?;
        let guard = Guard {
            parts: Arc::new(Parts {
                name,
                linked,
                _permit: permit,
            }),
        };
        guard.post("", None)?;
        Ok(guard)
    }

    /// The name that it was compiled under, in backquotes.
    pub(crate) fn name(&self) -> &str {
        &self.parts.name
    }

    /// A guard at its post: with a memory of its own, as it was when it was started.
    pub(crate) fn post(&self, name: &str, permit: Option<GuardPermit>) -> Result<Post, GuardError> {
        Post::begin(name, &self.parts.linked, permit)
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guard {}", self.parts.name)
    }
}
