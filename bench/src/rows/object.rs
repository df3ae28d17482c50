//! Calls to what a program implements: in the same vat, beside host functions that take the same arguments; and from
//! another vat.

use std::cell::RefCell;
use std::rc::Rc;

use refcap::{Capability, Program, Runtime, SpawnerTerms, Vat, ambient_authority};
use wasmtime::error::Context;
use wasmtime::{Result, ensure};

use super::Scale;
use crate::measure::{Case, Measured, compare};
use crate::models::reference::{GRANTED, Guest, limits};
use crate::models::service::{self, Handle};
use crate::models::{INTEGER, OBJECT, ORDINARY, executor};

/// The row of calls in one vat.
pub(crate) const ROW: &str = "call an object of the same vat";
/// The row of calls from vat to vat.
const ACROSS: &str = "call an object of another vat";
const ONE_THREAD: &str = "one thread";
const TWO_THREADS: &str = "two threads";

/// Makes an object, and answers each call with 1 when it has read the message.
const IMPLEMENTER: &str = r#"(module
  (import "refcap_v1" "object_new" (func $object_new (param i32) (result externref i32)))
  (import "refcap_v1" "message_read" (func $message_read (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "make") (result externref) (call $object_new (i32.const 1)) (drop))
  (func (export "refcap_dispatch")
      (param $number i32) (param $method i32) (param $length i32) (param $capabilities i32) (result i32)
    (if (local.get $length) (then
      (if (i32.ne (call $message_read (i32.const 1024) (local.get $length)) (local.get $length))
        (then (return (i32.const 0))))))
    (local.get $number)))"#;

/// Has an object of the program that it is linked to.
const CALLER: &str = r#"
  (import "refcap_v1" "object_call" (func $call (param externref i32 i32 i32 i32) (result i32)))
  (import "implementer" "make" (func $make (result externref)))
  (@custom "refcap.endowments" "net Net required\n")
  (global $object (mut externref) (ref.null extern))
  (func (export "refcap_grant") (param externref) (result i32) (global.set $object (call $make)) (i32.const 1))
  (func (export "refcap_start") (result i32) (i32.const 0))"#;

/// Calls of both rows.
pub(crate) fn object(scale: Scale) -> Result<Vec<Measured>> {
    let executor = executor()?;
    let mut results = Vec::new();
    for length in [0, 64] {
        results.extend(compare(&mut cases(length)?, scale.effort)?);
    }
    let two = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut cases = across(&executor, ONE_THREAD)?;
    cases.extend(across(&Rc::new(two), TWO_THREADS)?);
    results.extend(compare(&mut cases, scale.effort)?);
    Ok(results)
}

/// Calls in one vat, with messages of that length.
pub(crate) fn cases(length: u32) -> Result<Vec<Case>> {
    let executor = executor()?;
    let at = format!("{length} B");
    let runtime = Runtime::new()?;
    let implementer = Program::load(&runtime, &wat::parse_str(IMPLEMENTER)?)?;
    let caller = wat::parse_str(service::caller(CALLER, ""))?;
    let program = Program::load_linked(&runtime, &caller, &[("implementer", &implementer)])?;
    let net = Capability::net("net", GRANTED.parse()?, ambient_authority());
    let vat = executor.block_on(program.vat().limits(limits()).grant("net", &net).start())?;
    let guest = Guest::running(&executor, vat);
    let mut cases = vec![Case::new(ROW, &at, OBJECT, move |count| {
        guest.call("call", &[count, length], count)
    })];
    for (model, handle) in [(INTEGER, Handle::Number), (ORDINARY, Handle::Reference)] {
        let guest = service::Guest::start(&executor, handle)?;
        cases.push(Case::new(ROW, &at, model, move |count| guest.call(count, length)));
    }
    Ok(cases)
}

/// Answers calls until its parent is gone. It makes an object, and sends it to its parent with a call of the parent's.
const SERVER: &str = r#"(module
  (import "refcap_v1" "object_new" (func $object_new (param i32) (result externref i32)))
  (import "refcap_v1" "object_call" (func $object_call (param externref i32 i32 i32 i32) (result i32)))
  (import "refcap_v1" "object_serve" (func $object_serve (param i32) (result i32)))
  (import "refcap_v1" "message_read" (func $message_read (param i32 i32) (result i32)))
  (import "refcap_v1" "message_attach" (func $message_attach (param externref) (result i32)))
  (import "refcap_v1" "message_take" (func $message_take (param i32) (result externref i32)))
  (import "refcap_v1" "cap_close" (func $close (param externref) (result i32)))
  (@custom "refcap.endowments" "parent Object required\n")
  (memory (export "memory") 1)
  (global $parent (mut externref) (ref.null extern))
  (func (export "refcap_grant") (param externref) (result i32) (global.set $parent (local.get 0)) (i32.const 1))
  (func (export "refcap_dispatch")
      (param $number i32) (param $method i32) (param $length i32) (param $capabilities i32) (result i32)
      (local $taken externref) (local $status i32)
    (if (local.get $length) (then
      (if (i32.ne (call $message_read (i32.const 1024) (local.get $length)) (local.get $length))
        (then (return (i32.const 0))))))
    (if (local.get $capabilities) (then
      (call $message_take (i32.const 0))
      (local.set $status) (local.set $taken)
      (if (i32.or (local.get $status) (call $close (local.get $taken))) (then (return (i32.const 0))))))
    (local.get $number))
  (func (export "refcap_start") (result i32) (local $own externref) (local $status i32)
    (call $object_new (i32.const 1))
    (local.set $status) (local.set $own)
    (if (call $message_attach (local.get $own)) (then (return (i32.const 1))))
    (if (call $object_call (global.get $parent) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
      (then (return (i32.const 2))))
    (loop $more (br_if $more (i32.eqz (call $object_serve (i32.const 0)))))
    (i32.const 3)))"#;

/// Starts the server, hears of its object, and calls it. What goes along is the granted Net, if `$along` says so.
const CLIENT: &str = r#"
  (import "refcap_v1" "object_call" (func $call (param externref i32 i32 i32 i32) (result i32)))
  (import "refcap_v1" "object_new" (func $object_new (param i32) (result externref i32)))
  (import "refcap_v1" "object_serve" (func $object_serve (param i32) (result i32)))
  (import "refcap_v1" "message_attach" (func $message_attach (param externref) (result i32)))
  (import "refcap_v1" "message_take" (func $message_take (param i32) (result externref i32)))
  (import "refcap_v1" "spawner_program" (func $program (param externref i32 i32) (result externref i32)))
  (import "refcap_v1" "child_grant" (func $child_grant (param externref externref i32 i32) (result i32)))
  (import "refcap_v1" "child_start" (func $child_start (param externref) (result i32)))
  (@custom "refcap.endowments" "net Net required\nspawner Spawner required\n")
  (data (i32.const 0) "server") (data (i32.const 16) "parent")
  (global $net (mut externref) (ref.null extern))
  (global $spawner (mut externref) (ref.null extern))
  (global $object (mut externref) (ref.null extern))
  ;; Kept, for it ends when it is collected.
  (global $child (mut externref) (ref.null extern))
  (global $along (mut i32) (i32.const 0))
  (func (export "refcap_grant") (param externref) (result i32)
    (if (ref.is_null (global.get $net))
      (then (global.set $net (local.get 0)))
      (else (global.set $spawner (local.get 0))))
    (i32.const 1))
  (func (export "refcap_dispatch") (param i32 i32 i32 i32) (result i32) (local $status i32)
    (call $message_take (i32.const 0))
    (local.set $status)
    (global.set $object)
    (local.get $status))
  (func (export "along") (param i32) (result i32) (global.set $along (local.get 0)) (local.get 0))
  (func (export "begin") (result i32) (local $own externref) (local $status i32)
    (call $program (global.get $spawner) (i32.const 0) (i32.const 6))
    (local.set $status) (global.set $child)
    (if (local.get $status) (then (return (local.get $status))))
    (call $object_new (i32.const 7))
    (local.set $status) (local.set $own)
    (if (call $child_grant (global.get $child) (local.get $own) (i32.const 16) (i32.const 6))
      (then (return (i32.const -1000))))
    (if (call $child_start (global.get $child)) (then (return (i32.const -1001))))
    (if (call $object_serve (i32.const 10000)) (then (return (i32.const -1002))))
    (i32.eqz (ref.is_null (global.get $object))))
  (func (export "refcap_start") (result i32) (i32.const 0))"#;
const ATTACH: &str = r#"(if (global.get $along) (then
        (if (call $message_attach (global.get $net)) (then (return (i32.const -1))))))"#;

/// A vat that calls another.
fn across(executor: &Rc<tokio::runtime::Runtime>, model: &'static str) -> Result<Vec<Case>> {
    let runtime = Runtime::new()?;
    let server = Program::load(&runtime, &wat::parse_str(SERVER)?)?;
    let client = Program::load(&runtime, &wat::parse_str(service::caller(CLIENT, ATTACH))?)?;
    let terms = SpawnerTerms::new().program("server", &server);
    let spawner = Capability::spawner("spawner", terms, ambient_authority())?;
    let net = Capability::net("net", GRANTED.parse()?, ambient_authority());
    let vat = client.vat().limits(limits());
    let vat = executor.block_on(vat.grant("net", &net).grant("spawner", &spawner).start())?;
    let vat = Rc::new(RefCell::new(vat));
    let begun = call(executor, &mut vat.borrow_mut(), "begin", &[])?;
    ensure!(begun == Some(1), "the other vat's object did not come: {begun:?}");
    let points = [("0 B", 0, 0), ("4 KiB", 4096, 0), ("0 B and a Net", 0, 1)];
    let case = |(at, length, along): (&str, u32, i32)| {
        let (vat, executor) = (vat.clone(), executor.clone());
        Case::new(ACROSS, at, model, move |count| {
            let vat = &mut vat.borrow_mut();
            call(&executor, vat, "along", &[along])?;
            let done = call(
                &executor,
                vat,
                "call",
                &[count.cast_signed(), length.cast_signed()],
            )?;
            ensure!(
                done == Some(count.cast_signed()),
                "{done:?} of {count} calls were answered"
            );
            Ok(())
        })
    };
    Ok(points.into_iter().map(case).collect())
}

fn call(
    executor: &tokio::runtime::Runtime,
    vat: &mut Vat,
    name: &str,
    arguments: &[i32],
) -> Result<Option<i32>> {
    let called = executor.block_on(vat.call_export(name, arguments));
    called.with_context(|| format!("calling {name}"))
}
