//! The host functions: what they are called, what they take and what they give back.

/// A parameter of a host function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Param {
    /// A capability: a nullable `externref`.
    Ref,
    /// A number: `i32`.
    I32,
}

/// One host function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Import {
    /// The field name in the module [`MODULE`](crate::MODULE).
    pub name: &'static str,
    /// The parameters; all references come first.
    pub params: &'static [Param],
    /// How many capabilities it returns, before the status.
    pub refs_out: usize,
    /// How many more numbers it returns, before the status. No import of this version returns any; the functions
    /// between the runtime's own wasm and the host do.
    pub extra_out: usize,
    /// Whether it may suspend the guest until something happens.
    pub suspends: bool,
    /// Whether the reference that it takes is of no use afterwards.
    pub consumes: bool,
    /// Whether it leads to another program of the same vat, by way of wasm that the runtime provides, and not to
    /// the host.
    pub wired: bool,
}

impl Import {
    /// How many references it takes.
    pub const fn refs_in(&self) -> usize {
        let mut count = 0;
        while count < self.params.len() && matches!(self.params[count], Param::Ref) {
            count += 1;
        }
        count
    }

    /// How many numbers it takes, after the references.
    pub const fn ints_in(&self) -> usize {
        self.params.len() - self.refs_in()
    }

    /// The import of that name.
    pub fn by_name(name: &str) -> Option<&'static Import> {
        IMPORTS.iter().find(|import| import.name == name)
    }
}

const fn import(name: &'static str, params: &'static [Param], refs_out: usize) -> Import {
    Import {
        name,
        params,
        refs_out,
        extra_out: 0,
        suspends: false,
        consumes: false,
        wired: false,
    }
}

const fn wired(name: &'static str, params: &'static [Param], refs_out: usize) -> Import {
    Import {
        wired: true,
        ..import(name, params, refs_out)
    }
}

const fn suspending(name: &'static str, params: &'static [Param], refs_out: usize) -> Import {
    Import {
        suspends: true,
        ..import(name, params, refs_out)
    }
}

const fn consuming(name: &'static str, params: &'static [Param]) -> Import {
    Import {
        consumes: true,
        ..import(name, params, 0)
    }
}

use Param::{I32, Ref};

/// Every host function of this version of the ABI.
///
/// What each one needs, checks, returns and when it traps is said beside its implementation, in the
/// runtime's `imports` module; of those that are `wired`, in `switchboard`.
pub const IMPORTS: &[Import] = &[
    // Net: derive
    import("net_only", &[Ref, I32, I32], 1),
    import("net_exactly", &[Ref, I32, I32], 1),
    import("net_except", &[Ref, I32, I32], 1),
    import("net_limit", &[Ref, I32, I32], 1),
    import("net_revocable", &[Ref], 2),
    import("net_guarded", &[Ref, Ref], 1),
    // Net: use
    suspending("net_connect", &[Ref, I32, I32, I32], 1),
    suspending("net_connect_from", &[Ref, I32, I32, I32, I32, I32], 1),
    suspending("net_listen", &[Ref, I32, I32, I32], 1),
    suspending("net_bind_udp", &[Ref, I32, I32], 1),
    suspending("net_resolve", &[Ref, I32, I32, I32, I32], 1),
    import("net_allows", &[Ref, I32, I32], 0),
    import("net_describe", &[Ref, I32, I32], 0),
    import("net_flags", &[Ref], 0),
    // Name
    suspending("name_connect", &[Ref, I32], 1),
    import("name_describe", &[Ref, I32, I32], 0),
    // TcpListener
    import("listener_accept", &[Ref], 1),
    // TcpStream
    import("stream_pair", &[], 2),
    import("stream_read", &[Ref, I32, I32], 0),
    import("stream_write", &[Ref, I32, I32], 0),
    import("stream_read_vectored", &[Ref, I32, I32], 0),
    import("stream_write_vectored", &[Ref, I32, I32], 0),
    import("stream_copy", &[Ref, Ref, I32], 0),
    import("stream_shutdown", &[Ref, I32], 0),
    import("stream_no_delay", &[Ref, I32], 0),
    // UdpSocket
    import("udp_connect", &[Ref, I32, I32], 0),
    import("udp_send", &[Ref, I32, I32, I32, I32], 0),
    import("udp_receive", &[Ref, I32, I32, I32, I32], 0),
    import("udp_dropped", &[Ref], 0),
    // any socket
    suspending("socket_wait", &[Ref, I32, I32], 0),
    import("socket_address", &[Ref, I32, I32, I32], 0),
    // Poller
    import("poller_new", &[], 1),
    import("poller_add", &[Ref, Ref, I32, I32], 0),
    import("poller_add_calls", &[Ref, I32], 0),
    import("poller_remove", &[Ref, I32], 0),
    suspending("poller_wait", &[Ref, I32, I32, I32], 0),
    // Guard
    suspending("guard_new", &[I32, I32], 1),
    // Revoker
    import("revoker_revoke", &[Ref], 0),
    // Membrane
    import("membrane_new", &[], 1),
    import("membrane_wrap", &[Ref, Ref], 1),
    import("membrane_cut", &[Ref], 0),
    // Spawner
    import("spawner_program", &[Ref, I32, I32], 1),
    suspending("spawner_load", &[Ref, I32, I32], 1),
    // Child
    import("child_grant", &[Ref, Ref, I32, I32], 0),
    import("child_argument", &[Ref, I32, I32], 0),
    import("child_limit", &[Ref, I32, I32, I32], 0),
    suspending("child_start", &[Ref], 0),
    suspending("child_wait", &[Ref, I32, I32, I32], 0),
    suspending("child_stop", &[Ref], 0),
    // any kind
    import("cap_kind", &[Ref], 0),
    consuming("cap_close", &[Ref]),
    // Object, and what goes to one and back
    import("object_new", &[I32], 1),
    import("object_revocable", &[Ref], 2),
    import("object_forgotten", &[I32], 0),
    import("object_as_net", &[Ref, I32, I32], 1),
    wired("object_call", &[Ref, I32, I32, I32, I32], 0),
    wired("object_serve", &[I32], 0),
    import("message_attach", &[Ref], 0),
    import("message_answer", &[I32, I32], 0),
    import("message_read", &[I32, I32], 0),
    import("message_count", &[], 0),
    import("message_take", &[I32], 1),
    // programs that this one is linked to
    import("link_find", &[I32, I32], 0),
    wired("link_give", &[Ref, I32], 0),
    wired("link_take", &[I32], 1),
    // the vat itself
    import("grant_take", &[I32, I32], 1),
    import("error_message", &[I32, I32], 0),
    import("time_now", &[I32, I32], 0),
    import("report", &[I32, I32], 0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_come_first_and_names_are_unique() {
        for import in IMPORTS {
            let refs = import.refs_in();
            assert!(import.params[refs..].iter().all(|&p| p == I32), "{}", import.name);
            assert_eq!(
                IMPORTS.iter().filter(|other| other.name == import.name).count(),
                1,
                "{}",
                import.name
            );
        }
    }
}
