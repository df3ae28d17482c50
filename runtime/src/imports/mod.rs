//! The host functions: they decode arguments, ask the capability, and encode the answer. Nothing else.
//!
//! | import | file |
//! |---|---|
//! | `net_only`, `net_exactly`, `net_except`, `net_limit`, `net_revocable`, `net_allows`, `net_describe`, `net_flags` | [`net`] |
//! | `net_connect`, `net_connect_from`, `net_listen`, `net_bind_udp`, `listener_accept`, `stream_pair` | [`open`] |
//! | `net_resolve`, `name_*` | [`name`] |
//! | `stream_*` | [`stream`] |
//! | `udp_*` | [`udp`] |
//! | `socket_*` | [`socket`] |
//! | `poller_*` | [`poller`] |
//! | `net_guarded`, `guard_new` | [`guard`] |
//! | `spawner_*`, `child_*` | [`child`] |
//! | `revoker_*`, `cap_*` | [`any`] |
//! | `object_as_net`, and use of a Net that a program implements | [`implemented`] |
//! | `membrane_*` | [`membrane`] |
//! | `object_*`, `message_*` | [`object`] |
//! | `link_find` | [`link`] |
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
mod child;
mod guard;
mod implemented;
mod link;
mod membrane;
mod memory;
mod name;
mod net;
mod object;
mod open;
mod poller;
mod socket;
mod stream;
mod udp;
mod vat;

use refcap_abi::{IMPORTS, Import, MODULE};
use wasmtime::Linker;

use crate::references::{
    Body, Compared, Fast, Ordinary, Passage, References, Site, define_all, inlined, later, now, peek,
};
use crate::switchboard;
use crate::vat::VatState;

/// Registers all host functions for one of a vat's instances.
pub(crate) fn add_to_linker(
    linker: &mut Linker<VatState>,
    references: References,
    instance: u8,
) -> wasmtime::Result<()> {
    let site = Site {
        module: MODULE,
        instance,
    };
    match references {
        References::Fast => define::<Fast>(linker, site),
        References::Ordinary => define::<Ordinary>(linker, site),
        References::Compared => define::<Compared>(linker, site),
    }
}

fn define<P: Passage>(linker: &mut Linker<VatState>, site: Site) -> wasmtime::Result<()> {
    let provided = IMPORTS.iter().filter(|import| !import.wired);
    define_all::<P>(linker, site, provided, body::<P>)?;
    let switchboard = Site {
        module: switchboard::MODULE,
        ..site
    };
    define_all::<P>(linker, switchboard, object::HELPERS, helper::<P>)
}

/// The body of what only the switchboard can import.
fn helper<P: Passage>(import: &Import) -> Body {
    match import.name {
        "enter" => inlined!(P, 1, 3, object::enter),
        "discard" => now!(object::discard),
        "leave" => inlined!(P, 0, 1, object::leave),
        "remote" => later!(object::remote),
        "next" => later!(object::next),
        "done" => now!(object::done),
        // As for the imports of guests.
        name => unreachable!("the switchboard's import `{name}` has no body"),
    }
}

/// The body of an import.
fn body<P: Passage>(import: &Import) -> Body {
    match import.name {
        "net_only" => now!(net::only),
        "net_exactly" => now!(net::exactly),
        "net_except" => now!(net::except),
        "net_limit" => now!(net::limit),
        "net_revocable" => now!(net::revocable),
        "net_guarded" => now!(guard::guarded),
        "net_connect" => later!(open::connect),
        "net_connect_from" => later!(open::connect_from),
        "net_listen" => later!(open::listen),
        "net_bind_udp" => later!(open::bind_udp),
        "net_resolve" => later!(name::resolve),
        "net_allows" => now!(net::allows),
        "net_describe" => now!(net::describe),
        "net_flags" => peek!(P, net::flags),
        "stream_pair" => now!(open::pair),
        "stream_read" => now!(stream::read),
        "stream_write" => now!(stream::write),
        "stream_read_vectored" => now!(stream::read_vectored),
        "stream_write_vectored" => now!(stream::write_vectored),
        "stream_copy" => now!(stream::copy),
        "stream_shutdown" => now!(stream::shutdown),
        "stream_no_delay" => now!(stream::no_delay),
        "name_connect" => later!(name::connect),
        "name_describe" => now!(name::describe),
        "listener_accept" => now!(open::accept),
        "udp_connect" => now!(udp::connect),
        "udp_send" => now!(udp::send),
        "udp_receive" => now!(udp::receive),
        "udp_dropped" => now!(udp::dropped),
        "socket_wait" => later!(socket::wait),
        "socket_address" => now!(socket::address),
        "poller_new" => now!(poller::new),
        "poller_add" => now!(poller::add),
        "poller_add_calls" => now!(poller::add_calls),
        "poller_remove" => now!(poller::remove),
        "poller_wait" => later!(poller::wait),
        "guard_new" => later!(guard::new),
        "revoker_revoke" => now!(any::revoke),
        "membrane_new" => now!(membrane::new),
        "membrane_wrap" => now!(membrane::wrap),
        "membrane_cut" => now!(membrane::cut),
        "spawner_program" => now!(child::program),
        "spawner_load" => later!(child::load),
        "child_grant" => now!(child::grant),
        "child_argument" => now!(child::argument),
        "child_limit" => now!(child::limit),
        "child_start" => later!(child::start),
        "child_wait" => later!(child::wait),
        "child_stop" => later!(child::stop),
        "cap_kind" => peek!(P, any::kind),
        "cap_close" => now!(any::close),
        "object_new" => now!(object::new),
        "object_revocable" => now!(object::revocable),
        "object_forgotten" => now!(object::forgotten),
        "object_as_net" => now!(implemented::as_net),
        "message_attach" => now!(object::attach),
        "message_answer" => inlined!(P, 0, 2, object::answer),
        "message_read" => inlined!(P, 0, 2, object::read),
        "message_count" => now!(object::capabilities),
        "message_take" => now!(object::take),
        "link_find" => now!(link::find),
        "grant_take" => now!(vat::grant_take),
        "error_message" => now!(vat::error_message),
        "time_now" => now!(vat::time_now),
        "report" => now!(vat::report),
        // The table and this list are in one repository; the test below keeps them together.
        name => unreachable!("the import `{name}` has no body"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_import_has_a_body_of_its_kind() {
        for import in IMPORTS.iter().filter(|import| !import.wired) {
            let suspends = matches!(body::<Fast>(import), Body::Later(_));
            assert_eq!(suspends, import.suspends, "{}", import.name);
        }
        for import in object::HELPERS {
            let suspends = matches!(helper::<Fast>(import), Body::Later(_));
            assert_eq!(suspends, import.suspends, "{}", import.name);
        }
    }
}
