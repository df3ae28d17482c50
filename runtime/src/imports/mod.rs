//! The host functions: they decode arguments, ask the capability, and encode the answer. Nothing else.
//!
//! | import | file |
//! |---|---|
//! | `net_only`, `net_exactly`, `net_except`, `net_limit`, `net_revocable`, `net_allows`, `net_describe`, `net_flags` | [`net`] |
//! | `net_connect`, `net_connect_from`, `net_listen`, `net_bind_udp`, `listener_accept` | [`open`] |
//! | `net_resolve`, `name_*` | [`name`] |
//! | `stream_*` | [`stream`] |
//! | `udp_*` | [`udp`] |
//! | `socket_*` | [`socket`] |
//! | `poller_*` | [`poller`] |
//! | `revoker_*`, `cap_*` | [`any`] |
//! | `grant_take`, `error_message`, `time_now`, `report` | [`vat`] |
//!
//! Every function's documentation says what it **needs** (arguments), **checks**, **returns**, and when
//! it **traps**. Three things hold for all of them and are not repeated:
//!
//! - A reference argument that is null, foreign, closed or revoked is `NullReference`,
//!   `ForeignReference`, `Closed` or `Revoked`; one whose lease has ended is `Expired`; one of another
//!   kind than needed is `WrongKind`. This is found out before anything else is looked at.
//! - A pointer and length that do not lie inside the guest's memory are `BadPointer`.
//! - None traps, with one exception: an error inside the engine while a reference is made or collected,
//!   other than running out of memory for references, stops the guest.

mod any;
mod memory;
mod name;
mod net;
mod open;
mod poller;
mod socket;
mod stream;
mod udp;
mod vat;

use refcap_abi::Import;
use wasmtime::Linker;

use crate::references::{Body, Compared, Fast, Ordinary, References, define_all};
use crate::vat::VatState;

/// Registers all host functions.
pub(crate) fn add_to_linker(linker: &mut Linker<VatState>, references: References) -> wasmtime::Result<()> {
    match references {
        References::Fast => define_all::<Fast>(linker, body),
        References::Ordinary => define_all::<Ordinary>(linker, body),
        References::Compared => define_all::<Compared>(linker, body),
    }
}

/// The body of an import.
fn body(import: &Import) -> Body {
    match import.name {
        "net_only" => Body::Now(net::only),
        "net_exactly" => Body::Now(net::exactly),
        "net_except" => Body::Now(net::except),
        "net_limit" => Body::Now(net::limit),
        "net_revocable" => Body::Now(net::revocable),
        "net_connect" => Body::Later(|call| Box::pin(open::connect(call))),
        "net_connect_from" => Body::Later(|call| Box::pin(open::connect_from(call))),
        "net_listen" => Body::Now(open::listen),
        "net_bind_udp" => Body::Now(open::bind_udp),
        "net_resolve" => Body::Later(|call| Box::pin(name::resolve(call))),
        "net_allows" => Body::Now(net::allows),
        "net_describe" => Body::Now(net::describe),
        "net_flags" => Body::Now(net::flags),
        "stream_read" => Body::Now(stream::read),
        "stream_write" => Body::Now(stream::write),
        "stream_read_vectored" => Body::Now(stream::read_vectored),
        "stream_write_vectored" => Body::Now(stream::write_vectored),
        "stream_copy" => Body::Now(stream::copy),
        "stream_shutdown" => Body::Now(stream::shutdown),
        "stream_no_delay" => Body::Now(stream::no_delay),
        "name_connect" => Body::Later(|call| Box::pin(name::connect(call))),
        "name_describe" => Body::Now(name::describe),
        "listener_accept" => Body::Now(open::accept),
        "udp_connect" => Body::Now(udp::connect),
        "udp_send" => Body::Now(udp::send),
        "udp_receive" => Body::Now(udp::receive),
        "udp_dropped" => Body::Now(udp::dropped),
        "socket_wait" => Body::Later(|call| Box::pin(socket::wait(call))),
        "socket_address" => Body::Now(socket::address),
        "poller_new" => Body::Now(poller::new),
        "poller_add" => Body::Now(poller::add),
        "poller_remove" => Body::Now(poller::remove),
        "poller_wait" => Body::Later(|call| Box::pin(poller::wait(call))),
        "revoker_revoke" => Body::Now(any::revoke),
        "cap_kind" => Body::Now(any::kind),
        "cap_close" => Body::Now(any::close),
        "grant_take" => Body::Now(vat::grant_take),
        "error_message" => Body::Now(vat::error_message),
        "time_now" => Body::Now(vat::time_now),
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
