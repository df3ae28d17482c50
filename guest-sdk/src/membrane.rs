//! Boundaries that can be cut.

use crate::capability::capability;
use crate::host::{self, Slot};
use crate::{Capability, Error, Result};

/// A boundary between this program and those that it deals with: all that crossed it ends when it is cut.
///
/// A [`Revoker`](crate::Revoker) ends one capability, and what came from it. What its holder obtained by calling through
/// it came from elsewhere and lives on. A membrane ends the whole exchange: [`wrap`](Membrane::wrap) the
/// [`Object`](crate::Object) that the others are to call, and hand out what comes of it. Then these cross, in either
/// direction and for as long as the membrane is there:
///
/// - what is wrapped, with all that is derived from it or obtained through it;
/// - what goes along with a call of a wrapped object, and what comes back with the answer;
/// - in the same way what goes through the objects among these, and so on.
///
/// What each side had before stays its own: it has no part in the copy that crossed. What programs of one vat pass to each
/// other by [`linked`](macro@crate::linked) functions does not cross, and neither do the bytes of a call.
///
/// ```
/// use refcap_guest::{ErrorCode, Membrane, Message, Net, Object, Result};
///
/// # refcap_guest::answers_calls!();
/// /// Lends `net` to whoever calls, through a membrane.
/// fn lender(net: Net) -> Result<(Object, Membrane)> {
///     let lender = Object::new(move |_method, _message| Ok((0, Message::new().with(net.only("connect tcp *:443")?))))?;
///     let membrane = Membrane::new()?;
///     Ok((membrane.wrap(lender)?, membrane))
/// }
///
/// # fn main() -> Result<()> {
/// # let net = refcap_guest::testing::net("connect tcp 10.0.0.0/8:*");
/// let (lender, membrane) = lender(net)?;
/// let (_, mut answer) = lender.call(0, Message::new())?;
/// let lent: Net = answer.take(0)?;
/// assert_eq!(lent.describe()?, "connect tcp 10.0.0.0/8:443");
/// // The object, and what came back from its call.
/// assert_eq!(membrane.cut()?, 2);
/// assert_eq!(lent.describe().unwrap_err().code(), ErrorCode::Revoked);
/// # Ok(()) }
/// ```
///
/// It can be handed on, and whoever holds it can cut it. Dropping it cuts nothing.
#[derive(Debug)]
pub struct Membrane {
    slot: Slot,
}

capability!(Membrane { slot });

impl Membrane {
    /// A membrane through which nothing has crossed.
    ///
    /// # Errors
    ///
    /// [`LimitReached`](refcap_abi::ErrorCode::LimitReached) when this program has as many capabilities as it may have.
    pub fn new() -> Result<Membrane> {
        let slot = host::membrane_new().map_err(|failure| Error::last(failure, "make a membrane"))?;
        Ok(Membrane { slot })
    }

    /// Puts a capability behind the membrane, and returns it as it is for the other side: of the same kind, able to do the
    /// same, and ended by [`cut`](Membrane::cut).
    ///
    /// A socket and a [`Name`](crate::Name) move: there is one, and it is behind the membrane now. Anything else is
    /// derived, and the one that is given is closed; who wants to keep it derives one for the other side first, as by
    /// [`Net::only`](crate::Net::only), [`Object::revocable`](crate::Object::revocable).
    ///
    /// # Errors
    ///
    /// [`Revoked`](refcap_abi::ErrorCode::Revoked) when the membrane was cut or the capability was revoked;
    /// [`NotTransferable`](refcap_abi::ErrorCode::NotTransferable) for what may not be handed on, and for a
    /// [`Poller`](crate::Poller) and a [`Child`](crate::Child), which stay in their program;
    /// [`LimitReached`](refcap_abi::ErrorCode::LimitReached) for an object behind more than 8 membranes, or when this
    /// program has as many capabilities as it may have. The capability is closed then.
    pub fn wrap<C: Capability>(&self, capability: C) -> Result<C> {
        let slot = capability.into_slot();
        let wrapped = host::membrane_wrap(&self.slot, &slot);
        let wrapped = wrapped.map_err(|failure| Error::last(failure, "put behind a membrane"))?;
        // Here what was given is closed. Of a socket the reference names nothing any more.
        Ok(C::from_slot(wrapped))
    }

    /// Ends all that crossed, in this program and wherever it was handed to, and returns how many capabilities ended: 0
    /// when it was cut before. Nothing crosses any more.
    ///
    /// When this returns, nothing that goes through them starts any more, and what was going on has failed with
    /// [`Revoked`](refcap_abi::ErrorCode::Revoked): a call too, also one that is being answered, whose answer is dropped. Until
    /// then, another program that sees one of them end may still use one that has not.
    ///
    /// # Errors
    ///
    /// [`Revoked`](refcap_abi::ErrorCode::Revoked) when the membrane itself was handed to this program and taken back.
    pub fn cut(&self) -> Result<usize> {
        let ended = host::membrane_cut(&self.slot).map_err(|failure| Error::last(failure, "cut"))?;
        Ok(ended as usize)
    }
}
