//! Programs: modules that passed the load gate.

mod gate;
pub(crate) mod link;
mod wasi;

use std::fmt;
use std::sync::Arc;

use refcap_abi::endowment::Endowment;
use refcap_abi::{Import, MODULE};
use thiserror::Error;
use wasmtime::{Engine, InstancePre, Module};

use crate::references::References;
use crate::runtime::Runtime;
use crate::vat::{VatBuilder, VatState};

pub use gate::{
    Entry, ImportReport, Inspection, MAX_MODULE_BYTES, Provider, Refusal, inspect, inspect_linked,
};
pub use link::LinkError;

use gate::Functions;
use link::Link;

/// A module that can be started, and what it asks for. Cheap to clone.
#[derive(Clone)]
pub struct Program {
    parts: Arc<Parts>,
}

struct Parts {
    runtime: Runtime,
    module: Module,
    /// Linked already, where it imports nothing but host functions.
    linked: Option<InstancePre<VatState>>,
    links: Vec<Link>,
    /// Whether it imports from a switchboard.
    wired: bool,
    /// How many vats the runtime's pool holds, where it has one.
    places: Option<u32>,
    endowments: Vec<Endowment>,
    /// The functions that programs linked to it can import.
    functions: Functions,
}

/// Why a module was not loaded.
#[non_exhaustive]
#[derive(Debug, Error)]
pub enum LoadError {
    /// The load gate refused it, for each of these reasons.
    #[error("{}", join(.0))]
    Refused(Vec<Refusal>),
    /// It can't be linked to these programs.
    #[error(transparent)]
    Link(#[from] LinkError),
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
        Program::load_linked(runtime, bytes, &[])
    }

    /// Loads a module that may also import functions of other programs, each under the name that stands for its
    /// module. In a vat they are instances side by side: what one passes to another in a call is passed as wasm
    /// passes it, references included, and the host has no part in it.
    ///
    /// Each has a memory, tables and references of its own, and reaches those of another only by the functions
    /// that the other exports. They share the vat: its limits, its clock, and its end, for when one of them traps,
    /// the vat ends. Code that is to end alone belongs in a vat of its own. A program that is linked in several
    /// places is one instance. Only the program that is run has endowments, arguments and an environment.
    ///
    /// ```no_run
    /// use refcap::{Program, Runtime};
    ///
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let runtime = Runtime::new()?;
    /// let plugin = Program::load(&runtime, &std::fs::read("plugin.wasm")?)?;
    /// let app = Program::load_linked(&runtime, &std::fs::read("app.wasm")?, &[("plugin", &plugin)])?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoadError`]: as for [`load`](Program::load), and when the programs don't fit together; a missing function
    /// and one of another type are among the gate's reasons.
    pub fn load_linked(
        runtime: &Runtime,
        bytes: &[u8],
        links: &[(&str, &Program)],
    ) -> Result<Program, LoadError> {
        for (name, program) in links {
            if !Engine::same(runtime.engine(), program.engine()) {
                return Err(LinkError::OtherRuntime((*name).to_owned()).into());
            }
        }
        let links = link::check(links)?;
        let available: Vec<_> = links
            .iter()
            .map(|link| (&*link.name, link.program.parts.functions.clone()))
            .collect();
        let inspected = gate::look_at(bytes, &available);
        let inspection = inspected.inspection;
        if !inspection.refusals.is_empty() {
            return Err(LoadError::Refused(inspection.refusals));
        }
        let compile = |error: wasmtime::Error| LoadError::Compile(format!("{error:#}"));
        let module = Module::from_binary(runtime.engine(), bytes).map_err(compile)?;
        runtime.has_compiled();
        let is_wired = |import: &ImportReport| {
            import.module == MODULE && Import::by_name(&import.name).is_some_and(|import| import.wired)
        };
        let wired = inspection.imports.iter().any(is_wired);
        let linked = match links.is_empty() && !wired {
            true => {
                let linker = runtime.linker(0).map_err(compile)?;
                Some(linker.instantiate_pre(&module).map_err(compile)?)
            }
            false => None,
        };
        Ok(Program {
            parts: Arc::new(Parts {
                runtime: runtime.clone(),
                module,
                linked,
                links,
                wired,
                places: runtime.places(),
                endowments: inspection.endowments,
                functions: inspected.functions,
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
        self.parts.runtime.engine()
    }

    pub(crate) fn references(&self) -> References {
        self.parts.runtime.references()
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.parts.runtime
    }

    pub(crate) fn module(&self) -> &Module {
        &self.parts.module
    }

    pub(crate) fn linked(&self) -> Option<&InstancePre<VatState>> {
        self.parts.linked.as_ref()
    }

    pub(crate) fn links(&self) -> &[Link] {
        &self.parts.links
    }

    pub(crate) fn is_wired(&self) -> bool {
        self.parts.wired
    }

    /// Whether both are one program, loaded once.
    pub(crate) fn is(&self, other: &Program) -> bool {
        Arc::ptr_eq(&self.parts, &other.parts)
    }

    pub(crate) fn places(&self) -> Option<u32> {
        self.parts.places
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("endowments", &self.parts.endowments)
            .finish_non_exhaustive()
    }
}
