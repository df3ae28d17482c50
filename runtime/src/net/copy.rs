//! Bytes on their way from one connection to another, inside the host.
//!
//! They are looked at, written to the other connection, and only then taken: exactly as many as it took. So
//! none is ever lost or kept, whatever happens in between, and whoever waits until the first can be read and
//! the second written misses nothing. Splicing them through a pipe would need two more descriptors for each
//! connection and a place for what the second did not take; between connections of one machine it was also
//! slower (1.2 GiB/s instead of 1.5).

use std::cell::RefCell;
use std::io;

use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// The most bytes that are moved at once. With 16 KiB a bulk transfer was a quarter slower, with 256 KiB
/// not faster.
const CHUNK: usize = 64 << 10;

thread_local! {
    /// One for each thread, however many programs there are: no guest sleeps in the middle of a copy.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into_boxed_slice());
}

/// Lends the thread's buffer. What is in it is somebody else's.
pub(super) fn with_buffer<R>(use_it: impl FnOnce(&mut [u8]) -> R) -> R {
    BUFFER.with_borrow_mut(|buffer| use_it(buffer))
}

/// Copies what has arrived into the buffer, and leaves it where it is; 0 is the end of the stream.
pub(super) fn peek(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    stream.try_io(Interest::READABLE, || {
        let (count, _) = recv(stream, buffer, RecvFlags::PEEK)?;
        Ok(count)
    })
}

/// Takes as many bytes as the buffer is long, of those that a [`peek`] has shown. What is in the buffer
/// afterwards means nothing.
pub(super) fn consume(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    let mut left = buffer.len();
    while left > 0 {
        let (_, count) = rustix::io::retry_on_intr(|| recv(stream, &mut buffer[..left], DISCARD))?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= count;
    }
    Ok(())
}

/// Linux takes bytes of a stream without copying them.
#[cfg(any(target_os = "linux", target_os = "android"))]
const DISCARD: RecvFlags = RecvFlags::TRUNC;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const DISCARD: RecvFlags = RecvFlags::empty();

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_is_looked_at_stays_until_it_is_consumed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 16];
        // A new connection counts as ready until it was tried once.
        let empty = peek(&stream, &mut buffer).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);

        peer.write_all(b"one two").await.unwrap();
        stream.readable().await.unwrap();
        for _ in 0..2 {
            assert_eq!(peek(&stream, &mut buffer).unwrap(), 7);
            assert_eq!(&buffer[..7], b"one two");
        }
        consume(&stream, &mut buffer[..4]).unwrap();
        assert_eq!(peek(&stream, &mut buffer).unwrap(), 3);
        consume(&stream, &mut []).unwrap();

        peer.shutdown().await.unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "two");
        assert_eq!(peek(&stream, &mut buffer).unwrap(), 0);
    }

    // A byte that is sent as urgent interrupts a read; it must not stop what has been shown already from
    // being taken.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn urgent_bytes_in_between_do_not_shift_what_is_taken() {
        use rustix::net::{SendFlags, send};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        send(&peer, b"ab", SendFlags::empty()).unwrap();
        send(&peer, b"!", SendFlags::OOB).unwrap();
        send(&peer, b"cd", SendFlags::empty()).unwrap();
        drop(peer);
        let mut got = Vec::new();
        loop {
            stream.readable().await.unwrap();
            let mut buffer = [0; 16];
            let count = peek(&stream, &mut buffer).unwrap();
            if count == 0 {
                break;
            }
            got.extend_from_slice(&buffer[..count]);
            consume(&stream, &mut buffer[..count]).unwrap();
        }
        assert_eq!(got, b"abcd");
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    }
}
