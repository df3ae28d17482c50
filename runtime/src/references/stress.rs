//! Guests that make, copy, lose, close and use references at random, in two instances and on deep stacks, while
//! the collector runs at any moment; every use is looked up in both ways, and compared with what the guest
//! itself has written down.
//!
//! `REFCAP_STRESS` is the number of million comparisons, 10 without it:
//!
//! ```text
//! REFCAP_STRESS=1000 cargo test --release --workspace --lib -- --nocapture class_25_fast_and_ordinary
//! ```

use std::cell::Cell;

use refcap_abi::{ErrorCode, Import, MODULE, Param};
use wasmtime::{Linker, Module, Store};

use super::compared::Compared;
use super::{Call, Outcome, Reply, Site, now, raw};
use crate::capability::table::Object;
use crate::limits::Limits;
use crate::runtime::Runtime;
use crate::vat::VatState;

const SITE: Site = Site {
    module: MODULE,
    instance: 0,
};
/// References that a guest holds in its table.
const HELD: u32 = 256;
/// What a guest writes down for a reference that it closed.
const CLOSED: i32 = -1;
/// Steps in one call of a guest.
const STEPS: i32 = 20_000;

const fn import(name: &'static str, params: &'static [Param], refs_out: usize, consumes: bool) -> Import {
    Import {
        name,
        params,
        refs_out,
        extra_out: 0,
        suspends: false,
        consumes,
        wired: false,
    }
}

static MAKE: Import = import("make", &[], 1, false);
static MADE: Import = import("made", &[], 0, false);
static USE: Import = import("use", &[Param::Ref], 0, false);
static PAIR: Import = import("pair", &[Param::Ref, Param::Ref], 0, false);
static CLOSE: Import = import("close", &[Param::Ref], 0, true);
static COLLECT: Import = import("collect", &[], 0, false);

thread_local! {
    static LAST: Cell<i32> = const { Cell::new(0) };
}

/// A capability's number, as far as it fits into a status.
fn number(id: u64) -> i32 {
    (id & 0x3fff_ffff) as i32
}

fn make(call: &mut Call<'_>) -> Reply {
    let poller = Object::Poller(Default::default());
    let key = call.state_mut().table.plant("stress", poller).unwrap();
    LAST.set(number(key.id().get()));
    Ok(Outcome::One(key))
}

fn made(_: &mut Call<'_>) -> Reply {
    Ok(Outcome::Done(LAST.get()))
}

fn use_it(call: &mut Call<'_>) -> Reply {
    Ok(Outcome::Done(number(call.key(0)?.id().get())))
}

fn pair(call: &mut Call<'_>) -> Reply {
    let (first, second) = (call.key(0)?.id().get(), call.key(1)?.id().get());
    Ok(Outcome::Done(number(first ^ second)))
}

fn close(call: &mut Call<'_>) -> Reply {
    let key = call.key(0)?;
    call.state_mut().table.close(key);
    Ok(Outcome::Done(0))
}

fn collect(call: &mut Call<'_>) -> Reply {
    call.collect()?;
    Ok(Outcome::Done(0))
}

fn guest() -> String {
    let (null, closed) = (ErrorCode::NullReference.status(), ErrorCode::Closed.status());
    format!(
        r#"(module
  (import "{MODULE}" "make" (func $make (result externref i32)))
  (import "{MODULE}" "made" (func $made (result i32)))
  (import "{MODULE}" "use" (func $use (param externref) (result i32)))
  (import "{MODULE}" "pair" (func $pair (param externref externref) (result i32)))
  (import "{MODULE}" "close" (func $close (param externref) (result i32)))
  (import "{MODULE}" "collect" (func $collect (result i32)))
  (import "peer" "check" (func $peer (param externref i32) (result i32)))
  (table $t {HELD} externref)
  (memory 1) ;; what each place of the table holds: 0 for null, {CLOSED} for closed, else its number
  (global $random (mut i32) (i32.const 1))

  (func $next (result i32)
    (global.set $random (i32.xor (global.get $random) (i32.shl (global.get $random) (i32.const 13))))
    (global.set $random (i32.xor (global.get $random) (i32.shr_u (global.get $random) (i32.const 17))))
    (global.set $random (i32.xor (global.get $random) (i32.shl (global.get $random) (i32.const 5))))
    (global.get $random))

  ;; What a use must return.
  (func $expected (param $number i32) (result i32)
    (if (i32.eqz (local.get $number)) (then (return (i32.const {null}))))
    (if (i32.eq (local.get $number) (i32.const {CLOSED})) (then (return (i32.const {closed}))))
    (local.get $number))

  ;; 1 if a reference is not what it should be.
  (func $check (export "check") (param $ref externref) (param $number i32) (result i32)
    (i32.ne (call $use (local.get $ref)) (call $expected (local.get $number))))

  ;; The same, with the reference on the stack while others are made and collected.
  (func $deep (param $ref externref) (param $number i32) (param $depth i32) (result i32)
    (local $wrong i32)
    (if (i32.eqz (local.get $depth)) (then (return (call $peer (local.get $ref) (local.get $number)))))
    (call $make) (drop) (drop)
    (if (i32.eqz (i32.and (call $next) (i32.const 63))) (then (drop (call $collect))))
    (local.set $wrong
      (call $deep (local.get $ref) (local.get $number) (i32.sub (local.get $depth) (i32.const 1))))
    (i32.add (local.get $wrong) (call $check (local.get $ref) (local.get $number))))

  ;; Every place that holds this number holds something closed from now on.
  (func $mark_closed (param $number i32)
    (local $at i32)
    (loop $places
      (if (i32.eq (i32.load (local.get $at)) (local.get $number))
        (then (i32.store (local.get $at) (i32.const {CLOSED}))))
      (br_if $places (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4))) (i32.const {bytes})))))

  (func $step (result i32)
    (local $ref externref) (local $what i32) (local $i i32) (local $j i32) (local $a i32) (local $b i32)
    (local.set $what (call $next))
    (local.set $i (i32.and (local.get $what) (i32.const {last})))
    (local.set $j (i32.and (i32.shr_u (local.get $what) (i32.const 8)) (i32.const {last})))
    (local.set $what (i32.and (i32.shr_u (local.get $what) (i32.const 16)) (i32.const 31)))
    (local.set $a (i32.load (i32.shl (local.get $i) (i32.const 2))))
    (local.set $b (i32.load (i32.shl (local.get $j) (i32.const 2))))
    (if (i32.le_u (local.get $what) (i32.const 2)) (then
      (call $make) (drop) (local.set $ref)
      (table.set $t (local.get $i) (local.get $ref))
      (i32.store (i32.shl (local.get $i) (i32.const 2)) (call $made))
      (return (i32.const 0))))
    (if (i32.eq (local.get $what) (i32.const 3)) (then
      (table.set $t (local.get $i) (ref.null extern))
      (i32.store (i32.shl (local.get $i) (i32.const 2)) (i32.const 0))
      (return (i32.const 0))))
    (if (i32.le_u (local.get $what) (i32.const 5)) (then
      (table.set $t (local.get $i) (table.get $t (local.get $j)))
      (i32.store (i32.shl (local.get $i) (i32.const 2)) (local.get $b))
      (return (i32.const 0))))
    (if (i32.eq (local.get $what) (i32.const 6)) (then
      (if (i32.and (i32.eqz (i32.and (call $next) (i32.const 3))) (i32.gt_s (local.get $a) (i32.const 0)))
        (then
          (drop (call $close (table.get $t (local.get $i))))
          (call $mark_closed (local.get $a))))
      (return (i32.const 0))))
    (if (i32.eq (local.get $what) (i32.const 7)) (then
      (return (call $deep (table.get $t (local.get $i)) (local.get $a) (i32.const 5)))))
    (if (i32.and (i32.eq (local.get $what) (i32.const 8)) (i32.and
          (i32.gt_s (local.get $a) (i32.const 0)) (i32.gt_s (local.get $b) (i32.const 0))))
      (then (return (i32.ne
        (call $pair (table.get $t (local.get $i)) (table.get $t (local.get $j)))
        (i32.xor (local.get $a) (local.get $b))))))
    (call $check (table.get $t (local.get $i)) (local.get $a)))

  ;; Runs a number of steps, and returns in how many of them something was wrong.
  (func (export "run") (param $steps i32) (param $seed i32) (result i32)
    (local $wrong i32)
    (global.set $random (i32.or (local.get $seed) (i32.const 1)))
    (loop $more
      (local.set $wrong (i32.add (local.get $wrong) (call $step)))
      (br_if $more (local.tee $steps (i32.sub (local.get $steps) (i32.const 1)))))
    (local.get $wrong)))"#,
        bytes = HELD * 4,
        last = HELD - 1,
    )
}

#[test]
fn class_25_fast_and_ordinary_way_agree_under_stress() {
    let millions: u64 = std::env::var("REFCAP_STRESS").ok().map_or(10, |text| {
        text.parse()
            .expect("REFCAP_STRESS is a number of million comparisons")
    });
    let runtime = Runtime::new().unwrap();
    let engine = runtime.engine();
    let mut linker = Linker::new(engine);
    for (import, body) in [
        (&MAKE, now!(make)),
        (&MADE, now!(made)),
        (&USE, now!(use_it)),
        (&PAIR, now!(pair)),
        (&CLOSE, now!(close)),
        (&COLLECT, now!(collect)),
    ] {
        raw::define::<Compared>(&mut linker, SITE, import, body).unwrap();
    }
    let module = Module::new(engine, wat::parse_str(guest()).unwrap()).unwrap();
    let peer = Module::new(
        engine,
        wat::parse_str(
            guest()
                .replace(
                    "(import \"peer\" \"check\" (func $peer (param externref i32) (result i32)))",
                    "",
                )
                .replace("call $peer", "call $check"),
        )
        .unwrap(),
    )
    .unwrap();
    let executor = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut comparisons, mut hits, mut epochs, mut stores) = (0, 0, 0, 0_u64);
    while comparisons < millions * 1_000_000 {
        stores += 1;
        let limits = Limits::default().capabilities(usize::MAX);
        let mut store = Store::new(engine, VatState::blank(limits));
        // Half of the stores are interrupted all the time, as a vat's are.
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        executor.block_on(async {
            let other = linker.instantiate_async(&mut store, &peer).await.unwrap();
            let mut linker = linker.clone();
            linker.instance(&mut store, "peer", other).unwrap();
            let first = linker.instantiate_async(&mut store, &module).await.unwrap();
            for round in 0..20 {
                let instance = if round % 4 == 3 { other } else { first };
                let run = instance
                    .get_typed_func::<(i32, i32), i32>(&mut store, "run")
                    .unwrap();
                let seed = (stores * 100 + round).wrapping_mul(0x9e37_79b9) as i32;
                let wrong = run.call_async(&mut store, (STEPS, seed)).await.unwrap();
                assert_eq!(wrong, 0, "store {stores}, round {round}");
                if round % 3 == 0 {
                    // One that nobody begins an epoch after.
                    store.gc(None).unwrap();
                }
            }
        });
        let cells = &store.data().cells;
        comparisons += cells.comparisons;
        hits += cells.hits;
        epochs += u64::from(cells.epochs());
    }
    println!(
        "{comparisons} comparisons, {hits} of them answered by a cell, {epochs} epochs, {stores} stores, 0 disagreements"
    );
    assert!(
        hits > comparisons / 3,
        "{hits} of {comparisons}: the cells were hardly used"
    );
}
