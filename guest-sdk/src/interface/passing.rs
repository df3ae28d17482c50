//! Values with capabilities in them, as messages.
//!
//! serde knows nothing of capabilities. So a capability that is serialized is taken out of its owner, put into a list
//! that exists while a message is made, and written as its place there; reading goes the other way.

use std::cell::RefCell;
use std::thread::LocalKey;

use refcap_abi::{ErrorCode, MAX_MESSAGE_BYTES, MAX_MESSAGE_CAPABILITIES};
use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::capability::{Capability, kind_of};
use crate::host::{self, Slot};
use crate::{Error, Guard, Membrane, Message, Name, Net, Object, Result, Revoker, Spawner};
use crate::{TcpListener, TcpStream, UdpSocket};

/// A message that is being made.
#[derive(Default)]
struct Packing {
    slots: Vec<Slot>,
    error: Option<Error>,
}

/// A message that is being read.
struct Unpacking {
    slots: Vec<Option<Slot>>,
    error: Option<Error>,
}

thread_local! {
    static PACKING: RefCell<Option<Packing>> = const { RefCell::new(None) };
    static UNPACKING: RefCell<Option<Unpacking>> = const { RefCell::new(None) };
}

/// Makes a message of a value. The capabilities in it are not its own any more.
pub(super) fn pack(value: &impl Serialize) -> Result<Message> {
    const OPERATION: &str = "make a message";
    let (packed, bytes) = within(&PACKING, Packing::default(), || postcard::to_allocvec(value));
    let bytes = bytes.map_err(|error| {
        let why = || Error::new(ErrorCode::BadArgument, OPERATION, error.to_string());
        packed.error.unwrap_or_else(why)
    })?;
    if bytes.len() > MAX_MESSAGE_BYTES {
        let why = format!("it has {} bytes, and may have {MAX_MESSAGE_BYTES}", bytes.len());
        return Err(Error::new(ErrorCode::LimitReached, OPERATION, why));
    }
    Ok(Message::of_slots(bytes, packed.slots))
}

/// Makes a value of a message. Capabilities that have no place in it are closed.
pub(super) fn unpack<T: DeserializeOwned>(message: Message) -> Result<T, Unreadable> {
    let (bytes, slots) = message.into_parts();
    let context = Unpacking { slots, error: None };
    let (unpacked, value) = within(&UNPACKING, context, || postcard::take_from_bytes(&bytes));
    match value {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(Unreadable::Bytes(format!("{} bytes are left over", rest.len()))),
        Err(error) => Err(unpacked
            .error
            .map_or_else(|| Unreadable::Bytes(error.to_string()), Unreadable::Capability)),
    }
}

/// Why a message is not a value of the type.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// The bytes are not of its form.
    Bytes(String),
    /// A capability is missing, or is of another kind.
    Capability(Error),
}

/// The error that this is, where the host has no other word for what happened.
pub(super) fn wrong(unreadable: Unreadable, error: impl Fn(String) -> Error, what: &str) -> Error {
    match unreadable {
        Unreadable::Bytes(why) => error(format!("{what}: {why}")),
        // It was in order until then.
        Unreadable::Capability(ended) if ended.is_revoked() => ended,
        Unreadable::Capability(why) => error(format!("{what}: {}", why.message())),
    }
}

/// Does something while a context is there, and returns what became of the context too.
fn within<C: 'static, T>(
    key: &'static LocalKey<RefCell<Option<C>>>,
    context: C,
    action: impl FnOnce() -> T,
) -> (C, T) {
    /// Brings back the context that was there before, also when the action panics.
    struct Outer<C: 'static>(&'static LocalKey<RefCell<Option<C>>>, Option<C>);

    impl<C: 'static> Drop for Outer<C> {
        fn drop(&mut self) {
            let inner = self.0.replace(self.1.take());
            drop(inner);
        }
    }

    let outer = Outer(key, key.replace(Some(context)));
    let value = action();
    let context = key.take().expect("only `within` takes it, and puts it back");
    drop(outer);
    (context, value)
}

/// What [`interface`](macro@crate::interface) and the SDK serialize a capability with.
pub fn send<S: Serializer>(capability: &impl Capability, serializer: S) -> Result<S::Ok, S::Error> {
    let place = PACKING.with_borrow_mut(|packing| {
        let packing = packing.as_mut().ok_or_else(|| outside("serialized"))?;
        packing.add(capability).inspect_err(|error| {
            packing.error = Some(error.clone());
        })
    });
    serializer.serialize_u32(place.map_err(S::Error::custom)?)
}

/// What they deserialize a capability with.
pub fn receive<'a, C: Capability, D: Deserializer<'a>>(deserializer: D) -> Result<C, D::Error> {
    let place = u32::deserialize(deserializer)?;
    let taken = UNPACKING.with_borrow_mut(|unpacking| {
        let unpacking = unpacking.as_mut().ok_or_else(|| outside("deserialized"))?;
        unpacking.take(place).inspect_err(|error| {
            unpacking.error = Some(error.clone());
        })
    });
    taken.map_err(D::Error::custom)
}

fn outside(what: &str) -> Error {
    let message = format!("a capability is {what} as a part of a call to an interface or of its answer only");
    Error::new(ErrorCode::BadArgument, "serialize a capability", message)
}

impl Packing {
    fn add(&mut self, capability: &impl Capability) -> Result<u32> {
        const OPERATION: &str = "send a capability along";
        let place = self.slots.len();
        if place >= MAX_MESSAGE_CAPABILITIES {
            let why = format!("a message has no more than {MAX_MESSAGE_CAPABILITIES} capabilities");
            return Err(Error::new(ErrorCode::LimitReached, OPERATION, why));
        }
        let slot = host::take_out(capability.slot()).map_err(|failure| Error::last(failure, OPERATION))?;
        self.slots.push(slot);
        Ok(place as u32)
    }
}

impl Unpacking {
    fn take<C: Capability>(&mut self, place: u32) -> Result<C> {
        const OPERATION: &str = "take a capability of a message";
        let slot = self.slots.get_mut(place as usize).and_then(Option::take);
        let slot = slot.ok_or_else(|| {
            let why = format!("there is no capability at place {place}, or it was taken");
            Error::new(ErrorCode::NotFound, OPERATION, why)
        })?;
        let kind = kind_of(&slot)?;
        if kind != C::KIND {
            let why = format!("the capability at place {place} is a {kind}, not a {}", C::KIND);
            return Err(Error::new(ErrorCode::WrongKind, OPERATION, why));
        }
        Ok(C::from_slot(slot))
    }
}

macro_rules! passes {
    ($($capability:ident)*) => {
        $(
            /// As a part of a call to an [`interface`](mod@crate::interface), or of its answer; else it is an error.
            impl Serialize for $capability {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    send(self, serializer)
                }
            }

            /// As a part of a call to an [`interface`](mod@crate::interface), or of its answer; else it is an error.
            impl<'a> Deserialize<'a> for $capability {
                fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<$capability, D::Error> {
                    receive(deserializer)
                }
            }
        )*
    };
}

// Pollers and Children stay in their program.
passes!(Guard Membrane Name Net Object Revoker Spawner TcpListener TcpStream UdpSocket);
