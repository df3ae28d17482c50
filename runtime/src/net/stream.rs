//! A TCP stream of the system, which tokio is told of when somebody has to wait for it.
//!
//! Tokio learns from the system's events what a socket is ready for. That takes a few system calls, which who connects,
//! writes and closes need not pay for: a connection to a near place is there when its first packet has been sent, and
//! there is room in one that nobody has written to.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::SocketAddr;
use std::task::{Context, Poll};

use socket2::{SockRef, Socket};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::bind;
use crate::budget::Direction;

/// A read of so many bytes or more was much: the other end sends in quantity, and more is on its way.
const MUCH: usize = 4 << 10;

/// A connection.
#[derive(Debug)]
pub(super) struct Stream {
    held: Held,
    /// Whether the last read was much.
    is_flowing: bool,
}

#[derive(Debug)]
enum Held {
    /// Tokio does not know of it. Whatever was tried has been done at once.
    Apart(std::net::TcpStream),
    Registered(TcpStream),
    /// Tokio did not take it.
    Lost,
}

impl From<TcpStream> for Stream {
    fn from(tcp: TcpStream) -> Stream {
        Stream {
            held: Held::Registered(tcp),
            is_flowing: false,
        }
    }
}

impl Stream {
    /// One that tokio does not know of yet, and that does not block.
    pub(super) fn apart(tcp: std::net::TcpStream) -> Stream {
        Stream {
            held: Held::Apart(tcp),
            is_flowing: false,
        }
    }

    /// Connects a socket that does not block. Its first packet has left when this was polled once.
    ///
    /// Linux says at once, when it is asked a second time, whether there is a connection. Between places of one machine
    /// the handshake is over by then, so that nobody need wait for the event that tells of it.
    #[cfg(target_os = "linux")]
    pub(super) async fn connect(socket: Socket, remote: SocketAddr) -> io::Result<Stream> {
        use std::future::poll_fn;

        use rustix::io::Errno;

        let mut connected = rustix::net::connect(&socket, &remote);
        if connected == Err(Errno::INPROGRESS) {
            connected = rustix::net::connect(&socket, &remote);
        }
        match connected {
            Ok(()) | Err(Errno::ISCONN) => Ok(Stream::apart(socket.into())),
            Err(Errno::INPROGRESS | Errno::ALREADY) => {
                let tcp = TcpStream::from_std(socket.into())?;
                poll_fn(|context| tcp.poll_write_ready(context)).await?;
                match tcp.take_error()? {
                    Some(error) => Err(error),
                    None => Ok(tcp.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Connects a socket that does not block. Its first packet has left when this was polled once.
    #[cfg(not(target_os = "linux"))]
    pub(super) async fn connect(socket: Socket, remote: SocketAddr) -> io::Result<Stream> {
        let socket = tokio::net::TcpSocket::from_std_stream(socket.into());
        socket.connect(remote).await.map(Stream::from)
    }

    /// The socket itself, for what needs no waiting.
    pub(super) fn socket(&self) -> io::Result<SockRef<'_>> {
        match &self.held {
            Held::Apart(tcp) => Ok(tcp.into()),
            Held::Registered(tcp) => Ok(tcp.into()),
            Held::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    pub(super) fn local(&self) -> io::Result<SocketAddr> {
        bind::local_address(&*self.socket()?)
    }

    pub(super) fn peer(&self) -> io::Result<SocketAddr> {
        bind::address(self.socket()?.peer_addr()?)
    }

    /// The stream as tokio knows it, from now on if it did not. Needs a runtime of tokio around it.
    pub(super) fn registered(&mut self) -> io::Result<&TcpStream> {
        if let Held::Apart(_) = self.held
            && let Held::Apart(tcp) = std::mem::replace(&mut self.held, Held::Lost)
        {
            self.held = Held::Registered(TcpStream::from_std(tcp)?);
        }
        match &self.held {
            Held::Registered(tcp) => Ok(tcp),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Reads what has arrived.
    pub(super) fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self
            .while_apart(|tcp| tcp.read(buffer))
            .unwrap_or_else(|| read(self.registered()?, buffer));
        result.inspect(|&count| self.note_read(count))
    }

    /// So many bytes were read.
    pub(super) fn note_read(&mut self, count: usize) {
        self.is_flowing = count >= MUCH;
    }

    /// Whether more is on its way, most likely.
    pub(super) fn is_flowing(&self) -> bool {
        self.is_flowing
    }

    /// Reads what has arrived into several buffers.
    pub(super) fn try_read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let result = self
            .while_apart(|tcp| tcp.read_vectored(buffers))
            .unwrap_or_else(|| self.registered()?.try_read_vectored(buffers));
        result.inspect(|&count| self.note_read(count))
    }

    /// Writes what the system takes.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.while_apart(|tcp| tcp.write(bytes))
            .unwrap_or_else(|| write(self.registered()?, bytes))
    }

    /// Writes what the system takes of several pieces.
    pub(super) fn try_write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.while_apart(|tcp| tcp.write_vectored(pieces))
            .unwrap_or_else(|| self.registered()?.try_write_vectored(pieces))
    }

    /// Whether bytes can be moved that way now. If not, the waker is woken when that may have changed.
    pub(super) fn poll_ready(
        &mut self,
        context: &mut Context<'_>,
        direction: Direction,
    ) -> Poll<io::Result<()>> {
        match (&self.held, direction) {
            // There is room until a write has found none.
            (Held::Apart(_), Direction::Out) => Poll::Ready(Ok(())),
            (_, Direction::Out) => self.registered()?.poll_write_ready(context),
            (_, Direction::In) => self.registered()?.poll_read_ready(context),
        }
    }

    /// Does something with a stream that tokio does not know of. If it can't be done now, tokio knows from now on, for the
    /// next step is to wait. `None` where tokio knows already.
    fn while_apart(
        &mut self,
        operation: impl FnOnce(&mut &std::net::TcpStream) -> io::Result<usize>,
    ) -> Option<io::Result<usize>> {
        let Held::Apart(tcp) = &self.held else {
            return None;
        };
        let result = operation(&mut &*tcp);
        match &result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Some(self.registered().map(|_| ()).and(result))
            }
            _ => Some(result),
        }
    }
}

/// Reads what has arrived. A read that leaves room has taken all that there was, so the stream is not ready until the
/// system tells of more, and the next read need not ask it to find nothing (epoll(7), on edge-triggered use).
///
/// Not so when it was much: more is on its way then, and most often there by the time of the next read. To ask for nothing
/// now and then costs less than to sleep.
fn read(tcp: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let room = buffer.len();
    by_tokio(tcp, Interest::READABLE, room.min(MUCH), || {
        (&*SockRef::from(tcp)).read(buffer)
    })
}

/// Writes what the system takes. When that is not all of it there is no room for more, until the system tells of some, as for
/// [`read`].
#[cfg(target_os = "linux")]
fn write(tcp: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    use rustix::net::{SendFlags, send};

    by_tokio(tcp, Interest::WRITABLE, bytes.len(), || {
        Ok(send(tcp, bytes, SendFlags::NOSIGNAL)?)
    })
}

/// Writes what the system takes.
#[cfg(not(target_os = "linux"))]
fn write(tcp: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    tcp.try_write(bytes)
}

/// Moves bytes, and says to tokio that no more can be moved now if that were fewer than `enough`. Tokio knows whether there was
/// news since it looked.
fn by_tokio(
    tcp: &TcpStream,
    interest: Interest,
    enough: usize,
    operation: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize> {
    let mut length = 0;
    let result = tcp.try_io(interest, || {
        length = operation()?;
        match cfg!(target_os = "linux") && 0 < length && length < enough {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => Ok(()),
        }
    });
    match result {
        Err(error) if length == 0 => Err(error),
        _ => Ok(length),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Waker;
    use std::time::Duration;

    use socket2::{Domain, Type};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn socket() -> Socket {
        bind::new_socket(Domain::IPV4, Type::STREAM).unwrap()
    }

    /// A connection that was just made, and its other end.
    #[cfg(unix)]
    async fn fresh() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = Stream::connect(socket(), listener.local_addr().unwrap()).await;
        (stream.unwrap(), listener.accept().await.unwrap().0)
    }

    /// What connecting comes to that is asked once.
    fn at_once(remote: SocketAddr) -> Poll<io::Result<Stream>> {
        pin!(Stream::connect(socket(), remote)).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_near_place_is_reached_and_written_to_without_waiting() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for vectored in [false, true] {
            let Poll::Ready(Ok(mut stream)) = at_once(listener.local_addr().unwrap()) else {
                panic!("it is still connecting");
            };
            match vectored {
                false => assert_eq!(stream.try_write(b"early").unwrap(), 5),
                true => {
                    let pieces = [b"ea", &b"rly"[..]].map(IoSlice::new);
                    assert_eq!(stream.try_write_vectored(&pieces).unwrap(), 5);
                }
            }
            let (mut peer, _) = listener.accept().await.unwrap();
            let mut read = [0; 5];
            peer.read_exact(&mut read).await.unwrap();
            assert_eq!(&read, b"early");
            assert!(matches!(stream.held, Held::Apart(_)), "{stream:?}");
            // From here on it is tokio's.
            stream.registered().unwrap().writable().await.unwrap();
            assert_eq!(stream.try_write(b"later").unwrap(), 5);
            peer.read_exact(&mut read).await.unwrap();
            assert_eq!(&read, b"later");
            peer.write_all(b"back").await.unwrap();
            stream.registered().unwrap().readable().await.unwrap();
            assert_eq!(stream.try_read(&mut [0; 8]).unwrap(), 4);
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_near_place_that_refuses_has_done_so_at_once() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        match at_once(nobody) {
            Poll::Ready(Err(error)) => assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused),
            other => panic!("{other:?}"),
        }
    }

    // To ask the system again costs a call that does nothing.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_write_that_was_cut_short_is_the_last_until_there_is_room() {
        let (mut stream, mut peer) = fresh().await;
        stream.registered().unwrap().writable().await.unwrap();
        let bytes = vec![7; 16 << 20];
        let written = stream.try_write(&bytes).unwrap();
        assert!(written < bytes.len());
        let context = &mut Context::from_waker(Waker::noop());
        assert!(stream.poll_ready(context, Direction::Out).is_pending());
        assert_eq!(
            stream.try_write(&bytes).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        let mut read = vec![0; written];
        peer.read_exact(&mut read).await.unwrap();
        stream.registered().unwrap().writable().await.unwrap();
        assert!(stream.try_write(&bytes).unwrap() > 0);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_read_that_leaves_room_is_the_last_if_it_was_little() {
        let (mut stream, mut peer) = fresh().await;
        let mut buffer = vec![0; 64 << 10];
        for (length, is_last) in [(100, true), (20_000, false)] {
            peer.write_all(&vec![7; length]).await.unwrap();
            let mut read = 0;
            while read < length {
                stream.registered().unwrap().readable().await.unwrap();
                read += match stream.try_read(&mut buffer) {
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                    Err(error) => panic!("{error}"),
                };
            }
            assert_eq!(stream.is_flowing(), !is_last, "after {length} bytes");
            let context = &mut Context::from_waker(Waker::noop());
            let is_ready = stream.poll_ready(context, Direction::In).is_ready();
            assert_eq!(is_ready, !is_last, "after {length} bytes");
            // Whether it asks or not, there is nothing.
            let error = stream.try_read(&mut buffer).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
    }

    // A queue that is full drops what knocks, so there is a connection that takes its time.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_takes_its_time_is_waited_for() {
        let listener = socket();
        listener
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        listener.listen(0).unwrap();
        let remote = listener.local_addr().unwrap().as_socket().unwrap();
        let mut before = Vec::new();
        let mut late = loop {
            let mut attempt = Box::pin(Stream::connect(socket(), remote));
            match attempt.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(stream) => before.push(stream.unwrap()),
                Poll::Pending => break attempt,
            }
            assert!(before.len() < 100, "the queue has no end");
        };
        assert!(
            late.as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        // The system knocks again after a second.
        for _ in 0..before.len() {
            listener.accept().unwrap();
        }
        let stream = tokio::time::timeout(Duration::from_secs(30), late);
        let mut stream = stream.await.expect("it comes").unwrap();
        assert_eq!(stream.registered().unwrap().peer_addr().unwrap(), remote);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_fresh_connection_takes_what_fits_and_no_more() {
        let (mut stream, mut peer) = fresh().await;
        let much = vec![7; 64 << 20];
        let written = stream.try_write(&much).unwrap();
        assert!(0 < written && written < much.len(), "{written}");
        let mut more = 0;
        loop {
            match stream.try_write(&much) {
                Ok(count) => more += count,
                Err(error) => break assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        let mut read = vec![0; written + more];
        peer.read_exact(&mut read).await.unwrap();
        // There is room again, and tokio hears of it.
        stream.registered().unwrap().writable().await.unwrap();
        loop {
            match stream.try_write(b"on") {
                Ok(count) => break assert_eq!(count, 2),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stream.registered().unwrap().writable().await.unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn writing_first_to_what_is_gone_is_an_error_and_no_signal() {
        let (mut stream, peer) = fresh().await;
        SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        // With a reset, which has arrived when this returns.
        drop(peer);
        #[cfg(target_os = "linux")]
        assert!(matches!(stream.held, Held::Apart(_)), "{stream:?}");
        let error = stream.try_write(b"hello?").unwrap_err();
        let gone = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
        assert!(gone.contains(&error.kind()), "{error}");
        tokio::time::timeout(Duration::from_secs(20), stream.registered().unwrap().readable())
            .await
            .expect("the end is told of")
            .unwrap();
    }
}
