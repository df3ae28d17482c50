//! What the switchboard asks the host, counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use wasmtime::{Extern, ExternRef, Func, Instance, Module, Store, Val};

use super::{compile, connect_links};
use crate::limits::Limits;
use crate::runtime::Runtime;
use crate::vat::VatState;

/// Imports what is wired and nothing else. Hands what it is given to the other one and takes it back, and returns how
/// often that worked.
const GIVER: &str = r#"(module
  (import "refcap_v1" "link_give" (func $give (param externref i32) (result i32)))
  (import "refcap_v1" "link_take" (func $take (param i32) (result externref i32)))
  (import "receiver" "put_out" (func $put_out (param i32)))
  (func (export "run") (param $reference externref) (param $count i32) (result i32)
    (local $good i32) (local $status i32)
    (loop $more
      (call $put_out (call $give (local.get $reference) (i32.const 0)))
      (call $take (i32.const 0))
      (local.set $status)
      (local.set $reference)
      (local.set $good (i32.add (local.get $good) (i32.eqz (local.get $status))))
      (br_if $more (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
    (local.get $good)))"#;

/// Has two places: one for what it is given, one for what it puts out. It imports nothing.
const RECEIVER: &str = r#"(module
  (table $held 2 externref)
  (func (export "refcap_grant") (param externref) (result i32)
    (table.set $held (i32.const 0) (local.get 0))
    (i32.const 0))
  (func (export "put_out") (param $slot i32)
    (table.set $held (i32.const 1) (table.get $held (local.get $slot)))
    (table.set $held (local.get $slot) (ref.null extern)))
  (func (export "refcap_take") (result externref)
    (table.get $held (i32.const 1))
    (table.set $held (i32.const 1) (ref.null extern))))"#;

#[test]
fn handing_over_between_programs_of_a_vat_makes_no_call_to_the_host() {
    const TIMES: i32 = 1_000;
    let runtime = Runtime::new().unwrap();
    let engine = runtime.engine();
    let mut store = Store::new(engine, VatState::blank(Limits::default()));
    // The clock of the engine has run since the runtime was made.
    store.set_epoch_deadline(1 << 40);

    // All that the switchboard imports counts and does nothing else.
    let calls = Arc::new(AtomicU32::new(0));
    let module = compile(engine).unwrap();
    let mut counters = Vec::new();
    for import in module.imports() {
        let (ty, calls) = (import.ty().unwrap_func().clone(), calls.clone());
        let results: Vec<_> = ty.results().map(|_| Val::I32(0)).collect();
        let counter = Func::new(&mut store, ty, move |_, _, out| {
            calls.fetch_add(1, Ordering::Relaxed);
            out.clone_from_slice(&results);
            Ok(())
        });
        counters.push(Extern::Func(counter));
    }
    let board = Instance::new(&mut store, &module, &counters).unwrap();
    let receiver = Module::new(engine, wat::parse_str(RECEIVER).unwrap()).unwrap();
    let receiver = Instance::new(&mut store, &receiver, &[]).unwrap();
    connect_links(&mut store, board, &[receiver]).unwrap();
    let giver = Module::new(engine, wat::parse_str(GIVER).unwrap()).unwrap();
    let imports: Vec<Extern> = giver
        .imports()
        .map(|import| {
            let from = if import.module() == "receiver" {
                receiver
            } else {
                board
            };
            from.get_export(&mut store, import.name()).unwrap()
        })
        .collect();
    let giver = Instance::new(&mut store, &giver, &imports).unwrap();

    let run = giver.get_func(&mut store, "run").unwrap();
    let reference = ExternRef::new(&mut store, 7_u32).unwrap();
    let mut done = [Val::I32(0)];
    let arguments = [Val::ExternRef(Some(reference)), Val::I32(TIMES)];
    run.call(&mut store, &arguments, &mut done).unwrap();
    assert_eq!(done[0].i32(), Some(TIMES), "so often it came back");
    assert_eq!(calls.load(Ordering::Relaxed), 0);

    // The counters do count: a call to an object asks the host.
    let call = board.get_func(&mut store, "object_call").unwrap();
    let numbers = [0; 4].map(Val::I32);
    let arguments: Vec<_> = [Val::ExternRef(None)].into_iter().chain(numbers).collect();
    call.call(&mut store, &arguments, &mut done).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 2, "`enter` and `leave`");
}
