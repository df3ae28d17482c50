//! Sockets and Names that were handed over are what they were before.

use refcap::ErrorCode;
use refcap_abi::WAIT_READ;
use tokio::net::{TcpStream, UdpSocket};

use crate::support::servers::Silent;
use crate::support::{Puppet, granted, net, soon};

/// A slot for an object that sends back what it is sent.
const BACK: i32 = 10;

async fn puppet(net: &refcap::Capability) -> Puppet {
    let mut guest = Puppet::start(net).await;
    guest.call("object_new", &[BACK, 0]).await.unwrap();
    guest
}

// A bound that allows more than the socket was made for gives it nothing.
#[tokio::test]
async fn a_datagram_socket_that_was_handed_over_is_narrowed_and_not_widened() {
    let [near, far] = [
        UdpSocket::bind("127.0.0.1:0").await,
        UdpSocket::bind("127.0.0.1:0").await,
    ];
    let [near, far] = [
        near.unwrap().local_addr().unwrap(),
        far.unwrap().local_addr().unwrap(),
    ];
    let net = net(&format!(
        "bind udp 127.0.0.1:*; send udp 127.0.0.1:{}",
        near.port()
    ));
    let mut guest = puppet(&net).await;
    guest.bind_udp(2, 1, "127.0.0.1:0").await.unwrap();
    guest.through(BACK, 2).await.unwrap();
    guest.send_to(2, b"hello", Some(near)).await.unwrap();
    assert_eq!(
        guest.send_to(2, b"hello", Some(far)).await,
        Err(ErrorCode::Denied)
    );
    net.narrow(&"bind udp *:*; send udp *:*".parse().unwrap())
        .unwrap();
    assert_eq!(
        guest.send_to(2, b"hello", Some(far)).await,
        Err(ErrorCode::Denied)
    );
    guest.send_to(2, b"hello", Some(near)).await.unwrap();
    net.narrow(
        &format!("bind udp *:*; send udp *:{}", far.port())
            .parse()
            .unwrap(),
    )
    .unwrap();
    assert_eq!(
        guest.send_to(2, b"hello", Some(near)).await,
        Err(ErrorCode::Denied)
    );
}

// The same for the peers of a listener.
#[tokio::test]
async fn a_listener_that_was_handed_over_is_narrowed_and_not_widened() {
    let net = net("bind tcp 127.0.0.1:*; listen tcp 127.0.0.1:*; accept tcp *:* from 127.0.0.9:*");
    let mut guest = puppet(&net).await;
    let at = guest.listen(2, 1, "127.0.0.1:0").await.unwrap();
    guest.through(BACK, 2).await.unwrap();
    let everything = "bind tcp *:*; listen tcp *:*; accept tcp *:* from *:*";
    net.narrow(&everything.parse().unwrap()).unwrap();
    let _peer = soon(TcpStream::connect(at)).await.unwrap();
    let waited = guest.call("socket_wait", &[2, WAIT_READ, 100]).await;
    assert_eq!(waited, Err(ErrorCode::TimedOut));
    assert_eq!(
        guest.call("listener_accept", &[3, 2]).await,
        Err(ErrorCode::WouldBlock)
    );
}

// So does what is accepted by it.
#[tokio::test]
async fn a_listener_that_was_handed_over_draws_on_its_budget() {
    let rules = "bind tcp 127.0.0.1:*; listen tcp 127.0.0.1:*; accept tcp *:* from *:*";
    let net = granted(&format!("{rules}; limit connections 1"));
    let mut guest = puppet(&net).await;
    let at = guest.listen(2, 1, "127.0.0.1:0").await.unwrap();
    guest.through(BACK, 2).await.unwrap();
    let _first = soon(TcpStream::connect(at)).await.unwrap();
    soon(guest.accept(3, 2)).await.unwrap();
    assert_eq!(net.info().unwrap().usage.unwrap().connections, Some((1, 1)));
    let _second = soon(TcpStream::connect(at)).await.unwrap();
    assert_eq!(soon(guest.accept(4, 2)).await, Err(ErrorCode::Exhausted));
}

#[tokio::test]
async fn a_stream_that_was_handed_over_keeps_its_budget() {
    let server = Silent::start().await;
    let net = granted("connect tcp 127.0.0.1:*; limit out 4B");
    let mut guest = puppet(&net).await;
    guest.connect(2, 1, server.address).await.unwrap();
    guest.through(BACK, 2).await.unwrap();
    guest.write_stream(2, b"four").await.unwrap();
    assert_eq!(guest.write_stream(2, b"more").await, Err(ErrorCode::Exhausted));
}
