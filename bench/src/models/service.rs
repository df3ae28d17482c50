//! A host function that takes what `object_call` takes: a handle, the number of a method, the place and length of a
//! message, a time. It looks the handle up, copies the message to where the host has it, and answers with a number.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use refcap_abi::{ErrorCode, MAX_MESSAGE_BYTES};
use wasmtime::{Caller, ExternRef, Instance, Linker, Memory, Module, Rooted, Store};
use wasmtime::{Result, ensure};

use super::guest::{Handles, NUMBERS, REFERENCES};
use super::integer::{call, engine, interrupt};

/// What the handle names.
struct Service {
    /// The number that a call returns.
    number: i32,
}

/// What the host keeps of one program.
struct State {
    slots: Vec<Option<Arc<Service>>>,
    memory: Option<Memory>,
    /// The last message, and for which method it was.
    received: (i32, Vec<u8>),
    /// Set by whoever revokes from another thread; looked at before each call.
    pending: AtomicBool,
}

/// How the handle gets across.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handle {
    /// As the number of a slot.
    Number,
    /// As a reference, by wasmtime's own interface.
    Reference,
}

/// A program that calls the function.
#[derive(Clone)]
pub(crate) struct Guest {
    parts: Rc<RefCell<(Store<State>, Instance)>>,
    executor: Rc<tokio::runtime::Runtime>,
}

fn source(handles: Handles) -> String {
    let Handles { ty, null, .. } = handles;
    let imports = format!(
        r#"(import "host" "call" (func $call (param {ty} i32 i32 i32 i32) (result i32)))
           (global $object (mut {ty}) {null})
           (func (export "grant") (param {ty}) (global.set $object (local.get 0)))"#
    );
    caller(&imports, "")
}

/// A program that calls an object, or what stands for one, with messages of the given length; `prepare` runs before
/// each call. Returns how many calls were answered with 1.
pub(crate) fn caller(contents: &str, prepare: &str) -> String {
    format!(
        r#"(module
  {contents}
  (memory (export "memory") 1)
  (func (export "call") (param $count i32) (param $length i32) (result i32)
    (local $good i32)
    (loop $more
      {prepare}
      (local.set $good (i32.add (local.get $good)
        (i32.eq (i32.const 1)
          (call $call (global.get $object) (i32.const 3) (i32.const 1024) (local.get $length) (i32.const 0)))))
      (br_if $more (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
    (local.get $good)))"#
    )
}

impl Guest {
    pub(crate) fn start(executor: &Rc<tokio::runtime::Runtime>, handle: Handle) -> Result<Guest> {
        let engine = engine()?;
        let service = Arc::new(Service { number: 1 });
        let state = State {
            slots: vec![Some(service.clone())],
            memory: None,
            received: (0, Vec::new()),
            pending: AtomicBool::new(false),
        };
        let mut linker = Linker::new(&engine);
        let text = match handle {
            Handle::Number => {
                linker.func_wrap("host", "call", by_number)?;
                source(NUMBERS)
            }
            Handle::Reference => {
                linker.func_wrap("host", "call", by_reference)?;
                source(REFERENCES)
            }
        };
        let module = Module::new(&engine, wat::parse_str(text)?)?;
        let mut store = Store::new(&engine, state);
        interrupt(&mut store);
        let instance = executor.block_on(async {
            let instance = linker.instantiate_async(&mut store, &module).await?;
            store.data_mut().memory = instance.get_memory(&mut store, "memory");
            match handle {
                Handle::Number => {
                    let grant = instance.get_typed_func::<i32, ()>(&mut store, "grant")?;
                    grant.call_async(&mut store, 0).await?;
                }
                Handle::Reference => {
                    let reference = ExternRef::new_async(&mut store, service).await?;
                    let grant =
                        instance.get_typed_func::<Option<Rooted<ExternRef>>, ()>(&mut store, "grant")?;
                    grant.call_async(&mut store, Some(reference)).await?;
                }
            }
            wasmtime::error::Ok(instance)
        })?;
        Ok(Guest {
            parts: Rc::new(RefCell::new((store, instance))),
            executor: executor.clone(),
        })
    }

    /// Calls the function that often, with messages of that length.
    pub(crate) fn call(&self, count: u32, length: u32) -> Result<()> {
        let (store, instance) = &mut *self.parts.borrow_mut();
        let done = self
            .executor
            .block_on(call(store, instance, "call", &[count, length]))?;
        ensure!(done == count, "{done} of {count} calls were answered");
        let (method, message) = &store.data().received;
        ensure!(
            (*method, message.len()) == (3, length as usize),
            "the host has {} bytes for method {method}",
            message.len()
        );
        Ok(())
    }
}

fn by_number(mut caller: Caller<'_, State>, number: i32, method: i32, at: i32, length: i32, _: i32) -> i32 {
    let found = match caller.data().slots.get(number.cast_unsigned() as usize) {
        Some(Some(service)) => Ok(service.number),
        _ => Err(ErrorCode::NullReference),
    };
    status(found.and_then(|number| receive(&mut caller, number, method, at, length)))
}

fn by_reference(
    mut caller: Caller<'_, State>,
    reference: Option<Rooted<ExternRef>>,
    method: i32,
    at: i32,
    length: i32,
    _: i32,
) -> Result<i32> {
    let found = match reference {
        None => Err(ErrorCode::NullReference),
        Some(reference) => match reference.data(&caller)?.and_then(|data| data.downcast_ref()) {
            None => Err(ErrorCode::ForeignReference),
            Some(service) => {
                let service: &Arc<Service> = service;
                Ok(service.number)
            }
        },
    };
    Ok(status(found.and_then(|number| {
        receive(&mut caller, number, method, at, length)
    })))
}

/// Copies the message; the buffer is kept from call to call.
fn receive(
    caller: &mut Caller<'_, State>,
    number: i32,
    method: i32,
    at: i32,
    length: i32,
) -> Result<i32, ErrorCode> {
    let memory = caller.data().memory.ok_or(ErrorCode::BadPointer)?;
    let (bytes, state) = memory.data_and_store_mut(caller);
    if state.pending.load(Ordering::Acquire) {
        return Err(ErrorCode::Revoked);
    }
    let (at, length) = (at.cast_unsigned() as usize, length.cast_unsigned() as usize);
    let bytes = bytes
        .get(at..at.saturating_add(length))
        .ok_or(ErrorCode::BadPointer)?;
    if length > MAX_MESSAGE_BYTES {
        return Err(ErrorCode::LimitReached);
    }
    state.received.0 = method;
    state.received.1.clear();
    state.received.1.extend_from_slice(bytes);
    Ok(number)
}

fn status(result: Result<i32, ErrorCode>) -> i32 {
    result.unwrap_or_else(ErrorCode::status)
}
