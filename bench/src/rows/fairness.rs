//! What others on the same thread have of it while a guest does all that it can: how late a ticker is.

use std::future::Future;
use std::time::{Duration, Instant};

use refcap::{Capability, Program, Runtime, ambient_authority};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wasmtime::{Result, ensure};

use super::Scale;
use super::tcp::guest::{self, Exports};
use super::tcp::{SINK, beside_a_server};
use crate::measure::Measured;
use crate::models::guest::REFERENCES;
use crate::models::{NATIVE, REFERENCE, executor};

const ROW: &str = "fairness: a ticker of 1 ms is late by at most";
const TICK: Duration = Duration::from_millis(1);
/// Bytes that are written.
const TOTAL: u32 = 256 << 20;
/// Turns of the loop that computes: some tenths of a second.
const SPINS: u32 = 400_000_000;

const COMPUTES: &str = r#"(module
  (func (export "refcap_start") (result i32) (i32.const 0))
  (func (export "spin") (param $count i32) (result i32)
    (local $x i32)
    (loop $more
      (local.set $x (i32.add (i32.mul (local.get $x) (i32.const 1103515245)) (i32.const 12345)))
      (br_if $more (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
    (i32.or (local.get $x) (i32.const 1))))"#;

pub(crate) fn fairness(scale: Scale) -> Result<Vec<Measured>> {
    let (repetitions, total) = if scale.quick { (3, TOTAL / 4) } else { (7, TOTAL) };
    beside_a_server(|server| {
        let executor = executor()?;
        let server = server.address;
        let mut results = Vec::new();
        for size in [4 << 10, 64 << 10] {
            let (mut native, mut ours) = (Vec::new(), Vec::new());
            for _ in 0..repetitions {
                native.push(executor.block_on(lateness(async move {
                    let mut stream = TcpStream::connect(server).await?;
                    let mut greeting = vec![SINK];
                    greeting.extend(total.to_le_bytes());
                    stream.write_all(&greeting).await?;
                    let bytes = vec![7; size as usize];
                    for _ in 0..total / size {
                        stream.write_all(&bytes).await?;
                    }
                    stream.read_exact(&mut [0]).await?;
                    Ok(())
                }))?);
                let mut exports = executor.block_on(writer(server))?;
                ours.push(executor.block_on(lateness(async move {
                    let greeted = exports.call("greet", &[SINK.into(), total]).await?;
                    let done = exports.call("write", &[total / size, size]).await?;
                    ensure!(greeted == 1 && done == total / size, "{done} pieces were written");
                    Ok(())
                }))?);
            }
            let at = format!("writes of {} KiB", size >> 10);
            results.push(Measured::of(ROW, at.clone(), NATIVE, "ms", native));
            results.push(Measured::of(ROW, at, REFERENCE, "ms", ours));
        }
        let program = Program::load(&Runtime::new()?, &wat::parse_str(COMPUTES)?)?;
        let mut values = Vec::new();
        for _ in 0..repetitions {
            let mut vat = executor.block_on(program.vat().start())?;
            values.push(executor.block_on(lateness(async move {
                vat.call_export("spin", &[SPINS.cast_signed()]).await?;
                Ok(())
            }))?);
        }
        results.push(Measured::of(ROW, "a loop without calls", REFERENCE, "ms", values));
        Ok(results)
    })
}

/// The guest of the rows over TCP.
async fn writer(server: std::net::SocketAddr) -> Result<Exports> {
    let program = Program::load(
        &Runtime::new()?,
        &wat::parse_str(guest::source(REFERENCES, server))?,
    )?;
    let rules = format!("connect tcp {server}");
    let net = Capability::net("net", rules.parse()?, ambient_authority());
    Ok(Exports::Vat(Box::new(
        program.vat().grant("net", &net).start().await?,
    )))
}

/// Runs something beside a ticker on the same thread, and says how late that was at most, in milliseconds.
async fn lateness(work: impl Future<Output = Result<()>> + Send + 'static) -> Result<f64> {
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let ticker = tokio::spawn(async move {
        let mut latest = Duration::ZERO;
        let mut next = Instant::now() + TICK;
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(next.into()) => {
                    latest = latest.max(next.elapsed());
                    next = (next + TICK).max(Instant::now());
                }
                _ = &mut stopped => return latest,
            }
        }
    });
    tokio::task::yield_now().await;
    let begun = Instant::now();
    tokio::spawn(work).await??;
    ensure!(begun.elapsed() > 10 * TICK, "it was over before the ticker began");
    // It has not ended: nobody else tells it to.
    let _ = stop.send(());
    Ok(ticker.await?.as_secs_f64() * 1e3)
}
