//! What a guest can ask of its vat, without a capability.

use refcap_abi::{ErrorCode, endowment};

use super::memory::{Span, copy_in};
use super::open::make_room;
use crate::limits::REPORT_BYTES;
use crate::references::{Call, Outcome, Reply};
use crate::vat::Refusal;

/// `grant_take(name, length) -> (capability, status)`: take what the embedder granted since the start.
///
/// - **Needs** a name.
/// - **Checks** that the program that is run asks, and not one that is linked to it; the vat's limits.
/// - **Returns** a capability that the embedder left for this vat under that name, once. `NotFound`,
///   `BadArgument`, `LimitReached`, `Revoked` when it was revoked before it was taken,
///   `NotTransferable` when it may be held by one program only and another one has it.
/// - **Traps** never.
pub(super) fn grant_take(call: &mut Call<'_>) -> Reply {
    let bytes = copy_in(call, call.int(0), call.int(1), endowment::MAX_NAME, "the name")?;
    let name = String::from_utf8(bytes)
        .map_err(|_| Refusal::new(ErrorCode::BadArgument, "the name is not UTF-8"))?;
    make_room(call, 1)?;
    let parcel = match call.instance() {
        0 => call.state().mailbox.pick_up(&name),
        // What is granted is granted to the program that is run. It may hand it on.
        _ => None,
    };
    let Some(grant) = parcel else {
        let why = format!("nothing was granted under the name `{name}`");
        return Err(Refusal::new(ErrorCode::NotFound, why).into());
    };
    match call.state_mut().table.accept(&name, &grant) {
        Ok(key) => Ok(Outcome::One(key)),
        Err(barren) => {
            if grant.is_alive() {
                // The guest may make room and ask again.
                call.state().mailbox.leave(&name, grant);
            }
            Err(Refusal::from(barren).into())
        }
    }
}

/// `error_message(buffer, length) -> status`: why the last failed call failed.
///
/// - **Needs** a buffer.
/// - **Checks** nothing more.
/// - **Returns** the length of the message, and its beginning in the buffer; 0 when no call has failed.
/// - **Traps** never.
pub(super) fn error_message(call: &mut Call<'_>) -> Reply {
    let span = Span::new(call, call.int(0), call.int(1))?;
    let message = call.state().last_error_message(call.instance());
    Ok(Outcome::Done(span.answer(call, message.as_bytes())))
}

/// `time_now(buffer, length) -> status`: how long has this program been running?
///
/// - **Needs** a buffer.
/// - **Checks** nothing more.
/// - **Returns** 8, and in the buffer the beginning of a 64-bit number, little-endian: nanoseconds since
///   the program was started. It never goes backwards, and says nothing of the date.
/// - **Traps** never.
pub(super) fn time_now(call: &mut Call<'_>) -> Reply {
    let span = Span::new(call, call.int(0), call.int(1))?;
    let nanos = u64::try_from(call.state().started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    Ok(Outcome::Done(span.answer(call, &nanos.to_le_bytes())))
}

/// `report(text, length) -> status`: leave a message for whoever runs the program, for a target without a
/// standard error. The last one counts.
///
/// - **Needs** text.
/// - **Checks** its length.
/// - **Returns** 0. `LimitReached`.
/// - **Traps** never.
pub(super) fn report(call: &mut Call<'_>) -> Reply {
    let text = copy_in(call, call.int(0), call.int(1), REPORT_BYTES, "the message")?;
    let instance = call.instance();
    call.state_mut().instance_mut(instance).report = Some(String::from_utf8_lossy(&text).into());
    Ok(Outcome::Done(0))
}
