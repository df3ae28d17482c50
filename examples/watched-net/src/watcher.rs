//! Starts a program with a network that this one implements: it logs each connection, and some it refuses, leads
//! elsewhere or answers by itself.
//!
//! See the README beside this folder for how to run it, and for the picture of who got what from whom.
//!
//! The program gets a `Net` like any other, with rules that name its addresses. Whenever it connects to one of them, the
//! host asks this program for a connection, which opens it through the network that it has, or not. It serves those calls in
//! a task, beside the connections that it answers by itself and the one on which the program reports.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use refcap_guest::{Error, ErrorCode, Net, Network, Result, Spawner, TcpStream, task};

refcap_guest::answers_calls!();

const USAGE: &str = "usage: watched-net ADDRESS:PORT[=ADDRESS:PORT|=refused|=here]...";
/// How long the program may take for all that it does.
const PATIENCE: Duration = Duration::from_secs(30);
/// The program tries this too, and the host refuses it: no rule of its network allows it.
const NOT_ALLOWED: &str = "192.0.2.1:9";

#[refcap_guest::main]
fn main(net: Net, spawner: Spawner) -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    ensure!(!arguments.is_empty(), USAGE);
    let routes = arguments
        .iter()
        .map(|argument| Route::read(argument).with_context(|| format!("`{argument}`: {USAGE}")))
        .collect::<anyhow::Result<Vec<_>>>()?;

    let rules: Vec<_> = routes
        .iter()
        .map(|route| format!("connect tcp {}", route.from))
        .collect();
    let addresses: Vec<_> = routes.iter().map(|route| route.from.to_string()).collect();
    let watched = Net::implemented(Watched { net, routes }, rules.join("; "))?.limit("label watched")?;
    let (ours, theirs) = TcpStream::pair()?;
    let mut launch = spawner
        .program("program")?
        .grant("net", &watched)?
        .give("report", theirs)?;
    for address in addresses.iter().map(String::as_str).chain([NOT_ALLOWED]) {
        launch = launch.argument(address)?;
    }
    let program = launch.start()?;
    let report = task::block_on(task::timeout(PATIENCE, async {
        task::spawn(task::serve());
        read_all(ours).await
    }))???;
    print!("{report}");
    println!("watcher: the program has ended: {}", program.wait()?);
    Ok(())
}

/// What becomes of connections to an address.
struct Route {
    from: SocketAddr,
    to: To,
}

enum To {
    /// They are made to this address, which may be the same.
    Address(SocketAddr),
    /// They are not made.
    Nowhere,
    /// This program is the other end.
    Here,
}

impl Route {
    fn read(argument: &str) -> anyhow::Result<Route> {
        let (from, to) = argument.split_once('=').unwrap_or((argument, argument));
        let to = match to {
            "refused" => To::Nowhere,
            "here" => To::Here,
            address => To::Address(address.parse()?),
        };
        let from = from.parse()?;
        Ok(Route { from, to })
    }
}

/// The network of the other program.
struct Watched {
    net: Net,
    routes: Vec<Route>,
}

impl Network for Watched {
    fn connect(&self, remote: SocketAddr, _local: Option<SocketAddr>) -> Result<TcpStream> {
        let route = self.routes.iter().find(|route| route.from == remote);
        match route.map(|route| &route.to) {
            Some(To::Address(address)) => {
                println!("watcher: a connection to {remote}: made to {address}");
                self.net.connect(*address)
            }
            Some(To::Here) => {
                println!("watcher: a connection to {remote}: answered here");
                let (ours, theirs) = TcpStream::pair()?;
                task::spawn(greet(ours));
                Ok(theirs)
            }
            Some(To::Nowhere) | None => {
                println!("watcher: a connection to {remote}: refused");
                Err(Error::new(ErrorCode::Denied, "connect", "the watcher refuses it"))
            }
        }
    }
}

/// Answers a connection to which this program is the other end.
async fn greet(stream: TcpStream) -> Result<()> {
    let stream = task::Async::new(stream)?;
    let mut hello = [0; 64];
    let length = stream.read(&mut hello).await?;
    let heard = String::from_utf8_lossy(&hello[..length]);
    let answer = format!("you said {}, and nobody else is here\n", heard.trim_end());
    stream.write_all(answer.as_bytes()).await
}

/// All that comes before a stream ends.
async fn read_all(stream: TcpStream) -> anyhow::Result<String> {
    let stream = task::Async::new(stream)?;
    let (mut all, mut buffer) = (Vec::new(), [0; 1024]);
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(String::from_utf8(all)?),
            length => all.extend(&buffer[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use refcap_guest::testing;

    fn watched(route: &str) -> Net {
        let routes = vec![Route::read(route).unwrap()];
        let net = testing::net("connect tcp 127.0.0.1:*");
        Net::implemented(Watched { net, routes }, "connect tcp *:*").unwrap()
    }

    #[test]
    fn a_route_leads_elsewhere_or_nowhere() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let net = watched(&format!("10.0.0.1:80={address}"));
        assert_eq!(net.connect("10.0.0.1:80").unwrap().peer_addr(), Ok(address));
        assert_eq!(net.connect("10.0.0.2:80").unwrap_err().code(), ErrorCode::Denied);
        let net = watched(&address.to_string());
        assert_eq!(net.connect(address).unwrap().peer_addr(), Ok(address));
        let net = watched("10.0.0.1:80=refused");
        assert_eq!(net.connect("10.0.0.1:80").unwrap_err().code(), ErrorCode::Denied);
        assert!(Route::read("10.0.0.1:80=there").is_err());
    }

    #[test]
    fn what_is_answered_here_is_answered_by_a_task() {
        let heard = task::block_on(async {
            let mut stream = watched("10.0.0.1:80=here").connect("10.0.0.1:80").unwrap();
            stream.try_write(b"hello\n").unwrap();
            task::yield_now().await;
            task::sleep(Duration::from_millis(10)).await.unwrap();
            let mut heard = String::new();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.read_to_string(&mut heard).unwrap();
            heard
        });
        assert_eq!(heard.unwrap(), "you said hello, and nobody else is here\n");
    }
}
