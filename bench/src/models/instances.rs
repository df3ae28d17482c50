//! Two instances in one store that hand handles to each other: references as wasm passes them, or by way of the SDK's
//! `link_give`, and numbers that the host duplicates from one table into another.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use refcap::{Capability, Program, Runtime, ambient_authority};
use refcap_abi::{ErrorCode, Import};
use refcap_authority::Authority;
use wasmtime::{Caller, Instance, Linker, Module, Store};
use wasmtime::{Result, ensure};

use super::integer::{call, engine, interrupt};
use super::reference::{GRANTED, Guest, limits};

/// As many as the receiver has places for.
pub(crate) const PLACES: u32 = 8_000;

/// How a handle gets across.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// The type of a handle.
    ty: &'static str,
    null: &'static str,
    /// Imports of the giver.
    imports: &'static str,
    /// The type of what arrives in a call of the receiver, and the giver's expression for it.
    passed_ty: &'static str,
    passed: &'static str,
}

const REFERENCE: Way = Way {
    ty: "externref",
    null: "(ref.null extern)",
    imports: "",
    passed_ty: "externref",
    passed: "(global.get $handle)",
};

/// What is passed in the call is where the reference is in the other's table.
const LINK_GIVE: Way = Way {
    imports: r#"(import "refcap_v1" "link_give" (func $give (param externref i32) (result i32)))"#,
    passed_ty: "i32",
    passed: "(call $give (global.get $handle) (i32.const 0))",
    ..REFERENCE
};

const NUMBER: Way = Way {
    ty: "i32",
    null: "(i32.const -1)",
    imports: r#"(import "integers" "duplicate" (func $duplicate (param i32 i32) (result i32)))"#,
    passed_ty: "i32",
    passed: "(call $duplicate (global.get $handle) (i32.const 1))",
};

/// Nothing is handed over: what is passed is a number that means nothing, as in any call.
const NOTHING: Way = Way {
    passed_ty: "i32",
    passed: "(i32.const 7)",
    ..REFERENCE
};

/// The one that has a handle and hands it over. Its loops are the same for every way, and return how often the other
/// one said that it has it.
fn giver(way: Way) -> String {
    let Way {
        ty,
        null,
        imports,
        passed_ty,
        passed,
    } = way;
    format!(
        r#"(module
  {imports}
  (import "receiver" "keep" (func $keep (param i32 {passed_ty}) (result i32)))
  (import "receiver" "drop" (func $drop (param {passed_ty}) (result i32)))
  (import "receiver" "release" (func $release (param i32) (result i32)))
  (@custom "refcap.endowments" "net Net required\n")
  (memory (export "memory") 1)
  (global $handle (mut {ty}) {null})
  (func (export "refcap_grant") (param {ty}) (result i32) (global.set $handle (local.get 0)) (i32.const 1))
  (func (export "refcap_start") (result i32) (i32.const 0))

  ;; The other one keeps each, in places 0 to $count - 1.
  (func (export "keep") (param $count i32) (result i32)
    (local $i i32) (local $good i32)
    (loop $more
      (local.set $good (i32.add (local.get $good) (call $keep (local.get $i) {passed})))
      (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $count))))
    (local.get $good))

  ;; The other one gives each up at once.
  (func (export "drop") (param $count i32) (result i32)
    (local $i i32) (local $good i32)
    (loop $more
      (local.set $good (i32.add (local.get $good) (call $drop {passed})))
      (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $count))))
    (local.get $good))

  ;; The other one gives up all that it keeps.
  (func (export "release") (param $count i32) (result i32) (call $release (local.get $count))))"#
    )
}

/// Keeps references in a table of its own.
fn receiver_of_references() -> String {
    format!(
        r#"(module
  (table $kept {PLACES} externref)
  (func (export "keep") (param $i i32) (param $handle externref) (result i32)
    (table.set $kept (local.get $i) (local.get $handle))
    (i32.eqz (ref.is_null (local.get $handle))))
  (func (export "drop") (param $handle externref) (result i32)
    (i32.eqz (ref.is_null (local.get $handle))))
  (func (export "release") (param $count i32) (result i32)
    (local $i i32) (local $good i32)
    (loop $more
      (local.set $good (i32.add (local.get $good) (i32.eqz (ref.is_null (table.get $kept (local.get $i))))))
      (table.set $kept (local.get $i) (ref.null extern))
      (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $count))))
    (local.get $good)))"#
    )
}

/// The same as a program of the SDK does it: what is given goes into a free slot, and the call brings its number. Free
/// slots are a list in memory.
fn receiver_of_slots() -> String {
    format!(
        r#"(module
  (memory (export "memory") 1)
  (table $slots {PLACES} externref)
  (global $free (mut i32) (i32.const 0))
  ;; How many slots were ever used.
  (global $used (mut i32) (i32.const 0))
  (func (export "refcap_grant") (param $handle externref) (result i32) (local $slot i32)
    (if (global.get $free)
      (then
        (global.set $free (i32.sub (global.get $free) (i32.const 1)))
        (local.set $slot (i32.load (i32.shl (global.get $free) (i32.const 2)))))
      (else
        (if (i32.eq (global.get $used) (table.size $slots)) (then (return (i32.const -1))))
        (local.set $slot (global.get $used))
        (global.set $used (i32.add (global.get $used) (i32.const 1)))))
    (table.set $slots (local.get $slot) (local.get $handle))
    (local.get $slot))
  (func $drop (export "drop") (param $slot i32) (result i32) (local $is_there i32)
    (local.set $is_there (i32.eqz (ref.is_null (table.get $slots (local.get $slot)))))
    (table.set $slots (local.get $slot) (ref.null extern))
    (i32.store (i32.shl (global.get $free) (i32.const 2)) (local.get $slot))
    (global.set $free (i32.add (global.get $free) (i32.const 1)))
    (local.get $is_there))
  ;; Where it is, it is kept; the other one's place is noted beside it.
  (func (export "keep") (param $i i32) (param $slot i32) (result i32)
    (i32.store offset=32768 (i32.shl (local.get $i) (i32.const 2)) (local.get $slot))
    (i32.ge_s (local.get $slot) (i32.const 0)))
  (func (export "release") (param $count i32) (result i32)
    (local $i i32) (local $good i32)
    (loop $more
      (local.set $good (i32.add (local.get $good)
        (call $drop (i32.load offset=32768 (i32.shl (local.get $i) (i32.const 2))))))
      (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $count))))
    (local.get $good)))"#
    )
}

/// Keeps numbers in its memory, and closes them, for the host's table keeps what nobody closes.
const RECEIVER_OF_NUMBERS: &str = r#"(module
  (import "integers" "close" (func $close (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "keep") (param $i i32) (param $handle i32) (result i32)
    (i32.store offset=32768 (i32.shl (local.get $i) (i32.const 2)) (local.get $handle))
    (i32.ge_s (local.get $handle) (i32.const 0)))
  (func (export "drop") (param $handle i32) (result i32)
    (i32.eqz (call $close (local.get $handle))))
  (func (export "release") (param $count i32) (result i32)
    (local $i i32) (local $good i32)
    (loop $more
      (local.set $good (i32.add (local.get $good)
        (i32.eqz (call $close (i32.load offset=32768 (i32.shl (local.get $i) (i32.const 2)))))))
      (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $count))))
    (local.get $good)))"#;

/// Keeps numbers that mean nothing.
const RECEIVER_OF_NOTHING: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "keep") (param $i i32) (param $number i32) (result i32)
    (i32.store offset=32768 (i32.shl (local.get $i) (i32.const 2)) (local.get $number))
    (i32.ge_s (local.get $number) (i32.const 0)))
  (func (export "drop") (param $number i32) (result i32)
    (i32.ge_s (local.get $number) (i32.const 0)))
  (func (export "release") (param $count i32) (result i32) (local.get $count)))"#;

/// The same calls, with which nothing is handed over.
pub(crate) fn nothing(executor: &Rc<tokio::runtime::Runtime>) -> Result<Guest> {
    linked(executor, &giver(NOTHING), RECEIVER_OF_NOTHING)
}

/// References, passed as wasm passes them.
pub(crate) fn references(executor: &Rc<tokio::runtime::Runtime>) -> Result<Guest> {
    linked(executor, &giver(REFERENCE), &receiver_of_references())
}

/// References, passed by way of `link_give`.
pub(crate) fn given(executor: &Rc<tokio::runtime::Runtime>) -> Result<Guest> {
    linked(executor, &giver(LINK_GIVE), &receiver_of_slots())
}

fn linked(executor: &Rc<tokio::runtime::Runtime>, giver: &str, receiver: &str) -> Result<Guest> {
    let runtime = Runtime::new()?;
    let [giver, receiver] = [wat::parse_str(giver)?, wat::parse_str(receiver)?];
    for module in [&giver, &receiver] {
        let called = host_functions(module)?;
        ensure!(called.is_empty(), "handing over could call the host: {called:?}");
    }
    let receiver = Program::load(&runtime, &receiver)?;
    let program = Program::load_linked(&runtime, &giver, &[("receiver", &receiver)])?;
    let net = Capability::net("net", GRANTED.parse()?, ambient_authority());
    let vat = executor.block_on(program.vat().limits(limits()).grant("net", &net).start())?;
    Ok(Guest::running(executor, vat))
}

/// Which functions of the host a module could call: what it does without any of them, it does without a call to the host.
/// Functions that are wired from program to program are wasm.
fn host_functions(module: &[u8]) -> Result<Vec<String>> {
    let module = Module::new(&engine()?, module)?;
    let is_wired = |name: &str| Import::by_name(name).is_some_and(|import| import.wired);
    let imports = module
        .imports()
        .filter(|import| import.module() != "receiver" && !is_wired(import.name()));
    Ok(imports.map(|import| import.name().to_owned()).collect())
}

/// What a number is a number of: as in refcap, no more than one pointer to what may be shared.
struct Object {
    _authority: Authority,
}

/// One instance's descriptors.
#[derive(Default)]
struct Table {
    slots: Vec<Option<Arc<Object>>>,
    free: Vec<u32>,
}

impl Table {
    fn put(&mut self, object: Arc<Object>) -> i32 {
        let place = match self.free.pop() {
            Some(place) => {
                self.slots[place as usize] = Some(object);
                place
            }
            None => {
                self.slots.push(Some(object));
                self.slots.len() as u32 - 1
            }
        };
        place.cast_signed()
    }

    fn get(&self, number: i32) -> Option<&Arc<Object>> {
        self.slots.get(number.cast_unsigned() as usize)?.as_ref()
    }

    fn close(&mut self, number: i32) -> Option<()> {
        let place = number.cast_unsigned();
        self.slots.get_mut(place as usize)?.take()?;
        self.free.push(place);
        Some(())
    }
}

/// The descriptors of both.
#[derive(Default)]
struct Tables {
    of: [Table; 2],
    /// Set by whoever revokes from another thread; looked at before each call.
    pending: AtomicBool,
}

impl Tables {
    fn duplicate(&mut self, from: usize, number: i32, to: i32) -> Option<i32> {
        if self.pending.load(Ordering::Acquire) {
            return None;
        }
        let object = self.of.get(from)?.get(number)?.clone();
        Some(self.of.get_mut(to.cast_unsigned() as usize)?.put(object))
    }

    fn close(&mut self, from: usize, number: i32) -> Option<i32> {
        if self.pending.load(Ordering::Acquire) {
            return None;
        }
        self.of.get_mut(from)?.close(number).map(|()| 0)
    }
}

/// Two instances of the twin.
#[derive(Clone)]
pub(crate) struct Numbers {
    parts: Rc<RefCell<(Store<Tables>, Instance)>>,
    executor: Rc<tokio::runtime::Runtime>,
}

impl Numbers {
    pub(crate) fn start(executor: &Rc<tokio::runtime::Runtime>) -> Result<Numbers> {
        let engine = engine()?;
        let mut tables = Tables::default();
        let net = tables.of[0].put(Arc::new(Object {
            _authority: GRANTED.parse()?,
        }));
        let mut store = Store::new(&engine, tables);
        interrupt(&mut store);
        let [giver, receiver] = [giver(NUMBER), RECEIVER_OF_NUMBERS.to_owned()];
        let instance = executor.block_on(async {
            let receiver = Module::new(&engine, wat::parse_str(receiver)?)?;
            let receiver = linker(&engine, 1)?
                .instantiate_async(&mut store, &receiver)
                .await?;
            let mut linker = linker(&engine, 0)?;
            linker.instance(&mut store, "receiver", receiver)?;
            let giver = Module::new(&engine, wat::parse_str(giver)?)?;
            let giver = linker.instantiate_async(&mut store, &giver).await?;
            let grant = giver.get_typed_func::<i32, i32>(&mut store, "refcap_grant")?;
            grant.call_async(&mut store, net).await?;
            wasmtime::error::Ok(giver)
        })?;
        Ok(Numbers {
            parts: Rc::new(RefCell::new((store, instance))),
            executor: executor.clone(),
        })
    }

    /// Calls an export, which must return `expected`.
    pub(crate) fn call(&self, name: &str, arguments: &[u32], expected: u32) -> Result<()> {
        let (store, instance) = &mut *self.parts.borrow_mut();
        let done = self.executor.block_on(call(store, instance, name, arguments))?;
        ensure!(done == expected, "{name} did {done} of {expected} operations");
        Ok(())
    }
}

/// The host functions of one of the instances: who calls is said by the host, as in refcap.
fn linker(engine: &wasmtime::Engine, instance: usize) -> Result<Linker<Tables>> {
    let mut linker = Linker::new(engine);
    let refused = ErrorCode::NullReference.status();
    linker.func_wrap(
        "integers",
        "duplicate",
        move |mut caller: Caller<'_, Tables>, number: i32, to: i32| {
            let made = caller.data_mut().duplicate(instance, number, to);
            made.unwrap_or(refused)
        },
    )?;
    linker.func_wrap(
        "integers",
        "close",
        move |mut caller: Caller<'_, Tables>, number: i32| {
            caller.data_mut().close(instance, number).unwrap_or(refused)
        },
    )?;
    Ok(linker)
}
