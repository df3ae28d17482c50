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

use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail};
use refcap_guest::task::{self, Async};
use refcap_guest::{ErrorCode, Net, Result, TcpListener, TcpStream};

#[refcap_guest::main]
fn main(inside: Net, outside: Net) -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(target), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        bail!("usage: forward LISTEN TARGET");
    };
    let target: SocketAddr = target
        .parse()
        .with_context(|| format!("`{target}` is not an address and a port"))?;
    let listener = inside
        .listen(&listen)
        .with_context(|| format!("listening on {listen}"))?;
    println!("listening on {}", listener.local_addr()?);
    task::block_on(serve(listener, outside, target))?
}

/// Forwards until the listener is taken back.
async fn serve(listener: TcpListener, outside: Net, target: SocketAddr) -> anyhow::Result<()> {
    let listener = Async::new(listener)?;
    let outside = Rc::new(outside);
    loop {
        let (near, peer) = match listener.accept().await {
            Ok(client) => client,
            Err(error) if matches!(error.code(), ErrorCode::Revoked | ErrorCode::Expired) => {
                return Err(error.into());
            }
            // That client is gone already, or all the sockets of the budget are open: somebody has to go first.
            Err(_) => {
                task::sleep(Duration::from_millis(20)).await?;
                continue;
            }
        };
        let outside = outside.clone();
        task::spawn(async move {
            if let Err(error) = forward(near, &outside, target).await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

/// Connects a client with the target, until both have said all that they have to say or one of them is gone.
async fn forward(near: Async<TcpStream>, outside: &Net, target: SocketAddr) -> Result<()> {
    let far = Rc::new(task::connect(outside, target).await?);
    let near = Rc::new(near);
    let back = task::spawn(copy(far.clone(), near.clone()));
    let there = copy(near, far).await;
    there.and(back.await?)
}

/// Copies one direction to its end, and says so to the other side. When that fails, it ends the other direction too, which might wait for ever
/// for somebody who is still there.
async fn copy(from: Rc<Async<TcpStream>>, to: Rc<Async<TcpStream>>) -> Result<()> {
    // Inside the host: what the two say to each other is none of this program's business.
    let copied = match task::copy(&from, &to).await {
        Ok(_) => to.shutdown(Shutdown::Write),
        Err(error) => Err(error),
    };
    if copied.is_err() {
        // One of them is gone, and says so.
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
    copied
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener as StdListener, TcpStream as StdStream};

    use refcap_guest::{Revoker, testing};

    use super::*;

    /// A client and the target, with the forwarder between them, which ends with the revoker.
    fn joined() -> (StdStream, StdStream, Revoker) {
        let target = StdListener::bind("127.0.0.1:0").unwrap();
        let address = target.local_addr().unwrap();
        let inside = testing::net("bind,listen tcp 127.0.0.1:0; accept tcp 127.0.0.1:*");
        let (inside, revoker) = inside.revocable().unwrap();
        let outside = testing::net(format!("connect tcp {address}"));
        let listener = inside.listen("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap();
        std::thread::spawn(move || task::block_on(serve(listener, outside, address)));
        let client = StdStream::connect(here).unwrap();
        let (far, _) = target.accept().unwrap();
        for stream in [&client, &far] {
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        }
        (client, far, revoker)
    }

    #[test]
    fn one_direction_may_end_before_the_other() {
        let (mut client, mut target, _revoker) = joined();
        client.write_all(b"question").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut question = String::new();
        target.read_to_string(&mut question).unwrap();
        assert_eq!(question, "question");
        target.write_all(b"answer").unwrap();
        drop(target);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answer");
    }

    /// Closes a stream that has something to read: its peer is told by a reset, in both directions.
    fn reset(stream: StdStream) {
        stream.peek(&mut [0]).unwrap();
        drop(stream);
    }

    #[test]
    fn when_one_is_gone_the_other_is_told() {
        let (client, mut target, _revoker) = joined();
        target.write_all(b"x").unwrap();
        reset(client);
        assert_eq!(target.read(&mut [0]).unwrap(), 0);

        let (mut client, target, _revoker) = joined();
        client.write_all(b"x").unwrap();
        reset(target);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
}
