//! Networks that a program makes itself.

use std::net::SocketAddr;
use std::rc::Rc;

use refcap_abi::ErrorCode;
use refcap_abi::service::NetRequest;

use crate::capability::sealed::Sealed;
use crate::host;
use crate::{Error, IntoRules, Message, Name, Net, Object, Result, TcpListener, TcpStream, UdpSocket};

/// What stands behind a [`Net`] that a program implements: [`Net::implemented`] makes one of it.
///
/// It is asked for a socket when the Net is used, after the host has found that the Net allows it and its guards say yes. It
/// can log, refuse, open what was asked for through a Net of its own, open something else, or answer by itself with one end of
/// a [pair](TcpStream::pair). What it does not say is refused.
///
/// Its methods may be called while one of them runs: by what that one calls. An error goes to whoever asked by its
/// code, and not with its sentence.
///
/// ```
/// use std::net::SocketAddr;
/// use refcap_guest::{ErrorCode, Net, Network, Result, TcpStream};
///
/// # refcap_guest::answers_calls!();
/// /// A network in which the server is somewhere else.
/// struct Elsewhere {
///     net: Net,
///     server: SocketAddr,
/// }
///
/// impl Network for Elsewhere {
///     fn connect(&self, remote: SocketAddr, _local: Option<SocketAddr>) -> Result<TcpStream> {
///         println!("somebody connects to {remote}");
///         self.net.connect(self.server)
///     }
/// }
///
/// # fn main() -> Result<()> {
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
/// # let server = listener.local_addr().unwrap();
/// # let net = refcap_guest::testing::net("connect tcp 127.0.0.1:*");
/// let theirs = Net::implemented(Elsewhere { net, server }, "connect tcp 10.0.0.1:80; bind udp *:*")?;
/// assert_eq!(theirs.connect("10.0.0.1:80")?.peer_addr()?, server);
/// // It was not asked for this.
/// assert_eq!(theirs.connect("10.0.0.2:80").unwrap_err().code(), ErrorCode::Denied);
/// // For this it was, and has no method.
/// assert_eq!(theirs.bind_udp("127.0.0.1:0").unwrap_err().code(), ErrorCode::Denied);
/// # Ok(()) }
/// ```
pub trait Network {
    /// A connection to an address, from a local end where the holder of the Net has chosen one. Whatever it is connected to,
    /// it is what the holder gets.
    ///
    /// # Errors
    ///
    /// Those that the holder is to get. [`Denied`](ErrorCode::Denied) if this is not implemented.
    fn connect(&self, remote: SocketAddr, local: Option<SocketAddr>) -> Result<TcpStream> {
        let _ = local;
        refuse("connect", format_args!("connection to {remote}"))
    }

    /// A listener at an address, with room for so many connections that wait; 0 is for a default.
    ///
    /// The holder of the Net sees its address, and it is let do what that Net and the one that it was made with allow.
    ///
    /// # Errors
    ///
    /// As for [`connect`](Network::connect).
    fn listen(&self, local: SocketAddr, backlog: u32) -> Result<TcpListener> {
        let _ = backlog;
        refuse("listen", format_args!("listener at {local}"))
    }

    /// A datagram socket at an address. The same is true of it as of a [listener](Network::listen).
    ///
    /// # Errors
    ///
    /// As for [`connect`](Network::connect).
    fn bind_udp(&self, local: SocketAddr) -> Result<UdpSocket> {
        refuse("bind", format_args!("datagram socket at {local}"))
    }

    /// A name, to be connected to at a port. It must be the one that was asked for.
    ///
    /// # Errors
    ///
    /// As for [`connect`](Network::connect).
    fn resolve(&self, name: &str, port: u16) -> Result<Name> {
        refuse("look up", format_args!("name {name}:{port}"))
    }
}

fn refuse<T>(operation: &'static str, what: std::fmt::Arguments<'_>) -> Result<T> {
    let message = format!("this network has no {what}");
    Err(Error::new(ErrorCode::Denied, operation, message))
}

impl<N: Network + ?Sized> Network for Rc<N> {
    fn connect(&self, remote: SocketAddr, local: Option<SocketAddr>) -> Result<TcpStream> {
        (**self).connect(remote, local)
    }

    fn listen(&self, local: SocketAddr, backlog: u32) -> Result<TcpListener> {
        (**self).listen(local, backlog)
    }

    fn bind_udp(&self, local: SocketAddr) -> Result<UdpSocket> {
        (**self).bind_udp(local)
    }

    fn resolve(&self, name: &str, port: u16) -> Result<Name> {
        (**self).resolve(name, port)
    }
}

impl Net {
    /// Makes a Net that this program implements, and that allows what the rules say. They give nobody anything: all that is
    /// done through it, the [`Network`] does with what this program has.
    ///
    /// It is a Net like any other: it is narrowed, guarded, lent by [`revocable`](Net::revocable), and handed to other
    /// programs, which can't tell who implements it. It has no budget of its own. What was obtained through it ends with
    /// it, and with what this program made it of.
    ///
    /// In this program and those that are linked to it, using it calls the Network at once. In another vat, whoever uses it
    /// waits until this program serves: by [`object::serve`](crate::object::serve), or by [`task::serve`](crate::task::serve)
    /// while its tasks run. A program that implements Nets says [`answers_calls!`](crate::answers_calls) once, as for
    /// [`Object`]s.
    ///
    /// The Network is kept for as long as anybody holds the Net, one that was derived from it or what was obtained through
    /// it, in whichever program.
    ///
    /// # Errors
    ///
    /// [`BadArgument`](ErrorCode::BadArgument) for rules that can't be read, [`TooComplex`](ErrorCode::TooComplex),
    /// [`LimitReached`](ErrorCode::LimitReached) when this program has as many capabilities as it may have.
    pub fn implemented(network: impl Network + 'static, rules: impl IntoRules) -> Result<Net> {
        let rules = rules.into_rules()?.encode();
        let object = Object::new(move |method, message| {
            let answer = answer(&network, method.cast_signed(), message.as_bytes())?;
            Ok((0, answer))
        })?;
        let slot = host::object_as_net(object.slot(), &rules)
            .map_err(|failure| Error::last(failure, "implement a network"))?;
        // The object is closed here: what is derived from it stays.
        Ok(Net::from_slot(slot))
    }
}

/// What the host is given: the one socket or name that it asks for.
fn answer(network: &impl Network, method: i32, bytes: &[u8]) -> Result<Message> {
    let Some(request) = NetRequest::decode(method, bytes) else {
        let message = format!("{method} is no method of a network, or its arguments can't be read");
        return Err(Error::new(
            ErrorCode::BadArgument,
            "answer for a network",
            message,
        ));
    };
    let message = Message::new();
    Ok(match request {
        NetRequest::Connect { remote, local } => message.with(network.connect(remote, local)?),
        NetRequest::Listen { local, backlog } => message.with(network.listen(local, backlog)?),
        NetRequest::BindUdp { local } => message.with(network.bind_udp(local)?),
        NetRequest::Resolve { name, port } => message.with(network.resolve(name, port)?),
    })
}
