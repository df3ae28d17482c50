//! What a guest can do with a Revoker, and with any capability.

use refcap_abi::ErrorCode;

use crate::audit;
use crate::capability::Key;
use crate::capability::entry::{Entry, Origin};
use crate::references::{Call, Outcome, Reply};
use crate::vat::VatState;

/// `revoker_revoke(revoker) -> status`: end what the revoker was made for.
///
/// - **Needs** a Revoker.
/// - **Checks** nothing more.
/// - **Returns** how many capabilities ended: the Net that was returned beside the Revoker, and all that
///   was derived from it or obtained through it, in every vat; 0 when it was revoked before. When it
///   returns, no operation through any of them starts.
/// - **Traps** never.
pub(super) fn revoke(call: &mut Call<'_>) -> Reply {
    let table = &call.state().table;
    let entry = table.get(call.key(0)?)?;
    let target = entry.revoker()?;
    let Origin { tree, label, .. } = table.origin(entry)?;
    let (tree, label) = (tree.clone(), label.clone());
    let ended = tree.revoke(target);
    audit::revoke(target.id(), &label, Some(call.state().mailbox.vat()), ended);
    // Its own capabilities are among them.
    call.state_mut().read_letters();
    Ok(Outcome::Done(i32::try_from(ended).unwrap_or(i32::MAX)))
}

/// `cap_kind(capability) -> status`: what is it a capability to?
///
/// - **Needs** a capability of any kind.
/// - **Checks** nothing more.
/// - **Returns** the code of its kind.
/// - **Traps** never.
pub(super) fn kind(state: &VatState, capability: Key<Entry>) -> Result<i32, ErrorCode> {
    Ok(state.table.get(capability)?.object().kind().code())
}

/// `cap_close(capability) -> status`: give a capability up.
///
/// - **Needs** a capability of any kind, also one that was revoked or whose lease has ended.
/// - **Checks** nothing more.
/// - **Returns** 0. Every copy of this reference is of no use from now on (`Closed`). A connection is
///   closed; what was derived from a Net lives on. Closing a Revoker revokes nothing. `Revoked` when
///   there was nothing left to close; the reference is of no use then all the same.
/// - **Traps** never.
pub(super) fn close(call: &mut Call<'_>) -> Reply {
    let key = call.key(0)?;
    if call.state_mut().table.close(key) {
        Ok(Outcome::Done(0))
    } else {
        Err(ErrorCode::Revoked.into())
    }
}
