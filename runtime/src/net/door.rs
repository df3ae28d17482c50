//! The one door of a TCP connection.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use refcap_abi::{ErrorCode, MAX_PIECES};
use refcap_authority::{Authority, Family, Operation, Protocol, Query, Remote, Tuple};
use socket2::SockRef;

use super::copy;
use super::latch::{Ending, Latch};
use super::permit::Permit;
use super::pieces::{cut, total};
use super::source::{Interest, Readiness, Source, wait};
use super::stream::Stream;
use crate::budget::{Account, Direction};
use crate::capability::lineage::Sever;
use crate::vat::Refusal;

/// A TCP connection, from before its first packet to its end.
#[derive(Debug)]
pub(crate) struct TcpDoor {
    /// Connect or accept.
    operation: Operation,
    /// The far end that authority is asked about: an address, or the name that was resolved to it.
    judged: Remote,
    /// The far end as it is, once it is known.
    remote: OnceLock<SocketAddr>,
    /// The near end, once it is bound and somebody has asked.
    local: OnceLock<SocketAddr>,
    account: Option<Arc<Account>>,
    latch: Latch<Link>,
}

/// How far a connection is.
enum Link {
    Connecting {
        attempt: Attempt,
        /// When it is given up, once it is waited for, and the time that it is given.
        until: Option<Instant>,
        timeout: Duration,
        permit: Option<Permit>,
    },
    Open {
        stream: Stream,
        _permit: Option<Permit>,
    },
    Failed(Refusal),
}

impl Link {
    /// The connection, which must be there.
    fn open(&mut self) -> Result<&mut Stream, Refusal> {
        match self {
            Link::Open { stream, .. } => Ok(stream),
            Link::Connecting { .. } => Err(ErrorCode::WouldBlock.into()),
            Link::Failed(refusal) => Err(refusal.clone()),
        }
    }
}

/// A connection in the making. Its sockets are bound and checked before its first packet.
pub(super) type Attempt = Pin<Box<dyn Future<Output = Result<Stream, Refusal>> + Send>>;

impl TcpDoor {
    /// A connection that is to be made: from `local` if it is bound already, to what is `judged`.
    pub(super) fn connecting(
        judged: Remote,
        local: Option<SocketAddr>,
        attempt: Attempt,
        timeout: Duration,
        permit: Permit,
    ) -> Self {
        let remote = match &judged {
            Remote::Address(address) => OnceLock::from(*address),
            Remote::Name(..) => OnceLock::new(),
        };
        TcpDoor {
            operation: Operation::Connect,
            judged,
            remote,
            local: local.map(OnceLock::from).unwrap_or_default(),
            account: permit.account().cloned(),
            latch: Latch::new(Link::Connecting {
                attempt,
                until: None,
                timeout,
                permit: Some(permit),
            }),
        }
    }

    /// A connection that a peer made and a listener took.
    pub(super) fn accepted(stream: Stream, local: SocketAddr, remote: SocketAddr, permit: Permit) -> Self {
        TcpDoor {
            operation: Operation::Accept,
            judged: Remote::from(remote),
            remote: OnceLock::from(remote),
            local: OnceLock::from(local),
            account: permit.account().cloned(),
            latch: Latch::new(Link::Open {
                stream,
                _permit: Some(permit),
            }),
        }
    }

    /// What the connection is, as far as it is known: its local end is open until it is bound.
    pub(crate) fn query(&self) -> Query {
        Query {
            operation: self.operation,
            protocol: Protocol::Tcp,
            local: self.local.get().copied(),
            remote: Some(self.judged.clone()),
        }
    }

    /// Whether the authority allows the connection as it really is. One whose local end is not known yet
    /// must be allowed from any.
    pub(crate) fn check(&self, authority: &Authority) -> Result<(), Refusal> {
        let allowed = match (self.local(), &self.judged) {
            (Some(local), judged) => {
                authority.permits(&Tuple::new(self.operation, Protocol::Tcp, local, judged.clone()))
            }
            (None, Remote::Address(address)) => authority
                .local_ranges(self.operation, Protocol::Tcp, &self.judged)
                .is_unrestricted(Family::from(address.ip())),
            (None, Remote::Name(..)) => [Family::V4, Family::V6].into_iter().all(|family| {
                authority
                    .local_ranges(self.operation, Protocol::Tcp, &self.judged)
                    .is_unrestricted(family)
            }),
        };
        if allowed {
            Ok(())
        } else {
            Err(Refusal::denied(authority.clone(), self.query()))
        }
    }

    /// Sends the first packet, if it was not sent yet.
    pub(crate) fn begin(&self) -> Result<(), Refusal> {
        self.advance(&mut Context::from_waker(Waker::noop()))
    }

    /// Waits until the connection is made, unless it is.
    pub(crate) async fn connected(&self) -> Result<(), Refusal> {
        if !self.is_made()? {
            // In a box, which only those need that wait.
            Box::pin(wait(self, Interest::WRITE, None)).await?;
            self.is_made()?;
        }
        Ok(())
    }

    /// Whether the connection is made; why it can't be made is an error.
    fn is_made(&self) -> Result<bool, Refusal> {
        self.latch.with(|link| match link {
            Link::Connecting { .. } => Ok(false),
            Link::Open { .. } => Ok(true),
            Link::Failed(refusal) => Err(refusal.clone()),
        })?
    }

    /// Takes a connection in the making as far as it can go. Under the latch: once `sever` has returned no
    /// step is taken, so not even the first packet leaves after a revocation.
    fn advance(&self, context: &mut Context<'_>) -> Result<(), Refusal> {
        self.latch.with(|link| {
            let Link::Connecting {
                attempt,
                until,
                timeout,
                permit,
            } = link
            else {
                return;
            };
            match attempt.as_mut().poll(context) {
                Poll::Ready(Ok(stream)) => match self.settle(&stream) {
                    Ok(()) => {
                        let _permit = permit.take();
                        *link = Link::Open { stream, _permit };
                    }
                    Err(error) => *link = Link::Failed(refusal(&error)),
                },
                Poll::Ready(Err(refused)) => *link = Link::Failed(refused),
                Poll::Pending => {
                    let now = Instant::now();
                    if now >= *until.get_or_insert(now + *timeout) {
                        let why = format!("no connection to {} after {timeout:?}", self.judged);
                        *link = Link::Failed(Refusal::new(ErrorCode::TimedOut, why));
                    }
                }
            }
        })?;
        Ok(())
    }

    /// The far end is known now, also where a name was judged. The near end is asked for when somebody wants to
    /// know it, which for most connections is never.
    fn settle(&self, stream: &Stream) -> io::Result<()> {
        if self.remote.get().is_none() {
            let _ = self.remote.set(stream.peer()?);
        }
        Ok(())
    }

    /// The near end, if there is one yet. Not for those who have the latch open.
    fn local(&self) -> Option<SocketAddr> {
        if let Some(&local) = self.local.get() {
            return Some(local);
        }
        let found = self.latch.with(|link| match link {
            Link::Open { stream, .. } => stream.local().ok(),
            Link::Connecting { .. } | Link::Failed(_) => None,
        });
        let found = found.ok().flatten()?;
        Some(*self.local.get_or_init(|| found))
    }

    /// Reads what has arrived, as far as the budget goes.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> Result<usize, Refusal> {
        self.move_bytes(Direction::In, buffer.len(), |stream, allowed| {
            stream.try_read(&mut buffer[..allowed])
        })
    }

    /// Writes what the kernel and the budget take.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> Result<usize, Refusal> {
        self.move_bytes(Direction::Out, bytes.len(), |stream, allowed| {
            stream.try_write(&bytes[..allowed])
        })
    }

    /// Reads what has arrived into several buffers, as far as the budget goes.
    pub(crate) fn try_read_vectored(
        &self,
        mut buffers: [&mut [u8]; MAX_PIECES],
        most: usize,
    ) -> Result<usize, Refusal> {
        let wanted = total(&buffers).min(most);
        self.move_bytes(Direction::In, wanted, |stream, allowed| {
            let count = cut(&mut buffers, allowed, |buffer, length| {
                *buffer = &mut std::mem::take(buffer)[..length];
            });
            stream.try_read_vectored(&mut buffers.map(IoSliceMut::new)[..count])
        })
    }

    /// Writes what the kernel and the budget take of several pieces.
    pub(crate) fn try_write_vectored(
        &self,
        mut pieces: [&[u8]; MAX_PIECES],
        most: usize,
    ) -> Result<usize, Refusal> {
        let wanted = total(&pieces).min(most);
        self.move_bytes(Direction::Out, wanted, |stream, allowed| {
            let count = cut(&mut pieces, allowed, |piece, length| *piece = &piece[..length]);
            stream.try_write_vectored(&pieces.map(IoSlice::new)[..count])
        })
    }

    /// Moves up to `most` bytes that have arrived here into another connection, as far as its kernel buffer
    /// and both budgets go. Of what was not taken nothing is lost: it has not been read.
    ///
    /// Both latches are held from the look at the bytes until they are gone from here. So when a revocation of
    /// either connection has returned, no byte of this one goes to the other any more.
    pub(crate) fn copy_to(&self, to: &TcpDoor, most: usize) -> Result<usize, Refusal> {
        Latch::with_both(&self.latch, &to.latch, |from_link, to_link| {
            copy::with_buffer(|buffer| {
                let most = most.min(buffer.len());
                self.move_through(from_link, Direction::In, most, |from, allowed| {
                    let arrived = from
                        .registered()
                        .and_then(|tcp| copy::peek(tcp, &mut buffer[..allowed]))
                        .map_err(|error| refusal(&error))?;
                    if arrived == 0 {
                        return Ok(0);
                    }
                    let written = to.move_through(to_link, Direction::Out, arrived, |to, allowed| {
                        to.try_write(&buffer[..allowed]).map_err(|error| refusal(&error))
                    });
                    let taken = written.map_err(of_the_other)?;
                    from.registered()
                        .and_then(|tcp| copy::consume(tcp, &mut buffer[..taken]))
                        .map_err(|error| refusal(&error))?;
                    from.note_read(taken);
                    Ok(taken)
                })
            })
        })?
    }

    /// Moves bytes one way, as many as the budget allows of those that are wanted. Under one latch from the
    /// budget to the end, so that what is severed takes nothing from it.
    fn move_bytes(
        &self,
        direction: Direction,
        wanted: usize,
        operation: impl FnOnce(&mut Stream, usize) -> io::Result<usize>,
    ) -> Result<usize, Refusal> {
        self.latch.with(|link| {
            self.move_through(link, direction, wanted, |stream, allowed| {
                operation(stream, allowed).map_err(|error| refusal(&error))
            })
        })?
    }

    /// The same for who has opened the latch.
    fn move_through(
        &self,
        link: &mut Link,
        direction: Direction,
        wanted: usize,
        operation: impl FnOnce(&mut Stream, usize) -> Result<usize, Refusal>,
    ) -> Result<usize, Refusal> {
        let allowed = self.reserve(direction, wanted)?;
        let result = link.open().and_then(|stream| operation(stream, allowed));
        self.settle_budget(direction, allowed, &result);
        result
    }

    fn reserve(&self, direction: Direction, wanted: usize) -> Result<usize, Refusal> {
        let Some(account) = &self.account else {
            return Ok(wanted);
        };
        let reserved = account.reserve(direction, wanted as u64)?;
        // Not more than was wanted, which is a length in memory.
        Ok(usize::try_from(reserved).unwrap_or(wanted))
    }

    fn settle_budget(&self, direction: Direction, reserved: usize, used: &Result<usize, Refusal>) {
        if let Some(account) = &self.account {
            let used = used.as_ref().copied().unwrap_or_default();
            account.settle(direction, reserved as u64, used as u64);
        }
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> Result<(), Refusal> {
        self.open(|socket| socket.shutdown(how))
    }

    pub(crate) fn set_no_delay(&self, on: bool) -> Result<(), Refusal> {
        self.open(|socket| match socket.set_tcp_nodelay(on) {
            // One end of a pair, which delays nothing.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            result => result,
        })
    }

    /// Uses the connection, which must be there.
    fn open<R>(&self, use_it: impl FnOnce(&SockRef<'_>) -> io::Result<R>) -> Result<R, Refusal> {
        self.latch.with(|link| {
            let socket = link.open()?.socket();
            socket
                .and_then(|socket| use_it(&socket))
                .map_err(|error| refusal(&error))
        })?
    }

    pub(crate) fn local_address(&self) -> Result<SocketAddr, Refusal> {
        self.latch.with(|_| ())?;
        self.local().ok_or_else(|| ErrorCode::NotConnected.into())
    }

    pub(crate) fn remote_address(&self) -> Result<SocketAddr, Refusal> {
        self.remote
            .get()
            .copied()
            .ok_or_else(|| ErrorCode::NotConnected.into())
    }

    /// When bytes can move again that way, if the budget stands in the way.
    fn throttled(&self, direction: Direction) -> Option<Instant> {
        self.account
            .as_ref()
            .and_then(|account| account.throttled(direction))
    }

    fn poll_direction(
        &self,
        context: &mut Context<'_>,
        direction: Direction,
    ) -> Result<Readiness, ErrorCode> {
        let now = Readiness::Now(Interest {
            read: direction == Direction::In,
            write: direction == Direction::Out,
        });
        let ready = self.latch.with(|link| match link {
            Link::Open { stream, .. } => match stream.poll_ready(context, direction) {
                Poll::Ready(_) => now,
                Poll::Pending => Readiness::Later(None),
            },
            Link::Connecting { until, .. } => Readiness::Later(*until),
            Link::Failed(_) => now,
        })?;
        Ok(match (ready, self.throttled(direction)) {
            (Readiness::Now(_), Some(when)) => Readiness::Later(Some(when)),
            (ready, _) => ready,
        })
    }
}

impl Source for TcpDoor {
    fn poll_ready(&self, context: &mut Context<'_>, interest: Interest) -> Result<Readiness, ErrorCode> {
        self.advance(context).map_err(|refusal| refusal.code())?;
        // `poll_*_ready` takes part in tokio's cooperation; a read polled with a waker that does nothing,
        // and then awaited, would spin once the task's budget is used up.
        let read = interest.read.then(|| self.poll_direction(context, Direction::In));
        let write = interest
            .write
            .then(|| self.poll_direction(context, Direction::Out));
        Ok(Readiness::of(read.transpose()?, write.transpose()?))
    }

    fn is_flowing(&self) -> bool {
        let flows = self.latch.with(|link| match link {
            Link::Open { stream, .. } => stream.is_flowing(),
            Link::Connecting { .. } | Link::Failed(_) => false,
        });
        flows.unwrap_or(false)
    }

    fn ending(&self) -> &dyn Ending {
        &self.latch
    }
}

impl Sever for TcpDoor {
    fn sever(&self) {
        self.latch.sever();
    }

    fn restrict(&self, authority: &Authority) -> bool {
        self.check(authority).is_ok()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Link::Connecting { .. } => "Connecting",
            Link::Open { .. } => "Open",
            Link::Failed(_) => "Failed",
        })
    }
}

/// Says of a refusal that it is about the connection that is written.
fn of_the_other(refusal: Refusal) -> Refusal {
    match refusal.code() {
        // Too common to pay for a message.
        ErrorCode::WouldBlock => refusal,
        code => Refusal::new(code, format_args!("the stream to be written: {refusal}")),
    }
}

/// The error that a guest sees for one of the operating system's.
pub(super) fn refusal(error: &io::Error) -> Refusal {
    use io::ErrorKind;
    let code = match error.kind() {
        ErrorKind::WouldBlock => ErrorCode::WouldBlock,
        ErrorKind::ConnectionRefused => ErrorCode::ConnectionRefused,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => ErrorCode::ConnectionReset,
        ErrorKind::NotConnected | ErrorKind::BrokenPipe => ErrorCode::NotConnected,
        ErrorKind::AddrInUse => ErrorCode::AddressInUse,
        ErrorKind::AddrNotAvailable => ErrorCode::AddressNotAvailable,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            ErrorCode::Unreachable
        }
        ErrorKind::TimedOut => ErrorCode::TimedOut,
        _ => ErrorCode::Io,
    };
    match code {
        // Too common to pay for a message.
        ErrorCode::WouldBlock => code.into(),
        _ => Refusal::new(code, error),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::net::permit::Permit;

    const LONG: Duration = Duration::from_secs(20);

    async fn server() -> (TcpListener, TcpDoor) {
        server_with(None).await
    }

    async fn server_with(account: Option<Arc<Account>>) -> (TcpListener, TcpDoor) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let remote = listener.local_addr().unwrap();
        let attempt: Attempt = Box::pin(async move {
            let tcp = TcpStream::connect(remote).await;
            tcp.map(Stream::from).map_err(|error| refusal(&error))
        });
        let door = TcpDoor::connecting(remote.into(), None, attempt, LONG, Permit::for_tests(account));
        (listener, door)
    }

    #[tokio::test]
    async fn a_door_that_is_severed_first_sends_not_even_a_first_packet() {
        let (listener, door) = server().await;
        door.sever();
        assert_eq!(door.begin().unwrap_err().code(), ErrorCode::Revoked);
        assert_eq!(door.connected().await.unwrap_err().code(), ErrorCode::Revoked);
        let visit = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(visit.is_err(), "somebody came: {visit:?}");
    }

    #[tokio::test]
    async fn what_had_arrived_before_is_not_read_after() {
        let (listener, door) = server().await;
        door.begin().unwrap();
        door.connected().await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        peer.write_all(b"late").await.unwrap();
        assert_eq!(wait(&door, Interest::READ, None).await, Ok(Interest::READ));
        door.sever();
        assert_eq!(door.try_read(&mut [0; 4]).unwrap_err().code(), ErrorCode::Revoked);
        assert_eq!(door.try_write(b"more").unwrap_err().code(), ErrorCode::Revoked);
        let both = Interest::from_bits(3).unwrap();
        assert_eq!(wait(&door, both, None).await, Err(ErrorCode::Revoked));
        assert_eq!(
            door.shutdown(Shutdown::Both).unwrap_err().code(),
            ErrorCode::Revoked
        );
        assert_eq!(door.local_address().unwrap_err().code(), ErrorCode::Revoked);
    }

    // The budget is asked under the latch that severing takes the connection from: who is severed hears of that,
    // and not of a budget that is none of its business any more, and others find the budget whole.
    #[tokio::test]
    async fn a_severed_stream_takes_nothing_from_a_budget() {
        let terms = "limit in 4, out 4".parse().unwrap();
        let account = Account::open(None, &terms).ok().flatten().unwrap();
        let (_listener, door) = server_with(Some(account.clone())).await;
        // While it is connecting it may be used later, and takes nothing now.
        assert_eq!(door.try_write(b"12").unwrap_err().code(), ErrorCode::WouldBlock);
        assert_eq!(account.usage().bytes_out, Some((0, 4)));
        door.sever();
        let held = account.reserve(Direction::Out, 4).unwrap();
        assert_eq!(door.try_write(b"1").unwrap_err().code(), ErrorCode::Revoked);
        account.settle(Direction::Out, held, held);
        assert_eq!(door.try_write(b"1").unwrap_err().code(), ErrorCode::Revoked);
        assert_eq!(door.try_read(&mut [0; 4]).unwrap_err().code(), ErrorCode::Revoked);
        let (_other_listener, other) = server_with(Some(account.clone())).await;
        for (from, to) in [(&door, &other), (&other, &door)] {
            assert_eq!(from.copy_to(to, 4).unwrap_err().code(), ErrorCode::Revoked);
        }
        assert_eq!(account.usage().bytes_in, Some((0, 4)));
    }
}
