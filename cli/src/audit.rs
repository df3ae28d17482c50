//! `--audit`: the audit log as JSON, one event a line.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::failure::{Code, Failure};

/// A log that is being written.
#[derive(Debug)]
pub(crate) struct AuditLog {
    path: PathBuf,
    lost: Arc<OnceLock<String>>,
}

impl AuditLog {
    /// Sends audit events to a file, or to standard error for `-`.
    pub(crate) fn start(path: &Path, with_reads: bool) -> Result<AuditLog, Failure> {
        let failure = |error: &dyn std::fmt::Display| {
            Failure::new(
                Code::File,
                format_args!("cannot write the audit log {}: {error}", path.display()),
            )
        };
        let to: Box<dyn Write + Send> = if path == Path::new("-") {
            Box::new(io::stderr())
        } else {
            Box::new(File::create(path).map_err(|error| failure(&error))?)
        };
        let lost = Arc::new(OnceLock::new());
        let writer = Watched {
            to,
            lost: lost.clone(),
        };
        let level = if with_reads { Level::TRACE } else { Level::INFO };
        let lines = tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_target(false)
            .with_level(false)
            .with_writer(Mutex::new(writer));
        let only_audit = Targets::new()
            .with_default(LevelFilter::OFF)
            .with_target(refcap::audit::TARGET, level);
        tracing_subscriber::registry()
            .with(lines)
            .with(only_audit)
            .try_init()
            .map_err(|error| failure(&error))?;
        Ok(AuditLog {
            path: path.to_owned(),
            lost,
        })
    }

    /// Whether everything was written.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match self.lost.get() {
            None => Ok(()),
            Some(why) => Err(Failure::new(
                Code::File,
                format_args!("the audit log {} is incomplete: {why}", self.path.display()),
            )),
        }
    }
}

/// Remembers the first failure to write: `tracing` tells nobody of it.
struct Watched {
    to: Box<dyn Write + Send>,
    lost: Arc<OnceLock<String>>,
}

impl Watched {
    fn watch<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && error.kind() != io::ErrorKind::Interrupted
        {
            let _ = self.lost.set(error.to_string());
        }
        result
    }
}

impl Write for Watched {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.to.write(bytes);
        self.watch(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.to.flush();
        self.watch(result)
    }
}
