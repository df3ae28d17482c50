//! An HTTP server under load: the guest of the examples, and the same server natively, with the same parser. Each is
//! a process of its own on one processor; whoever asks is on another.

use std::io::BufRead;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use refcap::{Capability, Limits, Output, Program, Runtime, ambient_authority};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use wasmtime::error::Context;
use wasmtime::{Result, bail, ensure};

use super::Scale;
use super::tcp::pin;
use crate::measure::Measured;
use crate::models::{NATIVE, REFERENCE, executor, guest_module};

#[path = "../../../examples/http-server/src/http.rs"]
mod parser;

const REQUEST: &str = "GET /hello/you HTTP/1.1\r\nHost: bench\r\n\r\n";
/// As long as the guest's.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn http(scale: Scale) -> Result<Vec<Measured>> {
    let (repetitions, time) = match scale.quick {
        true => (3, Duration::from_millis(300)),
        false => (7, Duration::from_secs(1)),
    };
    let has_wrk = Command::new("wrk").arg("-v").output().is_ok();
    if !has_wrk {
        eprintln!("  `wrk` is not installed: a load generator of the benchmark's own asks");
    }
    let mut results = Vec::new();
    let native = Server::start(NATIVE)?;
    let Some(guest) = Server::start(REFERENCE)? else {
        return Ok(results);
    };
    let servers = [
        (NATIVE, native.context("it is always there")?),
        (REFERENCE, guest),
    ];
    for connections in [1, 64] {
        let mut loads = vec![Vec::new(); servers.len()];
        for repetition in 0..=repetitions {
            for turn in 0..servers.len() {
                let who = (turn + repetition) % servers.len();
                let address = servers[who].1.address;
                let load = match has_wrk {
                    true => wrk(address, connections, time)?,
                    false => alone(address, connections, time)?,
                };
                if repetition > 0 {
                    loads[who].push(load);
                }
            }
        }
        let at = match connections {
            1 => "1 connection".to_owned(),
            many => format!("{many} connections"),
        };
        for (row, unit, of) in [
            ("http: answers", "1/s", (|load| load.rate) as fn(&Load) -> f64),
            ("http: p50", "us", |load| load.percentiles[0]),
            ("http: p99", "us", |load| load.percentiles[1]),
        ] {
            for ((model, _), loads) in servers.iter().zip(&loads) {
                results.push(Measured::of(
                    row,
                    at.clone(),
                    model,
                    unit,
                    loads.iter().map(of).collect(),
                ));
            }
        }
    }
    Ok(results)
}

/// What a load gave.
#[derive(Debug, Clone)]
struct Load {
    /// Answers in a second.
    rate: f64,
    /// The middle and the 99th of a hundred, in microseconds.
    percentiles: [f64; 2],
}

/// Lets `wrk` ask, on another processor than the servers'.
fn wrk(server: SocketAddr, connections: usize, time: Duration) -> Result<Load> {
    // It knows whole seconds only.
    let seconds = time.as_secs().max(1);
    let output = Command::new("taskset")
        .args(["-c", "1", "wrk", "--latency", "-t1"])
        .arg(format!("-c{connections}"))
        .arg(format!("-d{seconds}s"))
        .arg(format!("http://{server}/hello/you"))
        .output()
        .context("starting `wrk`")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success() && !text.contains("Non-2xx") && !text.contains("Socket errors"),
        "wrk says {text}"
    );
    let after = |name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
        line.map(str::trim)
            .with_context(|| format!("wrk does not say {name}: {text}"))
    };
    Ok(Load {
        rate: after("Requests/sec:")?.parse()?,
        percentiles: [microseconds(after("50%")?)?, microseconds(after("99%")?)?],
    })
}

/// A time as `wrk` writes it.
fn microseconds(text: &str) -> Result<f64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let times = match &text[digits.len()..] {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        unit => bail!("`{unit}` is no unit of time"),
    };
    Ok(digits.parse::<f64>()? * times)
}

/// Asks without `wrk`: each connection waits for its answer before it asks again.
fn alone(server: SocketAddr, connections: usize, time: Duration) -> Result<Load> {
    let executor = executor()?;
    executor.block_on(async {
        let begun = Instant::now();
        let mut clients = JoinSet::new();
        for _ in 0..connections {
            clients.spawn(async move {
                let mut stream = TcpStream::connect(server).await?;
                stream.set_nodelay(true)?;
                let mut times = Vec::new();
                let mut buffer = vec![0; 4096];
                while begun.elapsed() < time {
                    let asked = Instant::now();
                    stream.write_all(REQUEST.as_bytes()).await?;
                    let mut length = 0;
                    while !buffer[..length].ends_with(b"hello, you\n") {
                        match stream.read(&mut buffer[length..]).await? {
                            0 => bail!("the server closed a connection"),
                            count => length += count,
                        }
                    }
                    times.push(asked.elapsed().as_nanos() as f64 / 1e3);
                }
                Ok(times)
            });
        }
        let mut times = Vec::new();
        while let Some(of_client) = clients.join_next().await {
            times.extend(of_client??);
        }
        let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
        times.sort_by(f64::total_cmp);
        Ok(Load {
            rate,
            percentiles: [times[times.len() / 2], times[times.len() * 99 / 100]],
        })
    })
}

/// A server in a process of its own, as long as this lives.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts it; `None` where the guest was not built.
    fn start(model: &str) -> Result<Option<Server>> {
        if model == REFERENCE && guest_module("wasm32-wasip1", "http-server").is_none() {
            return Ok(None);
        }
        let mut process = Command::new(std::env::current_exe()?)
            .args(["serve-http", model])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take().context("the server's output")?;
        let mut line = String::new();
        std::io::BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().rsplit(' ').next().unwrap_or_default();
        let address = address.parse::<SocketAddr>();
        let server = Server {
            address: address.with_context(|| format!("the server said {line:?}"))?,
            process,
        };
        Ok(Some(server))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The other side of it: `refcap-bench serve-http MODEL`. Says where it listens, and ends with its standard input.
pub(crate) fn serve(model: &str) -> Result<()> {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_line(&mut String::new());
        std::process::exit(0);
    });
    pin("0");
    let executor = executor()?;
    match model {
        REFERENCE => executor.block_on(serve_with_guest()),
        _ => executor.block_on(serve_natively()),
    }
}

async fn serve_with_guest() -> Result<()> {
    let module = guest_module("wasm32-wasip1", "http-server").context("the guest is not built")?;
    let program = Program::load(&Runtime::new()?, &module)?;
    let rules = "bind,listen tcp 127.0.0.1:0; accept tcp 127.0.0.1:*";
    let net = Capability::net("net", rules.parse()?, ambient_authority());
    let vat = program
        .vat()
        .limits(Limits::default())
        .grant("net", &net)
        .args(["server", "127.0.0.1:0"])
        .stdout(Output::Inherit);
    let exit = vat.start().await?.run().await?;
    bail!("the server ended with {}", exit.code)
}

async fn serve_natively() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            // However a connection ends, it is nobody else's affair.
            let _ = answer(stream).await;
        });
    }
}

/// As the guest does it.
async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match parser::parse(&input) {
            parser::Parsed::Partial => {
                match tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await?? {
                    0 => return Ok(()),
                    length => input.extend_from_slice(&buffer[..length]),
                }
            }
            parser::Parsed::Answer { used, answer, close } => {
                stream.write_all(&answer).await?;
                if close {
                    return Ok(());
                }
                input.drain(..used);
            }
        }
    }
}
