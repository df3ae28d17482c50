//! The `refcap` command.

#![forbid(unsafe_code)]

mod audit;
mod check;
mod failure;
mod inspect;
mod lineage;
mod module;
mod output;
mod rules;
mod run;
mod spawn;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::{Code, Failure};

/// Runs WebAssembly programs that act only through unforgeable, revocable references.
///
/// A program reaches nothing that it was not granted. What it may do with the network is said in rules,
/// such as `connect tcp 10.0.0.0/8:443`.
#[derive(Debug, Parser)]
#[command(name = "refcap", version, after_help = EXAMPLES, after_long_help = long_help())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  refcap inspect app.wasm
  refcap run app.wasm --grant net='connect tcp 127.0.0.1:7777'
  refcap check 'connect tcp 10.0.0.0/8:443' connect tcp 10.1.2.3:443
  refcap lineage audit.jsonl --output tree.svg

`refcap help COMMAND` says more, and `refcap --help` lists the exit codes.";

fn long_help() -> String {
    format!("{EXAMPLES}\n\n{}", failure::TABLE)
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::Run>),
    Inspect(inspect::Inspect),
    Check(check::Check),
    Lineage(lineage::Lineage),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Printing can only fail when nobody reads.
            let _ = error.print();
            return match error.use_stderr() {
                true => Code::Usage.into(),
                false => ExitCode::SUCCESS,
            };
        }
    };
    let result = match cli.command {
        Command::Run(run) => run.run(),
        Command::Inspect(inspect) => inspect.run(),
        Command::Check(check) => check.run(),
        Command::Lineage(lineage) => lineage.run(),
    };
    result.unwrap_or_else(|failure: Failure| {
        output::tell(format_args!("refcap: {failure}"));
        failure.code().into()
    })
}
