//! TCP over loopback: clients that are native, guests, and a component; the server is another process on another
//! processor.

pub(crate) mod guest;
mod many;
mod native;
mod server;

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use refcap::{Capability, Program, Runtime, ambient_authority};
use wasmtime::error::Context;
use wasmtime::{Result, bail};

use super::Scale;
use crate::measure::{Case, Measured};
use crate::models::guest::{NUMBERS, REFERENCES};
use crate::models::integer::{self, Work};
use crate::models::{INTEGER, NATIVE, REFERENCE, WASI_P2, executor, std_net};

pub(crate) use many::many_connections;
pub(crate) use server::{Server, serve};

/// Bytes of a message that goes there and back.
const MESSAGE: usize = 64;
/// What a client asks the server for: one byte and a length of four.
const ECHO: u8 = 0;
pub(crate) const SINK: u8 = 1;
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
/// How long the server has, after a turn of connecting, to take what waits in its queue and to close it: it is not to be still
/// at that while the next client has its turn.
const TIME_TO_ACCEPT: Duration = Duration::from_millis(200);

/// A client.
enum Client {
    Native(SocketAddr),
    Guest(guest::Exports),
    StdNet(std_net::Client),
}

/// What a client is told to do, and how long it took. Round trips are returned by themselves.
pub(crate) enum Job {
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
            Client::Native(address) => native::run(*address, job).await,
            Client::Guest(exports) => guest::run(exports, job).await,
            Client::StdNet(client) => std_net(client, job).await,
        }
    }
}

async fn std_net(client: &std_net::Client, job: &Job) -> Result<Done> {
    let said = match *job {
        Job::Connect(count) => client.run("connect", &[count]).await?,
        Job::Echo(count) => client.run("echo", &[count]).await?,
        Job::Write { pieces, size } => client.run("write", &[pieces, size]).await?,
        Job::Read { pieces, size } => client.run("read", &[pieces, size]).await?,
    };
    let [time, percentiles @ ..] = &said[..] else {
        bail!("the client says nothing");
    };
    let microseconds = |place: usize| percentiles.get(place).map_or(0.0, |&time| time as f64 / 1e3);
    Ok(Done {
        time: Duration::from_nanos(*time),
        percentiles: [microseconds(0), microseconds(1)],
    })
}

/// Moves all threads of this process to these processors, where the system can do that; says so if not.
pub(crate) fn pin(processors: &str) {
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

/// Does something with a server on one processor, and this process on another.
pub(crate) fn beside_a_server<T>(run: impl FnOnce(&Server) -> Result<T>) -> Result<T> {
    let server = Server::start()?;
    // Before it is pinned: afterwards there is one.
    let last = std::thread::available_parallelism().map_or(0, |count| usize::from(count) - 1);
    pin("0");
    let results = run(&server);
    pin(&format!("0-{last}"));
    results
}

/// All rows of one connection at a time.
pub(crate) fn one_connection(scale: Scale) -> Result<Vec<Measured>> {
    beside_a_server(|server| with_server(server, scale))
}

/// How many connections are made in one turn: all of them have room in the server's queue.
const TURN: u32 = 800;

/// One job for each client that is always there, as often as is asked for, in turns.
pub(crate) fn cases(row: &'static str, job: fn(u32) -> Job) -> Result<Vec<Case>> {
    let server = Rc::new(Server::start()?);
    let executor = executor()?;
    let clients = clients(&executor, server.address)?;
    let case = |(model, mut client): (&'static str, Client)| {
        let (server, executor) = (server.clone(), executor.clone());
        Case::timed(row, "", model, move |count| {
            let _alive = &server;
            let mut time = Duration::ZERO;
            for done in (0..count).step_by(TURN as usize) {
                time += take_turn(&executor, &mut client, &job(TURN.min(count - done)))?.time;
            }
            Ok(time)
        })
    };
    Ok(clients.into_iter().map(case).collect())
}

/// The guests of the models that have one.
pub(crate) fn guests(
    executor: &Rc<tokio::runtime::Runtime>,
    server: SocketAddr,
) -> Result<Vec<(&'static str, guest::Exports)>> {
    let rules = format!("connect tcp {server}");
    let text = guest::source(NUMBERS, server);
    let linked = integer::Linked::new(&integer::engine()?, Work::Done, &text, &rules)?;
    let running = executor.block_on(linked.start())?;
    let program = Program::load(
        &Runtime::new()?,
        &wat::parse_str(guest::source(REFERENCES, server))?,
    )?;
    let net = Capability::net("net", rules.parse()?, ambient_authority());
    let vat = executor.block_on(program.vat().grant("net", &net).start())?;
    Ok(vec![
        (INTEGER, guest::Exports::Integer(Box::new(running))),
        (REFERENCE, guest::Exports::Vat(Box::new(vat))),
    ])
}

/// The clients that are always there.
fn clients(
    executor: &Rc<tokio::runtime::Runtime>,
    server: SocketAddr,
) -> Result<Vec<(&'static str, Client)>> {
    let mut clients = vec![(NATIVE, Client::Native(server))];
    for (model, exports) in guests(executor, server)? {
        clients.push((model, Client::Guest(exports)));
    }
    Ok(clients)
}

fn with_server(server: &Server, scale: Scale) -> Result<Vec<Measured>> {
    let executor = executor()?;
    let mut clients = clients(&executor, server.address)?;
    if let Some(client) = std_net::Client::load(server.address)? {
        clients.push((WASI_P2, Client::StdNet(client)));
    }
    let (repetitions, less) = if scale.quick { (5, 16) } else { (11, 1) };
    let mut results = Vec::new();
    let mut run = |rows: &[&'static str], at: &str, unit, job: Job, values: &dyn Fn(&Done) -> Vec<f64>| {
        let more = match job {
            // Small pieces go at one of two speeds, by how the two ends happen to meet: the middle needs many turns.
            Job::Write { size, .. } | Job::Read { size, .. } if size <= 4 << 10 => 3,
            // A turn is short, and what the machine does beside it is much of a few turns.
            Job::Connect(_) => 5,
            _ => 1,
        };
        let repetitions = repetitions * more;
        let values = alternate(&executor, &mut clients, &job, repetitions, values)?;
        collect(&mut results, rows, at, unit, values);
        wasmtime::error::Ok(())
    };

    // As many in the short run too: of fewer, how a turn begins would be much of it.
    let rate = |done: &Done| vec![f64::from(TURN) / done.time.as_secs_f64()];
    run(&["tcp: connect and close"], "", "1/s", Job::Connect(TURN), &rate)?;

    let round_trips = ["tcp: 64 B there and back, p50", "tcp: 64 B there and back, p99"];
    let percentiles = |done: &Done| done.percentiles.to_vec();
    run(&round_trips, "", "us", Job::Echo(8_000 / less), &percentiles)?;

    for (size, total) in [(4 << 10, 96 << 20), (64 << 10, 512 << 20), (1 << 20, 512 << 20)] {
        let pieces = total / size / less;
        let mebibytes = f64::from(pieces * size) / f64::from(1 << 20);
        let rate = |done: &Done| vec![mebibytes / done.time.as_secs_f64()];
        let at = format!("{} KiB", size >> 10);
        run(&["tcp: write"], &at, "MiB/s", Job::Write { pieces, size }, &rate)?;
        run(&["tcp: read"], &at, "MiB/s", Job::Read { pieces, size }, &rate)?;
    }
    Ok(results)
}

/// The values of each client, one list for each row.
type Values = Vec<(&'static str, Vec<Vec<f64>>)>;

/// Lets a client do a job, and then the server take what that has left in its queue.
fn take_turn(executor: &tokio::runtime::Runtime, client: &mut Client, job: &Job) -> Result<Done> {
    let done = executor.block_on(client.run(job))?;
    if let Job::Connect(_) = job {
        std::thread::sleep(TIME_TO_ACCEPT);
    }
    Ok(done)
}

/// Lets the clients take turns, the first of which are thrown away.
fn alternate(
    executor: &Rc<tokio::runtime::Runtime>,
    clients: &mut [(&'static str, Client)],
    job: &Job,
    repetitions: usize,
    values: &dyn Fn(&Done) -> Vec<f64>,
) -> Result<Values> {
    let mut all: Values = clients.iter().map(|(model, _)| (*model, Vec::new())).collect();
    for repetition in 0..=repetitions {
        for turn in 0..clients.len() {
            let who = (turn + repetition) % clients.len();
            let (model, client) = &mut clients[who];
            let done = take_turn(executor, client, job).with_context(|| format!("the client {model}"))?;
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
