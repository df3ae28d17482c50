//! What a guest can do with a Spawner, and with a Child: start programs, wait for them, stop them.

use std::sync::Arc;
use std::time::Duration;

use refcap_abi::{ARGUMENT_BYTES, ErrorCode, NO_WAIT, endowment};

use super::memory::{Span, copy_in};
use super::open::make_room;
use crate::audit;
use crate::capability::Key;
use crate::capability::entry::Entry;
use crate::capability::table::{Object, Own};
use crate::program::Program;
use crate::references::{Call, Outcome, Reply};
use crate::vat::{Child, Refusal, Seat, Spawner};

/// `spawner_program(spawner, name, length) -> (child, status)`: prepare a program that the spawner has a name for.
///
/// - **Needs** a Spawner and a name.
/// - **Checks** how many children the spawner may have at once, and how many programs may be started by one another;
///   the vat's limit on capabilities.
/// - **Returns** a Child derived from the Spawner. It has no endowments and no arguments yet, and the limits that
///   the spawner gives by default. `NotFound` (with the names that there are), `BadArgument`, `LimitReached`.
/// - **Traps** never.
pub(super) fn program(call: &mut Call<'_>) -> Reply {
    let key = call.key(0)?;
    let spawner = call.state().table.get(key)?.spawner()?.clone();
    let name = text(call, 0, 1, endowment::MAX_NAME, "the name")?;
    make_room(call, 1)?;
    let program = spawner.program(&name)?;
    let seat = spawner.seat(call.state().kin.generation)?;
    prepare(call, key, program, &name, seat)
}

/// `spawner_load(spawner, bytes, length) -> (child, status)`: prepare a program from the bytes of its module.
///
/// - **Needs** a Spawner whose terms allow it, and a module in its binary form.
/// - **Checks** the module's size and, by the load gate, all that it is made of; the rest as `spawner_program`.
/// - **Returns** as `spawner_program`. `Denied` where the spawner starts programs by name only, `LimitReached` for
///   a module that is too large, `BadArgument` with the reasons for which the gate refuses it.
/// - **Traps** never. Suspends the guest while the module is compiled.
pub(super) async fn load(call: &mut Call<'_>) -> Reply {
    let key = call.key(0)?;
    let spawner: Arc<Spawner> = call.state().table.get(key)?.spawner()?.clone();
    // First what is wrong with the arguments, so that it is told whatever the spawner allows.
    let span = Span::new(call, call.int(0), call.int(1))?;
    span.at_most(spawner.load_limit()?, "the module")?;
    make_room(call, 1)?;
    let seat = spawner.seat(call.state().kin.generation)?;
    let bytes = span.bytes_and_state(call).0.to_vec();
    let program = spawner.load(bytes).await?;
    if call.state().has_letters() {
        call.state_mut().read_letters();
    }
    prepare(call, key, program, "module", seat)
}

/// Makes the Child of a program.
fn prepare(call: &mut Call<'_>, spawner: Key<Entry>, program: Program, name: &str, seat: Seat) -> Reply {
    let table = &call.state().table;
    let label = format!("{}/{name}", table.origin(table.get(spawner)?)?.label);
    let child = Arc::new(Child::new(program, name, seat, call.state()));
    let own = Own {
        label: Some(label.into()),
        ..Own::default()
    };
    let object = Object::Child(child.clone());
    let derived = call.state_mut().table.derive(spawner, object, own);
    let key = derived.map_err(Refusal::from)?;
    let state = call.state();
    let label = state.table.label(key).cloned().unwrap_or_default();
    audit::spawn(&child.parentage(key.id(), &label, state), name);
    Ok(Outcome::One(key))
}

/// `child_grant(child, capability, name, length) -> status`: choose an endowment of a child.
///
/// - **Needs** a Child that is not started; a capability; the name of one of the program's endowments.
/// - **Checks** that the program asks for a capability of that kind under that name, and has none yet; that this one
///   may be handed on; the limits of lineages.
/// - **Returns** 0. The child will hold a capability derived from this one, so that whoever revokes this, or what it
///   came from, revokes the child's; a socket or a Name leaves this program at once, and its reference here is
///   `Closed`. `BadArgument` (with what the program asks for), `NotTransferable`, `LimitReached`.
/// - **Traps** never.
pub(super) fn grant(call: &mut Call<'_>) -> Reply {
    let (key, given) = (call.key(0)?, call.key(1)?);
    let child = call.state().table.get(key)?.child()?.clone();
    call.state().table.get(given)?;
    let name = text(call, 0, 1, endowment::MAX_NAME, "the name")?;
    child.grant(&mut call.state_mut().table, given, &name)?;
    Ok(Outcome::Done(0))
}

/// `child_argument(child, text, length) -> status`: give a child one more argument.
///
/// - **Needs** a Child that is not started, and text. The first argument is the program's name, and there already.
/// - **Checks** that the text is UTF-8 without a zero byte, and how long all arguments are together.
/// - **Returns** 0. `BadArgument`, `LimitReached`.
/// - **Traps** never.
pub(super) fn argument(call: &mut Call<'_>) -> Reply {
    let child = call.state().table.get(call.key(0)?)?.child()?.clone();
    let text = text(call, 0, 1, ARGUMENT_BYTES, "the argument")?;
    child.argument(text)?;
    Ok(Outcome::Done(0))
}

/// `child_limit(child, which, low, high) -> status`: set one of a child's limits.
///
/// - **Needs** a Child that is not started; `LIMIT_MEMORY` (in bytes), `LIMIT_CAPABILITIES`, `LIMIT_SOCKETS` or
///   `LIMIT_TIME` (in milliseconds, from its start to its end); the two halves of a 64-bit number.
/// - **Checks** that the spawner lets a child have so much. Whether the program itself has so much left is looked at
///   when the child starts.
/// - **Returns** 0. `BadArgument`, `LimitReached`.
/// - **Traps** never.
pub(super) fn limit(call: &mut Call<'_>) -> Reply {
    let child = call.state().table.get(call.key(0)?)?.child()?.clone();
    let [low, high] = [call.int(1), call.int(2)].map(|half| u64::from(half.cast_unsigned()));
    child.limit(call.int(0), high << 32 | low)?;
    Ok(Outcome::Done(0))
}

/// `child_start(child) -> status`: start a child.
///
/// - **Needs** a Child that is not started.
/// - **Checks** that the program has what it asks for; that this program has as much left of its memory, capabilities
///   and sockets as the child is to have, which it can't use itself until the child is gone.
/// - **Returns** 0 when the child has been instantiated, holds its endowments and begins to run. `NotStarted` says
///   why it does not. When an endowment is missing, and for `LimitReached`, nothing has changed and it can be
///   tried again; otherwise the child is at its end. `BadArgument` when it was started before.
/// - **Traps** never. Suspends the guest.
pub(super) async fn start(call: &mut Call<'_>) -> Reply {
    let key = call.key(0)?;
    let table = &call.state().table;
    let entry = table.get(key)?;
    let (child, label) = (entry.child()?.clone(), table.origin(entry)?.label.clone());
    let told = child.start(key.id(), &label, call.state())?;
    let answer = told.await;
    still_held(call, key)?;
    match answer {
        Ok(Ok(())) => Ok(Outcome::Done(0)),
        Ok(Err(error)) => Err(Refusal::from(error).into()),
        Err(_) => {
            let ending = child.wait().await?;
            let why = format!("the child had not begun to run: {ending}");
            Err(Refusal::new(ErrorCode::NotStarted, why).into())
        }
    }
}

/// `child_wait(child, buffer, length, timeout_ms) -> status`: sleep until a child is gone.
///
/// - **Needs** a Child that was started or stopped; a buffer; a time in milliseconds (0 for no end, `NO_WAIT` to look
///   and not sleep).
/// - **Checks** nothing more.
/// - **Returns** the length of what became of it, in the form of `refcap_abi::ending`, and its beginning in the
///   buffer; again whenever it is asked. By then no instruction of the child runs, nothing that it held works,
///   the same is true of all programs that it started, and its limits are this program's again. `TimedOut`,
///   `NotStarted`; `Revoked` when the Child is revoked meanwhile, which stops it.
/// - **Traps** never. Suspends the guest.
pub(super) async fn wait(call: &mut Call<'_>) -> Reply {
    let key = call.key(0)?;
    let child = call.state().table.get(key)?.child()?.clone();
    let span = Span::new(call, call.int(0), call.int(1))?;
    if call.state_mut().end_turn() {
        tokio::task::yield_now().await;
    }
    let ending = match call.int(2) {
        0 => Some(child.wait().await),
        // Looks once: what is there already needs no time.
        NO_WAIT => tokio::time::timeout(Duration::ZERO, child.wait()).await.ok(),
        milliseconds => {
            let time = Duration::from_millis(u64::from(milliseconds.cast_unsigned()));
            tokio::time::timeout(time, child.wait()).await.ok()
        }
    };
    still_held(call, key)?;
    let ending = ending.ok_or(ErrorCode::TimedOut)??;
    Ok(Outcome::Done(span.answer(call, &ending.encode())))
}

/// `child_stop(child) -> status`: stop a child.
///
/// - **Needs** a Child.
/// - **Checks** nothing more.
/// - **Returns** 1 if it was there to be stopped, 0 if it had ended by itself. When it returns, what `child_wait`
///   says of a child that is gone is true of it. A child that computes takes a tick of the engine's clock to stop.
/// - **Traps** never. Suspends the guest.
pub(super) async fn stop(call: &mut Call<'_>) -> Reply {
    let key = call.key(0)?;
    let table = &call.state().table;
    let entry = table.get(key)?;
    let (child, label) = (entry.child()?.clone(), table.origin(entry)?.label.clone());
    audit::stop(&child.parentage(key.id(), &label, call.state()));
    let was_there = child.stop().await;
    still_held(call, key)?;
    Ok(Outcome::Done(i32::from(was_there)))
}

/// Whether a capability outlasted a wait.
fn still_held(call: &mut Call<'_>, key: Key<Entry>) -> Result<(), ErrorCode> {
    if call.state().has_letters() {
        call.state_mut().read_letters();
    }
    call.state().table.get(key).map(|_| ())
}

/// The text at the pointer and length that are the number arguments `pointer` and `length`.
fn text(
    call: &mut Call<'_>,
    pointer: usize,
    length: usize,
    limit: usize,
    what: &str,
) -> Result<String, Refusal> {
    let bytes = copy_in(call, call.int(pointer), call.int(length), limit, what)?;
    String::from_utf8(bytes)
        .map_err(|_| Refusal::new(ErrorCode::BadArgument, format_args!("{what} is not UTF-8")))
}
