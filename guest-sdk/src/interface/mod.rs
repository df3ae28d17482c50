//! Objects with types: a trait is what they can do, and a reference to one implements the trait.
//!
//! [`interface`](macro@crate::interface) makes of a trait `Store` the type `StoreRef`, a capability to something that
//! implements `Store`, in this program or another:
//!
//! ```
//! use refcap_guest::{Error, ErrorCode, Net, Result, TcpStream};
//! use serde::{Deserialize, Serialize};
//!
//! #[refcap_guest::interface]
//! pub trait Store {
//!     fn put(&self, key: String, value: Vec<u8>) -> Result<()>;
//!     fn get(&self, key: String) -> Result<Option<Vec<u8>>>;
//!     /// Capabilities go in and come out, wherever they stand.
//!     fn open(&self, net: Net, to: Target) -> Result<TcpStream>;
//!     fn watch(&self, watchers: Vec<WatcherRef>) -> Result<()>;
//! }
//!
//! #[refcap_guest::interface]
//! pub trait Watcher {
//!     fn changed(&self, key: String) -> Result<()>;
//! }
//!
//! #[derive(Serialize, Deserialize)]
//! pub struct Target {
//!     address: String,
//!     fallback: Option<Net>,
//! }
//!
//! // Once, in the crate that becomes the module.
//! refcap_guest::answers_calls!();
//!
//! struct Quiet;
//!
//! impl Watcher for Quiet {
//!     fn changed(&self, key: String) -> Result<()> {
//!         Err(Error::new(ErrorCode::Denied, "watch", format!("nobody is to know of `{key}`")))
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let watcher = WatcherRef::new(Quiet)?;
//! let error = watcher.changed("a".to_owned()).unwrap_err();
//! assert_eq!(error.code(), ErrorCode::Denied);
//! assert_eq!(error.to_string(), "Watcher::changed: watch: nobody is to know of `a`");
//! # Ok(()) }
//! ```
//!
//! # The reference
//!
//! `StoreRef` is made by `StoreRef::new` of anything that implements `Store`, or by `StoreRef::from` of an
//! [`Object`] that somebody has said is one. It is a [`Capability`](crate::Capability) of kind `Object` and can be
//! whatever one can be: a parameter of `main`, an argument and a result of other interfaces, of
//! [`linked`](macro@crate::linked) functions and of [`Message`]s, an endowment of a [`Child`](crate::Child)
//! ([`Launch::grant`](crate::Launch::grant)). `revocable` derives one that can be taken back, `with_timeout` says how
//! long its calls may take, and `Object::from` forgets the type. Nothing checks that two programs mean the same trait: a
//! reference to something else gives [`BadArgument`](ErrorCode::BadArgument) or
//! [`CalleeFailed`](ErrorCode::CalleeFailed) when it is called, or what the other trait's method of that number does.
//!
//! A caller in the same vat calls at once. One in another vat waits until the implementer
//! [serves](crate::object::serve), also [in a task](crate::task::serve), 30 s at most if it does not say otherwise.
//!
//! # What goes along
//!
//! Arguments and results are values of [serde]: whatever implements `Serialize` and `DeserializeOwned`. Capabilities
//! do so too, in one place only: as a part of a call or an answer. There they are moved out of their owner, and are
//! handed over as capabilities in a [`Message`] are: derived, or moved where they are a socket or a
//! [`Name`](crate::Name). Serializing one anywhere else is an error. One that comes along and is not taken, because the
//! other side's type has no place for it, is closed. Calls and answers have 64 KiB and 16 capabilities at most.
//!
//! A type that contains itself is read as deep as it was sent, which can be deeper than the stack of a program; so a
//! program that does not trust its callers takes no such type.
//!
//! # Errors
//!
//! An implementer's error arrives with its code and, cut to 1 KiB, its sentence. Besides, a call gives:
//!
//! - [`BadArgument`](ErrorCode::BadArgument): the implementer could not read the arguments, or has no such method. It
//!   was not called.
//! - [`CalleeFailed`](ErrorCode::CalleeFailed): it has ended, or its answer is not what the method returns.
//! - [`LimitReached`](ErrorCode::LimitReached): the call or its answer is too large, or too deep inside others.
//! - [`TimedOut`](ErrorCode::TimedOut), [`Revoked`](ErrorCode::Revoked), and
//!   [`NotTransferable`](ErrorCode::NotTransferable) for a capability that may not be handed on.
//!
//! # Compatible changes
//!
//! Methods are known by their place in the trait, from 0, and values by their shape. So programs that were built with
//! different versions of a trait understand each other as long as methods are added at the end; names may change, of
//! methods, parameters, structs and fields. An enum may get further variants at its end: who does not know one yet can't
//! read it. Whatever else changes (the order of the methods, what one takes or returns, the fields of a struct) makes it
//! another interface. A method that an implementer does not know yet is a `BadArgument`, so a caller can tell.
//!
//! # By hand
//!
//! Who implements or calls an interface in another language sends the number of the method and, as bytes, the
//! [postcard](https://postcard.jamesmunns.com) form of the tuple of its arguments, in which a capability is a `u32`, its
//! place in the message. The answer's number is 0 and its bytes are the result; or it is 1, and the bytes are a pair of
//! the error's code (an `i32`, more than zero) and its sentence.

use std::time::Duration;

use refcap_abi::ErrorCode;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Message, Object, Result};

mod passing;

pub use passing::{receive, send};

/// What an answer's number says: the bytes are the result.
const ANSWERED: u32 = 0;
/// The bytes are an error.
const REFUSED: u32 = 1;

/// The longest sentence of an implementer that arrives, in bytes.
const MAX_SENTENCE: usize = 1024;

/// A reference that [`interface`](macro@crate::interface) made: an object of which it is known what it can do. Not
/// to be implemented by hand.
pub trait Proxy: Sized {
    /// The reference to an object that implements the trait.
    fn from_object(object: Object) -> Self;

    /// The object that it calls.
    fn object(&self) -> &Object;

    /// The same, without its type.
    fn into_object(self) -> Object;
}

/// A method of an interface.
#[derive(Debug, Clone, Copy)]
pub struct Method {
    /// Its place in the trait.
    pub number: u32,
    /// The names of trait and method.
    pub name: &'static str,
}

/// Calls a method.
pub fn call<A: Serialize, R: DeserializeOwned>(
    object: &Object,
    method: Method,
    timeout: Option<Duration>,
    arguments: A,
) -> Result<R> {
    let during = |error: Error| error.during(method.name);
    let message = passing::pack(&arguments).map_err(during)?;
    // What went into the message is not in the arguments any more; the rest is of no use while the other one works.
    drop(arguments);
    let answer = match timeout {
        None => object.call(method.number, message),
        Some(timeout) => object.call_timeout(method.number, message, timeout),
    };
    let (number, message) = answer.map_err(during)?;
    let failed = |why: String| Error::new(ErrorCode::CalleeFailed, method.name, why);
    let unreadable = |error| passing::wrong(error, failed, "the answer can't be read");
    match number {
        ANSWERED => passing::unpack(message).map_err(unreadable),
        REFUSED => {
            let (code, sentence): (i32, String) = passing::unpack(message).map_err(unreadable)?;
            let code = ErrorCode::from_code(code);
            Err(match code {
                Some(code) => Error::new(code, method.name, sentence),
                None => failed(sentence),
            })
        }
        other => Err(failed(format!(
            "the answer has the number {other}, which no answer of an interface has"
        ))),
    }
}

/// Answers a call of a method.
pub fn answer<A: DeserializeOwned, R: Serialize>(
    method: &'static str,
    message: Message,
    implementation: impl FnOnce(A) -> Result<R>,
) -> Result<(u32, Message)> {
    let bad = |why: String| Error::new(ErrorCode::BadArgument, method, why);
    let arguments = match passing::unpack(message) {
        Ok(arguments) => arguments,
        Err(unreadable) => {
            let error = passing::wrong(unreadable, bad, "the arguments can't be read");
            return refuse(error.code(), &format!("`{method}`: {}", error.message()));
        }
    };
    let packed = implementation(arguments).and_then(|result| passing::pack(&result));
    match packed {
        Ok(message) => Ok((ANSWERED, message)),
        Err(error) => refuse(error.code(), &error.to_string()),
    }
}

/// Answers a call of a method that there is not.
pub fn unknown(interface: &'static str, number: u32, methods: u32) -> Result<(u32, Message)> {
    let why = format!("`{interface}` has {methods} methods here, and none of the number {number}");
    refuse(ErrorCode::BadArgument, &why)
}

fn refuse(code: ErrorCode, sentence: &str) -> Result<(u32, Message)> {
    let end = sentence.floor_char_boundary(MAX_SENTENCE);
    let message = passing::pack(&(code.code(), &sentence[..end]))?;
    Ok((REFUSED, message))
}
