//! A guest reaches what it was granted, and nothing else.

use refcap::ErrorCode;
use refcap_abi::{ADDRESS_LOCAL, ADDRESS_PEER, SHUTDOWN_WRITE, wire};

use crate::support::puppet_source;
use crate::support::servers::{self, Silent, closed};
use crate::support::{Puppet, net, soon};

#[tokio::test]
async fn a_guest_narrows_its_network_and_reaches_a_server_through_it() {
    let server = servers::echo().await;
    let grant = net("connect tcp 127.0.0.0/8:*");
    let mut guest = Puppet::start(&grant).await;
    assert_eq!(guest.describe(1).await.unwrap(), "connect tcp 127.0.0.0/8:*");

    guest
        .only(2, 1, &format!("connect tcp *:{}", server.port()))
        .await
        .unwrap();
    assert_eq!(
        guest.describe(2).await.unwrap(),
        format!("connect tcp 127.0.0.0/8:{}", server.port())
    );
    guest.connect(3, 2, server).await.unwrap();
    guest.write_stream(3, b"hello, network").await.unwrap();
    assert_eq!(soon(guest.read_stream(3, 100)).await.unwrap(), b"hello, network");

    guest.call("stream_shutdown", &[3, SHUTDOWN_WRITE]).await.unwrap();
    assert_eq!(soon(guest.read_stream(3, 100)).await.unwrap(), b"");
    guest.close(3).await.unwrap();
    assert_eq!(guest.handle().sockets(), 0);
}

#[tokio::test]
async fn everything_else_is_refused_before_a_packet_leaves() {
    let server = Silent::start().await;
    let other = Silent::start().await;
    let grant = net(&format!("connect tcp 127.0.0.1:{}", server.address.port()));
    let mut guest = Puppet::start(&grant).await;
    assert_eq!(guest.connect(2, 1, other.address).await, Err(ErrorCode::Denied));
    let why = guest.error_message().await;
    assert!(why.contains(&other.address.port().to_string()), "{why}");
    assert!(why.contains(&server.address.port().to_string()), "{why}");
    assert_eq!(guest.raw("is_null", &[2]).await, 1);
    assert_eq!((other.visits(), server.visits()), (0, 0));
}

#[tokio::test]
async fn both_addresses_of_a_stream_are_the_real_ones() {
    let mut server = Silent::start().await;
    let grant = net("connect tcp 127.0.0.1:*");
    let mut guest = Puppet::start(&grant).await;
    guest.connect(2, 1, server.address).await.unwrap();
    let (_stream, peer) = server.next().await;
    for (which, expected) in [(ADDRESS_LOCAL, peer), (ADDRESS_PEER, server.address)] {
        let at = crate::support::ANSWERS;
        let length = guest.call("socket_address", &[2, which, at, 32]).await.unwrap();
        let bytes = guest.read(at, length).await;
        assert_eq!(wire::decode_address(&bytes), Some(expected));
    }
}

#[tokio::test]
async fn closing_a_stream_closes_the_connection_and_every_copy() {
    let mut server = Silent::start().await;
    let grant = net("connect tcp 127.0.0.1:*");
    let mut guest = Puppet::start(&grant).await;
    guest.connect(2, 1, server.address).await.unwrap();
    let (mut peer, _) = server.next().await;
    guest.raw("copy", &[3, 2]).await;
    guest.close(2).await.unwrap();
    closed(&mut peer).await;
    for slot in [2, 3] {
        assert_eq!(guest.read_stream(slot, 1).await, Err(ErrorCode::Closed));
        assert_eq!(guest.close(slot).await, Err(ErrorCode::Closed));
    }
}

#[test]
fn the_puppet_is_a_valid_program() {
    let bytes = wat::parse_str(puppet_source()).unwrap();
    let inspection = refcap::inspect(&bytes);
    assert_eq!(inspection.refusals, []);
    assert_eq!(inspection.endowments.len(), 1);
}
