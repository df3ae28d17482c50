//! The client that is a guest, with references or with numbers: the same text.

use std::net::SocketAddr;
use std::time::Instant;

use refcap::Vat;
use refcap_abi::{ErrorCode, WAIT_READ, WAIT_WRITE};
use wasmtime::error::Context;
use wasmtime::{Result, ensure};

use super::{Done, ECHO, GREETING, INTO_PAGE, Job, MESSAGE, SINK, SOURCE, STEP, STEPS};
use crate::models::guest::{self as text, Handles};
use crate::models::integer;

/// The functions of a guest, whoever hosts it.
pub(crate) enum Exports {
    Vat(Box<Vat>),
    Integer(Box<integer::Running>),
}

impl Exports {
    /// Calls one that takes numbers and returns one.
    pub(crate) async fn call(&mut self, name: &str, arguments: &[u32]) -> Result<u32> {
        match self {
            Exports::Vat(vat) => {
                let arguments: Vec<i32> = arguments.iter().map(|number| number.cast_signed()).collect();
                let result = vat.call_export(name, &arguments).await?;
                Ok(result.context("the guest returns nothing")?.cast_unsigned())
            }
            Exports::Integer(running) => running.call(name, arguments).await,
        }
    }
}

/// Does a job.
pub(super) async fn run(exports: &mut Exports, job: &Job) -> Result<Done> {
    let mut percentiles = [0.0; 2];
    let time = match *job {
        Job::Connect(count) => {
            let start = Instant::now();
            let done = exports.call("connect", &[count]).await?;
            let time = start.elapsed();
            ensure!(done == count, "{done} of {count} connections");
            time
        }
        Job::Echo(count) => {
            ensure!(
                exports.call("greet", &[ECHO.into(), 0]).await? == 1,
                "no connection"
            );
            let start = Instant::now();
            let done = exports.call("echo", &[count]).await?;
            let time = start.elapsed();
            ensure!(done == count, "{done} of {count} round trips");
            for (place, rank) in percentiles.iter_mut().zip([count / 2, count / 100 * 99]) {
                *place = f64::from(exports.call("percentile", &[rank]).await?) * STEP as f64 / 1000.0;
            }
            time
        }
        Job::Write { pieces, size } => {
            ensure!(
                exports.call("greet", &[SINK.into(), pieces * size]).await? == 1,
                "no connection"
            );
            let start = Instant::now();
            let done = exports.call("write", &[pieces, size]).await?;
            let time = start.elapsed();
            ensure!(done == pieces, "{done} of {pieces} pieces");
            time
        }
        Job::Read { pieces, size } => {
            let start = Instant::now();
            ensure!(
                exports.call("greet", &[SOURCE.into(), pieces * size]).await? == 1,
                "no connection"
            );
            let done = exports.call("read", &[pieces * size, size]).await?;
            let time = start.elapsed();
            ensure!(done == pieces * size, "{done} bytes of {}", pieces * size);
            time
        }
    };
    exports.call("close", &[]).await?;
    Ok(Done { time, percentiles })
}

/// The guest: it talks to one address, which is in its memory.
pub(crate) fn source(handles: Handles, server: SocketAddr) -> String {
    let Handles { module, ty, null, .. } = handles;
    let address = refcap_abi::wire::encode_address(server);
    let length = address.len();
    let bytes = text::data(&address);
    let would_block = ErrorCode::WouldBlock.status();
    // Memory: the address, the greeting, the time, the counts of round trips, and the buffer.
    const COUNTS: usize = 4096;
    let buffer = (COUNTS + 4 * STEPS).next_multiple_of(1 << 16) + INTO_PAGE;
    format!(
        r#"(module
  (import "{module}" "net_connect" (func $net_connect (param {ty} i32 i32 i32) (result {ty} i32)))
  (import "{module}" "stream_read" (func $stream_read (param {ty} i32 i32) (result i32)))
  (import "{module}" "stream_write" (func $stream_write (param {ty} i32 i32) (result i32)))
  (import "{module}" "socket_wait" (func $socket_wait (param {ty} i32 i32) (result i32)))
  (import "{module}" "cap_close" (func $cap_close (param {ty}) (result i32)))
  (import "{module}" "time_now" (func $time_now (param i32 i32) (result i32)))
  (@custom "refcap.endowments" "net Net required\n")
  (memory (export "memory") 20)
  (data (i32.const 64) "{bytes}")
  (global $net (mut {ty}) {null})
  (global $stream (mut {ty}) {null})

  (func (export "refcap_grant") (param {ty}) (result i32)
    (global.set $net (local.get 0))
    ;; Memory that nobody has written is one page of zeros, over and over: that is not what programs send.
    (memory.fill (i32.const {buffer}) (i32.const 7) (i32.const 1048576))
    (i32.const 1))
  (func (export "refcap_start") (result i32) (i32.const 0))

  (func $now (result i64)
    (drop (call $time_now (i32.const 256) (i32.const 8)))
    (i64.load (i32.const 256)))

  ;; Connects. Returns 1, or traps.
  (func $open (result i32)
    (local $status i32) (local $stream {ty})
    (call $net_connect (global.get $net) (i32.const 64) (i32.const {length}) (i32.const 0))
    (local.set $status) (local.set $stream)
    (if (local.get $status) (then (unreachable)))
    (global.set $stream (local.get $stream))
    (i32.const 1))

  (func $close (export "close") (result i32)
    (call $cap_close (global.get $stream)))

  (func $write_all (param $at i32) (param $length i32)
    (local $done i32)
    (loop $more
      (local.set $done (call $stream_write (global.get $stream) (local.get $at) (local.get $length)))
      (if (i32.lt_s (local.get $done) (i32.const 0))
        (then
          (if (i32.ne (local.get $done) (i32.const {would_block})) (then (unreachable)))
          (drop (call $socket_wait (global.get $stream) (i32.const {WAIT_WRITE}) (i32.const 0))))
        (else
          (local.set $at (i32.add (local.get $at) (local.get $done)))
          (local.set $length (i32.sub (local.get $length) (local.get $done)))))
      (br_if $more (local.get $length))))

  ;; Waits for something, and returns how much there was.
  (func $read_some (param $at i32) (param $length i32) (result i32)
    (local $done i32)
    (loop $more
      (local.set $done (call $stream_read (global.get $stream) (local.get $at) (local.get $length)))
      (if (i32.gt_s (local.get $done) (i32.const 0)) (then (return (local.get $done))))
      (if (i32.ne (local.get $done) (i32.const {would_block})) (then (unreachable)))
      (drop (call $socket_wait (global.get $stream) (i32.const {WAIT_READ}) (i32.const 0)))
      (br $more))
    (unreachable))

  (func (export "connect") (param $count i32) (result i32)
    (local $done i32)
    (loop $more
      (local.set $done (i32.add (local.get $done) (call $open)))
      (if (i32.lt_u (local.get $done) (local.get $count))
        (then (drop (call $close)) (br $more))))
    (local.get $done))

  (func (export "greet") (param $what i32) (param $length i32) (result i32)
    (drop (call $open))
    (i32.store8 (i32.const 128) (local.get $what))
    (i32.store (i32.const 129) (local.get $length))
    (call $write_all (i32.const 128) (i32.const {GREETING}))
    (i32.const 1))

  (func (export "echo") (param $count i32) (result i32)
    (local $done i32) (local $left i32) (local $begun i64) (local $step i32)
    (memory.fill (i32.const {COUNTS}) (i32.const 0) (i32.const {counts_bytes}))
    (loop $more
      (local.set $begun (call $now))
      (call $write_all (i32.const {buffer}) (i32.const {MESSAGE}))
      (local.set $left (i32.const {MESSAGE}))
      (loop $rest
        (local.set $left (i32.sub (local.get $left) (call $read_some (i32.const {buffer}) (local.get $left))))
        (br_if $rest (local.get $left)))
      (local.set $step (i32.wrap_i64 (i64.div_u (i64.sub (call $now) (local.get $begun)) (i64.const {STEP}))))
      (if (i32.ge_u (local.get $step) (i32.const {STEPS})) (then (local.set $step (i32.const {last}))))
      (local.set $step (i32.shl (local.get $step) (i32.const 2)))
      (i32.store offset={COUNTS} (local.get $step)
        (i32.add (i32.load offset={COUNTS} (local.get $step)) (i32.const 1)))
      (br_if $more (i32.lt_u (local.tee $done (i32.add (local.get $done) (i32.const 1))) (local.get $count))))
    (local.get $done))

  ;; The step that at most $rank of the round trips stayed below.
  (func (export "percentile") (param $rank i32) (result i32)
    (local $step i32) (local $seen i32)
    (loop $more
      (local.set $seen (i32.add (local.get $seen)
        (i32.load offset={COUNTS} (i32.shl (local.get $step) (i32.const 2)))))
      (if (i32.le_u (local.get $seen) (local.get $rank))
        (then
          (local.set $step (i32.add (local.get $step) (i32.const 1)))
          (br_if $more (i32.lt_u (local.get $step) (i32.const {STEPS}))))))
    (local.get $step))

  (func (export "write") (param $pieces i32) (param $size i32) (result i32)
    (local $done i32)
    (loop $more
      (call $write_all (i32.const {buffer}) (local.get $size))
      (br_if $more (i32.lt_u (local.tee $done (i32.add (local.get $done) (i32.const 1))) (local.get $pieces))))
    (drop (call $read_some (i32.const {buffer}) (i32.const 1)))
    (local.get $done))

  (func (export "read") (param $length i32) (param $size i32) (result i32)
    (local $done i32)
    (loop $more
      (local.set $done (i32.add (local.get $done) (call $read_some (i32.const {buffer}) (local.get $size))))
      (br_if $more (i32.lt_u (local.get $done) (local.get $length))))
    (local.get $done)))"#,
        counts_bytes = 4 * STEPS,
        last = STEPS - 1,
    )
}
