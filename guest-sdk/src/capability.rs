//! What all capabilities have in common.

use refcap_abi::{ErrorCode, Kind};

use crate::host::{self, Slot};
use crate::interface::Proxy;
use crate::{Error, Object, Result};

/// A capability: an owned reference of one kind.
///
/// Only this crate can implement it, and [`interface`](macro@crate::interface) for the references that it makes. A capability cannot be cloned: a second owner of the same reference
/// would lose it when the first is dropped. Derive another one instead (see [`Net`](crate::Net)).
#[diagnostic::on_unimplemented(message = "`{Self}` is not a kind of capability")]
pub trait Capability: sealed::Sealed + Sized {
    /// The kind that every capability of this type has.
    const KIND: Kind;

    /// The kind that the host says this capability has. It is [`KIND`](Capability::KIND), unless the
    /// capability was revoked, which is an error.
    fn kind(&self) -> Result<Kind> {
        kind_of(self.slot())
    }

    /// Gives the capability up and says whether that went well.
    ///
    /// Dropping it does the same and says nothing. What was derived from it stays; to end that too, use a
    /// [`Revoker`](crate::Revoker).
    fn close(self) -> Result<()> {
        host::cap_close(self.into_slot()).map_err(|failure| Error::last(failure, "close"))?;
        Ok(())
    }
}

/// The kind of whatever a slot holds.
pub(crate) fn kind_of(slot: &Slot) -> Result<Kind> {
    let code = host::cap_kind(slot).map_err(|failure| Error::last(failure, "ask for the kind"))?;
    let known = i32::try_from(code).ok().and_then(Kind::from_code);
    known.ok_or_else(|| {
        let message = format!("the host says kind {code}, which this version does not know");
        Error::new(ErrorCode::WrongKind, "ask for the kind", message)
    })
}

pub(crate) mod sealed {
    //! The part of [`Capability`](super::Capability) that is not for users.
    use crate::host::Slot;

    #[expect(
        private_interfaces,
        reason = "the slot is what must not be reachable from outside"
    )]
    pub trait Sealed {
        /// Makes a capability of a slot whose reference is of the right kind.
        fn from_slot(slot: Slot) -> Self;
        fn slot(&self) -> &Slot;
        fn into_slot(self) -> Slot;
    }
}

/// A reference of an interface is the object that it calls.
impl<P: Proxy> Capability for P {
    const KIND: Kind = Kind::Object;
}

#[expect(
    private_interfaces,
    reason = "the slot is what must not be reachable from outside"
)]
impl<P: Proxy> sealed::Sealed for P {
    fn from_slot(slot: Slot) -> Self {
        P::from_object(Object::from_slot(slot))
    }

    fn slot(&self) -> &Slot {
        self.object().slot()
    }

    fn into_slot(self) -> Slot {
        self.into_object().into_slot()
    }
}

/// Makes a type, which must have a field `slot`, a capability.
macro_rules! capability {
    ($name:ident { slot $(, $field:ident: $value:expr)* }) => {
        impl crate::Capability for $name {
            const KIND: refcap_abi::Kind = refcap_abi::Kind::$name;
        }

        #[expect(private_interfaces, reason = "the slot is what must not be reachable from outside")]
        impl crate::capability::sealed::Sealed for $name {
            fn from_slot(slot: crate::host::Slot) -> Self {
                $name { slot $(, $field: $value)* }
            }

            fn slot(&self) -> &crate::host::Slot {
                &self.slot
            }

            fn into_slot(self) -> crate::host::Slot {
                self.slot
            }
        }
    };
}
pub(crate) use capability;
