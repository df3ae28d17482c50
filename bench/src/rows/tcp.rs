//! TCP over loopback: a client that is native, and one that is a guest; the server is another process on another
//! processor.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use refcap::{Capability, Program, Runtime, Vat, ambient_authority};
use refcap_abi::{ErrorCode, MODULE, WAIT_READ, WAIT_WRITE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wasmtime::error::Context;
use wasmtime::{Result, bail, ensure};

use super::Scale;
use crate::measure::Measured;
use crate::models::{REFERENCE, executor, guest as text};

const NATIVE: &str = "native";
/// Bytes of a message that goes there and back.
const MESSAGE: usize = 64;
/// What a client asks the server for: one byte and a length of four.
const ECHO: u8 = 0;
const SINK: u8 = 1;
const SOURCE: u8 = 2;
const GREETING: usize = 5;
/// How far into a page of memory both clients' buffers begin. Some processors copy much more slowly between two places
/// that are equally far into their pages, and what the kernel copies to begins at the beginning of one: with buffers
/// that do too, in one client only, the row would compare these.
const INTO_PAGE: usize = 64;
const PAGE: usize = 4096;
/// A round trip is counted in steps of so many nanoseconds.
const STEP: u64 = 250;
const STEPS: usize = 1 << 14;

/// The server: `refcap-bench serve`. Says where it listens, and ends with its standard input.
pub(crate) fn serve() -> Result<()> {
    let runtime = executor()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        std::thread::spawn(|| {
            let _ = std::io::stdin().read_line(&mut String::new());
            std::process::exit(0);
        });
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                // Clients come and go as they like.
                let _ = answer(stream).await;
            });
        }
    })
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut greeting = [0; GREETING];
    if stream.read_exact(&mut greeting).await.is_err() {
        return Ok(());
    }
    // Not before: many clients connect and say nothing.
    let mut buffer = vec![0; 1 << 20];
    let [what, length @ ..] = greeting;
    let mut left = u32::from_le_bytes(length) as usize;
    match what {
        ECHO => loop {
            match stream.read(&mut buffer).await? {
                0 => return Ok(()),
                count => stream.write_all(&buffer[..count]).await?,
            }
        },
        SINK => {
            while left > 0 {
                match stream.read(&mut buffer).await? {
                    0 => return Ok(()),
                    count => left -= count.min(left),
                }
            }
            stream.write_all(&[1]).await
        }
        _ => {
            while left > 0 {
                let count = left.min(buffer.len());
                stream.write_all(&buffer[..count]).await?;
                left -= count;
            }
            Ok(())
        }
    }
}

/// Moves all threads of this process to these processors, where the system can do that; says so if not.
fn pin(processors: &str) {
    let pid = std::process::id().to_string();
    let pinned = Command::new("taskset")
        .args(["-a", "-p", "-c", processors, &pid])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !pinned.is_ok_and(|status| status.success()) {
        eprintln!("  the clients are not pinned to a processor: `taskset` does not work here");
    }
}

/// A server in a process of its own, as long as this lives.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start() -> Result<Server> {
        let own = std::env::current_exe()?;
        // On the other processor, where the system can say so.
        let pinned = Command::new("taskset")
            .args(["-c", "1"])
            .arg(&own)
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut process = match pinned {
            Ok(process) => process,
            Err(_) => Command::new(own)
                .arg("serve")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?,
        };
        let mut line = String::new();
        let output = process.stdout.take().context("the server's output")?;
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line)?;
        let address = line
            .trim()
            .parse::<SocketAddr>()
            .with_context(|| format!("the server said {line:?}"))?;
        Ok(Server { process, address })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A client.
enum Client {
    Native(SocketAddr),
    Guest(Box<Vat>),
}

/// What a client is told to do, and how long it took. Round trips are returned by themselves.
enum Job {
    /// Connect and close so often.
    Connect(u32),
    /// Send a message and wait for it so often.
    Echo(u32),
    /// Write so many pieces of that size.
    Write { pieces: u32, size: u32 },
    /// Read so many bytes, at most that many at a time.
    Read { pieces: u32, size: u32 },
}

/// What a job gave.
struct Done {
    time: Duration,
    /// The middle and the 99th of a hundred round trips, in microseconds.
    percentiles: [f64; 2],
}

impl Client {
    async fn run(&mut self, job: &Job) -> Result<Done> {
        match self {
            Client::Native(address) => native(*address, job).await,
            Client::Guest(vat) => guest(vat, job).await,
        }
    }
}

async fn native(server: SocketAddr, job: &Job) -> Result<Done> {
    let greet = |what: u8, length: u32| async move {
        let mut stream = TcpStream::connect(server).await?;
        let mut greeting = vec![what];
        greeting.extend(length.to_le_bytes());
        stream.write_all(&greeting).await?;
        std::io::Result::Ok(stream)
    };
    let mut percentiles = [0.0; 2];
    let time = match *job {
        Job::Connect(count) => {
            let start = Instant::now();
            for _ in 0..count {
                drop(TcpStream::connect(server).await?);
            }
            start.elapsed()
        }
        Job::Echo(count) => {
            let mut stream = greet(ECHO, 0).await?;
            let mut message = [7; MESSAGE];
            let mut times = vec![0_u32; STEPS];
            let start = Instant::now();
            for _ in 0..count {
                let begun = Instant::now();
                stream.write_all(&message).await?;
                stream.read_exact(&mut message).await?;
                let step = begun.elapsed().as_nanos() as u64 / STEP;
                times[(step as usize).min(STEPS - 1)] += 1;
            }
            percentiles = [
                percentile(&times, count / 2),
                percentile(&times, count / 100 * 99),
            ];
            start.elapsed()
        }
        Job::Write { pieces, size } => {
            let mut stream = greet(SINK, pieces * size).await?;
            let mut memory = memory(size);
            let bytes = buffer(&mut memory, size);
            let start = Instant::now();
            for _ in 0..pieces {
                stream.write_all(bytes).await?;
            }
            stream.read_exact(&mut [0]).await?;
            start.elapsed()
        }
        Job::Read { pieces, size } => {
            let mut memory = memory(size);
            let bytes = buffer(&mut memory, size);
            let start = Instant::now();
            let mut stream = greet(SOURCE, pieces * size).await?;
            let mut left = (pieces * size) as usize;
            while left > 0 {
                match stream.read(bytes).await? {
                    0 => bail!("the server stopped early"),
                    count => left -= count,
                }
            }
            start.elapsed()
        }
    };
    Ok(Done { time, percentiles })
}

/// Memory with room for a [`buffer`].
fn memory(size: u32) -> Vec<u8> {
    vec![7; size as usize + PAGE + INTO_PAGE]
}

/// A buffer that begins as far into a page as the guest's does.
fn buffer(memory: &mut [u8], size: u32) -> &mut [u8] {
    let start = memory.as_ptr().align_offset(PAGE) + INTO_PAGE;
    &mut memory[start..start + size as usize]
}

/// How long at most `rank` of the round trips took, in microseconds.
fn percentile(times: &[u32], rank: u32) -> f64 {
    let mut seen = 0;
    let step = times.iter().position(|&count| {
        seen += count;
        seen > rank
    });
    step.unwrap_or(STEPS) as f64 * STEP as f64 / 1000.0
}

async fn guest(vat: &mut Vat, job: &Job) -> Result<Done> {
    let mut call = async |name: &str, arguments: &[u32]| {
        let arguments: Vec<i32> = arguments.iter().map(|number| number.cast_signed()).collect();
        let result = vat.call_export(name, &arguments).await?;
        result.context("the guest returns nothing")
    };
    let mut percentiles = [0.0; 2];
    let time = match *job {
        Job::Connect(count) => {
            let start = Instant::now();
            let done = call("connect", &[count]).await?;
            let time = start.elapsed();
            ensure!(done == count.cast_signed(), "{done} of {count} connections");
            time
        }
        Job::Echo(count) => {
            ensure!(call("greet", &[ECHO.into(), 0]).await? == 1, "no connection");
            let start = Instant::now();
            let done = call("echo", &[count]).await?;
            let time = start.elapsed();
            ensure!(done == count.cast_signed(), "{done} of {count} round trips");
            for (place, rank) in percentiles.iter_mut().zip([count / 2, count / 100 * 99]) {
                *place = f64::from(call("percentile", &[rank]).await?) * STEP as f64 / 1000.0;
            }
            time
        }
        Job::Write { pieces, size } => {
            ensure!(
                call("greet", &[SINK.into(), pieces * size]).await? == 1,
                "no connection"
            );
            let start = Instant::now();
            let done = call("write", &[pieces, size]).await?;
            let time = start.elapsed();
            ensure!(done == pieces.cast_signed(), "{done} of {pieces} pieces");
            time
        }
        Job::Read { pieces, size } => {
            let start = Instant::now();
            ensure!(
                call("greet", &[SOURCE.into(), pieces * size]).await? == 1,
                "no connection"
            );
            let done = call("read", &[pieces * size, size]).await?;
            let time = start.elapsed();
            ensure!(
                done.cast_unsigned() == pieces * size,
                "{done} bytes of {}",
                pieces * size
            );
            time
        }
    };
    call("close", &[]).await?;
    Ok(Done { time, percentiles })
}

/// The guest: it talks to one address, which is in its memory.
fn source(server: SocketAddr) -> String {
    let address = refcap_abi::wire::encode_address(server);
    let length = address.len();
    let bytes = text::data(&address);
    let would_block = ErrorCode::WouldBlock.status();
    // Memory: the address, the greeting, the time, the counts of round trips, and the buffer.
    const COUNTS: usize = 4096;
    let buffer = (COUNTS + 4 * STEPS).next_multiple_of(1 << 16) + INTO_PAGE;
    format!(
        r#"(module
  (import "{MODULE}" "net_connect" (func $net_connect (param externref i32 i32 i32) (result externref i32)))
  (import "{MODULE}" "stream_read" (func $stream_read (param externref i32 i32) (result i32)))
  (import "{MODULE}" "stream_write" (func $stream_write (param externref i32 i32) (result i32)))
  (import "{MODULE}" "socket_wait" (func $socket_wait (param externref i32 i32) (result i32)))
  (import "{MODULE}" "cap_close" (func $cap_close (param externref) (result i32)))
  (import "{MODULE}" "time_now" (func $time_now (param i32 i32) (result i32)))
  (@custom "refcap.endowments" "net Net required\n")
  (memory (export "memory") 20)
  (data (i32.const 64) "{bytes}")
  (global $net (mut externref) (ref.null extern))
  (global $stream (mut externref) (ref.null extern))

  (func (export "refcap_grant") (param externref) (result i32)
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
    (local $status i32) (local $stream externref)
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

/// All rows of one connection at a time.
pub(crate) fn one_connection(scale: Scale) -> Result<Vec<Measured>> {
    let server = Server::start()?;
    // Before it is pinned: afterwards there is one.
    let last = std::thread::available_parallelism().map_or(0, |count| usize::from(count) - 1);
    pin("0");
    let results = with_server(&server, scale);
    pin(&format!("0-{last}"));
    results
}

fn with_server(server: &Server, scale: Scale) -> Result<Vec<Measured>> {
    let executor = executor()?;
    let runtime = Runtime::new()?;
    let program = Program::load(&runtime, &wat::parse_str(source(server.address))?)?;
    let rules = format!("connect tcp {}", server.address);
    let net = Capability::net("net", rules.parse()?, ambient_authority());
    let vat = executor.block_on(program.vat().grant("net", &net).start())?;
    let mut clients = [
        (NATIVE, Client::Native(server.address)),
        (REFERENCE, Client::Guest(Box::new(vat))),
    ];
    let (repetitions, less) = if scale.quick { (5, 8) } else { (11, 1) };
    let mut results = Vec::new();

    let job = Job::Connect(800 / less);
    let rate = |done: &Done| vec![f64::from(800 / less) / done.time.as_secs_f64()];
    let rates = alternate(&executor, &mut clients, &job, repetitions, rate)?;
    collect(&mut results, &["tcp: connect and close"], "", "1/s", rates);

    let job = Job::Echo(8_000 / less);
    let times = alternate(&executor, &mut clients, &job, repetitions, |done| {
        done.percentiles.to_vec()
    })?;
    collect(
        &mut results,
        &["tcp: 64 B there and back, p50", "tcp: 64 B there and back, p99"],
        "",
        "us",
        times,
    );

    for (size, total) in [(4 << 10, 96 << 20), (64 << 10, 512 << 20), (1 << 20, 512 << 20)] {
        let pieces = total / size / less;
        let mebibytes = f64::from(pieces * size) / f64::from(1 << 20);
        let rate = |done: &Done| vec![mebibytes / done.time.as_secs_f64()];
        let at = format!("{} KiB", size >> 10);
        let writes = alternate(
            &executor,
            &mut clients,
            &Job::Write { pieces, size },
            repetitions,
            rate,
        )?;
        collect(&mut results, &["tcp: write"], &at, "MiB/s", writes);
        let reads = alternate(
            &executor,
            &mut clients,
            &Job::Read { pieces, size },
            repetitions,
            rate,
        )?;
        collect(&mut results, &["tcp: read"], &at, "MiB/s", reads);
    }
    Ok(results)
}

/// The values of each client, one list for each row.
type Values = Vec<(&'static str, Vec<Vec<f64>>)>;

/// Lets the clients take turns, the first of which are thrown away.
fn alternate(
    executor: &Rc<tokio::runtime::Runtime>,
    clients: &mut [(&'static str, Client)],
    job: &Job,
    repetitions: usize,
    values: impl Fn(&Done) -> Vec<f64>,
) -> Result<Values> {
    let mut all: Values = clients.iter().map(|(model, _)| (*model, Vec::new())).collect();
    for repetition in 0..=repetitions {
        for turn in 0..clients.len() {
            let who = (turn + repetition) % clients.len();
            let (model, client) = &mut clients[who];
            let done = executor
                .block_on(client.run(job))
                .with_context(|| format!("the client {model}"))?;
            if repetition == 0 {
                continue;
            }
            for (row, value) in values(&done).into_iter().enumerate() {
                if all[who].1.len() <= row {
                    all[who].1.push(Vec::new());
                }
                all[who].1[row].push(value);
            }
        }
    }
    Ok(all)
}

fn collect(results: &mut Vec<Measured>, rows: &[&'static str], at: &str, unit: &'static str, values: Values) {
    for (place, row) in rows.iter().enumerate() {
        for (model, rows) in &values {
            results.push(Measured::of(row, at, model, unit, rows[place].clone()));
        }
    }
}
