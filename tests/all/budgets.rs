//! Budgets, leases and flags: however they are passed on, they are not multiplied.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use refcap::{ErrorCode, StartError, Terms};
use refcap_abi::{FLAG_DERIVABLE, FLAG_TRANSFERABLE, WAIT_READ, WAIT_WRITE};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::support::servers::{self, Silent};
use crate::support::{Puppet, granted, net, soon};

/// A server that counts the bytes that it gets.
async fn sink() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counter = counter.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    counter.fetch_add(length, Ordering::SeqCst);
                }
            });
        }
    });
    (address, count)
}

// The budget is one; its holders are a thousand capabilities in eight programs that run at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_children_together_have_their_parents_budget() {
    const PROGRAMS: usize = 8;
    const CHILDREN: usize = 125;
    let (address, received) = sink().await;
    let net = granted("connect tcp 127.0.0.1:*; limit sockets 10, out 1MiB");
    let open = Arc::new(AtomicUsize::new(0));
    let begun = Arc::new(tokio::sync::Barrier::new(PROGRAMS));
    let program = |_| {
        let (net, open, begun) = (net.clone(), open.clone(), begun.clone());
        tokio::spawn(async move {
            let mut guest = Puppet::start(&net).await;
            let mut connected = Vec::new();
            for child in 0..CHILDREN {
                guest.limit(2, 1, "limit sockets 10, out 1MiB").await.unwrap();
                if guest.connect(3, 2, address).await.is_ok() {
                    open.fetch_add(1, Ordering::SeqCst);
                    // Each keeps its connection, in a slot of its own.
                    let slot = 4 + i32::try_from(connected.len()).unwrap();
                    guest.raw("copy", &[slot, 3]).await;
                    connected.push(slot);
                }
                if child == 0 {
                    begun.wait().await;
                }
            }
            let mut sent = 0;
            while !connected.is_empty() {
                let mut left = Vec::new();
                for stream in connected {
                    match guest.call("stream_write", &[stream, 0, 30_011]).await {
                        Ok(count) => sent += usize::try_from(count).unwrap(),
                        Err(ErrorCode::WouldBlock) => {
                            guest.call("socket_wait", &[stream, WAIT_WRITE, 0]).await.unwrap();
                        }
                        Err(error) => {
                            assert_eq!(error, ErrorCode::Exhausted);
                            continue;
                        }
                    }
                    left.push(stream);
                }
                connected = left;
            }
            begun.wait().await;
            sent
        })
    };
    let programs: Vec<_> = (0..PROGRAMS).map(program).collect();
    let mut sent = 0;
    for program in programs {
        sent += soon(program).await.unwrap();
    }
    assert_eq!(open.load(Ordering::SeqCst), 10);
    assert_eq!(sent, 1 << 20);
    soon(async {
        while received.load(Ordering::SeqCst) < sent {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let usage = net.info().unwrap().usage.unwrap();
    assert_eq!(usage.bytes_out, Some((1 << 20, 1 << 20)));
    // The programs have ended, and their sockets with them.
    assert_eq!(usage.sockets, Some((0, 10)));
}

#[tokio::test]
async fn a_rate_holds_over_ten_seconds() {
    let (address, received) = sink().await;
    let net = granted("connect tcp 127.0.0.1:*; limit out 1MiB/s");
    let mut guest = Puppet::start(&net).await;
    guest.connect(2, 1, address).await.unwrap();
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < Duration::from_secs(10) {
        match guest.call("stream_write", &[2, 0, 60_000]).await {
            Ok(count) => sent += usize::try_from(count).unwrap(),
            Err(error) => {
                assert_eq!(error, ErrorCode::WouldBlock);
                guest.call("socket_wait", &[2, WAIT_WRITE, 0]).await.unwrap();
            }
        }
    }
    // The rate is bytes in a time; the test's own time is measured with it.
    let ratio = sent as f64 / begun.elapsed().as_secs_f64() / f64::from(1 << 20);
    assert!((0.95..=1.05).contains(&ratio), "{ratio}");
    soon(async {
        while received.load(Ordering::SeqCst) < sent {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn bytes_in_are_counted_and_end_with_a_typed_error() {
    let mut server = Silent::start().await;
    let net = granted("connect tcp 127.0.0.1:*; limit in 10");
    let mut guest = Puppet::start(&net).await;
    guest.connect(2, 1, server.address).await.unwrap();
    let (mut peer, _) = server.next().await;
    servers::send(&mut peer, b"twelve bytes").await;
    let mut got = Vec::new();
    let end = loop {
        match guest.read_stream(2, 7).await {
            Ok(bytes) => got.extend(bytes),
            Err(error) => break error,
        }
    };
    assert_eq!((&got[..], end), (&b"twelve byt"[..], ErrorCode::Exhausted));
    assert_eq!(
        guest.error_message().await,
        "all 10 bytes of the budget were received"
    );
    // What waits for the next bytes is told at once, and not left waiting.
    assert_eq!(
        guest.call("socket_wait", &[2, WAIT_READ, 5_000]).await,
        Ok(WAIT_READ)
    );
}

#[tokio::test]
async fn connections_are_counted_also_those_that_failed() {
    let server = Silent::start().await;
    let nobody = servers::nobody();
    let net = granted("connect tcp 127.0.0.1:*; limit connections 3");
    let mut guest = Puppet::start(&net).await;
    assert_eq!(
        guest.connect(2, 1, nobody).await,
        Err(ErrorCode::ConnectionRefused)
    );
    // What is refused sends no packet and costs nothing.
    for _ in 0..5 {
        let elsewhere = "127.0.0.2:1".parse().unwrap();
        assert_eq!(guest.connect(2, 1, elsewhere).await, Err(ErrorCode::Denied));
    }
    for _ in 0..2 {
        guest.connect(2, 1, server.address).await.unwrap();
        guest.close(2).await.unwrap();
    }
    assert_eq!(
        guest.connect(2, 1, server.address).await,
        Err(ErrorCode::Exhausted)
    );
    assert_eq!(
        guest.error_message().await,
        "all 3 connections of the budget were made"
    );
}

#[tokio::test]
async fn limits_add_up_and_never_widen() {
    let server = Silent::start().await;
    let net = granted("connect tcp 127.0.0.1:*; limit sockets 2");
    let mut guest = Puppet::start(&net).await;
    guest
        .limit(2, 1, "limit sockets 1000, out 1TiB; label wide")
        .await
        .unwrap();
    guest.connect(3, 2, server.address).await.unwrap();
    guest.connect(4, 1, server.address).await.unwrap();
    for net in [1, 2] {
        assert_eq!(
            guest.connect(5, net, server.address).await,
            Err(ErrorCode::Exhausted)
        );
    }
    assert_eq!(
        guest.error_message().await,
        "all 2 sockets of the budget are open (capability `net/wide`)"
    );
    guest.close(3).await.unwrap();
    guest.connect(5, 2, server.address).await.unwrap();
}

#[tokio::test]
async fn terms_that_can_not_be_say_where_and_why() {
    let net = net("connect tcp 127.0.0.1:*");
    let mut guest = Puppet::start(&net).await;
    for (terms, message) in [
        (
            "limit sockets",
            "line 1, column 14: expected a number, found the end of the text",
        ),
        (
            "limit out 1MiB, out 2MiB",
            "line 1, column 17: expected each limit and the label once, found `out`",
        ),
        (
            "limit in 0/s",
            "line 1, column 10: expected a rate of at least 1 byte per second",
        ),
        (
            "limit lease 10",
            "line 1, column 13: expected a number with ms, s, m, h or d behind it, found `10`",
        ),
        ("connect tcp *:*", "line 1, column 1: expected limit, no or label"),
        (
            "no fun",
            "line 1, column 4: expected derive or hand-over, found `fun`",
        ),
        (
            "label a/b",
            "line 1, column 7: expected a label of 1 to 64 letters",
        ),
        (
            "limit out 99999999999TiB",
            "line 1, column 11: expected at most 18446744073709551615 B",
        ),
    ] {
        assert_eq!(guest.limit(2, 1, terms).await, Err(ErrorCode::BadArgument));
        let why = guest.error_message().await;
        assert!(why.starts_with(message), "{terms}: {why}");
    }
    // Budgets in a row are bounded.
    for _ in 0..32 {
        guest.limit(2, 1, "limit out 1GiB").await.unwrap();
        guest.raw("copy", &[1, 2]).await;
    }
    assert_eq!(
        guest.limit(2, 1, "limit out 1GiB").await,
        Err(ErrorCode::LimitReached)
    );
}

#[tokio::test]
async fn a_lease_ends_by_the_clock_with_all_that_came_from_it() {
    let mut server = Silent::start().await;
    let net = net("connect tcp 127.0.0.1:*; bind,listen tcp 127.0.0.1:0");
    let mut guest = Puppet::start(&net).await;
    guest.limit(2, 1, "limit lease 300ms").await.unwrap();
    guest.only(3, 2, "connect tcp *:*").await.unwrap();
    guest.connect(4, 3, server.address).await.unwrap();
    let listening = guest.listen(5, 2, "127.0.0.1:0").await.unwrap();
    // Closing the leased one does not free what came from it.
    guest.close(2).await.unwrap();
    let (mut peer, _) = server.next().await;
    let begun = Instant::now();
    let waited = soon(guest.call("socket_wait", &[4, WAIT_READ, 0])).await;
    assert_eq!(waited, Err(ErrorCode::Expired));
    assert!(begun.elapsed() < Duration::from_secs(10));
    servers::closed(&mut peer).await;
    for slot in [3, 4, 5] {
        assert_eq!(guest.call("cap_kind", &[slot]).await, Err(ErrorCode::Expired));
    }
    assert_eq!(guest.connect(6, 3, server.address).await, Err(ErrorCode::Expired));
    // Nobody called the clock, so nobody is told when it is done: whoever it wakes first may look before it
    // has come to the socket beside.
    soon(async {
        while std::net::TcpListener::bind(listening).is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    // The grant itself lives on; what has ended can be closed, once.
    guest.connect(6, 1, server.address).await.unwrap();
    guest.close(3).await.unwrap();
    assert_eq!(guest.close(3).await, Err(ErrorCode::Closed));
}

// What has expired is remembered for its holder; that must not be a way to make the host remember for ever.
#[tokio::test]
async fn class_27_expired_references_count_until_they_are_closed() {
    let net = net("connect tcp 127.0.0.1:*");
    let limits = refcap::Limits::default().capabilities(10);
    let mut guest = Puppet::with_limits(&net, limits).await;
    for slot in 2..11 {
        guest.limit(slot, 1, "limit lease 1ms").await.unwrap();
    }
    soon(async {
        for slot in 2..11 {
            while guest.call("cap_kind", &[slot]).await != Err(ErrorCode::Expired) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    })
    .await;
    assert_eq!(guest.handle().capabilities(), 1);
    assert_eq!(
        guest.limit(11, 1, "limit lease 1ms").await,
        Err(ErrorCode::LimitReached)
    );
    guest.close(5).await.unwrap();
    guest.limit(11, 1, "limit lease 1ms").await.unwrap();
    // What is forgotten is collected.
    for slot in 2..12 {
        guest.raw("forget", &[slot]).await;
    }
    for _ in 0..5 {
        guest.limit(2, 1, "limit lease 1h").await.unwrap();
    }
}

#[tokio::test]
async fn a_lease_of_the_embedders_ends_too() {
    let net = granted("connect tcp 127.0.0.1:*; limit lease 50ms");
    assert!(net.info().unwrap().expires.is_some());
    let child = net.limit(&Terms::new().label("child")).unwrap();
    assert_eq!(child.label(), "net/child");
    soon(async {
        while child.is_alive() || net.is_alive() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_may_not_be_derived_can_still_be_used() {
    let server = Silent::start().await;
    let net = granted("connect tcp 127.0.0.1:*; no derive");
    let mut guest = Puppet::start(&net).await;
    for import in ["net_only", "net_exactly", "net_except"] {
        assert_eq!(
            guest.derive(import, 2, 1, "connect tcp 127.0.0.1:1").await,
            Err(ErrorCode::NotDerivable),
            "{import}"
        );
    }
    assert_eq!(
        guest.limit(2, 1, "limit sockets 1").await,
        Err(ErrorCode::NotDerivable)
    );
    assert_eq!(
        guest.call("net_revocable", &[2, 3, 1]).await,
        Err(ErrorCode::NotDerivable)
    );
    guest.connect(2, 1, server.address).await.unwrap();
    assert!(net.limit(&Terms::new()).is_err());
}

#[tokio::test]
async fn a_guest_can_ask_which_flags_were_set() {
    for (terms, flags) in [
        ("", FLAG_DERIVABLE | FLAG_TRANSFERABLE),
        ("; no derive", FLAG_TRANSFERABLE),
        ("; no hand-over", FLAG_DERIVABLE),
        ("; no derive; no hand-over", 0),
    ] {
        let net = granted(&format!("connect tcp 127.0.0.1:*{terms}"));
        let mut guest = Puppet::start(&net).await;
        assert_eq!(guest.call("net_flags", &[1]).await, Ok(flags), "{terms}");
    }
    let net = net("connect tcp 127.0.0.1:1");
    let mut guest = Puppet::start(&net).await;
    guest.limit(2, 1, "no derive").await.unwrap();
    assert_eq!(guest.call("net_flags", &[1]).await, Ok(3));
    assert_eq!(guest.call("net_flags", &[2]).await, Ok(FLAG_TRANSFERABLE));
}

#[tokio::test]
async fn what_may_not_be_handed_over_goes_to_one_program() {
    let net = granted("connect tcp 127.0.0.1:*; no hand-over");
    let first = Puppet::start(&net).await;
    let second = Puppet::try_start(&net, refcap::Limits::default()).await;
    assert!(matches!(second.err(), Some(StartError::NotTransferable(name)) if name == "net"));
    // Nor as a later grant.
    let other = crate::support::net("");
    let mut other = Puppet::start(&other).await;
    other.handle().grant("late", &net);
    other.write(1024, b"late").await;
    assert_eq!(
        other.call("grant_take", &[2, 1024, 4]).await,
        Err(ErrorCode::NotTransferable)
    );
    drop(first);
}
