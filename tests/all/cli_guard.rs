//! `refcap run --guard`, and `refcap inspect` of guards.

use crate::guards::says;
use crate::support::commands::{Outcome, Scratch, guest, refcap};
use crate::support::servers::nobody;

/// Fetches from where nobody is, with these options besides.
fn fetch(options: &[&str]) -> Outcome {
    let (fetch, nobody) = (guest("release", "fetch"), nobody());
    let (grant, url) = (format!("net=connect tcp {nobody}"), format!("http://{nobody}/"));
    let mut arguments = vec!["run", fetch.to_str().unwrap(), "--grant", &grant];
    arguments.extend(options);
    arguments.extend(["--", &url]);
    refcap(arguments)
}

#[test]
fn a_guard_stands_before_a_grant() {
    let scratch = Scratch::new("guard");
    let yes = format!("net={}", scratch.file("yes.wasm", says("(i32.const 1)")));
    let no = format!("net={}", scratch.file("never.wasm", says("(i32.const 0)")));
    fetch(&["--guard", &yes]).ends_with(1).says(&["refused"]);
    fetch(&["--guard", &no])
        .ends_with(1)
        .says(&["the guard `never` said no to connect tcp 127.0.0.1:"]);
    // All of several must say yes, in whatever order they are given.
    for guards in [[&yes, &no], [&no, &yes]] {
        fetch(&["--guard", guards[0], "--guard", guards[1]])
            .ends_with(1)
            .says(&["the guard `never` said no"]);
    }
    let log = scratch.path("log.jsonl");
    fetch(&["--guard", &no, "--audit", &log]).ends_with(1);
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains(r#""event":"guard""#), "{log}");
    assert!(log.contains("the guard `never` said no"), "{log}");
}

#[test]
fn a_guard_in_text_form_is_assembled() {
    let scratch = Scratch::new("guard_wat");
    let text = r#"(module (memory (export "memory") 1)
        (global (export "refcap_guard_record") i32 (i32.const 0))
        (func (export "refcap_guard_check") (result i32) (i32.const 7)))"#;
    let guard = format!("net={}", scratch.file("odd.wat", text));
    fetch(&["--guard", &guard])
        .ends_with(1)
        .says(&["the guard `odd` answered 7 to connect tcp"]);
}

#[test]
fn what_is_wrong_with_a_guard_is_said_with_a_code_of_its_own() {
    let scratch = Scratch::new("guard_wrong");
    let imports = wat::parse_str(r#"(module (import "env" "f" (func)))"#).unwrap();
    let files = [
        (scratch.path("missing.wasm"), 202, "cannot read"),
        (
            scratch.file("text.wasm", "no module"),
            203,
            "not a WebAssembly file",
        ),
        (
            scratch.file("component.wasm", b"\0asm\x0d\0\x01\0"),
            204,
            "component",
        ),
        (
            scratch.file("imports.wasm", imports),
            205,
            "imports `f` from `env`",
        ),
        (
            scratch.file("empty.wasm", b"\0asm\x01\0\0\0"),
            207,
            "must export `memory`",
        ),
    ];
    for (file, code, why) in files {
        let guard = format!("net={file}");
        fetch(&["--guard", &guard])
            .ends_with(code)
            .says(&["refcap: ", &file, why]);
    }
    fetch(&["--guard", "net"])
        .ends_with(200)
        .says(&["--guard net is not NAME=FILE"]);
    fetch(&["--guard", "web=guard.wasm"])
        .ends_with(200)
        .says(&["nothing is granted as `web`"]);
}

#[test]
fn inspect_knows_a_guard() {
    let scratch = Scratch::new("guard_inspect");
    let good = scratch.file("good.wasm", says("(i32.const 1)"));
    refcap(["inspect", &good]).ends_with(0).shows(&[
        "A guard: ",
        "--guard NAME=FILE",
        "Guard gate:\n  accepts it\n",
    ]);
    let bad = wat::parse_str(
        r#"(module (import "env" "f" (func)) (func (export "refcap_guard_check") (result i32) (i32.const 1)))"#,
    );
    let bad = scratch.file("bad.wasm", bad.unwrap());
    refcap(["inspect", &bad])
        .ends_with(205)
        .shows(&["A guard: ", "Guard gate:\n  the guard imports `f` from `env`"]);
}
