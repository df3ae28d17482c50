//! What a guard adds to a decision.
//!
//! The decision is that of fixing the peer of a datagram socket: the host looks the socket up, reads the address,
//! asks the authority about both ends, and then the guards. No packet leaves and no call of the system is made, so
//! what is measured is the decision alone.

use std::cell::RefCell;
use std::rc::Rc;

use refcap::{Capability, Guard, Limits, Program, Runtime, Vat, ambient_authority};
use wasmtime::error::Context;
use wasmtime::{Result, ensure};

use super::Scale;
use crate::measure::{Case, Measured, compare};
use crate::models::executor;

const ROW: &str = "connect decision";
/// Guards that use up what one check may use, and answer just before that.
const LONGEST: &str = "connect decision, a guard's longest check";
/// What the promise is about: the guard that does nothing but say yes, less no guard.
const EACH: &str = "a guard's check, added";

const NONE: &str = "no guard";
const YES: &str = "yes";
const CLOCK: &str = "clock";
const SCAN: &str = "scan of 64";
const EIGHT: &str = "8 x yes";

/// Guards: one that says yes, one that looks at the time of day, and one that finds the peer in a list of 64, the last
/// of which it is.
const GUARDS: &[(&str, &str)] = &[
    (YES, "(i32.const 1)"),
    (
        CLOCK,
        "(i64.lt_u (i64.rem_u (i64.load offset=8 (i32.const 0)) (i64.const 86400)) (i64.const 86400))",
    ),
    (
        SCAN,
        "(local $i i32)
         (i32.store (i32.const 1276) (i32.const 0x0100007f))
         (loop $next
            (if (i32.eq (i32.load offset=1024 (i32.shl (local.get $i) (i32.const 2)))
                        (i32.load offset=48 (i32.const 0)))
                (then (return (i32.const 1))))
            (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 64))))
         (i32.const 0)",
    ),
];

fn guard(name: &str, answer: &str) -> Result<Guard> {
    let text = format!(
        r#"(module (memory (export "memory") 1) (global (export "refcap_guard_record") i32 (i32.const 0))
            (func (export "refcap_guard_check") (result i32) {answer}))"#
    );
    Ok(Guard::compile(name, &wat::parse_str(text)?)?)
}

/// Binds a socket, and fixes its peer as often as it is told.
const GUEST: &str = r#"(module
  (import "refcap_v1" "net_bind_udp" (func $bind (param externref i32 i32) (result externref i32)))
  (import "refcap_v1" "udp_connect" (func $connect (param externref i32 i32) (result i32)))
  (@custom "refcap.endowments" "net Net required\n")
  (memory (export "memory") 1)
  ;; 127.0.0.1, port 0 and port 53.
  (data (i32.const 0) "\04\7f\00\00\01\00\00")
  (data (i32.const 16) "\04\7f\00\00\01\00\35")
  (global $socket (mut externref) (ref.null extern))
  (func (export "refcap_grant") (param $net externref) (result i32) (local $status i32)
    (call $bind (local.get $net) (i32.const 0) (i32.const 7))
    (local.set $status)
    (global.set $socket)
    (i32.add (local.get $status) (i32.const 1)))
  (func (export "refcap_start") (result i32) (i32.const 0))
  (func (export "connect") (param $count i32) (result i32) (local $done i32) (local $left i32)
    (local.set $left (local.get $count))
    (loop $next
      (local.set $done (i32.add (local.get $done)
        (i32.eqz (call $connect (global.get $socket) (i32.const 16) (i32.const 7)))))
      (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (local.get $done)))"#;

/// What is slow for its fuel: a division, and calls into the engine.
const SLOW: &[(&str, &str)] = &[
    ("add", "(local.set $x (i64.add (local.get $x) (i64.const 3)))"),
    (
        "divide",
        "(local.set $x (i64.div_u (i64.const -1) (i64.or (local.get $x) (i64.const 3))))",
    ),
    ("grow by 0", "(drop (memory.grow (i32.const 0)))"),
    (
        "copy 1 B",
        "(memory.copy (i32.const 4096) (i32.const 8192) (local.get $n))",
    ),
];

fn start(
    executor: &Rc<tokio::runtime::Runtime>,
    row: &'static str,
    model: &'static str,
    guards: &[&Guard],
) -> Result<Case> {
    let program = Program::load(&Runtime::new()?, &wat::parse_str(GUEST)?)?;
    let rules = "bind udp 127.0.0.1:0; connect udp 127.0.0.0/8:53".parse()?;
    let mut net = Capability::net("net", rules, ambient_authority());
    for guard in guards {
        net = net.guarded(guard)?;
    }
    let vat = executor.block_on(program.vat().limits(Limits::default()).grant("net", &net).start())?;
    let (vat, executor) = (RefCell::new(vat), executor.clone());
    Ok(Case::new(row, "", model, move |count| {
        connect(&mut vat.borrow_mut(), &executor, count)
    }))
}

fn connect(vat: &mut Vat, executor: &tokio::runtime::Runtime, count: u32) -> Result<()> {
    let done = executor.block_on(vat.call_export("connect", &[count.cast_signed()]));
    let done = done.context("fixing a peer")?;
    ensure!(
        done == Some(count.cast_signed()),
        "{done:?} of {count} decisions were yes"
    );
    Ok(())
}

/// Decisions with and without guards.
pub(crate) fn decide(scale: Scale) -> Result<Vec<Measured>> {
    let executor = executor()?;
    let mut cases = vec![start(&executor, ROW, NONE, &[])?];
    for &(model, answer) in GUARDS {
        cases.push(start(&executor, ROW, model, &[&guard(model, answer)?])?);
    }
    let (_, yes) = GUARDS[0];
    cases.push(start(&executor, ROW, EIGHT, &[&guard(YES, yes)?; 8])?);
    let mut results = compare(&mut cases, scale.effort)?;
    let median = |model| {
        let found = results.iter().find(|measured| measured.model == model);
        found.map(|measured| measured.median)
    };
    if let (Some(none), Some(yes)) = (median(NONE), median(YES)) {
        results.push(Measured::of(EACH, "", YES, "ns", vec![yes - none]));
    }
    let mut cases = Vec::new();
    for &(model, step) in SLOW {
        cases.push(longest(&executor, model, step)?);
    }
    results.extend(compare(&mut cases, scale.effort)?);
    Ok(results)
}

/// A guard that takes a step as often as its fuel lets it, to one in twenty.
fn longest(executor: &Rc<tokio::runtime::Runtime>, model: &'static str, step: &str) -> Result<Case> {
    let mut turns = refcap::GUARD_FUEL;
    loop {
        let answer = format!(
            "(local $left i32) (local $x i64) (local $n i32)
             (local.set $n (i32.const 1))
             (local.set $left (i32.const {turns}))
             (loop $next {step}
                (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
             (i32.const 1)"
        );
        let mut case = start(executor, LONGEST, model, &[&guard(model, &answer)?])?;
        if case.time(1).is_ok() {
            return Ok(case);
        }
        turns -= turns.div_ceil(20);
        ensure!(turns > 1, "{model}: one step is more than a check may use");
    }
}
