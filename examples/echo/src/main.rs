//! Sends back what it gets, to many clients at once: a task for each.
//!
//! ```text
//! cargo xtask guests
//! refcap run target/guests/release/echo.wasm \
//!     --grant net='bind,listen,accept tcp 127.0.0.1:7007; limit sockets 100, in 1MiB/s' -- 127.0.0.1:7007
//! ```
//!
//! How much it takes in a second is not its affair: a read waits when the budget of its network says so.

use std::time::Duration;

use anyhow::{Context, bail};
use refcap_guest::task::{self, Async};
use refcap_guest::{ErrorCode, Net, TcpStream};

#[refcap_guest::main]
fn main(net: Net) -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:7007".to_owned());
    if arguments.next().is_some() {
        bail!("usage: echo [ADDRESS:PORT]");
    }
    let listener = net
        .listen(&address)
        .with_context(|| format!("listening on {address}"))?;
    println!("listening on {}", listener.local_addr()?);
    task::block_on(async {
        let listener = Async::new(listener)?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(task::spawn(echo(stream))),
                Err(error) if matches!(error.code(), ErrorCode::Revoked | ErrorCode::Expired) => {
                    return Err(error.into());
                }
                // That client is gone already, or all the sockets of the budget are open: somebody has to go first.
                Err(_) => task::sleep(Duration::from_millis(20)).await?,
            }
        }
    })?
}

/// Serves one client to its end, however that comes about: it is nobody else's.
async fn echo(stream: Async<TcpStream>) {
    let mut buffer = [0; 8192];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
