//! `refcap run`: start a program with what it was granted.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use refcap::{
    Capability, Guard, Input, Limits, Output, Policy, Program, References, Runtime, SystemResolver,
    ambient_authority,
};

use crate::audit::Audience;
use crate::failure::{Code, Failure, TABLE, guard_failure};
use crate::spawn::Spawn;
use crate::{module, output, rules};

/// Run a program with exactly the capabilities that it is granted.
///
/// The program sees its arguments, the environment variables given with --env, standard streams, clocks
/// and random numbers. It sees no file, and of the network only what --grant says.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = long_help())]
pub(crate) struct Run {
    /// The module: a .wasm file, or a .wat file in text form.
    module: PathBuf,

    /// Grant the network under a name that the program asks for: NAME=RULES, or NAME=@FILE to read the
    /// rules from a file. Among the rules may be limits (`limit sockets 10, out 1MiB/s, lease 1h`), and the
    /// addresses that names may stand for (`names to 10.0.0.0/8`). May be repeated. `refcap inspect` lists
    /// the names.
    #[arg(long = "grant", value_name = "NAME=RULES")]
    grants: Vec<String>,

    /// Link another program to this one, under the name that it is imported from: NAME=FILE. It gets nothing but
    /// what it is given in calls, and each can be linked to those before it. May be repeated.
    #[arg(long = "with", value_name = "NAME=FILE")]
    with: Vec<String>,

    /// Put a guard before a grant: NAME=FILE. A guard is a module that says yes or no to each use of what was
    /// granted under that name, when its rules have permitted it. May be repeated, also for one name; then all of
    /// them must say yes.
    #[arg(long = "guard", value_name = "NAME=FILE")]
    guards: Vec<String>,

    /// Look names up with this DNS server, ADDRESS:PORT, instead of those of this system. May be repeated.
    #[arg(long = "dns", value_name = "ADDRESS:PORT")]
    dns: Vec<SocketAddr>,

    /// Set an environment variable: NAME=VALUE. May be repeated.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    env: Vec<String>,

    /// Stop the program after this time: 500ms, 10s, 2m.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,

    /// The most memory that the program may have, in MiB.
    #[arg(long, value_name = "MIB")]
    max_memory: Option<usize>,

    /// The most sockets that the program may have open at once.
    #[arg(long, value_name = "COUNT")]
    max_sockets: Option<usize>,

    /// The most capabilities that the program may hold at once.
    #[arg(long, value_name = "COUNT")]
    max_capabilities: Option<usize>,

    /// Write what the program did with its capabilities to a file as JSON, one event a line; - is
    /// standard error.
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,

    /// With --audit, write each read and write too.
    #[arg(long, requires = "audit")]
    audit_reads: bool,

    /// Draw the derivation tree at the end of the run: who derived what from what, and what became of it. The
    /// file's name says in which form: .svg, .dot or .gv, .txt. See `refcap help lineage`.
    #[arg(long, value_name = "FILE")]
    lineage: Option<PathBuf>,

    /// The way that references take into the host: fast; ordinary, which is slower and trusts nothing but the
    /// engine's own interface; or compared, which goes both ways and stops a program for which they disagree.
    #[arg(long, value_name = "WAY", env = "REFCAP_REFERENCES", default_value = "fast")]
    references: Way,

    /// Keep compiled modules in this directory, so that a program starts at once the next time. Whoever can write to
    /// it can make refcap run any code: it should be yours alone.
    #[arg(long, value_name = "DIR", env = "REFCAP_CACHE")]
    cache: Option<PathBuf>,

    /// The program's arguments.
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,

    #[command(flatten)]
    spawn: Spawn,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Way {
    Fast,
    Ordinary,
    Compared,
}

impl From<Way> for References {
    fn from(way: Way) -> Self {
        match way {
            Way::Fast => References::Fast,
            Way::Ordinary => References::Ordinary,
            Way::Compared => References::Compared,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  refcap run app.wasm --grant net='connect tcp 127.0.0.1:7777'
  refcap run app.wasm --grant net='connect tcp *:443; except private, loopback' --timeout 10s
  refcap run server.wasm --grant net='bind,listen,accept tcp 127.0.0.1:8080; limit sockets 100'
  refcap run app.wasm --grant net='connect tcp api.example.com:443; limit out 64KiB/s, lease 1h'
  refcap run app.wasm --grant net='connect tcp *:443' --guard net=office_hours.wasm
  refcap run host.wasm --spawn plugin=plugin.wasm --grant net='connect tcp 10.0.0.0/8:443'
  refcap run app.wasm --with plugin=plugin.wasm --grant net='connect tcp 10.0.0.0/8:*'
  refcap run app.wasm --grant net=@net.rules --env LOG=debug --audit - -- --verbose input
  refcap run app.wasm --grant net=@net.rules --lineage tree.svg";

fn long_help() -> String {
    format!("{EXAMPLES}\n\n{TABLE}")
}

impl Run {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let audience = Audience::gather(self.audit.as_deref(), self.audit_reads, self.lineage.as_deref())?;
        let grants = self
            .grants
            .iter()
            .map(|grant| parse_grant(grant))
            .collect::<Result<Vec<_>, _>>()?;
        let guards = self
            .guards
            .iter()
            .map(|guard| parse_guard(guard, &grants))
            .collect::<Result<Vec<_>, _>>()?;
        let env = self
            .env
            .iter()
            .map(|variable| parse_variable(variable))
            .collect::<Result<Vec<_>, _>>()?;
        let bytes = module::read(&self.module)?;
        let mut runtime = Runtime::builder().references(self.references.into());
        if let Some(directory) = &self.cache {
            runtime = runtime.cache(directory);
        }
        let runtime = runtime.build();
        let runtime = runtime.map_err(|error| Failure::new(Code::Engine, error))?;
        let linked = load_linked(&runtime, &self.with)?;
        let links: Vec<_> = linked
            .iter()
            .map(|(name, program)| (name.as_str(), program))
            .collect();
        let program = Program::load_linked(&runtime, &bytes, &links)?;

        // Everything that the program will have on the network is minted in this loop, and after it what it may start.
        let mut held = Vec::new();
        for (name, policy) in grants {
            let mut capability =
                Capability::granted(&name, &policy, ambient_authority()).map_err(|error| {
                    Failure::new(Code::Rules, format_args!("the rules for `{name}`: {error}"))
                })?;
            for (_, path) in guards.iter().filter(|(guarded, _)| *guarded == name) {
                capability = put_before(&capability, path)?;
            }
            held.push((name, capability));
        }
        let limits = self.limits();
        held.extend(self.spawn.grants(&program, &runtime, &limits)?);
        let mut vat = program
            .vat()
            .limits(limits)
            .args(std::iter::once(self.module.display().to_string()).chain(self.args))
            .stdin(Input::Inherit)
            .stdout(Output::Inherit)
            .stderr(Output::Inherit);
        if !self.dns.is_empty() {
            vat = vat.resolver(Arc::new(SystemResolver::with_servers(&self.dns)));
        }
        for (name, value) in env {
            vat = vat.env(name, value);
        }
        for (name, _) in &linked {
            vat = vat.linked_output(name, Output::Inherit, Output::Inherit);
        }
        for (name, capability) in &held {
            vat = vat.grant(name, capability);
        }

        let executor = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Code::Engine, format_args!("no threads to run on: {error}")))?;
        let exit = executor.block_on(async {
            let mut vat = vat.start().await?;
            vat.run().await.map_err(Failure::from)
        });
        // A guest that was stopped may have left a thread waiting for standard input; don't wait for it.
        executor.shutdown_background();
        // What a program did is worth more than how it ended.
        audience.dismiss()?;
        let exit = exit?;
        if let Some(report) = exit.report {
            output::tell(report);
        }
        Ok(exit_code(exit.code))
    }

    fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        if let Some(time) = self.timeout {
            limits = limits.wall_time(time);
        }
        if let Some(mebibytes) = self.max_memory {
            limits = limits.memory(mebibytes.saturating_mul(1 << 20));
        }
        if let Some(count) = self.max_sockets {
            limits = limits.sockets(count);
        }
        if let Some(count) = self.max_capabilities {
            limits = limits.capabilities(count);
        }
        limits
    }
}

/// A guest's exit code, as far as this system can pass it on: the low 8 bits, and never 0 for a failure.
fn exit_code(code: i32) -> ExitCode {
    match code.to_le_bytes()[0] {
        0 if code != 0 => ExitCode::FAILURE,
        low => ExitCode::from(low),
    }
}

/// The programs that `--with` names, each linked to those before it.
fn load_linked(runtime: &Runtime, with: &[String]) -> Result<Vec<(String, Program)>, Failure> {
    let mut linked: Vec<(String, Program)> = Vec::new();
    for text in with {
        let (name, bytes) = module::read_named("--with", text)?;
        let links: Vec<_> = linked
            .iter()
            .map(|(name, program)| (name.as_str(), program))
            .collect();
        let program = Program::load_linked(runtime, &bytes, &links)
            .map_err(|error| Failure::from(error).about(&format!("the linked program `{name}`")))?;
        linked.push((name.to_owned(), program));
    }
    Ok(linked)
}

fn parse_grant(text: &str) -> Result<(String, Policy), Failure> {
    let Some((name, argument)) = text.split_once('=') else {
        return Err(Failure::new(
            Code::Usage,
            format_args!("--grant {text} is not NAME=RULES, such as net='connect tcp 10.0.0.0/8:443'"),
        ));
    };
    let text = rules::read(argument, &format!("the rules for {name}"))?;
    let policy = rules::parse(&text, &format!("the rules for `{name}`"))?;
    Ok((name.to_owned(), policy))
}

/// The name of a grant, and the file with the guard to put before it.
fn parse_guard(text: &str, grants: &[(String, Policy)]) -> Result<(String, PathBuf), Failure> {
    let Some((name, path)) = text.split_once('=') else {
        return Err(Failure::new(
            Code::Usage,
            format_args!("--guard {text} is not NAME=FILE, such as net=office_hours.wasm"),
        ));
    };
    if !grants.iter().any(|(granted, _)| granted == name) {
        return Err(Failure::new(
            Code::Usage,
            format_args!("--guard {text}: nothing is granted as `{name}`; a guard stands before a grant"),
        ));
    }
    Ok((name.to_owned(), path.into()))
}

/// Derives a capability behind the guard in a file, which goes by the file's name.
fn put_before(capability: &Capability, path: &Path) -> Result<Capability, Failure> {
    let bytes = module::read(path)?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let guard = Guard::compile(&name, &bytes).map_err(|error| guard_failure(path, &error))?;
    capability
        .guarded(&guard)
        .map_err(|error| Failure::new(Code::Start, format_args!("{}: {error}", path.display())))
}

fn parse_variable(text: &str) -> Result<(String, String), Failure> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Failure::new(
            Code::Usage,
            format_args!("--env {text} is not NAME=VALUE"),
        )),
    }
}
