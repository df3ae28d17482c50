//! What a guest can do with a Net.

use std::time::Duration;

use refcap_abi::{ErrorCode, wire};
use refcap_authority::{Authority, DeriveError, Query, Rules};

use super::memory::{Span, copy_in};
use crate::audit;
use crate::capability::Key;
use crate::capability::table::{Entry, NoBirth, Object};
use crate::net::{TcpDoor, connect};
use crate::references::{Call, Failure, Outcome, Reply};
use crate::vat::Refusal;

/// The longest query in its binary form, with room for a name of 255 bytes.
const QUERY_BYTES: usize = 512;

/// `net_only(net, rules, length) -> (net, status)`: derive by intersection.
///
/// - **Needs** a Net, and rules in the binary form of `refcap_authority::Rules`.
/// - **Checks** that the rules decode, their size, the vat's limits on capabilities, depth and fan-out.
/// - **Returns** a new Net that allows what the old one and the rules allow; what a rule leaves out stays
///   as it is. `BadArgument`, `LimitReached`, `TooComplex`.
/// - **Traps** never.
pub(super) fn only(call: &mut Call<'_>) -> Reply {
    derive(call, |authority, rules| {
        authority
            .only(rules)
            .map_err(|error| Refusal::new(ErrorCode::TooComplex, error))
    })
}

/// `net_exactly(net, rules, length) -> (net, status)`: derive, or fail if that would be more.
///
/// - **Needs** a Net, and rules in their binary form.
/// - **Checks** as `net_only` does, and that the rules are a subset of what the Net allows.
/// - **Returns** a new Net that allows just what the rules allow. `NotSubset` (the message names the rule
///   and the field), and as `net_only`.
/// - **Traps** never.
pub(super) fn exactly(call: &mut Call<'_>) -> Reply {
    derive(call, |authority, rules| {
        authority.exactly(rules).map_err(|error| {
            let code = match error {
                DeriveError::NotSubset { .. } => ErrorCode::NotSubset,
                _ => ErrorCode::TooComplex,
            };
            Refusal::new(code, error)
        })
    })
}

/// `net_except(net, rules, length) -> (net, status)`: derive by taking away.
///
/// - **Needs** a Net, and rules in their binary form.
/// - **Checks** as `net_only` does.
/// - **Returns** a new Net that allows what the old one allows and the rules do not. Errors as
///   `net_only`.
/// - **Traps** never.
pub(super) fn except(call: &mut Call<'_>) -> Reply {
    derive(call, |authority, rules| {
        authority
            .except(rules)
            .map_err(|error| Refusal::new(ErrorCode::TooComplex, error))
    })
}

fn derive(call: &mut Call<'_>, narrow: impl Fn(&Authority, &Rules) -> Result<Authority, Refusal>) -> Reply {
    let parent = call.key(0)?;
    call.state().table.get(parent)?.net()?;
    let limit = call.state().limits.rule_bytes;
    let bytes = copy_in(call, call.int(0), call.int(1), limit, "the set of rules")?;
    let rules = Rules::decode(&bytes).map_err(|error| Refusal::new(ErrorCode::BadArgument, error))?;
    make_room(call, 1)?;
    loop {
        let authority = narrow(call.state().table.get(parent)?.net()?, &rules)?;
        match call.state_mut().table.derive(parent, Object::Net(authority)) {
            Ok(net) => return Ok(Outcome::One(net)),
            Err(NoBirth::Stale) => call.state_mut().read_letters(),
            Err(barren) => return Err(Refusal::from(barren).into()),
        }
    }
}

/// `net_revocable(net) -> (net, revoker, status)`: derive something that can be taken back.
///
/// - **Needs** a Net.
/// - **Checks** the vat's limits.
/// - **Returns** a Net that allows the same, and a Revoker that ends it and all that comes from it.
///   `LimitReached`.
/// - **Traps** never.
pub(super) fn revocable(call: &mut Call<'_>) -> Reply {
    let parent = call.key(0)?;
    call.state().table.get(parent)?.net()?;
    make_room(call, 2)?;
    loop {
        match call.state_mut().table.derive_revocable(parent) {
            Ok((net, revoker)) => return Ok(Outcome::Two(net, revoker)),
            Err(NoBirth::Stale) => {
                call.state_mut().read_letters();
                call.state().table.get(parent)?.net()?;
            }
            Err(barren) => return Err(Refusal::from(barren).into()),
        }
    }
}

/// `net_connect(net, address, length, timeout_ms) -> (stream, status)`: open a TCP connection.
///
/// - **Needs** a Net, an address in its wire form, and a time in milliseconds (0 for the vat's own
///   limit).
/// - **Checks**, before any packet leaves: the remote address and the IPv4 addresses inside it; that some
///   local end is granted towards it; what the socket was really bound to. And the limits on sockets and
///   capabilities.
/// - **Returns** a TcpStream derived from the Net. `BadArgument`, `Denied` (with the nearest rule),
///   `AddressNotAvailable`, `AddressInUse`, `ConnectionRefused`, `ConnectionReset`, `Unreachable`,
///   `TimedOut`, `LimitReached`, `Io`; `Revoked` when the Net is revoked while it waits.
/// - **Traps** never. Suspends the guest until the connection is there or not.
pub(super) async fn connect(call: &mut Call<'_>) -> Reply {
    let net = call.key(0)?;
    call.state().table.get(net)?.net()?;
    let bytes = copy_in(call, call.int(0), call.int(1), wire::MAX_ADDRESS, "the address")?;
    let remote = wire::decode_address(&bytes)
        .ok_or_else(|| Refusal::new(ErrorCode::BadArgument, "the address is not in its wire form"))?;
    let timeout = connect_time(call);
    make_room(call, 1)?;
    let permit = call
        .state()
        .socket_permit()
        .ok_or_else(|| Refusal::limit(format_args!("{} open sockets", call.state().limits.sockets)))?;
    let plan = connect::prepare(call.state().table.get(net)?.net()?, remote, permit)?;
    let (socket, door) = (plan.socket, plan.door);
    // From here on the connection is in the lineage: whoever revokes the Net ends it, in whatever state.
    let stream = match call
        .state_mut()
        .table
        .derive(net, Object::TcpStream(door.clone()))
    {
        Ok(stream) => stream,
        // Narrowed since the check: the guest can ask again, and will be told what is allowed now.
        Err(NoBirth::Stale) => return Err(denied_now(call, net, &door)),
        Err(barren) => return Err(Refusal::from(barren).into()),
    };
    let connected = door.connect(socket, timeout).await;
    if call.state().has_letters() {
        call.state_mut().read_letters();
    }
    match connected.and_then(|()| confirm(call, net, stream, &door)) {
        Ok(()) => {
            let label = call.state().table.get(stream)?.label().clone();
            audit::used(stream.id(), &label, call.state().mailbox.vat(), &door.query());
            Ok(Outcome::One(stream))
        }
        Err(refusal) => {
            call.state_mut().table.close(stream);
            Err(refusal.into())
        }
    }
}

/// The last look before a stream is handed out: both ends are known now, and the Net may allow less than
/// it did when the connection was begun.
fn confirm(call: &Call<'_>, net: Key<Entry>, stream: Key<Entry>, door: &TcpDoor) -> Result<(), Refusal> {
    call.state().table.get(stream)?;
    let authority = call.state().table.get(net)?.net()?;
    door.check(authority)
}

/// The error for a Net that was narrowed while a connection was prepared.
fn denied_now(call: &mut Call<'_>, net: Key<Entry>, door: &TcpDoor) -> Failure {
    call.state_mut().read_letters();
    let authority = match call.state().table.get(net).and_then(Entry::net) {
        Ok(authority) => authority,
        Err(code) => return code.into(),
    };
    Refusal::denied(authority.clone(), door.query()).into()
}

fn connect_time(call: &Call<'_>) -> Duration {
    let limit = call.state().limits.connect_timeout;
    match call.int(2) {
        0 => limit,
        milliseconds => limit.min(Duration::from_millis(u64::from(milliseconds.cast_unsigned()))),
    }
}

/// `net_allows(net, query, length) -> status`: would it be allowed?
///
/// - **Needs** a Net, and a query in its binary form.
/// - **Checks** that the query decodes.
/// - **Returns** 1 if the Net allows it for at least one choice of what the query leaves open, else 0.
///   `BadArgument`. An answer of 1 says nothing about whether the other end can be reached.
/// - **Traps** never.
pub(super) fn allows(call: &mut Call<'_>) -> Reply {
    let net = call.key(0)?;
    call.state().table.get(net)?.net()?;
    let bytes = copy_in(call, call.int(0), call.int(1), QUERY_BYTES, "the query")?;
    let query = Query::decode(&bytes).map_err(|error| Refusal::new(ErrorCode::BadArgument, error))?;
    let allowed = call.state().table.get(net)?.net()?.allows(&query);
    Ok(Outcome::Done(i32::from(allowed)))
}

/// `net_describe(net, buffer, length) -> status`: what does it allow?
///
/// - **Needs** a Net, and a buffer.
/// - **Checks** nothing more.
/// - **Returns** the length of the rules as text, and their beginning in the buffer.
/// - **Traps** never.
pub(super) fn describe(call: &mut Call<'_>) -> Reply {
    let net = call.key(0)?;
    call.state().table.get(net)?.net()?;
    let span = Span::new(call, call.int(0), call.int(1))?;
    let text = call.state().table.get(net)?.net()?.to_string();
    Ok(Outcome::Done(span.answer(call, text.as_bytes())))
}

/// Makes sure that the vat may have `count` more capabilities. If it seems not, the collector gets a
/// chance to find some that the guest has dropped without closing.
pub(super) fn make_room(call: &mut Call<'_>, count: usize) -> Result<(), Failure> {
    if call.state().table.room_for(count).is_err() {
        call.collect()?;
        call.state().table.room_for(count).map_err(Refusal::from)?;
    }
    Ok(())
}
