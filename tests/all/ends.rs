//! Revoking a Net ends everything that was made with it: each kind, idle or waited for, within 100 ms, and
//! its port is free again.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use refcap::{Capability, ErrorCode};
use refcap_abi::{ADDRESS_LOCAL, NO_WAIT, READY_ENDED, WAIT_READ};
use tokio::net::TcpStream;

use crate::support::names::{Reply, Scripted, addresses};
use crate::support::servers::{self, Silent};
use crate::support::{Puppet, granted, soon};

const EVERYTHING: &str = "connect tcp 127.0.0.1:*; connect tcp 192.0.2.1:9; connect tcp *.example.com:*; \
                          names to loopback; bind,listen tcp 127.0.0.1:0; accept tcp 127.0.0.1:*; \
                          bind udp 127.0.0.1:0; send,connect udp 127.0.0.1:*; receive udp 127.0.0.1:*";

/// How long a revocation may take to be felt.
const FELT: Duration = Duration::from_millis(100);

/// Measures are taken alone in the machine's time: several tries, of which the best counts, so that a busy
/// machine makes no test fail that a slow revocation would not.
const TRIES: usize = 5;

async fn guest(net: &Capability) -> Puppet {
    let resolver = Scripted::new(&[
        ("good.example.com", &[addresses(&["127.0.0.1"])]),
        ("silent.example.com", &[Reply::Never]),
    ]);
    Puppet::with_resolver(net, resolver).await
}

/// Revokes while the guest waits in a call, and returns how long that took to return, and with what.
async fn while_waiting(
    net: Capability,
    guest: &mut Puppet,
    import: &str,
    call: &[i32],
) -> (Result<i32, ErrorCode>, Duration) {
    let revoking = tokio::task::spawn_blocking(move || {
        std::thread::sleep(Duration::from_millis(30));
        let begun = Instant::now();
        net.revoke();
        begun
    });
    let result = soon(guest.call(import, call)).await;
    let ended = Instant::now();
    let begun = revoking.await.unwrap();
    (result, ended.saturating_duration_since(begun))
}

/// Tries until one was fast enough.
async fn fast<F: Future<Output = Duration>>(what: &str, attempt: impl Fn() -> F) {
    let mut took = Vec::new();
    for _ in 0..TRIES {
        let time = attempt().await;
        if time < FELT {
            return;
        }
        took.push(time);
    }
    panic!("{what} took {took:?}");
}

fn port_is_free(address: SocketAddr) {
    std::net::TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn class_29_a_pending_accept_ends_and_the_port_is_free() {
    fast("accept", || async {
        let net = granted(EVERYTHING);
        let mut guest = guest(&net).await;
        let address = guest.listen(2, 1, "127.0.0.1:0").await.unwrap();
        let wait = [2, WAIT_READ, 0];
        let (result, time) = while_waiting(net, &mut guest, "socket_wait", &wait).await;
        assert_eq!(result, Err(ErrorCode::Revoked));
        port_is_free(address);
        time
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn class_29_a_blocked_read_of_an_accepted_stream_ends() {
    fast("read", || async {
        let net = granted(EVERYTHING);
        let mut guest = guest(&net).await;
        let address = guest.listen(2, 1, "127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        guest.accept(3, 2).await.unwrap();
        // A new connection counts as ready until it was tried, and once more when the system's first word of it comes in
        // just then.
        for _ in 0..10 {
            let empty = guest.call("stream_read", &[3, 0, 8]).await;
            assert_eq!(empty, Err(ErrorCode::WouldBlock));
            if guest.call("socket_wait", &[3, WAIT_READ, 10]).await == Err(ErrorCode::TimedOut) {
                break;
            }
        }
        let wait = [3, WAIT_READ, 0];
        let (result, time) = while_waiting(net, &mut guest, "socket_wait", &wait).await;
        assert_eq!(result, Err(ErrorCode::Revoked));
        servers::closed(&mut client).await;
        time
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn class_29_a_blocked_receive_ends_and_the_port_is_free() {
    fast("receive", || async {
        let net = granted(EVERYTHING);
        let mut guest = guest(&net).await;
        let address = guest.bind_udp(2, 1, "127.0.0.1:0").await.unwrap();
        let wait = [2, WAIT_READ, 0];
        let (result, time) = while_waiting(net, &mut guest, "socket_wait", &wait).await;
        assert_eq!(result, Err(ErrorCode::Revoked));
        std::net::UdpSocket::bind(address).unwrap();
        time
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn class_29_a_pending_connect_ends() {
    // A listener whose queue is full does not answer any more.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let full = socket.local_addr().unwrap().as_socket().unwrap();
    let _fill: Vec<_> = (0..4)
        .map(|_| {
            let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            let _ = client.connect(&full.into());
            client
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    fast("connect", || async {
        let net = granted(EVERYTHING);
        let mut guest = guest(&net).await;
        guest.write(1024, &refcap_abi::wire::encode_address(full)).await;
        let call = [2, 1, 1024, 7, 0];
        let (result, time) = while_waiting(net, &mut guest, "net_connect", &call).await;
        assert_eq!(result, Err(ErrorCode::Revoked));
        time
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn class_29_a_pending_resolve_ends() {
    fast("resolve", || async {
        let net = granted(EVERYTHING);
        let mut guest = guest(&net).await;
        guest.write(1024, b"silent.example.com").await;
        let call = [2, 1, 1024, 18, 443, 0];
        let (result, time) = while_waiting(net, &mut guest, "net_resolve", &call).await;
        assert_eq!(result, Err(ErrorCode::Revoked));
        time
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn class_29_a_poll_ends() {
    fast("poll", || async {
        let net = granted(EVERYTHING);
        let mut guest = guest(&net).await;
        guest.bind_udp(2, 1, "127.0.0.1:0").await.unwrap();
        guest.call("poller_new", &[3]).await.unwrap();
        guest.call("poller_add", &[3, 2, 7, WAIT_READ]).await.unwrap();
        let wait = [3, crate::support::ANSWERS, 64, 0];
        let (result, time) = while_waiting(net, &mut guest, "poller_wait", &wait).await;
        assert_eq!(result, Ok(1));
        let event = guest.read(crate::support::ANSWERS, 8).await;
        assert_eq!(event, [[7, 0, 0, 0], READY_ENDED.to_le_bytes()].concat());
        time
    })
    .await;
}

// Between resolving and connecting: the name is of no use any more.
#[tokio::test]
async fn class_29_names_end_between_resolving_and_connecting() {
    let server = Silent::start().await;
    let net = granted(EVERYTHING);
    let mut guest = guest(&net).await;
    guest
        .resolve(2, 1, "good.example.com", server.address.port())
        .await
        .unwrap();
    net.revoke();
    assert_eq!(
        guest.call("name_connect", &[3, 2, 0]).await,
        Err(ErrorCode::Revoked)
    );
    assert_eq!(guest.describe_name(2).await, Err(ErrorCode::Revoked));
    assert_eq!(server.visits(), 0);
}

// One of each kind, none of them in use, and the guest is not even running.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_ends_while_the_guest_does_nothing() {
    fast("all of it", || async {
        let mut server = Silent::start().await;
        let net = granted(EVERYTHING);
        let mut guest = guest(&net).await;
        let listening = guest.listen(2, 1, "127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listening).await.unwrap();
        guest.accept(3, 2).await.unwrap();
        guest.connect(4, 1, server.address).await.unwrap();
        let (mut peer, _) = server.next().await;
        let bound = guest.bind_udp(5, 1, "127.0.0.1:0").await.unwrap();
        guest
            .resolve(6, 1, "good.example.com", server.address.port())
            .await
            .unwrap();
        guest.call("name_connect", &[7, 6, 0]).await.unwrap();
        let (mut named, _) = server.next().await;
        guest
            .write(
                1024,
                &refcap_abi::wire::encode_address("192.0.2.1:9".parse().unwrap()),
            )
            .await;
        // Wherever that goes, it is being connected to, or there is no way.
        let _ = guest.call("net_connect", &[8, 1, 1024, 7, NO_WAIT]).await;
        guest.end_of(4, ADDRESS_LOCAL).await.unwrap();

        let begun = Instant::now();
        assert!(net.revoke() >= 7);
        // At once: the guest has not been asked.
        assert_eq!(guest.handle().sockets(), 0);
        port_is_free(listening);
        std::net::UdpSocket::bind(bound).unwrap();
        for stream in [&mut client, &mut peer, &mut named] {
            servers::closed(stream).await;
        }
        let time = begun.elapsed();
        for slot in 2..8 {
            assert_eq!(guest.call("cap_kind", &[slot]).await, Err(ErrorCode::Revoked));
        }
        time
    })
    .await;
}
