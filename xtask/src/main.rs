//! The project's own commands.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod demo;
mod doc;
mod guests;
mod programs;
mod run;
mod test;
mod tidy;
mod toolchain;

/// The project's own commands. Each builds what it needs first.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Guests(guests::Guests),
    Test(test::Test),
    Bench(bench::Bench),
    Demo(demo::Demo),
    Doc(doc::Doc),
    Tidy(tidy::Tidy),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Guests(command) => command.run(),
        Command::Test(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Demo(command) => command.run(),
        Command::Doc(command) => command.run(),
        Command::Tidy(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not the way of `main`, which adds a backtrace when tests ask for those of panics.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_follows_two_dashes_is_passed_on() {
        let arguments = Arguments::try_parse_from(["xtask", "test", "--", "-p", "refcap", "name"]).unwrap();
        let Command::Test(test) = arguments.command else {
            panic!("not the command that was given");
        };
        assert_eq!(test.arguments, ["-p", "refcap", "name"]);
    }
}
