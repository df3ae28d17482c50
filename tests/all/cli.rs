//! The `refcap` command: what it says of each bad input, and with which code it exits.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::commands::{self, Outcome, Scratch, guest, refcap, refcap_command};
use crate::support::servers;

/// Runs a module in text form with more arguments.
#[track_caller]
fn run(test: &str, wat: &str, arguments: &[&str]) -> Outcome {
    let scratch = Scratch::new(test);
    let module = scratch.file("guest.wat", wat);
    refcap(["run", &module].iter().chain(arguments))
}

const NOTHING: &str = r#"(module (func (export "_start")))"#;

/// Asks for a network, and does nothing with it.
const ASKS: &str = r#"(module
  (@custom "refcap.endowments" "net Net required\nlog Net optional\n")
  (func (export "refcap_grant") (param externref) (result i32) (i32.const 1))
  (func (export "refcap_start") (result i32) (i32.const 0)))"#;

/// Writes what WASI gives it of one kind, `args` or `environ`, each ended by a zero.
fn lists(what: &str) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "{what}_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "{what}_get" (func $get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (if (call $sizes (i32.const 0) (i32.const 12)) (then (unreachable)))
    (if (call $get (i32.const 1024) (i32.const 8192)) (then (unreachable)))
    (i32.store (i32.const 8) (i32.const 8192))
    (if (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)) (then (unreachable)))))"#
    )
}

/// Ends with the number that a part of it computes.
fn exits_with(imports: &str, code: &str) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  {imports}
  (memory (export "memory") 1)
  (data (i32.const 0) "etc/passwd")
  (func (export "_start") (call $exit {code})))"#
    )
}

#[test]
fn files_that_are_not_modules_are_named() {
    let scratch = Scratch::new("not_modules");
    let script = scratch.file("script.wasm", "#!/bin/sh\n");
    let empty = scratch.file("empty.wasm", "");
    let text = scratch.file("broken.wat", "(module (func)");
    let component = scratch.file("component.wat", "(component)");
    let cut_short = scratch.file("short.wasm", b"\0asm\x01\0\0");
    for command in ["run", "inspect"] {
        let refuses = |path: &str, code, message| {
            let outcome = refcap([command, path]).ends_with(code);
            let everything = format!("{}{}", outcome.text(), outcome.errors);
            assert!(everything.contains(message), "{everything}");
        };
        refuses(&script, 203, "this is not a WebAssembly file");
        refuses(&empty, 203, "this is not a WebAssembly file");
        refuses(&text, 203, "cannot assemble");
        refuses(
            &component,
            204,
            "this is a component, and refcap runs core modules",
        );
        refuses(&cut_short, 207, "the module is not valid at byte");
        refuses(&scratch.path("nothing.wasm"), 202, "nothing.wasm: ");
        refuses(&scratch.path(""), 202, "cannot read");
    }
    // The place in the text is shown.
    refcap(["run", &text]).says(&["broken.wat:1:", "^"]);
}

#[test]
fn modules_that_the_gate_refuses_are_refused_with_the_reason() {
    for (wat, code, message) in [
        (
            r#"(module (import "env" "system" (func)))"#,
            205,
            "the import `system` from `env` is unknown",
        ),
        (
            r#"(module (import "refcap_v1" "net_conect" (func)))"#,
            205,
            "this version has no such function",
        ),
        (
            r#"(module (import "refcap_v2" "net_only" (func)))"#,
            205,
            "this version provides `refcap_v1`",
        ),
        (
            r#"(module (import "refcap_v1" "cap_close" (func (param i32) (result i32))))"#,
            205,
            "the import `cap_close` from `refcap_v1` must have the type (externref) -> (i32)",
        ),
        (
            r#"(module (import "wasi_snapshot_preview1" "sock_accept" (func (param i32 i32 i32) (result i32))))"#,
            205,
            "the import `sock_accept` from `wasi_snapshot_preview1` acts on sockets by number; use a Net instead",
        ),
        (
            "(module (func (result externref) (extern.convert_any (ref.i31 (i32.const 1)))))",
            206,
            "the module uses the GC proposal at byte",
        ),
        ("(module (memory i64 1))", 207, "a feature that is switched off"),
        (
            r#"(module (table (export "t") 1 externref))"#,
            207,
            "the export `t` is a table of references",
        ),
        (
            r#"(module (@custom "refcap.endowments" "net Net required\n"))"#,
            207,
            "the module asks for endowments but has no export `refcap_grant`",
        ),
    ] {
        let outcome = run("refused", wat, &[])
            .ends_with(code)
            .says(&["refcap: ", message]);
        assert_eq!(outcome.text(), "");
        let scratch = Scratch::new("refused_inspect");
        let module = scratch.file("guest.wat", wat);
        refcap(["inspect", &module])
            .ends_with(code)
            .shows(&["Load gate:\n  ", message]);
    }
}

// The kind was not filled up to its column.
#[test]
fn inspect_shows_what_a_program_asks_for_in_columns() {
    let scratch = Scratch::new("inspect");
    let asks = scratch.file("asks.wat", ASKS);
    let shown = refcap(["inspect", &asks]).ends_with(0);
    assert_eq!(shown.errors, "");
    shown.shows(&[
        "net              Net        required\n",
        "log              Net        optional\n",
        "Host imports:\n  none\n",
        "Entry point:\n  refcap_start\n",
        "Load gate:\n  accepts it\n",
    ]);
    let module = scratch.file("module.wat", "(module)");
    let shown = refcap(["inspect", &module]).ends_with(0);
    shown.shows(&[
        "none: the program asks for nothing",
        "none: it can be loaded, but",
    ]);
    let two = scratch.file(
        "two.wat",
        r#"(module (import "env" "f" (func)) (table (export "t") 1 externref))"#,
    );
    let shown = refcap(["inspect", &two]).ends_with(205);
    shown.shows(&[
        "REFUSED  env::f",
        "the import `f` from `env` is unknown",
        "the export `t` is a table",
    ]);
}

#[test]
fn inspect_lists_the_imports_of_a_real_program() {
    let fetch = guest("release", "fetch");
    let shown = refcap(["inspect".as_ref(), fetch.as_os_str()])
        .ends_with(0)
        .shows(&[
            "net              Net        required\n",
            "refcap   refcap_v1::net_connect\n",
            "WASI     wasi_snapshot_preview1::fd_write\n",
            "Entry point:\n  _start\n",
            "accepts it",
        ]);
    // What it does not use, it can't do.
    assert!(!shown.text().contains("revoker_revoke"), "{}", shown.text());
    assert!(!shown.text().contains("sock_"), "{}", shown.text());
}

#[test]
fn an_endowment_that_is_missing_is_named_with_how_to_grant_it() {
    for arguments in [&[][..], &["--grant", "log=connect tcp 127.0.0.1:1"]] {
        let outcome = run("missing", ASKS, arguments).ends_with(208);
        let outcome = outcome.says(&["the program needs `net` (a Net)", "grant it with: --grant net='"]);
        assert!(
            !outcome.errors.contains("log"),
            "an optional one is not needed: {}",
            outcome.errors
        );
    }
    run("missing", ASKS, &["--grant", "net=connect tcp 127.0.0.1:1"]).ends_with(0);
    // To be granted nothing is something else than not to be granted.
    run("missing", ASKS, &["--grant", "net="]).ends_with(0);
}

#[test]
fn a_grant_that_the_program_does_not_ask_for_is_refused() {
    let grant = ["--grant", "nte=connect tcp 127.0.0.1:1"];
    run("unknown_grant", ASKS, &grant)
        .ends_with(209)
        .says(&["the program does not ask for `nte`; it asks for `net` (a Net), `log` (a Net)"]);
    run("unknown_grant", NOTHING, &grant)
        .ends_with(209)
        .says(&["it asks for nothing"]);
}

#[test]
fn a_grant_that_is_given_twice_is_refused() {
    let twice = [
        "--grant",
        "net=connect tcp 127.0.0.1:1",
        "--grant",
        "net=connect tcp 127.0.0.1:2",
    ];
    run("twice", ASKS, &twice)
        .ends_with(209)
        .says(&["`net` was granted twice"]);
}

#[test]
fn rules_that_are_malformed_are_shown_with_the_place() {
    let outcome = run("malformed", ASKS, &["--grant", "net=connect tpc 10.0.0.1:443"]).ends_with(201);
    outcome.says(&[
        "the rules for `net` are malformed:\n",
        "1 | connect tpc 10.0.0.1:443\n",
        "  |         ^^^ ",
        "tcp",
    ]);
    let rules = "net=connect tcp 10.0.0.1:443\nconnect tcp 10.0.0.1:99999";
    run("malformed", ASKS, &["--grant", rules])
        .ends_with(201)
        .says(&["2 | connect tcp 10.0.0.1:99999\n", "^"]);
    for rules in [
        "connect tcp",
        "connect tcp 010.0.0.1:1",
        "connect tcp 10.0.0.1/8:1",
        "allow everything",
        "\u{e9}",
    ] {
        run("malformed", ASKS, &["--grant", &format!("net={rules}")])
            .ends_with(201)
            .says(&["1 | ", "^"]);
    }
}

#[test]
fn terms_that_are_malformed_are_shown_with_the_place() {
    for (terms, mark) in [
        ("limit sockets many", "^^^^ expected a number"),
        ("limit lease 0s", "^^ expected a lease"),
        ("no fun", "^^^ expected derive or hand-over"),
        ("names to a.example", "^^^^^^^^^ expected addresses"),
    ] {
        run(
            "terms",
            ASKS,
            &["--grant", &format!("net=connect tcp 10.0.0.1:443; {terms}")],
        )
        .ends_with(201)
        .says(&["the rules for `net` are malformed:\n", mark]);
    }
}

#[test]
fn a_server_for_names_is_an_address_and_a_port() {
    for server in ["127.0.0.1", "dns.example:53", "53"] {
        run("dns", ASKS, &["--grant", "net=", "--dns", server])
            .ends_with(200)
            .says(&["--dns <ADDRESS:PORT>", server]);
    }
}

#[test]
fn rules_come_from_a_file_too() {
    let scratch = Scratch::new("rules_file");
    let module = scratch.file("guest.wat", ASKS);
    let good = scratch.file("good.rules", "connect tcp 127.0.0.1:1\nconnect tcp 127.0.0.1:2\n");
    let bad = scratch.file("bad.rules", "connect tcp 127.0.0.1:1\nconnect tcp 127.0.0.1\n");
    let binary = scratch.file("binary.rules", b"\xff\xfe");
    let run = |path: &str| refcap(["run", &module, "--grant", &format!("net=@{path}")]);
    run(&good).ends_with(0);
    run(&bad)
        .ends_with(201)
        .says(&["the rules for `net`", "2 | connect tcp 127.0.0.1\n", "^"]);
    run(&binary)
        .ends_with(202)
        .says(&["cannot read the rules for net in ", "binary.rules"]);
    run(&scratch.path("none.rules"))
        .ends_with(202)
        .says(&["cannot read the rules for net in ", "none.rules: "]);
    let check = |path: &str| refcap(["check", &format!("@{path}"), "connect", "tcp", "127.0.0.1:2"]);
    check(&good)
        .ends_with(0)
        .shows(&["is allowed by \"connect tcp 127.0.0.1:2\""]);
    check(&bad).ends_with(201).says(&["2 | "]);
    check(&scratch.path("none.rules"))
        .ends_with(202)
        .says(&["none.rules: "]);
}

#[test]
fn a_command_line_that_is_not_right_is_explained() {
    run("usage", ASKS, &["--grant", "net"])
        .ends_with(200)
        .says(&["--grant net is not NAME=RULES, such as net='"]);
    for variable in ["LOG", "=1", ""] {
        run("usage", NOTHING, &["--env", variable])
            .ends_with(200)
            .says(&["is not NAME=VALUE"]);
    }
    run("usage", NOTHING, &["--timeout", "soon"])
        .ends_with(200)
        .says(&["'soon' for '--timeout"]);
    run("usage", NOTHING, &["--timeout", "-1s"]).ends_with(200);
    run("usage", NOTHING, &["--max-memory", "lots"])
        .ends_with(200)
        .says(&["'lots' for '--max-memory"]);
    run("usage", NOTHING, &["--audit-reads"])
        .ends_with(200)
        .says(&["--audit"]);
    run("usage", NOTHING, &["--references", "magic"])
        .ends_with(200)
        .says(&["'magic' for '--references", "fast, ordinary, compared"]);
    run("usage", NOTHING, &["--dir", "/"])
        .ends_with(200)
        .says(&["unexpected argument '--dir'"]);
    for arguments in [
        &[][..],
        &["run"],
        &["inspect"],
        &["check"],
        &["check", ""],
        &["fly"],
    ] {
        refcap(arguments).ends_with(200).says(&["Usage: "]);
    }
}

#[test]
fn an_unreachable_server_is_an_error_of_the_guest() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let fetch = guest("release", "fetch");
    let grant = format!("net=connect tcp {address}");
    let url = format!("http://{address}/");
    refcap([
        "run".as_ref(),
        fetch.as_os_str(),
        "--grant".as_ref(),
        grant.as_ref(),
        "--".as_ref(),
        url.as_ref(),
    ])
    .ends_with(1)
    .says(&["onnection refused"]);
}

#[test]
fn a_guest_that_traps_is_reported() {
    let wat = r#"(module (func $deep (unreachable)) (func (export "_start") (call $deep)))"#;
    run("trap", wat, &[])
        .ends_with(210)
        .says(&["refcap: the program trapped", "unreachable", "deep"]);
    let wat = r#"(module (func $more (call $more)) (func (export "_start") (call $more)))"#;
    run("trap", wat, &[]).ends_with(210).says(&["stack"]);
    let wat = r#"(module (memory 1) (func (export "_start") (drop (i32.load (i32.const 65536)))))"#;
    run("trap", wat, &[]).ends_with(210).says(&["out of bounds"]);
}

#[test]
fn what_a_guest_reports_before_it_ends_is_shown() {
    let wat = |end: &str| {
        format!(
            r#"(module
  (import "refcap_v1" "report" (func $report (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "what I was about to do")
  (func (export "refcap_start") (result i32)
    (drop (call $report (i32.const 0) (i32.const 22)))
    {end}))"#
        )
    };
    run("report", &wat("(unreachable)"), &[])
        .ends_with(210)
        .says(&["trapped", "\nwhat I was about to do\n"]);
    run("report", &wat("(i32.const 3)"), &[])
        .ends_with(3)
        .says(&["what I was about to do\n"]);
}

#[test]
fn a_guest_that_runs_too_long_is_stopped() {
    let start = Instant::now();
    let spin = r#"(module (func (export "_start") (loop $l (br $l))))"#;
    let message = "the program ran longer than its limit of 300ms";
    run("timeout", spin, &["--timeout", "300ms"])
        .ends_with(211)
        .says(&[message]);
    // Also before its entry point.
    let spin = r#"(module (func $s (loop $l (br $l))) (start $s) (func (export "_start")))"#;
    run("timeout", spin, &["--timeout", "300ms"])
        .ends_with(211)
        .says(&[message]);
    let spin = ASKS.replace(
        "(result i32) (i32.const 1)",
        "(result i32) (loop $l (br $l)) (i32.const 1)",
    );
    run("timeout", &spin, &["--grant", "net=", "--timeout", "300ms"])
        .ends_with(211)
        .says(&[message]);
    assert!(start.elapsed() < Duration::from_secs(60));
}

/// Writes what it reads at first.
const ECHOES: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const 1000))
    (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 4)) (then (unreachable)))
    (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then (unreachable)))))"#;

#[test]
fn a_guest_reads_the_standard_input() {
    let scratch = Scratch::new("input");
    let module = scratch.file("guest.wat", ECHOES);
    let input = std::fs::File::open(scratch.file("input", "a line of input\n")).unwrap();
    let outcome = commands::outcome(refcap_command().args(["run", &module]).stdin(input)).ends_with(0);
    assert_eq!(outcome.text(), "a line of input\n");
}

#[test]
fn a_guest_that_waits_for_input_is_stopped_too() {
    let scratch = Scratch::new("input_timeout");
    let module = scratch.file("guest.wat", ECHOES);
    let mut command = refcap_command();
    // Input that never comes.
    command
        .args(["run", &module, "--timeout", "300ms"])
        .stdin(Stdio::piped());
    commands::outcome(&mut command)
        .ends_with(211)
        .says(&["longer than its limit"]);
}

#[test]
fn a_guest_that_needs_too_much_memory_is_stopped() {
    let wat = r#"(module (memory 32) (func (export "refcap_start") (result i32)
      (memory.grow (i32.const 1))))"#;
    run("memory", wat, &["--max-memory", "1"])
        .ends_with(212)
        .says(&["could not be instantiated"]);
    // To grow gives -1 in the guest, and more is given where more is allowed.
    run("memory", wat, &["--max-memory", "2"]).ends_with(255);
    run("memory", wat, &["--max-memory", "3"]).ends_with(32);
}

#[test]
fn a_module_without_an_entry_point_is_not_run() {
    run("no_entry", "(module)", &[])
        .ends_with(212)
        .says(&["exports neither `_start` nor `refcap_start`"]);
}

#[test]
fn a_start_function_that_traps_is_not_run() {
    let wat = r#"(module (func $s (unreachable)) (start $s) (func (export "_start")))"#;
    run("start_traps", wat, &[])
        .ends_with(212)
        .says(&["could not be instantiated", "unreachable"]);
}

#[test]
fn the_exit_code_of_a_guest_passes_through() {
    for (code, passed) in [
        (0, 0),
        (1, 1),
        (7, 7),
        (125, 125),
        (126, 126),
        (200, 200),
        (255, 255),
    ] {
        let outcome = run("exit", &exits_with("", &format!("(i32.const {code})")), &[]).ends_with(passed);
        assert_eq!((outcome.text(), outcome.errors.as_str()), ("", ""));
    }
    for (code, passed) in [(0, 0), (7, 7), (255, 255), (256, 1), (-1, 255), (i32::MIN, 1)] {
        let wat = format!(r#"(module (func (export "refcap_start") (result i32) (i32.const {code})))"#);
        run("exit", &wat, &[]).ends_with(passed);
    }
}

#[test]
fn the_guest_sees_the_environment_that_it_is_given_and_no_other() {
    let scratch = Scratch::new("env");
    let module = scratch.file("guest.wat", lists("environ"));
    let environment = |arguments: &[&str]| {
        let mut command = refcap_command();
        command
            .args(["run", &module])
            .args(arguments)
            .env("REFCAP_TEST_SECRET", "hunter2");
        commands::outcome(&mut command).ends_with(0)
    };
    assert_eq!(environment(&[]).text(), "");
    let given = environment(&["--env", "LOG=debug", "--env", "EMPTY=", "--env", "RULE=a=b"]);
    assert_eq!(given.text(), "LOG=debug\0EMPTY=\0RULE=a=b\0");
}

#[test]
fn the_guest_sees_its_arguments() {
    let scratch = Scratch::new("args");
    let module = scratch.file("guest.wat", lists("args"));
    assert_eq!(
        refcap(["run", &module]).ends_with(0).text(),
        format!("{module}\0")
    );
    let given = refcap(["run", &module, "--", "--grant", "x=y", "", "two words"]).ends_with(0);
    assert_eq!(given.text(), format!("{module}\0--grant\0x=y\0\0two words\0"));
}

#[test]
fn the_guest_sees_no_file() {
    const BADF: i32 = 8;
    let prestat =
        r#"(import "wasi_snapshot_preview1" "fd_prestat_get" (func $get (param i32 i32) (result i32)))"#;
    let open = r#"(import "wasi_snapshot_preview1" "path_open"
      (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))"#;
    for number in [3, 4, 5, 100] {
        let wat = exits_with(
            prestat,
            &format!("(call $get (i32.const {number}) (i32.const 64))"),
        );
        run("files", &wat, &[]).ends_with(BADF);
    }
    for number in [0, 1, 2, 3, 4, 100, -100] {
        let call = format!(
            "(call $open (i32.const {number}) (i32.const 0) (i32.const 0) (i32.const 10) (i32.const 0)
               (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 64))"
        );
        run("files", &exits_with(open, &call), &[]).ends_with(BADF);
    }
}

// It once ran on as if nothing was, and what the program did was nowhere.
#[test]
fn an_audit_log_that_cannot_be_kept_is_a_failure() {
    if !std::path::Path::new("/dev/full").exists() {
        eprintln!("skipped: this system has no /dev/full");
        return;
    }
    run("full", ASKS, &["--grant", "net=", "--audit", "/dev/full"])
        .ends_with(202)
        .says(&["the audit log", "/dev/full", "incomplete"]);
}

/// The lines of an audit log, as JSON.
fn events(log: &str) -> Vec<Value> {
    log.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_log_is_a_line_of_json_an_event() {
    let server = servers::echo().await;
    let fetch = guest("release", "fetch");
    let scratch = Scratch::new("audit");
    let grant = format!("net=connect tcp {server}");
    let url = format!("http://{server}/");
    let run = |options: &[&str], url: &str| {
        let mut command = refcap_command();
        command
            .arg("run")
            .arg(&fetch)
            .args(["--grant", &grant])
            .args(options)
            .args(["--", url]);
        // A server that sends the request back does not speak HTTP.
        commands::outcome(&mut command).ends_with(1)
    };

    let path = scratch.path("audit.jsonl");
    run(&["--audit", &path], &url).says(&["not an HTTP response"]);
    let log = std::fs::read_to_string(&path).unwrap();
    let all = events(&log);
    for event in &all {
        assert!(
            event["timestamp"].is_string() && event["event"].is_string(),
            "{event}"
        );
        let of_a_program = ["start", "end"].contains(&event["event"].as_str().unwrap());
        let number = if of_a_program { "vat" } else { "id" };
        assert!(event[number].is_u64(), "{event}");
    }
    let [minted] = &named(&all, "grant")[..] else {
        panic!("{log}");
    };
    assert_eq!(
        (&minted["label"], &minted["kind"]),
        (&"net".into(), &"Net".into())
    );
    assert_eq!(minted["authority"], format!("connect tcp {server}"));
    // What the guest got, the narrower network, and the stream.
    let derived = named(&all, "derive");
    assert!(derived.len() >= 3, "{log}");
    let ids: Vec<_> = all.iter().map(|event| &event["id"]).collect();
    assert!(
        derived.iter().all(|event| ids.contains(&&event["parent"])),
        "{log}"
    );
    let used = named(&all, "use");
    assert!(
        used.iter()
            .any(|event| event["operation"].as_str().is_some_and(|operation| {
                operation.contains("connect tcp") && operation.contains(&server.to_string())
            })),
        "{log}"
    );
    assert!(!named(&all, "close").is_empty(), "{log}");

    // With reads, each of them; on standard error, between the guest's own lines.
    run(&["--audit", &path, "--audit-reads"], &url);
    let with_reads = events(&std::fs::read_to_string(&path).unwrap());
    assert!(
        named(&with_reads, "use")
            .iter()
            .any(|event| event["bytes"].is_u64())
    );
    let outcome = run(&["--audit", "-"], &url);
    let lines: Vec<_> = outcome
        .errors
        .lines()
        .filter(|line| line.starts_with('{'))
        .collect();
    assert_eq!(events(&lines.join("\n")).len(), all.len());

    // What was refused, and why. A guest has no part in how a line is made.
    run(&["--audit", &path], "http://127.0.0.1:1/");
    let refused = events(&std::fs::read_to_string(&path).unwrap());
    let refused = named(&refused, "refuse");
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0]["import"], "net_exactly");
    assert!(
        refused[0]["why"].as_str().unwrap().contains("port 1 is not in"),
        "{}",
        refused[0]
    );
}

#[test]
fn a_program_runs_the_same_whichever_way_its_references_take() {
    for way in ["fast", "ordinary", "compared"] {
        let arguments = ["--references", way, "--grant", "net=connect tcp 127.0.0.1:1"];
        run("references", ASKS, &arguments).ends_with(0);
    }
}

#[test]
fn an_audit_log_that_cannot_be_written_is_an_error() {
    let scratch = Scratch::new("audit_error");
    let path = scratch.path("no/such/folder/audit.jsonl");
    run("audit_error", NOTHING, &["--audit", &path])
        .ends_with(202)
        .says(&["cannot write the audit log", "folder"]);
}

// `println!` panics when nobody reads.
#[test]
fn a_reader_that_stops_early_is_no_failure() {
    let scratch = Scratch::new("reader");
    let module = scratch.file("guest.wat", NOTHING);
    let gone = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    let code = |arguments: &[&str]| {
        let mut command = refcap_command();
        command.args(arguments).stdout(gone()).stderr(gone());
        command.status().unwrap().code()
    };
    assert_eq!(code(&["inspect", &module]), Some(0));
    assert_eq!(
        code(&["check", "connect tcp 10.0.0.1:1", "connect tcp 10.0.0.1:1"]),
        Some(0)
    );
    assert_eq!(code(&["check", "", "connect tcp 10.0.0.1:1"]), Some(1));
    assert_eq!(code(&["run", &module, "--grant", "net="]), Some(209));
    assert_eq!(code(&["run", "--help"]), Some(0));
    assert_eq!(code(&["fly"]), Some(200));
}

#[test]
fn limits_are_those_of_the_command_line() {
    let fetch = guest("release", "fetch");
    let fetch = fetch.to_str().unwrap();
    for (limit, message) in [
        ("--max-sockets=0", "the limit of 0 open sockets is reached"),
        (
            "--max-capabilities=1",
            "the limit of 1 live capabilities is reached",
        ),
    ] {
        let arguments = [
            "run",
            fetch,
            "--grant",
            "net=connect tcp 127.0.0.1:1",
            limit,
            "--",
            "http://127.0.0.1:1/",
        ];
        refcap(arguments).ends_with(1).says(&[message]);
    }
}

#[test]
fn the_help_of_each_command_has_an_example() {
    for command in ["run", "inspect", "check", "lineage"] {
        for help in ["--help", "-h"] {
            let shown = refcap([command, help]).ends_with(0);
            assert_eq!(shown.errors, "");
            shown.shows(&["Usage: refcap ", "Examples:\n", &format!("\n  refcap {command} ")]);
        }
    }
    let shown = refcap(["--help"]).ends_with(0);
    shown.shows(&[
        "run ",
        "inspect ",
        "check ",
        "lineage ",
        "Exit codes:",
        "211  the program ran longer",
    ]);
    refcap(["run", "--help"]).shows(&["Exit codes:"]);
}

#[test]
fn the_version_is_the_packages() {
    let shown = refcap(["--version"]).ends_with(0);
    assert_eq!(shown.text(), format!("refcap {}\n", env!("CARGO_PKG_VERSION")));
}
