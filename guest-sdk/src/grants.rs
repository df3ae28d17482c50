//! Capabilities that are asked for by name while the program runs.

use refcap_abi::ErrorCode;

use crate::capability::kind_of;
use crate::{Capability, Error, Result, host};

/// Takes what was granted under a name that the program does not declare as an endowment.
///
/// Declared endowments are better where they will do: what a program needs is then known before it
/// starts. This is for programs whose grants are a matter of configuration, such as a list of back ends.
/// What was taken once is not there a second time.
///
/// ```no_run
/// # fn example() -> refcap_guest::Result<()> {
/// let net = refcap_guest::grants::take::<refcap_guest::Net>("backend-7")?;
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// [`NotFound`](ErrorCode::NotFound) where nothing was granted under that name, and
/// [`WrongKind`](ErrorCode::WrongKind) where something of another kind was: it is closed.
pub fn take<C: Capability>(name: &str) -> Result<C> {
    let slot = host::grant_take(name).map_err(|failure| Error::last(failure, "take a grant"))?;
    let kind = kind_of(&slot)?;
    if kind != C::KIND {
        let message = format!("`{name}` is a {kind}, not a {}", C::KIND);
        return Err(Error::new(ErrorCode::WrongKind, "take a grant", message));
    }
    Ok(C::from_slot(slot))
}
