//! The hand-written guest says the same as the SDK would.

use refcap_abi::{ENDOWMENT_SECTION, ErrorCode, IMPORTS, WAIT_READ, endowment, wire};
use refcap_authority::Rules;
use wasmparser::{Parser, Payload};

const TEXT: &str = include_str!("../../examples/wat/locals.wat");

#[test]
fn the_module_is_valid_and_asks_for_its_endowment() {
    let module = wat::parse_str(TEXT).unwrap();
    wasmparser::validate(&module).unwrap();
    let mut endowments = Vec::new();
    for payload in Parser::new(0).parse_all(&module) {
        match payload.unwrap() {
            Payload::CustomSection(section) if section.name() == ENDOWMENT_SECTION => {
                endowments.extend(endowment::decode(section.data()).unwrap());
            }
            Payload::ExportSection(section) => {
                let names: Vec<&str> = section.into_iter().map(|export| export.unwrap().name).collect();
                assert_eq!(names, ["memory", "refcap_grant", "refcap_start"]);
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.unwrap();
                    assert!(
                        IMPORTS.iter().any(|known| known.name == import.name),
                        "{}",
                        import.name
                    );
                }
            }
            _ => {}
        }
    }
    assert_eq!(endowments.len(), 1);
}

#[test]
fn its_binary_forms_are_those_of_the_crates() {
    let module = wat::parse_str(TEXT).unwrap();
    let mut data = Vec::new();
    for payload in Parser::new(0).parse_all(&module) {
        if let Payload::DataSection(section) = payload.unwrap() {
            data.extend(section.into_iter().map(|data| data.unwrap().data.to_vec()));
        }
    }
    assert_eq!(data[0], wire::encode_address("127.0.0.1:7".parse().unwrap()));
    assert_eq!(data[1], Rules::parse("connect tcp 127.0.0.1:7").unwrap().encode());
    assert_eq!(data[1].len(), 16);
    assert_eq!(ErrorCode::WouldBlock.status(), -13);
    assert_eq!(WAIT_READ, 1);
    assert_eq!(TEXT.matches(r#""\00\07""#).count(), 4);
}
