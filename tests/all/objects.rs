//! Capabilities that guests implement: called in the same vat and from another, with bytes and capabilities.

use std::fmt::Write as _;

use refcap::{Capability, ErrorCode, Exit, Limits, Program, RunError, SpawnerTerms, ambient_authority};
use refcap_abi::{IMPORTS, MAX_MESSAGE_BYTES, MAX_MESSAGE_CAPABILITIES, MODULE, Param};

use crate::support::servers::Silent;
use crate::support::{engine, net, program, soon};

/// The text of a module with the imports that are named, and `contents`.
pub(crate) fn module(imports: &[&str], contents: &str) -> String {
    let mut wat = "(module\n".to_owned();
    for name in imports {
        let import = IMPORTS.iter().find(|import| import.name == *name);
        let import = import.unwrap_or_else(|| panic!("no import `{name}`"));
        let params: String = import
            .params
            .iter()
            .map(|param| match param {
                Param::Ref => " externref",
                Param::I32 => " i32",
            })
            .collect();
        let results = "externref ".repeat(import.refs_out);
        writeln!(
            wat,
            "(import \"{MODULE}\" \"{name}\" (func ${name} (param{params}) (result {results}i32)))"
        )
        .unwrap();
    }
    wat + contents + ")"
}

/// The export that takes the program's endowments into `$granted`, one after the other.
const GRANTS: &str = r#"(table $granted 8 externref) (global $next (mut i32) (i32.const 0))
    (func (export "refcap_grant") (param externref) (result i32)
      (table.set $granted (global.get $next) (local.get 0))
      (global.set $next (i32.add (global.get $next) (i32.const 1)))
      (global.get $next))"#;

/// A program with the endowment `net` that runs `body`, which leaves an exit code.
fn app(imports: &[&str], contents: &str, body: &str) -> String {
    let contents = format!(
        "(@custom \"refcap.endowments\" \"net Net required\\n\")
         (memory (export \"memory\") 2) {GRANTS} {contents}
         (func (export \"refcap_start\") (result i32) (local $r externref) (local $s i32) (local $n i32) {body})"
    );
    module(imports, &contents)
}

fn linked(wat: &str, links: &[(&str, &Program)]) -> Program {
    let bytes = wat::parse_str(wat).unwrap_or_else(|error| panic!("{error}"));
    Program::load_linked(engine(), &bytes, links).unwrap_or_else(|error| panic!("{error}"))
}

async fn run_with(program: &Program, grant: &Capability) -> Result<Exit, RunError> {
    let limits = Limits::default().wall_time(crate::support::SOON);
    let vat = program.vat().grant("net", grant).limits(limits).start();
    soon(vat).await.unwrap().run().await
}

async fn run(program: &Program) -> i32 {
    run_with(program, &net("connect tcp 127.0.0.1:*"))
        .await
        .unwrap()
        .code
}

/// Answers a call of method 0 with its number; of 1 with twice each byte; of 2 by connecting through the Net that came
/// with it, and sending the connection back; of 3 with the error `Denied`; of 4 with what is no error; of 5 it traps; of
/// 6 it calls the object that came with the call, with method 6; of 7 it sends back what came.
fn implementer() -> String {
    module(
        &[
            "object_new",
            "object_call",
            "object_forgotten",
            "message_read",
            "message_answer",
            "message_take",
            "message_attach",
            "net_connect",
            "cap_close",
        ],
        r#"(memory (export "memory") 1)
        (func (export "make") (param i32) (result externref)
          (call $object_new (local.get 0)) (drop))
        (func (export "forgotten") (result i32)
          (if (result i32) (call $object_forgotten (i32.const 8)) (then (i32.load (i32.const 8))) (else (i32.const -1))))
        (func (export "put") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
        (func (export "refcap_dispatch")
            (param $number i32) (param $method i32) (param $length i32) (param $capabilities i32) (result i32)
          (local $at i32) (local $r externref) (local $s i32) (local $back externref)
          (if (i32.eqz (local.get $method)) (then (return (local.get $number))))
          (if (i32.eq (local.get $method) (i32.const 1)) (then
            (drop (call $message_read (i32.const 1024) (local.get $length)))
            (block $end (loop $next
              (br_if $end (i32.ge_u (local.get $at) (local.get $length)))
              (i32.store8 (i32.add (i32.const 1024) (local.get $at))
                (i32.mul (i32.const 2) (i32.load8_u (i32.add (i32.const 1024) (local.get $at)))))
              (local.set $at (i32.add (local.get $at) (i32.const 1)))
              (br $next)))
            (return (call $message_answer (i32.const 1024) (local.get $length)))))
          (if (i32.eq (local.get $method) (i32.const 3)) (then (return (i32.const -1))))
          (if (i32.eq (local.get $method) (i32.const 4)) (then (return (i32.const -999))))
          (if (i32.eq (local.get $method) (i32.const 5)) (then (unreachable)))
          (call $message_take (i32.const 0)) (local.set $s) (local.set $r)
          (if (i32.lt_s (local.get $s) (i32.const 0)) (then (return (local.get $s))))
          (if (i32.eq (local.get $method) (i32.const 2)) (then
            (call $net_connect (local.get $r) (i32.const 64) (i32.const 7) (i32.const 0))
            (local.set $s) (local.set $back)
            (if (i32.lt_s (local.get $s) (i32.const 0)) (then (return (local.get $s))))
            (return (call $message_attach (local.get $back)))))
          (drop (call $message_attach (local.get $r)))
          (if (i32.eq (local.get $method) (i32.const 6)) (then
            (return (call $object_call (local.get $r) (i32.const 6) (i32.const 0) (i32.const 0) (i32.const 0)))))
          (i32.const 0))"#,
    )
}

/// What a program needs that is linked to the implementer.
const CALLER: &[&str] = &[
    "object_call",
    "object_revocable",
    "revoker_revoke",
    "cap_close",
    "cap_kind",
    "message_read",
    "message_take",
    "message_attach",
    "message_answer",
    "stream_write",
];
const LINKED: &str = r#"(import "maker" "make" (func $make (param i32) (result externref)))
    (import "maker" "forgotten" (func $forgotten (result i32)))
    (import "maker" "put" (func $put (param i32 i32)))"#;

/// Runs a body in a program that is linked to the implementer. Calls are `(call $it METHOD LENGTH)` of an object of
/// the number 7 in `$r`, with bytes from 0 on.
fn caller(body: &str) -> Program {
    let contents = format!(
        "{LINKED}
         (global $object (mut externref) (ref.null extern))
         (func $it (param i32 i32) (result i32)
           (call $object_call (global.get $object) (local.get 0) (i32.const 0) (local.get 1) (i32.const 0)))"
    );
    // Imports come before everything else.
    let (imports, rest) = contents.split_at(contents.find("(global $object").unwrap());
    let body = format!("(global.set $object (call $make (i32.const 7))) {body}");
    let wat = app(CALLER, rest, &body).replacen("(@custom", &format!("{imports} (@custom"), 1);
    linked(&wat, &[("maker", &program(&implementer()))])
}

fn code(code: ErrorCode) -> i32 {
    code.status()
}

#[tokio::test]
async fn a_call_in_the_vat_brings_bytes_and_an_answer_back() {
    assert_eq!(run(&caller("(call $it (i32.const 0) (i32.const 0))")).await, 7);
    let doubled = caller(
        "(i32.store (i32.const 0) (i32.const 0x04030201))
         (if (call $it (i32.const 1) (i32.const 4)) (then (return (i32.const 1))))
         ;; The answer's whole length, and as much of it as there is room for.
         (if (i32.ne (call $message_read (i32.const 16) (i32.const 3)) (i32.const 4)) (then (return (i32.const 2))))
         (i32.ne (i32.load (i32.const 16)) (i32.const 0x00060402))",
    );
    assert_eq!(run(&doubled).await, 0);
}

#[tokio::test]
async fn the_errors_of_a_callee_are_errors_and_what_is_none_is_said() {
    assert_eq!(
        run(&caller("(call $it (i32.const 3) (i32.const 0))")).await,
        code(ErrorCode::Denied)
    );
    assert_eq!(
        run(&caller("(call $it (i32.const 4) (i32.const 0))")).await,
        code(ErrorCode::CalleeFailed)
    );
    let trap = caller("(call $it (i32.const 5) (i32.const 0))");
    let ended = run_with(&trap, &net("")).await;
    assert!(
        matches!(&ended, Err(RunError::Trap { message, .. }) if message.contains("unreachable")),
        "{ended:?}"
    );
    // A capability that did not come along, a place that there is not.
    assert_eq!(
        run(&caller("(call $it (i32.const 7) (i32.const 0))")).await,
        code(ErrorCode::NotFound)
    );
    // Who has no export that answers.
    let mute = module(
        &["object_new"],
        r#"(func (export "make") (result externref) (call $object_new (i32.const 1)) (drop))"#,
    );
    let wat = app(
        &["object_call"],
        "",
        "(call $object_call (call $make) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))",
    )
    .replacen(
        "(@custom",
        r#"(import "mute" "make" (func $make (result externref))) (@custom"#,
        1,
    );
    assert_eq!(
        run(&linked(&wat, &[("mute", &program(&mute))])).await,
        code(ErrorCode::CalleeFailed)
    );
}

#[tokio::test]
async fn capabilities_go_along_and_come_back() {
    let mut server = Silent::start().await;
    let address = refcap_abi::wire::encode_address(server.address);
    let puts: String = (64..)
        .zip(address)
        .map(|(at, byte): (i32, u8)| format!("(call $put (i32.const {at}) (i32.const {byte}))"))
        .collect();
    let body = format!(
        "{puts}
         (if (call $message_attach (table.get $granted (i32.const 0))) (then (return (i32.const 1))))
         (if (call $it (i32.const 2) (i32.const 0)) (then (return (i32.const 2))))
         (call $message_take (i32.const 0)) (local.set $s) (local.set $r)
         (if (local.get $s) (then (return (i32.const 3))))
         ;; Once.
         (call $message_take (i32.const 0)) (local.set $s) (drop)
         (if (i32.ne (local.get $s) (i32.const -20)) (then (return (i32.const 4))))
         (if (i32.ne (call $stream_write (local.get $r) (i32.const 64) (i32.const 1)) (i32.const 1))
           (then (return (i32.const 5))))
         ;; The Net that was sent is still here.
         (i32.sub (call $cap_kind (table.get $granted (i32.const 0))) (i32.const 1))"
    );
    let grant = net("connect tcp 127.0.0.1:*");
    let exit = run_with(&caller(&body), &grant).await.unwrap();
    assert_eq!(exit.code, 0);
    server.next().await;
    // Nobody holds anything any more, and nothing is left in between.
    assert_eq!(grant.lineage().len(), 1);
}

// The room of messages is used again. An answer of a capability alone once had the bytes of an earlier message.
#[tokio::test]
async fn what_has_no_bytes_has_none_of_earlier_messages() {
    let body = "(loop $again
           (i32.store (i32.const 0) (i32.const 0x04030201))
           (if (call $it (i32.const 1) (i32.const 4)) (then (return (i32.const 1))))
           (if (call $it (i32.const 1) (i32.const 4)) (then (return (i32.const 1))))
           (if (call $message_attach (table.get $granted (i32.const 0))) (then (return (i32.const 2))))
           (if (call $it (i32.const 7) (i32.const 0)) (then (return (i32.const 3))))
           (if (call $message_read (i32.const 16) (i32.const 8)) (then (return (i32.const 4))))
           (call $message_take (i32.const 0)) (local.set $s) (local.set $r)
           (if (local.get $s) (then (return (i32.const 5))))
           (local.set $n (i32.add (local.get $n) (i32.const 1)))
           (br_if $again (i32.lt_u (local.get $n) (i32.const 5))))
         (i32.load (i32.const 16))";
    assert_eq!(run(&caller(body)).await, 0);
}

#[tokio::test]
async fn what_a_callee_got_ends_with_what_it_came_from() {
    // The callee sends back the Net that it took; revoking the object does not touch it, closing the granted one not
    // either.
    let body = "(drop (call $message_attach (table.get $granted (i32.const 0))))
         (if (call $it (i32.const 7) (i32.const 0)) (then (return (i32.const 1))))
         (call $message_take (i32.const 0)) (local.set $s) (local.set $r)
         (drop (call $cap_close (table.get $granted (i32.const 0))))
         (i32.sub (call $cap_kind (local.get $r)) (i32.const 1))";
    assert_eq!(run(&caller(body)).await, 0);
    let policy = "connect tcp *:*; no hand-over".parse().unwrap();
    let kept = Capability::granted("net", &policy, ambient_authority()).unwrap();
    let body = "(call $message_attach (table.get $granted (i32.const 0)))";
    let exit = run_with(&caller(body), &kept).await.unwrap();
    assert_eq!(exit.code, code(ErrorCode::NotTransferable));
}

#[tokio::test]
async fn an_object_can_be_taken_back_closed_and_forgotten() {
    let body = "(call $object_revocable (global.get $object)) (local.set $s)
         (local.set $r) (table.set $granted (i32.const 5) (local.get $r)) (local.set $r)
         (if (local.get $s) (then (return (i32.const 1))))
         (if (i32.ne (call $object_call (local.get $r) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
           (i32.const 7)) (then (return (i32.const 2))))
         (drop (call $revoker_revoke (table.get $granted (i32.const 5))))
         (if (i32.ne (call $object_call (local.get $r) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
           (i32.const -2)) (then (return (i32.const 3))))
         ;; The other holder's works on, so it is not forgotten.
         (if (i32.ne (call $it (i32.const 0) (i32.const 0)) (i32.const 7)) (then (return (i32.const 4))))
         (if (i32.ne (call $forgotten) (i32.const -1)) (then (return (i32.const 5))))
         (drop (call $cap_close (global.get $object)))
         (if (i32.ne (call $it (i32.const 0) (i32.const 0)) (i32.const -3)) (then (return (i32.const 6))))
         (if (i32.ne (call $forgotten) (i32.const 7)) (then (return (i32.const 7))))
         (i32.add (call $forgotten) (i32.const 1))";
    assert_eq!(run(&caller(body)).await, 0);
}

// What was attached for an object that was closed once went with the next call, to another one.
#[tokio::test]
async fn what_was_attached_to_a_call_that_fails_goes_to_nobody_else() {
    let body = "(call $object_revocable (global.get $object)) (local.set $s)
         (local.set $r) (table.set $granted (i32.const 5) (local.get $r)) (local.set $r)
         (drop (call $cap_close (local.get $r)))
         (drop (call $message_attach (table.get $granted (i32.const 0))))
         (if (i32.ne (call $object_call (local.get $r) (i32.const 7) (i32.const 0) (i32.const 0) (i32.const 0))
           (i32.const -3)) (then (return (i32.const 1))))
         (drop (call $message_attach (table.get $granted (i32.const 0))))
         (if (i32.ne (call $object_call (ref.null extern) (i32.const 7) (i32.const 0) (i32.const 0) (i32.const 0))
           (i32.const -4)) (then (return (i32.const 2))))
         (drop (call $message_attach (table.get $granted (i32.const 0))))
         (if (i32.ne (call $it (i32.const 7) (i32.const 100000)) (i32.const -10)) (then (return (i32.const 3))))
         ;; Nothing came along.
         (call $it (i32.const 7) (i32.const 0))";
    let grant = net("connect tcp *:*");
    let exit = run_with(&caller(body), &grant).await.unwrap();
    assert_eq!(exit.code, code(ErrorCode::NotFound));
    assert_eq!(grant.lineage().len(), 1);
}

// The answer to method 2 has an error and, before it, nothing; what a callee attached before it failed is not sent.
#[tokio::test]
async fn nothing_goes_along_with_an_error() {
    let keen = module(
        &["object_new", "message_attach", "message_take"],
        r#"(memory (export "memory") 1)
        (func (export "make") (result externref) (call $object_new (i32.const 1)) (drop))
        (func (export "refcap_dispatch") (param i32 i32 i32 i32) (result i32) (local $r externref)
          (call $message_take (i32.const 0)) (drop) (local.set $r)
          (drop (call $message_attach (local.get $r)))
          (i32.const -1))"#,
    );
    let body = "(drop (call $message_attach (table.get $granted (i32.const 0))))
         (if (i32.ne (call $object_call (call $make) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
           (i32.const -1)) (then (return (i32.const 1))))
         (call $message_take (i32.const 0)) (local.set $s) (drop) (local.get $s)";
    let wat = app(&["object_call", "message_attach", "message_take"], "", body).replacen(
        "(@custom",
        r#"(import "keen" "make" (func $make (result externref))) (@custom"#,
        1,
    );
    let program = linked(&wat, &[("keen", &program(&keen))]);
    assert_eq!(run(&program).await, code(ErrorCode::NotFound));
}

#[tokio::test]
async fn calls_inside_one_another_end_at_a_limit_and_leave_nothing() {
    // The object calls the object that it was sent, itself, with itself.
    let body = "(drop (call $message_attach (global.get $object)))
         (local.set $s (call $it (i32.const 6) (i32.const 0)))
         (if (i32.ne (local.get $s) (i32.const -10)) (then (return (local.get $s))))
         ;; And it works as before.
         (i32.sub (call $it (i32.const 0) (i32.const 0)) (i32.const 7))";
    assert_eq!(run(&caller(body)).await, 0);
}

#[tokio::test]
async fn messages_are_limited_in_bytes_and_capabilities() {
    let body = format!("(call $it (i32.const 0) (i32.const {}))", MAX_MESSAGE_BYTES + 1);
    assert_eq!(run(&caller(&body)).await, code(ErrorCode::LimitReached));
    let body = format!("(call $it (i32.const 0) (i32.const {MAX_MESSAGE_BYTES}))");
    assert_eq!(run(&caller(&body)).await, 7);
    let body = format!(
        "(loop $more
           (local.set $s (call $message_attach (table.get $granted (i32.const 0))))
           (local.set $n (i32.add (local.get $n) (i32.const 1)))
           (br_if $more (i32.ge_s (local.get $s) (i32.const 0))))
         (if (i32.ne (local.get $s) (i32.const -10)) (then (return (local.get $s))))
         (i32.sub (local.get $n) (i32.const {}))",
        MAX_MESSAGE_CAPABILITIES + 1
    );
    assert_eq!(run(&caller(&body)).await, 0);
    // Outside of a call there is nothing to answer.
    assert_eq!(
        run(&caller("(call $message_answer (i32.const 0) (i32.const 0))")).await,
        code(ErrorCode::BadArgument)
    );
}

/// A parent that implements an object, gives it to a child under the name `object`, and does `serve`.
fn parent(serve: &str) -> Program {
    let contents = r#"
        (data (i32.const 0) "child") (data (i32.const 16) "object")
        (func (export "refcap_dispatch")
            (param $number i32) (param $method i32) (param $length i32) (param $capabilities i32) (result i32)
          (if (i32.eq (local.get $method) (i32.const 1)) (then
            (drop (call $message_read (i32.const 1024) (local.get $length)))
            (return (call $message_answer (i32.const 1024) (local.get $length)))))
          (if (i32.eq (local.get $method) (i32.const 2)) (then (unreachable)))
          (local.get $number))"#;
    let body = format!(
        "(call $spawner_program (table.get $granted (i32.const 1)) (i32.const 0) (i32.const 5))
         (local.set $s) (local.set $r) (table.set $granted (i32.const 2) (local.get $r))
         {serve}"
    );
    let wat = app(
        &[
            "object_new",
            "object_serve",
            "object_revocable",
            "revoker_revoke",
            "message_read",
            "message_answer",
            "spawner_program",
            "child_grant",
            "child_start",
            "child_wait",
            "child_stop",
        ],
        contents,
        &body,
    );
    program(&wat.replace(
        "net Net required\\n",
        "net Net required\\nspawner Spawner required\\n",
    ))
}

/// What the parent does before it serves.
const START: &str = "(call $object_new (i32.const 41)) (local.set $s) (local.set $r)
    (table.set $granted (i32.const 3) (local.get $r))
    (if (call $child_grant (table.get $granted (i32.const 2)) (table.get $granted (i32.const 3)) (i32.const 16) (i32.const 6))
      (then (return (i32.const 90))))
    (if (call $child_start (table.get $granted (i32.const 2))) (then (return (i32.const 91))))";
/// Waits for the child, whose exit code is the parent's.
const WAIT: &str = "(drop (call $child_wait (table.get $granted (i32.const 2)) (i32.const 2048) (i32.const 512) (i32.const 0)))
    (i32.load (i32.const 2049))";

/// A child that is given an object and runs `body`.
fn child(body: &str) -> Program {
    let contents = format!(
        "(@custom \"refcap.endowments\" \"object Object required\\n\")
         (memory (export \"memory\") 2) {GRANTS}
         (func $it (param i32 i32 i32) (result i32)
           (call $object_call (table.get $granted (i32.const 0)) (local.get 0) (i32.const 0) (local.get 1) (local.get 2)))
         (func (export \"refcap_start\") (result i32) (local $s i32) {body})"
    );
    program(&module(&["object_call", "message_read"], &contents))
}

async fn family(parent: &Program, child: &Program) -> Result<Exit, RunError> {
    let terms = SpawnerTerms::new().program("child", child);
    let spawner = Capability::spawner("spawner", terms, ambient_authority()).unwrap();
    let net = net("");
    let vat = parent.vat().grant("net", &net).grant("spawner", &spawner);
    let vat = vat.limits(Limits::default().wall_time(crate::support::SOON));
    soon(vat.start()).await.unwrap().run().await
}

#[tokio::test]
async fn a_call_from_another_vat_is_answered_when_the_implementer_serves() {
    let parent = parent(&format!(
        "{START}
         (if (call $object_serve (i32.const 0)) (then (return (i32.const 92))))
         (if (call $object_serve (i32.const 0)) (then (return (i32.const 93))))
         {WAIT}"
    ));
    let child = child(
        "(if (i32.ne (call $it (i32.const 0) (i32.const 0) (i32.const 0)) (i32.const 41)) (then (return (i32.const 1))))
         (i32.store (i32.const 0) (i32.const 0x04030201))
         (if (i32.ne (call $it (i32.const 1) (i32.const 4) (i32.const 0)) (i32.const 0)) (then (return (i32.const 2))))
         (if (i32.ne (call $message_read (i32.const 64) (i32.const 64)) (i32.const 4)) (then (return (i32.const 3))))
         (i32.ne (i32.load (i32.const 64)) (i32.const 0x04030201))",
    );
    assert_eq!(family(&parent, &child).await.unwrap().code, 0);
}

#[tokio::test]
async fn a_call_that_nobody_serves_ends_in_time() {
    let parent = parent(&format!("{START} {WAIT}"));
    let child = child("(call $it (i32.const 0) (i32.const 0) (i32.const 20))");
    // The child's exit code is all of its status.
    assert_eq!(
        family(&parent, &child).await.unwrap().code,
        code(ErrorCode::TimedOut)
    );
}

#[tokio::test]
async fn a_server_waits_no_longer_than_it_says() {
    let parent = parent("(call $object_serve (i32.const 20))");
    assert_eq!(
        family(&parent, &child("(i32.const 0)")).await.unwrap().code,
        code(ErrorCode::TimedOut)
    );
}

#[tokio::test]
async fn a_call_ends_when_its_object_is_revoked() {
    let parent = parent(&format!(
        "(call $object_new (i32.const 41)) (local.set $s) (local.set $r)
         (table.set $granted (i32.const 4) (local.get $r))
         (call $object_revocable (table.get $granted (i32.const 4))) (local.set $s)
         (local.set $r) (table.set $granted (i32.const 5) (local.get $r))
         (local.set $r) (table.set $granted (i32.const 3) (local.get $r))
         (if (call $child_grant (table.get $granted (i32.const 2)) (table.get $granted (i32.const 3)) (i32.const 16) (i32.const 6))
           (then (return (i32.const 90))))
         (if (call $child_start (table.get $granted (i32.const 2))) (then (return (i32.const 91))))
         ;; Long enough for the child to be in its call, which nobody serves.
         (drop (call $child_wait (table.get $granted (i32.const 2)) (i32.const 2048) (i32.const 512) (i32.const 50)))
         (drop (call $revoker_revoke (table.get $granted (i32.const 5))))
         {WAIT}"
    ));
    let child = child("(call $it (i32.const 0) (i32.const 0) (i32.const 0))");
    assert_eq!(
        family(&parent, &child).await.unwrap().code,
        code(ErrorCode::Revoked)
    );
}

#[tokio::test]
async fn a_trap_in_a_served_call_ends_the_vat_that_serves() {
    // The parent traps in the call; its child goes with it, so the embedder sees the trap.
    let parent = parent(&format!("{START} (call $object_serve (i32.const 0))"));
    let child = child("(call $it (i32.const 2) (i32.const 0) (i32.const 0))");
    let ended = family(&parent, &child).await;
    assert!(matches!(ended, Err(RunError::Trap { .. })), "{ended:?}");
}
