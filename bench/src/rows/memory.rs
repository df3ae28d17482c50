//! What capabilities, vats and connections weigh: resident bytes of a process of its own.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use refcap::{Capability, Program, Runtime, Vat, ambient_authority};
use tokio::net::TcpStream;
use wasmtime::error::Context;
use wasmtime::{Result, bail, ensure};

use super::Scale;
use super::tcp::Server;
use crate::measure::Measured;
use crate::models::integer::{self, Running, Work};
use crate::models::reference::{GRANTED, limits};
use crate::models::{INTEGER, NATIVE, REFERENCE, executor, guest};

/// A vat has a connection, which is an open file.
const OTHER_FILES: u64 = 200;

pub(crate) fn memory(scale: Scale) -> Result<Vec<Measured>> {
    let mut results = Vec::new();
    let (vats, connections): (&[u32], u32) = match scale.quick {
        true => (&[1_000], 1_000),
        false => (&[1_000, 10_000, 16_000], 10_000),
    };
    let mut weigh = |row: &'static str, what: &str, model: &'static str, count: u32, name: &str| {
        let files = if what == "capabilities" { 0 } else { count };
        if let Some(most) = open_files()
            && u64::from(files) + OTHER_FILES > most
        {
            eprintln!("  {count} {what} need more open files than the {most} that this process may have");
            return Ok(());
        }
        let bytes = alone(what, model, count)?;
        let at = format!("{count} {name}");
        results.push(Measured::of(row, at, model, "bytes", vec![bytes]));
        wasmtime::error::Ok(())
    };
    for &count in vats {
        for model in [INTEGER, REFERENCE] {
            weigh(
                "memory of a vat with a blocked read",
                "vats",
                model,
                count,
                "vats",
            )?;
        }
    }
    for model in [INTEGER, REFERENCE] {
        weigh("memory of a capability", "capabilities", model, 100_000, "live")?;
    }
    for model in [NATIVE, INTEGER, REFERENCE] {
        weigh(
            "memory of a connection",
            "connections",
            model,
            connections,
            "of one program",
        )?;
    }
    Ok(results)
}

/// How many files this process may have open, where the system says so.
fn open_files() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// Weighs in a process of its own: what was freed before would be counted otherwise.
fn alone(what: &str, model: &str, count: u32) -> Result<f64> {
    let output = Command::new(std::env::current_exe()?)
        .args(["weigh", what, model, &count.to_string()])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "weighing {count} {what} of the model {model}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text.trim().parse()?)
}

/// The other side of [`alone`]: `refcap-bench weigh WHAT MODEL COUNT`.
pub(crate) fn weigh(what: &str, model: &str, count: u32) -> Result<()> {
    let executor = executor()?;
    let bytes = match (what, model) {
        ("capabilities", _) => executor.block_on(weigh_capabilities(model, count))?,
        ("vats", _) => executor.block_on(weigh_vats(model, count))?,
        ("connections", NATIVE) => executor.block_on(weigh_native_connections(count))?,
        ("connections", _) => executor.block_on(weigh_connections(model, count))?,
        _ => bail!("there is nothing called `{what}` to weigh"),
    };
    println!("{}", bytes / f64::from(count));
    Ok(())
}

/// A guest of either model.
enum Started {
    Reference(Vat),
    Integer(Running),
}

impl Started {
    async fn call(&mut self, name: &str, arguments: &[u32]) -> Result<u32> {
        match self {
            Started::Reference(vat) => {
                let arguments: Vec<i32> = arguments.iter().map(|number| number.cast_signed()).collect();
                let result = vat.call_export(name, &arguments).await?;
                Ok(result.context("the guest returns nothing")?.cast_unsigned())
            }
            Started::Integer(running) => running.call(name, arguments).await,
        }
    }
}

/// What starts guests of either model.
enum Linked {
    Reference(Program, Capability),
    Integer(integer::Linked),
}

impl Linked {
    /// Links the guest that `source` writes. Engines are set up as by somebody who has very many vats, if `dense`.
    fn new(
        model: &str,
        rules: &str,
        dense: bool,
        source: impl FnOnce(guest::Handles) -> String,
    ) -> Result<Linked> {
        Ok(match model {
            INTEGER => {
                let engine = integer::engine_with(|config| {
                    if dense {
                        config.memory_reservation(0);
                        config.memory_reservation_for_growth(0);
                        config.memory_guard_size(0);
                    }
                })?;
                let text = source(guest::NUMBERS);
                Linked::Integer(integer::Linked::new(&engine, Work::Done, &text, rules)?)
            }
            _ => {
                let runtime = Runtime::builder().dense(dense).build()?;
                let program = Program::load(&runtime, &wat::parse_str(source(guest::REFERENCES))?)?;
                let net = Capability::net("net", rules.parse()?, ambient_authority());
                Linked::Reference(program, net)
            }
        })
    }

    async fn start(&self) -> Result<Started> {
        Ok(match self {
            Linked::Reference(program, net) => {
                let vat = program.vat().limits(limits()).grant("net", net);
                Started::Reference(vat.start().await?)
            }
            Linked::Integer(linked) => Started::Integer(linked.start().await?),
        })
    }
}

fn only(server: SocketAddr) -> String {
    format!("connect tcp {server}")
}

async fn weigh_vats(model: &str, count: u32) -> Result<f64> {
    // In another process, so that the other ends of the connections weigh nothing here.
    let server = Server::start()?;
    let address = server.address;
    let linked = Linked::new(model, &only(address), true, |handles| {
        guest::blocked(handles, address)
    })?;
    let mut running = Vec::new();
    let mut before = 0.0;
    // The first ones fill what all of them share.
    const FIRST: u32 = 50;
    for number in 0..count + FIRST {
        if number == FIRST {
            before = resident()?;
        }
        let mut guest = linked.start().await?;
        running.push(tokio::spawn(async move { guest.call("block", &[]).await }));
        // It runs until it blocks.
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    ensure!(
        running.iter().all(|vat| !vat.is_finished()),
        "a vat did not block"
    );
    if let Linked::Reference(_, net) = &linked {
        ensure!(
            net.lineage().len() > 2 * count as usize,
            "not every vat is connected"
        );
    }
    Ok(resident()? - before)
}

async fn weigh_capabilities(model: &str, count: u32) -> Result<f64> {
    let linked = Linked::new(model, GRANTED, false, guest::source)?;
    let mut guest = linked.start().await?;
    guest.call("fill", &[10]).await?;
    let before = resident()?;
    let made = guest.call("fill", &[count]).await?;
    ensure!(made == count, "the guest made {made}");
    Ok(resident()? - before)
}

async fn weigh_connections(model: &str, count: u32) -> Result<f64> {
    let server = Server::start()?;
    let address = server.address;
    let linked = Linked::new(model, &only(address), false, |handles| {
        guest::holding(handles, address)
    })?;
    let mut guest = linked.start().await?;
    guest.call("open", &[10]).await?;
    let before = resident()?;
    let made = guest.call("open", &[count]).await?;
    ensure!(made == count, "the guest made {made} connections");
    Ok(resident()? - before)
}

async fn weigh_native_connections(count: u32) -> Result<f64> {
    let server = Server::start()?;
    let mut streams = vec![TcpStream::connect(server.address).await?];
    let before = resident()?;
    for _ in 0..count {
        streams.push(TcpStream::connect(server.address).await?);
    }
    Ok(resident()? - before)
}

/// Bytes of this process in memory.
fn resident() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages = text.split(' ').nth(1).map_or(Ok(0.0), str::parse::<f64>)?;
    Ok(pages * 4096.0)
}
