//! Objects of a native test: a call is a call of the function, in the thread that made the object.
//!
//! What goes along is handed over as the real host does it: derived from what the giver has, or moved where it is a
//! socket or a Name. There are no other programs, so nothing is there to be served.

use std::cell::RefCell;
use std::sync::Arc;
use std::thread::{self, ThreadId};
use std::time::Duration;

use refcap_abi::{ErrorCode, MAX_CALL_DEPTH, MAX_MESSAGE_BYTES, MAX_MESSAGE_CAPABILITIES, NO_WAIT};

use super::membranes::Membranes;
use super::{Object, Ordering, Slot, failed, failed_with, fill, skip};
use crate::host::{Failure, Status};
use crate::object::dispatch;

/// Who implements an object, and the membranes on the way there.
#[derive(Debug, Clone)]
pub(super) struct Line {
    implementer: Arc<Implementer>,
    membranes: Membranes,
}

/// What an object is, for as long as somebody holds it.
#[derive(Debug)]
struct Implementer {
    number: i32,
    thread: ThreadId,
}

impl Drop for Implementer {
    fn drop(&mut self) {
        // At the end of a thread there may be nobody left to tell.
        if self.thread == thread::current().id() {
            let _ = POST.try_with(|post| post.borrow_mut().forgotten.push(self.number));
        }
    }
}

/// Bytes and capabilities, one way. Each capability is there until it is taken.
#[derive(Debug, Default)]
pub(super) struct Message {
    bytes: Vec<u8>,
    pub(super) capabilities: Vec<Option<Slot>>,
}

impl Message {
    pub(super) fn of(bytes: Vec<u8>) -> Message {
        let capabilities = Vec::new();
        Message { bytes, capabilities }
    }

    /// Takes what goes along across membranes.
    fn cross(self, membranes: &Membranes) -> Result<Message, Failure> {
        let Message { bytes, capabilities } = self;
        let cross = |slot: Option<Slot>| slot.map(|slot| membranes.enclose(slot)).transpose();
        let capabilities = capabilities.into_iter().map(cross).collect::<Result<_, _>>()?;
        Ok(Message { bytes, capabilities })
    }
}

/// What is on its way in a thread.
#[derive(Debug, Default)]
struct Post {
    /// What goes with the next call, or with the answer.
    outgoing: Message,
    /// In the middle of a call, the call; after one, its answer.
    received: Message,
    /// How many calls are inside one another.
    depth: usize,
    /// The numbers of objects that nobody holds any more.
    forgotten: Vec<i32>,
}

thread_local! {
    static POST: RefCell<Post> = RefCell::default();
}

fn with_post<T>(action: impl FnOnce(&mut Post) -> T) -> T {
    POST.with_borrow_mut(action)
}

pub(crate) fn object_new(number: i32) -> Result<Slot, Failure> {
    let thread = thread::current().id();
    let line = Line {
        implementer: Arc::new(Implementer { number, thread }),
        membranes: Membranes::default(),
    };
    Ok(Slot::new(Object::Implemented(line), super::Lineage::root()))
}

impl Line {
    /// The same, on the other side of membranes.
    pub(super) fn behind(&self, membranes: &Membranes) -> Result<Line, Failure> {
        Ok(Line {
            implementer: Arc::clone(&self.implementer),
            membranes: self.membranes.and(membranes)?,
        })
    }
}

impl Slot {
    pub(super) fn line(&self) -> Result<&Line, Failure> {
        match &*self.live()?.object {
            Object::Implemented(line) => Ok(line),
            _ => Err(failed(ErrorCode::WrongKind)),
        }
    }
}

pub(crate) fn object_revocable(object: &Slot) -> Result<(Slot, Slot), Failure> {
    let child = object.child(Object::Implemented(object.line()?.clone()))?;
    let revoker = object.child(Object::Revoker(Arc::clone(&child.lineage)))?;
    Ok((child, revoker))
}

pub(crate) fn object_forgotten() -> Option<i32> {
    with_post(|post| post.forgotten.pop())
}

pub(crate) fn object_call(object: &Slot, method: u32, bytes: &[u8], _timeout: u32) -> Status {
    // What was attached goes with this call or with none.
    let mut message = with_post(|post| std::mem::take(&mut post.outgoing));
    let line = object.line()?;
    check_length(bytes)?;
    message.bytes = bytes.to_vec();
    let (number, answer) = call(line, method.cast_signed(), message)?;
    // It may have been revoked meanwhile.
    object.live()?;
    let before = with_post(|post| std::mem::replace(&mut post.received, answer));
    drop(before);
    Ok(number)
}

/// Calls whoever implements an object.
pub(super) fn call(line: &Line, method: i32, message: Message) -> Result<(u32, Message), Failure> {
    let number = begin(&line.implementer)?;
    let frame = Frame::enter(message.cross(&line.membranes)?);
    let status = dispatch(number, method);
    let answer = with_post(|post| std::mem::take(&mut post.outgoing));
    drop(frame);
    let number = u32::try_from(status).map_err(|_| {
        let code = ErrorCode::from_code(status).unwrap_or(ErrorCode::CalleeFailed);
        let message = format!("the program that implements the object says: {code}");
        failed_with(code, message)
    })?;
    Ok((number, answer.cross(&line.membranes)?))
}

/// Who is called, if there can be a call.
fn begin(implementer: &Implementer) -> Result<i32, Failure> {
    if implementer.thread != thread::current().id() {
        let message = "in a native build an object is called in the thread that made it";
        return Err(failed_with(ErrorCode::CalleeFailed, message.to_owned()));
    }
    if with_post(|post| post.depth) >= MAX_CALL_DEPTH {
        let message = format!("{MAX_CALL_DEPTH} calls inside one another");
        return Err(failed_with(ErrorCode::LimitReached, message));
    }
    Ok(implementer.number)
}

/// A call that is being answered. When it is dropped, what was received before is received again.
struct Frame {
    before: Option<Message>,
    /// What the caller is in the middle of preparing: it is not part of the answer.
    pending: Option<Message>,
}

impl Frame {
    fn enter(message: Message) -> Frame {
        with_post(|post| {
            post.depth += 1;
            Frame {
                before: Some(std::mem::replace(&mut post.received, message)),
                pending: Some(std::mem::take(&mut post.outgoing)),
            }
        })
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let before = self.before.take().unwrap_or_default();
        let pending = self.pending.take().unwrap_or_default();
        let of_call = with_post(|post| {
            post.depth -= 1;
            let received = std::mem::replace(&mut post.received, before);
            (received, std::mem::replace(&mut post.outgoing, pending))
        });
        drop(of_call);
    }
}

/// There are no other programs whose calls could come.
pub(crate) fn object_serve(timeout: u32) -> Status {
    match timeout {
        0 => return Err(nobody_calls()),
        now if now == NO_WAIT.cast_unsigned() => return Err(failed(ErrorCode::WouldBlock)),
        _ => {}
    }
    if !skip(timeout) {
        thread::sleep(Duration::from_millis(timeout.into()));
    }
    Err(failed(ErrorCode::TimedOut))
}

pub(super) fn nobody_calls() -> Failure {
    let message = "in a native build there is no other program that could call, so this would wait for ever";
    failed_with(ErrorCode::CalleeFailed, message.to_owned())
}

pub(crate) fn message_attach(capability: Slot) -> Status {
    let place = with_post(|post| post.outgoing.capabilities.len());
    if place >= MAX_MESSAGE_CAPABILITIES {
        let message = format!("{MAX_MESSAGE_CAPABILITIES} capabilities in a message");
        return Err(failed_with(ErrorCode::LimitReached, message));
    }
    let handed_over = hand_over(&capability)?;
    with_post(|post| post.outgoing.capabilities.push(Some(handed_over)));
    Ok(place as u32)
}

/// What the other program gets of a capability.
pub(super) fn hand_over(capability: &Slot) -> Result<Slot, Failure> {
    match &*capability.live()?.object {
        Object::Name(_) | Object::Stream(_) | Object::Listener(..) | Object::Udp(_) => take_out(capability),
        Object::Poller(_) => {
            let message = "a Poller stays in its program".to_owned();
            Err(failed_with(ErrorCode::NotTransferable, message))
        }
        Object::Net(_)
        | Object::Revoker(_)
        | Object::Spawner
        | Object::Implemented(_)
        | Object::Membrane(_) => {
            let lineage = capability.lineage.child(None).ok_or_else(super::revoked)?;
            Ok(Slot::of(Arc::clone(&capability.object), lineage))
        }
    }
}

pub(crate) fn message_discard() {
    let attached = with_post(|post| std::mem::take(&mut post.outgoing));
    drop(attached);
}

pub(crate) fn message_answer(bytes: &[u8]) -> Status {
    check_length(bytes)?;
    if with_post(|post| post.depth) == 0 {
        return Err(failed_with(
            ErrorCode::BadArgument,
            "there is no call to answer".to_owned(),
        ));
    }
    with_post(|post| post.outgoing.bytes = bytes.to_vec());
    Ok(0)
}

fn check_length(bytes: &[u8]) -> Result<(), Failure> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        let message = format!(
            "the message has {} bytes, more than {MAX_MESSAGE_BYTES}",
            bytes.len()
        );
        return Err(failed_with(ErrorCode::LimitReached, message));
    }
    Ok(())
}

pub(crate) fn message_read(buffer: &mut [u8]) -> Status {
    Ok(with_post(|post| fill(buffer, &post.received.bytes)))
}

pub(crate) fn message_count() -> Status {
    Ok(with_post(|post| post.received.capabilities.len() as u32))
}

pub(crate) fn message_take(place: u32) -> Result<Slot, Failure> {
    let taken = with_post(|post| {
        let slot = post.received.capabilities.get_mut(place as usize);
        slot.and_then(Option::take)
    });
    let taken = taken.ok_or_else(|| {
        let message = format!("the message has no capability at place {place}, or it was taken");
        failed_with(ErrorCode::NotFound, message)
    })?;
    taken.live()?;
    Ok(taken)
}

/// Takes a reference out of a slot whose owner stays, with nothing in it.
pub(crate) fn take_out(capability: &Slot) -> Result<Slot, Failure> {
    if capability.moved.swap(true, Ordering::Relaxed) {
        let message = "the capability was sent before".to_owned();
        return Err(failed_with(ErrorCode::NullReference, message));
    }
    Ok(Slot::of(
        Arc::clone(&capability.object),
        Arc::clone(&capability.lineage),
    ))
}
