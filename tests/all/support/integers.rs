//! A small host whose guests hold integers, as those of WASI preview 1 do: descriptors are numbers, the lowest that is
//! free is given out, and all instances of a store have one table of them. Nothing in it is there to be confused.

use std::io::Write;
use std::net::TcpStream;

use wasmtime::{Caller, Engine, Linker, Module, Store, Val};

/// Descriptors 0, 1 and 2 are the standard streams, of which these guests have none.
const STREAMS: usize = 3;

#[derive(Default)]
struct Descriptors(Vec<Option<TcpStream>>);

impl Descriptors {
    fn open(&mut self, stream: TcpStream) -> u32 {
        let free = (STREAMS..self.0.len()).find(|&place| self.0[place].is_none());
        let place = free.unwrap_or(self.0.len().max(STREAMS));
        if place >= self.0.len() {
            self.0.resize_with(place + 1, || None);
        }
        self.0[place] = Some(stream);
        u32::try_from(place).expect("there are few")
    }

    fn get(&self, descriptor: u32) -> Option<&TcpStream> {
        self.0.get(descriptor as usize)?.as_ref()
    }
}

/// A store with the instances in it.
pub(crate) struct Host {
    engine: Engine,
    store: Store<Descriptors>,
}

/// One of its instances.
#[derive(Clone, Copy)]
pub(crate) struct Instance(wasmtime::Instance);

impl Host {
    pub(crate) fn new() -> Host {
        let engine = Engine::default();
        let store = Store::new(&engine, Descriptors::default());
        Host { engine, store }
    }

    /// Puts a connection into the table, and returns its number.
    pub(crate) fn open(&mut self, stream: TcpStream) -> u32 {
        self.store.data_mut().open(stream)
    }

    /// Starts a module, linked to another one if it needs that as `deputy`.
    pub(crate) fn start(&mut self, module: &[u8], deputy: Option<Instance>) -> Instance {
        let mut linker = Linker::new(&self.engine);
        linker.func_wrap("integers", "fd_write", fd_write).unwrap();
        if let Some(Instance(deputy)) = deputy {
            linker.instance(&mut self.store, "deputy", deputy).unwrap();
        }
        let module = Module::new(&self.engine, module).unwrap();
        Instance(linker.instantiate(&mut self.store, &module).unwrap())
    }

    /// Calls an export with a descriptor and perhaps a word.
    pub(crate) fn call(&mut self, of: Instance, name: &str, descriptor: u32, word: Option<u64>) -> i64 {
        let function = of.0.get_func(&mut self.store, name).unwrap();
        let descriptor = Val::I32(descriptor.cast_signed());
        let word = word.map(|word| Val::I64(word.cast_signed()));
        let arguments: Vec<Val> = [descriptor].into_iter().chain(word).collect();
        let mut results = [Val::I64(0)];
        function.call(&mut self.store, &arguments, &mut results).unwrap();
        results[0].unwrap_i64()
    }
}

/// Writes from the memory of whoever calls, and returns how many bytes.
fn fd_write(mut caller: Caller<'_, Descriptors>, descriptor: u32, at: u32, length: u32) -> i32 {
    let memory = caller
        .get_export("memory")
        .and_then(|export| export.into_memory());
    let Some(memory) = memory else { return -1 };
    let (bytes, descriptors) = memory.data_and_store_mut(&mut caller);
    let bytes = bytes.get(at as usize..(at as usize).saturating_add(length as usize));
    match (bytes, descriptors.get(descriptor)) {
        (Some(bytes), Some(mut stream)) => match stream.write(bytes) {
            Ok(count) => i32::try_from(count).unwrap_or(-1),
            Err(_) => -1,
        },
        _ => -1,
    }
}
