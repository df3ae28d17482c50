//! Listening: where, from whom, and with what.

use refcap::ErrorCode;
use refcap_abi::{ADDRESS_LOCAL, ADDRESS_PEER, WAIT_READ};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{Puppet, granted, net, soon};

/// Connects from a certain address of this machine.
async fn connect_from(local: &str, to: std::net::SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(format!("{local}:0").parse().unwrap())?;
    socket.connect(to).await
}

#[tokio::test]
async fn a_guest_serves_whom_it_may() {
    let net = net("bind,listen,accept tcp 127.0.0.1:0; accept tcp 127.0.0.1:* from 127.0.0.0/8");
    let mut guest = Puppet::start(&net).await;
    let address = guest.listen(2, 1, "127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    soon(guest.accept(3, 2)).await.unwrap();
    assert_eq!(guest.end_of(3, ADDRESS_LOCAL).await.unwrap(), address);
    let peer = guest.end_of(3, ADDRESS_PEER).await.unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    client.write_all(b"question").await.unwrap();
    assert_eq!(guest.read_stream(3, 64).await.unwrap(), b"question");
    guest.write_stream(3, b"answer").await.unwrap();
    let mut answer = [0; 6];
    soon(client.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"answer");
    // A listener has no peer, and nobody waits any more.
    assert_eq!(guest.end_of(2, ADDRESS_PEER).await, Err(ErrorCode::NotConnected));
    assert_eq!(
        guest.call("listener_accept", &[4, 2]).await,
        Err(ErrorCode::WouldBlock)
    );
}

// wasmtime's TcpAccept (#13934): the peer of an accepted connection is checked too.
#[tokio::test]
async fn class_11_a_peer_outside_the_grant_is_never_seen_and_costs_nothing() {
    let net = granted(
        "bind,listen tcp 127.0.0.1:0; accept tcp 127.0.0.1:* from 127.0.0.2; limit sockets 2, connections 1",
    );
    let mut guest = Puppet::start(&net).await;
    let address = guest.listen(2, 1, "127.0.0.1:0").await.unwrap();
    for _ in 0..20 {
        let mut refused = connect_from("127.0.0.3", address).await.unwrap();
        assert_eq!(
            guest.call("listener_accept", &[3, 2]).await,
            Err(ErrorCode::WouldBlock)
        );
        let mut buffer = [0; 1];
        let end = soon(refused.read(&mut buffer)).await;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
    assert_eq!(
        guest.call("socket_wait", &[2, WAIT_READ, 50]).await,
        Err(ErrorCode::TimedOut)
    );
    // The one connection and the second socket of the budget are still there.
    let welcome = connect_from("127.0.0.2", address).await.unwrap();
    soon(guest.accept(3, 2)).await.unwrap();
    let peer = guest.end_of(3, ADDRESS_PEER).await.unwrap();
    assert_eq!(peer, welcome.local_addr().unwrap());
    guest.close(3).await.unwrap();
    let _second = connect_from("127.0.0.2", address).await.unwrap();
    assert_eq!(soon(guest.accept(3, 2)).await, Err(ErrorCode::Exhausted));
}

// wasmtime#13677: listening on a socket that nobody bound is a bind too.
#[tokio::test]
async fn class_12_listening_needs_bind_and_listen_for_what_is_really_bound() {
    for rules in [
        "listen tcp 127.0.0.1:*",
        "bind tcp 127.0.0.1:*",
        "listen,accept tcp *:*; bind udp *:*",
        "bind,listen tcp 127.0.0.2:*",
        "bind,listen tcp [::1]:*",
        "bind tcp 127.0.0.1:1-40000; listen tcp 127.0.0.1:40001-65535",
    ] {
        let net = net(rules);
        let mut guest = Puppet::start(&net).await;
        assert_eq!(
            guest.listen(2, 1, "127.0.0.1:0").await,
            Err(ErrorCode::Denied),
            "{rules}"
        );
        assert_eq!(guest.handle().sockets(), 0);
    }
}

#[tokio::test]
async fn port_0_stays_inside_the_granted_range() {
    let net = net("bind,listen tcp 127.0.0.1:21000-21009");
    let mut guest = Puppet::start(&net).await;
    for slot in 2..12 {
        let address = guest.listen(slot, 1, "127.0.0.1:0").await.unwrap();
        assert!((21_000..21_010).contains(&address.port()), "{address}");
    }
    assert_eq!(
        guest.listen(12, 1, "127.0.0.1:0").await,
        Err(ErrorCode::AddressInUse)
    );
    assert_eq!(
        guest.listen(12, 1, "127.0.0.1:21010").await,
        Err(ErrorCode::Denied)
    );
    guest.close(5).await.unwrap();
    guest.listen(5, 1, "127.0.0.1:0").await.unwrap();
}

// wasmtime#13596: a dual-stack socket would let a grant of `[::]` take IPv4.
#[tokio::test]
async fn class_13_a_grant_of_ipv6_never_takes_ipv4() {
    let net = net("bind,listen,accept tcp [::/0]:*; accept tcp *:*");
    let mut guest = Puppet::start(&net).await;
    let Ok(address) = guest.listen(2, 1, "[::]:0").await else {
        eprintln!("skipped: this machine has no IPv6");
        return;
    };
    let by_v4 = TcpStream::connect(("127.0.0.1", address.port())).await;
    assert!(by_v4.is_err(), "an IPv4 client came in");
    let _by_v6 = TcpStream::connect(("::1", address.port())).await.unwrap();
    soon(guest.accept(3, 2)).await.unwrap();
}

#[tokio::test]
async fn what_was_accepted_ends_with_its_listener_when_that_is_revoked_and_not_when_it_is_closed() {
    let net = net("bind,listen tcp 127.0.0.1:0; accept tcp 127.0.0.1:*");
    let mut guest = Puppet::start(&net).await;
    let address = guest.listen(2, 1, "127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    soon(guest.accept(3, 2)).await.unwrap();
    guest.close(2).await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
    client.write_all(b"still").await.unwrap();
    assert_eq!(guest.read_stream(3, 64).await.unwrap(), b"still");
    net.revoke();
    let mut buffer = [0; 1];
    let end = soon(client.read(&mut buffer)).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test]
async fn narrowing_turns_peers_away_and_ends_a_listener_that_may_not_be() {
    let net = net("bind,listen tcp 127.0.0.1:0; accept tcp 127.0.0.1:*");
    let mut guest = Puppet::start(&net).await;
    let address = guest.listen(2, 1, "127.0.0.1:0").await.unwrap();
    net.narrow(
        &"bind,listen tcp 127.0.0.1:0; accept tcp 127.0.0.1:* from 127.0.0.9"
            .parse()
            .unwrap(),
    )
    .unwrap();
    let _refused = connect_from("127.0.0.1", address).await.unwrap();
    let _welcome = connect_from("127.0.0.9", address).await.unwrap();
    soon(guest.accept(3, 2)).await.unwrap();
    assert_eq!(
        guest.end_of(3, ADDRESS_PEER).await.unwrap().ip().to_string(),
        "127.0.0.9"
    );
    net.narrow(&"accept tcp 127.0.0.1:*".parse().unwrap()).unwrap();
    assert_eq!(
        guest.call("listener_accept", &[4, 2]).await,
        Err(ErrorCode::Revoked)
    );
    // The port is free again.
    std::net::TcpListener::bind(address).unwrap();
}
