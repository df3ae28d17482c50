//! The object of the build script, read back with a parser that is not ours.

use std::collections::BTreeMap;

use refcap_abi::{GRANT_EXPORT, IMPORTS, MODULE, Param, TAKE_EXPORT};
use wasmparser::{
    KnownCustom, Linking, Parser, Payload, RelocationType, SymbolFlags, SymbolInfo, TypeRef, ValType,
};

#[path = "../build/archive.rs"]
mod archive;
#[path = "../build/encode.rs"]
mod encode;
#[path = "../build/object.rs"]
mod object;
#[path = "../build/stubs.rs"]
mod stubs;

/// The index of a function and what its type is.
type Functions = BTreeMap<String, (Vec<ValType>, Vec<ValType>)>;

#[test]
fn every_host_function_is_imported_with_references() {
    let bytes = stubs::object().encode();
    let types = types(&bytes);
    let mut imports = Functions::new();
    for payload in payloads(&bytes) {
        if let Payload::ImportSection(section) = payload {
            for import in section.into_imports() {
                let import = import.unwrap();
                if let TypeRef::Func(index) = import.ty {
                    assert_eq!(import.module, MODULE);
                    imports.insert(import.name.to_owned(), types[index as usize].clone());
                } else {
                    assert_eq!((import.module, import.name), ("env", "__linear_memory"));
                }
            }
        }
    }
    assert_eq!(imports.len(), IMPORTS.len());
    for import in IMPORTS {
        let (params, results) = &imports[import.name];
        let value = |&param: &Param| match param {
            Param::Ref => ValType::EXTERNREF,
            Param::I32 => ValType::I32,
        };
        assert!(
            params.iter().copied().eq(import.params.iter().map(value)),
            "{}",
            import.name
        );
        let references = vec![ValType::EXTERNREF; import.refs_out];
        assert_eq!(
            *results,
            [references, vec![ValType::I32]].concat(),
            "{}",
            import.name
        );
    }
}

#[test]
fn symbols_hide_what_must_be_hidden() {
    let bytes = stubs::object().encode();
    let mut seen = BTreeMap::new();
    for symbol in symbols(&bytes) {
        let (name, flags) = match symbol {
            SymbolInfo::Func { name, flags, .. } | SymbolInfo::Table { name, flags, .. } => (name, flags),
            SymbolInfo::Data { name, flags, .. } => (Some(name), flags),
            other => panic!("unexpected symbol {other:?}"),
        };
        let name = name.expect("all symbols have names");
        assert!(seen.insert(name, flags).is_none(), "{name} twice");
    }
    let local = SymbolFlags::BINDING_LOCAL | SymbolFlags::VISIBILITY_HIDDEN;
    assert_eq!(seen["refcap_v1_table"], local);
    assert_eq!(seen["refcap_v1_free_slots"], SymbolFlags::VISIBILITY_HIDDEN);
    assert_eq!(seen[GRANT_EXPORT], SymbolFlags::EXPORTED);
    assert_eq!(seen[TAKE_EXPORT], SymbolFlags::EXPORTED);
    for import in IMPORTS {
        let imported = SymbolFlags::UNDEFINED | SymbolFlags::EXPLICIT_NAME;
        assert_eq!(seen[&*format!("refcap_v1_import_{}", import.name)], imported);
        assert_eq!(
            seen[&*format!("refcap_v1_stub_{}", import.name)],
            SymbolFlags::VISIBILITY_HIDDEN
        );
    }
    let exported = seen
        .values()
        .filter(|flags| flags.contains(SymbolFlags::EXPORTED))
        .count();
    assert_eq!(exported, 2);
}

#[test]
fn relocations_point_at_padded_numbers_of_what_they_name() {
    let bytes = stubs::object().encode();
    let symbols = symbols(&bytes);
    let mut count = 0;
    for payload in payloads(&bytes) {
        let Payload::CustomSection(section) = payload else {
            continue;
        };
        let KnownCustom::Reloc(relocations) = section.as_known() else {
            continue;
        };
        assert_eq!(relocations.section_index(), 4);
        let code = code_section(&bytes);
        for entry in relocations.entries() {
            let entry = entry.unwrap();
            let place = &code[entry.offset as usize..][..5];
            let number = place
                .iter()
                .rev()
                .fold(0, |value, byte| value << 7 | u32::from(byte & 0x7f));
            assert!(place[..4].iter().all(|byte| byte & 0x80 != 0) && place[4] & 0x80 == 0);
            match (entry.ty, symbols[entry.index as usize]) {
                (RelocationType::FunctionIndexLeb, SymbolInfo::Func { index, .. })
                | (RelocationType::TableNumberLeb, SymbolInfo::Table { index, .. }) => {
                    assert_eq!(number, index);
                }
                (RelocationType::MemoryAddrLeb, SymbolInfo::Data { .. }) => {
                    assert_eq!(i64::from(number), entry.addend);
                }
                other => panic!("unexpected relocation {other:?}"),
            }
            count += 1;
        }
    }
    assert!(count > IMPORTS.len(), "{count} relocations");
}

#[test]
fn the_table_starts_with_null_and_has_no_maximum() {
    let bytes = stubs::object().encode();
    let mut tables = 0;
    for payload in payloads(&bytes) {
        if let Payload::TableSection(section) = payload {
            for table in section {
                let table = table.unwrap();
                assert_eq!(ValType::Ref(table.ty.element_type), ValType::EXTERNREF);
                assert_eq!((table.ty.initial, table.ty.maximum), (1, None));
                tables += 1;
            }
        }
    }
    assert_eq!(tables, 1);
}

#[test]
fn the_code_is_valid() {
    // Relocatable objects are valid modules, but for what the linker adds: nothing is missing here.
    wasmparser::validate(&stubs::object().encode()).unwrap();
}

#[test]
fn numbers_are_encoded_as_the_specification_says() {
    assert_eq!(encode::number(0), [0]);
    assert_eq!(encode::number(624_485), [0xe5, 0x8e, 0x26]);
    assert_eq!(encode::number(u32::MAX), [0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert_eq!(encode::signed(0), [0]);
    assert_eq!(encode::signed(63), [0x3f]);
    assert_eq!(encode::signed(64), [0xc0, 0]);
    assert_eq!(encode::signed(-1), [0x7f]);
    assert_eq!(encode::signed(-123_456), [0xc0, 0xbb, 0x78]);
    assert_eq!(encode::padded(0), [0x80, 0x80, 0x80, 0x80, 0]);
    assert_eq!(encode::padded(u32::MAX), [0xff, 0xff, 0xff, 0xff, 0x0f]);
}

#[test]
fn archive_members_start_at_even_offsets() {
    let header = "!<arch>\na.o/            0           0     0     644     3         `\n";
    let archive = archive::with_one_member("a.o", b"abc");
    assert_eq!(archive, [header.as_bytes(), b"abc\n"].concat());
    assert_eq!(archive::with_one_member("a.o", b"ab").len() % 2, 0);
}

fn payloads(bytes: &[u8]) -> impl Iterator<Item = Payload<'_>> {
    Parser::new(0).parse_all(bytes).map(Result::unwrap)
}

fn types(bytes: &[u8]) -> Vec<(Vec<ValType>, Vec<ValType>)> {
    payloads(bytes)
        .filter_map(|payload| match payload {
            Payload::TypeSection(section) => Some(section),
            _ => None,
        })
        .flat_map(wasmparser::TypeSectionReader::into_iter_err_on_gc_types)
        .map(|ty| {
            let ty = ty.unwrap();
            (ty.params().to_vec(), ty.results().to_vec())
        })
        .collect()
}

fn symbols(bytes: &[u8]) -> Vec<SymbolInfo<'_>> {
    let mut symbols = Vec::new();
    for payload in payloads(bytes) {
        if let Payload::CustomSection(section) = payload
            && let KnownCustom::Linking(linking) = section.as_known()
        {
            for subsection in linking.subsections() {
                if let Linking::SymbolTable(table) = subsection.unwrap() {
                    symbols.extend(table.into_iter().map(Result::unwrap));
                }
            }
        }
    }
    symbols
}

fn code_section(bytes: &[u8]) -> &[u8] {
    payloads(bytes)
        .find_map(|payload| match payload {
            Payload::CodeSectionStart { range, .. } => Some(&bytes[range]),
            _ => None,
        })
        .expect("there is a code section")
}
