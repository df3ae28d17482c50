//! What a module must be to be a guard.

use refcap_abi::MEMORY_EXPORT;
use refcap_abi::guard::{CHECK_EXPORT, RECORD_EXPORT};
use wasmparser::{ExternalKind, Parser, Payload, ValType, Validator, WasmFeatures, types::Types};

use super::{GuardError, MAX_GUARD_MEMORY};

/// The largest module that is looked at, in bytes. Most of a Rust module in its debug form is what it says to
/// debuggers.
pub const MAX_GUARD_BYTES: usize = 4 << 20;
/// The most code that is compiled, in bytes.
pub const MAX_GUARD_CODE: usize = 64 << 10;
/// The longest function, in bytes. The compiler takes more than twice as long for twice as long a function: with 256
/// KiB in one, it took 18 s.
const MAX_FUNCTION: usize = 8 << 10;
/// Local variables of all functions together: a few bytes declare thousands, and each is work for the compiler.
const MAX_LOCALS: usize = 10_000;

pub(super) const MEMORY_MISSING: GuardError = GuardError::Export {
    name: MEMORY_EXPORT,
    expected: "its memory",
};
pub(super) const RECORD_MISSING: GuardError = GuardError::Export {
    name: RECORD_EXPORT,
    expected: "a constant global of type i32",
};
pub(super) const CHECK_MISSING: GuardError = GuardError::Export {
    name: CHECK_EXPORT,
    expected: "a function of type () -> (i32)",
};

/// Whether a module means to be a guard: it exports a guard's function.
pub fn is_guard(bytes: &[u8]) -> bool {
    Parser::new(0).parse_all(bytes).any(|payload| match payload {
        Ok(Payload::ExportSection(exports)) => {
            let mut exports = exports.into_iter().flatten();
            exports.any(|export| export.name == CHECK_EXPORT)
        }
        _ => false,
    })
}

/// What a module may use: what stable Rust and LLVM produce, without references to anything but functions.
fn features() -> WasmFeatures {
    (WasmFeatures::WASM2 | WasmFeatures::TAIL_CALL | WasmFeatures::EXTENDED_CONST)
        .difference(WasmFeatures::GC_TYPES)
}

/// Whether a module is a guard, as far as can be told without running it.
pub(super) fn check(bytes: &[u8]) -> Result<(), GuardError> {
    if bytes.len() > MAX_GUARD_BYTES {
        return Err(GuardError::TooLarge { bytes: bytes.len() });
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(GuardError::NotWasm);
    }
    if Parser::is_component(bytes) {
        return Err(GuardError::Component);
    }
    let types = Validator::new_with_features(features())
        .validate_all(bytes)
        .map_err(|error| malformed(&error))?;
    let mut exports = Exports::default();
    let mut locals = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|error| malformed(&error))? {
            Payload::ImportSection(imports) => {
                if let Some(import) = imports.into_imports().next() {
                    let import = import.map_err(|error| malformed(&error))?;
                    return Err(GuardError::Imports {
                        module: import.module.to_owned(),
                        name: import.name.to_owned(),
                    });
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    let memory = memory.map_err(|error| malformed(&error))?;
                    let bytes = memory.initial.saturating_mul(64 << 10);
                    if bytes > MAX_GUARD_MEMORY as u64 {
                        return Err(GuardError::TooMuchMemory { bytes });
                    }
                }
            }
            Payload::CodeSectionStart { size, .. } => {
                at_most("bytes of code", size as usize, MAX_GUARD_CODE)?;
            }
            Payload::CodeSectionEntry(function) => {
                at_most("bytes in one function", function.range().len(), MAX_FUNCTION)?;
                for local in function.get_locals_reader().map_err(|error| malformed(&error))? {
                    let (count, _) = local.map_err(|error| malformed(&error))?;
                    locals += count as usize;
                    at_most("local variables", locals, MAX_LOCALS)?;
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    exports.look_at(&export.map_err(|error| malformed(&error))?, &types);
                }
            }
            _ => {}
        }
    }
    exports.are_complete()
}

fn at_most(what: &'static str, count: usize, most: usize) -> Result<(), GuardError> {
    match count > most {
        true => Err(GuardError::TooMuchCode { what, count, most }),
        false => Ok(()),
    }
}

fn malformed(error: &wasmparser::BinaryReaderError) -> GuardError {
    GuardError::Malformed {
        offset: error.offset(),
        message: error.message().to_owned(),
    }
}

/// Which of the exports that a guard needs are there, with the right type.
#[derive(Default)]
struct Exports {
    memory: bool,
    record: bool,
    check: bool,
}

impl Exports {
    fn look_at(&mut self, export: &wasmparser::Export<'_>, types: &Types) {
        match (export.name, export.kind) {
            (MEMORY_EXPORT, ExternalKind::Memory) => self.memory = true,
            (RECORD_EXPORT, ExternalKind::Global) => {
                let global = types.as_ref().global_at(export.index);
                self.record = global.content_type == ValType::I32 && !global.mutable;
            }
            (CHECK_EXPORT, ExternalKind::Func) => {
                let id = types.as_ref().core_function_at(export.index);
                self.check = types.as_ref().get(id).is_some_and(|ty| {
                    let ty = ty.unwrap_func();
                    ty.params().is_empty() && ty.results() == [ValType::I32]
                });
            }
            _ => {}
        }
    }

    fn are_complete(&self) -> Result<(), GuardError> {
        for (is_there, missing) in [
            (self.memory, MEMORY_MISSING),
            (self.record, RECORD_MISSING),
            (self.check, CHECK_MISSING),
        ] {
            if !is_there {
                return Err(missing);
            }
        }
        Ok(())
    }
}
