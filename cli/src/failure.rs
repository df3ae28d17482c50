//! What can go wrong in the command itself, and the exit code for each.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use refcap::{GuardError, Kind, LoadError, Refusal, RunError, StartError};

/// The codes, for the help text. `codes_are_as_the_help_says` holds them together.
pub(crate) const TABLE: &str = "\
Exit codes:
  A program's own exit code passes through. refcap's own failures are
  200  the command line is not right
  201  a rule is malformed
  202  a file can't be read or written
  203  the file is not WebAssembly
  204  the file is a component, not a core module
  205  the module imports something that is not provided
  206  the module uses the GC proposal
  207  the load gate refuses the module for another reason
  208  the program needs an endowment that was not granted
  209  something was granted that the program does not ask for
  210  the program trapped
  211  the program ran longer than --timeout
  212  the program could not be started
  213  the engine could not be set up or could not compile the module";

/// An exit code of refcap's own. High, so that few programs use the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Usage = 200,
    Rules = 201,
    File = 202,
    NotWasm = 203,
    Component = 204,
    UnknownImport = 205,
    GcProposal = 206,
    Gate = 207,
    Missing = 208,
    UnknownGrant = 209,
    Trap = 210,
    TimedOut = 211,
    Start = 212,
    Engine = 213,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        ExitCode::from(code as u8)
    }
}

/// A failure of the command: a message and an exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    message: String,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl fmt::Display) -> Self {
        Failure {
            code,
            message: message.to_string(),
        }
    }

    /// The same, with what it is about before the message.
    pub(crate) fn about(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        let code = match &error {
            LoadError::Refused(refusals) => refusals.first().map_or(Code::Gate, gate_code),
            LoadError::Link(_) => Code::Usage,
            _ => Code::Engine,
        };
        Failure::new(code, error)
    }
}

/// The code of the gate's first reason.
pub(crate) fn gate_code(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::NotWasm => Code::NotWasm,
        Refusal::Component => Code::Component,
        Refusal::UnknownImport { .. }
        | Refusal::WrongImportType { .. }
        | Refusal::WasiSockets { .. }
        | Refusal::NotExported { .. }
        | Refusal::NotAFunction { .. }
        | Refusal::WrongLinkType { .. } => Code::UnknownImport,
        Refusal::GcProposal { .. } => Code::GcProposal,
        _ => Code::Gate,
    }
}

/// The code for a module that is no guard.
pub(crate) fn guard_code(error: &GuardError) -> Code {
    match error {
        GuardError::NotWasm => Code::NotWasm,
        GuardError::Component => Code::Component,
        GuardError::Imports { .. } => Code::UnknownImport,
        GuardError::Compile(_) => Code::Engine,
        _ => Code::Gate,
    }
}

/// The failure to make a guard of a file.
pub(crate) fn guard_failure(path: &Path, error: &GuardError) -> Failure {
    Failure::new(guard_code(error), format_args!("{}: {error}", path.display()))
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let code = match &error {
            StartError::Missing(_) => Code::Missing,
            StartError::Unknown { .. } | StartError::Twice(_) | StartError::WrongKind { .. } => {
                Code::UnknownGrant
            }
            StartError::Run(RunError::TimedOut(_)) => Code::TimedOut,
            _ => Code::Start,
        };
        let how = match &error {
            StartError::Missing(missing) => missing
                .iter()
                .map(|endowment| match endowment.kind {
                    Kind::Spawner => {
                        "\n  grant it with: --spawn NAME=FILE  (for each program that it may start)".to_owned()
                    }
                    _ => format!(
                        "\n  grant it with: --grant {}='connect tcp 10.0.0.0/8:443'  (with the rules that it should have)",
                        endowment.name
                    ),
                })
                .collect(),
            _ => String::new(),
        };
        Failure::new(code, format_args!("{error}{how}"))
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let code = match &error {
            RunError::TimedOut(_) => Code::TimedOut,
            RunError::NoEntryPoint => Code::Start,
            _ => Code::Trap,
        };
        match &error {
            RunError::Trap {
                report: Some(report), ..
            } => Failure::new(code, format_args!("{error}\n{report}")),
            _ => Failure::new(code, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_as_the_help_says() {
        use Code::*;
        let codes = [
            Usage,
            Rules,
            File,
            NotWasm,
            Component,
            UnknownImport,
            GcProposal,
            Gate,
            Missing,
            UnknownGrant,
            Trap,
            TimedOut,
            Start,
            Engine,
        ];
        let lines: Vec<_> = TABLE.lines().skip(2).collect();
        assert_eq!(lines.len(), codes.len());
        for (line, code) in lines.iter().zip(codes) {
            assert!(line.starts_with(&format!("  {}  ", code as u8)), "{line}");
        }
    }
}
