//! The program of which all vats of a sequence are instances: it does what it is ordered to.
//!
//! An *order* is an operation and its arguments. A program that was started through a Spawner sends the object by which
//! it is ordered to the *desk*, the program at the top that the test calls, and from then on serves calls and carries out
//! orders in turn. The desk hands an order over, and serves until it hears what came of it. So whoever carries out an
//! order may call any other program, and all others answer.

use std::fmt::Write as _;
use std::sync::OnceLock;

use refcap::Program;
use refcap_abi::{IMPORTS, MODULE, Param, wire};
use refcap_authority::Query;

use super::network::{self, TCP, TUPLES};
use super::operations::{PLAIN, look, operations};
use crate::support::{engine, program};

/// Slots of each program. The first one has the way home, and is no part of the model.
pub(super) const SLOTS: usize = 16;
/// The words of an order: its operation, its arguments, and bytes.
pub(super) const ORDER_WORDS: usize = 48;
pub(super) const ARGUMENTS: usize = 8;
/// Where an order's bytes are.
pub(super) const PAYLOAD: i32 = ORDER + 4 * (1 + ARGUMENTS as i32);
/// Where `check` leaves what it found, a word for each slot.
pub(super) const FOUND: i32 = 1536;
/// What `order` adds to the status of a call that should never fail.
pub(super) const LOST: i32 = -1000;
/// What is added to the status of a use, to make it a part of a word.
pub(super) const USE: i32 = 1000;
/// In the word of a Net: a connection was begun.
pub(super) const BEGUN: i32 = 1 << 20;

/// Methods of the objects that programs implement for each other.
pub(super) const METHOD_ECHO: i32 = 0;
pub(super) const METHOD_RELAY: i32 = 3;

pub(super) const ORDER: i32 = 1024;
pub(super) const SCRATCH: i32 = 2048;
pub(super) const CALL: i32 = 2304;
const DISPATCH: i32 = 2560;
pub(super) const QUERIES: i32 = 4096;
pub(super) const QUERY_BYTES: i32 = 32;
pub(super) const ADDRESSES: i32 = 8192;
pub(super) const ADDRESS_BYTES: i32 = 8;
const NAMES: i32 = 9216;

/// The names that orders mention.
const NAMED: [&str; 9] = [
    "home", "net", "more", "object", "revoker", "spawner", "single", "pair", "late",
];

/// Where a name is, and how long it is.
pub(super) fn name(name: &str) -> [i32; 2] {
    let mut at = NAMES;
    for other in NAMED {
        let length = i32::try_from(other.len()).unwrap();
        if other == name {
            return [at, length];
        }
        at += length;
    }
    panic!("orders do not mention `{name}`")
}

/// What a module is besides an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// On its own.
    Single,
    /// With a wing beside it in its vat.
    Body,
    Wing,
}

/// A program of its own in its vat.
pub(super) fn single() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| program(&source(Part::Single)))
}

/// A program with another one beside it, its wing, which is ordered by itself.
pub(super) fn pair() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let wing = program(&source(Part::Wing));
        let bytes = wat::parse_str(source(Part::Body)).unwrap_or_else(|error| panic!("{error}"));
        Program::load_linked(engine(), &bytes, &[("wing", &wing)]).unwrap_or_else(|error| panic!("{error}"))
    })
}

fn source(part: Part) -> String {
    let mut wat = "(module\n".to_owned();
    if part != Part::Wing {
        wat += r#"(@custom "refcap.endowments" "home Object optional\nnet Net optional\nmore Net optional\nobject Object optional\nrevoker Revoker optional\nspawner Spawner optional\n")"#;
    }
    imports(&mut wat, part);
    writeln!(
        wat,
        r#"
  (type $operation (func (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (table $slots {SLOTS} externref)
  (table $commands 32 externref)
  (global $granted (mut i32) (i32.const 0))
  (global $ordered (mut i32) (i32.const 0))
  (global $quit (mut i32) (i32.const 0))
  (global $came (mut i32) (i32.const 0))
  (global $done (mut i32) (i32.const 0))
  (global $result (mut i32) (i32.const 0))
  (func $clear (param $slot i32)
    (if (i32.eqz (ref.is_null (table.get $slots (local.get $slot)))) (then
      (drop (call $cap_close (table.get $slots (local.get $slot))))
      (table.set $slots (local.get $slot) (ref.null extern)))))"#
    )
    .unwrap();
    data(&mut wat);
    look(&mut wat);
    operations(&mut wat, part);
    wat += DISPATCH_AND_WORK
        .replace("ORDER_BYTES", &(4 * ORDER_WORDS).to_string())
        .replace("ORDER", &ORDER.to_string())
        .replace("DISPATCH", &DISPATCH.to_string())
        .replace("SCRATCH", &SCRATCH.to_string())
        .as_str();
    wat += &match part {
        Part::Wing => WING.to_owned(),
        Part::Single => MAIN_LOOP.to_owned(),
        Part::Body => MAIN_LOOP
            .replace(
                ";; wing: hello",
                "(call $hello (call $wing_begin (table.get $slots (i32.const 0))))",
            )
            .replace(";; wing: work", "(call $wing_work)"),
    };
    if part != Part::Wing {
        desk(&mut wat);
    }
    wat + ")"
}

fn imports(wat: &mut String, part: Part) {
    let more = [
        "object_call",
        "object_serve",
        "object_forgotten",
        "message_attach",
        "message_take",
        "message_read",
        "net_allows",
        "udp_connect",
        "stream_read",
        "child_limit",
    ];
    for name in PLAIN.iter().chain(&more) {
        let import = IMPORTS.iter().find(|import| import.name == *name).unwrap();
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
            r#"  (import "{MODULE}" "{name}" (func ${name} (param{params}) (result {results}i32)))"#
        )
        .unwrap();
    }
    *wat += "  (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $proc_exit (param i32)))\n";
    if part == Part::Body {
        *wat += r#"
  (import "wing" "wing_begin" (func $wing_begin (param externref) (result externref)))
  (import "wing" "wing_work" (func $wing_work))
  (import "wing" "wing_put" (func $wing_put (param externref i32)))
  (import "wing" "wing_get" (func $wing_get (param i32) (result externref)))"#;
    }
}

/// Queries, addresses and names.
fn data(wat: &mut String) {
    let escaped = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("\\{byte:02x}")).collect() };
    for tuple in 0..TUPLES {
        let query: Query = network::query(tuple).parse().unwrap();
        let at = QUERIES + QUERY_BYTES * i32::try_from(tuple).unwrap();
        writeln!(wat, "  (data (i32.const {at}) \"{}\")", escaped(&query.encode())).unwrap();
    }
    for tuple in 0..TCP {
        let address = wire::encode_address(network::address(tuple));
        let at = ADDRESSES + ADDRESS_BYTES * i32::try_from(tuple).unwrap();
        writeln!(wat, "  (data (i32.const {at}) \"{}\")", escaped(&address)).unwrap();
    }
    let names = NAMED.concat();
    writeln!(wat, "  (data (i32.const {NAMES}) \"{names}\")").unwrap();
    let any = wire::encode_address("127.0.0.1:0".parse().unwrap());
    writeln!(wat, "  (data (i32.const {LOCAL}) \"{}\")", escaped(&any)).unwrap();
}

/// Where the address is to which datagram sockets are bound.
pub(super) const LOCAL: i32 = 9728;

/// Where a tuple's address is.
pub(super) fn address_at(tuple: usize) -> i32 {
    ADDRESSES + ADDRESS_BYTES * i32::try_from(tuple % TCP).unwrap()
}

/// Answers calls, and carries out orders. Object 0 takes orders, object 1 is the desk's, the others are the model's.
const DISPATCH_AND_WORK: &str = r#"
  (func (export "refcap_dispatch")
      (param $number i32) (param $method i32) (param $length i32) (param $capabilities i32) (result i32)
    (local $s i32) (local $r externref)
    (if (i32.eqz (local.get $number)) (then
      (if (i32.eqz (local.get $method)) (then
        (drop (call $message_read (i32.const ORDER) (i32.const ORDER_BYTES)))
        (global.set $ordered (i32.const 1))))
      (return (i32.const 0))))
    (if (i32.eq (local.get $number) (i32.const 1)) (then
      (if (local.get $method) (then
        (call $message_take (i32.const 0)) (local.set $s) (local.set $r)
        (table.set $commands (global.get $came) (local.get $r))
        (global.set $came (i32.add (global.get $came) (i32.const 1)))
        (return (local.get $s))))
      (drop (call $message_read (i32.const DISPATCH) (i32.const 4)))
      (global.set $result (i32.load (i32.const DISPATCH)))
      (global.set $done (i32.const 1))
      (return (i32.const 0))))
    (if (i32.eqz (local.get $method)) (then (return (local.get $number))))
    (drop (call $message_read (i32.const DISPATCH) (i32.const 8)))
    (local.set $length (i32.load (i32.const DISPATCH)))
    (if (i32.eq (local.get $method) (i32.const 1)) (then
      (call $clear (local.get $length))
      (call $message_take (i32.const 0)) (local.set $s) (local.set $r)
      (table.set $slots (local.get $length) (local.get $r))
      (return (local.get $s))))
    (if (i32.eq (local.get $method) (i32.const 2)) (then
      (return (call $message_attach (table.get $slots (local.get $length))))))
    (call $object_call (table.get $slots (local.get $length)) (i32.const 0) (i32.const 0) (i32.const 0)
      (i32.load offset=4 (i32.const DISPATCH))))
  (func $work
    (if (global.get $ordered) (then
      (global.set $ordered (i32.const 0))
      (i32.store (i32.const SCRATCH) (call $run))
      (if (i32.eqz (global.get $quit)) (then
        (drop (call $object_call (table.get $slots (i32.const 0)) (i32.const 0) (i32.const SCRATCH) (i32.const 4)
          (i32.const 0))))))))
  (func $begin (result externref) (local $command externref) (local $s i32)
    (call $object_new (i32.const 0)) (local.set $s) (local.set $command)
    (local.get $command))
"#;

const WING: &str = r#"
  (func (export "wing_begin") (param externref) (result externref)
    (table.set $slots (i32.const 0) (local.get 0))
    (call $begin))
  (func (export "wing_work") (call $work))
  (func (export "wing_put") (param externref i32)
    (call $clear (local.get 1))
    (table.set $slots (local.get 1) (local.get 0)))
  (func (export "wing_get") (param i32) (result externref) (table.get $slots (local.get 0)))
"#;

/// Sends the object that takes orders home, and serves. What the wing does is in its place where there is one.
const MAIN_LOOP: &str = r#"
  (func $hello (param $command externref)
    (drop (call $message_attach (local.get $command)))
    (drop (call $cap_close (local.get $command)))
    (drop (call $object_call (table.get $slots (i32.const 0)) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0))))
  (func (export "refcap_start") (result i32) (local $s i32)
    (call $hello (call $begin))
    ;; wing: hello
    (loop $next
      (local.set $s (call $object_serve (i32.const 0)))
      (if (i32.lt_s (local.get $s) (i32.const 0)) (then (return (local.get $s))))
      (call $work)
      ;; wing: work
      (br_if $next (i32.eqz (global.get $quit))))
    (i32.load (i32.const 1028)))
"#;

/// What the test calls: `order` and `send` with the place of who is ordered (less than zero for the desk itself) and the
/// order's words; `greet`, which serves until so many have said that they are there; `ping`.
fn desk(wat: &mut String) {
    let words = " i32".repeat(ORDER_WORDS);
    let stores: String = (0..ORDER_WORDS)
        .map(|n| {
            let at = ORDER + 4 * i32::try_from(n).unwrap();
            format!(" (i32.store (i32.const {at}) (local.get {}))", n + 1)
        })
        .collect();
    let bytes = 4 * ORDER_WORDS;
    writeln!(
        wat,
        r#"
  (func (export "refcap_grant") (param externref) (result i32)
    (table.set $slots (global.get $granted) (local.get 0))
    (global.set $granted (i32.add (global.get $granted) (i32.const 1)))
    (global.get $granted))
  (func (export "open") (local $home externref) (local $s i32)
    (call $object_new (i32.const 1)) (local.set $s) (local.set $home)
    (table.set $slots (i32.const 0) (local.get $home)))
  (func $lost (param i32) (result i32) (i32.add (local.get 0) (i32.const {LOST})))
  (func $hand_over (param $who i32) (result i32)
    (call $object_call (table.get $commands (local.get $who)) (i32.const 0) (i32.const {ORDER}) (i32.const {bytes})
      (i32.const 20000)))
  (func (export "order") (param $who i32) (param{words}) (result i32) (local $s i32)
    {stores}
    (if (i32.lt_s (local.get $who) (i32.const 0)) (then (return (call $run))))
    (global.set $done (i32.const 0))
    (local.set $s (call $hand_over (local.get $who)))
    (if (i32.lt_s (local.get $s) (i32.const 0)) (then (return (call $lost (local.get $s)))))
    (loop $next
      (local.set $s (call $object_serve (i32.const 20000)))
      (if (i32.lt_s (local.get $s) (i32.const 0)) (then (return (call $lost (local.get $s)))))
      (br_if $next (i32.eqz (global.get $done))))
    (global.get $result))
  (func (export "send") (param $who i32) (param{words}) (result i32)
    {stores}
    (call $hand_over (local.get $who)))
  (func (export "greet") (param $count i32) (result i32) (local $s i32)
    (block $all (loop $next
      (br_if $all (i32.ge_s (global.get $came) (local.get $count)))
      (local.set $s (call $object_serve (i32.const 20000)))
      (if (i32.lt_s (local.get $s) (i32.const 0)) (then (return (call $lost (local.get $s)))))
      (br $next)))
    (i32.const 0))
  (func (export "ping") (param $who i32) (result i32)
    (call $object_call (table.get $commands (local.get $who)) (i32.const 1) (i32.const 0) (i32.const 0)
      (i32.const 20000)))"#
    )
    .unwrap();
}
