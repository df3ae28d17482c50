//! The guards among the examples, as modules, against real sockets.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use refcap::{Capability, ErrorCode, Guard};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UdpSocket};

use crate::support::commands::guest;
use crate::support::names::{Scripted, addresses};
use crate::support::servers::Silent;
use crate::support::{Puppet, granted, soon};

const PROFILES: [&str; 2] = ["release", "debug"];

fn example(profile: &str, name: &str) -> Guard {
    let path = guest(profile, &format!("{name}-unknown"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Guard::compile(name, &bytes).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn behind(profile: &str, name: &str, policy: &str) -> Capability {
    granted(policy).guarded(&example(profile, name)).unwrap()
}

#[test]
fn they_are_small() {
    for name in ["office_hours", "once", "rate_by_peer", "after_resolve"] {
        let path = guest("release", &format!("{name}-unknown"));
        let bytes = std::fs::metadata(&path).unwrap().len();
        assert!(bytes < 8_000, "{name} has {bytes} bytes");
    }
}

#[tokio::test]
async fn office_hours_go_by_the_clock() {
    let server = Silent::start().await;
    let is_open = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        (8..18).contains(&(now / 3_600 % 24))
    };
    for profile in PROFILES {
        let mut guest = Puppet::start(&behind(profile, "office_hours", "connect tcp 127.0.0.1:*")).await;
        let before = is_open();
        let connected = guest.connect(2, 1, server.address).await;
        if before == is_open() {
            assert_eq!(connected.is_ok(), before, "{connected:?}");
        }
        if connected.is_err() {
            assert_eq!(connected, Err(ErrorCode::Denied));
        }
    }
}

#[tokio::test]
async fn once_allows_one_connection_made_or_accepted() {
    let mut server = Silent::start().await;
    let policy = "connect tcp 127.0.0.1:*; bind,listen tcp 127.0.0.1:0; accept tcp 127.0.0.1:* from 127.0.0.1; \
        bind udp 127.0.0.1:0";
    for profile in PROFILES {
        let mut guest = Puppet::start(&behind(profile, "once", policy)).await;
        assert_eq!(guest.bind_udp(2, 1, "127.0.0.1:0").await, Err(ErrorCode::Denied));
        let own = guest.listen(2, 1, "127.0.0.1:0").await.unwrap();
        guest.connect(3, 1, server.address).await.unwrap();
        let (mut peer, _) = server.next().await;
        assert_eq!(guest.connect(4, 1, server.address).await, Err(ErrorCode::Denied));
        let why = guest.error_message().await;
        assert!(why.contains("the guard `once` said no to connect tcp"), "{why}");
        let mut client = TcpStream::connect(own).await.unwrap();
        let accepted = guest.call("listener_accept", &[5, 2]).await;
        assert_eq!(accepted, Err(ErrorCode::WouldBlock));
        let end = soon(client.read(&mut [0])).await;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        // What there is goes on.
        guest.write_stream(3, b"on").await.unwrap();
        soon(peer.read_exact(&mut [0; 2])).await.unwrap();

        let mut guest = Puppet::start(&behind(profile, "once", policy)).await;
        let own = guest.listen(2, 1, "127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(own).await.unwrap();
        guest.accept(3, 2).await.unwrap();
        assert_eq!(guest.connect(4, 1, server.address).await, Err(ErrorCode::Denied));
    }
}

#[tokio::test]
async fn rate_by_peer_counts_each_peer_for_itself() {
    let policy = "bind udp 127.0.0.1:*; receive udp 127.0.0.1:* from 127.0.0.0/8; \
        bind,listen tcp 127.0.0.1:0; accept tcp 127.0.0.1:* from 127.0.0.0/8";
    for profile in PROFILES {
        let mut guest = Puppet::start(&behind(profile, "rate_by_peer", policy)).await;
        let own = guest.bind_udp(2, 1, "127.0.0.1:0").await.unwrap();
        for host in ["127.0.0.1", "127.0.0.2"] {
            let peer = UdpSocket::bind((host, 0)).await.unwrap();
            for _ in 0..9 {
                peer.send_to(b"x", own).await.unwrap();
            }
            let mut received = 0;
            // They are there already: loopback is that fast. Waiting is for the last of them.
            while guest
                .call("socket_wait", &[2, refcap_abi::WAIT_READ, 100])
                .await
                .is_ok()
            {
                received += i32::from(guest.receive(2).await.is_ok());
            }
            assert_eq!(received, 5, "{host}");
        }
        assert_eq!(guest.call("udp_dropped", &[2]).await, Ok(8));
        // A connection counts as a datagram does.
        let own = guest.listen(3, 1, "127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(own).await.unwrap();
        let waited = guest.call("socket_wait", &[3, refcap_abi::WAIT_READ, 100]).await;
        assert_eq!(waited, Err(ErrorCode::TimedOut));
    }
}

#[tokio::test]
async fn after_resolve_allows_the_addresses_of_names() {
    let mut server = Silent::start().await;
    let other = Silent::on("127.0.0.2:0").await;
    let policy = "connect tcp *:*; connect tcp loopback:*; connect tcp api.example.com:*; names to loopback";
    for profile in PROFILES {
        let resolver = Scripted::new(&[("api.example.com", &[addresses(&["127.0.0.1"])])]);
        let net = behind(profile, "after_resolve", policy);
        let mut guest = Puppet::with_resolver(&net, resolver).await;
        let reach = async |guest: &mut Puppet, to: SocketAddr| guest.connect(4, 1, to).await.map(|_| ());
        assert_eq!(reach(&mut guest, server.address).await, Err(ErrorCode::Denied));
        guest
            .resolve(2, 1, "api.example.com", server.address.port())
            .await
            .unwrap();
        reach(&mut guest, server.address).await.unwrap();
        server.next().await;
        guest.call("name_connect", &[3, 2, 0]).await.unwrap();
        server.next().await;
        assert_eq!(reach(&mut guest, other.address).await, Err(ErrorCode::Denied));
        // The name that may not be looked up teaches the guard nothing.
        assert_eq!(
            guest.resolve(5, 1, "evil.example.com", 80).await,
            Err(ErrorCode::Denied)
        );
    }
    assert_eq!(other.visits(), 0);
}
