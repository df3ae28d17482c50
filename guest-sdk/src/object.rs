//! Capabilities that a program implements itself.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use refcap_abi::{ErrorCode, NO_WAIT};

use crate::capability::{capability, kind_of, sealed::Sealed};
use crate::host::{self, Failure, Slot};
use crate::net::milliseconds;
use crate::{Capability, Error, Result, Revoker};

/// Something that a program implements and others call: in the same vat or another, whoever holds the reference.
///
/// What a method means is for the two programs to agree on. Bytes and capabilities go with a call and come back with
/// its answer. A capability that goes along is derived for the other program, and this one's is closed; a socket or a
/// [`Name`](crate::Name) moves.
///
/// A program that makes objects says so once, in the crate that becomes the module:
///
/// ```no_run
/// use refcap_guest::{Message, Net, Object, Result};
///
/// refcap_guest::answers_calls!();
///
/// /// A counter that everyone can increase who holds it.
/// fn counter() -> Result<Object> {
///     let count = std::cell::Cell::new(0);
///     Object::new(move |_method, _message| {
///         count.set(count.get() + 1);
///         Ok((count.get(), Message::new()))
///     })
/// }
/// # fn main() {}
/// ```
#[derive(Debug)]
pub struct Object {
    slot: Slot,
}

capability!(Object { slot });

/// What goes with a call, or comes back: bytes, and capabilities in an order.
#[derive(Debug, Default)]
pub struct Message {
    bytes: Vec<u8>,
    capabilities: Vec<Option<Slot>>,
}

impl Message {
    /// A message with nothing in it.
    pub fn new() -> Message {
        Message::default()
    }

    /// The same with these bytes.
    #[must_use]
    pub fn bytes(mut self, bytes: impl Into<Vec<u8>>) -> Message {
        self.bytes = bytes.into();
        self
    }

    /// The same with one more capability.
    #[must_use]
    pub fn with(mut self, capability: impl Capability) -> Message {
        self.capabilities.push(Some(capability.into_slot()));
        self
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many capabilities there are, taken ones included.
    pub fn capabilities(&self) -> usize {
        self.capabilities.len()
    }

    /// Takes the capability at a place, from 0.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorCode::NotFound) where there is none or it was taken, [`WrongKind`](ErrorCode::WrongKind) where
    /// it is of another kind; then it is closed.
    pub fn take<C: Capability>(&mut self, place: usize) -> Result<C> {
        const OPERATION: &str = "take a capability of a message";
        let slot = self.capabilities.get_mut(place).and_then(Option::take);
        let slot = slot.ok_or_else(|| {
            let message = format!("the message has no capability at place {place}, or it was taken");
            Error::new(ErrorCode::NotFound, OPERATION, message)
        })?;
        let kind = kind_of(&slot)?;
        if kind != C::KIND {
            let message = format!("the capability at place {place} is a {kind}, not a {}", C::KIND);
            return Err(Error::new(ErrorCode::WrongKind, OPERATION, message));
        }
        Ok(C::from_slot(slot))
    }

    /// A message of what was taken out of its owners.
    pub(crate) fn of_slots(bytes: Vec<u8>, slots: Vec<Slot>) -> Message {
        let capabilities = slots.into_iter().map(Some).collect();
        Message { bytes, capabilities }
    }

    /// The bytes, and the capabilities that were not taken.
    pub(crate) fn into_parts(self) -> (Vec<u8>, Vec<Option<Slot>>) {
        (self.bytes, self.capabilities)
    }

    /// Attaches the capabilities to what is sent next.
    fn attach(self) -> Result<Vec<u8>> {
        for slot in self.capabilities.into_iter().flatten() {
            if let Err(failure) = host::message_attach(slot) {
                let error = Error::last(failure, "send a capability along");
                // Those before it must not go with the next message, which may be to somebody else.
                host::message_discard();
                return Err(error);
            }
        }
        Ok(self.bytes)
    }

    /// What was received last.
    fn received() -> Result<Message> {
        let of_host = |failure| Error::last(failure, "read a message");
        let mut bytes = vec![0; host::message_read(&mut []).map_err(of_host)? as usize];
        host::message_read(&mut bytes).map_err(of_host)?;
        let take = |place| host::message_take(place).map_err(of_host);
        let places = 0..host::message_count().map_err(of_host)?;
        let capabilities = places.map(|place| take(place).map(Some)).collect::<Result<_>>()?;
        Ok(Message { bytes, capabilities })
    }
}

type Answers = Rc<dyn Fn(u32, Message) -> Result<(u32, Message)>>;

#[derive(Default)]
struct Registry {
    next: i32,
    answers: HashMap<i32, Answers>,
}

thread_local! {
    static REGISTRY: RefCell<Registry> = RefCell::default();
}

impl Object {
    /// Makes an object whose calls the function answers: it takes the number of the method and what came along, and
    /// returns a number that is no more than 2^31 - 1 and what goes back. An error goes to the caller by its code.
    ///
    /// The function may be called while it runs: by what it calls itself. It is kept for as long as anybody holds the
    /// object, in whichever program.
    pub fn new(answer: impl Fn(u32, Message) -> Result<(u32, Message)> + 'static) -> Result<Object> {
        forget();
        let number = REGISTRY.with_borrow_mut(|registry| {
            registry.next = registry.next.checked_add(1).unwrap_or(1);
            registry.answers.insert(registry.next, Rc::new(answer));
            registry.next
        });
        match host::object_new(number) {
            Ok(slot) => Ok(Object { slot }),
            Err(failure) => {
                REGISTRY.with_borrow_mut(|registry| registry.answers.remove(&number));
                Err(Error::last(failure, "make an object"))
            }
        }
    }

    /// Calls a method, and waits for the answer: 30 s at most where the object is another vat's.
    ///
    /// # Errors
    ///
    /// Those of the implementer; [`CalleeFailed`](ErrorCode::CalleeFailed) when it has ended or answers no calls,
    /// [`TimedOut`](ErrorCode::TimedOut), [`Revoked`](ErrorCode::Revoked), also in the middle of the call.
    pub fn call(&self, method: u32, message: Message) -> Result<(u32, Message)> {
        self.call_within(method, message, 0)
    }

    /// Calls a method, or fails with [`TimedOut`](ErrorCode::TimedOut) after the given time.
    pub fn call_timeout(&self, method: u32, message: Message, timeout: Duration) -> Result<(u32, Message)> {
        self.call_within(method, message, milliseconds(timeout, "call")?)
    }

    /// Derives an object that is the same for who calls it, and the power to revoke it.
    pub fn revocable(&self) -> Result<(Object, Revoker)> {
        let (object, revoker) = host::object_revocable(&self.slot)
            .map_err(|failure| Error::last(failure, "derive by `revocable`"))?;
        Ok((Object::from_slot(object), Revoker::from_slot(revoker)))
    }

    fn call_within(&self, method: u32, message: Message, timeout: u32) -> Result<(u32, Message)> {
        let bytes = message.attach()?;
        let status = host::object_call(&self.slot, method, &bytes, timeout)
            .map_err(|failure| Error::last(failure, "call"))?;
        Ok((status, Message::received()?))
    }
}

/// Answers one call from another vat to an object or a Net of this program. Calls from programs of the same vat need no
/// serving. [`task::serve`](crate::task::serve) answers them while tasks run.
///
/// # Errors
///
/// [`TimedOut`](ErrorCode::TimedOut) when none came in the given time; without one it waits.
pub fn serve(timeout: Option<Duration>) -> Result<()> {
    forget();
    let timeout = timeout.map_or(Ok(0), |timeout| milliseconds(timeout, "serve"))?;
    host::object_serve(timeout).map_err(|failure| Error::last(failure, "serve"))?;
    Ok(())
}

/// Answers a call from another vat if one waits, and says whether one did.
///
/// A [`Poller`](crate::Poller) tells when there is one ([`Poller::add_calls`](crate::Poller::add_calls)).
///
/// # Errors
///
/// [`LimitReached`](ErrorCode::LimitReached) deep inside of other calls.
pub fn try_serve() -> Result<bool> {
    forget();
    match host::object_serve(NO_WAIT.cast_unsigned()) {
        Ok(_) => Ok(true),
        Err(Failure::Host(ErrorCode::WouldBlock)) => Ok(false),
        Err(failure) => Err(Error::last(failure, "serve")),
    }
}

/// Drops the functions of objects that nobody holds any more.
fn forget() {
    while let Some(number) = host::object_forgotten() {
        let forgotten = REGISTRY.with_borrow_mut(|registry| registry.answers.remove(&number));
        // Dropped without the registry, for it may hold objects.
        drop(forgotten);
    }
}

/// What [`answers_calls`](crate::answers_calls) exports.
pub fn dispatch(object: i32, method: i32) -> i32 {
    let answer = REGISTRY.with_borrow(|registry| registry.answers.get(&object).cloned());
    let Some(answer) = answer else {
        return ErrorCode::CalleeFailed.status();
    };
    let answered = Message::received()
        .and_then(|message| answer(method.cast_unsigned(), message))
        .and_then(|(number, message)| {
            host::message_answer(&message.attach()?).map_err(|failure| Error::last(failure, "answer"))?;
            Ok(number)
        });
    match answered {
        Ok(number) => i32::try_from(number).unwrap_or(ErrorCode::CalleeFailed.status()),
        Err(error) => error.code().status(),
    }
}

/// Lets this program answer the calls to its [`Object`](crate::Object)s. Once, in the crate that becomes the module; a
/// program without it makes objects that nobody can call.
#[macro_export]
macro_rules! answers_calls {
    () => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            #[unsafe(export_name = "refcap_dispatch")]
            extern "C" fn dispatch(object: i32, method: i32, _length: i32, _capabilities: i32) -> i32 {
                $crate::__private::dispatch(object, method)
            }
        };
    };
}
