//! Many connections in one program, and many programs that wait: what each costs, and that no thread is held.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use refcap::{ErrorCode, Limits};
use refcap_abi::{NO_WAIT, WAIT_READ};

use crate::support::commands::Background;
use crate::support::servers::Silent;
use crate::support::{ANSWERS, Puppet, block_on, is_alone, net, resident, soon};

const CONNECTIONS: i32 = 10_000;
const PROGRAMS: usize = 2_000;
/// The first slot behind the puppet's own.
const FIRST: i32 = 16;
/// Where the clients connect to, in the process that is them.
const SERVER: &str = "REFCAP_TEST_SERVER";

/// Whether this process may have so many files open; says so if not.
pub(crate) fn may_open(files: u64) -> bool {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok());
    let enough = soft.is_none_or(|soft| soft >= files);
    if !enough {
        eprintln!("SKIPPED: this test needs {files} open files (`ulimit -n`), and {soft:?} are allowed");
    }
    enough
}

/// How many threads this process has, where the system says so.
fn threads() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("Threads:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Starts a process that opens connections to a server and holds them.
fn start_clients(server: std::net::SocketAddr) -> Background {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["crowd::clients", "--exact", "--nocapture"])
        .env(SERVER, server.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn();
    Background(child.unwrap())
}

/// What the other process runs; nothing in this one.
#[test]
fn clients() {
    let Ok(server) = std::env::var(SERVER) else { return };
    let connect = |_| {
        // The queue of the listener may be full for a moment.
        for _ in 0..1_000 {
            if let Ok(stream) = std::net::TcpStream::connect(&server) {
                return stream;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("{server} takes no connections");
    };
    let mut streams: Vec<_> = (0..CONNECTIONS).map(connect).collect();
    streams[5_000].write_all(b"one of many").unwrap();
    // Until the other process ends this one, or closes its end.
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn ten_thousand_connections_in_one_program() {
    let name = "crowd::ten_thousand_connections_in_one_program";
    if !may_open(u64::from(CONNECTIONS.unsigned_abs()) + 200) || !is_alone(name, &[]) {
        return;
    }
    block_on(async {
        let count = usize::try_from(CONNECTIONS).unwrap();
        let net = net("bind,listen tcp 127.0.0.1:0; accept tcp 127.0.0.1:*");
        let limits = Limits::default()
            .capabilities(count + 100)
            .sockets(count + 10)
            .fan_out(20_000)
            .table_elements(count + 100);
        let mut guest = Puppet::with_limits(&net, limits).await;
        assert!(guest.raw("grow_table", &[CONNECTIONS]).await >= 0);
        let address = guest.listen(2, 1, "127.0.0.1:0").await.unwrap();
        guest.call("poller_new", &[3]).await.unwrap();
        let before = resident();
        let _clients = start_clients(address);
        for slot in FIRST..FIRST + CONNECTIONS {
            soon(guest.accept(slot, 2)).await.unwrap();
            guest
                .call("poller_add", &[3, slot, slot, WAIT_READ])
                .await
                .unwrap();
        }
        assert_eq!(guest.handle().sockets(), count + 1);
        let after = resident();
        // One of them has something to say. A new connection counts as ready until it was tried once.
        let mut heard = Vec::new();
        loop {
            let patience = if heard.is_empty() { 0 } else { NO_WAIT };
            let Ok(events) = soon(guest.poll(3, patience)).await else {
                break;
            };
            for (token, _) in events {
                let slot = token.cast_signed();
                match guest.call("stream_read", &[slot, ANSWERS, 64]).await {
                    Ok(length) => heard.extend(guest.read(ANSWERS, length).await),
                    Err(error) => assert_eq!(error, ErrorCode::WouldBlock),
                }
            }
        }
        assert_eq!(heard, b"one of many");
        // With nothing to say, all of them cost a wait nothing.
        let begun = Instant::now();
        assert_eq!(guest.poll(3, NO_WAIT).await, Err(ErrorCode::TimedOut));
        println!("a look at {count} idle connections takes {:?}", begun.elapsed());
        if let (Some(before), Some(after), Some(threads)) = (before, after, threads()) {
            println!(
                "{} bytes for each of {count} connections, in this process; {threads} threads",
                (after - before) / count
            );
        }
        let begun = Instant::now();
        assert_eq!(net.revoke(), count + 3);
        println!("revoked in {:?}", begun.elapsed());
        assert_eq!(guest.handle().sockets(), 0);
    });
}

#[test]
fn two_thousand_programs_wait_and_hold_no_thread() {
    let name = "crowd::two_thousand_programs_wait_and_hold_no_thread";
    if !may_open(2 * PROGRAMS as u64 + 200) || !is_alone(name, &[]) {
        return;
    }
    let executor = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    executor.block_on(async {
        let server = Silent::start().await;
        let net = net("connect tcp 127.0.0.1:*");
        // The engine and the compiled puppet are there before the first is counted.
        drop(Puppet::start(&net).await);
        let before = resident();
        let mut waiting = Vec::new();
        for _ in 0..PROGRAMS {
            let mut guest = Puppet::start(&net).await;
            guest.connect(2, 1, server.address).await.unwrap();
            assert_eq!(
                guest.call("stream_read", &[2, 0, 8]).await,
                Err(ErrorCode::WouldBlock)
            );
            waiting.push(tokio::spawn(async move {
                guest.call("socket_wait", &[2, WAIT_READ, 0]).await
            }));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(waiting.iter().all(|guest| !guest.is_finished()));
        if let (Some(before), Some(after), Some(threads)) = (before, resident(), threads()) {
            println!(
                "{} bytes for each of {PROGRAMS} programs with a connection and its peer; {threads} threads",
                (after - before) / PROGRAMS
            );
            assert!(threads < 20, "{threads} threads");
        }
        let begun = Instant::now();
        // Each has its endowment and its stream.
        assert_eq!(net.revoke(), 2 * PROGRAMS + 1);
        println!("revoked in {:?}", begun.elapsed());
        for guest in waiting {
            assert_eq!(soon(guest).await.unwrap(), Err(ErrorCode::Revoked));
        }
        println!("all have ended {:?} after the revocation began", begun.elapsed());
    });
}

/// How many mappings this process has, where the system says so.
fn mappings() -> Option<usize> {
    Some(std::fs::read_to_string("/proc/self/maps").ok()?.lines().count())
}

#[test]
fn a_dense_runtime_takes_few_mappings_for_a_program() {
    const VATS: usize = 200;
    if !is_alone("crowd::a_dense_runtime_takes_few_mappings_for_a_program", &[]) {
        return;
    }
    let module = wat::parse_str(crate::support::puppet_source()).unwrap();
    let each = |dense: bool| {
        block_on(async {
            let runtime = refcap::Runtime::builder().dense(dense).build().unwrap();
            let program = refcap::Program::load(&runtime, &module).unwrap();
            let net = net("connect tcp 127.0.0.1:1");
            let mut vats = Vec::new();
            let mut before = 0;
            for number in 0..=VATS {
                if number == 1 {
                    before = mappings().unwrap_or(0);
                }
                vats.push(program.vat().grant("net", &net).start().await.unwrap());
            }
            (mappings().unwrap_or(0) - before) as f64 / VATS as f64
        })
    };
    if mappings().is_none() {
        eprintln!("SKIPPED: this test needs /proc/self/maps");
        return;
    }
    let (ordinary, dense) = (each(false), each(true));
    println!("{ordinary} mappings for a program, {dense} in a dense runtime");
    assert!(dense <= 3.0, "{dense} mappings for each");
    assert!(dense < ordinary, "{dense} are no fewer than {ordinary}");
}
