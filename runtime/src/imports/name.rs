//! What a guest can do with names.

use std::sync::Arc;

use refcap_abi::ErrorCode;
use refcap_authority::DnsName;

use super::implemented::{self, Use};
use super::memory::{Span, copy_in};
use super::open::{connect_time, connection_permit, finish, make_room};
use crate::audit;
use crate::capability::table::{NoBirth, Object, Own};
use crate::net::NameDoor;
use crate::references::{Call, Outcome, Reply};
use crate::vat::Refusal;

/// The longest name, with room for the letters that become its A-labels.
const NAME_BYTES: usize = 1_024;

/// `net_resolve(net, name, length, port, timeout_ms) -> (name, status)`: look a name up.
///
/// - **Needs** a Net; a DNS name in UTF-8; a port; a time in milliseconds (0 for the vat's own limit).
/// - **Checks**, before the resolver is asked: that the name is one, and that `connect tcp` is granted for it
///   with this port. Of the answer, which addresses the Net allows names to stand for. The vat's limits.
/// - **Returns** a Name derived from the Net: it can be connected to, and nothing else. It is pinned to the
///   addresses that are allowed, and good for as long as the answer is; one that may not be kept at all is
///   good for one connection at once. `BadArgument`, `Denied` (with the nearest rule, or the address that is
///   not allowed), `NameNotResolved`, `TimedOut`, `LimitReached`; `Revoked` when the Net is revoked while it
///   waits. A Net that a program implements: what that program answers, and `CalleeFailed`, also for another name or
///   port; the Name needs what both Nets allow.
/// - **Traps** as `net_connect`. Suspends the guest until there is an answer.
pub(super) async fn resolve(call: &mut Call<'_>) -> Reply {
    let net = call.key(0)?;
    call.state().table.get(net)?.net()?;
    let bytes = copy_in(call, call.int(0), call.int(1), NAME_BYTES, "the name")?;
    let bad = |why: String| Refusal::new(ErrorCode::BadArgument, why);
    let text = String::from_utf8(bytes).map_err(|_| bad("the name is not UTF-8".to_owned()))?;
    let name = DnsName::new(&text).map_err(|error| bad(format!("{text:?}: {error}")))?;
    let port = u16::try_from(call.int(2))
        .ok()
        .filter(|&port| port != 0)
        .ok_or_else(|| bad(format!("{} is not a port from 1 to 65535", call.int(2))))?;
    let timeout = connect_time(call, 3).limit();
    let asked = Use::Resolve(&name, port);
    if let Some(reply) = implemented::through(call, net, asked, timeout).await {
        return reply;
    }
    make_room(call, 1)?;
    let (key, door) = loop {
        let rights = call.state().table.rights(net)?.to_owned();
        let door = Arc::new(NameDoor::new(rights, name.clone(), port)?);
        // In the lineage before the resolver is asked, so that revoking the Net ends the look-up.
        let object = Object::Name(door.clone());
        match call.state_mut().table.derive(net, object, Own::default()) {
            Ok(key) => break (key, door),
            Err(NoBirth::Stale) => call.state_mut().read_letters(),
            Err(barren) => return Err(Refusal::from(barren).into()),
        }
    };
    let label = call.state().table.label(key).cloned().unwrap_or_default();
    let operation = format!("resolve {}", door.name());
    audit::used(key.id(), &label, call.state().mailbox.vat(), &operation);
    let resolved = match door.may_be_asked_for() {
        Ok(()) => {
            let resolver = call.state().resolver();
            door.resolve(resolver.resolve(door.name()), timeout).await
        }
        Err(refusal) => Err(refusal),
    };
    if call.state().has_letters() {
        call.state_mut().read_letters();
    }
    match resolved.and_then(|()| Ok(call.state().table.get(key).map(|_| ())?)) {
        Ok(()) => Ok(Outcome::One(key)),
        Err(refusal) => {
            call.state_mut().table.close(key);
            Err(refusal.into())
        }
    }
}

/// `name_connect(name, timeout_ms) -> (stream, status)`: open a TCP connection to what the name stands for.
///
/// - **Needs** a Name, and a time as for `net_connect`.
/// - **Checks** that the answer is still good; then, for each address before its first packet, what
///   `net_connect` checks, with the name as the remote end, and that the address may stand for it.
/// - **Returns** a TcpStream derived from the Name: to the first address that takes the connection. `Expired`
///   when the answer is no longer good; otherwise as `net_connect`.
/// - **Traps** never. Suspends the guest until the connection is there or not.
pub(super) async fn connect(call: &mut Call<'_>) -> Reply {
    let name = call.key(0)?;
    let table = &call.state().table;
    let door = table.get(name)?.name()?.clone();
    let account = table.account(name)?.cloned();
    let time = connect_time(call, 0);
    make_room(call, 1)?;
    let (permit, connection) = connection_permit(call, account.as_ref())?;
    let connecting = door.connect(time.limit(), permit)?;
    finish(call, name, (connecting, connection), time).await
}

/// `name_describe(name, buffer, length) -> status`: what does it stand for?
///
/// - **Needs** a Name, and a buffer.
/// - **Checks** nothing more.
/// - **Returns** the length of a text with the name, the port, the addresses, and for how long they are good,
///   and its beginning in the buffer.
/// - **Traps** never.
pub(super) fn describe(call: &mut Call<'_>) -> Reply {
    let door = call.state().table.get(call.key(0)?)?.name()?.clone();
    let span = Span::new(call, call.int(0), call.int(1))?;
    let text = door.describe()?;
    Ok(Outcome::Done(span.answer(call, text.as_bytes())))
}
