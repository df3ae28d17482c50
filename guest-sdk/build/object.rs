//! A relocatable wasm object with imported functions, functions, one table of references and one
//! piece of zeroed memory.
//!
//! The format is that of WebAssembly's tool conventions ("Linking"), version 2: an ordinary module whose
//! indices are padded, with a section that names its symbols and one that says where each symbol is used.

use crate::encode::{count, custom_section, name, number, padded, section, signed, sized, vector};

/// The type of a parameter, result or local.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ValueType {
    I32 = 0x7f,
    ExternRef = 0x6f,
}

/// The type of a function.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signature {
    pub(crate) params: Vec<ValueType>,
    pub(crate) results: Vec<ValueType>,
}

/// A function that the host provides.
#[derive(Debug)]
pub(crate) struct ImportedFunction {
    pub(crate) symbol: String,
    pub(crate) module: &'static str,
    pub(crate) field: &'static str,
    pub(crate) signature: Signature,
}

/// A function that the object provides.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) symbol: String,
    /// Whether the finished module exports it. It is then kept also when nothing calls it.
    pub(crate) exported: bool,
    pub(crate) signature: Signature,
    pub(crate) locals: Vec<ValueType>,
    pub(crate) code: Code,
}

/// An object. An index of a function counts the imported ones first, as in wasm.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) imports: Vec<ImportedFunction>,
    pub(crate) functions: Vec<Function>,
    /// The symbol of the table. No other object can name it.
    pub(crate) table: String,
    /// How many elements the table has at first; they are null.
    pub(crate) table_minimum: u32,
    /// The symbol of the zeroed memory, aligned to four bytes.
    pub(crate) memory: String,
    pub(crate) memory_size: u32,
}

/// What a place in the code refers to. The linker writes the final index or address there.
#[derive(Debug, Clone, Copy)]
enum Target {
    Function(u32),
    Table,
    /// An offset into the object's memory.
    Memory(u32),
}

/// The instructions of a function.
#[derive(Debug, Default)]
pub(crate) struct Code {
    bytes: Vec<u8>,
    relocations: Vec<(usize, Target)>,
}

impl Code {
    pub(crate) fn local_get(&mut self, local: u32) -> &mut Code {
        self.indexed(0x20, local)
    }

    pub(crate) fn local_set(&mut self, local: u32) -> &mut Code {
        self.indexed(0x21, local)
    }

    pub(crate) fn local_tee(&mut self, local: u32) -> &mut Code {
        self.indexed(0x22, local)
    }

    pub(crate) fn i32_const(&mut self, value: i32) -> &mut Code {
        self.bytes(&[0x41]).bytes(&signed(value))
    }

    pub(crate) fn i32_eqz(&mut self) -> &mut Code {
        self.bytes(&[0x45])
    }

    pub(crate) fn i32_add(&mut self) -> &mut Code {
        self.bytes(&[0x6a])
    }

    pub(crate) fn i32_sub(&mut self) -> &mut Code {
        self.bytes(&[0x6b])
    }

    pub(crate) fn i32_shl(&mut self) -> &mut Code {
        self.bytes(&[0x74])
    }

    /// Starts a conditional whose branches each leave one number.
    pub(crate) fn if_i32(&mut self) -> &mut Code {
        self.bytes(&[0x04, ValueType::I32 as u8])
    }

    pub(crate) fn else_(&mut self) -> &mut Code {
        self.bytes(&[0x05])
    }

    pub(crate) fn end(&mut self) -> &mut Code {
        self.bytes(&[0x0b])
    }

    pub(crate) fn ref_null(&mut self) -> &mut Code {
        self.bytes(&[0xd0, ValueType::ExternRef as u8])
    }

    pub(crate) fn ref_is_null(&mut self) -> &mut Code {
        self.bytes(&[0xd1])
    }

    pub(crate) fn call(&mut self, function: u32) -> &mut Code {
        self.relocated(&[0x10], Target::Function(function))
    }

    pub(crate) fn table_get(&mut self) -> &mut Code {
        self.relocated(&[0x25], Target::Table)
    }

    pub(crate) fn table_set(&mut self) -> &mut Code {
        self.relocated(&[0x26], Target::Table)
    }

    pub(crate) fn table_grow(&mut self) -> &mut Code {
        self.relocated(&[0xfc, 15], Target::Table)
    }

    pub(crate) fn table_size(&mut self) -> &mut Code {
        self.relocated(&[0xfc, 16], Target::Table)
    }

    /// Loads a number from the address on the stack.
    pub(crate) fn i32_load(&mut self) -> &mut Code {
        self.bytes(&[0x28, 2, 0])
    }

    /// Loads a number from the object's memory, at the address on the stack (0, in practice) plus `offset`.
    pub(crate) fn i32_load_memory(&mut self, offset: u32) -> &mut Code {
        self.relocated(&[0x28, 2], Target::Memory(offset))
    }

    /// Stores a number to the object's memory, likewise.
    pub(crate) fn i32_store_memory(&mut self, offset: u32) -> &mut Code {
        self.relocated(&[0x36, 2], Target::Memory(offset))
    }

    fn indexed(&mut self, opcode: u8, index: u32) -> &mut Code {
        self.bytes(&[opcode]).bytes(&number(index))
    }

    fn relocated(&mut self, opcode: &[u8], target: Target) -> &mut Code {
        self.bytes(opcode);
        self.relocations.push((self.bytes.len(), target));
        // What stands here before linking is for tools that look at the object; the linker replaces it.
        self.bytes(&padded(match target {
            Target::Function(index) => index,
            Target::Table => 0,
            Target::Memory(offset) => offset,
        }))
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Code {
        self.bytes.extend(bytes);
        self
    }
}

/// Numbers of the tool conventions.
mod linking {
    pub(super) const VERSION: u32 = 2;
    pub(super) const SEGMENT_INFO: u8 = 5;
    pub(super) const SYMBOL_TABLE: u8 = 8;

    pub(super) const SYMBOL_FUNCTION: u8 = 0;
    pub(super) const SYMBOL_DATA: u8 = 1;
    pub(super) const SYMBOL_TABLE_KIND: u8 = 5;

    pub(super) const LOCAL: u32 = 0x02;
    pub(super) const HIDDEN: u32 = 0x04;
    pub(super) const UNDEFINED: u32 = 0x10;
    pub(super) const EXPORTED: u32 = 0x20;
    /// The symbol has a name of its own, beside the name in the import section.
    pub(super) const EXPLICIT_NAME: u32 = 0x40;

    pub(super) const FUNCTION_INDEX_LEB: u8 = 0;
    pub(super) const MEMORY_ADDRESS_LEB: u8 = 3;
    pub(super) const TABLE_NUMBER_LEB: u8 = 20;
}

/// Where the code section stands among the sections, counted from 0. See [`Object::encode`].
const CODE_SECTION: u32 = 4;

impl Object {
    /// The object as a file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (code, relocations) = self.code_and_relocations();
        [
            b"\0asm\x01\0\0\0".to_vec(),
            section(1, &self.types()),
            section(2, &self.import_section()),
            section(3, &self.function_types()),
            section(4, &self.table_section()),
            section(10, &code),
            section(11, &self.data_section()),
            custom_section("linking", &self.linking_section()),
            custom_section("reloc.CODE", &[number(CODE_SECTION), relocations].concat()),
            custom_section("target_features", &target_features()),
        ]
        .concat()
    }

    /// One type for each function, in the order of the functions: the linker merges equal ones.
    fn types(&self) -> Vec<u8> {
        let imported = self.imports.iter().map(|import| &import.signature);
        let own = self.functions.iter().map(|function| &function.signature);
        vector(imported.chain(own).map(|signature| {
            let values = |values: &[ValueType]| vector(values.iter().map(|&value| vec![value as u8]));
            [vec![0x60], values(&signature.params), values(&signature.results)].concat()
        }))
    }

    fn import_section(&self) -> Vec<u8> {
        let functions = self.imports.iter().zip(0..).map(|(import, index)| {
            [name(import.module), name(import.field), vec![0], number(index)].concat()
        });
        // The memory that the data symbol's address is an address in.
        let memory = [name("env"), name("__linear_memory"), vec![2, 0, 0]].concat();
        vector(functions.chain([memory]))
    }

    fn function_types(&self) -> Vec<u8> {
        vector((self.first_function()..).take(self.functions.len()).map(number))
    }

    fn table_section(&self) -> Vec<u8> {
        let no_maximum = 0;
        vector([[
            vec![ValueType::ExternRef as u8, no_maximum],
            number(self.table_minimum),
        ]
        .concat()])
    }

    fn data_section(&self) -> Vec<u8> {
        let at_address_0 = [0, 0x41, 0, 0x0b];
        let zeros = vec![0; self.memory_size as usize];
        vector([[at_address_0.to_vec(), sized(&zeros)].concat()])
    }

    fn code_and_relocations(&self) -> (Vec<u8>, Vec<u8>) {
        let mut code = count(self.functions.len());
        let mut relocations = Vec::new();
        for function in &self.functions {
            let locals = vector(function.locals.iter().map(|&local| vec![1, local as u8]));
            let end = 0x0b;
            let body = [locals.clone(), function.code.bytes.clone(), vec![end]].concat();
            code.extend(count(body.len()));
            let start = code.len() + locals.len();
            for &(offset, target) in &function.code.relocations {
                relocations.push(self.relocation(start + offset, target));
            }
            code.extend(body);
        }
        (code, vector(relocations))
    }

    fn relocation(&self, offset: usize, target: Target) -> Vec<u8> {
        // Symbols are numbered like functions, with the table and the memory after them.
        let table = self.first_function() + self.functions.len() as u32;
        let (kind, symbol, addend) = match target {
            Target::Function(index) => (linking::FUNCTION_INDEX_LEB, index, None),
            Target::Table => (linking::TABLE_NUMBER_LEB, table, None),
            Target::Memory(addend) => (linking::MEMORY_ADDRESS_LEB, table + 1, Some(addend)),
        };
        let addend = addend.map_or(Vec::new(), |addend| signed(addend.cast_signed()));
        [vec![kind], count(offset), number(symbol), addend].concat()
    }

    fn linking_section(&self) -> Vec<u8> {
        let (alignment_log2, flags) = (2, 0);
        let segment = [
            name(&format!(".bss.{}", self.memory)),
            vec![alignment_log2, flags],
        ]
        .concat();
        [
            number(linking::VERSION),
            section(linking::SEGMENT_INFO, &vector([segment])),
            section(linking::SYMBOL_TABLE, &self.symbols()),
        ]
        .concat()
    }

    fn symbols(&self) -> Vec<u8> {
        let imported = self.imports.iter().zip(0..).map(|(import, index)| {
            let flags = linking::UNDEFINED | linking::EXPLICIT_NAME;
            symbol(linking::SYMBOL_FUNCTION, flags, index, &import.symbol)
        });
        let own = self
            .functions
            .iter()
            .zip(self.first_function()..)
            .map(|(function, index)| {
                let flags = if function.exported {
                    linking::EXPORTED
                } else {
                    linking::HIDDEN
                };
                symbol(linking::SYMBOL_FUNCTION, flags, index, &function.symbol)
            });
        // Local and hidden: no other object can name the table, and no linker flag exports it.
        let flags = linking::LOCAL | linking::HIDDEN;
        let table = symbol(linking::SYMBOL_TABLE_KIND, flags, 0, &self.table);
        let (segment, offset) = (0, 0);
        let memory = [
            vec![linking::SYMBOL_DATA],
            number(linking::HIDDEN),
            name(&self.memory),
            vec![segment, offset],
            number(self.memory_size),
        ]
        .concat();
        vector(imported.chain(own).chain([table, memory]))
    }

    /// The index of the first function that is not imported.
    fn first_function(&self) -> u32 {
        self.imports.len() as u32
    }
}

fn symbol(kind: u8, flags: u32, index: u32, symbol: &str) -> Vec<u8> {
    [vec![kind], number(flags), number(index), name(symbol)].concat()
}

/// What the object's code needs of an engine. The linker does not ask for it; other tools do.
fn target_features() -> Vec<u8> {
    vector(["multivalue", "reference-types"].map(|feature| [vec![b'+'], name(feature)].concat()))
}
