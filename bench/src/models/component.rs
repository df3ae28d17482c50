//! The component model: a handle is an index into a table of the instance, which the engine translates into the
//! host's representation; the host looks that up in a `ResourceTable`.

use std::cell::RefCell;
use std::rc::Rc;

use wasmtime::component::{Component, Instance, Linker, Resource, ResourceTable, ResourceType};
use wasmtime::{Result, ensure};
use wasmtime::{Store, StoreContextMut};

use super::integer::{engine, interrupt};

const SOURCE: &str = r#"(component
  (import "host" (instance $host
    (export "net" (type $net (sub resource)))
    (export "[constructor]net" (func (result (own $net))))
    (export "[method]net.flags" (func (param "self" (borrow $net)) (result u32)))))
  (core func $make (canon lower (func $host "[constructor]net")))
  (core func $flags (canon lower (func $host "[method]net.flags")))
  (core module $m
    (import "" "make" (func $make (result i32)))
    (import "" "flags" (func $flags (param i32) (result i32)))
    (func (export "use") (param $count i32) (result i32)
      (local $net i32) (local $good i32)
      (local.set $net (call $make))
      (loop $more
        (local.set $good (i32.add (local.get $good) (i32.eq (call $flags (local.get $net)) (i32.const 3))))
        (br_if $more (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
      (local.get $good)))
  (core instance $i (instantiate $m (with "" (instance
    (export "make" (func $make)) (export "flags" (func $flags))))))
  (func (export "use") (param "count" u32) (result u32) (canon lift (core func $i "use"))))"#;

struct Net {
    derivable: bool,
    transferable: bool,
}

/// A guest of the component model.
#[derive(Clone)]
pub(crate) struct Guest {
    parts: Rc<RefCell<(Store<ResourceTable>, Instance)>>,
    executor: Rc<tokio::runtime::Runtime>,
}

impl Guest {
    /// Starts the guest.
    pub(crate) fn start(executor: &Rc<tokio::runtime::Runtime>) -> Result<Guest> {
        let engine = engine()?;
        let mut linker: Linker<ResourceTable> = Linker::new(&engine);
        let mut host = linker.instance("host")?;
        host.resource("net", ResourceType::host::<Net>(), |mut store, rep| {
            store.data_mut().delete(Resource::<Net>::new_own(rep))?;
            Ok(())
        })?;
        host.func_wrap(
            "[constructor]net",
            |mut store: StoreContextMut<'_, ResourceTable>, (): ()| {
                let net = Net {
                    derivable: true,
                    transferable: true,
                };
                Ok((store.data_mut().push(net)?,))
            },
        )?;
        host.func_wrap(
            "[method]net.flags",
            |store: StoreContextMut<'_, ResourceTable>, (net,): (Resource<Net>,)| {
                let net = store.data().get(&net)?;
                Ok((u32::from(net.derivable) | u32::from(net.transferable) << 1,))
            },
        )?;
        let component = Component::new(&engine, wat::parse_str(SOURCE)?)?;
        let mut store = Store::new(&engine, ResourceTable::new());
        interrupt(&mut store);
        let instance = executor.block_on(linker.instantiate_async(&mut store, &component))?;
        Ok(Guest {
            parts: Rc::new(RefCell::new((store, instance))),
            executor: executor.clone(),
        })
    }

    /// Uses a resource that often.
    pub(crate) fn use_it(&self, count: u32) -> Result<()> {
        let (store, instance) = &mut *self.parts.borrow_mut();
        let good = self.executor.block_on(async {
            let function = instance.get_typed_func::<(u32,), (u32,)>(&mut *store, "use")?;
            let (good,) = function.call_async(&mut *store, (count,)).await?;
            wasmtime::error::Ok(good)
        })?;
        ensure!(good == count, "{good} of {count} calls worked");
        Ok(())
    }
}
