//! `refcap run --lineage`: the tree of a run, from the same lines that an audit log has, without a log.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::tree::Tree;
use super::{Format, cannot_write, draw, read};
use crate::failure::{Code, Failure};

/// A tree that grows while a program runs.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    path: PathBuf,
    record: Arc<Mutex<Record>>,
}

#[derive(Debug, Default)]
struct Record {
    tree: Tree,
    /// A line that is not finished.
    rest: Vec<u8>,
    problem: Option<String>,
}

impl Recorder {
    /// Begins to record for a picture in that file, if it can be written.
    pub(crate) fn start(path: &Path) -> Result<Recorder, Failure> {
        Format::of(path)?;
        can_write(path).map_err(|error| cannot_write(path, &error))?;
        Ok(Recorder {
            path: path.to_owned(),
            record: Arc::default(),
        })
    }

    /// Draws what was recorded.
    pub(crate) fn finish(&self) -> Result<(), Failure> {
        let record = mem::take(&mut *self.record.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(problem) = record.problem {
            return Err(Failure::new(
                Code::File,
                format_args!(
                    "cannot draw the derivation tree {}: {problem}",
                    self.path.display()
                ),
            ));
        }
        draw(&record.tree, &self.path)
    }
}

/// Whether a file can be written, which is better said now than after the run. It is left as it is.
fn can_write(path: &Path) -> io::Result<()> {
    let is_new = !path.exists();
    OpenOptions::new().append(true).create(true).open(path)?;
    if is_new { fs::remove_file(path) } else { Ok(()) }
}

impl Write for Recorder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.record
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Record {
    fn take(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.rest.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = mem::take(&mut self.rest);
                if let Err(problem) = self.read(&line) {
                    self.problem.get_or_insert(problem);
                }
            }
        }
    }

    fn read(&mut self, line: &[u8]) -> Result<(), String> {
        match read::parse(line)? {
            Some(event) => self.tree.apply(event),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_may_come_in_parts() {
        let lines = concat!(
            r#"{"event":"grant","id":1,"kind":"Net","label":"net"}"#,
            "\n",
            r#"{"event":"derive","id":2,"parent":1,"kind":"Net","label":"net","vat":1}"#,
            "\n"
        );
        for length in 1..lines.len() {
            let mut record = Record::default();
            lines.as_bytes().chunks(length).for_each(|part| record.take(part));
            assert_eq!((record.tree.len(), record.problem), (2, None), "{length}");
        }
    }

    #[test]
    fn the_first_problem_is_kept() {
        let mut record = Record::default();
        record.take(b"no\n{}\n");
        let problem = record.problem.unwrap();
        assert!(problem.starts_with("not an event"), "{problem}");
    }
}
