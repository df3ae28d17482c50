//! `refcap check`: what do these rules say of this?

use std::process::ExitCode;

use clap::Args;
use refcap_authority::Query;

use crate::failure::{Code, Failure};
use crate::{output, rules};

/// Ask what a set of rules says of one operation, and why. Limits, flags and labels among the rules say
/// nothing of that.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Check {
    /// The rules, or @FILE to read them from a file.
    #[arg(allow_hyphen_values = true)]
    rules: String,

    /// The operation: an operation, a protocol and a destination, and `from` a source if that matters.
    #[arg(required = true, num_args = 1.., value_name = "OPERATION")]
    query: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  refcap check 'connect tcp 10.0.0.0/8:443; except 10.9.0.0/16' connect tcp 10.1.2.3:443
  refcap check 'listen tcp 127.0.0.1:8080 from private' listen tcp 127.0.0.1:8080 from 10.0.0.1:5000
  refcap check @net.rules connect tcp api.example.com:443

Exits with 0 if it is allowed and with 1 if it is denied.";

impl Check {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let text = rules::read(&self.rules, "the rules")?;
        let rules = rules::parse(&text, "the rules")?.rules;
        let question = self.query.join(" ");
        let query: Query = question.parse().map_err(|error: refcap_authority::ParseError| {
            Failure::new(
                Code::Rules,
                format_args!("the operation is malformed:\n{}", error.render(&question)),
            )
        })?;
        let explanation = rules.explain(&query);
        output::show(format_args!("{explanation}\n"))?;
        Ok(if explanation.is_allowed() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
