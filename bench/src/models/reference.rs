//! refcap itself, as an embedder uses it.

use std::cell::RefCell;
use std::rc::Rc;

use refcap::{Capability, Limits, Program, References, Runtime, Vat, ambient_authority};
use wasmtime::error::Context;
use wasmtime::{Result, ensure};

use super::guest;

/// What the guests are granted.
pub(crate) const GRANTED: &str = "connect tcp 10.0.0.0/8:*";
/// The way that the compared models name.
pub(crate) const WAYS: [(&str, References); 2] = [
    (super::REFERENCE, References::Fast),
    (super::ORDINARY, References::Ordinary),
];

/// As much as the largest rows need.
pub(crate) fn limits() -> Limits {
    const ENOUGH: usize = 4_000_000;
    Limits::default()
        .capabilities(ENOUGH)
        .fan_out(u32::MAX)
        .sockets(ENOUGH)
        .memory(4 << 30)
        .table_elements(ENOUGH)
}

/// A vat and the thread that runs it.
#[derive(Clone)]
pub(crate) struct Guest {
    vat: Rc<RefCell<Vat>>,
    executor: Rc<tokio::runtime::Runtime>,
}

impl Guest {
    /// Starts the guest.
    pub(crate) fn start(executor: &Rc<tokio::runtime::Runtime>, way: References) -> Result<Guest> {
        Guest::of(executor, way, &wat::parse_str(guest::source(guest::REFERENCES))?)
    }

    /// Starts another one.
    pub(crate) fn of(
        executor: &Rc<tokio::runtime::Runtime>,
        way: References,
        module: &[u8],
    ) -> Result<Guest> {
        let runtime = Runtime::builder().references(way).build()?;
        ensure!(
            runtime.references() == way,
            "the engine fails the check of {way:?}"
        );
        let program = Program::load(&runtime, module)?;
        let net = Capability::net("net", GRANTED.parse()?, ambient_authority());
        let vat = executor.block_on(program.vat().limits(limits()).grant("net", &net).start())?;
        Ok(Guest::running(executor, vat))
    }

    /// One that runs already.
    pub(crate) fn running(executor: &Rc<tokio::runtime::Runtime>, vat: Vat) -> Guest {
        Guest {
            vat: Rc::new(RefCell::new(vat)),
            executor: executor.clone(),
        }
    }

    /// Calls an export, which must return `expected`.
    pub(crate) fn call(&self, name: &str, arguments: &[u32], expected: u32) -> Result<()> {
        let arguments: Vec<i32> = arguments.iter().map(|&number| number.cast_signed()).collect();
        let mut vat = self.vat.borrow_mut();
        let result = self.executor.block_on(vat.call_export(name, &arguments));
        let result = result.with_context(|| format!("calling {name}"))?;
        ensure!(
            result == Some(expected.cast_signed()),
            "{name} did {result:?} of {expected} operations"
        );
        Ok(())
    }
}
