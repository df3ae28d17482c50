//! What a program may start by itself, as the command line says it.

use clap::Args;
use refcap::{Capability, ChildOutput, Kind, Limits, Program, Runtime, SpawnerTerms, ambient_authority};

use crate::failure::{Code, Failure};
use crate::module;

/// Options of `refcap run`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Programs that the program starts")]
pub(crate) struct Spawn {
    /// Let the program start the module in FILE under this name: it is granted the Spawner that it asks for. What it
    /// starts has what the program hands on, limits that are taken from the program's, its standard output and error,
    /// and ends with it. May be repeated.
    #[arg(long = "spawn", value_name = "NAME=FILE")]
    programs: Vec<String>,

    /// Let it also start modules that it has as bytes, each of at most this size, in MiB.
    #[arg(long, value_name = "MIB")]
    spawn_bytes: Option<usize>,

    /// The most programs that there may be at once that it or they have started (16 unless this says otherwise).
    #[arg(long, value_name = "COUNT")]
    max_children: Option<usize>,

    /// How many programs may be started by one another in a row: 1, unless this says otherwise, so that those
    /// that it starts start none.
    #[arg(long, value_name = "COUNT")]
    spawn_depth: Option<u32>,
}

impl Spawn {
    /// The Spawner that a program is granted, under each name by which it asks for one.
    pub(crate) fn grants(
        &self,
        program: &Program,
        runtime: &Runtime,
        most: &Limits,
    ) -> Result<Vec<(String, Capability)>, Failure> {
        let Some(terms) = self.terms(runtime)? else {
            return Ok(Vec::new());
        };
        let asked = program.endowments().iter();
        let names: Vec<_> = asked
            .filter(|endowment| endowment.kind == Kind::Spawner)
            .collect();
        if names.is_empty() {
            let why = "the program does not ask for a Spawner, which --spawn and --spawn-bytes grant";
            return Err(Failure::new(Code::UnknownGrant, why));
        }
        let terms = terms.most(most.clone()).output(ChildOutput::Parents);
        let spawner = Capability::spawner("spawner", terms, ambient_authority())
            .map_err(|error| Failure::new(Code::Usage, format_args!("--spawn: {error}")))?;
        let grant = |name: String| (name, spawner.clone());
        Ok(names
            .into_iter()
            .map(|endowment| grant(endowment.name.clone()))
            .collect())
    }

    fn terms(&self, runtime: &Runtime) -> Result<Option<SpawnerTerms>, Failure> {
        if self.programs.is_empty() && self.spawn_bytes.is_none() {
            let idle = [
                ("--max-children", self.max_children.is_some()),
                ("--spawn-depth", self.spawn_depth.is_some()),
            ];
            return match idle.iter().find(|(_, given)| *given) {
                None => Ok(None),
                Some((option, _)) => Err(Failure::new(
                    Code::Usage,
                    format_args!("{option} is of no use without --spawn NAME=FILE or --spawn-bytes MIB"),
                )),
            };
        }
        let mut terms = SpawnerTerms::new();
        let mut names = Vec::new();
        for text in &self.programs {
            let (name, program) = named(text, runtime)?;
            if names.contains(&name) {
                return Err(Failure::new(
                    Code::Usage,
                    format_args!("--spawn names `{name}` twice"),
                ));
            }
            terms = terms.program(name, &program);
            names.push(name);
        }
        if let Some(mebibytes) = self.spawn_bytes {
            terms = terms.loads(runtime, mebibytes.saturating_mul(1 << 20));
        }
        if let Some(count) = self.max_children {
            terms = terms.children(count);
        }
        if let Some(count) = self.spawn_depth {
            terms = terms.depth(count);
        }
        Ok(Some(terms))
    }
}

/// A program and its name, from NAME=FILE.
fn named<'a>(text: &'a str, runtime: &Runtime) -> Result<(&'a str, Program), Failure> {
    let (name, bytes) = module::read_named("--spawn", text)?;
    let program = Program::load(runtime, &bytes)
        .map_err(|error| Failure::from(error).about(&format!("--spawn {name}")))?;
    Ok((name, program))
}
