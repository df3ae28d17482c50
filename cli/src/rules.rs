//! Rules on the command line.

use refcap::Policy;

use crate::failure::{Code, Failure};

/// The text of rules that an argument gives: itself, or a file's for `@FILE`. `what` names them in the
/// error.
pub(crate) fn read(argument: &str, what: &str) -> Result<String, Failure> {
    match argument.strip_prefix('@') {
        None => Ok(argument.to_owned()),
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| Failure::new(Code::File, format_args!("cannot read {what} in {path}: {error}"))),
    }
}

/// Parses rules, and the terms among them. `what` names them in the error, which shows the place.
pub(crate) fn parse(text: &str, what: &str) -> Result<Policy, Failure> {
    Policy::parse(text).map_err(|error| {
        Failure::new(
            Code::Rules,
            format_args!("{what} are malformed:\n{}", error.render(text)),
        )
    })
}
