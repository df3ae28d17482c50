//! Taking back: from the guest and from the embedder, what is idle and what is blocked.

use std::time::Duration;

use refcap::ErrorCode;

use crate::support::servers::{self, Silent, closed, send};
use crate::support::{Puppet, authority, net, soon};

/// Long enough for the guest to be blocked by then, on most runs. A run where it is not tests less, and
/// passes.
const MOMENT: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread")]
async fn a_read_blocked_on_a_silent_server_ends_when_the_embedder_revokes() {
    let mut server = Silent::start().await;
    let grant = net("connect tcp 127.0.0.1:*");
    let mut guest = Puppet::start(&grant).await;
    guest.only(2, 1, "connect tcp 127.0.0.1:*").await.unwrap();
    guest.connect(3, 2, server.address).await.unwrap();
    let (mut peer, _) = server.next().await;
    let revoke = tokio::spawn(async move {
        tokio::time::sleep(MOMENT).await;
        // The embedder's own, the endowment, the one derived from it, and the stream.
        assert_eq!(grant.revoke(), 4);
        closed(&mut peer).await;
    });
    assert_eq!(soon(guest.read_stream(3, 1)).await, Err(ErrorCode::Revoked));
    revoke.await.unwrap();
    for slot in [1, 2] {
        assert_eq!(guest.describe(slot).await, Err(ErrorCode::Revoked));
    }
    assert_eq!(guest.vat().capabilities(), 0);
    assert_eq!(guest.handle().capabilities(), 0);
    assert_eq!(guest.handle().sockets(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_blocked_on_a_full_connection_ends_when_the_embedder_revokes() {
    let mut server = Silent::start().await;
    let grant = net("connect tcp 127.0.0.1:*");
    let mut guest = Puppet::start(&grant).await;
    guest.connect(2, 1, server.address).await.unwrap();
    let (peer, _) = server.next().await;
    let revoke = tokio::spawn(async move {
        tokio::time::sleep(MOMENT).await;
        grant.revoke();
        drop(peer);
    });
    let block = vec![7; 16 << 10];
    let error = soon(async {
        loop {
            if let Err(error) = guest.write_stream(2, &block).await {
                return error;
            }
        }
    })
    .await;
    assert_eq!(error, ErrorCode::Revoked);
    revoke.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_that_waits_ends_when_the_embedder_revokes() {
    // A listener whose queue is full does not answer.
    let (address, _listener, _queue) = full_listener().await;
    let grant = net("connect tcp 127.0.0.1:*");
    let mut guest = Puppet::start(&grant).await;
    let revoke = tokio::spawn(async move {
        tokio::time::sleep(MOMENT).await;
        grant.revoke();
    });
    let error = soon(async {
        loop {
            match guest.connect(2, 1, address).await {
                // Room was left in the queue after all.
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    })
    .await;
    assert_eq!(error, ErrorCode::Revoked);
    revoke.await.unwrap();
    assert_eq!(guest.handle().sockets(), 0);
}

pub(crate) async fn full_listener() -> (
    std::net::SocketAddr,
    tokio::net::TcpListener,
    Vec<tokio::task::JoinHandle<()>>,
) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    for _ in 0..4 {
        queue.push(tokio::spawn(async move {
            let stream = tokio::net::TcpStream::connect(address).await;
            tokio::time::sleep(crate::support::SOON).await;
            drop(stream);
        }));
    }
    tokio::time::sleep(MOMENT).await;
    (address, listener, queue)
}

#[tokio::test]
async fn a_revoker_ends_its_net_and_what_came_from_it_and_nothing_else() {
    let mut server = Silent::start().await;
    let grant = net("connect tcp 127.0.0.1:*");
    let mut guest = Puppet::start(&grant).await;
    guest.call("net_revocable", &[2, 3, 1]).await.unwrap();
    guest.only(4, 2, "connect tcp *:*").await.unwrap();
    guest.connect(5, 4, server.address).await.unwrap();
    let (mut peer, _) = server.next().await;
    guest.connect(6, 1, server.address).await.unwrap();
    let (mut other, _) = server.next().await;

    assert_eq!(guest.call("revoker_revoke", &[3]).await, Ok(3));
    closed(&mut peer).await;
    for slot in [2, 4] {
        assert_eq!(guest.describe(slot).await, Err(ErrorCode::Revoked));
        assert_eq!(
            guest.connect(7, slot, server.address).await,
            Err(ErrorCode::Revoked)
        );
    }
    assert_eq!(guest.read_stream(5, 1).await, Err(ErrorCode::Revoked));
    assert_eq!(guest.call("revoker_revoke", &[3]).await, Ok(0));

    // What did not come from it works on.
    send(&mut other, b"on").await;
    assert_eq!(soon(guest.read_stream(6, 2)).await.unwrap(), b"on");
    guest.describe(1).await.unwrap();
}

#[tokio::test]
async fn closing_a_revoker_revokes_nothing_and_closing_the_net_leaves_it_revocable() {
    let grant = net("connect tcp 127.0.0.1:*");
    let mut guest = Puppet::start(&grant).await;
    guest.call("net_revocable", &[2, 3, 1]).await.unwrap();
    guest.close(3).await.unwrap();
    guest.describe(2).await.unwrap();

    guest.call("net_revocable", &[4, 5, 1]).await.unwrap();
    guest.only(6, 4, "connect tcp *:*").await.unwrap();
    guest.close(4).await.unwrap();
    assert_eq!(guest.call("revoker_revoke", &[5]).await, Ok(1));
    assert_eq!(guest.describe(6).await, Err(ErrorCode::Revoked));
}

#[tokio::test]
async fn a_revoker_that_is_revoked_can_revoke_no_more() {
    let grant = net("connect tcp 127.0.0.1:*");
    let mut guest = Puppet::start(&grant).await;
    guest.call("net_revocable", &[2, 3, 1]).await.unwrap();
    guest.call("net_revocable", &[4, 5, 2]).await.unwrap();
    assert_eq!(guest.call("revoker_revoke", &[3]).await, Ok(3));
    assert_eq!(guest.call("revoker_revoke", &[5]).await, Err(ErrorCode::Revoked));
}

#[tokio::test(flavor = "multi_thread")]
async fn narrowing_in_place_reaches_a_running_guest_and_cuts_what_is_outside() {
    let mut inside = Silent::start().await;
    let mut outside = Silent::start().await;
    let grant = net("connect tcp 127.0.0.1:*");
    let mut guest = Puppet::start(&grant).await;
    guest.only(2, 1, "connect tcp *:*").await.unwrap();
    guest.connect(3, 2, inside.address).await.unwrap();
    guest.connect(4, 2, outside.address).await.unwrap();
    let (mut kept, _) = inside.next().await;
    let (mut cut, _) = outside.next().await;

    let rules = format!("connect tcp 127.0.0.1:{}", inside.address.port());
    let bound = authority(&rules);
    let narrow = tokio::spawn(async move {
        tokio::time::sleep(MOMENT).await;
        assert_eq!(grant.narrow(&bound).unwrap(), 3);
        closed(&mut cut).await;
        grant
    });
    assert_eq!(soon(guest.read_stream(4, 1)).await, Err(ErrorCode::Revoked));
    let _grant = narrow.await.unwrap();

    assert_eq!(guest.describe(1).await.unwrap(), rules);
    assert_eq!(guest.describe(2).await.unwrap(), rules);
    assert_eq!(guest.connect(5, 2, outside.address).await, Err(ErrorCode::Denied));
    send(&mut kept, b"on").await;
    assert_eq!(soon(guest.read_stream(3, 2)).await.unwrap(), b"on");
    // What is derived from now on starts from the narrower authority.
    guest.only(6, 2, "connect tcp *:*").await.unwrap();
    assert_eq!(guest.describe(6).await.unwrap(), rules);
}

#[tokio::test]
async fn a_vat_that_ends_closes_its_connections() {
    let mut server = Silent::start().await;
    let grant = net("connect tcp 127.0.0.1:*");
    let mut guest = Puppet::start(&grant).await;
    guest.connect(2, 1, server.address).await.unwrap();
    let (mut peer, _) = server.next().await;
    let handle = guest.handle().clone();
    drop(guest);
    closed(&mut peer).await;
    assert_eq!((handle.capabilities(), handle.sockets()), (0, 0));
    assert_eq!(grant.lineage().len(), 1);
}

// A guest that is revoked over and over while it connects, from another thread, never gets a connection
// through what is gone. (Attack class 29: revocation misses children already obtained.)
#[tokio::test(flavor = "multi_thread")]
async fn class_29_revoking_races_with_connecting_and_no_connection_survives() {
    let server = servers::echo().await;
    for round in 0..100 {
        let grant = net("connect tcp 127.0.0.1:*");
        let mut guest = Puppet::start(&grant).await;
        let revoke = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_micros(round * 20)).await;
            grant.revoke();
        });
        let connected = soon(guest.connect(2, 1, server)).await;
        revoke.await.unwrap();
        match connected {
            Ok(_) => assert_eq!(soon(guest.read_stream(2, 1)).await, Err(ErrorCode::Revoked)),
            Err(error) => assert_eq!(error, ErrorCode::Revoked),
        }
        assert_eq!(guest.vat().capabilities(), 0);
        assert_eq!(guest.handle().sockets(), 0);
    }
}
