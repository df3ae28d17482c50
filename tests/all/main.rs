//! Guests against real sockets, the attack corpus, and the commands.
//!
//! One binary, one module a subject. `support` has what they share: above all the puppet, a guest whose
//! every move a test decides.

#![allow(missing_docs, reason = "tests")]

mod attacks;
mod between;
mod budgets;
mod cache;
mod children;
mod cli;
mod cli_check;
mod cli_guard;
mod cli_lineage;
mod cli_spawn;
mod confused_deputy;
mod connect;
mod copying;
mod crowd;
mod datagrams;
mod delegation;
mod embedder;
mod endings;
mod ends;
mod examples;
mod gate;
mod guard_blocks;
mod guard_faults;
mod guards;
mod handed_over;
mod host_functions;
mod implemented;
mod instances;
mod interfaces;
mod limits;
mod listen;
mod matrix;
mod membranes;
mod names;
mod netns;
mod objects;
mod plugin_host;
mod polling;
mod pool;
mod powerbox;
mod resolver;
mod revoke;
mod scale;
mod sdk;
mod sequences;
mod supply_chain;
mod support;
mod vectored;
mod watched_net;
