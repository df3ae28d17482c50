//! The one door of a TCP connection.

use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::task::Poll;
use std::time::Duration;

use refcap_abi::ErrorCode;
use refcap_authority::{Authority, Operation, Protocol, Query, Remote, Tuple};
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;

use crate::capability::lineage::Sever;
use crate::capability::mailbox::{SocketPermit, lock};
use crate::vat::Refusal;

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    Read,
    Write,
    Either,
}

/// A TCP connection, from before its first packet to its end.
#[derive(Debug)]
pub(crate) struct TcpDoor {
    remote: SocketAddr,
    /// The local end: bound before connecting, or known after.
    local: OnceLock<SocketAddr>,
    stream: OnceLock<TcpStream>,
    /// Set once. What is done under `gate` is either done before this is set or not at all.
    severed: AtomicBool,
    gate: Mutex<()>,
    woken: Notify,
    _permit: SocketPermit,
}

impl TcpDoor {
    /// A connection that is to be made from `local`, if it is bound already, to `remote`.
    pub(super) fn new(local: Option<SocketAddr>, remote: SocketAddr, permit: SocketPermit) -> Self {
        TcpDoor {
            remote,
            local: local.map(OnceLock::from).unwrap_or_default(),
            stream: OnceLock::new(),
            severed: AtomicBool::new(false),
            gate: Mutex::new(()),
            woken: Notify::new(),
            _permit: permit,
        }
    }

    /// What the connection is, as far as it is known: its local end is open until it is bound.
    pub(crate) fn query(&self) -> Query {
        Query {
            operation: Operation::Connect,
            protocol: Protocol::Tcp,
            local: self.local.get().copied(),
            remote: Some(Remote::from(self.remote)),
        }
    }

    /// Whether the authority allows the connection as it really is.
    pub(crate) fn check(&self, authority: &Authority) -> Result<(), Refusal> {
        let allowed = match self.local.get() {
            Some(&local) => {
                authority.permits(&Tuple::new(Operation::Connect, Protocol::Tcp, local, self.remote))
            }
            None => authority.allows(&self.query()),
        };
        if allowed {
            Ok(())
        } else {
            Err(Refusal::denied(authority.clone(), self.query()))
        }
    }

    /// Makes the connection.
    pub(crate) async fn connect(&self, socket: TcpSocket, timeout: Duration) -> Result<(), Refusal> {
        let mut connecting = pin!(socket.connect(self.remote));
        // Each step of connecting is under the gate: once `sever` has returned, none is taken, so not
        // even the first packet leaves after a revocation.
        let connect = poll_fn(|context| {
            let _gate = lock(&self.gate);
            if self.is_severed() {
                return Poll::Ready(Err(ErrorCode::Revoked.into()));
            }
            let stream = match connecting.as_mut().poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(refusal(&error))),
                Poll::Ready(Ok(stream)) => stream,
            };
            if let Ok(local) = stream.local_addr() {
                let _ = self.local.set(local);
            }
            let _ = self.stream.set(stream);
            Poll::Ready(Ok(()))
        });
        tokio::select! {
            biased;
            () = self.end() => Err(ErrorCode::Revoked.into()),
            done = connect => done,
            () = tokio::time::sleep(timeout) => {
                let why = format!("no connection to {} after {timeout:?}", self.remote);
                Err(Refusal::new(ErrorCode::TimedOut, why))
            }
        }
    }

    /// Reads what has arrived.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> Result<usize, Refusal> {
        let stream = self.stream()?;
        let result = stream.try_read(buffer);
        self.through(result)
    }

    /// Writes what the kernel takes.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> Result<usize, Refusal> {
        let stream = self.stream()?;
        let result = stream.try_write(bytes);
        self.through(result)
    }

    /// Waits until there is something to do, and says what.
    pub(crate) async fn wait(
        &self,
        interest: Interest,
        timeout: Option<Duration>,
    ) -> Result<Interest, Refusal> {
        let stream = self.stream()?;
        // `poll_*_ready` takes part in tokio's cooperation; a read polled with a waker that does nothing,
        // and then awaited, would spin once the task's budget is used up.
        let ready = poll_fn(|context| {
            let read = interest != Interest::Write && stream.poll_read_ready(context).is_ready();
            let write = interest != Interest::Read && stream.poll_write_ready(context).is_ready();
            match (read, write) {
                (true, true) => Poll::Ready(Interest::Either),
                (true, false) => Poll::Ready(Interest::Read),
                (false, true) => Poll::Ready(Interest::Write),
                (false, false) => Poll::Pending,
            }
        });
        let expired = async {
            match timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.end() => Err(ErrorCode::Revoked.into()),
            ready = ready => Ok(ready),
            () = expired => Err(ErrorCode::TimedOut.into()),
        }
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> Result<(), Refusal> {
        let stream = self.stream()?;
        let result = SockRef::from(stream).shutdown(how);
        self.through(result)
    }

    pub(crate) fn local_address(&self) -> Result<SocketAddr, Refusal> {
        self.stream()?;
        self.local
            .get()
            .copied()
            .ok_or_else(|| ErrorCode::NotConnected.into())
    }

    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.remote
    }

    fn stream(&self) -> Result<&TcpStream, ErrorCode> {
        if self.is_severed() {
            return Err(ErrorCode::Revoked);
        }
        self.stream.get().ok_or(ErrorCode::NotConnected)
    }

    /// What an operation gave, unless the connection was severed while it ran: then its result is of no
    /// matter, whether it failed because of that or came through just before.
    fn through<T>(&self, result: io::Result<T>) -> Result<T, Refusal> {
        if self.is_severed() {
            return Err(ErrorCode::Revoked.into());
        }
        result.map_err(|error| refusal(&error))
    }

    fn is_severed(&self) -> bool {
        self.severed.load(Ordering::SeqCst)
    }

    /// Ends when the connection is severed.
    async fn end(&self) {
        let mut woken = pin!(self.woken.notified());
        // Enlist before looking, or a wake between the two would be lost.
        woken.as_mut().enable();
        if !self.is_severed() {
            woken.await;
        }
    }
}

impl Sever for TcpDoor {
    fn sever(&self) {
        {
            let _gate = lock(&self.gate);
            self.severed.store(true, Ordering::SeqCst);
        }
        if let Some(stream) = self.stream.get() {
            // An operation that looked just before the flag was set finds the socket shut. An error means
            // that the connection is over already.
            let _ = SockRef::from(stream).shutdown(Shutdown::Both);
        }
        self.woken.notify_waiters();
    }

    fn is_permitted_by(&self, authority: &Authority) -> bool {
        self.check(authority).is_ok()
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
    use tokio::net::TcpListener;

    use super::*;
    use crate::capability::mailbox::Mailbox;

    const LONG: Duration = Duration::from_secs(20);

    async fn server() -> (TcpListener, TcpDoor) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let permit = SocketPermit::take(&Mailbox::new(), 1).unwrap();
        let door = TcpDoor::new(None, listener.local_addr().unwrap(), permit);
        (listener, door)
    }

    #[tokio::test]
    async fn a_door_that_is_severed_first_sends_not_even_a_first_packet() {
        let (listener, door) = server().await;
        door.sever();
        let refused = door
            .connect(TcpSocket::new_v4().unwrap(), LONG)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), ErrorCode::Revoked);
        let visit = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(visit.is_err(), "somebody came: {visit:?}");
    }

    #[tokio::test]
    async fn what_had_arrived_before_is_not_read_after() {
        let (listener, door) = server().await;
        door.connect(TcpSocket::new_v4().unwrap(), LONG).await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        peer.write_all(b"late").await.unwrap();
        assert_eq!(door.wait(Interest::Read, None).await.unwrap(), Interest::Read);
        door.sever();
        assert_eq!(door.try_read(&mut [0; 4]).unwrap_err().code(), ErrorCode::Revoked);
        assert_eq!(door.try_write(b"more").unwrap_err().code(), ErrorCode::Revoked);
        assert_eq!(
            door.wait(Interest::Either, None).await.unwrap_err().code(),
            ErrorCode::Revoked
        );
        assert_eq!(
            door.shutdown(Shutdown::Both).unwrap_err().code(),
            ErrorCode::Revoked
        );
        assert_eq!(door.local_address().unwrap_err().code(), ErrorCode::Revoked);
    }
}
