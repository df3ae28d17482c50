//! What a guest can do with guards: bring one, and put it before a Net.

use std::sync::Arc;

use refcap_abi::ErrorCode;

use super::memory::copy_in;
use super::net::derive;
use super::open::make_room;
use crate::audit;
use crate::capability::table::Object;
use crate::guard::{Guard, GuardError, MAX_GUARD_BYTES};
use crate::references::{Call, Outcome, Reply};
use crate::vat::Refusal;

/// `guard_new(module, length) -> (guard, status)`: bring a guard.
///
/// - **Needs** a module in its binary form, with the interface of `refcap_abi::guard`. A guard gives no authority.
/// - **Checks** that it imports nothing, exports what a guard does, is valid without references, and starts; its
///   size (`MAX_GUARD_BYTES`); the vat's limits on guards and capabilities.
/// - **Returns** a Guard. `BadArgument` (with what is wrong with the module), `LimitReached`, `Io` when the compiler
///   fails.
/// - **Traps** never. Suspends the guest while the module is compiled.
pub(super) async fn new(call: &mut Call<'_>) -> Reply {
    let bytes = copy_in(call, call.int(0), call.int(1), MAX_GUARD_BYTES, "the guard")?;
    let permit = call.state().guard_permit()?;
    make_room(call, 1)?;
    // Not on this thread, where others have their turn.
    let compiling = tokio::task::spawn_blocking(move || Guard::compile_for(permit, &bytes));
    let compiled = compiling
        .await
        .map_err(|error| Refusal::new(ErrorCode::Io, format_args!("the compiler failed: {error}")))?;
    let guard = compiled.map_err(refusal)?;
    if call.state().has_letters() {
        call.state_mut().read_letters();
    }
    let key = call.state_mut().table.plant("guard", Object::Guard(guard));
    Ok(Outcome::One(key.map_err(Refusal::from)?))
}

/// `net_guarded(net, guard) -> (net, status)`: derive a Net before which the guard stands.
///
/// - **Needs** a Net, and a Guard.
/// - **Checks** that the Net may be derived from; that fewer than `MAX_GUARDS` stand before it; the vat's limits on
///   guards, capabilities, depth and fan-out.
/// - **Returns** a Net that allows what the old one allows and the guard says yes to. The guard is asked when the old
///   one has permitted, also for each datagram, peer and address of a name, with a memory of its own that all that is
///   derived from the new Net share; closing the Guard changes nothing. What it does not say yes to is `Denied`, and
///   the message says which guard it was, and whether it said no, gave no answer, or failed. `NotDerivable`,
///   `LimitReached`, `BadArgument` when the guard does not start.
/// - **Traps** never.
pub(super) fn guarded(call: &mut Call<'_>) -> Reply {
    call.state().table.get(call.key(0)?)?.net()?;
    let number = call.key(1)?;
    let guard = call.state().table.get(number)?.guard()?.clone();
    let permit = call.state().guard_permit()?;
    let name = number.id().get().to_string();
    let post = Arc::new(guard.post(&name, Some(permit)).map_err(refusal)?);
    let outcome = derive(call, None, |rights| rights.guarded(post.clone()).map_err(refusal))?;
    if let Outcome::One(net) = &outcome
        && audit::is_watched()
    {
        let label = call.state().table.label(*net).cloned().unwrap_or_default();
        audit::guard(net.id(), &label, Some(call.state().mailbox.vat()), &name);
    }
    Ok(outcome)
}

fn refusal(error: GuardError) -> Refusal {
    let code = match error {
        GuardError::TooMany | GuardError::TooLarge { .. } | GuardError::TooMuchCode { .. } => {
            ErrorCode::LimitReached
        }
        _ => ErrorCode::BadArgument,
    };
    Refusal::new(code, error)
}
