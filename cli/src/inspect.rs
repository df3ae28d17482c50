//! `refcap inspect`: what a program asks for, and whether it may be loaded.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use refcap::{Guard, Inspection, inspect_linked, is_guard};

use crate::failure::{Failure, gate_code, guard_code};
use crate::{module, output};

/// Show what a program asks for, what it can call, and whether it may be loaded; of a guard, whether it is one.
///
/// The imports are an honest list: what a module does not import, it can't do.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Inspect {
    /// The module: a .wasm file, or a .wat file in text form.
    module: PathBuf,

    /// As it would be with another program linked to it, as for `refcap run`: NAME=FILE. May be repeated.
    #[arg(long = "with", value_name = "NAME=FILE")]
    with: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  refcap inspect app.wasm
  refcap inspect app.wasm --with plugin=plugin.wasm

Exits with 0 if the load gate would load the module, or it may stand guard, else with the code that `refcap run` has for it.";

impl Inspect {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let bytes = module::read(&self.module)?;
        if is_guard(&bytes) {
            return show_guard(&bytes);
        }
        let linked = self.with.iter().map(|text| module::read_named("--with", text));
        let linked = linked.collect::<Result<Vec<_>, _>>()?;
        let links: Vec<_> = linked.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
        let inspection = inspect_linked(&bytes, &links);
        output::show(render(&inspection))?;
        Ok(match inspection.refusals.first() {
            None => ExitCode::SUCCESS,
            Some(refusal) => gate_code(refusal).into(),
        })
    }
}

/// Says of a module that it is a guard, and whether it may be one.
fn show_guard(bytes: &[u8]) -> Result<ExitCode, Failure> {
    let compiled = Guard::compile("", bytes);
    let verdict = match &compiled {
        Ok(_) => "accepts it".to_owned(),
        Err(error) => error.to_string(),
    };
    output::show(format!(
        "A guard: it says yes or no to each use of what it is put before, with --guard NAME=FILE.\n\
         Guard gate:\n  {verdict}\n"
    ))?;
    Ok(match &compiled {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => guard_code(error).into(),
    })
}

fn render(inspection: &Inspection) -> String {
    let mut out = String::new();
    let mut section = |title: &str, lines: Vec<String>, empty: &str| {
        out.push_str(title);
        out.push('\n');
        let lines = if lines.is_empty() {
            vec![empty.to_owned()]
        } else {
            lines
        };
        for line in lines {
            out.push_str("  ");
            out.push_str(&line);
            out.push('\n');
        }
    };
    let endowments = inspection.endowments.iter().map(|endowment| {
        let need = if endowment.optional {
            "optional"
        } else {
            "required"
        };
        format!("{:<16} {:<10} {need}", endowment.name, endowment.kind.name())
    });
    section(
        "Endowments (grant a Net with --grant NAME=RULES, a Spawner with --spawn NAME=FILE):",
        endowments.collect(),
        "none: the program asks for nothing",
    );
    let imports = inspection.imports.iter().map(|import| {
        let provider = match import.provider {
            Some(provider) => provider.to_string(),
            None => "REFUSED".to_owned(),
        };
        format!("{provider:<8} {}::{}", import.module, import.name)
    });
    section("Host imports:", imports.collect(), "none");
    let entry = inspection.entry.map(|entry| entry.name().to_owned());
    section(
        "Entry point:",
        entry.into_iter().collect(),
        "none: it can be loaded, but `refcap run` has nothing to call",
    );
    let refusals = inspection.refusals.iter().map(ToString::to_string);
    section("Load gate:", refusals.collect(), "accepts it");
    out
}
