//! What a guest can do with a Membrane.

use std::sync::Arc;

use refcap_abi::ErrorCode;

use super::object::granted_name;
use super::open::make_room;
use crate::capability::membrane::{Cut, Membranes};
use crate::capability::table::Object;
use crate::references::{Call, Outcome, Reply};
use crate::vat::Refusal;

/// `membrane_new() -> (membrane, status)`: make a membrane.
///
/// - **Needs** nothing.
/// - **Checks** the vat's limit on capabilities.
/// - **Returns** a Membrane, through which nothing has crossed. `LimitReached`.
/// - **Traps** never.
pub(super) fn new(call: &mut Call<'_>) -> Reply {
    make_room(call, 1)?;
    let object = Object::Membrane(Arc::new(Cut::default()));
    let made = call.state_mut().table.plant("membrane", object);
    Ok(Outcome::One(made.map_err(Refusal::from)?))
}

/// `membrane_wrap(membrane, capability) -> (capability, status)`: put a capability behind a membrane, to be handed to
/// those on the other side.
///
/// - **Needs** a Membrane, and a capability of any kind but a Poller or a Child.
/// - **Checks** that the membrane was not cut; that the capability may be handed on; how many membranes it is behind
///   (`MAX_MEMBRANES`); the vat's limits.
/// - **Returns** a capability that ends when the membrane is cut, with all that is derived from it or obtained through
///   it. When it is an Object, all that goes along with calls of it, and all that comes back, crosses the membrane too.
///   Of a socket or a Name it is the capability itself, and the old reference is `Closed` from now on. `Revoked` when
///   the membrane was cut, `NotTransferable`, `LimitReached`.
/// - **Traps** never.
pub(super) fn wrap(call: &mut Call<'_>) -> Reply {
    let (membrane, inside) = (call.key(0)?, call.key(1)?);
    let cut = call.state().table.get(membrane)?.membrane()?.clone();
    call.state().table.get(inside)?;
    if cut.is_cut() {
        return Err(Refusal::new(ErrorCode::Revoked, "the membrane was cut").into());
    }
    make_room(call, 1)?;
    let table = &mut call.state_mut().table;
    let mut capability = table.hand_over(inside).map_err(Refusal::from)?;
    capability.enclose(&Membranes::of(&cut)).map_err(Refusal::from)?;
    let wrapped = table.accept(granted_name(&capability), &capability);
    Ok(Outcome::One(wrapped.map_err(Refusal::from)?))
}

/// `membrane_cut(membrane) -> status`: end all that crossed.
///
/// - **Needs** a Membrane.
/// - **Checks** nothing more.
/// - **Returns** how many capabilities ended: all that crossed in either direction, and all that was derived from it or
///   obtained through it, in every vat; 0 when it was cut before. When it returns, no operation through any of them
///   starts. Nothing crosses any more.
/// - **Traps** never.
pub(super) fn cut(call: &mut Call<'_>) -> Reply {
    let table = &call.state().table;
    let entry = table.get(call.key(0)?)?;
    let (membrane, label) = (entry.membrane()?.clone(), table.origin(entry)?.label.clone());
    let ended = membrane.cut(&label, Some(call.state().mailbox.vat()));
    // Its own capabilities may be among them.
    call.state_mut().read_letters();
    Ok(Outcome::Done(i32::try_from(ended).unwrap_or(i32::MAX)))
}
