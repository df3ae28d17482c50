//! Programs that are linked to others: which there are, and in which order they come into being.

use std::sync::Arc;

use refcap_abi::{MAX_INSTANCES, endowment};
use thiserror::Error;

use super::Program;

/// A program under the name by which another one imports from it.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) name: Arc<str>,
    pub(crate) program: Program,
}

/// Why programs could not be linked.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LinkError {
    /// The name can't be one, or means something else.
    #[error(
        "`{0}` can't be the name of a linked program: it has 1 to 64 ASCII letters, digits, `_` or `-`, and is \
         neither `refcap...` nor `wasi...`"
    )]
    BadName(String),
    /// Two programs have one name.
    #[error("two linked programs are called `{0}`")]
    Twice(String),
    /// The linked program asks for endowments, which only the program that is run gets.
    #[error(
        "the linked program `{name}` asks for the endowment `{endowment}`; a linked program is given what it needs \
         by the one that calls it"
    )]
    Endowed {
        /// The linked program.
        name: String,
        /// The first endowment that it asks for.
        endowment: String,
    },
    /// There are too many programs for one vat.
    #[error("a vat has at most {MAX_INSTANCES} programs, and these would be {0}")]
    TooMany(usize),
    /// The linked program was loaded by another runtime.
    #[error("the linked program `{0}` was loaded by another runtime")]
    OtherRuntime(String),
}

/// Checks what is to be linked.
pub(super) fn check(links: &[(&str, &Program)]) -> Result<Vec<Link>, LinkError> {
    for (index, (name, program)) in links.iter().enumerate() {
        let is_taken = name.starts_with("refcap") || name.starts_with("wasi");
        if !endowment::is_name(name) || is_taken {
            return Err(LinkError::BadName((*name).to_owned()));
        }
        if links[..index].iter().any(|(other, _)| other == name) {
            return Err(LinkError::Twice((*name).to_owned()));
        }
        if let Some(endowment) = program.endowments().first() {
            return Err(LinkError::Endowed {
                name: (*name).to_owned(),
                endowment: endowment.name.clone(),
            });
        }
    }
    let links: Vec<_> = links
        .iter()
        .map(|(name, program)| Link {
            name: (*name).into(),
            program: (*program).clone(),
        })
        .collect();
    match 1 + all(&links).len() {
        count if count > MAX_INSTANCES => Err(LinkError::TooMany(count)),
        _ => Ok(links),
    }
}

/// All that is linked to something, directly or by way of others, those that others need before them. A program
/// that is linked in several places is one instance, under the first of its names.
pub(crate) fn all(links: &[Link]) -> Vec<&Link> {
    let mut found: Vec<&Link> = Vec::new();
    // Programs are linked to what was there before them, so there is no cycle; and a chain is as long as the
    // most programs of a vat.
    for link in links {
        let below = all(link.program.links());
        for link in below.into_iter().chain([link]) {
            if !found.iter().any(|other| other.program.is(&link.program)) {
                found.push(link);
            }
        }
    }
    found
}
