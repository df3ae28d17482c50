//! The server of all rows over TCP: another process, on another processor.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use wasmtime::Result;
use wasmtime::error::Context;

use super::{ECHO, GREETING, SINK};
use crate::models::executor;

/// How many connections may wait to be accepted: as many as Linux allows where nobody told it otherwise. With the usual
/// 128, a client that is faster than the server for some milliseconds finds the queue full, and is delayed by a second.
const QUEUE: u32 = 4096;

/// The server: `refcap-bench serve`. Says where it listens, and ends with its standard input.
pub(crate) fn serve() -> Result<()> {
    let runtime = executor()?;
    runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let listener = socket.listen(QUEUE)?;
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
    let [what, length @ ..] = greeting;
    let mut left = u32::from_le_bytes(length) as usize;
    // Not before, and no more than is needed: many clients connect and say nothing, or little.
    let size = if what == ECHO { 4 << 10 } else { left.min(1 << 20) };
    let mut buffer = vec![0; size];
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
