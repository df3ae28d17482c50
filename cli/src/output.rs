//! Writing to standard output and standard error. Whoever reads them may stop at any time, as `head`
//! does, and the exit code still counts: unlike `println!`, nothing here panics then.

use std::fmt;
use std::io::{self, ErrorKind, Write};

use crate::failure::{Code, Failure};

/// Writes what was asked for.
pub(crate) fn show(text: impl fmt::Display) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    match write!(output, "{text}").and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::new(
            Code::File,
            format_args!("cannot write to the standard output: {error}"),
        )),
        _ => Ok(()),
    }
}

/// Writes a line of what a user should know. There is nowhere to say that it failed.
pub(crate) fn tell(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
