//! What the collectors of the engine do with references: how long a collection takes, and how late a reference that a
//! guest has dropped is closed. refcap takes the copying one.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use refcap::{Capability, Program, Runtime, ambient_authority};
use wasmtime::{Caller, Collector, Engine, ExternRef, Instance, Linker, Module, Rooted, Store};
use wasmtime::{Result, ensure};

use super::Scale;
use crate::measure::Measured;
use crate::models::reference::{GRANTED, limits};
use crate::models::{REFERENCE, executor, guest, integer};

const COLLECTORS: [(&str, Collector); 3] = [
    ("copying", Collector::Copying),
    ("drc", Collector::DeferredReferenceCounting),
    ("null", Collector::Null),
];
/// References that are made and dropped.
const DROPPED: u32 = 50_000;

const GUEST: &str = r#"(module
  (import "host" "make" (func $make (result externref)))
  (import "host" "use" (func $use (param externref)))
  (table $live 1 externref)
  ;; Holds so many.
  (func (export "fill") (param $live i32) (result i32)
    (local $i i32)
    (drop (table.grow $live (ref.null extern) (local.get $live)))
    (loop $more
      (table.set $live (local.get $i) (call $make))
      (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $live))))
    (local.get $i))
  ;; Drops so many, each at once.
  (func (export "drop") (param $count i32) (result i32)
    (local $i i32)
    (loop $more
      (call $use (call $make))
      (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $count))))
    (local.get $i)))"#;

/// What the host keeps behind a reference.
struct Object {
    made: Instant,
    ends: Arc<Mutex<Ends>>,
}

/// How objects ended.
#[derive(Default)]
struct Ends {
    made: u32,
    closed: u32,
    /// The most that were dropped by the guest and not closed.
    most: u32,
    /// How long after it was made each was closed, in microseconds.
    lags: Vec<f64>,
}

impl Drop for Object {
    fn drop(&mut self) {
        // Whoever panics elsewhere has said so there.
        let Ok(mut ends) = self.ends.lock() else { return };
        ends.lags.push(self.made.elapsed().as_nanos() as f64 / 1e3);
        ends.closed += 1;
    }
}

/// A guest whose references a collector looks after.
struct Guest {
    store: Store<Arc<Mutex<Ends>>>,
    instance: Instance,
}

impl Guest {
    async fn start(engine: &Engine) -> Result<Guest> {
        let mut linker: Linker<Arc<Mutex<Ends>>> = Linker::new(engine);
        linker.func_wrap(
            "host",
            "make",
            |mut caller: Caller<'_, Arc<Mutex<Ends>>>| -> Result<Option<Rooted<ExternRef>>> {
                let ends = caller.data().clone();
                if let Ok(mut ends) = ends.lock() {
                    ends.made += 1;
                    ends.most = ends.most.max(ends.made - ends.closed);
                }
                let made = Instant::now();
                Ok(Some(ExternRef::new(&mut caller, Object { made, ends })?))
            },
        )?;
        linker.func_wrap("host", "use", |_: Option<Rooted<ExternRef>>| {})?;
        let module = Module::new(engine, wat::parse_str(GUEST)?)?;
        let mut store = Store::new(engine, Arc::default());
        integer::interrupt(&mut store);
        let instance = linker.instantiate_async(&mut store, &module).await?;
        Ok(Guest { store, instance })
    }

    async fn call(&mut self, name: &str, count: u32) -> Result<()> {
        let done = integer::call(&mut self.store, &self.instance, name, &[count]).await?;
        ensure!(done == count, "{name} did {done} of {count}");
        Ok(())
    }

    fn ends(&self) -> std::sync::MutexGuard<'_, Ends> {
        match self.store.data().lock() {
            Ok(ends) => ends,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

pub(crate) fn collection(scale: Scale) -> Result<Vec<Measured>> {
    let executor = executor()?;
    let repetitions = if scale.quick { 3 } else { 9 };
    let mut results = Vec::new();
    let mut engines = Vec::new();
    for (model, collector) in COLLECTORS {
        let engine = integer::engine_with(|config| {
            config.collector(collector);
        })?;
        engines.push((model, engine));
    }
    for live in [1_000, 10_000, 100_000] {
        let at = format!("{live} live");
        for (model, engine) in &engines {
            let mut guest = executor.block_on(Guest::start(engine))?;
            executor.block_on(guest.call("fill", live))?;
            guest.store.gc(None)?;
            let mut values = Vec::new();
            for _ in 0..repetitions {
                let begun = Instant::now();
                guest.store.gc(None)?;
                values.push(begun.elapsed().as_nanos() as f64 / f64::from(live));
            }
            ensure!(guest.ends().closed == 0, "{model} has closed what is live");
            results.push(Measured::of(PAUSE, at.clone(), model, "ns", values));
        }
        results.push(of_refcap(&executor, live, repetitions, at)?);
    }
    for (model, engine) in &engines {
        let (mut lags, mut most) = (Vec::new(), Vec::new());
        for _ in 0..repetitions {
            let mut guest = executor.block_on(Guest::start(engine))?;
            executor.block_on(guest.call("drop", DROPPED))?;
            let mut ends = guest.ends();
            most.push(f64::from(ends.most));
            ends.lags.sort_by(f64::total_cmp);
            lags.extend(ends.lags.get(ends.lags.len() / 2));
        }
        let at = format!("{DROPPED} dropped, one by one");
        results.push(Measured::of(UNCLOSED, at.clone(), model, "references", most));
        // The null collector never closes one.
        if !lags.is_empty() {
            results.push(Measured::of(LAG, at, model, "us", lags));
        }
    }
    Ok(results)
}

const PAUSE: &str = "collection: pause for each live reference";
const LAG: &str = "collection: from dropped to closed, p50";
const UNCLOSED: &str = "collection: dropped and not closed, at most";

/// The pause of a vat: what the host keeps for each reference comes with it.
fn of_refcap(
    executor: &tokio::runtime::Runtime,
    live: u32,
    repetitions: usize,
    at: String,
) -> Result<Measured> {
    let program = Program::load(
        &Runtime::new()?,
        &wat::parse_str(guest::source(guest::REFERENCES))?,
    )?;
    let net = Capability::net("net", GRANTED.parse()?, ambient_authority());
    let mut vat = executor.block_on(program.vat().limits(limits()).grant("net", &net).start())?;
    executor.block_on(vat.call_export("fill", &[live.cast_signed()]))?;
    vat.collect()?;
    let mut values = Vec::new();
    for _ in 0..repetitions {
        let begun = Instant::now();
        let held = vat.collect()?;
        values.push(begun.elapsed().as_nanos() as f64 / f64::from(live));
        ensure!(held > live as usize, "{held} capabilities are left of {live}");
    }
    Ok(Measured::of(PAUSE, at, REFERENCE, "ns", values))
}
