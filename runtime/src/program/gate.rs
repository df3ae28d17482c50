//! The load gate: what a module must be before it may run.
//!
//! It looks at the bytes alone, so `refcap inspect` can say what it would refuse without an engine, and
//! it says all that is wrong at once.

use std::fmt;

use refcap_abi::endowment::{self, Endowment, EndowmentError};
use refcap_abi::{COMMAND_EXPORT, ENDOWMENT_SECTION, GRANT_EXPORT, Import, MODULE, Param, START_EXPORT};
use thiserror::Error;
use wasmparser::{
    ExternalKind, FuncType, Parser, Payload, RefType, TypeRef, ValType, Validator, WasmFeatures, types::Types,
};

use super::wasi;

/// The largest module that is looked at. Compiling takes about a hundred times a module's size.
pub const MAX_MODULE_BYTES: usize = 64 << 20;

/// What a module is, asks for and uses, and why it would be refused.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Inspection {
    /// The capabilities that it asks to be started with, in order.
    pub endowments: Vec<Endowment>,
    /// The host functions that it can call, in order.
    pub imports: Vec<ImportReport>,
    /// Where it starts.
    pub entry: Option<Entry>,
    /// Why the load gate refuses it; empty if it does not.
    pub refusals: Vec<Refusal>,
}

/// One function that a module imports.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportReport {
    /// The import's module name.
    pub module: String,
    /// The import's field name.
    pub name: String,
    /// Who provides it; `None` if nobody does, and the module is refused.
    pub provider: Option<Provider>,
}

/// Who provides an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Provider {
    /// refcap itself.
    Refcap,
    /// WASI preview 1: standard streams, arguments, environment, clocks and random numbers.
    Wasi,
}

/// Where a program starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entry {
    /// `_start`, of a WASI command.
    Command,
    /// `refcap_start`, of a module without WASI.
    Start,
}

impl Entry {
    /// The name of the export.
    pub fn name(self) -> &'static str {
        match self {
            Entry::Command => COMMAND_EXPORT,
            Entry::Start => START_EXPORT,
        }
    }
}

/// A reason to refuse a module.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The bytes do not begin as wasm does.
    #[error("this is not a WebAssembly file: it does not begin with the bytes `\\0asm`")]
    NotWasm,
    /// It is a component.
    #[error(
        "this is a component, and refcap runs core modules: build for wasm32-wasip1 or wasm32-unknown-unknown"
    )]
    Component,
    /// It is too large.
    #[error("the module has {bytes} bytes; at most {MAX_MODULE_BYTES} are loaded")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It is not valid.
    #[error("the module is not valid at byte {offset:#x}: {message}")]
    Malformed {
        /// Where.
        offset: usize,
        /// What the validator says.
        message: String,
    },
    /// It uses the GC proposal.
    #[error(
        "the module uses the GC proposal at byte {offset:#x} ({message}), with which a guest could pass values \
         of its own making as references; build without it"
    )]
    GcProposal {
        /// Where.
        offset: usize,
        /// What the validator says.
        message: String,
    },
    /// It uses another proposal that is switched off.
    #[error("the module uses a feature that is switched off, at byte {offset:#x}: {message}")]
    Proposal {
        /// Where.
        offset: usize,
        /// What the validator says.
        message: String,
    },
    /// It imports something that nobody provides.
    #[error("the import `{name}` from `{module}` is unknown: {hint}")]
    UnknownImport {
        /// The import's module name.
        module: String,
        /// The import's field name.
        name: String,
        /// What could be meant.
        hint: String,
    },
    /// It imports a refcap function with another type.
    #[error("the import `{name}` from `{MODULE}` must have the type {expected}")]
    WrongImportType {
        /// The import's field name.
        name: String,
        /// The type that it has.
        expected: String,
    },
    /// It imports WASI's sockets.
    #[error("the import `{name}` from `wasi_snapshot_preview1` acts on sockets by number; use a Net instead")]
    WasiSockets {
        /// The import's field name.
        name: String,
    },
    /// It exports a table of references.
    #[error("the export `{name}` is a table of references, which whoever links to the module could read")]
    ExportedTable {
        /// The export's name.
        name: String,
    },
    /// It exports a global that holds a reference.
    #[error(
        "the export `{name}` is a global that holds a reference, which whoever links to the module could read"
    )]
    ExportedGlobal {
        /// The export's name.
        name: String,
    },
    /// An export that the host calls has another type.
    #[error("the export `{name}` must be a function of type {expected}")]
    WrongExportType {
        /// The export's name.
        name: &'static str,
        /// The type that it must have.
        expected: &'static str,
    },
    /// It asks for endowments but can't take them.
    #[error("the module asks for endowments but has no export `{GRANT_EXPORT}` to take them")]
    NoGrantExport,
    /// Its endowment section can't be read.
    #[error(transparent)]
    Endowments(#[from] EndowmentError),
    /// It has more than one endowment section.
    #[error("the module has more than one section `{ENDOWMENT_SECTION}`; a program has one entry point")]
    TwoEndowmentSections,
}

/// What a module may use: what stable Rust and LLVM produce, and nothing with which a guest could make a
/// reference. `runtime::config` says the same to the engine.
fn features() -> WasmFeatures {
    WasmFeatures::WASM2 | WasmFeatures::TAIL_CALL | WasmFeatures::EXTENDED_CONST | WasmFeatures::RELAXED_SIMD
}

/// Looks at a module as the load gate does.
pub fn inspect(bytes: &[u8]) -> Inspection {
    let mut inspection = Inspection::default();
    if let Err(refusal) = look(bytes, &mut inspection) {
        inspection.refusals.push(refusal);
    }
    inspection
}

/// Fills an inspection. What is returned as an error leaves nothing else to look at.
fn look(bytes: &[u8], inspection: &mut Inspection) -> Result<(), Refusal> {
    if bytes.len() > MAX_MODULE_BYTES {
        return Err(Refusal::TooLarge { bytes: bytes.len() });
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(Refusal::NotWasm);
    }
    if Parser::is_component(bytes) {
        return Err(Refusal::Component);
    }
    let types = validate(bytes)?;
    let mut sections = 0;
    let mut exports = Exports::default();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(malformed)? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import.map_err(malformed)?;
                    look_at_import(import.module, import.name, import.ty, &types, inspection);
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.map_err(malformed)?;
                    exports.look_at(export, &types, inspection);
                }
            }
            Payload::CustomSection(section) if section.name() == ENDOWMENT_SECTION => {
                sections += 1;
                match endowment::decode(section.data()) {
                    Ok(endowments) => inspection.endowments = endowments,
                    Err(error) => inspection.refusals.push(error.into()),
                }
            }
            _ => {}
        }
    }
    if sections > 1 {
        inspection.refusals.push(Refusal::TwoEndowmentSections);
    }
    if !inspection.endowments.is_empty() && !exports.grant {
        inspection.refusals.push(Refusal::NoGrantExport);
    }
    Ok(())
}

fn validate(bytes: &[u8]) -> Result<Types, Refusal> {
    let error = match Validator::new_with_features(features()).validate_all(bytes) {
        Ok(types) => return Ok(types),
        Err(error) => error,
    };
    let (offset, message) = (error.offset(), error.message().to_owned());
    // The validator's message names a feature at best in passing. Which it was shows when it is switched
    // on and the module passes.
    let passes_with = |more| {
        Validator::new_with_features(features() | more)
            .validate_all(bytes)
            .is_ok()
    };
    let gc = WasmFeatures::GC | WasmFeatures::FUNCTION_REFERENCES;
    Err(if passes_with(gc) {
        Refusal::GcProposal { offset, message }
    } else if passes_with(WasmFeatures::all()) {
        Refusal::Proposal { offset, message }
    } else {
        Refusal::Malformed { offset, message }
    })
}

fn malformed(error: wasmparser::BinaryReaderError) -> Refusal {
    Refusal::Malformed {
        offset: error.offset(),
        message: error.message().to_owned(),
    }
}

fn look_at_import(module: &str, name: &str, ty: TypeRef, types: &Types, inspection: &mut Inspection) {
    let refusal = match (module, ty) {
        (MODULE, TypeRef::Func(index)) => match Import::by_name(name) {
            None => Some(unknown(module, name)),
            Some(import) if !has_type_of(import, function_type(types, index)) => {
                Some(Refusal::WrongImportType {
                    name: name.to_owned(),
                    expected: type_text(import),
                })
            }
            Some(_) => None,
        },
        (wasi::MODULE, TypeRef::Func(_)) if wasi::is_socket(name) => Some(Refusal::WasiSockets {
            name: name.to_owned(),
        }),
        (wasi::MODULE, TypeRef::Func(_)) if wasi::is_known(name) => None,
        _ => Some(unknown(module, name)),
    };
    let provider = match (&refusal, module) {
        (Some(_), _) => None,
        (None, MODULE) => Some(Provider::Refcap),
        (None, _) => Some(Provider::Wasi),
    };
    inspection.imports.push(ImportReport {
        module: module.to_owned(),
        name: name.to_owned(),
        provider,
    });
    inspection.refusals.extend(refusal);
}

fn unknown(module: &str, name: &str) -> Refusal {
    let hint = match module {
        MODULE => "this version has no such function".to_owned(),
        wasi::MODULE => "preview 1 has no such function".to_owned(),
        _ if module.starts_with("refcap") => format!("this version provides `{MODULE}`"),
        _ => format!("only functions of `{MODULE}` and `{}` are provided", wasi::MODULE),
    };
    Refusal::UnknownImport {
        module: module.to_owned(),
        name: name.to_owned(),
        hint,
    }
}

/// The type of a function's type index.
fn function_type(types: &Types, index: u32) -> Option<&FuncType> {
    let id = types.as_ref().core_type_at_in_module(index);
    types.as_ref().get(id).map(|ty| ty.unwrap_func())
}

fn has_type_of(import: &Import, ty: Option<&FuncType>) -> bool {
    let params = import.params.iter().map(|param| match param {
        Param::Ref => ValType::EXTERNREF,
        Param::I32 => ValType::I32,
    });
    let results = std::iter::repeat_n(ValType::EXTERNREF, import.refs_out).chain([ValType::I32]);
    ty.is_some_and(|ty| params.eq(ty.params().iter().copied()) && results.eq(ty.results().iter().copied()))
}

fn type_text(import: &Import) -> String {
    let params = import.params.iter().map(|param| match param {
        Param::Ref => "externref",
        Param::I32 => "i32",
    });
    let results = std::iter::repeat_n("externref", import.refs_out).chain(["i32"]);
    let list = |names: &mut dyn Iterator<Item = &'static str>| names.collect::<Vec<_>>().join(", ");
    format!(
        "({}) -> ({})",
        list(&mut params.into_iter()),
        list(&mut results.into_iter())
    )
}

/// What the gate has seen of the exports.
#[derive(Default)]
struct Exports {
    grant: bool,
}

impl Exports {
    fn look_at(&mut self, export: wasmparser::Export<'_>, types: &Types, inspection: &mut Inspection) {
        let name = || export.name.to_owned();
        match export.kind {
            ExternalKind::Table if types.as_ref().table_at(export.index).element_type != RefType::FUNCREF => {
                inspection.refusals.push(Refusal::ExportedTable { name: name() });
            }
            ExternalKind::Global => {
                let content = types.as_ref().global_at(export.index).content_type;
                if matches!(content, ValType::Ref(ty) if ty != RefType::FUNCREF) {
                    inspection.refusals.push(Refusal::ExportedGlobal { name: name() });
                }
            }
            _ => {}
        }
        for (called, params, results, expected) in CALLED {
            if export.name != *called {
                continue;
            }
            if !is_function(&export, types, params, results) {
                inspection.refusals.push(Refusal::WrongExportType {
                    name: called,
                    expected,
                });
                continue;
            }
            match *called {
                GRANT_EXPORT => self.grant = true,
                COMMAND_EXPORT => inspection.entry = Some(Entry::Command),
                _ => inspection.entry = inspection.entry.or(Some(Entry::Start)),
            }
        }
    }
}

/// The exports that the host calls: name, parameters, results, and the type in words.
const CALLED: &[(&str, &[ValType], &[ValType], &str)] = &[
    (
        GRANT_EXPORT,
        &[ValType::EXTERNREF],
        &[ValType::I32],
        "(externref) -> (i32)",
    ),
    (COMMAND_EXPORT, &[], &[], "() -> ()"),
    (START_EXPORT, &[], &[ValType::I32], "() -> (i32)"),
];

fn is_function(
    export: &wasmparser::Export<'_>,
    types: &Types,
    params: &[ValType],
    results: &[ValType],
) -> bool {
    if export.kind != ExternalKind::Func {
        return false;
    }
    let id = types.as_ref().core_function_at(export.index);
    types.as_ref().get(id).is_some_and(|ty| {
        let ty = ty.unwrap_func();
        ty.params() == params && ty.results() == results
    })
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Provider::Refcap => "refcap",
            Provider::Wasi => "WASI",
        })
    }
}
