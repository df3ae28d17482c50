//! What a guest can ask about the programs that it is linked to. What it does with them goes by way of the
//! [`switchboard`](crate::switchboard).

use refcap_abi::{ErrorCode, endowment};

use super::memory::copy_in;
use crate::references::{Call, Outcome, Reply};
use crate::vat::Refusal;

/// `link_find(name, length) -> status`: the number of a program that this one is linked to.
///
/// - **Needs** a name.
/// - **Checks** its length.
/// - **Returns** the number, from 0, which stays the same. `NotFound`, with the names that there are;
///   `LimitReached`.
/// - **Traps** never.
pub(super) fn find(call: &mut Call<'_>) -> Reply {
    let bytes = copy_in(call, call.int(0), call.int(1), endowment::MAX_NAME, "the name")?;
    let links = &call.state().instance(call.instance()).links;
    match links.iter().position(|link| link.as_bytes() == bytes) {
        Some(number) => Ok(Outcome::Done(i32::try_from(number).unwrap_or(i32::MAX))),
        None => {
            let name = String::from_utf8_lossy(&bytes);
            let why = match links.is_empty() {
                true => format!("this program is linked to none, so there is no `{name}`"),
                false => format!(
                    "this program is not linked to `{name}`, only to `{}`",
                    links.join("`, `")
                ),
            };
            Err(Refusal::new(ErrorCode::NotFound, why).into())
        }
    }
}
