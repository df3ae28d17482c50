//! The load gate: what may not run is refused before anything is compiled, with all reasons.

use refcap::{Entry, LoadError, MAX_MODULE_BYTES, Program, Provider, Refusal, inspect};

use crate::support::{engine, puppet_source};

/// A module's binary form.
fn assemble(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).unwrap_or_else(|error| panic!("{error}\n{wat}"))
}

/// What the gate has against a module. Loading must say the same.
fn refusals(bytes: &[u8]) -> Vec<Refusal> {
    let refusals = inspect(bytes).refusals;
    match Program::load(engine(), bytes) {
        Err(LoadError::Refused(same)) => assert_eq!(same, refusals),
        Ok(_) => assert_eq!(refusals, []),
        Err(other) => panic!("the gate has nothing against it, but {other}"),
    }
    refusals
}

/// What the gate has against a module in text form, in words.
fn reasons(wat: &str) -> Vec<String> {
    refusals(&assemble(wat)).iter().map(Refusal::to_string).collect()
}

/// Some module with the contents given.
fn module(contents: &str) -> String {
    format!("(module {contents})")
}

// wasmtime#13464, wasm-bindgen#4967: with the GC proposal a guest turns values of its own into references.
#[test]
fn class_19_forged_references_are_refused_at_load() {
    for forgery in [
        "(func (export \"forge\") (result externref) (extern.convert_any (ref.i31 (i32.const 1))))",
        "(type $s (struct (field i32))) (func (result externref) (extern.convert_any (struct.new_default $s)))",
        "(type $a (array i8)) (func (result externref) (extern.convert_any (array.new_default $a (i32.const 9))))",
        // What leads there: no such type in a signature, a local, a global or a table.
        "(type (struct (field externref)))",
        "(type (array (mut externref)))",
        "(func (param anyref))",
        "(func (local i31ref))",
        "(global i31ref (ref.i31 (i32.const 7)))",
        "(table 1 eqref)",
        "(func (param externref) (result anyref) (any.convert_extern (local.get 0)))",
        "(rec (type (struct)) (type (func)))",
    ] {
        let refusals = refusals(&assemble(&module(forgery)));
        assert!(
            matches!(refusals[..], [Refusal::GcProposal { offset, .. }] if offset > 0),
            "{forgery}: {refusals:?}"
        );
        let message = refusals[0].to_string();
        assert!(
            message.contains("GC proposal") && message.contains("references"),
            "{message}"
        );
    }
}

// wasmtime#14301: converting a real reference aborts the host.
#[test]
fn class_20_conversions_of_references_are_refused_at_load() {
    for conversion in [
        "(func (param externref) (drop (any.convert_extern (local.get 0))))",
        "(func (param externref) (result externref) (extern.convert_any (any.convert_extern (local.get 0))))",
        "(func (param externref) (drop (ref.test (ref i31) (any.convert_extern (local.get 0)))))",
        "(func (param externref externref) (result i32)
           (ref.eq (ref.cast eqref (any.convert_extern (local.get 0)))
                   (ref.cast eqref (any.convert_extern (local.get 1)))))",
        "(func (param externref) (result (ref extern)) (ref.as_non_null (local.get 0)))",
    ] {
        let refusals = refusals(&assemble(&module(conversion)));
        assert!(
            matches!(refusals[..], [Refusal::GcProposal { .. }]),
            "{conversion}: {refusals:?}"
        );
    }
}

#[test]
fn other_proposals_are_refused_by_their_place() {
    for (feature, expected) in [
        ("(memory i64 1)", "memory64"),
        ("(table i64 1 funcref)", "memory64"),
        ("(memory 1) (memory 1)", "multiple memories"),
        ("(memory 1 2 shared)", "threads"),
        (
            "(memory 1) (func (drop (i32.atomic.load (i32.const 0))))",
            "threads",
        ),
        ("(tag (param i32))", "exceptions"),
        (
            "(func (param i64 i64 i64 i64) (result i64 i64)
            (i64.add128 (local.get 0) (local.get 1) (local.get 2) (local.get 3)))",
            "wide arithmetic",
        ),
    ] {
        let refusals = refusals(&assemble(&module(feature)));
        let [Refusal::Proposal { offset, message }] = &refusals[..] else {
            panic!("{feature}: {refusals:?}");
        };
        assert!(*offset > 0 && message.contains(expected), "{feature}: {message}");
    }
}

#[test]
fn what_stable_compilers_produce_is_accepted() {
    for accepted in [
        "",
        "(memory (export \"memory\") 1) (func (memory.fill (i32.const 0) (i32.const 1) (i32.const 2)))",
        "(table 1 externref) (global (mut externref) (ref.null extern)) (func (param externref) (result externref)
           (local.get 0))",
        "(table (export \"__indirect_function_table\") 1 funcref)",
        "(func $f (result i32 i64) (return_call $f))",
        "(func (result v128) (i32x4.splat (i32.const 1)))",
        "(func (param f32) (result i32) (i32.trunc_sat_f32_s (i32.extend8_s (i32.const 1)) drop (local.get 0)))",
        "(global i32 (i32.add (i32.const 1) (i32.const 2)))",
    ] {
        assert_eq!(reasons(&module(accepted)), [] as [&str; 0], "{accepted}");
    }
}

#[test]
fn what_is_not_a_module_is_named() {
    for bytes in [
        &b""[..],
        b"\0",
        b"\0as",
        b"MZ\x90\0",
        b"#!/bin/sh\n",
        b"(module)",
        b"\x7fELF",
    ] {
        assert_eq!(refusals(bytes), [Refusal::NotWasm], "{bytes:?}");
    }
    assert_eq!(refusals(&assemble("(component)")), [Refusal::Component]);
    let whole = assemble(&puppet_source());
    for bytes in [
        &b"\0asm"[..],
        b"\0asm\x02\0\0\0",
        &whole[..whole.len() - 1],
        b"\0asm\x01\0\0\0\xff",
    ] {
        let refusals = refusals(bytes);
        assert!(
            matches!(refusals[..], [Refusal::Malformed { .. }]),
            "{refusals:?}"
        );
    }
    let ill_typed = assemble("(module (func (result i32) (i64.const 0)))");
    let [Refusal::Malformed { offset, message }] = &refusals(&ill_typed)[..] else {
        panic!("it is not valid");
    };
    assert!(
        *offset < ill_typed.len() && message.contains("type mismatch"),
        "{message}"
    );
}

#[test]
fn a_module_that_is_too_large_is_not_looked_at() {
    let mut bytes = vec![0; MAX_MODULE_BYTES + 1];
    assert_eq!(
        refusals(&bytes),
        [Refusal::TooLarge {
            bytes: MAX_MODULE_BYTES + 1
        }]
    );
    bytes.pop();
    assert_eq!(refusals(&bytes), [Refusal::NotWasm]);
}

#[test]
fn imports_that_nobody_provides_are_refused_with_a_hint() {
    for (import, hint) in [
        (
            "\"refcap_v1\" \"net_conect\" (func",
            "this version has no such function",
        ),
        (
            "\"refcap_v1\" \"NET_CONNECT\" (func",
            "this version has no such function",
        ),
        ("\"refcap_v1\" \"\" (func", "this version has no such function"),
        (
            "\"refcap_v2\" \"net_connect\" (func",
            "this version provides `refcap_v1`",
        ),
        (
            "\"refcap\" \"net_connect\" (func",
            "this version provides `refcap_v1`",
        ),
        (
            "\"wasi_snapshot_preview1\" \"fd_open\" (func",
            "preview 1 has no such function",
        ),
        (
            "\"wasi_unstable\" \"fd_write\" (func",
            "only functions of `refcap_v1` and `wasi_snapshot_preview1`",
        ),
        (
            "\"env\" \"system\" (func",
            "only functions of `refcap_v1` and `wasi_snapshot_preview1`",
        ),
        // Nothing but functions is provided, also under a function's name.
        ("\"env\" \"memory\" (memory 1", "only functions"),
        ("\"env\" \"t\" (table 1 externref", "only functions"),
        ("\"env\" \"g\" (global i32", "only functions"),
        ("\"refcap_v1\" \"net_connect\" (memory 1", "no such function"),
        (
            "\"refcap_v1\" \"net_connect\" (table 1 externref",
            "no such function",
        ),
        (
            "\"refcap_v1\" \"net_connect\" (global externref",
            "no such function",
        ),
        (
            "\"wasi_snapshot_preview1\" \"fd_write\" (table 1 funcref",
            "no such function",
        ),
    ] {
        let bytes = assemble(&format!("(module (import {import})))"));
        let refusals = refusals(&bytes);
        let [Refusal::UnknownImport { .. }] = &refusals[..] else {
            panic!("{import}: {refusals:?}");
        };
        let message = refusals[0].to_string();
        assert!(message.contains(hint), "{import}: {message}");
        assert_eq!(inspect(&bytes).imports[0].provider, None);
    }
}

#[test]
fn imports_of_another_type_are_refused_with_the_right_one() {
    let expected = "(externref, i32, i32, i32) -> (externref, i32)";
    for ty in [
        "",
        "(param i32 i32 i32 i32) (result externref i32)",
        "(param funcref i32 i32 i32) (result externref i32)",
        "(param externref i32 i32) (result externref i32)",
        "(param externref i32 i32 i32 i32) (result externref i32)",
        "(param externref i32 i32 i64) (result externref i32)",
        "(param externref i32 i32 i32) (result i32 externref)",
        "(param externref i32 i32 i32) (result i32)",
        "(param externref i32 i32 i32)",
    ] {
        let wat = format!("(module (import \"refcap_v1\" \"net_connect\" (func {ty})))");
        let refusals = refusals(&assemble(&wat));
        assert_eq!(
            refusals,
            [Refusal::WrongImportType {
                name: "net_connect".to_owned(),
                expected: expected.to_owned()
            }],
            "{ty}"
        );
        assert!(refusals[0].to_string().contains(expected));
    }
    let right = "(module (import \"refcap_v1\" \"net_connect\"
      (func (param externref i32 i32 i32) (result externref i32))))";
    let inspection = inspect(&assemble(right));
    assert_eq!(inspection.refusals, []);
    assert_eq!(inspection.imports[0].provider, Some(Provider::Refcap));
}

#[test]
fn sockets_by_number_are_refused() {
    for name in [
        "sock_accept",
        "sock_recv",
        "sock_send",
        "sock_shutdown",
        "sock_open",
        "sock_connect",
    ] {
        let wat = format!(
            "(module (import \"wasi_snapshot_preview1\" \"{name}\" (func (param i32) (result i32))))"
        );
        let refusals = refusals(&assemble(&wat));
        assert_eq!(
            refusals,
            [Refusal::WasiSockets {
                name: name.to_owned()
            }]
        );
        assert!(
            refusals[0].to_string().contains("use a Net instead"),
            "{}",
            refusals[0]
        );
    }
}

#[test]
fn references_do_not_leave_through_exports() {
    let table = "(table (export \"open\") 1 externref)";
    assert_eq!(
        refusals(&assemble(&module(table))),
        [Refusal::ExportedTable {
            name: "open".to_owned()
        }]
    );
    for global in [
        "(global (export \"held\") (mut externref) (ref.null extern))",
        "(global (export \"held\") externref (ref.null extern))",
        "(global $g externref (ref.null extern)) (export \"held\" (global $g))",
    ] {
        let refusals = refusals(&assemble(&module(global)));
        assert_eq!(
            refusals,
            [Refusal::ExportedGlobal {
                name: "held".to_owned()
            }],
            "{global}"
        );
    }
    // Under two names, each is a reason.
    let twice = "(table (export \"a\") (export \"b\") 1 externref)";
    assert_eq!(refusals(&assemble(&module(twice))).len(), 2);
}

#[test]
fn exports_that_the_host_calls_have_one_type() {
    for (name, expected, others) in [
        (
            "refcap_grant",
            "(externref) -> (i32)",
            &[
                "(func (export \"refcap_grant\"))",
                "(func (export \"refcap_grant\") (param i32) (result i32) (local.get 0))",
                "(func (export \"refcap_grant\") (param externref))",
                "(func (export \"refcap_grant\") (param externref externref) (result i32) (i32.const 0))",
                "(memory (export \"refcap_grant\") 1)",
            ][..],
        ),
        (
            "_start",
            "() -> ()",
            &[
                "(func (export \"_start\") (param i32))",
                "(func (export \"_start\") (result i32) (i32.const 0))",
                "(global (export \"_start\") i32 (i32.const 0))",
            ],
        ),
        (
            "refcap_start",
            "() -> (i32)",
            &[
                "(func (export \"refcap_start\"))",
                "(func (export \"refcap_start\") (param i32) (result i32) (local.get 0))",
                "(func (export \"refcap_start\") (result i64) (i64.const 0))",
                "(func (export \"refcap_start\") (result i32 i32) (i32.const 0) (i32.const 0))",
                "(table (export \"refcap_start\") 1 funcref)",
            ],
        ),
    ] {
        for other in others {
            let bytes = assemble(&module(other));
            assert_eq!(
                refusals(&bytes),
                [Refusal::WrongExportType { name, expected }],
                "{other}"
            );
            assert_eq!(inspect(&bytes).entry, None);
        }
    }
}

#[test]
fn the_entry_point_of_a_command_comes_first() {
    let start = "(func (export \"refcap_start\") (result i32) (i32.const 0))";
    let command = "(func (export \"_start\"))";
    for (exports, entry) in [
        (String::new(), None),
        (start.to_owned(), Some(Entry::Start)),
        (command.to_owned(), Some(Entry::Command)),
        (format!("{start} {command}"), Some(Entry::Command)),
        (format!("{command} {start}"), Some(Entry::Command)),
    ] {
        let inspection = inspect(&assemble(&module(&exports)));
        assert_eq!(
            (inspection.entry, inspection.refusals),
            (entry, vec![]),
            "{exports}"
        );
    }
}

const GRANT: &str = "(func (export \"refcap_grant\") (param externref) (result i32) (i32.const 0))";

#[test]
fn endowments_need_an_export_that_takes_them() {
    let asks = "(@custom \"refcap.endowments\" \"net Net required\\nlog Net optional\\n\")";
    assert_eq!(refusals(&assemble(&module(asks))), [Refusal::NoGrantExport]);
    let bytes = assemble(&module(&format!("{asks} {GRANT}")));
    assert_eq!(refusals(&bytes), []);
    let program = Program::load(engine(), &bytes).unwrap();
    let names: Vec<_> = program
        .endowments()
        .iter()
        .map(|endowment| &endowment.name)
        .collect();
    assert_eq!(names, ["net", "log"]);
    // To ask for nothing, or to be ready for nothing, is fine.
    assert_eq!(
        refusals(&assemble(&module("(@custom \"refcap.endowments\" \"\")"))),
        []
    );
    assert_eq!(refusals(&assemble(&module(GRANT))), []);
}

#[test]
fn an_endowment_section_that_cannot_be_read_is_refused() {
    for (section, expected) in [
        ("\\ff", "is not UTF-8"),
        ("net Net required", "line 1 of the endowment section is not"),
        (
            "net Net required\\nlog\\n",
            "line 2 of the endowment section is not",
        ),
        ("net Net required\\r\\n", "line 1 of the endowment section is not"),
        ("n\\00t Net required\\n", "ASCII letters"),
        ("net Everything required\\n", "the unknown kind `Everything`"),
        ("net Net required\\nnet Net required\\n", "asks for `net` again"),
    ] {
        let reasons = reasons(&module(&format!(
            "(@custom \"refcap.endowments\" \"{section}\") {GRANT}"
        )));
        assert!(
            matches!(&reasons[..], [reason] if reason.contains(expected)),
            "{section}: {reasons:?}"
        );
    }
    let many: String = (0..65).map(|n| format!("n{n} Net required\\n")).collect();
    let reasons = reasons(&module(&format!(
        "(@custom \"refcap.endowments\" \"{many}\") {GRANT}"
    )));
    assert_eq!(reasons, ["the program asks for more than 64 endowments"]);
}

#[test]
fn two_endowment_sections_are_refused() {
    let asks = "(@custom \"refcap.endowments\" \"net Net required\\n\")";
    let again = "(@custom \"refcap.endowments\" \"log Net optional\\n\")";
    for both in [
        format!("{asks} {again} {GRANT}"),
        format!("{asks} {asks} {GRANT}"),
    ] {
        assert_eq!(
            refusals(&assemble(&module(&both))),
            [Refusal::TwoEndowmentSections]
        );
    }
}

#[test]
fn all_reasons_are_said_at_once() {
    let wat = r#"(module
      (@custom "refcap.endowments" "net Net required\n")
      (import "env" "one" (func))
      (import "refcap_v1" "net_connect" (func))
      (import "refcap_v1" "cap_close" (func (param externref) (result i32)))
      (import "wasi_snapshot_preview1" "sock_accept" (func))
      (table (export "table") 1 externref)
      (global (export "global") externref (ref.null extern))
      (func (export "_start") (result i32) (i32.const 0)))"#;
    let refusals = refusals(&assemble(wat));
    assert!(
        matches!(
            refusals[..],
            [
                Refusal::UnknownImport { .. },
                Refusal::WrongImportType { .. },
                Refusal::WasiSockets { .. },
                Refusal::ExportedTable { .. },
                Refusal::ExportedGlobal { .. },
                Refusal::WrongExportType { .. },
                Refusal::NoGrantExport,
            ]
        ),
        "{refusals:?}"
    );
    let all = LoadError::Refused(refusals.clone()).to_string();
    for refusal in &refusals {
        assert!(all.contains(&refusal.to_string()), "{all}");
    }
}

#[test]
fn a_bad_endowment_section_hides_no_other_reason() {
    for place in [
        "(@custom \"refcap.endowments\" (before first) \"x\")",
        "(@custom \"refcap.endowments\" \"x\")",
    ] {
        let refusals = refusals(&assemble(&module(&format!(
            "(import \"env\" \"f\" (func)) {place} (table (export \"t\") 1 externref)"
        ))));
        assert_eq!(refusals.len(), 3, "{place}: {refusals:?}");
    }
}

/// A reproducible source of numbers (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }
}

#[test]
fn random_bytes_never_panic_the_gate() {
    let mut numbers = Numbers(1);
    for round in 0..20_000 {
        let length = numbers.below(200);
        let mut bytes: Vec<u8> = (0..length).map(|_| numbers.next().to_le_bytes()[0]).collect();
        // Most of them get past the first look, and many into a section.
        if round % 4 > 0 {
            bytes.splice(..0, *b"\0asm\x01\0\0\0");
        }
        if round % 4 > 1 && bytes.len() > 9 {
            bytes[8] %= 13;
            bytes[9] = u8::try_from(bytes.len() - 10).unwrap().min(127);
        }
        inspect(&bytes);
    }
}

#[test]
fn mutated_modules_never_panic_the_gate_or_the_engine() {
    let whole = assemble(&puppet_source());
    let mut numbers = Numbers(2);
    let (mut accepted, mut loaded) = (0, 0);
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        for mask in [1, 0x80, 0xff, 1 << numbers.below(8)] {
            bytes[at] = whole[at] ^ mask;
            if !inspect(&bytes).refusals.is_empty() {
                continue;
            }
            accepted += 1;
            // Compiling takes its time: a part of them will do.
            if accepted % 16 == 0 {
                match Program::load(engine(), &bytes) {
                    Ok(_) => loaded += 1,
                    Err(LoadError::Compile(_)) => {}
                    Err(other) => panic!("{at:#x} ^ {mask:#x}: the gate changed its mind: {other}"),
                }
            }
        }
    }
    // Bytes that are cut off, doubled or moved change more than one thing at once.
    for _ in 0..2_000 {
        let mut bytes = whole.clone();
        let (from, to) = (numbers.below(whole.len()), numbers.below(whole.len()));
        let (from, to) = (from.min(to), from.max(to));
        match numbers.below(3) {
            0 => bytes.truncate(from),
            1 => drop(bytes.drain(from..to)),
            _ => bytes
                .splice(to..to, whole[from..to].iter().copied())
                .for_each(drop),
        }
        inspect(&bytes);
    }
    // The test tests something.
    assert!(
        accepted > 500 && loaded > 30,
        "{accepted} accepted, {loaded} loaded"
    );
}

#[test]
fn a_wasi_function_of_another_type_does_not_load() {
    let wat = r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32))))"#;
    let error = Program::load(engine(), &assemble(wat)).unwrap_err();
    assert!(error.to_string().contains("fd_write"), "{error}");
}
