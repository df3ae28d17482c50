//! `refcap lineage`: the derivation tree that an audit log tells of, as text or as a picture.

mod colours;
mod dot;
mod layout;
mod plain;
mod read;
mod record;
mod svg;
mod text;
mod tree;
mod view;
mod words;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::failure::{Code, Failure};
use crate::output;
pub(crate) use record::Recorder;
use tree::Tree;
use view::View;

/// Show who derived what from what, and what became of it: the derivation tree of an audit log, as text or
/// as a picture.
///
/// The log is what `refcap run --audit FILE` writes. Each capability is shown with its kind and number, its
/// label, what it allows or was used for, the program that holds it, and how it ended; and with what was
/// refused to who used it. `refcap run --lineage FILE` draws the tree at the end of a run.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Lineage {
    /// The audit log; - is standard input. A log whose last line is not finished, because its program was
    /// stopped, is read up to there.
    log: PathBuf,

    /// Write to a file. Without --format its name says in which form: .txt, .dot or .gv, .svg.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// The form: text, for a terminal; dot, for Graphviz; svg, a picture that needs no other program.
    #[arg(long, value_name = "FORM")]
    format: Option<Format>,

    /// Of how many children of one kind to show, those first to which something happened; 0 is all.
    #[arg(long, value_name = "COUNT", default_value_t = view::CHILDREN)]
    children: usize,

    /// Show the capability of this number and what came from it, instead of everything.
    #[arg(long, value_name = "NUMBER")]
    of: Option<u64>,
}

const EXAMPLES: &str = "\
Examples:
  refcap lineage audit.jsonl
  refcap lineage audit.jsonl --output tree.svg
  refcap lineage audit.jsonl --of 74 --children 0
  refcap lineage audit.jsonl --format dot | dot -Tpdf > tree.pdf";

/// A form in which a tree is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Dot,
    Svg,
}

impl Format {
    /// The form that a file's name asks for.
    pub(crate) fn of(path: &Path) -> Result<Format, Failure> {
        match path.extension().and_then(OsStr::to_str) {
            Some("txt") => Ok(Format::Text),
            Some("dot" | "gv") => Ok(Format::Dot),
            Some("svg") => Ok(Format::Svg),
            _ => Err(Failure::new(
                Code::Usage,
                format_args!(
                    "the name {} does not say in which form the tree is to be written: end it in .txt, .dot, .gv or .svg",
                    path.display()
                ),
            )),
        }
    }

    fn render(self, view: &View<'_>) -> String {
        match self {
            Format::Text => text::render(view),
            Format::Dot => dot::render(view),
            Format::Svg => svg::render(view),
        }
    }
}

impl Lineage {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let format = match (self.format, &self.output) {
            (Some(format), _) => format,
            (None, Some(path)) => Format::of(path)?,
            (None, None) => Format::Text,
        };
        let tree = self.read()?;
        let tops = match self.of {
            None => tree.roots().to_vec(),
            Some(id) => vec![tree.find(id).ok_or_else(|| {
                Failure::new(Code::Usage, format_args!("the log knows of no capability #{id}"))
            })?],
        };
        let drawn = format.render(&View::new(&tree, &tops, self.children));
        match &self.output {
            None => output::show(drawn)?,
            Some(path) => write(path, &drawn)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn read(&self) -> Result<Tree, Failure> {
        let name = self.log.display();
        let failure = |error: &dyn std::fmt::Display| {
            Failure::new(
                Code::File,
                format_args!("cannot read the audit log {name}: {error}"),
            )
        };
        let log = if self.log == Path::new("-") {
            read::read(io::stdin().lock())
        } else {
            let file = File::open(&self.log).map_err(|error| failure(&error))?;
            read::read(BufReader::new(file))
        };
        let log = log.map_err(|error| failure(&error))?;
        if log.is_cut_short {
            output::tell(format_args!(
                "refcap: the last line of {name} is not finished, and left out; the log's program was stopped"
            ));
        }
        Ok(log.tree)
    }
}

/// Draws a whole tree into a file whose name says in which form.
pub(crate) fn draw(tree: &Tree, path: &Path) -> Result<(), Failure> {
    let view = View::new(tree, tree.roots(), view::CHILDREN);
    write(path, &Format::of(path)?.render(&view))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Code::File,
        format_args!("cannot write the derivation tree {}: {error}", path.display()),
    )
}
