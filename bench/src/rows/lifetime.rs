//! The life of vats and capabilities: starting, revoking, and what each weighs.

use std::time::{Duration, Instant};

use refcap::{Capability, Program, Runtime, Vat, ambient_authority};
use refcap_abi::MODULE;
use tokio::net::TcpListener;
use wasmtime::{Result, ensure};

use super::Scale;
use super::tcp::Server;
use crate::measure::{Case, Measured, compare};
use crate::models::reference::limits;
use crate::models::{REFERENCE, executor, guest};

/// From a linked program to the first host call, and the vat's end.
pub(crate) fn start(scale: Scale) -> Result<Vec<Measured>> {
    let executor = executor()?;
    let runtime = Runtime::new()?;
    let program = Program::load(&runtime, &wat::parse_str(guest::source(guest::REFERENCES))?)?;
    let net = Capability::net("net", "connect tcp 10.0.0.1:1".parse()?, ambient_authority());
    let run = move |count| {
        for _ in 0..count {
            executor.block_on(async {
                let mut vat = program.vat().grant("net", &net).start().await?;
                // Its first host call, with the reference that it was given.
                let made = vat.call_export("fill", &[1]).await?;
                ensure!(made == Some(1), "the guest made {made:?}");
                wasmtime::error::Ok(())
            })?;
        }
        Ok(())
    };
    compare(
        &mut [Case::new("start a vat", "on demand", REFERENCE, run)],
        scale.effort,
    )
}

/// Revoking what a guest has derived, and waking those that wait.
pub(crate) fn revoke(scale: Scale) -> Result<Vec<Measured>> {
    let executor = executor()?;
    let runtime = Runtime::new()?;
    let program = Program::load(&runtime, &wat::parse_str(guest::source(guest::REFERENCES))?)?;
    let mut results = Vec::new();
    let sizes: &[u32] = match scale.quick {
        true => &[1, 1_000, 100_000],
        false => &[1, 10, 100, 1_000, 10_000, 100_000, 1_000_000],
    };
    let repetitions = if scale.quick { 3 } else { 7 };
    for &size in sizes {
        let mut values = Vec::new();
        for _ in 0..repetitions {
            let net = Capability::net("net", "connect tcp 10.0.0.1:1".parse()?, ambient_authority());
            let mut vat = executor.block_on(program.vat().limits(limits()).grant("net", &net).start())?;
            let made = executor.block_on(vat.call_export("fill", &[size.cast_signed()]))?;
            ensure!(
                made == Some(size.cast_signed()),
                "the guest made {made:?} of {size}"
            );
            let begun = Instant::now();
            let ended = net.revoke();
            let time = begun.elapsed();
            // Those of the guest, its endowment, and the one that was minted.
            ensure!(ended == size as usize + 2, "{ended} ended of {size} and two");
            values.push(time.as_nanos() as f64 / ended as f64);
        }
        let at = format!("{size} descendants");
        results.push(Measured::of("revoke, for each", at, REFERENCE, "ns", values));
    }
    results.push(wake(&executor, &runtime, repetitions)?);
    Ok(results)
}

/// How long after a revocation the last of many blocked reads has returned.
fn wake(executor: &tokio::runtime::Runtime, runtime: &Runtime, repetitions: usize) -> Result<Measured> {
    const VATS: usize = 100;
    let mut values = Vec::new();
    for _ in 0..repetitions {
        let time = executor.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            let program = Program::load(runtime, &wat::parse_str(blocked(address))?)?;
            let net = Capability::net(
                "net",
                format!("connect tcp {address}").parse()?,
                ambient_authority(),
            );
            let (mut running, mut peers) = (Vec::new(), Vec::new());
            for _ in 0..VATS {
                let mut vat = program.vat().grant("net", &net).start().await?;
                running.push(tokio::spawn(async move { vat.call_export("block", &[]).await }));
                peers.push(listener.accept().await?);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            let begun = Instant::now();
            net.revoke();
            for vat in running {
                vat.await??;
            }
            wasmtime::error::Ok(begun.elapsed())
        })?;
        values.push(time.as_secs_f64() * 1e3);
    }
    let at = format!("{VATS} vats");
    Ok(Measured::of(
        "revoke, until all blocked reads have returned",
        at,
        REFERENCE,
        "ms",
        values,
    ))
}

/// A guest that connects and waits for something to read.
fn blocked(server: std::net::SocketAddr) -> String {
    let address = refcap_abi::wire::encode_address(server);
    let length = address.len();
    let bytes = guest::data(&address);
    format!(
        r#"(module
  (import "{MODULE}" "net_connect" (func $net_connect (param externref i32 i32 i32) (result externref i32)))
  (import "{MODULE}" "socket_wait" (func $socket_wait (param externref i32 i32) (result i32)))
  (@custom "refcap.endowments" "net Net required\n")
  (memory (export "memory") 1)
  (data (i32.const 64) "{bytes}")
  (global $net (mut externref) (ref.null extern))
  (func (export "refcap_grant") (param externref) (result i32) (global.set $net (local.get 0)) (i32.const 1))
  (func (export "refcap_start") (result i32) (i32.const 0))
  (func (export "block") (result i32)
    (local $status i32) (local $stream externref)
    (call $net_connect (global.get $net) (i32.const 64) (i32.const {length}) (i32.const 0))
    (local.set $status) (local.set $stream)
    (if (local.get $status) (then (unreachable)))
    (call $socket_wait (local.get $stream) (i32.const 1) (i32.const 0))))"#
    )
}

/// What a vat with a blocked read, and a capability, weigh: resident bytes of a process of its own.
pub(crate) fn memory(scale: Scale) -> Result<Vec<Measured>> {
    let mut results = Vec::new();
    let vats: &[u32] = if scale.quick {
        &[1_000]
    } else {
        &[1_000, 10_000, 16_000]
    };
    for &count in vats {
        // Each has a connection.
        if let Some(most) = open_files()
            && u64::from(count) + 200 > most
        {
            eprintln!("  {count} vats need more open files than the {most} that this process may have");
            continue;
        }
        let bytes = alone("vats", count)?;
        let at = format!("{count} vats");
        results.push(Measured::of(
            "memory of a vat with a blocked read",
            at,
            REFERENCE,
            "bytes",
            vec![bytes],
        ));
    }
    let bytes = alone("capabilities", 100_000)?;
    results.push(Measured::of(
        "memory of a capability",
        "100000 live",
        REFERENCE,
        "bytes",
        vec![bytes],
    ));
    Ok(results)
}

/// How many files this process may have open, where the system says so.
fn open_files() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// Runs a measurement of memory in a process of its own, and returns what it found.
fn alone(what: &str, count: u32) -> Result<f64> {
    let output = std::process::Command::new(std::env::current_exe()?)
        .args(["weigh", what, &count.to_string()])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "weighing {count} {what}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text.trim().parse()?)
}

/// The other side of [`alone`]: `refcap-bench weigh WHAT COUNT`.
pub(crate) fn weigh(what: &str, count: u32) -> Result<()> {
    let executor = executor()?;
    // As an embedder sets it up who has so many.
    let runtime = Runtime::builder().dense(what == "vats").build()?;
    let bytes = match what {
        "vats" => executor.block_on(weigh_vats(&runtime, count))?,
        _ => weigh_capabilities(&executor, &runtime, count)?,
    };
    println!("{}", bytes / f64::from(count));
    Ok(())
}

async fn weigh_vats(runtime: &Runtime, count: u32) -> Result<f64> {
    // In another process, so that the other ends of the connections weigh nothing here.
    let server = Server::start()?;
    let address = server.address;
    let program = Program::load(runtime, &wat::parse_str(blocked(address))?)?;
    let net = Capability::net(
        "net",
        format!("connect tcp {address}").parse()?,
        ambient_authority(),
    );
    let mut running = Vec::new();
    let mut before = 0.0;
    // The first ones fill what all of them share.
    const FIRST: u32 = 50;
    for number in 0..count + FIRST {
        if number == FIRST {
            before = resident()?;
        }
        let mut vat: Vat = program.vat().limits(limits()).grant("net", &net).start().await?;
        running.push(tokio::spawn(async move { vat.call_export("block", &[]).await }));
        // It runs until it blocks.
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    ensure!(
        running.iter().all(|vat| !vat.is_finished()),
        "a vat did not block"
    );
    let after = resident()?;
    ensure!(
        net.lineage().len() > 2 * count as usize,
        "not every vat is connected"
    );
    Ok(after - before)
}

fn weigh_capabilities(executor: &tokio::runtime::Runtime, runtime: &Runtime, count: u32) -> Result<f64> {
    let program = Program::load(runtime, &wat::parse_str(guest::source(guest::REFERENCES))?)?;
    let net = Capability::net("net", "connect tcp 10.0.0.1:1".parse()?, ambient_authority());
    let mut vat = executor.block_on(program.vat().limits(limits()).grant("net", &net).start())?;
    executor.block_on(vat.call_export("fill", &[10]))?;
    let before = resident()?;
    let made = executor.block_on(vat.call_export("fill", &[count.cast_signed()]))?;
    ensure!(made == Some(count.cast_signed()), "the guest made {made:?}");
    Ok(resident()? - before)
}

/// Bytes of this process in memory.
fn resident() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages = text.split(' ').nth(1).map_or(Ok(0.0), str::parse::<f64>)?;
    Ok(pages * 4096.0)
}
