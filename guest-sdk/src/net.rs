//! The network capability.

use std::time::Duration;

use refcap_abi::wire::encode_address;
use refcap_abi::{ErrorCode, FLAG_DERIVABLE, FLAG_TRANSFERABLE, NO_WAIT};

use crate::capability::{capability, sealed::Sealed};
use crate::host::{self, Failure, Slot};
use crate::{
    Error, Guard, IntoQuery, IntoRules, IntoTerms, Name, Result, Revoker, TcpListener, TcpStream, ToAddress,
    UdpSocket,
};

/// The power to do certain things on the network: those that its rules allow.
///
/// A program starts with the ones that it was granted (see [`main`](macro@crate::main)) and derives narrower ones
/// from them, to hand on to code that needs less. There is no other way to get one, and no way to make
/// one that allows more than the one it is derived from.
///
/// # Why there is no `clone`
///
/// Dropping a `Net` closes its reference. A clone would be the same reference, and so would be closed
/// with it. [`only`](Net::only) with the rules that are needed, or [`revocable`](Net::revocable) to keep
/// all of them, makes a capability of its own, which the host can tell from the first in its audit log.
#[derive(Debug)]
pub struct Net {
    slot: Slot,
}

capability!(Net { slot });

impl Net {
    /// Derives a capability to what both this one and the rules allow.
    ///
    /// Rules that ask for more are cut down to what is there, possibly to nothing; [`exactly`](Net::exactly)
    /// refuses them instead.
    ///
    /// ```no_run
    /// # fn example(net: refcap_guest::Net) -> refcap_guest::Result<()> {
    /// let web = net.only("connect tcp *:80,443; except private")?;
    /// # Ok(()) }
    /// ```
    pub fn only(&self, rules: impl IntoRules) -> Result<Net> {
        self.derive(host::net_only, rules, "derive by `only`")
    }

    /// Derives a capability to exactly what the rules allow.
    ///
    /// # Errors
    ///
    /// [`NotSubset`](ErrorCode::NotSubset) if that is more than this capability allows.
    pub fn exactly(&self, rules: impl IntoRules) -> Result<Net> {
        self.derive(host::net_exactly, rules, "derive by `exactly`")
    }

    /// Derives a capability to what this one allows and the rules don't.
    ///
    /// ```no_run
    /// # fn example(net: refcap_guest::Net) -> refcap_guest::Result<()> {
    /// let not_here = net.except("connect tcp 127.0.0.1:*")?;
    /// # Ok(()) }
    /// ```
    pub fn except(&self, rules: impl IntoRules) -> Result<Net> {
        self.derive(host::net_except, rules, "derive by `except`")
    }

    /// Derives a capability to the same things, and the power to revoke it.
    ///
    /// This is how to lend something: hand the first on, keep the second.
    pub fn revocable(&self) -> Result<(Net, Revoker)> {
        let (net, revoker) = host::net_revocable(&self.slot)
            .map_err(|failure| Error::last(failure, "derive by `revocable`"))?;
        Ok((Net::from_slot(net), Revoker::from_slot(revoker)))
    }

    /// Derives a capability to the same things on further terms: a budget, which draws on this one's, a lease, a
    /// label, no further derivation.
    ///
    /// ```no_run
    /// # fn example(net: refcap_guest::Net) -> refcap_guest::Result<()> {
    /// let plugin = net.limit("limit sockets 2, out 64KiB/s, lease 10m; label plugin")?;
    /// # Ok(()) }
    /// ```
    pub fn limit(&self, terms: impl IntoTerms) -> Result<Net> {
        let terms = terms.into_terms();
        let slot = host::net_limit(&self.slot, terms.as_bytes())
            .map_err(|failure| Error::last(failure, "derive by `limit`"))?;
        Ok(Net::from_slot(slot))
    }

    /// Listens for TCP connections. The capability must allow `bind` and `listen` there, and `accept` from
    /// whoever is to be let in. Port 0 is any free port of those that are allowed.
    pub fn listen(&self, address: impl ToAddress) -> Result<TcpListener> {
        self.listen_with_backlog(address, 0)
    }

    /// Listens, and lets that many connections wait to be accepted (0 for the host's default).
    pub fn listen_with_backlog(&self, address: impl ToAddress, backlog: u32) -> Result<TcpListener> {
        let address = encode_address(address.to_address()?);
        let slot = host::net_listen(&self.slot, &address, backlog)
            .map_err(|failure| Error::last(failure, "listen"))?;
        Ok(TcpListener::from_slot(slot))
    }

    /// Makes a UDP socket. The capability must allow `bind` there, and `send` and `receive` for each datagram.
    /// Port 0 is any free port of those that are allowed.
    pub fn bind_udp(&self, address: impl ToAddress) -> Result<UdpSocket> {
        let address = encode_address(address.to_address()?);
        let slot =
            host::net_bind_udp(&self.slot, &address).map_err(|failure| Error::last(failure, "bind"))?;
        Ok(UdpSocket::from_slot(slot))
    }

    /// Looks a name up, if the capability allows connecting to it at that port.
    ///
    /// ```no_run
    /// # fn example(net: refcap_guest::Net) -> refcap_guest::Result<()> {
    /// let api = net.resolve("api.example.com", 443)?;
    /// let stream = api.connect()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Denied`](ErrorCode::Denied) before anybody is asked, or when the name stands for no address that is
    /// allowed; [`NameNotResolved`](ErrorCode::NameNotResolved) when there is no answer.
    pub fn resolve(&self, name: &str, port: u16) -> Result<Name> {
        self.resolve_within(name, port, 0)
    }

    /// Looks a name up, or fails with [`TimedOut`](ErrorCode::TimedOut) after the given time.
    pub fn resolve_timeout(&self, name: &str, port: u16, timeout: Duration) -> Result<Name> {
        self.resolve_within(name, port, milliseconds(timeout, "look up")?)
    }

    /// Opens a TCP connection.
    pub fn connect(&self, address: impl ToAddress) -> Result<TcpStream> {
        self.connect_within(address, 0)
    }

    /// Opens a TCP connection, or fails with [`TimedOut`](ErrorCode::TimedOut) after the given time.
    pub fn connect_timeout(&self, address: impl ToAddress, timeout: Duration) -> Result<TcpStream> {
        self.connect_within(address, milliseconds(timeout, "connect")?)
    }

    /// Opens a TCP connection without waiting for it. The stream can be written when it is there, and writing
    /// nothing says why not if it is not.
    pub(crate) fn begin_connect(&self, address: impl ToAddress) -> Result<TcpStream> {
        self.connect_within(address, NO_WAIT.cast_unsigned())
    }

    /// Opens a TCP connection from a local end that the capability allows. Port 0 is any that is allowed.
    pub fn connect_from(&self, local: impl ToAddress, remote: impl ToAddress) -> Result<TcpStream> {
        self.connect_from_within(local, remote, 0)
    }

    /// Opens a TCP connection from a local end, or fails with [`TimedOut`](ErrorCode::TimedOut) after the
    /// given time.
    pub fn connect_from_timeout(
        &self,
        local: impl ToAddress,
        remote: impl ToAddress,
        timeout: Duration,
    ) -> Result<TcpStream> {
        self.connect_from_within(local, remote, milliseconds(timeout, "connect")?)
    }

    /// Derives a capability that allows what this one allows and the guard says yes to.
    ///
    /// The guard is asked when this capability has permitted something, so it can only narrow: also for each datagram,
    /// each peer of a listener, and each address of a name. What is derived from the new capability asks the same
    /// guard, which remembers what it was asked before. What it does not say yes to is `Denied`, and the error says
    /// which guard it was and why. [`allows`](Net::allows) and [`describe`](Net::describe) do not ask it.
    ///
    /// # Errors
    ///
    /// `NotDerivable`; `LimitReached`, also if there are too many guards before this capability.
    pub fn guarded(&self, guard: &Guard) -> Result<Net> {
        let slot =
            host::net_guarded(&self.slot, guard.slot()).map_err(|failure| Error::last(failure, "guard"))?;
        Ok(Net::from_slot(slot))
    }

    /// Whether this capability allows something.
    ///
    /// What is left out of the question is anything: `connect tcp 10.1.2.3:443` asks whether that is
    /// allowed from any local address. Where the answer is no, doing it would be an error; where it is
    /// yes, it can still fail for all the reasons that a network has.
    pub fn allows(&self, question: impl IntoQuery) -> Result<bool> {
        let question = question.into_query()?.encode();
        let answer =
            host::net_allows(&self.slot, &question).map_err(|failure| Error::last(failure, "ask"))?;
        Ok(answer != 0)
    }

    /// Whether others can be derived from this capability: not if it was granted or limited with `no derive`.
    pub fn is_derivable(&self) -> Result<bool> {
        Ok(self.flags()? & FLAG_DERIVABLE != 0)
    }

    /// Whether this capability may be handed to another program: not if it was granted or limited with
    /// `no hand-over`.
    pub fn is_transferable(&self) -> Result<bool> {
        Ok(self.flags()? & FLAG_TRANSFERABLE != 0)
    }

    fn flags(&self) -> Result<i32> {
        let flags =
            host::net_flags(&self.slot).map_err(|failure| Error::last(failure, "ask for the flags"))?;
        Ok(flags.cast_signed())
    }

    /// What this capability allows, in the text form of rules.
    pub fn describe(&self) -> Result<String> {
        host::text(|buffer| host::net_describe(&self.slot, buffer))
            .map_err(|failure| Error::last(failure, "describe"))
    }

    /// The host call is an argument, so that a program imports only the ones that it uses.
    fn derive(&self, call: Derive, rules: impl IntoRules, operation: &'static str) -> Result<Net> {
        let rules = rules.into_rules()?.encode();
        let slot = call(&self.slot, &rules).map_err(|failure| Error::last(failure, operation))?;
        Ok(Net::from_slot(slot))
    }

    fn connect_within(&self, address: impl ToAddress, timeout: u32) -> Result<TcpStream> {
        let address = encode_address(address.to_address()?);
        let slot = host::net_connect(&self.slot, &address, timeout)
            .map_err(|failure| Error::last(failure, "connect"))?;
        Ok(TcpStream::from_slot(slot))
    }

    fn connect_from_within(
        &self,
        local: impl ToAddress,
        remote: impl ToAddress,
        timeout: u32,
    ) -> Result<TcpStream> {
        let local = encode_address(local.to_address()?);
        let remote = encode_address(remote.to_address()?);
        let slot = host::net_connect_from(&self.slot, &remote, &local, timeout)
            .map_err(|failure| Error::last(failure, "connect"))?;
        Ok(TcpStream::from_slot(slot))
    }

    fn resolve_within(&self, name: &str, port: u16, timeout: u32) -> Result<Name> {
        let slot = host::net_resolve(&self.slot, name, port, timeout)
            .map_err(|failure| Error::last(failure, "look up"))?;
        Ok(Name::from_slot(slot))
    }
}

type Derive = fn(&Slot, &[u8]) -> Result<Slot, Failure>;

/// A time as the host takes it: at least one, since zero stands for no limit.
pub(crate) fn milliseconds(time: Duration, operation: &'static str) -> Result<u32> {
    if time.is_zero() {
        let message = "a timeout of zero is no time at all";
        return Err(Error::new(ErrorCode::BadArgument, operation, message));
    }
    // The longest time is 24 days. It is rounded up, so that a wait is never shorter than asked for.
    let milliseconds = time.as_nanos().div_ceil(1_000_000);
    Ok(u32::try_from(milliseconds)
        .unwrap_or(u32::MAX)
        .min(i32::MAX.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_up_and_never_none() {
        let of = |time| milliseconds(time, "wait");
        assert_eq!(of(Duration::from_nanos(1)), Ok(1));
        assert_eq!(of(Duration::from_millis(1)), Ok(1));
        assert_eq!(of(Duration::from_micros(1001)), Ok(2));
        assert_eq!(of(Duration::MAX), Ok(i32::MAX.unsigned_abs()));
        assert_eq!(of(Duration::ZERO).unwrap_err().code(), ErrorCode::BadArgument);
    }
}
