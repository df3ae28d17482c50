//! The engine that all vats of a process share.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use refcap_abi::MAX_INSTANCES;
use thiserror::Error;
use wasmtime::{Caller, Collector, Config, Engine, Linker, Module};
use wasmtime_wasi::I32Exit;

use crate::cache::{CacheUse, CodeCache};
use crate::imports;
use crate::pool::PoolSize;
use crate::references::References;
use crate::switchboard;
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
    /// For each of a vat's instances one, so that each function knows who calls. All but the first are made when
    /// they are needed first.
    linkers: [OnceLock<Linker<VatState>>; MAX_INSTANCES],
    switchboard: OnceLock<Module>,
    references: References,
    pool: Option<PoolSize>,
    cache: Option<CodeCache>,
}

/// How an engine is set up. [`Runtime::new`] is one with the defaults.
#[derive(Debug, Clone, Default)]
pub struct RuntimeBuilder {
    references: References,
    dense: bool,
    pool: Option<PoolSize>,
    cache: Option<PathBuf>,
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

    /// Sets up room for a number of vats beforehand, so that each starts in about half the time.
    ///
    /// Where all places are taken, starting another vat fails with [`StartError::PoolFull`](crate::StartError); it
    /// works again when one has ended. A module that fits into no place, because its memory or a table begins larger
    /// or it has more than eight tables, is a [`LoadError::Compile`](crate::LoadError) that says which. A vat that
    /// grows out of its place is told that it can't grow.
    ///
    /// A pool reserves as much address space as it can, and [`dense`](RuntimeBuilder::dense) as little: a runtime has
    /// one or the other.
    #[must_use]
    pub fn pooled(mut self, size: PoolSize) -> Self {
        self.pool = Some(size);
        self
    }

    /// Keeps compiled modules in a directory, which is made where there is none, so that the next runtime with these
    /// settings, in this or another process, does not compile them again. A file that is damaged, or that no cache put
    /// there, is removed when the directory is opened, and its module is compiled again. A directory that can't be
    /// written to any more only makes programs load slowly.
    ///
    /// **Whoever can write to the directory can make this process run any code.** Have it belong to the user who runs
    /// this process, and nobody else; one that everybody can write to is refused.
    ///
    /// The least recently used files are removed when all have more than 512 MiB.
    #[must_use]
    pub fn cache(mut self, directory: impl Into<PathBuf>) -> Self {
        self.cache = Some(directory.into());
        self
    }

    /// Sets up the engine.
    ///
    /// # Errors
    ///
    /// [`RuntimeError`] where the engine does not support the machine, the pool does not fit into the address space or
    /// is combined with `dense`, or the directory of the cache can't be used.
    pub fn build(self) -> Result<Runtime, RuntimeError> {
        let mut config = config(self.dense);
        if let Some(pool) = &self.pool {
            if self.dense {
                return Err(RuntimeError("a runtime is pooled or dense, not both".to_owned()));
            }
            if let Some(mistake) = pool.mistake() {
                return Err(RuntimeError(mistake));
            }
            pool.configure(&mut config);
        }
        let cache = self.cache.map(|directory| {
            CodeCache::open(&directory).map_err(|error| {
                RuntimeError(format!("the cache directory {}: {error}", directory.display()))
            })
        });
        let cache = cache.transpose()?;
        config.cache(cache.as_ref().map(|cache| cache.engine.clone()));
        let engine = Engine::new(&config).map_err(|error| match &self.pool {
            None => RuntimeError::from(error),
            Some(pool) => RuntimeError(format!(
                "a pool for {} vats takes too much address space: {error:#}",
                pool.vats
            )),
        })?;
        let references = self.references.that_work(&engine);
        let linkers = [const { OnceLock::new() }; MAX_INSTANCES];
        let _ = linkers[0].set(linker(&engine, references, 0)?);
        start_clock(&engine)?;
        Ok(Runtime {
            parts: Arc::new(Parts {
                engine,
                linkers,
                switchboard: OnceLock::new(),
                references,
                pool: self.pool,
                cache,
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

    /// How often a compiled module was found on disk; `None` without [`RuntimeBuilder::cache`].
    pub fn cache_use(&self) -> Option<CacheUse> {
        self.parts.cache.as_ref().map(CodeCache::usage)
    }

    /// A module was compiled, and may have been written to the cache.
    pub(crate) fn has_compiled(&self) {
        if let Some(cache) = &self.parts.cache {
            cache.seal();
        }
    }

    /// How many vats the pool holds, where there is one.
    pub(crate) fn places(&self) -> Option<u32> {
        self.parts.pool.as_ref().map(|pool| pool.vats)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.parts.engine
    }

    /// The host functions for one of a vat's instances, of which there are [`MAX_INSTANCES`] at most.
    pub(crate) fn linker(&self, instance: u8) -> wasmtime::Result<&Linker<VatState>> {
        let place = &self.parts.linkers[usize::from(instance)];
        match place.get() {
            Some(linker) => Ok(linker),
            None => {
                let made = linker(self.engine(), self.references(), instance)?;
                Ok(place.get_or_init(|| made))
            }
        }
    }

    pub(crate) fn switchboard(&self) -> wasmtime::Result<&Module> {
        match self.parts.switchboard.get() {
            Some(module) => Ok(module),
            None => {
                let made = switchboard::compile(self.engine())?;
                Ok(self.parts.switchboard.get_or_init(|| made))
            }
        }
    }
}

/// All functions that the host provides to one of a vat's instances.
fn linker(engine: &Engine, references: References, instance: u8) -> wasmtime::Result<Linker<VatState>> {
    let mut linker = Linker::new(engine);
    imports::add_to_linker(&mut linker, references, instance)?;
    let number = usize::from(instance);
    wasmtime_wasi::p1::add_to_linker_async(&mut linker, move |state: &mut VatState| {
        &mut state.instance_mut(number).wasi
    })?;
    // The library's own traps on codes from 126 up; here every code passes through.
    linker.allow_shadowing(true);
    linker.func_wrap(
        "wasi_snapshot_preview1",
        "proc_exit",
        move |caller: Caller<'_, VatState>, code: i32| -> wasmtime::Result<()> {
            if number == 0 {
                return Err(I32Exit(code).into());
            }
            // It is not the program that is run, and does not say how that one ended.
            let name = &caller.data().instance(number).name;
            let why = format!("the linked program `{name}` called `exit` with code {code}");
            Err(wasmtime::Error::msg(why))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(linker)
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
