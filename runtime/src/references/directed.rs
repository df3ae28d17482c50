//! Tests of each thing that the fast way relies on, one at a time.

use std::marker::PhantomData;

use refcap_abi::{ErrorCode, Import, MODULE};
use wasmtime::{AsContextMut, ExternRef, Linker, Module, RootScope, Rooted, Store};

use super::cells::Cells;
use super::compared::Compared;
use super::fast::Fast;
use super::{Call, Heap, MintError, Outcome, Passage, References, Reply, Site, check, now, raw};
use crate::capability::Key;
use crate::capability::entry::Entry;
use crate::capability::mailbox::Mailbox;
use crate::capability::table::Object;
use crate::limits::Limits;
use crate::runtime::Runtime;
use crate::vat::VatState;

const SITE: Site = Site {
    module: MODULE,
    instance: 0,
};

/// Bytes of one half of the heap that a store begins with, and the references that it has room for.
const ROOM: usize = 32 * 1024 / 32;

fn store() -> Store<VatState> {
    let limits = Limits::default().capabilities(usize::MAX);
    Store::new(Runtime::new().unwrap().engine(), VatState::blank(limits))
}

fn capability(store: &mut impl AsContextMut<Data = VatState>) -> Key<Entry> {
    let poller = Object::Poller(Default::default());
    let mut store = store.as_context_mut();
    store.data_mut().table.plant("test", poller).unwrap()
}

/// A reference that stays rooted, and its key.
fn reference<H: Heap>(store: &mut H) -> (Rooted<ExternRef>, Key<Entry>) {
    let key = capability(store);
    let reference = Fast::mint(store, key).unwrap();
    Fast::expose(store, &reference, key).unwrap();
    (reference, key)
}

fn look_up<H: Heap>(store: &mut H, reference: Rooted<ExternRef>) -> Result<Key<Entry>, ErrorCode> {
    let raw = reference.to_raw(&mut *store).unwrap();
    Compared::resolve(store, raw, false).unwrap()
}

fn cells<H: Heap>(store: &H) -> (u64, u64) {
    let cells = &store.as_context().data().cells;
    (cells.comparisons, cells.hits)
}

// A cell found by a shifted raw value alone took null for the first object of the heap.
#[test]
fn null_is_not_the_first_capability() {
    let mut store = store();
    let (first, key) = reference(&mut store);
    assert_eq!(look_up(&mut store, first), Ok(key));
    for raw in [0, 2, 4, 8, 1 << 20] {
        assert_eq!(
            store.data().cells.find(raw),
            None,
            "{raw} is no reference that was made"
        );
    }
    assert_eq!(
        Fast::resolve(&mut store, 0, false).unwrap(),
        Err(ErrorCode::NullReference)
    );
}

#[test]
fn a_look_up_is_answered_by_a_cell_until_a_collection_and_again_after_one() {
    let mut store = store();
    let (first, key) = reference(&mut store);
    assert_eq!(look_up(&mut store, first), Ok(key));
    assert_eq!(cells(&store), (1, 1));
    store.gc(None).unwrap();
    assert!(store.data().cells.is_stale());
    for _ in 0..3 {
        assert_eq!(look_up(&mut store, first), Ok(key));
    }
    assert_eq!(cells(&store), (4, 1));
    // The next reference begins an epoch.
    let (second, other) = reference(&mut store);
    for _ in 0..2 {
        assert_eq!(look_up(&mut store, first), Ok(key));
        assert_eq!(look_up(&mut store, second), Ok(other));
    }
    assert_eq!(cells(&store), (8, 4));
}

// Where the sentinel counted the epoch up instead of ending it, nobody noticed the second of two
// collections: three of three references were taken for others.
#[test]
fn class_25_after_collections_that_nobody_expected_no_reference_names_another() {
    for stray in 1..4 {
        let mut store = store();
        let mut kept: Vec<_> = (0..3).map(|_| reference(&mut store)).collect();
        // Garbage between, so that references move into each other's places.
        for _ in 0..3 {
            let mut scope = RootScope::new(&mut store);
            reference(&mut scope);
        }
        kept.extend((0..3).map(|_| reference(&mut store)));
        for _ in 0..stray {
            store.gc(None).unwrap();
            for &(reference, key) in &kept {
                assert_eq!(look_up(&mut store, reference), Ok(key));
            }
        }
        for _ in 0..2 {
            store.gc(None).unwrap();
        }
        for &(reference, key) in &kept {
            assert_eq!(look_up(&mut store, reference), Ok(key));
        }
    }
}

// Making one reference may collect, grow and collect again: all that were made before have moved, perhaps to
// where they were.
#[test]
fn class_25_while_the_heap_grows_no_reference_names_another() {
    let mut store = store();
    let mut kept = Vec::new();
    for round in 0..6 * ROOM {
        kept.push(reference(&mut store));
        if round % 7 == 0 {
            let mut scope = RootScope::new(&mut store);
            reference(&mut scope);
        }
        for back in [0, round / 3, round / 2, round] {
            let (reference, key) = kept[round - back];
            assert_eq!(look_up(&mut store, reference), Ok(key), "{back} before {round}");
        }
    }
    assert!(store.data().cells.epochs() > 3);
}

#[test]
fn class_22_a_closed_reference_has_no_cell() {
    let mut store = store();
    let (reference, key) = reference(&mut store);
    let raw = reference.to_raw(&mut store).unwrap();
    assert_eq!(Fast::resolve(&mut store, raw, true).unwrap(), Ok(key));
    for _ in 0..3 {
        assert_eq!(
            Fast::resolve(&mut store, raw, false).unwrap(),
            Err(ErrorCode::Closed)
        );
        assert_eq!(
            Fast::resolve(&mut store, raw, true).unwrap(),
            Err(ErrorCode::Closed)
        );
    }
}

#[test]
fn class_23_epochs_that_begin_again_find_no_cells_of_the_first_ones() {
    let mut store = store();
    let key = capability(&mut store);
    let mut cells = Cells::new(Mailbox::new());
    cells.begin_epoch();
    cells.fill(16, key);
    assert_eq!(cells.find(16), Some(key));
    cells.mailbox().end_epoch();
    assert_eq!(cells.find(16), None);
    cells.fill(48, key);
    assert_eq!(cells.find(48), None, "there is no epoch to fill it for");
    cells.wear_out();
    cells.begin_epoch();
    assert_eq!(cells.epochs(), 1);
    assert_eq!(cells.find(16), None);
}

// A tag is a sum of an epoch and a raw value: what was never filled, or was forgotten, must differ from every one.
#[test]
fn an_empty_cell_answers_for_no_raw_value_in_any_epoch() {
    let mut store = store();
    let key = capability(&mut store);
    let mut cells = Cells::new(Mailbox::new());
    let none_is_found = |cells: &Cells, but: u32| {
        let found: Vec<u32> = (0..1024).filter(|&raw| cells.find(raw).is_some()).collect();
        assert!(found.is_empty() || found == [but], "{found:?}");
        found.len()
    };
    for epochs in [1, 2, 3] {
        cells.begin_epoch();
        assert_eq!(cells.epochs(), epochs);
        cells.fill(528, key);
        assert_eq!(none_is_found(&cells, 528), 1);
        cells.forget(528);
        assert_eq!(none_is_found(&cells, 528), 0);
        cells.fill(528, key);
        cells.mailbox().end_epoch();
        assert_eq!(none_is_found(&cells, 528), 0);
    }
    cells.wear_out();
    cells.begin_epoch();
    cells.fill(528, key);
    assert_eq!(none_is_found(&cells, 528), 1);
}

static MAKE: Import = Import {
    name: "make",
    params: &[],
    refs_out: 1,
    extra_out: 0,
    suspends: false,
    consumes: false,
    wired: false,
};

fn make(call: &mut Call<'_>) -> Reply {
    Ok(Outcome::One(capability(call.caller())))
}

/// Lets a guest replace one of `live` references again and again, and returns for how many there was one
/// collection.
fn made_per_collection(live: usize) -> usize {
    const MADE: usize = 4 * ROOM;
    let runtime = Runtime::new().unwrap();
    let mut linker = Linker::new(runtime.engine());
    raw::define::<Fast>(&mut linker, SITE, &MAKE, now!(make)).unwrap();
    let guest = format!(
        r#"(module
          (import "{MODULE}" "make" (func $make (result externref i32)))
          (table $t {live} externref)
          (func (export "replace") (param $count i32)
            (local $ref externref)
            (loop $more
              (call $make) (drop) (local.set $ref)
              (table.set $t (i32.rem_u (local.get $count) (i32.const {live})) (local.get $ref))
              (br_if $more (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))))"#
    );
    let module = Module::new(runtime.engine(), wat::parse_str(guest).unwrap()).unwrap();
    let limits = Limits::default().capabilities(usize::MAX);
    let mut store = Store::new(runtime.engine(), VatState::blank(limits));
    store.set_epoch_deadline(1 << 40);
    let instance = linker.instantiate(&mut store, &module).unwrap();
    let replace = instance.get_typed_func::<i32, ()>(&mut store, "replace").unwrap();
    replace.call(&mut store, (2 * live + ROOM) as i32).unwrap();
    let before = store.data().cells.epochs() as usize;
    replace.call(&mut store, MADE as i32).unwrap();
    let collections = store.data().cells.epochs() as usize - before;
    MADE / collections.max(1)
}

// Without headroom there was a collection for every second reference here, each over all that live.
#[test]
fn class_26_just_below_a_full_heap_there_is_no_collection_for_every_reference() {
    for live in [
        10,
        ROOM / 2,
        ROOM - 100,
        ROOM - 10,
        ROOM - 3,
        2 * ROOM - 10,
        4 * ROOM - 3,
    ] {
        let made = made_per_collection(live);
        assert!(
            made >= ROOM / 4,
            "{made} references for each collection at {live} live"
        );
    }
}

#[test]
fn a_heap_that_may_not_grow_refuses_before_it_thrashes() {
    let limits = Limits::default().capabilities(usize::MAX).memory(64 << 10);
    let runtime = Runtime::new().unwrap();
    let mut store = Store::new(runtime.engine(), VatState::blank(limits));
    store.limiter(|state| &mut state.meter);
    let mut kept = Vec::new();
    let refused = loop {
        let key = capability(&mut store);
        match Fast::mint(&mut store, key) {
            Ok(reference) => kept.push((reference, key)),
            Err(error) => break error,
        }
        assert!(kept.len() <= ROOM, "it never refuses");
    };
    assert!(matches!(refused, MintError::Full), "{refused}");
    assert!(kept.len() >= ROOM / 2, "{} is too early", kept.len());
    for &(reference, key) in &kept {
        assert_eq!(look_up(&mut store, reference), Ok(key));
    }
}

static MAKE_TWO: Import = Import {
    name: "make_two",
    refs_out: 2,
    ..MAKE
};

fn make_two(call: &mut Call<'_>) -> Reply {
    let first = capability(call.caller());
    Ok(Outcome::Two(first, capability(call.caller())))
}

#[test]
fn a_call_whose_references_find_no_memory_leaves_nothing_behind() {
    let runtime = Runtime::new().unwrap();
    let mut linker = Linker::new(runtime.engine());
    raw::define::<Fast>(&mut linker, SITE, &MAKE, now!(make)).unwrap();
    raw::define::<Fast>(&mut linker, SITE, &MAKE_TWO, now!(make_two)).unwrap();
    let guest = format!(
        r#"(module
          (import "{MODULE}" "make" (func $make (result externref i32)))
          (import "{MODULE}" "make_two" (func $make_two (result externref externref i32)))
          (table $t {ROOM} externref)
          ;; Makes and keeps references until there are no more. Returns how many there are, and the status of the last call.
          (func (export "one") (result i32 i32)
            (local $kept i32) (local $ref externref) (local $status i32)
            (loop $more
              (call $make) (local.set $status) (local.set $ref)
              (if (i32.eqz (local.get $status)) (then
                (table.set $t (local.get $kept) (local.get $ref))
                (local.set $kept (i32.add (local.get $kept) (i32.const 1)))
                (br $more))))
            (if (i32.eqz (ref.is_null (local.get $ref))) (then unreachable))
            (local.get $kept) (local.get $status))
          (func (export "two") (result i32 i32)
            (local $kept i32) (local $a externref) (local $b externref) (local $status i32)
            (loop $more
              (call $make_two) (local.set $status) (local.set $b) (local.set $a)
              (if (i32.eqz (local.get $status)) (then
                (table.set $t (local.get $kept) (local.get $a))
                (table.set $t (i32.add (local.get $kept) (i32.const 1)) (local.get $b))
                (local.set $kept (i32.add (local.get $kept) (i32.const 2)))
                (br $more))))
            (if (i32.eqz (i32.and (ref.is_null (local.get $a)) (ref.is_null (local.get $b)))) (then unreachable))
            (local.get $kept) (local.get $status)))"#
    );
    let module = Module::new(runtime.engine(), wat::parse_str(guest).unwrap()).unwrap();
    for name in ["one", "two"] {
        let limits = Limits::default().capabilities(usize::MAX).memory(72 << 10);
        let mut store = Store::new(runtime.engine(), VatState::blank(limits));
        store.limiter(|state| &mut state.meter);
        store.set_epoch_deadline(1 << 40);
        let instance = linker.instantiate(&mut store, &module).unwrap();
        let fill = instance
            .get_typed_func::<(), (i32, i32)>(&mut store, name)
            .unwrap();
        let (kept, status) = fill.call(&mut store, ()).unwrap();
        assert_eq!(status, ErrorCode::LimitReached.status(), "{name}");
        assert!(kept as usize >= ROOM / 2, "{name}: {kept} is too early");
        store.data_mut().read_letters();
        assert_eq!(store.data().table.len(), kept as usize, "{name}");
    }
}

/// Something that is wrong with the fast way: each overrides one step of it.
trait Fault: 'static {
    fn resolve<H: Heap>(
        store: &mut H,
        raw: u32,
        consume: bool,
    ) -> wasmtime::Result<Result<Key<Entry>, ErrorCode>> {
        Fast::resolve(store, raw, consume)
    }

    fn mint<H: Heap>(store: &mut H, key: Key<Entry>) -> Result<Rooted<ExternRef>, MintError> {
        Fast::mint(store, key)
    }
}

/// The fast way with a fault.
struct Faulty<F>(PhantomData<F>);

impl<F: Fault> Passage for Faulty<F> {
    fn resolve<H: Heap>(
        store: &mut H,
        raw: u32,
        consume: bool,
    ) -> wasmtime::Result<Result<Key<Entry>, ErrorCode>> {
        F::resolve(store, raw, consume)
    }

    fn mint<H: Heap>(store: &mut H, key: Key<Entry>) -> Result<Rooted<ExternRef>, MintError> {
        F::mint(store, key)
    }

    fn expose<H: Heap>(
        store: &mut H,
        reference: &Rooted<ExternRef>,
        key: Key<Entry>,
    ) -> wasmtime::Result<u32> {
        Fast::expose(store, reference, key)
    }
}

/// Thinks that collections do not concern its cells.
struct Blind;

impl Fault for Blind {
    fn mint<H: Heap>(store: &mut H, key: Key<Entry>) -> Result<Rooted<ExternRef>, MintError> {
        let reference = super::ordinary::Ordinary::mint(store, key)?;
        // An epoch without a sentinel.
        let mut context = store.as_context_mut();
        if context.data().cells.is_stale() {
            context.data_mut().cells.begin_epoch();
        }
        Ok(reference)
    }
}

/// Takes every reference for the first one.
struct Confused;

impl Fault for Confused {
    fn resolve<H: Heap>(
        store: &mut H,
        raw: u32,
        consume: bool,
    ) -> wasmtime::Result<Result<Key<Entry>, ErrorCode>> {
        Fast::resolve(store, raw.min(16), consume)
    }
}

/// Takes null for something.
struct Generous;

impl Fault for Generous {
    fn resolve<H: Heap>(
        store: &mut H,
        raw: u32,
        consume: bool,
    ) -> wasmtime::Result<Result<Key<Entry>, ErrorCode>> {
        match raw {
            0 => Ok(Ok(capability(store))),
            raw => Fast::resolve(store, raw, consume),
        }
    }
}

#[test]
fn the_check_at_the_start_finds_what_does_not_work() {
    let runtime = Runtime::new().unwrap();
    let engine = runtime.engine();
    assert!(check::works::<Fast>(engine));
    assert!(check::works::<Compared>(engine));
    assert!(!check::works::<Faulty<Confused>>(engine));
    assert!(!check::works::<Faulty<Generous>>(engine));
    assert!(!check::works::<Faulty<Blind>>(engine));
    assert_eq!(runtime.references(), References::Fast);
}

#[test]
fn a_cell_that_is_wrong_stops_the_guest_where_both_ways_are_compared() {
    let mut store = store();
    let (reference, _) = reference(&mut store);
    let raw = reference.to_raw(&mut store).unwrap();
    let other = capability(&mut store);
    store.data_mut().cells.fill(raw, other);
    assert_eq!(Fast::resolve(&mut store, raw, false).unwrap(), Ok(other));
    let error = Compared::resolve(&mut store, raw, false).unwrap_err();
    assert!(error.to_string().contains("was taken for"), "{error}");
}
