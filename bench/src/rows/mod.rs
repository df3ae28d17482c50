//! What is measured: one file for each group of rows of the report.

mod authority;
mod collection;
mod fairness;
mod guard;
pub(crate) mod hand_over;
pub(crate) mod handles;
pub(crate) mod http;
pub(crate) mod memory;
pub(crate) mod object;
mod revoke;
mod start;
pub(crate) mod tcp;

use wasmtime::Result;

use crate::measure::{Effort, Measured};

/// How thorough a run is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    /// Leave out what takes long: the largest sizes, and half of the rounds.
    pub(crate) quick: bool,
    pub(crate) effort: Effort,
}

/// A group of rows.
pub(crate) struct Group {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What it is about, for the report and the help.
    pub(crate) about: &'static str,
    pub(crate) run: fn(Scale) -> Result<Vec<Measured>>,
}

/// All groups, in the order of the report.
pub(crate) const GROUPS: &[Group] = &[
    Group {
        name: "use",
        about: "look a handle up, check that it is live, its kind and a right",
        run: handles::use_few,
    },
    Group {
        name: "use-many",
        about: "the same with many live handles",
        run: handles::use_many,
    },
    Group {
        name: "use-while-creating",
        about: "the same while handles are closed and made",
        run: handles::use_while_creating,
    },
    Group {
        name: "derive",
        about: "derive by a rule, and give up again",
        run: handles::derive,
    },
    Group {
        name: "hand-over",
        about: "hand a handle to another instance of the same store",
        run: hand_over::hand_over,
    },
    Group {
        name: "object",
        about: "call what a program implements, in the same vat and in another",
        run: object::object,
    },
    Group {
        name: "check",
        about: "check an address against many rules",
        run: authority::check,
    },
    Group {
        name: "guard",
        about: "decide whether something may be connected to, with and without guards",
        run: guard::decide,
    },
    Group {
        name: "revoke",
        about: "end all that was derived, and wake those that wait",
        run: revoke::revoke,
    },
    Group {
        name: "start",
        about: "start a vat, and a program from its bytes",
        run: start::start,
    },
    Group {
        name: "memory",
        about: "what capabilities, vats and connections weigh",
        run: memory::memory,
    },
    Group {
        name: "collection",
        about: "what the engine's collectors do with references",
        run: collection::collection,
    },
    Group {
        name: "tcp",
        about: "one TCP connection over loopback",
        run: tcp::one_connection,
    },
    Group {
        name: "tcp-many",
        about: "a thousand TCP connections at once",
        run: tcp::many_connections,
    },
    Group {
        name: "http",
        about: "an HTTP server under load",
        run: http::http,
    },
    Group {
        name: "fairness",
        about: "a ticker on the thread of a guest that does all that it can",
        run: fairness::fairness,
    },
];
