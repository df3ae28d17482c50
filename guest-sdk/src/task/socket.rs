//! Sockets that a task waits for, and the others don't.

use std::future::poll_fn;
use std::io::{IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::task::Poll;

use refcap_abi::ErrorCode;

use super::executor::{Executor, running};
use crate::{Error, Name, Net, Pollable, Result, TcpListener, TcpStream, ToAddress, UdpSocket};

/// A socket in a task. Its methods wait for it without keeping others from running.
///
/// All of them take it shared, so that one task may read while another one writes; two that read at once would
/// take from each other. It belongs to the [`block_on`](super::block_on) that it was made in: waiting for it in
/// another one is the error [`BadArgument`](ErrorCode::BadArgument), and outside of any it panics.
pub struct Async<T: Pollable> {
    // Dropped before the socket, while that can still be taken out of the poller.
    place: Place,
    socket: T,
}

/// A socket's place in the poller of its executor.
struct Place {
    token: u32,
    executor: Rc<Executor>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.executor.reactor.forget(self.token);
    }
}

impl<T: Pollable + std::fmt::Debug> std::fmt::Debug for Async<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Async").field(&self.socket).finish()
    }
}

impl<T: Pollable> Async<T> {
    /// Makes a socket one that is waited for in tasks.
    ///
    /// # Errors
    ///
    /// None today.
    ///
    /// # Panics
    ///
    /// Outside of [`block_on`](super::block_on).
    pub fn new(socket: T) -> Result<Async<T>> {
        let executor = running();
        let place = Place {
            token: executor.reactor.token(),
            executor,
        };
        Ok(Async { place, socket })
    }

    /// The socket itself.
    ///
    /// Once a task has waited for it, it may be in the poller of its [`block_on`](super::block_on): it then goes into no
    /// [`Poller`](crate::Poller) and to no other program before it was [taken out](Async::into_inner).
    pub fn get_ref(&self) -> &T {
        &self.socket
    }

    /// The socket, for no task to wait for any more.
    pub fn into_inner(self) -> T {
        self.socket
    }

    /// Waits until there may be something to read, to receive or to accept.
    pub async fn readable(&self) -> Result<()> {
        self.ready(true).await
    }

    /// Waits until there may be room to write or send.
    pub async fn writable(&self) -> Result<()> {
        self.ready(false).await
    }

    async fn ready(&self, to_read: bool) -> Result<()> {
        let mut has_waited = false;
        poll_fn(|context| {
            if has_waited {
                return Poll::Ready(Ok(()));
            }
            has_waited = true;
            if !Rc::ptr_eq(&running(), &self.place.executor) {
                // Nobody would ever look whether it is ready.
                let message = "the socket belongs to another `block_on`";
                return Poll::Ready(Err(Error::new(ErrorCode::BadArgument, "wait", message)));
            }
            let Place { token, executor } = &self.place;
            match executor
                .reactor
                .wait_for(&self.socket, *token, to_read, context.waker())
            {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            }
        })
        .await
    }

    /// Tries, and waits as long as it would block.
    async fn until_done<R>(&self, to_read: bool, mut attempt: impl FnMut(&T) -> Result<R>) -> Result<R> {
        loop {
            match attempt(&self.socket) {
                Err(error) if error.code() == ErrorCode::WouldBlock => self.ready(to_read).await?,
                result => return result,
            }
        }
    }
}

impl Async<TcpListener> {
    /// Waits for the next connection, and says who it is from.
    pub async fn accept(&self) -> Result<(Async<TcpStream>, SocketAddr)> {
        let would_block = || Error::fixed(ErrorCode::WouldBlock, "accept", "nobody waits");
        let attempt = |listener: &TcpListener| listener.try_accept()?.ok_or_else(would_block);
        let stream = self.until_done(true, attempt).await?;
        let peer = stream.peer_addr()?;
        Ok((Async::new(stream)?, peer))
    }
}

impl Async<TcpStream> {
    /// Waits until something has arrived, and reads it; 0 is the end of the stream.
    pub async fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        self.until_done(true, |stream| stream.try_read(buffer)).await
    }

    /// Reads until the buffer is full.
    ///
    /// # Errors
    ///
    /// [`NotConnected`](ErrorCode::NotConnected) when the stream ends before.
    pub async fn read_exact(&self, mut buffer: &mut [u8]) -> Result<()> {
        while !buffer.is_empty() {
            let length = self.read(buffer).await?;
            if length == 0 {
                let message = "the stream ended too early";
                return Err(Error::new(ErrorCode::NotConnected, "read", message));
            }
            buffer = &mut buffer[length..];
        }
        Ok(())
    }

    /// Waits until there is room, and writes what fits.
    pub async fn write(&self, data: &[u8]) -> Result<usize> {
        self.until_done(false, |stream| stream.try_write(data)).await
    }

    /// Writes all of it.
    pub async fn write_all(&self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            let length = self.write(data).await?;
            data = &data[length..];
        }
        Ok(())
    }

    /// Waits until something has arrived, and reads it into several buffers, as
    /// [`TcpStream::try_read_vectored`] does; 0 is the end of the stream.
    pub async fn read_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> Result<usize> {
        self.until_done(true, |stream| stream.try_read_vectored(buffers))
            .await
    }

    /// Waits until there is room, and writes what fits of several pieces, as
    /// [`TcpStream::try_write_vectored`] does.
    pub async fn write_vectored(&self, data: &[IoSlice<'_>]) -> Result<usize> {
        self.until_done(false, |stream| stream.try_write_vectored(data))
            .await
    }

    /// Ends one direction or both, as [`TcpStream::shutdown`] does. It does not wait; what was written is with the
    /// host's system already.
    pub fn shutdown(&self, how: Shutdown) -> Result<()> {
        self.socket.shutdown(how)
    }
}

impl Async<UdpSocket> {
    /// Sends a datagram, and returns its length.
    pub async fn send_to(&self, data: &[u8], address: impl ToAddress) -> Result<usize> {
        let address = address.to_address()?;
        self.until_done(false, |socket| socket.try_send_to(data, address))
            .await
    }

    /// Sends a datagram to the peer that [`UdpSocket::connect`] fixed.
    pub async fn send(&self, data: &[u8]) -> Result<usize> {
        self.until_done(false, |socket| socket.try_send(data)).await
    }

    /// Waits for a datagram. Returns how much of it is in the buffer, and who sent it.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> Result<(usize, SocketAddr)> {
        self.until_done(true, |socket| socket.try_recv_from(buffer)).await
    }

    /// Waits for a datagram, as [`recv_from`](Async::recv_from) does.
    pub async fn recv(&self, buffer: &mut [u8]) -> Result<usize> {
        Ok(self.recv_from(buffer).await?.0)
    }
}

/// Copies all that comes from one stream to another, while the other tasks run, until the first has ended. Returns
/// how many bytes that were.
///
/// They are moved inside the host and don't pass through this program's memory. The other stream is not
/// told that no more comes: that is [`shutdown`](Async::shutdown).
///
/// ```no_run
/// use std::net::Shutdown;
/// use refcap_guest::{Result, TcpStream, task};
///
/// /// One direction of a proxy.
/// async fn forward(from: &task::Async<TcpStream>, to: &task::Async<TcpStream>) -> Result<u64> {
///     let count = task::copy(from, to).await?;
///     to.shutdown(Shutdown::Write)?;
///     Ok(count)
/// }
/// ```
///
/// # Errors
///
/// As reading the one and writing the other. What was copied before stays copied; what was not is still there to
/// be read. [`BadArgument`](ErrorCode::BadArgument) if they are the same.
pub async fn copy(from: &Async<TcpStream>, to: &Async<TcpStream>) -> Result<u64> {
    let mut count = 0;
    let mut waits_for_room = false;
    loop {
        match from.socket.try_copy_to(&to.socket, usize::MAX) {
            Ok(0) => return Ok(count),
            Ok(moved) => {
                count += moved as u64;
                waits_for_room = false;
            }
            Err(error) if error.code() == ErrorCode::WouldBlock => {
                // Mostly it is something to read that is missing. Where it is not, that wait is over at once, and
                // the next attempt leads to the other one.
                match waits_for_room {
                    false => from.readable().await?,
                    true => to.writable().await?,
                }
                waits_for_room = !waits_for_room;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Opens a TCP connection while the other tasks run.
///
/// Through a Net that a program of another vat [implements](Net::implemented), it waits for that program's answer and the
/// other tasks with it: there is no connection yet that could be waited for.
///
/// # Errors
///
/// As [`Net::connect`].
///
/// # Panics
///
/// Outside of [`block_on`](super::block_on).
pub async fn connect(net: &Net, address: impl ToAddress) -> Result<Async<TcpStream>> {
    connected(net.begin_connect(address)?).await
}

/// Opens a TCP connection to a name while the other tasks run.
///
/// # Errors
///
/// As [`Name::connect`].
///
/// # Panics
///
/// Outside of [`block_on`](super::block_on).
pub async fn connect_name(name: &Name) -> Result<Async<TcpStream>> {
    connected(name.begin_connect()?).await
}

async fn connected(stream: TcpStream) -> Result<Async<TcpStream>> {
    let stream = Async::new(stream)?;
    // Writing nothing says whether there is a connection.
    stream.write(&[]).await?;
    Ok(stream)
}
