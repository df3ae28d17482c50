//! The integer twin: the same guest, the same engine, the same algebra of authority, and the same promises (what was
//! revoked by the host does not work), behind numbers that index a plain vector of slots. What differs is the handle:
//! whoever writes a number down has what it names.

pub(crate) mod sockets;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use refcap_abi::{ErrorCode, FLAG_DERIVABLE, FLAG_TRANSFERABLE};
use refcap_authority::{Answers, Authority, Request};
use tokio::net::TcpStream;
use wasmtime::error::Context;
use wasmtime::{
    Caller, Config, Engine, Instance, InstancePre, Linker, Memory, Module, Store, UpdateDeadline,
};
use wasmtime::{Result, ensure};

use super::guest;
use super::reference::GRANTED;

/// What a slot holds. A slot of refcap's table has the same parts.
#[expect(
    dead_code,
    reason = "a slot weighs what one of refcap's weighs, whether a row looks at all of it or not"
)]
struct Slot {
    tree: Arc<()>,
    parent: Option<u32>,
    first_child: Option<u32>,
    previous: Option<u32>,
    next: Option<u32>,
    label: Arc<str>,
    account: Option<Arc<()>>,
    object: Object,
}

/// What a number is a number of.
enum Object {
    Net {
        authority: Authority,
        answers: Answers,
        derivable: bool,
        transferable: bool,
    },
    Stream(Arc<TcpStream>),
}

/// One program's descriptors.
struct Descriptors {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    memory: Option<Memory>,
    /// Set by whoever revokes from another thread; looked at before each call.
    pending: Arc<AtomicBool>,
    /// Reads and writes since the guest has waited.
    moves: u32,
    started: Instant,
}

impl Descriptors {
    /// With a Net of these rules, and its number.
    fn with_net(rules: &str) -> Result<(Descriptors, i32)> {
        let mut descriptors = Descriptors {
            slots: Vec::new(),
            free: Vec::new(),
            memory: None,
            pending: Arc::default(),
            moves: 0,
            started: Instant::now(),
        };
        let object = Object::Net {
            authority: rules.parse()?,
            answers: Answers::standard(),
            derivable: true,
            transferable: true,
        };
        let net = descriptors.put(None, "net".into(), Arc::new(()), object);
        Ok((descriptors, net.cast_signed()))
    }

    fn get(&self, number: i32) -> Result<&Slot, ErrorCode> {
        if self.pending.load(Ordering::Acquire) {
            // Nobody revokes in these rows.
            return Err(ErrorCode::Revoked);
        }
        match self.slots.get(number.cast_unsigned() as usize) {
            Some(Some(slot)) => Ok(slot),
            _ => Err(ErrorCode::NullReference),
        }
    }

    fn put(&mut self, parent: Option<u32>, label: Arc<str>, tree: Arc<()>, object: Object) -> u32 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        let mut next = None;
        if let Some(Some(above)) = parent.map(|parent| &mut self.slots[parent as usize]) {
            next = above.first_child.replace(place);
        }
        if let Some(Some(after)) = next.map(|next| &mut self.slots[next as usize]) {
            after.previous = Some(place);
        }
        self.slots[place as usize] = Some(Slot {
            tree,
            parent,
            first_child: None,
            previous: None,
            next,
            label,
            account: None,
            object,
        });
        place
    }

    fn close(&mut self, number: i32) -> Result<(), ErrorCode> {
        self.get(number)?;
        let place = number.cast_unsigned();
        let Some(slot) = self.slots[place as usize].take() else {
            return Err(ErrorCode::NullReference);
        };
        match slot.previous {
            Some(previous) => {
                if let Some(before) = &mut self.slots[previous as usize] {
                    before.next = slot.next;
                }
            }
            None => {
                if let Some(Some(above)) = slot.parent.map(|parent| &mut self.slots[parent as usize]) {
                    above.first_child = slot.next;
                }
            }
        }
        if let Some(Some(after)) = slot.next.map(|next| &mut self.slots[next as usize]) {
            after.previous = slot.previous;
        }
        self.free.push(place);
        Ok(())
    }

    /// Derives from a number by a change of its rights.
    fn derive(
        &mut self,
        number: i32,
        change: impl FnOnce(&Authority, &Answers) -> Result<(Authority, Answers), ErrorCode>,
    ) -> Result<i32, ErrorCode> {
        let above = self.get(number)?;
        let Object::Net {
            authority,
            answers,
            derivable: true,
            transferable,
        } = &above.object
        else {
            return Err(ErrorCode::WrongKind);
        };
        let (authority, answers) = change(authority, answers)?;
        let object = Object::Net {
            authority,
            answers,
            derivable: true,
            transferable: *transferable,
        };
        let (label, tree) = (above.label.clone(), above.tree.clone());
        Ok(self
            .put(Some(number.cast_unsigned()), label, tree, object)
            .cast_signed())
    }
}

/// What happens in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// The number is looked up and used.
    Done,
    /// Nothing: what a call costs by itself.
    Left,
}

/// A guest of the twin that is linked and can be started.
pub(crate) struct Linked {
    pre: InstancePre<Descriptors>,
    rules: String,
}

impl Linked {
    /// Links a module. Its Net will have these rules.
    pub(crate) fn new(engine: &Engine, work: Work, source: &str, rules: &str) -> Result<Linked> {
        let mut linker = Linker::new(engine);
        define(&mut linker, work)?;
        sockets::define(&mut linker)?;
        let module = Module::new(engine, wat::parse_str(source)?)?;
        let pre = linker.instantiate_pre(&module)?;
        let rules = rules.to_owned();
        Ok(Linked { pre, rules })
    }

    /// Starts the guest and hands it its Net.
    pub(crate) async fn start(&self) -> Result<Running> {
        let (descriptors, net) = Descriptors::with_net(&self.rules)?;
        let mut store = Store::new(self.pre.module().engine(), descriptors);
        interrupt(&mut store);
        let instance = self.pre.instantiate_async(&mut store).await?;
        store.data_mut().memory = instance.get_memory(&mut store, "memory");
        let grant = instance.get_typed_func::<i32, i32>(&mut store, "refcap_grant")?;
        grant.call_async(&mut store, net).await?;
        Ok(Running { store, instance })
    }
}

/// A guest that runs.
pub(crate) struct Running {
    store: Store<Descriptors>,
    instance: Instance,
}

impl Running {
    /// Calls an export that takes numbers and returns one.
    pub(crate) async fn call(&mut self, name: &str, arguments: &[u32]) -> Result<u32> {
        call(&mut self.store, &self.instance, name, arguments).await
    }
}

/// The guest of the twin, or of a host that does nothing.
#[derive(Clone)]
pub(crate) struct Guest {
    running: Rc<RefCell<Running>>,
    executor: Rc<tokio::runtime::Runtime>,
}

impl Guest {
    /// Starts the guest.
    pub(crate) fn start(executor: &Rc<tokio::runtime::Runtime>, work: Work) -> Result<Guest> {
        let linked = Linked::new(&engine()?, work, &guest::source(guest::NUMBERS), GRANTED)?;
        let running = executor.block_on(linked.start())?;
        Ok(Guest {
            running: Rc::new(RefCell::new(running)),
            executor: executor.clone(),
        })
    }

    /// Calls an export, which must return `expected`.
    pub(crate) fn call(&self, name: &str, arguments: &[u32], expected: u32) -> Result<()> {
        let mut running = self.running.borrow_mut();
        let result = self.executor.block_on(running.call(name, arguments))?;
        ensure!(result == expected, "{name} did {result} of {expected} operations");
        Ok(())
    }
}

/// Calls an export that takes numbers and returns one.
pub(crate) async fn call<T: Send>(
    store: &mut Store<T>,
    instance: &Instance,
    name: &str,
    arguments: &[u32],
) -> Result<u32> {
    let function = instance
        .get_func(&mut *store, name)
        .with_context(|| format!("no export {name}"))?;
    let arguments: Vec<_> = arguments
        .iter()
        .map(|&number| wasmtime::Val::I32(number.cast_signed()))
        .collect();
    let mut results = [wasmtime::Val::I32(0)];
    function.call_async(store, &arguments, &mut results).await?;
    Ok(results[0].unwrap_i32().cast_unsigned())
}

/// An engine with the settings of refcap's.
pub(crate) fn engine() -> Result<Engine> {
    engine_with(|_| {})
}

/// The same with changes.
pub(crate) fn engine_with(change: impl FnOnce(&mut Config)) -> Result<Engine> {
    let mut config = Config::new();
    config.wasm_gc(false);
    config.wasm_function_references(false);
    config.collector(wasmtime::Collector::Copying);
    config.epoch_interruption(true);
    change(&mut config);
    let engine = Engine::new(&config)?;
    // Its clock, as refcap's has one.
    let weak = engine.weak();
    std::thread::spawn(move || {
        while let Some(engine) = weak.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    });
    Ok(engine)
}

/// Lets others have their turn, as refcap does.
pub(crate) fn interrupt<T>(store: &mut Store<T>) {
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|_| Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))));
}

fn define(linker: &mut Linker<Descriptors>, work: Work) -> Result<()> {
    let module = "integers";
    if work == Work::Left {
        linker.func_wrap(module, "net_flags", |_: i32| 3)?;
    } else {
        linker.func_wrap(
            module,
            "net_flags",
            |caller: Caller<'_, Descriptors>, number: i32| status(flags(caller.data(), number)),
        )?;
    }
    linker.func_wrap(
        module,
        "net_only",
        |mut caller: Caller<'_, Descriptors>, number: i32, at: i32, length: i32| {
            let made = only(&mut caller, number, at, length);
            (made.unwrap_or(-1), status(made.map(|_| 0)))
        },
    )?;
    linker.func_wrap(
        module,
        "net_limit",
        |mut caller: Caller<'_, Descriptors>, number: i32, _: i32, _: i32| {
            let same = |authority: &Authority, answers: &Answers| Ok((authority.clone(), answers.clone()));
            let made = caller.data_mut().derive(number, same);
            (made.unwrap_or(-1), status(made.map(|_| 0)))
        },
    )?;
    linker.func_wrap(
        module,
        "cap_close",
        |mut caller: Caller<'_, Descriptors>, number: i32| {
            status(caller.data_mut().close(number).map(|()| 0))
        },
    )?;
    Ok(())
}

fn status(result: Result<i32, ErrorCode>) -> i32 {
    result.unwrap_or_else(ErrorCode::status)
}

fn flags(descriptors: &Descriptors, number: i32) -> Result<i32, ErrorCode> {
    match &descriptors.get(number)?.object {
        Object::Net {
            derivable,
            transferable,
            ..
        } => {
            let derivable = if *derivable { FLAG_DERIVABLE } else { 0 };
            let transferable = if *transferable { FLAG_TRANSFERABLE } else { 0 };
            Ok(derivable | transferable)
        }
        Object::Stream(_) => Err(ErrorCode::WrongKind),
    }
}

fn only(caller: &mut Caller<'_, Descriptors>, number: i32, at: i32, length: i32) -> Result<i32, ErrorCode> {
    let memory = caller.data().memory.ok_or(ErrorCode::BadPointer)?;
    let (bytes, descriptors) = memory.data_and_store_mut(caller);
    let (at, length) = (at.cast_unsigned() as usize, length.cast_unsigned() as usize);
    let bytes = bytes
        .get(at..at.saturating_add(length))
        .ok_or(ErrorCode::BadPointer)?;
    let request = Request::decode(bytes).map_err(|_| ErrorCode::BadArgument)?;
    descriptors.derive(number, |authority, answers| {
        let authority = authority
            .only_request(&request)
            .map_err(|_| ErrorCode::TooComplex)?;
        let answers = answers
            .only_request(&request)
            .map_err(|_| ErrorCode::TooComplex)?;
        Ok((authority, answers))
    })
}
