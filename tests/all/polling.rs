//! Waiting for many sockets at once.

use std::time::{Duration, Instant};

use refcap::ErrorCode;
use refcap_abi::{NO_WAIT, READY_ENDED, WAIT_READ, WAIT_WRITE};
use tokio::net::{TcpStream, UdpSocket};

use crate::support::servers::{self, Silent};
use crate::support::{Puppet, granted, net, soon};

const EVERYTHING: &str = "connect tcp 127.0.0.1:*; bind,listen tcp 127.0.0.1:0; accept tcp 127.0.0.1:*; \
                          bind udp 127.0.0.1:0; send,connect udp 127.0.0.1:*; receive udp 127.0.0.1:*";

async fn add(guest: &mut Puppet, poller: i32, socket: i32, token: i32, interest: i32) {
    guest
        .call("poller_add", &[poller, socket, token, interest])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_poller_tells_which_sockets_are_ready() {
    let mut server = Silent::start().await;
    let net = net(EVERYTHING);
    let mut guest = Puppet::start(&net).await;
    guest.call("poller_new", &[2]).await.unwrap();
    guest.connect(3, 1, server.address).await.unwrap();
    let (mut peer, _) = server.next().await;
    let listening = guest.listen(4, 1, "127.0.0.1:0").await.unwrap();
    let bound = guest.bind_udp(5, 1, "127.0.0.1:0").await.unwrap();
    add(&mut guest, 2, 3, 30, WAIT_READ).await;
    add(&mut guest, 2, 4, 40, WAIT_READ).await;
    add(&mut guest, 2, 5, 50, WAIT_READ).await;
    assert_eq!(guest.poll(2, 30).await, Err(ErrorCode::TimedOut));
    assert_eq!(guest.poll(2, NO_WAIT).await, Err(ErrorCode::TimedOut));

    servers::send(&mut peer, b"x").await;
    assert_eq!(soon(guest.poll(2, 0)).await.unwrap(), [(30, WAIT_READ)]);
    // Until it is taken, it is told again.
    assert_eq!(guest.poll(2, NO_WAIT).await.unwrap(), [(30, WAIT_READ)]);
    guest.read_stream(3, 8).await.unwrap();
    assert_eq!(
        guest.call("stream_read", &[3, 0, 8]).await,
        Err(ErrorCode::WouldBlock)
    );
    assert_eq!(guest.poll(2, NO_WAIT).await, Err(ErrorCode::TimedOut));

    let _client = TcpStream::connect(listening).await.unwrap();
    assert_eq!(soon(guest.poll(2, 0)).await.unwrap(), [(40, WAIT_READ)]);
    guest.accept(6, 4).await.unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    sender.send_to(b"d", bound).await.unwrap();
    assert_eq!(soon(guest.poll(2, 0)).await.unwrap(), [(50, WAIT_READ)]);
    guest.receive(5).await.unwrap();
    assert_eq!(guest.receive(5).await, Err(ErrorCode::WouldBlock));

    // Another interest under the same number.
    add(&mut guest, 2, 3, 30, WAIT_READ | WAIT_WRITE).await;
    assert_eq!(soon(guest.poll(2, 0)).await.unwrap(), [(30, WAIT_WRITE)]);
    assert_eq!(guest.call("poller_remove", &[2, 30]).await, Ok(1));
    assert_eq!(guest.call("poller_remove", &[2, 30]).await, Ok(0));
    assert_eq!(guest.poll(2, 10).await, Err(ErrorCode::TimedOut));
}

#[tokio::test]
async fn what_is_added_twice_or_wrongly_is_an_error() {
    let server = Silent::start().await;
    let net = net(EVERYTHING);
    let mut guest = Puppet::start(&net).await;
    guest.call("poller_new", &[2]).await.unwrap();
    guest.call("poller_new", &[3]).await.unwrap();
    guest.connect(4, 1, server.address).await.unwrap();
    guest.connect(5, 1, server.address).await.unwrap();
    add(&mut guest, 2, 4, 7, WAIT_READ).await;
    for (call, message) in [
        ([2, 5, 7, WAIT_READ], "another socket with the token 7"),
        ([2, 4, 8, WAIT_READ], "in a poller already"),
        ([3, 4, 7, WAIT_READ], "in a poller already"),
        ([3, 5, 7, 0], "not an interest"),
        ([3, 5, 7, 4], "not an interest"),
    ] {
        assert_eq!(guest.call("poller_add", &call).await, Err(ErrorCode::BadArgument));
        let why = guest.error_message().await;
        assert!(why.contains(message), "{why}");
    }
    assert_eq!(
        guest.call("poller_add", &[2, 1, 9, WAIT_READ]).await,
        Err(ErrorCode::WrongKind)
    );
    assert_eq!(
        guest.call("poller_wait", &[2, 0, 7, 0]).await,
        Err(ErrorCode::BadArgument)
    );
    // A socket is free for another poller when its own is gone.
    guest.close(2).await.unwrap();
    add(&mut guest, 3, 4, 7, WAIT_READ).await;
}

#[tokio::test]
async fn a_wait_elsewhere_does_not_make_the_poller_deaf() {
    let mut server = Silent::start().await;
    let net = net(EVERYTHING);
    let mut guest = Puppet::start(&net).await;
    guest.call("poller_new", &[2]).await.unwrap();
    guest.connect(3, 1, server.address).await.unwrap();
    let (mut peer, _) = server.next().await;
    let listening = guest.listen(4, 1, "127.0.0.1:0").await.unwrap();
    add(&mut guest, 2, 3, 30, WAIT_READ).await;
    add(&mut guest, 2, 4, 40, WAIT_READ).await;
    assert_eq!(guest.poll(2, 5).await, Err(ErrorCode::TimedOut));
    // Both of these take the poller's place at the socket.
    assert_eq!(
        guest.call("socket_wait", &[3, WAIT_READ, 5]).await,
        Err(ErrorCode::TimedOut)
    );
    assert_eq!(
        guest.call("listener_accept", &[5, 4]).await,
        Err(ErrorCode::WouldBlock)
    );
    servers::send(&mut peer, b"x").await;
    assert_eq!(soon(guest.poll(2, 0)).await.unwrap(), [(30, WAIT_READ)]);
    guest.call("poller_remove", &[2, 30]).await.unwrap();
    let _client = TcpStream::connect(listening).await.unwrap();
    assert_eq!(soon(guest.poll(2, 0)).await.unwrap(), [(40, WAIT_READ)]);
}

#[tokio::test]
async fn a_connection_in_the_making_is_polled_until_it_is_made_or_failed() {
    let server = servers::echo().await;
    let nobody = servers::nobody();
    let net = net(EVERYTHING);
    let mut guest = Puppet::start(&net).await;
    guest.call("poller_new", &[2]).await.unwrap();
    for (slot, address) in [(3, server), (4, nobody)] {
        guest
            .write(1024, &refcap_abi::wire::encode_address(address))
            .await;
        guest
            .call("net_connect", &[slot, 1, 1024, 7, NO_WAIT])
            .await
            .unwrap();
        add(&mut guest, 2, slot, slot, WAIT_WRITE).await;
    }
    let mut ready = Vec::new();
    while ready.len() < 2 {
        for event in soon(guest.poll(2, 0)).await.unwrap() {
            guest
                .call("poller_remove", &[2, event.0.cast_signed()])
                .await
                .unwrap();
            ready.push(event);
        }
    }
    ready.sort_unstable();
    assert_eq!(ready, [(3, WAIT_WRITE), (4, WAIT_WRITE)]);
    assert_eq!(guest.call("stream_write", &[3, 0, 0]).await, Ok(0));
    assert_eq!(
        guest.call("stream_write", &[4, 0, 0]).await,
        Err(ErrorCode::ConnectionRefused)
    );
    guest.write_stream(3, b"made").await.unwrap();
    assert_eq!(guest.read_stream(3, 8).await.unwrap(), b"made");
}

#[tokio::test]
async fn a_poll_wakes_when_a_socket_is_revoked_or_closed() {
    let server = Silent::start().await;
    let net = net(EVERYTHING);
    let child = net.only(&EVERYTHING.parse().unwrap()).unwrap();
    let mut guest = Puppet::start(&net).await;
    guest.handle().grant("child", &child);
    guest.write(1024, b"child").await;
    guest.call("grant_take", &[2, 1024, 5]).await.unwrap();
    guest.call("poller_new", &[3]).await.unwrap();
    guest.connect(4, 2, server.address).await.unwrap();
    guest.connect(5, 1, server.address).await.unwrap();
    add(&mut guest, 3, 4, 40, WAIT_READ).await;
    add(&mut guest, 3, 5, 50, WAIT_READ).await;
    let revoking = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        child.revoke();
    });
    assert_eq!(soon(guest.poll(3, 0)).await.unwrap(), [(40, READY_ENDED)]);
    revoking.await.unwrap();
    guest.close(5).await.unwrap();
    assert_eq!(soon(guest.poll(3, 0)).await.unwrap(), [(50, READY_ENDED)]);
    assert_eq!(guest.poll(3, 10).await, Err(ErrorCode::TimedOut));
}

#[tokio::test]
async fn a_poll_waits_for_a_rate() {
    let (server, net) = (
        servers::echo().await,
        granted("connect tcp 127.0.0.1:*; limit out 20kB/s"),
    );
    let mut guest = Puppet::start(&net).await;
    guest.call("poller_new", &[2]).await.unwrap();
    guest.connect(3, 1, server).await.unwrap();
    add(&mut guest, 2, 3, 30, WAIT_WRITE).await;
    let begun = Instant::now();
    let mut sent = 0;
    while sent < 5_000 {
        soon(guest.poll(2, 0)).await.unwrap();
        match guest.call("stream_write", &[3, 0, 5_000]).await {
            Ok(count) => sent += count,
            Err(error) => assert_eq!(error, ErrorCode::WouldBlock),
        }
    }
    // 1,000 bytes had gathered; the others take 200 ms.
    assert!(
        begun.elapsed() >= Duration::from_millis(190),
        "{:?}",
        begun.elapsed()
    );
}

// A guest that is always ready must not starve the others on its thread.
// The same one was told each time.
#[tokio::test]
async fn a_poller_with_room_for_one_event_tells_of_all_in_turn() {
    let server = servers::echo().await;
    let mut guest = Puppet::start(&net(EVERYTHING)).await;
    guest.call("poller_new", &[2]).await.unwrap();
    let all: std::collections::BTreeSet<u32> = (30..37).collect();
    for &token in &all {
        guest.connect(3, 1, server).await.unwrap();
        add(&mut guest, 2, 3, token.cast_signed(), WAIT_WRITE).await;
    }
    let mut told = std::collections::BTreeMap::new();
    for _ in 0..70 {
        let call = [2, crate::support::ANSWERS, 8, 0];
        assert_eq!(guest.call("poller_wait", &call).await, Ok(1));
        let token = guest.read(crate::support::ANSWERS, 4).await;
        *told
            .entry(u32::from_le_bytes(token.try_into().unwrap()))
            .or_insert(0) += 1;
    }
    assert!(told.keys().eq(&all), "{told:?}");
    assert!(told.values().all(|&times| times >= 3), "{told:?}");
}

#[tokio::test]
async fn a_guest_that_polls_without_end_yields() {
    let server = servers::echo().await;
    let net = net(EVERYTHING);
    let mut guest = Puppet::start(&net).await;
    guest.call("poller_new", &[2]).await.unwrap();
    guest.connect(3, 1, server).await.unwrap();
    add(&mut guest, 2, 3, 30, WAIT_READ | WAIT_WRITE).await;
    let busy = async {
        for _ in 0..2_000 {
            guest.poll(2, 0).await.unwrap();
            let _ = guest.call("stream_write", &[3, 0, 1]).await;
            let _ = guest.call("stream_read", &[3, 0, 64]).await;
        }
    };
    let ticks = async {
        let mut ticks = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            ticks += 1;
            if ticks == 5 {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        () = busy => panic!("nobody else had a turn"),
        () = ticks => {}
    }
}
