//! Forwards a port: what comes in through one network goes out through another.
//!
//! ```text
//! cargo xtask guests
//! refcap run target/guests/release/forward.wasm \
//!     --grant inside='bind,listen,accept tcp 127.0.0.1:8080' \
//!     --grant outside='connect tcp 192.0.2.7:80' -- 127.0.0.1:8080 192.0.2.7:80
//! ```
//!
//! The two networks are two capabilities. Nothing that is done with one can be done with the other by mistake:
//! with `inside` it can't connect anywhere, and with `outside` nobody can reach it.

use std::net::Shutdown;
use std::rc::Rc;

use anyhow::{Context, bail};
use refcap_guest::task::{self, Async};
use refcap_guest::{Net, Result, TcpStream};

#[refcap_guest::main]
fn main(inside: Net, outside: Net) -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(target), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        bail!("usage: forward LISTEN TARGET");
    };
    let target: std::net::SocketAddr = target
        .parse()
        .with_context(|| format!("`{target}` is not an address and a port"))?;
    let listener = inside
        .listen(&listen)
        .with_context(|| format!("listening on {listen}"))?;
    println!("listening on {}", listener.local_addr()?);
    let outside = Rc::new(outside);
    task::block_on(async {
        let listener = Async::new(listener)?;
        loop {
            let (near, peer) = listener.accept().await?;
            let outside = outside.clone();
            task::spawn(async move {
                if let Err(error) = forward(near, &outside, target).await {
                    eprintln!("{peer}: {error}");
                }
            });
        }
    })?
}

/// Connects a client with the target, until both have said all that they have to say.
async fn forward(near: Async<TcpStream>, outside: &Net, target: std::net::SocketAddr) -> Result<()> {
    let near = Rc::new(near);
    let far = Rc::new(task::connect(outside, target).await?);
    let back = task::spawn(copy(far.clone(), near.clone()));
    copy(near, far).await?;
    back.await?
}

/// Copies to the end of one direction, and says so to the other side.
async fn copy(from: Rc<Async<TcpStream>>, to: Rc<Async<TcpStream>>) -> Result<()> {
    let mut buffer = [0; 8192];
    loop {
        match from.read(&mut buffer).await? {
            0 => break,
            length => to.write_all(&buffer[..length]).await?,
        }
    }
    to.get_ref().shutdown(Shutdown::Write)
}
