//! The client that is native: tokio.

use std::net::SocketAddr;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wasmtime::{Result, bail};

use super::{Done, ECHO, INTO_PAGE, Job, MESSAGE, PAGE, SINK, SOURCE, STEP, STEPS};

/// Does a job.
pub(super) async fn run(server: SocketAddr, job: &Job) -> Result<Done> {
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
                percentile(&times, count / 2, STEP),
                percentile(&times, count / 100 * 99, STEP),
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
pub(super) fn percentile(times: &[u32], rank: u32, step_length: u64) -> f64 {
    let mut seen = 0;
    let step = times.iter().position(|&count| {
        seen += count;
        seen > rank
    });
    step.unwrap_or(STEPS) as f64 * step_length as f64 / 1000.0
}
