//! `--audit`: the audit log as JSON, one event a line.

use std::fs::File;
use std::path::Path;
use std::sync::Mutex;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::failure::{Code, Failure};

/// Sends audit events to a file, or to standard error for `-`.
pub(crate) fn start(path: &Path, with_reads: bool) -> Result<(), Failure> {
    let failure = |error: &dyn std::fmt::Display| {
        Failure::new(
            Code::File,
            format_args!("cannot write the audit log {}: {error}", path.display()),
        )
    };
    let writer = if path == Path::new("-") {
        BoxMakeWriter::new(std::io::stderr)
    } else {
        BoxMakeWriter::new(Mutex::new(File::create(path).map_err(|error| failure(&error))?))
    };
    let level = if with_reads { Level::TRACE } else { Level::INFO };
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_target(false)
        .with_level(false)
        .with_writer(writer);
    let only_audit = Targets::new()
        .with_default(LevelFilter::OFF)
        .with_target(refcap::audit::TARGET, level);
    tracing_subscriber::registry()
        .with(lines)
        .with(only_audit)
        .try_init()
        .map_err(|error| failure(&error))
}
