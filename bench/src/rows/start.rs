//! Starting: a vat of a program that is linked already, and a program from its bytes.

use std::path::PathBuf;
use std::rc::Rc;

use refcap::{Capability, PoolSize, Program, Runtime, ambient_authority};
use wasmtime::{Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result, ensure};

use super::Scale;
use crate::measure::{Case, Measured, compare};
use crate::models::integer::{self, Linked, Work};
use crate::models::reference::GRANTED;
use crate::models::{INTEGER, REFERENCE, executor, guest, guest_module};

/// Places in the pools.
const PLACES: u32 = 10;

/// From a linked program to the first host call, and the vat's end.
pub(crate) fn start(scale: Scale) -> Result<Vec<Measured>> {
    let executor = executor()?;
    let mut cases = Vec::new();
    let pool = Runtime::builder().pooled(PoolSize::vats(PLACES));
    for (at, runtime) in [("on demand", Runtime::builder()), ("pooled", pool)] {
        let runtime = runtime.build()?;
        let program = Program::load(&runtime, &wat::parse_str(guest::source(guest::REFERENCES))?)?;
        cases.push(references(&executor, at, program)?);
    }
    let pooled = integer::engine_with(|config| {
        let mut pool = PoolingAllocationConfig::new();
        pool.linear_memory_keep_resident(64 << 10)
            .async_stack_keep_resident(64 << 10)
            .pagemap_scan(wasmtime::Enabled::Auto)
            .total_memories(2 * PLACES);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    })?;
    for (at, engine) in [("on demand", integer::engine()?), ("pooled", pooled)] {
        cases.push(integers(&executor, at, &engine)?);
    }
    let mut results = compare(&mut cases, scale.effort)?;
    results.extend(from_bytes(&executor, scale)?);
    Ok(results)
}

fn references(executor: &Rc<tokio::runtime::Runtime>, at: &str, program: Program) -> Result<Case> {
    let executor = executor.clone();
    let net = Capability::net("net", GRANTED.parse()?, ambient_authority());
    Ok(Case::new("start a vat", at, REFERENCE, move |count| {
        for _ in 0..count {
            executor.block_on(async {
                let mut vat = program.vat().grant("net", &net).start().await?;
                // Its first host call, with the reference that it was given.
                let made = vat.call_export("fill", &[1]).await?;
                ensure!(made == Some(1), "the guest made {made:?}");
                wasmtime::error::Ok(())
            })?;
        }
        Ok(())
    }))
}

fn integers(executor: &Rc<tokio::runtime::Runtime>, at: &str, engine: &Engine) -> Result<Case> {
    let executor = executor.clone();
    let linked = Linked::new(engine, Work::Done, &guest::source(guest::NUMBERS), GRANTED)?;
    Ok(Case::new("start a vat", at, INTEGER, move |count| {
        for _ in 0..count {
            executor.block_on(async {
                let made = linked.start().await?.call("fill", &[1]).await?;
                ensure!(made == 1, "the guest made {made}");
                wasmtime::error::Ok(())
            })?;
        }
        Ok(())
    }))
}

/// From the bytes of a server until it has listened, and ended.
fn from_bytes(executor: &Rc<tokio::runtime::Runtime>, scale: Scale) -> Result<Vec<Measured>> {
    const ROW: &str = "from the bytes of a server until it has listened";
    let Some(bytes) = guest_module("wasm32-wasip1", "http-server") else {
        return Ok(Vec::new());
    };
    let bytes = Rc::new(bytes);
    let net = Capability::net("net", "bind,listen tcp 127.0.0.1:0".parse()?, ambient_authority());
    let listen = {
        let executor = executor.clone();
        move |program: &Program| {
            executor.block_on(async {
                // It stops after no requests at all.
                let vat = program
                    .vat()
                    .grant("net", &net)
                    .args(["server", "127.0.0.1:0", "0"]);
                let exit = vat.start().await?.run().await?;
                ensure!(exit.code == 0, "the server ended with {}", exit.code);
                wasmtime::error::Ok(())
            })
        }
    };
    let folder = Folder::new()?;
    let compiled = Runtime::new()?;
    let cached = Runtime::builder().cache(&folder.0).build()?;
    let pooled = Runtime::builder().pooled(PoolSize::vats(PLACES)).build()?;
    let mut cases = Vec::new();
    for (at, runtime) in [("compiled", &compiled), ("from the cache", &cached)] {
        let (runtime, bytes, listen) = (runtime.clone(), bytes.clone(), listen.clone());
        cases.push(Case::new(ROW, at, REFERENCE, move |count| {
            for _ in 0..count {
                listen(&Program::load(&runtime, &bytes)?)?;
            }
            Ok(())
        }));
    }
    for (at, runtime) in [("linked, on demand", &compiled), ("linked, pooled", &pooled)] {
        let (program, listen) = (Program::load(runtime, &bytes)?, listen.clone());
        cases.push(Case::new(ROW, at, REFERENCE, move |count| {
            for _ in 0..count {
                listen(&program)?;
            }
            Ok(())
        }));
    }
    let results = compare(&mut cases, scale.effort);
    drop(folder);
    results
}

/// A folder for compiled modules that is gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder> {
        let path = std::env::temp_dir().join(format!("refcap-bench-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        // The cache makes its own, which nobody else can write to.
        Ok(Folder(path.join("cache")))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(parent) = self.0.parent() {
            let _ = std::fs::remove_dir_all(parent);
        }
    }
}
