//! The host functions: they decode arguments, ask the capability, and encode the answer. Nothing else.
//!
//! | import | file |
//! |---|---|
//! | `net_*` | [`net`] |
//! | `stream_*` | [`stream`] |
//! | `revoker_*`, `cap_*` | [`any`] |
//! | `grant_take`, `error_message`, `report` | [`vat`] |
//!
//! Every function's documentation says what it **needs** (arguments), **checks**, **returns**, and when
//! it **traps**. Three things hold for all of them and are not repeated:
//!
//! - A reference argument that is null, foreign, closed or revoked is `NullReference`,
//!   `ForeignReference`, `Closed` or `Revoked`; one of another kind than needed is `WrongKind`. This is
//!   found out before anything else is looked at.
//! - A pointer and length that do not lie inside the guest's memory are `BadPointer`.
//! - None traps, with one exception: an error inside the engine while a reference is made or collected,
//!   other than running out of memory for references, stops the guest.

mod any;
mod memory;
mod net;
mod stream;
mod vat;

use refcap_abi::Import;
use wasmtime::Linker;

use crate::references::{Body, Ordinary, define_all};
use crate::vat::VatState;

/// Registers all host functions.
pub(crate) fn add_to_linker(linker: &mut Linker<VatState>) -> wasmtime::Result<()> {
    define_all::<Ordinary>(linker, body)
}

/// The body of an import.
fn body(import: &Import) -> Body {
    match import.name {
        "net_only" => Body::Now(net::only),
        "net_exactly" => Body::Now(net::exactly),
        "net_except" => Body::Now(net::except),
        "net_revocable" => Body::Now(net::revocable),
        "net_connect" => Body::Later(|call| Box::pin(net::connect(call))),
        "net_allows" => Body::Now(net::allows),
        "net_describe" => Body::Now(net::describe),
        "stream_read" => Body::Now(stream::read),
        "stream_write" => Body::Now(stream::write),
        "stream_wait" => Body::Later(|call| Box::pin(stream::wait(call))),
        "stream_shutdown" => Body::Now(stream::shutdown),
        "stream_address" => Body::Now(stream::address),
        "revoker_revoke" => Body::Now(any::revoke),
        "cap_kind" => Body::Now(any::kind),
        "cap_close" => Body::Now(any::close),
        "grant_take" => Body::Now(vat::grant_take),
        "error_message" => Body::Now(vat::error_message),
        "report" => Body::Now(vat::report),
        // The table and this list are in one repository; the test below keeps them together.
        name => unreachable!("the import `{name}` has no body"),
    }
}

#[cfg(test)]
mod tests {
    use refcap_abi::IMPORTS;

    use super::*;

    #[test]
    fn every_import_has_a_body_of_its_kind() {
        for import in IMPORTS {
            let suspends = matches!(body(import), Body::Later(_));
            assert_eq!(suspends, import.suspends, "{}", import.name);
        }
    }
}
