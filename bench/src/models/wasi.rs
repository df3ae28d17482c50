//! WASI preview 1: a descriptor is a number, and `fd_fdstat_get` looks it up, checks it and says what it is.

use std::cell::RefCell;
use std::rc::Rc;

use wasmtime::{Instance, Linker, Module, Store};
use wasmtime::{Result, ensure};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p1::WasiP1Ctx;

use super::integer::{call, engine, interrupt};

const SOURCE: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $stat (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "use") (param $count i32) (result i32)
    (local $good i32)
    (loop $more
      (local.set $good (i32.add (local.get $good) (i32.eqz (call $stat (i32.const 1) (i32.const 64)))))
      (br_if $more (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
    (local.get $good)))"#;

/// A guest of preview 1.
#[derive(Clone)]
pub(crate) struct Guest {
    parts: Rc<RefCell<(Store<WasiP1Ctx>, Instance)>>,
    executor: Rc<tokio::runtime::Runtime>,
}

impl Guest {
    /// Starts the guest.
    pub(crate) fn start(executor: &Rc<tokio::runtime::Runtime>) -> Result<Guest> {
        let engine = engine()?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p1::add_to_linker_async(&mut linker, |context: &mut WasiP1Ctx| context)?;
        let module = Module::new(&engine, wat::parse_str(SOURCE)?)?;
        let mut store = Store::new(&engine, WasiCtxBuilder::new().build_p1());
        interrupt(&mut store);
        let instance = executor.block_on(linker.instantiate_async(&mut store, &module))?;
        Ok(Guest {
            parts: Rc::new(RefCell::new((store, instance))),
            executor: executor.clone(),
        })
    }

    /// Uses a descriptor that often.
    pub(crate) fn use_it(&self, count: u32) -> Result<()> {
        let (store, instance) = &mut *self.parts.borrow_mut();
        let good = self.executor.block_on(call(store, instance, "use", &[count]))?;
        ensure!(good == count, "{good} of {count} calls worked");
        Ok(())
    }
}
