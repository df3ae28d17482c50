//! Revoking: what it costs for each that ends, and how soon those that wait know.

use std::time::{Duration, Instant};

use refcap::{Capability, Program, Runtime, Vat, ambient_authority};
use tokio::net::TcpListener;
use wasmtime::{Result, ensure};

use super::Scale;
use crate::measure::Measured;
use crate::models::reference::limits;
use crate::models::{REFERENCE, executor, guest};

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
            // Of small ones many, one after the other, so that looking at the clock does not count.
            let subtrees: Vec<_> = (0..(1_000 / size).clamp(1, 100))
                .map(|_| subtree(&executor, &program, size))
                .collect::<Result<_>>()?;
            let begun = Instant::now();
            let ended: usize = subtrees.iter().map(|(net, _vat)| net.revoke()).sum();
            let time = begun.elapsed();
            // Those of the guests, their endowments, and the ones that were minted.
            let expected = (size as usize + 2) * subtrees.len();
            ensure!(ended == expected, "{ended} ended of {expected}");
            values.push(time.as_nanos() as f64 / ended as f64);
        }
        let at = format!("{size} descendants");
        results.push(Measured::of("revoke, for each", at, REFERENCE, "ns", values));
    }
    results.push(wake(&executor, &runtime, repetitions)?);
    Ok(results)
}

/// A Net, and a vat that has derived so many from it.
fn subtree(executor: &tokio::runtime::Runtime, program: &Program, size: u32) -> Result<(Capability, Vat)> {
    let net = Capability::net("net", "connect tcp 10.0.0.1:1".parse()?, ambient_authority());
    let mut vat = executor.block_on(program.vat().limits(limits()).grant("net", &net).start())?;
    let made = executor.block_on(vat.call_export("fill", &[size.cast_signed()]))?;
    ensure!(
        made == Some(size.cast_signed()),
        "the guest made {made:?} of {size}"
    );
    Ok((net, vat))
}

/// How long after a revocation the last of many blocked reads has returned.
fn wake(executor: &tokio::runtime::Runtime, runtime: &Runtime, repetitions: usize) -> Result<Measured> {
    const VATS: usize = 100;
    let mut values = Vec::new();
    for _ in 0..repetitions {
        let time = executor.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            let program = Program::load(
                runtime,
                &wat::parse_str(guest::blocked(guest::REFERENCES, address))?,
            )?;
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
