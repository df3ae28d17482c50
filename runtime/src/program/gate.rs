//! The load gate: what a module must be before it may run.
//!
//! It looks at the bytes alone, so `refcap inspect` can say what it would refuse without an engine, and
//! it says all that is wrong at once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use refcap_abi::endowment::{self, Endowment, EndowmentError};
use refcap_abi::{
    COMMAND_EXPORT, DISPATCH_EXPORT, ENDOWMENT_SECTION, GRANT_EXPORT, INITIALIZE_EXPORT, Import, MODULE,
    Param, START_EXPORT, TAKE_EXPORT,
};
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
    /// A program that this one is linked to.
    Linked,
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
    /// It imports from a program that it is linked to what that one does not export.
    #[error("`{module}` exports no function `{name}` for others; it exports {}", list(.exports))]
    NotExported {
        /// The linked program's name.
        module: String,
        /// The import's field name.
        name: String,
        /// What it exports.
        exports: Vec<String>,
    },
    /// It imports something else than a function from a program that it is linked to.
    #[error(
        "the import `{name}` from `{module}` must be a function: a linked program's memory and tables are its own"
    )]
    NotAFunction {
        /// The linked program's name.
        module: String,
        /// The import's field name.
        name: String,
    },
    /// It imports a function of a linked program with another type.
    #[error("the import `{name}` from `{module}` must have the type {expected}")]
    WrongLinkType {
        /// The linked program's name.
        module: String,
        /// The import's field name.
        name: String,
        /// The type that it has there.
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

/// The functions of a program that programs linked to it can import, and their types.
pub(super) type Functions = Arc<BTreeMap<String, FuncType>>;

/// The functions of the programs that a module is linked to, by the programs' names.
pub(super) type Links<'a> = [(&'a str, Functions)];

/// An inspection, and what only the loader needs to know.
#[derive(Default)]
pub(super) struct Inspected {
    pub(super) inspection: Inspection,
    pub(super) functions: Functions,
}

/// Looks at a module as the load gate does.
pub fn inspect(bytes: &[u8]) -> Inspection {
    look_at(bytes, &[]).inspection
}

/// Looks at a module as the load gate does when it is linked to others: each by the name under which it is
/// imported from, and its bytes, which may be linked to those before it.
pub fn inspect_linked(bytes: &[u8], links: &[(&str, &[u8])]) -> Inspection {
    let mut available: Vec<(&str, Functions)> = Vec::new();
    for (name, bytes) in links {
        let functions = look_at(bytes, &available).functions;
        available.push((name, functions));
    }
    look_at(bytes, &available).inspection
}

pub(super) fn look_at(bytes: &[u8], links: &Links<'_>) -> Inspected {
    let mut inspected = Inspected::default();
    if let Err(refusal) = look(bytes, links, &mut inspected) {
        inspected.inspection.refusals.push(refusal);
    }
    inspected
}

/// Fills an inspection. What is returned as an error leaves nothing else to look at.
fn look(bytes: &[u8], links: &Links<'_>, inspected: &mut Inspected) -> Result<(), Refusal> {
    let inspection = &mut inspected.inspection;
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
                    look_at_import(import, &types, links, inspection);
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
    inspected.functions = Arc::new(exports.functions);
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

fn look_at_import(
    import: wasmparser::Import<'_>,
    types: &Types,
    links: &Links<'_>,
    inspection: &mut Inspection,
) {
    let (module, name, ty) = (import.module, import.name, import.ty);
    let link = links.iter().find(|(link, _)| *link == module);
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
        _ => match link {
            Some((_, functions)) => not_linked(import, types, functions),
            None => Some(unknown(module, name)),
        },
    };
    let provider = match (&refusal, module) {
        (Some(_), _) => None,
        (None, MODULE) => Some(Provider::Refcap),
        (None, wasi::MODULE) => Some(Provider::Wasi),
        (None, _) => Some(Provider::Linked),
    };
    inspection.imports.push(ImportReport {
        module: module.to_owned(),
        name: name.to_owned(),
        provider,
    });
    inspection.refusals.extend(refusal);
}

/// Why an import from a linked program can't be satisfied.
fn not_linked(import: wasmparser::Import<'_>, types: &Types, functions: &Functions) -> Option<Refusal> {
    let (module, name) = (import.module.to_owned(), import.name.to_owned());
    let (TypeRef::Func(index) | TypeRef::FuncExact(index)) = import.ty else {
        return Some(Refusal::NotAFunction { module, name });
    };
    let Some(there) = functions.get(&name) else {
        let exports = functions.keys().cloned().collect();
        return Some(Refusal::NotExported {
            module,
            name,
            exports,
        });
    };
    (function_type(types, index) != Some(there)).then(|| Refusal::WrongLinkType {
        module,
        name,
        expected: signature_text(there),
    })
}

fn signature_text(ty: &FuncType) -> String {
    let list = |types: &[ValType]| {
        let names: Vec<_> = types.iter().map(ValType::to_string).collect();
        names.join(", ")
    };
    format!("({}) -> ({})", list(ty.params()), list(ty.results()))
}

fn list(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => format!("`{}`", names.join("`, `")),
    }
}

fn unknown(module: &str, name: &str) -> Refusal {
    let hint = match module {
        MODULE => "this version has no such function".to_owned(),
        wasi::MODULE => "preview 1 has no such function".to_owned(),
        _ if module.starts_with("refcap") => format!("this version provides `{MODULE}`"),
        _ => format!(
            "only functions of `{MODULE}` and `{}` are provided, and those of programs that are linked to this one",
            wasi::MODULE
        ),
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
    /// What programs linked to this one can import: all functions but those that are the host's to call.
    functions: BTreeMap<String, FuncType>,
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
            ExternalKind::Func if !is_called_by_the_host(export.name) => {
                let id = types.as_ref().core_function_at(export.index);
                if let Some(ty) = types.as_ref().get(id) {
                    self.functions.insert(name(), ty.unwrap_func().clone());
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
                START_EXPORT => inspection.entry = inspection.entry.or(Some(Entry::Start)),
                _ => {}
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
    (TAKE_EXPORT, &[], &[ValType::EXTERNREF], "() -> (externref)"),
    (INITIALIZE_EXPORT, &[], &[], "() -> ()"),
    (
        DISPATCH_EXPORT,
        &[ValType::I32; 4],
        &[ValType::I32],
        "(i32, i32, i32, i32) -> (i32)",
    ),
];

/// Whether an export is for the host, or for the switchboard, and not for other programs.
fn is_called_by_the_host(name: &str) -> bool {
    name.starts_with("refcap_") || CALLED.iter().any(|(called, ..)| *called == name)
}

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
            Provider::Linked => "linked",
        })
    }
}
