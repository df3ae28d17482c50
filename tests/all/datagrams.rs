//! Datagrams: each is checked, whatever was checked before.

use std::net::SocketAddr;

use refcap::ErrorCode;
use refcap_abi::{ADDRESS_PEER, WAIT_READ};
use tokio::net::UdpSocket;

use crate::support::{Puppet, granted, net, soon};

async fn peer(address: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(address).await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// What arrives within a moment, if anything does.
async fn arrives(socket: &UdpSocket) -> Option<Vec<u8>> {
    let mut buffer = [0; 2048];
    let moment = std::time::Duration::from_millis(100);
    let received = tokio::time::timeout(moment, socket.recv(&mut buffer)).await;
    received.ok().map(|length| buffer[..length.unwrap()].to_vec())
}

async fn receive(guest: &mut Puppet, socket: i32) -> Result<(Vec<u8>, SocketAddr), ErrorCode> {
    loop {
        match guest.receive(socket).await {
            Err(ErrorCode::WouldBlock) => {
                guest.call("socket_wait", &[socket, WAIT_READ, 5_000]).await?;
            }
            result => return result,
        }
    }
}

#[tokio::test]
async fn datagrams_go_both_ways() {
    let (socket, address) = peer("127.0.0.1:0").await;
    let net = net("bind udp 127.0.0.1:0; send udp 127.0.0.1:*; receive udp 127.0.0.1:*");
    let mut guest = Puppet::start(&net).await;
    let own = guest.bind_udp(2, 1, "127.0.0.1:0").await.unwrap();
    assert_eq!(guest.send_to(2, b"there", Some(address)).await, Ok(5));
    let mut buffer = [0; 16];
    let (length, from) = soon(socket.recv_from(&mut buffer)).await.unwrap();
    assert_eq!((&buffer[..length], from), (&b"there"[..], own));
    socket.send_to(b"and back", own).await.unwrap();
    let received = soon(receive(&mut guest, 2)).await.unwrap();
    assert_eq!(received, (b"and back".to_vec(), address));
    // An empty datagram is one too.
    socket.send_to(b"", own).await.unwrap();
    assert_eq!(soon(receive(&mut guest, 2)).await.unwrap(), (vec![], address));
}

// wasmtime#7648, #12629, #13631: what was checked when the socket was connected is not what is sent to later.
#[tokio::test]
async fn class_09_every_datagram_out_is_checked() {
    let (good, good_address) = peer("127.0.0.1:0").await;
    let (bad, bad_address) = peer("127.0.0.2:0").await;
    let net = net(&format!(
        "bind udp 127.0.0.1:0; connect udp 127.0.0.0/8:*; send udp {good_address}"
    ));
    let mut guest = Puppet::start(&net).await;
    guest.bind_udp(2, 1, "127.0.0.1:0").await.unwrap();
    assert_eq!(
        guest.send_to(2, b"x", Some(bad_address)).await,
        Err(ErrorCode::Denied)
    );
    assert_eq!(guest.send_to(2, b"x", None).await, Err(ErrorCode::NotConnected));
    // Connecting is granted, and still allows no sending.
    guest.udp_connect(2, bad_address).await.unwrap();
    assert_eq!(guest.end_of(2, ADDRESS_PEER).await, Ok(bad_address));
    assert_eq!(guest.send_to(2, b"x", None).await, Err(ErrorCode::Denied));
    // And narrows: the good one is not the peer now.
    assert_eq!(
        guest.send_to(2, b"x", Some(good_address)).await,
        Err(ErrorCode::BadArgument)
    );
    guest.udp_connect(2, good_address).await.unwrap();
    assert_eq!(guest.send_to(2, b"x", None).await, Ok(1));
    assert_eq!(arrives(&good).await, Some(b"x".to_vec()));
    assert_eq!(arrives(&bad).await, None);
    // Mid-stream, the grant shrinks.
    net.narrow(&"bind udp *:*; connect udp *:*".parse().unwrap())
        .unwrap();
    assert_eq!(guest.send_to(2, b"x", None).await, Err(ErrorCode::Denied));
    assert_eq!(arrives(&good).await, None);
}

// wasmtime's UdpReceive (#13934): who may be sent to is not who may send.
#[tokio::test]
async fn class_10_datagrams_from_unlisted_senders_are_dropped_and_counted() {
    let (good, good_address) = peer("127.0.0.1:0").await;
    let (bad, bad_address) = peer("127.0.0.2:0").await;
    let net = net(&format!(
        "bind udp 127.0.0.1:0; send udp 127.0.0.0/8:*; receive udp 127.0.0.1:* from {good_address}"
    ));
    let mut guest = Puppet::start(&net).await;
    let own = guest.bind_udp(2, 1, "127.0.0.1:0").await.unwrap();
    guest.send_to(2, b"hello", Some(bad_address)).await.unwrap();
    for _ in 0..100 {
        bad.send_to(b"spoofed", own).await.unwrap();
    }
    good.send_to(b"real", own).await.unwrap();
    assert_eq!(
        soon(receive(&mut guest, 2)).await.unwrap(),
        (b"real".to_vec(), good_address)
    );
    assert_eq!(guest.call("udp_dropped", &[2]).await, Ok(100));
    // Not a byte of theirs came into the guest's memory, not even over the length that it gave.
    let memory = guest.read(crate::support::ANSWERS, 64).await;
    assert!(!memory.windows(7).any(|bytes| bytes == b"spoofed"));
}

#[tokio::test]
async fn a_connected_socket_hears_its_peer_only() {
    let (one, one_address) = peer("127.0.0.1:0").await;
    let (other, _) = peer("127.0.0.1:0").await;
    let net = net("bind udp 127.0.0.1:0; connect,send udp 127.0.0.1:*; receive udp 127.0.0.1:*");
    let mut guest = Puppet::start(&net).await;
    let own = guest.bind_udp(2, 1, "127.0.0.1:0").await.unwrap();
    guest.udp_connect(2, one_address).await.unwrap();
    other.send_to(b"other", own).await.unwrap();
    one.send_to(b"one", own).await.unwrap();
    assert_eq!(soon(receive(&mut guest, 2)).await.unwrap().0, b"one");
    assert_eq!(guest.call("udp_dropped", &[2]).await, Ok(1));
}

#[tokio::test]
async fn broadcast_and_multicast_need_a_rule_that_names_them() {
    let everything = "bind udp *:*; send udp *:*";
    let multicast: SocketAddr = "239.255.0.1:47808".parse().unwrap();
    let broadcast: SocketAddr = "255.255.255.255:47808".parse().unwrap();
    let wide = net(everything);
    let mut guest = Puppet::start(&wide).await;
    guest.bind_udp(2, 1, "0.0.0.0:0").await.unwrap();
    for to in [multicast, broadcast] {
        assert_eq!(
            guest.send_to(2, b"x", Some(to)).await,
            Err(ErrorCode::Denied),
            "{to}"
        );
    }
    for (class, to) in [("multicast", multicast), ("broadcast", broadcast)] {
        let named = net(&format!("{everything}; send udp {class}:*"));
        let mut guest = Puppet::start(&named).await;
        guest.bind_udp(2, 1, "0.0.0.0:0").await.unwrap();
        // Whether there is a way to everybody is the machine's affair; whether it is allowed is ours.
        let sent = guest.send_to(2, b"x", Some(to)).await;
        assert!(
            matches!(sent, Ok(1) | Err(ErrorCode::Unreachable | ErrorCode::Io)),
            "{to}: {sent:?}"
        );
    }
}

#[tokio::test]
async fn what_can_not_be_sent_has_a_clear_error() {
    let net = net("bind udp 127.0.0.1:0; bind udp [::1]:0; send,connect udp *:*");
    let mut guest = Puppet::start(&net).await;
    guest.bind_udp(2, 1, "127.0.0.1:0").await.unwrap();
    let v6: SocketAddr = "[2001:db8::1]:1".parse().unwrap();
    assert_eq!(
        guest.send_to(2, b"x", Some(v6)).await,
        Err(ErrorCode::BadArgument)
    );
    assert!(guest.error_message().await.contains("IPv6"));
    let port_0: SocketAddr = "127.0.0.1:0".parse().unwrap();
    assert_eq!(
        guest.send_to(2, b"x", Some(port_0)).await,
        Err(ErrorCode::BadArgument)
    );
    assert_eq!(guest.udp_connect(2, port_0).await, Err(ErrorCode::BadArgument));
    let (_peer, address) = peer("127.0.0.1:0").await;
    guest.udp_connect(2, address).await.unwrap();
    guest.send_to(2, b"fits", None).await.unwrap();
    // 65,507 bytes fit into one datagram of IPv4.
    let long = guest.call("udp_send", &[2, 0, 65_508, 0, 0]).await;
    assert_eq!(long, Err(ErrorCode::MessageTooLong));
    let longer = guest.call("udp_send", &[2, 0, 65_536, 0, 0]).await;
    assert_eq!(longer, Err(ErrorCode::MessageTooLong));
    assert!(guest.error_message().await.contains("65536"));
}

#[tokio::test]
async fn a_budget_of_bytes_counts_datagrams_whole() {
    let (socket, address) = peer("127.0.0.1:0").await;
    let net =
        granted("bind udp 127.0.0.1:0; send udp 127.0.0.1:*; receive udp 127.0.0.1:*; limit out 10, in 5");
    let mut guest = Puppet::start(&net).await;
    let own = guest.bind_udp(2, 1, "127.0.0.1:0").await.unwrap();
    assert_eq!(guest.send_to(2, b"sixsix", Some(address)).await, Ok(6));
    assert_eq!(
        guest.send_to(2, b"fives", Some(address)).await,
        Err(ErrorCode::Exhausted)
    );
    assert_eq!(guest.send_to(2, b"four", Some(address)).await, Ok(4));
    socket.send_to(b"fives", own).await.unwrap();
    assert_eq!(soon(receive(&mut guest, 2)).await.unwrap().0, b"fives");
    socket.send_to(b"x", own).await.unwrap();
    assert_eq!(soon(receive(&mut guest, 2)).await, Err(ErrorCode::Exhausted));
}
