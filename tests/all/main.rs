//! Guests against real sockets, the attack corpus, and the commands.
//!
//! One binary, one module a subject. `support` has what they share: above all the puppet, a guest whose
//! every move a test decides.

#![allow(missing_docs, reason = "tests")]

mod attacks;
mod cli;
mod connect;
mod embedder;
mod examples;
mod gate;
mod host_functions;
mod limits;
mod revoke;
mod scale;
mod sdk;
mod sequences;
mod support;
