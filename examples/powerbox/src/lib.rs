//! What the powerbox and the programs agree on that ask it for connections; and the rules by which it decides.

use std::fmt;
use std::net::SocketAddr;

use refcap_guest::{Net, Result};
use serde::{Deserialize, Serialize};

pub mod rules;

/// Whom a program asks that holds nothing of the network.
#[refcap_guest::interface]
pub trait Powerbox {
    /// Asks for the way to one address, and says what for. The purpose is shown to the user, and decides nothing.
    fn ask(&self, purpose: String, address: SocketAddr) -> Result<Answer>;
}

/// What the user's rules say to it.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// A network in which there is that address and nothing else. It can be withdrawn.
    Given(Net),
    /// Nothing.
    Refused(Refused),
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refused {
    /// This rule says so.
    ByRule(String),
    /// No rule says anything.
    ByDefault,
    /// It was asked for more often than this rule allows. What was given by the rule is withdrawn, so many capabilities.
    TooOften(String, usize),
    /// This rule allows it, and the powerbox does not have it either.
    NotHeld(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::ByRule(rule) => write!(f, "no, by `{rule}`"),
            Refused::ByDefault => write!(f, "no, no rule is about it"),
            Refused::TooOften(rule, ended) => {
                write!(f, "no more, by `{rule}`: {ended} capabilities were withdrawn")
            }
            Refused::NotHeld(rule) => write!(f, "no, `{rule}` allows it and I do not have it myself"),
        }
    }
}
