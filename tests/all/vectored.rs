//! Reading into several buffers and writing several pieces at once.

use refcap::ErrorCode;
use refcap_abi::{MAX_PIECES, PIECE_BYTES, WAIT_READ, WAIT_WRITE};
use tokio::io::AsyncReadExt;

use crate::support::servers::{self, Silent};
use crate::support::{Puppet, granted, net, soon};

/// Where lists are written.
const LIST: i32 = 512;
/// Where pieces lie.
const DATA: i32 = 4096;
/// The size of the puppet's memory.
const SIZE: i32 = 65536;

/// Writes a list of pointers and lengths, and returns its place and how many they are.
async fn list(guest: &mut Puppet, pieces: &[(i32, i32)]) -> [i32; 2] {
    list_at(guest, LIST, pieces).await
}

async fn list_at(guest: &mut Puppet, at: i32, pieces: &[(i32, i32)]) -> [i32; 2] {
    let words = pieces.iter().flat_map(|&(pointer, length)| [pointer, length]);
    let bytes: Vec<u8> = words.flat_map(i32::to_le_bytes).collect();
    guest.write(at, &bytes).await;
    [at, i32::try_from(pieces.len()).unwrap()]
}

async fn write(guest: &mut Puppet, pieces: &[(i32, i32)]) -> Result<i32, ErrorCode> {
    let [at, count] = list(guest, pieces).await;
    guest.call("stream_write_vectored", &[2, at, count]).await
}

async fn read(guest: &mut Puppet, pieces: &[(i32, i32)]) -> Result<i32, ErrorCode> {
    let [at, count] = list(guest, pieces).await;
    guest.call("stream_read_vectored", &[2, at, count]).await
}

/// Waits until that many bytes have arrived, without taking one.
async fn arrived(guest: &mut Puppet) {
    soon(guest.call("socket_wait", &[2, WAIT_READ, 0])).await.unwrap();
    // They were sent at once, over loopback.
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
}

/// A puppet with a connection in slot 2, and its other end.
async fn connected(policy: &str) -> (Puppet, tokio::net::TcpStream, refcap::Capability) {
    let mut server = Silent::start().await;
    let net = granted(policy);
    let mut guest = Puppet::start(&net).await;
    guest.connect(2, 1, server.address).await.unwrap();
    let (peer, _) = server.next().await;
    (guest, peer, net)
}

const LOOPBACK: &str = "connect tcp 127.0.0.1:*";

#[tokio::test]
async fn pieces_are_sent_and_buffers_filled_in_the_order_of_the_list() {
    let (mut guest, mut peer, _net) = connected(LOOPBACK).await;
    guest.write(DATA, b"abcdefghij").await;
    // Backwards, with an empty one, and one that is another's part: what is only read may overlap.
    let pieces = [(DATA + 5, 5), (DATA, 5), (0, 0), (DATA + 1, 2)];
    assert_eq!(write(&mut guest, &pieces).await, Ok(12));
    let mut got = [0; 12];
    soon(peer.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"fghijabcdebc");

    servers::send(&mut peer, b"0123456789").await;
    arrived(&mut guest).await;
    guest.write(DATA, &[b'.'; 16]).await;
    // The second buffer lies before the first one, and there is room for more than there is.
    let buffers = [(DATA + 8, 3), (DATA, 4), (SIZE, 0), (DATA + 12, 4)];
    assert_eq!(read(&mut guest, &buffers).await, Ok(10));
    assert_eq!(guest.read(DATA, 16).await, b"3456....012.789.");
    assert_eq!(read(&mut guest, &buffers).await, Err(ErrorCode::WouldBlock));
    drop(peer);
    arrived(&mut guest).await;
    assert_eq!(read(&mut guest, &buffers).await, Ok(0));
}

#[tokio::test]
async fn nothing_is_moved_for_lists_and_pieces_of_nothing() {
    let (mut guest, mut peer, _net) = connected(LOOPBACK).await;
    servers::send(&mut peer, b"x").await;
    arrived(&mut guest).await;
    for pieces in [&[][..], &[(0, 0)], &[(SIZE, 0), (7, 0), (0, 0)]] {
        assert_eq!(write(&mut guest, pieces).await, Ok(0));
        assert_eq!(read(&mut guest, pieces).await, Ok(0));
    }
    assert_eq!(read(&mut guest, &[(DATA, 8)]).await, Ok(1));
}

// Two mutable views of the same bytes must not come to be, whatever a guest asks for.
#[tokio::test]
async fn class_35_buffers_that_overlap_are_refused_and_nothing_is_read() {
    let (mut guest, mut peer, _net) = connected(LOOPBACK).await;
    servers::send(&mut peer, b"still here").await;
    arrived(&mut guest).await;
    for buffers in [
        &[(DATA, 8), (DATA, 8)][..],
        &[(DATA, 8), (DATA + 7, 1)],
        &[(DATA + 7, 1), (DATA, 8)],
        &[(DATA, 100), (DATA + 50, 1), (DATA + 200, 8)],
        &[(0, SIZE), (DATA, 1)],
        &[(0, 4), (8, 4), (16, 4), (3, 2)],
    ] {
        assert_eq!(
            read(&mut guest, buffers).await,
            Err(ErrorCode::BadArgument),
            "{buffers:?}"
        );
        assert_eq!(guest.error_message().await, "two of the buffers overlap");
    }
    // As many as are taken, the last of which is the first again.
    let mut many: Vec<(i32, i32)> = (0..16).map(|index| (DATA + 4 * index, 4)).collect();
    many[MAX_PIECES - 1] = many[0];
    assert_eq!(read(&mut guest, &many).await, Err(ErrorCode::BadArgument));
    // Neighbours do not overlap, and what is empty is nowhere.
    let buffers = [(DATA + 4, 4), (DATA, 4), (DATA + 2, 0), (DATA + 8, 4)];
    assert_eq!(read(&mut guest, &buffers).await, Ok(10));
    assert_eq!(guest.read(DATA, 12).await, b"l hestilre\0\0");
}

// The list is read before the buffers are filled, so that filling them does not change it.
#[tokio::test]
async fn a_list_may_lie_in_one_of_its_own_buffers() {
    let (mut guest, mut peer, _net) = connected(LOOPBACK).await;
    servers::send(&mut peer, &[0xff; 40]).await;
    arrived(&mut guest).await;
    let [at, count] = list_at(&mut guest, DATA, &[(DATA, 16), (DATA + 16, 24)]).await;
    let result = guest.call("stream_read_vectored", &[2, at, count]).await;
    assert_eq!(result, Ok(40));
    assert_eq!(guest.read(DATA, 40).await, [0xff; 40]);
}

#[tokio::test]
async fn a_list_or_a_piece_outside_of_the_memory_is_a_bad_pointer() {
    let (mut guest, _peer, _net) = connected(LOOPBACK).await;
    let piece = i32::try_from(PIECE_BYTES).unwrap();
    for import in ["stream_read_vectored", "stream_write_vectored"] {
        for (at, count) in [
            (SIZE - piece, 2),
            (SIZE - piece + 1, 1),
            (SIZE + 1, 0),
            (0, SIZE / piece + 1),
            // Eight times as many bytes wrap round to few.
            (0, 1 << 29),
            (0, -1),
            (-1, 0),
        ] {
            let result = guest.call(import, &[2, at, count]).await;
            assert_eq!(result, Err(ErrorCode::BadPointer), "{import} {at} {count}");
        }
        for bad in [
            (SIZE, 1),
            (SIZE - 1, 2),
            (-1, 1),
            (0, -1),
            (-1, -1),
            (SIZE + 1, 0),
        ] {
            let [at, count] = list(&mut guest, &[(DATA, 1), bad]).await;
            let result = guest.call(import, &[2, at, count]).await;
            assert_eq!(result, Err(ErrorCode::BadPointer), "{import} {bad:?}");
        }
    }
    assert_eq!(write(&mut guest, &[(SIZE - 1, 1), (0, 1)]).await, Ok(2));
}

#[tokio::test]
async fn of_a_long_list_the_first_sixteen_pieces_are_taken() {
    let (mut guest, mut peer, _net) = connected(LOOPBACK).await;
    guest.write(DATA, b"0123456789abcdefgh").await;
    let mut pieces: Vec<(i32, i32)> = (0..16).map(|index| (DATA + index, 1)).collect();
    // These would be errors.
    pieces.extend([(-1, -1), (DATA, 1)]);
    assert_eq!(write(&mut guest, &pieces).await, Ok(16));
    let mut got = [0; 16];
    soon(peer.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"0123456789abcdef");
    servers::send(&mut peer, b"fedcba9876543210!!").await;
    arrived(&mut guest).await;
    assert_eq!(read(&mut guest, &pieces).await, Ok(16));
    assert_eq!(guest.read(DATA, 18).await, b"fedcba9876543210gh");
    assert_eq!(read(&mut guest, &pieces).await, Ok(2));
}

#[tokio::test]
async fn pieces_are_cut_where_the_budget_ends() {
    let (mut guest, mut peer, net) = connected("connect tcp 127.0.0.1:*; limit in 10, out 7").await;
    guest.write(DATA, b"0123456789").await;
    let pieces = [(DATA, 3), (DATA + 3, 3), (DATA + 6, 3), (DATA + 9, 1)];
    assert_eq!(write(&mut guest, &pieces).await, Ok(7));
    assert_eq!(write(&mut guest, &pieces).await, Err(ErrorCode::Exhausted));
    let mut got = [0; 7];
    soon(peer.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"0123456");

    servers::send(&mut peer, b"abcdefghijklmn").await;
    arrived(&mut guest).await;
    guest.write(DATA, &[b'.'; 16]).await;
    assert_eq!(read(&mut guest, &[(DATA, 8), (DATA + 8, 8)]).await, Ok(10));
    assert_eq!(guest.read(DATA, 16).await, b"abcdefghij......");
    let result = read(&mut guest, &[(DATA, 8), (DATA + 8, 8)]).await;
    assert_eq!(result, Err(ErrorCode::Exhausted));
    let usage = net.info().unwrap().usage.unwrap();
    assert_eq!((usage.bytes_in, usage.bytes_out), (Some((10, 10)), Some((7, 7))));
}

#[tokio::test]
async fn what_could_not_be_read_costs_nothing() {
    let (mut guest, mut peer, net) = connected("connect tcp 127.0.0.1:*; limit in 100").await;
    let buffers = [(DATA, 30), (DATA + 30, 30)];
    assert_eq!(read(&mut guest, &buffers).await, Err(ErrorCode::WouldBlock));
    servers::send(&mut peer, b"seven b").await;
    arrived(&mut guest).await;
    assert_eq!(read(&mut guest, &buffers).await, Ok(7));
    assert_eq!(net.info().unwrap().usage.unwrap().bytes_in, Some((7, 100)));
}

#[tokio::test]
async fn a_vectored_call_is_one_of_the_guests_turn() {
    let (mut guest, _peer, _net) = connected(LOOPBACK).await;
    let mut calls = 0;
    let ended = loop {
        match write(&mut guest, &[(DATA, 1), (DATA, 1)]).await {
            Ok(count) => assert_eq!(count, 2),
            Err(error) => break error,
        }
        calls += 1;
        assert!(calls < 1_000_000);
    };
    assert_eq!(ended, ErrorCode::WouldBlock);
    assert!(calls >= 64);
    let result = read(&mut guest, &[(DATA, 1)]).await;
    assert_eq!(result, Err(ErrorCode::WouldBlock));
    guest.call("socket_wait", &[2, WAIT_WRITE, 0]).await.unwrap();
    assert_eq!(write(&mut guest, &[(DATA, 1), (DATA, 1)]).await, Ok(2));
}

#[tokio::test]
async fn more_than_the_kernel_takes_is_cut_and_nothing_lost() {
    let (mut guest, mut peer, _net) = connected(LOOPBACK).await;
    let half = SIZE / 2;
    guest.raw("poke", &[half, 0x0403_0201]).await;
    let mut sent = 0;
    let full = loop {
        match write(&mut guest, &[(0, half), (half, half)]).await {
            Ok(count) => sent += usize::try_from(count).unwrap(),
            // The turn may be over, or there is no room.
            Err(error) => match guest.call("socket_wait", &[2, WAIT_WRITE, 50]).await {
                Ok(_) => {}
                Err(_) => break error,
            },
        }
    };
    assert_eq!(full, ErrorCode::WouldBlock);
    assert!(sent > 1 << 16);
    let mut got = vec![0; sent];
    soon(peer.read_exact(&mut got)).await.unwrap();
    // Wherever the kernel's buffer was full, the rest was not sent: but this is where a piece ends otherwise.
    let second = usize::try_from(half).unwrap();
    assert_eq!(got[second..second + 4], [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_stream_that_was_revoked_is_neither_read_nor_written() {
    let mut server = Silent::start().await;
    let grant = net(LOOPBACK);
    let mut guest = Puppet::start(&grant).await;
    guest.connect(2, 1, server.address).await.unwrap();
    let (mut peer, _) = server.next().await;
    servers::send(&mut peer, b"late").await;
    arrived(&mut guest).await;
    grant.revoke();
    assert_eq!(read(&mut guest, &[(DATA, 4)]).await, Err(ErrorCode::Revoked));
    assert_eq!(write(&mut guest, &[(DATA, 4)]).await, Err(ErrorCode::Revoked));
    servers::closed(&mut peer).await;
}
