//! Objects: capabilities that guests implement. Calling one and serving calls is wired by the
//! [`switchboard`](crate::switchboard), which asks here who is called.

use std::time::Duration;

use refcap_abi::{
    DISPATCH_EXPORT, ErrorCode, Import, MAX_CALL_DEPTH, MAX_MESSAGE_BYTES, MAX_MESSAGE_CAPABILITIES,
    MAX_WAITING_CALLS, NO_WAIT, Param,
};
use tokio::sync::oneshot;
use wasmtime::{PoolConcurrencyLimitError, Val};

use super::memory::{Span, at_most, bytes_at};
use super::open::make_room;
use crate::capability::Capability;
use crate::capability::membrane::Membranes;
use crate::capability::table::{NoBirth, Object};
use crate::object::{self, Full, Implementer, Line, MAX_FORGOTTEN, Message};
use crate::references::{Call, Failure, Outcome, Reply};
use crate::vat::{Refusal, VatState};

/// `object_new(number) -> (object, status)`: make a capability that this program implements.
///
/// - **Needs** a number, which is handed back with each call.
/// - **Checks** the vat's limit on capabilities; that no more than `MAX_FORGOTTEN` objects wait for `object_forgotten`,
///   for the host keeps their numbers.
/// - **Returns** an Object. A call to it is a call of this program's export `refcap_dispatch`, at once when it comes
///   from the same vat, else when this program serves (`object_serve`). `LimitReached`.
/// - **Traps** never.
pub(super) fn new(call: &mut Call<'_>) -> Reply {
    make_room(call, 1)?;
    if call.state().mailbox.calls().has_too_many_forgotten() {
        return Err(Refusal::limit(format_args!(
            "{MAX_FORGOTTEN} objects that nobody holds any more, for which `object_forgotten` was not asked,"
        ))
        .into());
    }
    let instance = u8::try_from(call.instance()).unwrap_or(u8::MAX);
    let implementer = Implementer::new(&call.state().mailbox, instance, call.int(0));
    let object = Object::Implemented(Line::to(implementer));
    let made = call.state_mut().table.plant("object", object);
    Ok(Outcome::One(made.map_err(Refusal::from)?))
}

/// `object_revocable(object) -> (object, revoker, status)`: derive an object that can be taken back.
///
/// - **Needs** an Object.
/// - **Checks** the vat's limits.
/// - **Returns** an Object that is implemented by the same program, and a Revoker that ends it and all that comes
///   from it. `LimitReached`.
/// - **Traps** never.
pub(super) fn revocable(call: &mut Call<'_>) -> Reply {
    let parent = call.key(0)?;
    call.state().table.get(parent)?.line()?;
    make_room(call, 2)?;
    let (object, revoker) = call
        .state_mut()
        .table
        .derive_revocable(parent)
        .map_err(Refusal::from)?;
    Ok(Outcome::Two(object, revoker))
}

/// `object_forgotten(pointer) -> status`: which object does nobody hold any more?
///
/// - **Needs** four bytes.
/// - **Checks** nothing more.
/// - **Returns** 1, and in the four bytes, little-endian, the number of an object of this program that nobody holds any more, in
///   this vat or another, each once: what the program keeps for it can go. 0 when there is none.
/// - **Traps** never.
pub(super) fn forgotten(call: &mut Call<'_>) -> Reply {
    let span = Span::new(call, call.int(0), 4)?;
    let instance = u8::try_from(call.instance()).unwrap_or(u8::MAX);
    let number = call.state().mailbox.calls().take_forgotten(instance);
    let Some(number) = number else {
        return Ok(Outcome::Done(0));
    };
    span.answer(call, &number.to_le_bytes());
    Ok(Outcome::Done(1))
}

/// `message_attach(capability) -> status`: send a capability along with the next call, or with the answer.
///
/// - **Needs** a capability of any kind but a Poller.
/// - **Checks** that it may be handed on; that a message has no more than `MAX_MESSAGE_CAPABILITIES`.
/// - **Returns** its place in the message, from 0. Of a socket or a Name it is the capability itself that goes, and
///   this reference is `Closed` from now on; of anything else, one that is derived from it. `NotTransferable`,
///   `LimitReached`.
/// - **Traps** never.
pub(super) fn attach(call: &mut Call<'_>) -> Reply {
    let key = call.key(0)?;
    call.state().table.get(key)?;
    let instance = call.instance();
    let place = call.state().instance(instance).outgoing.count();
    if place >= MAX_MESSAGE_CAPABILITIES {
        return Err(Refusal::limit(format_args!(
            "{MAX_MESSAGE_CAPABILITIES} capabilities in a message"
        ))
        .into());
    }
    let capability = call.state_mut().table.hand_over(key).map_err(Refusal::from)?;
    let state = call.state_mut();
    state.instances[instance]
        .outgoing
        .attach(capability, &mut state.spare);
    Ok(Outcome::Done(i32::try_from(place).unwrap_or(i32::MAX)))
}

/// `message_answer(pointer, length) -> status`: say what the answer is, in the middle of a call.
///
/// - **Needs** bytes.
/// - **Checks** their number; that there is a call to answer.
/// - **Returns** 0. The answer goes with the return of `refcap_dispatch`, and with it what was attached; nothing of both
///   goes with an error. A call that this program makes in between takes what was attached, and the answer is gone.
///   `LimitReached`, `BadArgument` when there is no call.
/// - **Traps** never.
#[inline(always)]
pub(super) fn answer(call: &mut Call<'_>) -> Reply {
    let instance = call.instance();
    let (bytes, state) = bytes_at(call, call.int(0), call.int(1))?;
    at_most(bytes.len(), MAX_MESSAGE_BYTES, "the answer")?;
    if state.frames.callee() != Some(instance) {
        return Err(Refusal::new(ErrorCode::BadArgument, "there is no call to answer").into());
    }
    state.instances[instance].outgoing.say(bytes, &mut state.spare);
    Ok(Outcome::Done(0))
}

/// `message_read(buffer, length) -> status`: the bytes of what was received.
///
/// - **Needs** a buffer.
/// - **Checks** nothing more.
/// - **Returns** how many bytes the message has, and their beginning in the buffer. In the middle of a call that is
///   the call; after one that this program has made, the answer.
/// - **Traps** never.
#[inline(always)]
pub(super) fn read(call: &mut Call<'_>) -> Reply {
    let instance = call.instance();
    let (bytes, state) = bytes_at(call, call.int(0), call.int(1))?;
    let message = state.instance(instance).received.bytes();
    let fits = message.len().min(bytes.len());
    bytes[..fits].copy_from_slice(&message[..fits]);
    Ok(Outcome::Done(i32::try_from(message.len()).unwrap_or(i32::MAX)))
}

/// `message_count() -> status`: how many capabilities came with what was received?
///
/// - **Needs** nothing.
/// - **Checks** nothing.
/// - **Returns** their number, those that were taken included.
/// - **Traps** never.
pub(super) fn capabilities(call: &mut Call<'_>) -> Reply {
    Ok(Outcome::Done(count(
        &call.state().instance(call.instance()).received,
    )))
}

/// `message_take(place) -> (capability, status)`: a capability of what was received.
///
/// - **Needs** its place in the message, from 0.
/// - **Checks** the vat's limits.
/// - **Returns** the capability, once. `NotFound` when there is none at that place, or it was taken; `Revoked` when
///   it was revoked on its way; `NotTransferable`, `LimitReached`.
/// - **Traps** never.
pub(super) fn take(call: &mut Call<'_>) -> Reply {
    make_room(call, 1)?;
    let (instance, place) = (call.instance(), call.int(0));
    let Some(capability) = slot(call, instance, place).and_then(Option::take) else {
        let why = format!("the message has no capability at place {place}, or it was taken");
        return Err(Refusal::new(ErrorCode::NotFound, why).into());
    };
    match call
        .state_mut()
        .table
        .accept(granted_name(&capability), &capability)
    {
        Ok(key) => Ok(Outcome::One(key)),
        Err(barren) => {
            if !matches!(barren, NoBirth::Revoked) {
                // The guest may make room and take it then.
                if let Some(slot) = slot(call, instance, place) {
                    *slot = Some(capability);
                }
            }
            Err(Refusal::from(barren).into())
        }
    }
}

/// What a capability is called by another one who gets it: the same, for its label begins with the name of its grant.
pub(super) fn granted_name(capability: &Capability) -> &str {
    capability.label().split('/').next().unwrap_or_default()
}

/// A place for a capability in what an instance has received.
fn slot<'a>(call: &'a mut Call<'_>, instance: usize, place: i32) -> Option<&'a mut Option<Capability>> {
    let received = &mut call.state_mut().instance_mut(instance).received;
    received.place(usize::try_from(place).ok()?)
}

/// How long a call to another vat may take where the caller does not say.
const CALL_TIME: Duration = Duration::from_secs(30);

/// How many capabilities the last received message has, told beside its length.
fn count(message: &Message) -> i32 {
    i32::try_from(message.count()).unwrap_or(i32::MAX)
}

/// How many bytes it has, told beside them.
fn length(message: &Message) -> i32 {
    i32::try_from(message.bytes().len()).unwrap_or(i32::MAX)
}

const fn helper(name: &'static str, params: &'static [Param], extra_out: usize, suspends: bool) -> Import {
    Import {
        name,
        params,
        refs_out: 0,
        extra_out,
        suspends,
        consumes: false,
        wired: false,
    }
}

/// What the switchboard asks the host. No guest can import these: they are in a module of their own.
pub(crate) static HELPERS: &[Import] = &[
    helper(
        "enter",
        &[Param::Ref, Param::I32, Param::I32, Param::I32],
        3,
        false,
    ),
    helper("discard", &[], 0, false),
    helper("leave", &[Param::I32], 0, false),
    helper("remote", &[Param::I32, Param::I32], 0, true),
    helper("next", &[Param::I32], 4, true),
    helper("done", &[Param::I32], 0, false),
];

/// The status of `enter` for an object of another vat. Errors are higher.
const REMOTE: i32 = -1000;

/// `enter(object, method, pointer, length) -> (number, length, capabilities, status)`: who is called? In this vat, the
/// status is the number of the instance, and the call has begun; for another vat it is `REMOTE`, and the call waits to
/// be sent.
#[inline(always)]
pub(super) fn enter(call: &mut Call<'_>) -> Reply {
    let line = call.state().table.get(call.key(0)?)?.line()?;
    let address = line.address();
    if !address.is_in(&call.state().mailbox) {
        return enter_remote(call);
    }
    let callee = address.instance;
    let membranes = line.membranes().clone();
    let caller = call.instance();
    let (message, state) = outgoing(call, &membranes)?;
    if state.frames.is_full() {
        return Err(too_deep().into());
    }
    let (length, capabilities) = (length(&message), count(&message));
    let before = std::mem::replace(&mut state.instance_mut(callee.into()).received, message);
    let caller = u8::try_from(caller).ok();
    state.frames.begin(caller, callee, membranes, before);
    call.set_extra(0, address.number);
    call.set_extra(1, length);
    call.set_extra(2, capabilities);
    Ok(Outcome::Done(callee.into()))
}

/// The same for an object of another vat.
#[cold]
#[inline(never)]
fn enter_remote(call: &mut Call<'_>) -> Reply {
    let line = call.state().table.get(call.key(0)?)?.line()?.clone();
    let caller = call.instance();
    let (message, state) = outgoing(call, line.membranes())?;
    state.instance_mut(caller).calling = Some((line, message));
    Ok(Outcome::Done(REMOTE))
}

/// The message of a call that begins: the bytes that are named, and what was attached, on the other side of membranes.
#[inline(always)]
fn outgoing<'a>(
    call: &'a mut Call<'_>,
    membranes: &Membranes,
) -> Result<(Message, &'a mut VatState), Failure> {
    let caller = call.instance();
    let (bytes, state) = match call.int(2) {
        // Of no bytes it does not matter where they are.
        0 => (&mut [][..], call.state_mut()),
        length => bytes_at(call, call.int(1), length)?,
    };
    at_most(bytes.len(), MAX_MESSAGE_BYTES, "the message")?;
    let outgoing = &mut state.instances[caller].outgoing;
    outgoing.say(bytes, &mut state.spare);
    let mut message = outgoing.take();
    message.cross(membranes).map_err(Refusal::from)?;
    Ok((message, state))
}

/// `discard() -> status`: the call could not begin. What was attached to it must not go with the next one, which may be to
/// somebody else.
pub(super) fn discard(call: &mut Call<'_>) -> Reply {
    let instance = call.instance();
    drop(call.state_mut().instance_mut(instance).outgoing.take());
    Ok(Outcome::Done(0))
}

/// `leave(status) -> status`: the call that was begun last has returned. What the callee sends along goes to the caller.
#[inline(always)]
pub(super) fn leave(call: &mut Call<'_>) -> Reply {
    let status = call.int(0);
    let state = call.state_mut();
    let Some(frame) = state.frames.end() else {
        return Err(Refusal::new(ErrorCode::BadArgument, "there is no call that could return").into());
    };
    let callee = &mut state.instances[usize::from(frame.callee)];
    let mut answer = answer_with(status, callee.outgoing.take());
    let heard = std::mem::replace(&mut callee.received, frame.before.take());
    state.spare.keep(heard);
    let membranes = std::mem::take(&mut frame.membranes);
    answer.cross(&membranes).map_err(Refusal::from)?;
    if let Some(caller) = frame.caller {
        let caller = &mut state.instances[usize::from(caller)];
        let heard = std::mem::replace(&mut caller.received, answer);
        state.spare.keep(heard);
    }
    told(status)
}

/// What goes back to a caller: nothing but the error, where there is one.
fn answer_with(status: i32, message: Message) -> Message {
    match status {
        0.. => message,
        _ => Message::default(),
    }
}

/// What a callee says, as what a caller hears: errors are errors, by whomever.
#[inline]
fn told(status: i32) -> Reply {
    match status {
        0.. => Ok(Outcome::Done(status)),
        _ => Err(error_told(status).into()),
    }
}

#[cold]
fn error_told(status: i32) -> Refusal {
    match ErrorCode::from_code(status) {
        Some(code) => {
            let why = format!("the program that implements the object says: {code}");
            Refusal::new(code, why)
        }
        None => {
            let why = format!("the program that implements the object returned {status}, which is no error");
            Refusal::new(ErrorCode::CalleeFailed, why)
        }
    }
}

/// `remote(method, timeout) -> status`: sends the call that `enter` has prepared to the other vat, and waits.
pub(super) async fn remote(call: &mut Call<'_>) -> Reply {
    let (method, timeout) = (call.int(0), call.int(1));
    let instance = call.instance();
    let prepared = call.state_mut().instance_mut(instance).calling.take();
    let Some((line, message)) = prepared else {
        return Err(Refusal::new(ErrorCode::BadArgument, "there is no call to send").into());
    };
    let time = match timeout {
        0 => CALL_TIME,
        milliseconds => Duration::from_millis(milliseconds.cast_unsigned().into()),
    };
    let (status, message) = send(&line, method, message, time).await?;
    call.state_mut().instance_mut(instance).received = message;
    told(status)
}

/// Sends a call to another vat, and waits for the answer.
async fn send(line: &Line, method: i32, message: Message, time: Duration) -> Result<object::Reply, Refusal> {
    let gone = || {
        Refusal::new(
            ErrorCode::CalleeFailed,
            "the program that implements the object has ended",
        )
    };
    let vat = line.implementer().vat().ok_or_else(gone)?;
    let (answer, answered) = oneshot::channel();
    let mut sent = Sent {
        line,
        answered: Some(answered),
    };
    let left = vat.calls().leave(object::Call {
        instance: line.address().instance,
        number: line.address().number,
        method,
        message,
        answer,
    });
    left.map_err(|full| match full {
        Full::Full => Refusal::limit(format_args!(
            "{MAX_WAITING_CALLS} calls that wait for one program"
        )),
        Full::Gone => gone(),
    })?;
    drop(vat);
    let reply = tokio::select! {
        biased;
        () = line.severed() => return Err(ErrorCode::Revoked.into()),
        reply = sent.answer() => reply,
        () = tokio::time::sleep(time) => return Err(ErrorCode::TimedOut.into()),
    };
    let (status, mut message) = reply.ok_or_else(gone)?;
    message.cross(line.membranes())?;
    Ok((status, message))
}

/// A call on its way to another vat. When its caller does not wait any more, for whatever reason, it is taken back with
/// what goes along with it, unless that vat has begun to serve it.
struct Sent<'a> {
    line: &'a Line,
    /// Until there is an answer.
    answered: Option<oneshot::Receiver<object::Reply>>,
}

impl Sent<'_> {
    /// Waits for the answer; none when the vat that is called has ended.
    async fn answer(&mut self) -> Option<object::Reply> {
        let reply = self.answered.as_mut()?.await;
        self.answered = None;
        reply.ok()
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        let Some(answered) = self.answered.take() else {
            return;
        };
        // From here on the call is one that nobody waits for.
        drop(answered);
        if let Some(vat) = self.line.implementer().vat() {
            vat.calls().sweep();
        }
    }
}

/// Calls an object from inside the host, in whichever vat it is, and returns what it answers.
pub(super) async fn call_from_host(
    call: &mut Call<'_>,
    line: &Line,
    method: i32,
    bytes: Vec<u8>,
    time: Duration,
) -> Result<Message, Failure> {
    let message = Message::of(bytes);
    let (status, answer) = match line.address().is_in(&call.state().mailbox) {
        true => call_here(call, line, method, message).await?,
        false => send(line, method, message, time).await?,
    };
    told(status)?;
    Ok(answer)
}

/// Calls an object of this vat in the middle of a host function. The engine gives it a stack of its own.
async fn call_here(
    call: &mut Call<'_>,
    line: &Line,
    method: i32,
    message: Message,
) -> Result<object::Reply, Failure> {
    let callee = line.address().instance;
    let instance = call.state().instance(callee.into()).instance;
    let dispatch = instance.and_then(|instance| instance.get_func(call.caller(), DISPATCH_EXPORT));
    let Some(dispatch) = dispatch else {
        let why = format!("the program that implements the object has no `{DISPATCH_EXPORT}`");
        return Err(Refusal::new(ErrorCode::CalleeFailed, why).into());
    };
    let state = call.state_mut();
    if state.frames.is_full() {
        return Err(too_deep().into());
    }
    let arguments = [
        Val::I32(line.address().number),
        Val::I32(method),
        Val::I32(length(&message)),
        Val::I32(count(&message)),
    ];
    let its = state.instance_mut(callee.into());
    // It may be the caller itself, in the middle of preparing a call of its own.
    let pending = std::mem::take(&mut its.outgoing);
    let before = std::mem::replace(&mut its.received, message);
    state.frames.begin(None, callee, line.membranes().clone(), before);
    let mut status = [Val::I32(0)];
    let called = dispatch.call_async(call.caller(), &arguments, &mut status).await;
    let state = call.state_mut();
    let frame = state.frames.end().map(std::mem::take);
    let its = state.instance_mut(callee.into());
    let mut answer = std::mem::replace(&mut its.outgoing, pending);
    its.received = frame.map(|frame| frame.before).unwrap_or_default();
    match called {
        Err(error) if error.is::<PoolConcurrencyLimitError>() => {
            return Err(Refusal::limit("stacks of the pool").into());
        }
        Err(error) => return Err(Failure::Trap(error)),
        Ok(()) => {}
    }
    let status = status[0].i32().unwrap_or(ErrorCode::CalleeFailed.status());
    let mut answer = answer_with(status, answer.take());
    answer.cross(line.membranes()).map_err(Refusal::from)?;
    Ok((status, answer))
}

fn too_deep() -> Refusal {
    Refusal::limit(format_args!("{MAX_CALL_DEPTH} calls inside one another"))
}

/// `next(timeout) -> (number, method, length, capabilities, status)`: waits for a call from another vat, and begins it.
/// The status is the number of the instance that is called.
pub(super) async fn next(call: &mut Call<'_>) -> Reply {
    let timeout = call.int(0);
    if call.state().frames.is_full() {
        return Err(too_deep().into());
    }
    if call.state_mut().end_turn() {
        tokio::task::yield_now().await;
    }
    let mailbox = call.state().mailbox.clone();
    let wait = mailbox.calls().next();
    let came = match timeout {
        0 => wait.await,
        NO_WAIT => mailbox.calls().take().ok_or(ErrorCode::WouldBlock)?,
        milliseconds => {
            let time = Duration::from_millis(milliseconds.cast_unsigned().into());
            let came = tokio::time::timeout(time, wait).await;
            came.map_err(|_| ErrorCode::TimedOut)?
        }
    };
    let object::Call {
        instance,
        number,
        method,
        message,
        answer,
    } = came;
    let state = call.state_mut();
    let (length, capabilities) = (length(&message), count(&message));
    let before = std::mem::replace(&mut state.instance_mut(instance.into()).received, message);
    // What comes back crosses membranes where the caller gets it.
    state.frames.begin(None, instance, Membranes::default(), before);
    state.answers.push(answer);
    call.set_extra(0, number);
    call.set_extra(1, method);
    call.set_extra(2, length);
    call.set_extra(3, capabilities);
    Ok(Outcome::Done(instance.into()))
}

/// `done(status) -> status`: the call that `next` began has returned; its answer is sent.
pub(super) fn done(call: &mut Call<'_>) -> Reply {
    let status = call.int(0);
    let state = call.state_mut();
    let (Some(frame), Some(answer)) = (state.frames.end(), state.answers.pop()) else {
        return Err(Refusal::new(ErrorCode::BadArgument, "there is no call that could return").into());
    };
    let callee = &mut state.instances[usize::from(frame.callee)];
    let message = answer_with(status, callee.outgoing.take());
    callee.received = frame.before.take();
    // Nobody may be waiting any more.
    let _ = answer.send((status, message));
    Ok(Outcome::Done(0))
}
