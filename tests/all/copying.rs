//! Moving bytes from one stream to another inside the host.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use refcap::{Capability, ErrorCode, Terms};
use refcap_abi::{NO_WAIT, WAIT_READ, WAIT_WRITE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::servers::{self, Silent};
use crate::support::{Puppet, granted, net, soon};

const LOOPBACK: &str = "connect tcp 127.0.0.1:*";
/// Slots of the puppet: the stream that is read, and the one that is written.
const FROM: i32 = 4;
const TO: i32 = 5;

/// A puppet between two peers.
struct Between {
    guest: Puppet,
    /// Who sends, until a test takes it away.
    near: Option<TcpStream>,
    /// Who receives.
    far: TcpStream,
}

impl Between {
    /// Both streams are made with one grant, on terms of their own.
    async fn start(grant: &Capability, from: &str, to: &str) -> Between {
        let mut server = Silent::start().await;
        let mut guest = Puppet::start(grant).await;
        guest.limit(2, 1, from).await.unwrap();
        guest.limit(3, 1, to).await.unwrap();
        guest.connect(FROM, 2, server.address).await.unwrap();
        let (near, _) = server.next().await;
        guest.connect(TO, 3, server.address).await.unwrap();
        let (far, _) = server.next().await;
        Between {
            guest,
            near: Some(near),
            far,
        }
    }

    async fn new() -> Between {
        Between::start(&net(LOOPBACK), "", "").await
    }

    async fn send(&mut self, bytes: &[u8]) {
        servers::send(self.near.as_mut().unwrap(), bytes).await;
    }

    /// Waits until all has arrived that was sent over loopback.
    async fn arrived(&mut self) {
        let wait = [FROM, WAIT_READ, 0];
        soon(self.guest.call("socket_wait", &wait)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    async fn copy(&mut self, most: i32) -> Result<usize, ErrorCode> {
        let moved = self.guest.call("stream_copy", &[FROM, TO, most]).await?;
        Ok(usize::try_from(moved).unwrap())
    }

    /// As a guest waits that was told `WouldBlock` and does not want to try in between.
    async fn wait(&mut self) -> Result<(), ErrorCode> {
        self.guest.call("socket_wait", &[FROM, WAIT_READ, 0]).await?;
        self.guest.call("socket_wait", &[TO, WAIT_WRITE, 0]).await?;
        Ok(())
    }

    async fn received(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        soon(self.far.read_exact(&mut bytes)).await.unwrap();
        bytes
    }
}

/// Bytes of which no two stretches are the same.
fn pattern(length: usize) -> Vec<u8> {
    (0_u32..)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
        .take(length)
        .collect()
}

#[tokio::test]
async fn what_arrives_at_one_goes_to_the_other_up_to_its_end() {
    let mut between = Between::new().await;
    // A new connection counts as ready until it was tried.
    assert_eq!(between.copy(10).await, Err(ErrorCode::WouldBlock));
    between.send(b"some bytes").await;
    between.arrived().await;
    assert_eq!(between.copy(0).await, Ok(0));
    assert_eq!(between.copy(4).await, Ok(4));
    // The most is a `u32`.
    assert_eq!(between.copy(-1).await, Ok(6));
    assert_eq!(between.received(10).await, b"some bytes");
    assert_eq!(between.copy(4).await, Err(ErrorCode::WouldBlock));
    between.near.as_mut().unwrap().shutdown().await.unwrap();
    between.arrived().await;
    for _ in 0..2 {
        assert_eq!(between.copy(4).await, Ok(0));
    }
    // The end is not copied: the other direction may go on, and so may this one, from elsewhere.
    between.guest.write_stream(TO, b" and more").await.unwrap();
    assert_eq!(between.received(9).await, b" and more");
}

#[tokio::test]
async fn a_stream_is_not_copied_to_itself() {
    let mut between = Between::new().await;
    between.send(b"echo?").await;
    between.arrived().await;
    between.guest.raw("copy", &[6, FROM]).await;
    for other in [FROM, 6] {
        let result = soon(between.guest.call("stream_copy", &[FROM, other, 5])).await;
        assert_eq!(result, Err(ErrorCode::BadArgument));
        let why = between.guest.error_message().await;
        assert_eq!(why, "a stream can't be copied to itself");
    }
    assert_eq!(between.copy(5).await, Ok(5));
}

#[tokio::test]
async fn both_must_be_streams_that_are_there() {
    let mut between = Between::new().await;
    let guest = &mut between.guest;
    guest.raw("copy", &[6, TO]).await;
    guest.call("net_revocable", &[7, 8, 1]).await.unwrap();
    for (wrong, error) in [
        (0, ErrorCode::NullReference),
        (1, ErrorCode::WrongKind),
        (8, ErrorCode::WrongKind),
    ] {
        for call in [[FROM, wrong, 5], [wrong, TO, 5]] {
            assert_eq!(guest.call("stream_copy", &call).await, Err(error), "{call:?}");
        }
    }
    guest.close(6).await.unwrap();
    for call in [[FROM, TO, 5], [TO, FROM, 5]] {
        let result = guest.call("stream_copy", &call).await;
        assert_eq!(result, Err(ErrorCode::Closed), "{call:?}");
    }
}

// The one that is written takes little, and the one that is read has much: what was not taken must be there to
// be read, in its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_other_takes_nothing() {
    const LENGTH: usize = 24 << 20;
    let mut between = Between::new().await;
    let mut near = between.near.take().unwrap();
    let sent = tokio::spawn(async move {
        let all = pattern(LENGTH);
        near.write_all(&all).await.unwrap();
        all
    });
    let mut got = Vec::new();
    let mut was_full = 0;
    while got.len() < LENGTH {
        // Until nothing goes any more, though there is something to read.
        let mut moved = 0;
        loop {
            match between.copy(i32::MAX).await {
                Ok(count) => moved += count,
                Err(error) => assert_eq!(error, ErrorCode::WouldBlock),
            }
            let readable = between.guest.call("socket_wait", &[FROM, WAIT_READ, 30]).await;
            let writable = between.guest.call("socket_wait", &[TO, WAIT_WRITE, 30]).await;
            if writable.is_err() {
                was_full += usize::from(readable.is_ok());
                break;
            }
            if readable.is_err() || got.len() + moved == LENGTH {
                break;
            }
        }
        got.extend(between.received(moved).await);
        // And one piece by way of the guest, right behind.
        if let Ok(count) = between
            .guest
            .call("stream_read", &[FROM, crate::support::ANSWERS, 100])
            .await
        {
            let read = between.guest.read(crate::support::ANSWERS, count).await;
            got.extend(read);
        }
    }
    assert!(was_full > 0, "the other end took everything");
    assert!(got == sent.await.unwrap());
}

#[tokio::test]
async fn a_copy_keeps_to_the_budgets_of_both() {
    let grant = granted("connect tcp 127.0.0.1:*; limit in 100, out 100");
    let mut between = Between::start(&grant, "limit in 10", "limit out 7").await;
    between.send(b"0123456789abcdef").await;
    between.arrived().await;
    assert_eq!(between.copy(100).await, Ok(7));
    assert_eq!(between.copy(100).await, Err(ErrorCode::Exhausted));
    let why = between.guest.error_message().await;
    let expected = "the stream to be written: all 7 bytes of the budget were sent";
    assert!(why.starts_with(expected), "{why}");
    // What was not sent was not received either: it is still there, and paid for when it is read.
    let usage = grant.info().unwrap().usage.unwrap();
    assert_eq!(
        (usage.bytes_in, usage.bytes_out),
        (Some((7, 100)), Some((7, 100)))
    );
    assert_eq!(between.guest.read_stream(FROM, 100).await.unwrap(), b"789");
    assert_eq!(between.copy(100).await, Err(ErrorCode::Exhausted));
    let why = between.guest.error_message().await;
    assert!(
        why.starts_with("all 10 bytes of the budget were received"),
        "{why}"
    );
    assert_eq!(between.received(7).await, b"0123456");
}

#[tokio::test]
async fn a_copy_waits_for_the_rate_of_either() {
    for (from, to) in [("limit in 1000/s", ""), ("", "limit out 1000/s")] {
        let mut between = Between::start(&net(LOOPBACK), from, to).await;
        between.send(&[7; 150]).await;
        between.arrived().await;
        let begun = std::time::Instant::now();
        let (mut moved, mut waits) = (0, 0);
        while moved < 150 {
            match between.copy(1000).await {
                Ok(count) => moved += count,
                Err(error) => {
                    assert_eq!(error, ErrorCode::WouldBlock);
                    soon(between.wait()).await.unwrap();
                    waits += 1;
                }
            }
        }
        // 50 bytes are there at first.
        assert!(begun.elapsed() >= Duration::from_millis(95), "{from}{to}");
        // Nobody was sent to try again for nothing.
        assert!(waits <= 10, "{from}{to}: {waits}");
    }
}

#[tokio::test]
async fn a_copy_is_part_of_the_guests_turn() {
    const SENT: usize = 200_000;
    let mut between = Between::new().await;
    between.send(&[7; SENT]).await;
    between.arrived().await;
    between
        .guest
        .call("socket_wait", &[TO, WAIT_WRITE, 0])
        .await
        .unwrap();
    let mut moved = 0;
    while let Ok(count) = between.copy(1).await {
        moved += count;
        assert!(moved < SENT);
    }
    assert!(moved >= 31);
    assert_eq!(between.copy(1).await, Err(ErrorCode::WouldBlock));
    soon(between.wait()).await.unwrap();
    assert_eq!(between.copy(1).await, Ok(1));
}

#[tokio::test]
async fn a_copy_to_a_stream_that_is_not_connected_takes_nothing() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut between = Between::new().await;
    between.send(b"to nobody").await;
    between.arrived().await;
    let guest = &mut between.guest;
    guest.write(1024, &refcap_abi::wire::encode_address(nobody)).await;
    if guest.call("net_connect", &[6, 1, 1024, 7, NO_WAIT]).await.is_ok() {
        let waited = soon(guest.call("socket_wait", &[6, WAIT_WRITE, 0])).await;
        waited.unwrap();
        let result = guest.call("stream_copy", &[FROM, 6, 100]).await;
        assert_eq!(result, Err(ErrorCode::ConnectionRefused));
    }
    assert_eq!(guest.read_stream(FROM, 100).await.unwrap(), b"to nobody");
}

#[tokio::test]
async fn a_copy_to_a_stream_that_was_shut_takes_nothing() {
    let mut between = Between::new().await;
    between.send(b"too late").await;
    between.arrived().await;
    let shut = [TO, refcap_abi::SHUTDOWN_WRITE];
    between.guest.call("stream_shutdown", &shut).await.unwrap();
    assert_eq!(between.copy(100).await, Err(ErrorCode::NotConnected));
    assert_eq!(between.guest.read_stream(FROM, 100).await.unwrap(), b"too late");
}

#[tokio::test]
async fn a_copy_from_a_stream_that_was_reset_says_so() {
    let mut between = Between::new().await;
    between.guest.write_stream(FROM, b"not read").await.unwrap();
    let near = between.near.take().unwrap();
    near.readable().await.unwrap();
    drop(near);
    soon(between.guest.call("socket_wait", &[FROM, WAIT_READ, 0]))
        .await
        .unwrap();
    let result = between.guest.call("stream_copy", &[FROM, TO, 100]).await;
    assert_eq!(result, Err(ErrorCode::ConnectionReset));
    // The other one is none the worse for it.
    between.guest.write_stream(TO, b"sorry").await.unwrap();
    let mut bytes = [0; 5];
    soon(between.far.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"sorry");
}

/// Which of the two is revoked while bytes are copied.
#[derive(Debug, Clone, Copy)]
enum Which {
    From,
    To,
}

/// Copies as fast as it goes until one of the two is revoked. When that has returned, nothing moves any more.
async fn revoke_while_copying(which: Which, after: Duration) {
    let mut server = Silent::start().await;
    let root = granted("connect tcp 127.0.0.1:*; limit in 1TiB, out 1TiB");
    let (from, to) = (
        root.limit(&Terms::new()).unwrap(),
        root.limit(&Terms::new()).unwrap(),
    );
    let mut guest = Puppet::start(&from).await;
    guest.handle().grant("to", &to);
    guest.write(1024, b"to").await;
    guest.call("grant_take", &[3, 1024, 2]).await.unwrap();
    guest.connect(FROM, 1, server.address).await.unwrap();
    let (mut near, _) = server.next().await;
    guest.connect(TO, 3, server.address).await.unwrap();
    let (mut far, _) = server.next().await;
    let flood = tokio::spawn(async move {
        let block = vec![7; 1 << 18];
        while near.write_all(&block).await.is_ok() {}
    });
    let drain = tokio::spawn(async move {
        let mut block = vec![0; 1 << 18];
        let mut count = 0;
        while let Ok(length @ 1..) = far.read(&mut block).await {
            count += length as u64;
        }
        count
    });
    let begun = Arc::new(AtomicBool::new(false));
    let revoking = tokio::task::spawn_blocking({
        let (root, begun) = (root.clone(), begun.clone());
        move || {
            while !begun.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            std::thread::sleep(after);
            let ended = match which {
                Which::From => from.revoke(),
                Which::To => to.revoke(),
            };
            assert!(ended >= 2);
            let usage = root.info().unwrap().usage.unwrap();
            (usage.bytes_in.unwrap().0, usage.bytes_out.unwrap().0)
        }
    });
    let mut moved = 0;
    let end = soon(async {
        loop {
            match guest.call("stream_copy", &[FROM, TO, i32::MAX]).await {
                Ok(count) => {
                    begun.store(true, Ordering::Relaxed);
                    moved += u64::try_from(count).unwrap();
                }
                Err(ErrorCode::WouldBlock) => {
                    for wait in [[FROM, WAIT_READ, 0], [TO, WAIT_WRITE, 0]] {
                        if let Err(error) = guest.call("socket_wait", &wait).await {
                            return error;
                        }
                    }
                }
                Err(error) => return error,
            }
        }
    })
    .await;
    assert_eq!(end, ErrorCode::Revoked, "{which:?}");
    let (bytes_in, bytes_out) = revoking.await.unwrap();
    // What the revocation saw when it returned is all that there ever was.
    assert_eq!((bytes_in, bytes_out), (moved, moved), "{which:?}");
    let usage = root.info().unwrap().usage.unwrap();
    assert_eq!(usage.bytes_in.unwrap().0, moved, "{which:?}");
    assert_eq!(usage.bytes_out.unwrap().0, moved, "{which:?}");
    // The other one is still there.
    let (ended, other) = match which {
        Which::From => (FROM, TO),
        Which::To => (TO, FROM),
    };
    assert_eq!(guest.call("cap_kind", &[ended]).await, Err(ErrorCode::Revoked));
    guest.call("cap_kind", &[other]).await.unwrap();
    drop(guest);
    assert!(soon(drain).await.unwrap() <= moved);
    soon(flood).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn class_29_when_either_is_revoked_a_copy_ends_and_nothing_moves_any_more() {
    for round in 0..20 {
        let after = Duration::from_micros(311 * round);
        revoke_while_copying(Which::From, after).await;
        revoke_while_copying(Which::To, after).await;
    }
}

// Whoever waits as it was told to sleeps while there is nothing to do.
#[tokio::test]
async fn a_copy_that_would_block_is_waited_for_without_spinning() {
    let mut between = Between::new().await;
    assert_eq!(between.copy(100).await, Err(ErrorCode::WouldBlock));
    // Nothing to read: the first wait sleeps.
    let wait = [FROM, WAIT_READ, 30];
    assert_eq!(
        between.guest.call("socket_wait", &wait).await,
        Err(ErrorCode::TimedOut)
    );
    let flood = vec![7; 32 << 20];
    let near = between.near.as_mut().unwrap();
    let guest = &mut between.guest;
    let filling = async {
        loop {
            match guest.call("stream_copy", &[FROM, TO, i32::MAX]).await {
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error, ErrorCode::WouldBlock);
                    guest.call("socket_wait", &[FROM, WAIT_READ, 0]).await.unwrap();
                    // No room: the second wait sleeps, though there is something to read.
                    if guest.call("socket_wait", &[TO, WAIT_WRITE, 50]).await == Err(ErrorCode::TimedOut) {
                        break;
                    }
                }
            }
        }
    };
    tokio::select! {
        () = filling => {}
        sent = near.write_all(&flood) => panic!("all of it went somewhere: {sent:?}"),
    }
    assert_eq!(
        guest.call("socket_wait", &[FROM, WAIT_READ, 0]).await,
        Ok(WAIT_READ)
    );
}
