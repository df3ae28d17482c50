//! Programs: modules that passed the load gate.

mod gate;
mod wasi;

use std::fmt;
use std::sync::Arc;

use refcap_abi::endowment::Endowment;
use thiserror::Error;
use wasmtime::{Engine, Instance, InstancePre, Module, Store};

use crate::references::References;
use crate::runtime::Runtime;
use crate::vat::{VatBuilder, VatState};

pub use gate::{Entry, ImportReport, Inspection, MAX_MODULE_BYTES, Provider, Refusal, inspect};

/// A module that can be started, and what it asks for. Cheap to clone.
#[derive(Clone)]
pub struct Program {
    parts: Arc<Parts>,
}

struct Parts {
    linked: InstancePre<VatState>,
    references: References,
    endowments: Vec<Endowment>,
}

/// Why a module was not loaded.
#[non_exhaustive]
#[derive(Debug, Error)]
pub enum LoadError {
    /// The load gate refused it, for each of these reasons.
    #[error("{}", join(.0))]
    Refused(Vec<Refusal>),
    /// The compiler or the linker refused it.
    #[error("the module could not be compiled and linked: {0}")]
    Compile(String),
}

fn join(refusals: &[Refusal]) -> String {
    let all: Vec<_> = refusals.iter().map(Refusal::to_string).collect();
    all.join("; ")
}

impl Program {
    /// Validates, compiles and links a module in its binary form.
    ///
    /// # Errors
    ///
    /// [`LoadError`]: the gate's reasons, all of them, or the compiler's.
    pub fn load(runtime: &Runtime, bytes: &[u8]) -> Result<Program, LoadError> {
        let inspection = inspect(bytes);
        if !inspection.refusals.is_empty() {
            return Err(LoadError::Refused(inspection.refusals));
        }
        let compile = |error: wasmtime::Error| LoadError::Compile(format!("{error:#}"));
        let module = Module::from_binary(runtime.engine(), bytes).map_err(compile)?;
        let linked = runtime.linker().instantiate_pre(&module).map_err(compile)?;
        Ok(Program {
            parts: Arc::new(Parts {
                linked,
                references: runtime.references(),
                endowments: inspection.endowments,
            }),
        })
    }

    /// What the program asks to be started with.
    pub fn endowments(&self) -> &[Endowment] {
        &self.parts.endowments
    }

    /// Begins to start the program.
    pub fn vat(&self) -> VatBuilder {
        VatBuilder::new(self)
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.parts.linked.module().engine()
    }

    pub(crate) fn references(&self) -> References {
        self.parts.references
    }

    pub(crate) async fn instantiate(&self, store: &mut Store<VatState>) -> wasmtime::Result<Instance> {
        self.parts.linked.instantiate_async(store).await
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("endowments", &self.parts.endowments)
            .finish_non_exhaustive()
    }
}
