//! Nets that programs implement: the host checks what it always checks, and then asks the program for the socket.

use std::time::Duration;

use refcap_abi::guard::Act;
use refcap_abi::service::NetRequest;
use refcap_abi::{ErrorCode, Kind};
use refcap_authority::{DnsName, Operation, Protocol, Query, Remote, Rules};

use super::memory::copy_in;
use super::object::call_from_host;
use super::open::make_room;
use crate::audit;
use crate::capability::entry::Entry;
use crate::capability::rights::Rights;
use crate::capability::table::{NoBirth, Object, Own};
use crate::capability::{Capability, Key, Obtained};
use crate::guard::Asked;
use crate::object::Message;
use crate::references::{Call, Outcome, Reply};
use crate::vat::Refusal;

/// `object_as_net(object, rules, length) -> (net, status)`: make a Net that a program implements.
///
/// - **Needs** an Object, and rules in their binary form: what the Net allows. They give nobody anything, for all
///   that is done through the Net is done by the program that implements the object, with what it has.
/// - **Checks** that the rules decode, and their size; the vat's limits.
/// - **Returns** a Net, derived from the Object. It can be used wherever a Net can be, narrowed, guarded and handed on, and
///   ends with its object. When it is to be used, the host checks that it is allowed, asks the guards before it, and then
///   calls the object, by the methods of `refcap_abi::service`, for a socket or a Name. `BadArgument`, `TooComplex`,
///   `LimitReached`.
/// - **Traps** never.
pub(super) fn as_net(call: &mut Call<'_>) -> Reply {
    let parent = call.key(0)?;
    let line = call.state().table.get(parent)?.line()?.clone();
    let limit = call.state().limits.rule_bytes;
    let bytes = copy_in(call, call.int(0), call.int(1), limit, "the set of rules")?;
    let rules = Rules::decode(&bytes).map_err(|error| Refusal::new(ErrorCode::BadArgument, error))?;
    let rights =
        Rights::implemented(line, &rules).map_err(|error| Refusal::new(ErrorCode::TooComplex, error))?;
    make_room(call, 1)?;
    let table = &mut call.state_mut().table;
    let made = table.derive_net(parent, rights.into(), Own::default());
    Ok(Outcome::One(made.map_err(Refusal::from)?))
}

/// What is to be done through a Net that a program implements.
pub(super) enum Use<'a> {
    Request(NetRequest<'a>),
    Resolve(&'a DnsName, u16),
}

impl Use<'_> {
    fn request(&self) -> NetRequest<'_> {
        match self {
            Use::Request(request) => *request,
            Use::Resolve(name, port) => NetRequest::Resolve {
                name: name.as_str(),
                port: *port,
            },
        }
    }

    /// What the authority is asked.
    fn query(&self) -> Query {
        match self {
            Use::Resolve(name, port) => {
                Query::new(Operation::Connect, Protocol::Tcp).remote(Remote::Name((*name).clone(), *port))
            }
            Use::Request(NetRequest::Connect { remote, local }) => {
                let query = Query::new(Operation::Connect, Protocol::Tcp).remote(*remote);
                match local {
                    Some(local) => query.local(*local),
                    None => query,
                }
            }
            Use::Request(NetRequest::Listen { local, .. }) => {
                Query::new(Operation::Listen, Protocol::Tcp).local(*local)
            }
            Use::Request(NetRequest::BindUdp { local }) => Query::bind(Protocol::Udp, *local),
            Use::Request(NetRequest::Resolve { .. }) => Query::new(Operation::Connect, Protocol::Tcp),
        }
    }

    /// What can be said before the program is asked: for port 0 the address is known afterwards.
    fn is_allowed_by(&self, rights: &Rights) -> Result<(), Refusal> {
        let is_chosen_later = match self {
            Use::Request(NetRequest::Listen { local, .. } | NetRequest::BindUdp { local }) => {
                local.port() == 0
            }
            _ => false,
        };
        let query = self.query();
        match is_chosen_later || rights.authority.allows(&query) {
            true => Ok(()),
            false => Err(Refusal::denied(rights.authority.clone(), query)),
        }
    }

    /// Guards are asked about a local end when it is known.
    fn ask_guards_of(&self, rights: &Rights) -> Result<(), Refusal> {
        match self {
            Use::Request(NetRequest::Connect { remote, local }) => {
                let asked = Asked::between(Act::Connect, Protocol::Tcp, *local, *remote);
                rights.conditions.guards.check(&asked)
            }
            Use::Resolve(name, port) => {
                rights
                    .conditions
                    .guards
                    .check(&Asked::name(Act::Resolve, name, *port))
            }
            Use::Request(_) => Ok(()),
        }
    }

    /// Lets what the program gave also need what the Net allows. A connection needs nothing more.
    fn let_need_also(&self, rights: &Rights, object: &Object) -> Result<(), Refusal> {
        match (self, object) {
            (Use::Request(NetRequest::Listen { .. }), Object::TcpListener(door)) => door.also(rights),
            (Use::Request(NetRequest::BindUdp { .. }), Object::UdpSocket(door)) => door.also(rights),
            (Use::Resolve(name, port), Object::Name(door)) => {
                if (door.name(), door.port()) != (*name, *port) {
                    let why = format!(
                        "the program that implements the Net answered with {}:{}, and was asked for {name}:{port}",
                        door.name(),
                        door.port()
                    );
                    return Err(Refusal::new(ErrorCode::CalleeFailed, why));
                }
                door.also(rights)
            }
            _ => Ok(()),
        }
    }
}

/// What a Net allows that a program implements. `None` where it is the host that does.
pub(super) fn by_program(call: &Call<'_>, net: Key<Entry>) -> Option<Rights> {
    let rights = call.state().table.rights(net).ok()?;
    let is_by_program = rights.conditions.by.is_some();
    is_by_program.then(|| rights.to_owned())
}

/// Uses a Net that a program implements. `None` where it is the host that does.
pub(super) async fn through(
    call: &mut Call<'_>,
    net: Key<Entry>,
    what: Use<'_>,
    time: Duration,
) -> Option<Reply> {
    let rights = by_program(call, net)?;
    // What that needs room for, most connections don't: in a box of its own it costs nobody else.
    Some(Box::pin(ask(call, net, &rights, &what, time)).await)
}

/// Asks the program that implements a Net, which has these rights.
pub(super) async fn ask(
    call: &mut Call<'_>,
    net: Key<Entry>,
    rights: &Rights,
    what: &Use<'_>,
    time: Duration,
) -> Reply {
    what.is_allowed_by(rights)?;
    what.ask_guards_of(rights)?;
    make_room(call, 1)?;
    let line = rights.conditions.by.clone().ok_or(ErrorCode::WrongKind)?;
    let label = call.state().table.label(net).cloned().unwrap_or_default();
    audit::used(net.id(), &label, call.state().mailbox.vat(), &what.query());
    let request = what.request();
    let answer = call_from_host(call, &line, request.method(), request.encode(), time).await?;
    let (given, object) = of_kind(answer, request.answer())?;
    // The Net may have been revoked or narrowed meanwhile.
    call.state_mut().read_letters();
    let rights = call.state().table.rights(net)?.to_owned();
    what.is_allowed_by(&rights)?;
    what.let_need_also(&rights, &object)?;
    let obtained = Obtained::from(given, what.query());
    loop {
        let state = call.state_mut();
        match state.table.obtain(net, object.clone(), obtained.clone()) {
            Ok(key) => return Ok(Outcome::One(key)),
            // Narrowed in the last moment.
            Err(NoBirth::Stale) => {
                state.read_letters();
                let rights = state.table.rights(net)?.to_owned();
                what.is_allowed_by(&rights)?;
                if !obtained.restrict(&object, &rights.authority) {
                    return Err(Refusal::denied(rights.authority.clone(), what.query()).into());
                }
            }
            Err(barren) => return Err(Refusal::from(barren).into()),
        }
    }
}

/// The one capability of an answer, which must be of that kind.
fn of_kind(answer: Message, kind: Kind) -> Result<(Capability, Object), Refusal> {
    let given = answer.into_first();
    let found = given.as_ref().map(Capability::kind);
    match given.and_then(|given| given.object().cloned().map(|object| (given, object))) {
        Some((given, object)) if object.kind() == kind => Ok((given, object)),
        _ => {
            let found = found.map_or("nothing".to_owned(), |found| format!("a {found}"));
            let why =
                format!("the program that implements the Net answered with {found}, and not with a {kind}");
            Err(Refusal::new(ErrorCode::CalleeFailed, why))
        }
    }
}
