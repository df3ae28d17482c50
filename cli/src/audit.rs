//! `--audit` and `--lineage`: what a program does, as JSON, one event a line.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::failure::{Code, Failure};
use crate::lineage::Recorder;

/// Who hears of what a program does with its capabilities, for as long as it runs.
#[derive(Debug, Default)]
pub(crate) struct Audience {
    log: Option<AuditLog>,
    lineage: Option<Recorder>,
}

impl Audience {
    /// Sends audit events where they are asked for: as a log to a file, or to standard error for `-`; and to
    /// what becomes a picture of the derivation tree.
    pub(crate) fn gather(
        log: Option<&Path>,
        with_reads: bool,
        lineage: Option<&Path>,
    ) -> Result<Audience, Failure> {
        if log.is_none() && lineage.is_none() {
            return Ok(Audience::default());
        }
        let lineage = lineage.map(Recorder::start).transpose()?;
        let (log, writer) = log.map(AuditLog::open).transpose()?.unzip();
        let level = if with_reads { Level::TRACE } else { Level::INFO };
        let log_layer = writer.map(|writer| lines_to(writer).with_filter(only_audit(level)));
        let lineage_layer = lineage
            .clone()
            .map(|recorder| lines_to(recorder).with_filter(only_audit(Level::INFO)));
        tracing_subscriber::registry()
            .with(log_layer)
            .with(lineage_layer)
            .try_init()
            .map_err(|error| Failure::new(Code::File, format_args!("cannot keep an audit log: {error}")))?;
        Ok(Audience { log, lineage })
    }

    /// Whether the log was written whole, and the picture, which is drawn now, too.
    pub(crate) fn dismiss(&self) -> Result<(), Failure> {
        let picture = self.lineage.as_ref().map_or(Ok(()), Recorder::finish);
        self.log.as_ref().map_or(Ok(()), AuditLog::check)?;
        picture
    }
}

/// Events as JSON, a line each.
fn lines_to<S, W>(writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Write + Send + 'static,
{
    tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_target(false)
        .with_level(false)
        .with_writer(Mutex::new(writer))
}

fn only_audit(level: Level) -> Targets {
    Targets::new()
        .with_default(LevelFilter::OFF)
        .with_target(refcap::audit::TARGET, level)
}

/// A log that is being written.
#[derive(Debug)]
struct AuditLog {
    path: PathBuf,
    lost: Arc<OnceLock<String>>,
}

impl AuditLog {
    fn open(path: &Path) -> Result<(AuditLog, Watched), Failure> {
        let to: Box<dyn Write + Send> = if path == Path::new("-") {
            Box::new(io::stderr())
        } else {
            let file = File::create(path).map_err(|error| {
                Failure::new(
                    Code::File,
                    format_args!("cannot write the audit log {}: {error}", path.display()),
                )
            })?;
            Box::new(file)
        };
        let lost = Arc::new(OnceLock::new());
        let log = AuditLog {
            path: path.to_owned(),
            lost: lost.clone(),
        };
        Ok((log, Watched { to, lost }))
    }

    /// Whether everything was written.
    fn check(&self) -> Result<(), Failure> {
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
