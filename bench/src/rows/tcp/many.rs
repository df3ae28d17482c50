//! A thousand connections at once: a native client with a task for each, and a guest with a poller for all.

use std::net::SocketAddr;
use std::time::Instant;

use refcap::{Capability, Program, Runtime, ambient_authority};
use refcap_abi::{EVENT_BYTES, ErrorCode, MODULE, WAIT_READ, WAIT_WRITE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use wasmtime::{Result, bail, ensure};

use super::guest::Exports;
use super::native::percentile;
use super::{Done, ECHO, GREETING, MESSAGE, SINK, SOURCE, STEPS, TIME_TO_ACCEPT, beside_a_server};
use crate::measure::Measured;
use crate::models::guest as text;
use crate::models::reference::limits;
use crate::models::{NATIVE, REFERENCE, executor};
use crate::rows::Scale;

/// How many connections.
const MANY: u32 = 1_000;
/// A round trip is counted in steps of so many nanoseconds: it waits for those of all others.
const STEP: u64 = 16_000;
/// Bytes of a read or a write.
const PIECE: u32 = 64 << 10;

/// What each connection does.
#[derive(Clone, Copy)]
enum Job {
    /// So many round trips.
    Echo(u32),
    /// So many pieces written.
    Write(u32),
    /// So many pieces read.
    Read(u32),
}

impl Job {
    /// What the server is asked for.
    fn greeting(self) -> (u8, u32) {
        match self {
            Job::Echo(_) => (ECHO, 0),
            Job::Write(pieces) => (SINK, pieces * PIECE),
            Job::Read(pieces) => (SOURCE, pieces * PIECE),
        }
    }
}

/// The rows of many connections.
pub(crate) fn many_connections(scale: Scale) -> Result<Vec<Measured>> {
    beside_a_server(|server| {
        let executor = executor()?;
        let (repetitions, less) = if scale.quick { (3, 2) } else { (7, 1) };
        let mut results = Vec::new();
        for job in [Job::Echo(20 / less), Job::Write(2 / less), Job::Read(2 / less)] {
            let mut native = Vec::new();
            let mut guest = Vec::new();
            for repetition in 0..=repetitions {
                let ours = executor.block_on(with_guest(server.address, job))?;
                let theirs = executor.block_on(natively(server.address, job))?;
                if repetition > 0 {
                    guest.push(ours);
                    native.push(theirs);
                }
            }
            for (model, done) in [(NATIVE, native), (REFERENCE, guest)] {
                results.extend(measured(job, model, &done));
            }
        }
        Ok(results)
    })
}

fn measured(job: Job, model: &'static str, done: &[Done]) -> Vec<Measured> {
    let per_second = |amount: u32| -> Vec<f64> {
        done.iter()
            .map(|done| f64::from(amount) * f64::from(MANY) / done.time.as_secs_f64())
            .collect()
    };
    let mebibytes = |pieces: u32| {
        per_second(pieces * (PIECE >> 10))
            .iter()
            .map(|rate| rate / 1024.0)
            .collect()
    };
    let of = |row, unit, values| Measured::of(row, "", model, unit, values);
    match job {
        Job::Echo(count) => {
            let percentile = |place: usize| done.iter().map(|done| done.percentiles[place]).collect();
            vec![
                of(
                    "tcp, 1000 connections: 64 B there and back",
                    "1/s",
                    per_second(count),
                ),
                of("tcp, 1000 connections: 64 B, p50", "us", percentile(0)),
                of("tcp, 1000 connections: 64 B, p99", "us", percentile(1)),
            ]
        }
        Job::Write(pieces) => vec![of("tcp, 1000 connections: write", "MiB/s", mebibytes(pieces))],
        Job::Read(pieces) => vec![of("tcp, 1000 connections: read", "MiB/s", mebibytes(pieces))],
    }
}

/// The native client. Connecting is not measured, nor what the server does for it: it has the time that it needs.
async fn natively(server: SocketAddr, job: Job) -> Result<Done> {
    let (what, length) = job.greeting();
    let mut streams = Vec::new();
    for _ in 0..MANY {
        let mut stream = TcpStream::connect(server).await?;
        if !matches!(job, Job::Read(_)) {
            greet(&mut stream, what, length).await?;
        }
        streams.push(stream);
    }
    // What a connection writes from and reads into. The guest has one for all; these are made beforehand.
    let size = if matches!(job, Job::Echo(_)) {
        MESSAGE
    } else {
        PIECE as usize
    };
    let streams: Vec<_> = streams
        .into_iter()
        .map(|stream| (stream, vec![7; size]))
        .collect();
    tokio::time::sleep(TIME_TO_ACCEPT).await;
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for (mut stream, mut bytes) in streams {
        tasks.spawn(async move {
            let mut steps = Vec::new();
            match job {
                Job::Echo(count) => {
                    let message = &mut bytes[..];
                    for _ in 0..count {
                        let begun = Instant::now();
                        stream.write_all(message).await?;
                        stream.read_exact(message).await?;
                        steps.push(begun.elapsed().as_nanos() as u64 / STEP);
                    }
                }
                Job::Write(pieces) => {
                    for _ in 0..pieces {
                        stream.write_all(&bytes).await?;
                    }
                    stream.read_exact(&mut [0]).await?;
                }
                Job::Read(_) => {
                    greet(&mut stream, what, length).await?;
                    let mut left = length as usize;
                    while left > 0 {
                        match stream.read(&mut bytes).await? {
                            0 => bail!("the server stopped early"),
                            count => left -= count,
                        }
                    }
                }
            }
            Ok(steps)
        });
    }
    let mut times = vec![0; STEPS];
    while let Some(steps) = tasks.join_next().await {
        for step in steps?? {
            times[(step as usize).min(STEPS - 1)] += 1;
        }
    }
    let time = begun.elapsed();
    let all: u32 = times.iter().sum();
    Ok(Done {
        time,
        percentiles: [all / 2, all / 100 * 99].map(|rank| percentile(&times, rank, STEP)),
    })
}

async fn greet(stream: &mut TcpStream, what: u8, length: u32) -> std::io::Result<()> {
    let mut greeting = vec![what];
    greeting.extend(length.to_le_bytes());
    stream.write_all(&greeting).await
}

/// The guest.
async fn with_guest(server: SocketAddr, job: Job) -> Result<Done> {
    let program = Program::load(&Runtime::new()?, &wat::parse_str(source(server))?)?;
    let net = Capability::net(
        "net",
        format!("connect tcp {server}").parse()?,
        ambient_authority(),
    );
    let vat = program.vat().limits(limits()).grant("net", &net).start().await?;
    let mut exports = Exports::Vat(Box::new(vat));
    let (what, length) = job.greeting();
    let done = exports.call("open", &[MANY]).await?;
    ensure!(done == MANY, "{done} of {MANY} connections");
    let greet = async |exports: &mut Exports| exports.call("greet_all", &[what.into(), length, MANY]).await;
    if !matches!(job, Job::Read(_)) {
        greet(&mut exports).await?;
    }
    tokio::time::sleep(TIME_TO_ACCEPT).await;
    let mut percentiles = [0.0; 2];
    let time = match job {
        Job::Echo(count) => {
            let all = count * MANY;
            let begun = Instant::now();
            let done = exports.call("echo", &[MANY, all]).await?;
            let time = begun.elapsed();
            ensure!(done == all, "{done} of {all} round trips");
            for (place, rank) in percentiles.iter_mut().zip([all / 2, all / 100 * 99]) {
                *place = f64::from(exports.call("percentile", &[rank]).await?) * STEP as f64 / 1000.0;
            }
            time
        }
        Job::Write(pieces) => {
            let begun = Instant::now();
            let done = exports.call("write", &[MANY, pieces * PIECE]).await?;
            ensure!(done == MANY, "{done} of {MANY} connections have written");
            begun.elapsed()
        }
        Job::Read(pieces) => {
            let begun = Instant::now();
            greet(&mut exports).await?;
            let done = exports.call("read", &[MANY, pieces * PIECE]).await?;
            ensure!(done == MANY, "{done} of {MANY} connections have read");
            begun.elapsed()
        }
    };
    Ok(Done { time, percentiles })
}

/// A guest that has many connections and one poller.
fn source(server: SocketAddr) -> String {
    let address = refcap_abi::wire::encode_address(server);
    let length = address.len();
    let bytes = text::data(&address);
    let would_block = ErrorCode::WouldBlock.status();
    // Memory: the address at 64, the greeting at 128, the time at 256, an event of no interest at 512; then events, what each connection has to do
    // yet, when it began, how often each time was measured, and the buffer.
    const EVENTS: usize = 1_024;
    // A read and a write for each are what a guest may do in a row.
    const EVENTS_AT_ONCE: usize = 32;
    const LEFT: usize = 16 << 10;
    const BEGUN: usize = 32 << 10;
    const COUNTS: usize = 64 << 10;
    const BUFFER: usize = 256 << 10;
    format!(
        r#"(module
  (import "{MODULE}" "net_connect" (func $net_connect (param externref i32 i32 i32) (result externref i32)))
  (import "{MODULE}" "stream_read" (func $stream_read (param externref i32 i32) (result i32)))
  (import "{MODULE}" "stream_write" (func $stream_write (param externref i32 i32) (result i32)))
  (import "{MODULE}" "poller_new" (func $poller_new (result externref i32)))
  (import "{MODULE}" "poller_add" (func $poller_add (param externref externref i32 i32) (result i32)))
  (import "{MODULE}" "poller_remove" (func $poller_remove (param externref i32) (result i32)))
  (import "{MODULE}" "poller_wait" (func $poller_wait (param externref i32 i32 i32) (result i32)))
  (import "{MODULE}" "cap_close" (func $close (param externref) (result i32)))
  (import "{MODULE}" "time_now" (func $time_now (param i32 i32) (result i32)))
  (@custom "refcap.endowments" "net Net required\n")
  (memory (export "memory") 8)
  (data (i32.const 64) "{bytes}")
  (table $streams {MANY} externref)
  (global $net (mut externref) (ref.null extern))
  (global $poller (mut externref) (ref.null extern))
  (global $ready (mut i32) (i32.const 0))

  (func (export "refcap_grant") (param externref) (result i32)
    (global.set $net (local.get 0))
    (memory.fill (i32.const {BUFFER}) (i32.const 7) (i32.const {PIECE}))
    (i32.const 1))
  (func (export "refcap_start") (result i32) (i32.const 0))

  (func $now (result i64)
    (drop (call $time_now (i32.const 256) (i32.const 8)))
    (i64.load (i32.const 256)))

  (func (export "open") (param $count i32) (result i32)
    (local $i i32) (local $status i32) (local $made externref)
    (loop $more
      (call $net_connect (global.get $net) (i32.const 64) (i32.const {length}) (i32.const 0))
      (local.set $status) (local.set $made)
      (if (local.get $status) (then (unreachable)))
      (table.set $streams (local.get $i) (local.get $made))
      (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $count))))
    (local.get $i))

  (func (export "greet_all") (param $what i32) (param $length i32) (param $count i32) (result i32)
    (local $i i32)
    (i32.store8 (i32.const 128) (local.get $what))
    (i32.store (i32.const 129) (local.get $length))
    (loop $more
      (if (i32.ne (i32.const {GREETING})
            (call $stream_write_now (local.get $i) (i32.const 128) (i32.const {GREETING})))
        (then (unreachable)))
      (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $count))))
    (local.get $i))

  ;; Moves what can be moved. When the turn is over a look at the poller begins the next one.
  (func $stream_write_now (param $i i32) (param $at i32) (param $length i32) (result i32)
    (local $done i32)
    (loop $again
      (local.set $done
        (call $stream_write (table.get $streams (local.get $i)) (local.get $at) (local.get $length)))
      (if (i32.eq (local.get $done) (i32.const {would_block}))
        (then
          (call $look)
          (br $again))))
    (local.get $done))

  (func $look
    (local $status i32) (local $made externref)
    (if (ref.is_null (global.get $poller))
      (then
        (call $poller_new) (local.set $status) (local.set $made)
        (if (local.get $status) (then (unreachable)))
        (global.set $poller (local.get $made))))
    (drop (call $poller_wait (global.get $poller) (i32.const 512) (i32.const 8) (i32.const -1))))

  ;; All connections into a poller, each with so much to do.
  (func $begin (param $count i32) (param $interest i32) (param $left i32)
    (local $i i32)
    (call $look)
    (loop $more
      (if (call $poller_add (global.get $poller) (table.get $streams (local.get $i)) (local.get $i)
            (local.get $interest))
        (then (unreachable)))
      (i32.store offset={LEFT} (i32.shl (local.get $i) (i32.const 2)) (local.get $left))
      (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $count)))))

  ;; Is done with a connection: the native client closes it too. In the poller it would be ready for ever, for the server
  ;; closes it.
  (func $end (param $i i32)
    (drop (call $poller_remove (global.get $poller) (local.get $i)))
    (drop (call $close (table.get $streams (local.get $i))))
    (table.set $streams (local.get $i) (ref.null extern)))

  ;; Waits, and says how many are ready.
  (func $wait (result i32)
    (local $count i32)
    (local.set $count
      (call $poller_wait (global.get $poller) (i32.const {EVENTS}) (i32.const {events_bytes}) (i32.const 0)))
    (if (i32.lt_s (local.get $count) (i32.const 0)) (then (unreachable)))
    (local.get $count))

  (func $send (param $i i32)
    (i64.store offset={BEGUN} (i32.shl (local.get $i) (i32.const 3)) (call $now))
    (i32.store offset={LEFT} (i32.shl (local.get $i) (i32.const 2)) (i32.const {MESSAGE}))
    (if (i32.ne (i32.const {MESSAGE})
          (call $stream_write_now (local.get $i) (i32.const {BUFFER}) (i32.const {MESSAGE})))
      (then (unreachable))))

  (func (export "echo") (param $count i32) (param $all i32) (result i32)
    (local $sent i32) (local $done i32) (local $event i32) (local $events i32) (local $i i32)
    (local $got i32) (local $left i32) (local $step i32)
    (memory.fill (i32.const {COUNTS}) (i32.const 0) (i32.const {counts_bytes}))
    (call $begin (local.get $count) (i32.const {WAIT_READ}) (i32.const 0))
    (loop $first
      (call $send (local.get $sent))
      (br_if $first
        (i32.lt_u (local.tee $sent (i32.add (local.get $sent) (i32.const 1))) (local.get $count))))
    (loop $waits
      (local.set $events (call $wait))
      (local.set $event (i32.const 0))
      (loop $next
        (local.set $i (i32.load offset={EVENTS} (i32.shl (local.get $event) (i32.const 3))))
        (local.set $left (i32.load offset={LEFT} (i32.shl (local.get $i) (i32.const 2))))
        (local.set $got
          (call $stream_read (table.get $streams (local.get $i)) (i32.const {BUFFER}) (local.get $left)))
        (if (i32.gt_s (local.get $got) (i32.const 0)) (then
          (local.set $left (i32.sub (local.get $left) (local.get $got)))
          (i32.store offset={LEFT} (i32.shl (local.get $i) (i32.const 2)) (local.get $left))
          (if (i32.eqz (local.get $left)) (then
            (local.set $done (i32.add (local.get $done) (i32.const 1)))
            (local.set $step (i32.wrap_i64 (i64.div_u
              (i64.sub (call $now) (i64.load offset={BEGUN} (i32.shl (local.get $i) (i32.const 3))))
              (i64.const {STEP}))))
            (if (i32.ge_u (local.get $step) (i32.const {STEPS})) (then (local.set $step (i32.const {last}))))
            (local.set $step (i32.shl (local.get $step) (i32.const 2)))
            (i32.store offset={COUNTS} (local.get $step)
              (i32.add (i32.load offset={COUNTS} (local.get $step)) (i32.const 1)))
            (if (i32.lt_u (local.get $sent) (local.get $all)) (then
              (local.set $sent (i32.add (local.get $sent) (i32.const 1)))
              (call $send (local.get $i))))))))
        (br_if $next
          (i32.lt_u (local.tee $event (i32.add (local.get $event) (i32.const 1))) (local.get $events))))
      (br_if $waits (i32.lt_u (local.get $done) (local.get $all))))
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

  ;; Each writes so many bytes and waits for the answer.
  (func (export "write") (param $count i32) (param $length i32) (result i32)
    (local $done i32) (local $event i32) (local $events i32) (local $i i32) (local $moved i32) (local $left i32)
    (call $begin (local.get $count) (i32.const {WAIT_WRITE}) (local.get $length))
    (loop $waits
      (local.set $events (call $wait))
      (local.set $event (i32.const 0))
      (loop $next
        (local.set $i (i32.load offset={EVENTS} (i32.shl (local.get $event) (i32.const 3))))
        (local.set $left (i32.load offset={LEFT} (i32.shl (local.get $i) (i32.const 2))))
        (if (local.get $left)
          (then
            ;; As long as there is room, as the native client does.
            (loop $pieces
              (local.set $moved (call $stream_write (table.get $streams (local.get $i)) (i32.const {BUFFER})
                (select (local.get $left) (i32.const {PIECE}) (i32.lt_u (local.get $left) (i32.const {PIECE})))))
              (if (i32.gt_s (local.get $moved) (i32.const 0)) (then
                (local.set $left (i32.sub (local.get $left) (local.get $moved)))
                (br_if $pieces (local.get $left)))))
            (i32.store offset={LEFT} (i32.shl (local.get $i) (i32.const 2)) (local.get $left))
            (if (i32.eqz (local.get $left)) (then
              (drop (call $poller_add (global.get $poller) (table.get $streams (local.get $i))
                (local.get $i) (i32.const {WAIT_READ}))))))
          (else
            (if (i32.gt_s
                  (call $stream_read (table.get $streams (local.get $i)) (i32.const {BUFFER}) (i32.const 1))
                  (i32.const 0))
              (then
                (local.set $done (i32.add (local.get $done) (i32.const 1)))
                (call $end (local.get $i))))))
        (br_if $next
          (i32.lt_u (local.tee $event (i32.add (local.get $event) (i32.const 1))) (local.get $events))))
      (br_if $waits (i32.lt_u (local.get $done) (local.get $count))))
    (local.get $done))

  ;; Each reads so many bytes.
  (func (export "read") (param $count i32) (param $length i32) (result i32)
    (local $done i32) (local $event i32) (local $events i32) (local $i i32) (local $moved i32) (local $left i32)
    (call $begin (local.get $count) (i32.const {WAIT_READ}) (local.get $length))
    (loop $waits
      (local.set $events (call $wait))
      (local.set $event (i32.const 0))
      (loop $next
        (local.set $i (i32.load offset={EVENTS} (i32.shl (local.get $event) (i32.const 3))))
        (local.set $left (i32.load offset={LEFT} (i32.shl (local.get $i) (i32.const 2))))
        (if (local.get $left) (then
          (local.set $moved (call $stream_read (table.get $streams (local.get $i)) (i32.const {BUFFER})
            (select (local.get $left) (i32.const {PIECE}) (i32.lt_u (local.get $left) (i32.const {PIECE})))))
          (if (i32.gt_s (local.get $moved) (i32.const 0)) (then
            (local.set $left (i32.sub (local.get $left) (local.get $moved)))
            (i32.store offset={LEFT} (i32.shl (local.get $i) (i32.const 2)) (local.get $left))
            (if (i32.eqz (local.get $left)) (then
              (local.set $done (i32.add (local.get $done) (i32.const 1)))
              (call $end (local.get $i))))))))
        (br_if $next
          (i32.lt_u (local.tee $event (i32.add (local.get $event) (i32.const 1))) (local.get $events))))
      (br_if $waits (i32.lt_u (local.get $done) (local.get $count))))
    (local.get $done)))"#,
        counts_bytes = 4 * STEPS,
        last = STEPS - 1,
        events_bytes = EVENTS_AT_ONCE * EVENT_BYTES,
    )
}
