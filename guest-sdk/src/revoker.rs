//! The power to take back what was handed on.

use crate::capability::capability;
use crate::host::{self, Slot};
use crate::{Error, Result};

/// The power to revoke one capability, with everything that was derived from it or obtained through it.
///
/// It is made with the capability that it is for, by [`Net::revocable`](crate::Net::revocable), and can be
/// handed on by itself. Dropping it revokes nothing.
#[derive(Debug)]
pub struct Revoker {
    slot: Slot,
}

capability!(Revoker { slot });

impl Revoker {
    /// Ends the capability and all its descendants, in this program and wherever they were handed to, and
    /// returns how many ended.
    ///
    /// When this returns, nothing that goes through them starts any more, and what was going on has
    /// failed with [`Revoked`](refcap_abi::ErrorCode::Revoked). Data that the system took before is not
    /// recalled. Revoking again is no error; it ends nothing.
    pub fn revoke(&self) -> Result<usize> {
        let ended = host::revoker_revoke(&self.slot).map_err(|failure| Error::last(failure, "revoke"))?;
        Ok(ended as usize)
    }
}
