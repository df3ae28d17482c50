//! Calling programs that this one is linked to, and being called by them.
//!
//! Whoever runs a program can link others to it (`refcap run app.wasm --with plugin=plugin.wasm`). They are
//! instances in one vat: each has a memory and capabilities of its own, and can do with the network what it is given
//! in a call, and nothing else. A call is an ordinary wasm call, and a capability is passed without the host's
//! part in it.
//!
//! The one that calls says what it calls with [`linked`](crate::linked), the one that is called with
//! [`export`](macro@crate::export):
//!
//! ```no_run
//! // In the plug-in, the `lib.rs` of a `cdylib`:
//! use refcap_guest::{Net, Result, TcpStream};
//!
//! #[refcap_guest::export]
//! fn open(net: Net, port: u32) -> Result<TcpStream> {
//!     net.connect(format!("127.0.0.1:{port}"))
//! }
//! # fn main() {}
//! ```
//!
//! ```no_run
//! // In the program that is run:
//! use refcap_guest::{Net, Result, TcpStream};
//!
//! #[refcap_guest::linked(name = "plugin")]
//! extern "C" {
//!     fn open(net: Net, port: u32) -> Result<TcpStream>;
//! }
//!
//! #[refcap_guest::main]
//! fn main(net: Net) -> Result<()> {
//!     let stream = open(net.only("connect tcp 127.0.0.1:*")?, 8080)?;
//!     Ok(())
//! }
//! ```
//!
//! What can be passed: capabilities, `u32`, `i32`, `u64`, `i64` and `bool`; returned: one of capability, `u32`, `bool` and
//! `()`, in a `Result` or by itself. A capability that is passed is the other program's from then on: derive one to
//! lend, and keep a [`Revoker`](crate::Revoker) to take it back. Bytes can't be passed this way, for each program has
//! its own memory.
//!
//! Programs of one vat share its limits and its end: one that panics ends them all.

use refcap_abi::ErrorCode;

use crate::capability::kind_of;
use crate::{Capability, Error, Result, host};

/// A program that this one is linked to.
#[derive(Debug, Clone, Copy)]
pub struct Linked {
    number: u32,
}

impl Linked {
    /// The program of that name.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorCode::NotFound) where this program is linked to none of that name.
    pub fn find(name: &str) -> Result<Linked> {
        let number =
            host::link_find(name).map_err(|failure| Error::last(failure, "find a linked program"))?;
        Ok(Linked { number })
    }

    /// Gives a capability to the program, and returns the number that it has there, to be passed in a call.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorCode::NotFound) for a program that takes no capabilities,
    /// [`LimitReached`](ErrorCode::LimitReached) when it has no room. The capability is closed then.
    pub fn give(self, capability: impl Capability) -> Result<u32> {
        host::link_give(capability.into_slot(), self.number)
            .map_err(|failure| Error::plain(failure, "give a capability"))
    }

    /// Takes the capability that the program has put out ([`put_out`]).
    ///
    /// # Errors
    ///
    /// [`NullReference`](ErrorCode::NullReference) where there is none, [`WrongKind`](ErrorCode::WrongKind) where it
    /// is of another kind: it is closed.
    pub fn take<C: Capability>(self) -> Result<C> {
        let slot =
            host::link_take(self.number).map_err(|failure| Error::plain(failure, "take a capability"))?;
        of_kind(slot, "take a capability")
    }
}

/// Takes a capability that another program gave, by the number that it passed in its call.
///
/// # Errors
///
/// [`NullReference`](ErrorCode::NullReference) for a number under which nothing was given, or that was received
/// before; [`WrongKind`](ErrorCode::WrongKind) for another kind of capability, which is closed.
pub fn received<C: Capability>(number: u32) -> Result<C> {
    const OPERATION: &str = "receive a capability";
    match host::received(number) {
        Some(slot) => of_kind(slot, OPERATION),
        None => {
            let message = format!("nothing was given under the number {number}");
            Err(Error::new(ErrorCode::NullReference, OPERATION, message))
        }
    }
}

/// Puts a capability out for the program that called, which takes it when the call has returned. There is room for
/// one: another one takes its place.
pub fn put_out(capability: impl Capability) -> Result<()> {
    host::put_out(capability.into_slot()).map_err(|failure| Error::last(failure, "put a capability out"))?;
    Ok(())
}

fn of_kind<C: Capability>(slot: host::Slot, operation: &'static str) -> Result<C> {
    let kind = kind_of(&slot)?;
    if kind != C::KIND {
        let message = format!("it is a {kind}, not a {}", C::KIND);
        return Err(Error::new(ErrorCode::WrongKind, operation, message));
    }
    Ok(C::from_slot(slot))
}

/// What [`linked`](crate::linked) and [`export`](macro@crate::export) can pass.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be passed to a linked program",
    note = "capabilities, `u32`, `i32`, `u64`, `i64` and `bool` can"
)]
pub trait Pass: Sized {
    /// What it is in wasm.
    type Wire;

    /// Makes it what is passed to the program.
    fn pass(self, to: Linked) -> Result<Self::Wire>;

    /// Makes it of what was passed.
    fn receive(wire: Self::Wire) -> Result<Self>;
}

impl<C: Capability> Pass for C {
    type Wire = u32;

    fn pass(self, to: Linked) -> Result<u32> {
        to.give(self)
    }

    fn receive(wire: u32) -> Result<C> {
        received(wire)
    }
}

macro_rules! numbers {
    ($($number:ty)*) => {
        $(
            impl Pass for $number {
                type Wire = $number;

                fn pass(self, _: Linked) -> Result<$number> {
                    Ok(self)
                }

                fn receive(wire: $number) -> Result<$number> {
                    Ok(wire)
                }
            }
        )*
    };
}

numbers!(u32 i32 u64 i64);

impl Pass for bool {
    type Wire = u32;

    fn pass(self, _: Linked) -> Result<u32> {
        Ok(self.into())
    }

    fn receive(wire: u32) -> Result<bool> {
        Ok(wire != 0)
    }
}

/// What a function of a linked program can return. On the wire it is a number that is not negative, or an error's,
/// negated.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be returned to a linked program",
    note = "capabilities, `u32`, `bool` and `()` can, by themselves or in a `refcap_guest::Result`"
)]
pub trait Return: Sized {
    /// Makes it what is returned.
    fn give_back(self) -> Result<u32>;

    /// Makes it of what the program returned.
    fn get_back(wire: u32, from: Linked) -> Result<Self>;
}

impl Return for () {
    fn give_back(self) -> Result<u32> {
        Ok(0)
    }

    fn get_back(_: u32, _: Linked) -> Result<()> {
        Ok(())
    }
}

impl Return for u32 {
    fn give_back(self) -> Result<u32> {
        Ok(self)
    }

    fn get_back(wire: u32, _: Linked) -> Result<u32> {
        Ok(wire)
    }
}

impl Return for bool {
    fn give_back(self) -> Result<u32> {
        Ok(self.into())
    }

    fn get_back(wire: u32, _: Linked) -> Result<bool> {
        Ok(wire != 0)
    }
}

impl<C: Capability> Return for C {
    fn give_back(self) -> Result<u32> {
        put_out(self)?;
        Ok(0)
    }

    fn get_back(_: u32, from: Linked) -> Result<C> {
        from.take()
    }
}

impl<R: Return> Return for Result<R> {
    fn give_back(self) -> Result<u32> {
        self?.give_back()
    }

    fn get_back(wire: u32, from: Linked) -> Result<Result<R>> {
        Ok(R::get_back(wire, from))
    }
}

/// What an exported function returns.
pub fn answer(result: Result<u32>) -> i64 {
    match result {
        Ok(number) => number.into(),
        Err(error) => error.code().status().into(),
    }
}

/// What came of a call: a value, or the error whose code the program returned. Its message stays there.
pub fn outcome<R: Return>(wire: i64, from: Linked, function: &'static str) -> Result<R> {
    match u32::try_from(wire) {
        Ok(number) => R::get_back(number, from),
        Err(_) => {
            let code = i32::try_from(wire).ok().and_then(ErrorCode::from_code);
            let code = code.unwrap_or(ErrorCode::Io);
            Err(Error::new(code, function, code.message()))
        }
    }
}
