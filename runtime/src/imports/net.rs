//! What a guest can derive from a Net, and ask it. What it can do with one on the network is in
//! [`open`](super::open).

use refcap_abi::ErrorCode;
use refcap_authority::{DeriveError, Query, Request, Terms};

use super::memory::{Span, at_most, bytes_at, copy_in};
use super::open::make_room;
use crate::capability::Key;
use crate::capability::entry::Entry;
use crate::capability::rights::{Less, RightsRef, TermsRefused, label_under, lease_end};
use crate::capability::table::{NoBirth, Own};
use crate::references::{Call, Outcome, Reply};
use crate::vat::{Refusal, VatState};

/// The longest query in its binary form, with room for a name of 255 bytes.
const QUERY_BYTES: usize = 512;

/// `net_only(net, rules, length) -> (net, status)`: derive by intersection.
///
/// - **Needs** a Net, and rules in the binary form of `refcap_authority::Rules`.
/// - **Checks** that the Net may be derived from, that the rules decode, their size, the vat's limits on
///   capabilities, depth and fan-out.
/// - **Returns** a new Net that allows what the old one and the rules allow; what a rule leaves out stays
///   as it is. `NotDerivable`, `BadArgument`, `LimitReached`, `TooComplex`.
/// - **Traps** never.
pub(super) fn only(call: &mut Call<'_>) -> Reply {
    by_rules(call, |rights, request| {
        rights
            .only(request)
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
    by_rules(call, |rights, request| {
        rights.exactly(request).map_err(|error| {
            let code = match error {
                DeriveError::TooComplex(_) => ErrorCode::TooComplex,
                _ => ErrorCode::NotSubset,
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
    by_rules(call, |rights, request| {
        rights
            .except(request)
            .map_err(|error| Refusal::new(ErrorCode::TooComplex, error))
    })
}

/// `net_limit(net, terms, length) -> (net, status)`: derive on further terms.
///
/// - **Needs** a Net, and terms in the text form of `refcap_authority::Terms`.
/// - **Checks** as `net_only` does.
/// - **Returns** a new Net to the same things, with the label, the lease, the flags and the budget of the
///   terms. The budget draws on that of the old one. `NotDerivable`, `BadArgument` (with the place in the
///   text), `LimitReached`.
/// - **Traps** never.
pub(super) fn limit(call: &mut Call<'_>) -> Reply {
    let net = call.key(0)?;
    call.state().table.get(net)?.net()?;
    let limit = call.state().limits.rule_bytes;
    let bytes = copy_in(call, call.int(0), call.int(1), limit, "the terms")?;
    let bad = |why: String| Refusal::new(ErrorCode::BadArgument, why);
    let text = String::from_utf8(bytes).map_err(|_| bad("the terms are not UTF-8".to_owned()))?;
    let terms: Terms = text.parse().map_err(|error| bad(format!("{error}")))?;
    derive(call, Some(&terms), |rights| {
        rights.limit(&terms).map_err(|error| match error {
            TermsRefused::Terms(error) => Refusal::new(ErrorCode::BadArgument, error),
            TermsRefused::Implemented => Refusal::new(ErrorCode::BadArgument, error),
            TermsRefused::TooManyBudgets => Refusal::new(ErrorCode::LimitReached, error),
        })
    })
}

fn by_rules(call: &mut Call<'_>, narrow: impl Fn(RightsRef<'_>, &Request) -> Result<Less, Refusal>) -> Reply {
    call.state().table.get(call.key(0)?)?.net()?;
    let limit = call.state().limits.rule_bytes;
    let (pointer, length) = (call.int(0), call.int(1));
    let (bytes, _) = bytes_at(call, pointer, length)?;
    at_most(bytes.len(), limit, "the set of rules")?;
    // Looked at where it is: it is large, and just written.
    let request = Request::decode(bytes);
    let request = request
        .as_ref()
        .map_err(|error| Refusal::new(ErrorCode::BadArgument, error))?;
    derive(call, None, |rights| narrow(rights, request))
}

pub(super) fn derive(
    call: &mut Call<'_>,
    terms: Option<&Terms>,
    narrow: impl Fn(RightsRef<'_>) -> Result<Less, Refusal>,
) -> Reply {
    let parent = call.key(0)?;
    make_room(call, 1)?;
    loop {
        let table = &call.state().table;
        let less = narrow(may_be_derived(table.rights(parent)?)?)?;
        let own = match terms {
            None => Own::default(),
            Some(terms) => Own {
                label: Some(label_under(&table.origin(table.get(parent)?)?.label, terms)),
                lease: lease_end(terms),
            },
        };
        match call.state_mut().table.derive_net(parent, less, own) {
            Ok(net) => return Ok(Outcome::One(net)),
            Err(NoBirth::Stale) => call.state_mut().read_letters(),
            Err(barren) => return Err(Refusal::from(barren).into()),
        }
    }
}

fn may_be_derived(rights: RightsRef<'_>) -> Result<RightsRef<'_>, ErrorCode> {
    match rights.conditions.derivable {
        true => Ok(rights),
        false => Err(ErrorCode::NotDerivable),
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
    may_be_derived(call.state().table.rights(parent)?)?;
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

/// `net_flags(net) -> status`: what may be done with the Net itself?
///
/// - **Needs** a Net.
/// - **Checks** nothing more.
/// - **Returns** `FLAG_DERIVABLE` if others can be derived from it, and `FLAG_TRANSFERABLE` if it may be handed to
///   another vat, added.
/// - **Traps** never.
pub(super) fn flags(state: &VatState, net: Key<Entry>) -> Result<i32, ErrorCode> {
    state.table.get(net)?.flags()
}
