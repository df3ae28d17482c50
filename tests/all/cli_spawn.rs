//! `refcap run --spawn`: what a program may start by itself.

use crate::support::commands::{Outcome, Scratch, refcap};

/// Starts `plugin`, hands it its spawner if it takes one, waits for it, and exits with its code; or with the code of what
/// was refused.
const HOST: &str = r#"(module
  (@custom "refcap.endowments" "starter Spawner required\n")
  (import "refcap_v1" "spawner_program" (func $program (param externref i32 i32) (result externref i32)))
  (import "refcap_v1" "child_limit" (func $limit (param externref i32 i32 i32) (result i32)))
  (import "refcap_v1" "child_grant" (func $grant (param externref externref i32 i32) (result i32)))
  (import "refcap_v1" "child_start" (func $start (param externref) (result i32)))
  (import "refcap_v1" "child_wait" (func $wait (param externref i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "pluginstarter")
  (global $starter (mut externref) (ref.null extern))
  (func (export "refcap_grant") (param externref) (result i32)
    (global.set $starter (local.get 0))
    (i32.const 0))
  (func (export "refcap_start") (result i32) (local $child externref) (local $status i32)
    (call $program (global.get $starter) (i32.const 16) (i32.const 6))
    (local.set $status) (local.set $child)
    (if (i32.lt_s (local.get $status) (i32.const 0)) (then (return (i32.sub (i32.const 0) (local.get $status)))))
    (drop (call $limit (local.get $child) (i32.const 2) (i32.const 10) (i32.const 0)))
    (drop (call $grant (local.get $child) (global.get $starter) (i32.const 22) (i32.const 7)))
    (local.set $status (call $start (local.get $child)))
    (if (i32.lt_s (local.get $status) (i32.const 0)) (then (return (i32.sub (i32.const 0) (local.get $status)))))
    (drop (call $wait (local.get $child) (i32.const 512) (i32.const 16) (i32.const 0)))
    (i32.load (i32.const 513))))"#;

const PLUGIN: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\0e\00\00\00") (data (i32.const 16) "I am a plug-in")
  (func (export "refcap_start") (result i32)
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (i32.const 7)))"#;

/// Runs the host with the plug-in as `plugin.wat`, and with these arguments, in which `@` stands for its folder.
#[track_caller]
fn run(test: &str, arguments: &[&str]) -> Outcome {
    let scratch = Scratch::new(test);
    let host = scratch.file("host.wat", HOST);
    let plugin = scratch.file("plugin.wat", PLUGIN);
    scratch.file("bad.wat", r#"(module (table (export "t") 1 externref))"#);
    let folder = plugin.strip_suffix("plugin.wat").unwrap();
    let arguments = arguments.iter().map(|argument| argument.replace('@', folder));
    let all: Vec<String> = ["run".to_owned(), host].into_iter().chain(arguments).collect();
    refcap(&all)
}

#[test]
fn a_program_starts_those_that_are_named() {
    let shown = run("spawn", &["--spawn", "plugin=@plugin.wat"]).ends_with(7);
    assert_eq!(shown.text(), "I am a plug-in");
    // The host itself, as the plug-in of the host: allowed to that depth, and refused one further.
    let itself = ["--spawn", "plugin=@host.wat", "--max-memory=40"];
    let limit = refcap::ErrorCode::LimitReached.code();
    run("spawn-depth", &itself).ends_with(limit);
    let unknown = run("spawn-unknown", &["--spawn", "plug=@plugin.wat"]);
    unknown.ends_with(refcap::ErrorCode::NotFound.code());
    run(
        "spawn-none",
        &["--spawn", "plugin=@plugin.wat", "--max-children", "0"],
    )
    .ends_with(limit);
    let small = ["--spawn", "plugin=@plugin.wat", "--max-memory", "10"];
    run("spawn-small", &small).ends_with(limit);
}

#[test]
fn what_is_not_right_says_what_would_be() {
    for (name, arguments, code, says) in [
        (
            "form",
            &["--spawn", "plugin.wasm"][..],
            200,
            "--spawn plugin.wasm is not NAME=FILE, such as",
        ),
        (
            "twice",
            &["--spawn", "plugin=@plugin.wat", "--spawn", "plugin=@plugin.wat"],
            200,
            "--spawn names `plugin` twice",
        ),
        (
            "name",
            &["--spawn", "a plugin=@plugin.wat"],
            200,
            "`a plugin` can't be the name of a program",
        ),
        ("file", &["--spawn", "plugin=@none.wasm"], 202, "none.wasm"),
        (
            "gate",
            &["--spawn", "plugin=@bad.wat"],
            207,
            "--spawn plugin: the export `t` is a table",
        ),
        (
            "children",
            &["--max-children", "3"],
            200,
            "--max-children is of no use without --spawn NAME=FILE",
        ),
        (
            "depth",
            &["--spawn-depth", "3"],
            200,
            "--spawn-depth is of no use without",
        ),
        ("missing", &[], 208, "grant it with: --spawn NAME=FILE"),
    ] {
        run(&format!("spawn-{name}"), arguments)
            .ends_with(code)
            .says(&[says]);
    }
    let scratch = Scratch::new("spawn-unasked");
    let plugin = scratch.file("plugin.wat", PLUGIN);
    let spawn = format!("plugin={plugin}");
    let unasked = refcap(["run", &plugin, "--spawn", &spawn]).ends_with(209);
    unasked.says(&["the program does not ask for a Spawner"]);
}
