//! The engine of guards: apart from that of the guests, so that what bounds a guard costs no guest anything.

use std::sync::LazyLock;

use wasmtime::{Config, Engine, OperatorCost, ResourceLimiter, Store};

use super::GuardError;

/// The most memory that a guard may have, in bytes. A Rust module begins with 17 pages, of which 16 are its stack.
pub const MAX_GUARD_MEMORY: usize = 2 << 20;
/// What one check may use: about as many wasm instructions, and a unit for each byte that is copied or filled.
pub const FUEL: u64 = 100_000;
/// How deep its calls may nest, in bytes of the host's stack: a guard runs on top of the guest that asks.
const STACK: usize = 64 << 10;
/// Elements of each table. A Rust module has one, with the functions that are called by pointer.
const TABLE_ELEMENTS: usize = 10_000;

/// The one engine of the process.
pub(super) fn engine() -> Result<&'static Engine, GuardError> {
    static ENGINE: LazyLock<Result<Engine, GuardError>> = LazyLock::new(|| {
        Engine::new(&config()).map_err(|error| GuardError::Compile(format!("there is no engine: {error:#}")))
    });
    ENGINE.as_ref().map_err(Clone::clone)
}

/// What the engine accepts. `gate` says the same to its validator.
fn config() -> Config {
    let mut config = Config::new();
    config.gc_support(false);
    config.wasm_relaxed_simd(false);
    config.wasm_memory64(false);
    config.wasm_multi_memory(false);
    config.consume_fuel(true);
    config.operator_cost(cost());
    config.max_wasm_stack(STACK);
    // A guest that brings a guard uses one thread for it, and not all that there are.
    config.parallel_compilation(false);
    config.wasm_backtrace_max_frames(None);
    // A memory takes address space for what it may have, and does not move when it grows.
    config.memory_reservation(MAX_GUARD_MEMORY as u64);
    config.memory_reservation_for_growth(0);
    config.memory_guard_size(0);
    config.guard_before_linear_memory(false);
    config
}

/// What an instruction costs, where that is not one unit. These call into the engine, which takes as long as so many
/// others: with one unit each, a guard that did nothing else took 0.9 ms for one check.
fn cost() -> OperatorCost {
    OperatorCost {
        MemoryGrow: 100,
        TableGrow: 100,
        MemoryInit: 25,
        DataDrop: 25,
        TableInit: 25,
        ElemDrop: 25,
        TableCopy: 25,
        TableFill: 25,
        ..OperatorCost::default()
    }
}

/// A store for one guard, with the fuel for its start.
pub(super) fn store(engine: &Engine) -> wasmtime::Result<Store<Meter>> {
    let mut store = Store::new(engine, Meter::default());
    store.limiter(|meter| meter);
    store.set_fuel(FUEL)?;
    Ok(store)
}

/// Answers the engine when a guard wants more memory or larger tables. What is refused stops the guard: one that
/// goes on without what it wanted would be hard to predict.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Whether more memory was refused.
    pub(super) is_over: bool,
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired <= MAX_GUARD_MEMORY && maximum.is_none_or(|maximum| desired <= maximum) {
            return Ok(true);
        }
        self.is_over = true;
        Err(wasmtime::Error::msg("it wants more memory than it may have"))
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired <= TABLE_ELEMENTS && maximum.is_none_or(|maximum| desired <= maximum) {
            return Ok(true);
        }
        self.is_over = true;
        Err(wasmtime::Error::msg("it wants a larger table than it may have"))
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        2
    }

    fn memories(&self) -> usize {
        1
    }
}
