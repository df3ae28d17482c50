//! The engine that all vats of a process share.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use wasmtime::{Collector, Config, Engine, Linker};
use wasmtime_wasi::I32Exit;

use crate::imports;
use crate::references::References;
use crate::vat::VatState;

/// How often a guest that computes without a host call gives others a chance.
const TICK: Duration = Duration::from_millis(1);

/// The engine: compiled code, host functions, and the clock that makes guests take turns.
///
/// Cheap to clone; clones share everything. One per process is enough.
#[derive(Clone)]
pub struct Runtime {
    parts: Arc<Parts>,
}

struct Parts {
    engine: Engine,
    linker: Linker<VatState>,
    references: References,
}

/// How an engine is set up. [`Runtime::new`] is one with the defaults.
#[derive(Debug, Clone, Default)]
pub struct RuntimeBuilder {
    references: References,
    dense: bool,
}

impl RuntimeBuilder {
    /// Sets the way that references take across the boundary; without this it is [`References::Fast`].
    #[must_use]
    pub fn references(mut self, way: References) -> Self {
        self.references = way;
        self
    }

    /// Makes room for very many vats in one process.
    ///
    /// A vat's memories then take address space for what they have, and not for what they may grow to: two mappings
    /// a vat instead of six, of which Linux allows a process 65,530 (`vm.max_map_count`). Without this about 10,900
    /// vats fit, with it about 32,000. The price is the guests': their code checks the bounds of each access, and
    /// growing a memory may copy it.
    #[must_use]
    pub fn dense(mut self, dense: bool) -> Self {
        self.dense = dense;
        self
    }

    /// Sets up the engine.
    ///
    /// # Errors
    ///
    /// [`RuntimeError`] where the engine does not support the machine.
    pub fn build(self) -> Result<Runtime, RuntimeError> {
        let engine = Engine::new(&config(self.dense))?;
        let references = self.references.that_work(&engine);
        let mut linker = Linker::new(&engine);
        imports::add_to_linker(&mut linker, references)?;
        wasmtime_wasi::p1::add_to_linker_async(&mut linker, |state: &mut VatState| &mut state.wasi)?;
        // The library's own traps on codes from 126 up; here every code passes through.
        linker.allow_shadowing(true);
        linker.func_wrap(
            "wasi_snapshot_preview1",
            "proc_exit",
            |code: i32| -> wasmtime::Result<()> { Err(I32Exit(code).into()) },
        )?;
        linker.allow_shadowing(false);
        start_clock(&engine)?;
        Ok(Runtime {
            parts: Arc::new(Parts {
                engine,
                linker,
                references,
            }),
        })
    }
}

/// The engine could not be set up on this machine.
#[derive(Debug, Error)]
#[error("the WebAssembly engine could not be set up: {0}")]
pub struct RuntimeError(String);

impl From<wasmtime::Error> for RuntimeError {
    fn from(error: wasmtime::Error) -> Self {
        RuntimeError(format!("{error:#}"))
    }
}

impl Runtime {
    /// Sets up an engine with the defaults of [`Runtime::builder`].
    ///
    /// # Errors
    ///
    /// [`RuntimeError`] where the engine does not support the machine.
    pub fn new() -> Result<Runtime, RuntimeError> {
        Runtime::builder().build()
    }

    /// Begins to set up an engine.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }

    /// The way that references take. It is not the one that was asked for where the engine fails the check that
    /// is made at the start.
    pub fn references(&self) -> References {
        self.parts.references
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.parts.engine
    }

    pub(crate) fn linker(&self) -> &Linker<VatState> {
        &self.parts.linker
    }
}

/// What the engine accepts. `program::gate` says the same to its validator, and gives reasons.
fn config(dense: bool) -> Config {
    let mut config = Config::new();
    if dense {
        config.memory_reservation(0);
        config.memory_reservation_for_growth(0);
        config.memory_guard_size(0);
        config.gc_heap_reservation(0);
        config.gc_heap_reservation_for_growth(0);
        config.gc_heap_guard_size(0);
    }
    // Without the GC proposal a guest has no instruction that makes a reference out of something else.
    config.wasm_gc(false);
    config.wasm_function_references(false);
    config.wasm_memory64(false);
    config.wasm_multi_memory(false);
    config.collector(Collector::Copying);
    config.epoch_interruption(true);
    config
}

/// Advances the engine's clock for as long as the engine lives.
fn start_clock(engine: &Engine) -> Result<(), RuntimeError> {
    let engine = engine.weak();
    std::thread::Builder::new()
        .name("refcap-clock".to_owned())
        .spawn(move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
            }
        })
        .map_err(|error| RuntimeError(format!("no thread for the clock: {error}")))?;
    Ok(())
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}
