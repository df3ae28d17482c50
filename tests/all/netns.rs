//! Rules for local addresses and for peers between two network namespaces that are joined by two links, each
//! with addresses of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use refcap::ErrorCode;
use refcap_abi::{ADDRESS_LOCAL, ADDRESS_PEER, WAIT_READ};

use crate::support::{Puppet, block_on, net, soon};

/// Set in the processes inside the namespaces: which of them it is.
const SIDE: &str = "REFCAP_TEST_SIDE";
/// Where the other side listens, and is told what to do.
const PEER: &str = "10.99.0.2:7000";

/// Two namespaces; gone when this is dropped.
struct Namespaces {
    near: String,
    far: String,
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "ip {arguments}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

impl Namespaces {
    fn new() -> Result<Namespaces, String> {
        let id = std::process::id();
        let made = Namespaces {
            near: format!("refcap-near-{id}"),
            far: format!("refcap-far-{id}"),
        };
        let (near, far) = (&made.near, &made.far);
        ip(&format!("netns add {near}"))?;
        ip(&format!("netns add {far}"))?;
        for link in 0..2 {
            ip(&format!(
                "-n {near} link add up{link} type veth peer name down{link} netns {far}"
            ))?;
            for (side, name, host) in [(near, "up", 1), (far, "down", 2)] {
                ip(&format!(
                    "-n {side} addr add 10.99.{link}.{host}/24 dev {name}{link}"
                ))?;
                ip(&format!("-n {side} link set {name}{link} up"))?;
            }
        }
        for side in [near, far] {
            ip(&format!("-n {side} link set lo up"))?;
            // An answer may come by the other link.
            for name in ["all", "default", "up0", "up1", "down0", "down1"] {
                let _ = ip(&format!(
                    "netns exec {side} sysctl -q -w net.ipv4.conf.{name}.rp_filter=0"
                ));
            }
        }
        Ok(made)
    }

    fn run(&self, namespace: &str, test: &str) -> Child {
        Command::new("ip")
            .args(["netns", "exec", namespace])
            .arg(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(SIDE, test)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in [&self.near, &self.far] {
            let _ = ip(&format!("netns del {name}"));
        }
    }
}

#[test]
fn rules_hold_between_network_namespaces() {
    let namespaces = match Namespaces::new() {
        Ok(namespaces) => namespaces,
        Err(why) => {
            eprintln!("SKIPPED: this test needs network namespaces: {why}");
            return;
        }
    };
    let mut far = namespaces.run(&namespaces.far, "netns::far_side");
    let near = namespaces
        .run(&namespaces.near, "netns::near_side")
        .wait_with_output()
        .unwrap();
    let _ = far.kill();
    let _ = far.wait();
    let text = String::from_utf8_lossy(&near.stdout).into_owned() + &String::from_utf8_lossy(&near.stderr);
    assert!(near.status.success() && text.contains("1 passed"), "{text}");
}

/// The other end: tells who comes, and comes when it is told.
#[test]
fn far_side() {
    if std::env::var(SIDE).as_deref() != Ok("netns::far_side") {
        return;
    }
    let listener = TcpListener::bind("0.0.0.0:7000").unwrap();
    for stream in listener.incoming() {
        let stream = stream.unwrap();
        let peer = stream.peer_addr().unwrap();
        std::thread::spawn(move || serve(&stream, peer));
    }
}

/// `who`: answers with the address that the question came from. `call ADDRESS from ADDRESS`: connects, and
/// answers with what it is told there, or `nothing`.
fn serve(mut stream: &TcpStream, peer: SocketAddr) {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    let answer = match line.trim().split(' ').collect::<Vec<_>>()[..] {
        ["call", to, "from", from] => call(to.parse().unwrap(), from.parse().unwrap()),
        _ => peer.ip().to_string(),
    };
    stream.write_all(answer.as_bytes()).unwrap();
}

fn call(to: SocketAddr, from: SocketAddr) -> String {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&from.into()).unwrap();
    if socket.connect(&to.into()).is_err() {
        return "nothing".to_owned();
    }
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut heard = String::new();
    match stream.read_to_string(&mut heard) {
        Ok(1..) => heard,
        _ => "nothing".to_owned(),
    }
}

/// Asks the other end something, as the host itself and not as a guest.
fn tell(question: &str) -> String {
    let mut stream = (0..500)
        .find_map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            TcpStream::connect(PEER).ok()
        })
        .expect("the other side runs");
    writeln!(stream, "{question}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn near_side() {
    if std::env::var(SIDE).as_deref() != Ok("netns::near_side") {
        return;
    }
    assert_eq!(tell("who"), "10.99.0.1");
    block_on(async {
        connecting().await;
        accepting().await;
    });
}

async fn connecting() {
    let other: SocketAddr = "10.99.1.2:7000".parse().unwrap();
    let peer: SocketAddr = PEER.parse().unwrap();
    // (rules, to, the end that the other side sees or the error)
    let cases = [
        ("connect tcp 10.99.0.0/16:7000", peer, Ok("10.99.0.1")),
        ("connect tcp 10.99.0.0/16:7000", other, Ok("10.99.1.1")),
        (
            "connect tcp 10.99.0.0/16:7000 from 10.99.0.0/24",
            peer,
            Ok("10.99.0.1"),
        ),
        (
            "connect tcp 10.99.0.0/16:7000 from 10.99.0.0/24",
            other,
            Err(ErrorCode::AddressNotAvailable),
        ),
        // The other link's address, though the kernel would not have chosen it.
        (
            "connect tcp 10.99.0.0/16:7000 from 10.99.1.1",
            peer,
            Ok("10.99.1.1"),
        ),
        (
            "connect tcp 10.99.0.0/16:7000 from 10.99.0.1:40000-40100",
            peer,
            Ok("10.99.0.1"),
        ),
        (
            "connect tcp 10.99.0.0/16:7000 from 10.99.7.7",
            peer,
            Err(ErrorCode::AddressNotAvailable),
        ),
        ("connect tcp 10.99.1.0/24:7000", peer, Err(ErrorCode::Denied)),
    ];
    for (rules, to, expected) in cases {
        let net = net(rules);
        let mut guest = Puppet::start(&net).await;
        let result = soon(guest.connect(2, 1, to)).await;
        let seen = match result {
            Ok(_) => {
                guest.write_stream(2, b"who\n").await.unwrap();
                Ok(String::from_utf8(guest.read_stream(2, 64).await.unwrap()).unwrap())
            }
            Err(error) => Err(error),
        };
        assert_eq!(seen, expected.map(str::to_owned), "{rules} to {to}");
        if seen.is_ok() && rules.contains("40000") {
            let port = guest.end_of(2, ADDRESS_LOCAL).await.unwrap().port();
            assert!((40_000..=40_100).contains(&port), "{port}");
        }
    }
    // A chosen local end must be granted.
    let net = net("connect tcp 10.99.0.0/16:7000 from 10.99.0.1");
    let mut guest = Puppet::start(&net).await;
    let granted = "10.99.0.1:0".parse().unwrap();
    soon(guest.connect_from(2, 1, peer, granted)).await.unwrap();
    let other_end = "10.99.1.1:0".parse().unwrap();
    assert_eq!(
        guest.connect_from(3, 1, peer, other_end).await,
        Err(ErrorCode::Denied)
    );
}

async fn accepting() {
    let net = net("bind,listen tcp 0.0.0.0:0; accept tcp 10.99.0.1:* from 10.99.0.0/16");
    let mut guest = Puppet::start(&net).await;
    let port = guest.listen(2, 1, "0.0.0.0:0").await.unwrap().port();
    // By which address it was reached, and from where: both ends count.
    for (to, from, is_let_in) in [
        ("10.99.0.1", "10.99.0.2", true),
        ("10.99.1.1", "10.99.1.2", false),
        ("10.99.0.1", "10.99.1.2", true),
    ] {
        let question = format!("call {to}:{port} from {from}:0");
        let called = tokio::task::spawn_blocking(move || tell(&question));
        if is_let_in {
            soon(guest.accept(3, 2)).await.unwrap();
            assert_eq!(guest.end_of(3, ADDRESS_LOCAL).await.unwrap().ip().to_string(), to);
            assert_eq!(
                guest.end_of(3, ADDRESS_PEER).await.unwrap().ip().to_string(),
                from
            );
            guest.write_stream(3, b"welcome").await.unwrap();
            guest.close(3).await.unwrap();
            assert_eq!(called.await.unwrap(), "welcome");
        } else {
            assert_eq!(
                guest.call("socket_wait", &[2, WAIT_READ, 300]).await,
                Err(ErrorCode::TimedOut)
            );
            assert_eq!(called.await.unwrap(), "nothing");
        }
    }
}
