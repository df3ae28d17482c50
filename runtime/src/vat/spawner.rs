//! Spawners: which programs may be started through one, and with how much.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use refcap_abi::endowment::{MAX_NAME, is_name};
use refcap_abi::{ErrorCode, Kind};
use thiserror::Error;
use tokio::sync::Semaphore;

use super::{Output, Refusal};
use crate::ambient::AmbientAuthority;
use crate::audit;
use crate::capability::Capability;
use crate::capability::lineage::{Birth, Tree};
use crate::capability::table::Object;
use crate::limits::Limits;
use crate::program::{MAX_MODULE_BYTES, Program};
use crate::runtime::Runtime;

/// Children of one spawner at a time, prepared ones included.
pub const DEFAULT_CHILDREN: usize = 16;
/// Bytes of memory of a child whose parent does not say how many.
pub const DEFAULT_CHILD_MEMORY: usize = 16 << 20;
/// Capabilities of a child whose parent does not say how many.
pub const DEFAULT_CHILD_CAPABILITIES: usize = 100;
/// Sockets of a child whose parent does not say how many.
pub const DEFAULT_CHILD_SOCKETS: usize = 16;

/// What may be started through a spawner. Nothing may that is not said here.
///
/// ```
/// use refcap::{Capability, Limits, Program, Runtime, SpawnerTerms, ambient_authority};
///
/// # fn example(runtime: &Runtime, plugin: &Program) -> Result<(), Box<dyn std::error::Error>> {
/// let terms = SpawnerTerms::new().program("plugin", plugin).children(3);
/// let spawner = Capability::spawner("spawner", terms, ambient_authority())?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct SpawnerTerms {
    programs: BTreeMap<String, Program>,
    loads: Option<(Runtime, usize)>,
    children: usize,
    depth: u32,
    limits: Limits,
    most: Limits,
    output: ChildOutput,
}

/// Where the standard output and standard error of children go.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum ChildOutput {
    /// Nowhere.
    #[default]
    Discard,
    /// Where their parent's go.
    Parents,
    /// Both to this one.
    To(Output),
}

impl Default for SpawnerTerms {
    fn default() -> Self {
        SpawnerTerms::new()
    }
}

impl SpawnerTerms {
    /// Terms on which nothing can be started yet.
    pub fn new() -> SpawnerTerms {
        SpawnerTerms {
            programs: BTreeMap::new(),
            loads: None,
            children: DEFAULT_CHILDREN,
            depth: 1,
            limits: Limits::default()
                .memory(DEFAULT_CHILD_MEMORY)
                .capabilities(DEFAULT_CHILD_CAPABILITIES)
                .sockets(DEFAULT_CHILD_SOCKETS),
            most: Limits::default(),
            output: ChildOutput::default(),
        }
    }

    /// Names a program that may be started. A later one of the same name takes the place of the first.
    #[must_use]
    pub fn program(mut self, name: impl Into<String>, program: &Program) -> Self {
        self.programs.insert(name.into(), program.clone());
        self
    }

    /// Lets guests start modules that they have as bytes: each of at most `bytes` bytes, and in no case of more than
    /// [`MAX_MODULE_BYTES`]. They pass the load gate of `runtime` and are compiled on a thread of their own, one at a
    /// time for each spawner. The compiler's time and memory are in no vat's limits.
    #[must_use]
    pub fn loads(mut self, runtime: &Runtime, bytes: usize) -> Self {
        self.loads = Some((runtime.clone(), bytes.min(MAX_MODULE_BYTES)));
        self
    }

    /// How many programs there may be at once that were started through the spawner, or through what was derived
    /// from it, in all vats together ([`DEFAULT_CHILDREN`]). Those that are prepared count.
    #[must_use]
    pub fn children(mut self, count: usize) -> Self {
        self.children = count;
        self
    }

    /// How many programs may be started by one another in a row: with 1, which is the default, the program that the
    /// embedder started can start others, and those none, even if they are given the spawner.
    #[must_use]
    pub fn depth(mut self, count: u32) -> Self {
        self.depth = count;
        self
    }

    /// What a child has unless its parent says otherwise ([`DEFAULT_CHILD_MEMORY`], [`DEFAULT_CHILD_CAPABILITIES`],
    /// [`DEFAULT_CHILD_SOCKETS`], no limit of time). It is taken from what the parent has. The wall time is
    /// that of the whole child.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The most that a parent may give a child ([`Limits::default`]); in no case more than it has left itself.
    #[must_use]
    pub fn most(mut self, limits: Limits) -> Self {
        self.most = limits;
        self
    }

    /// Where the output of children goes; without this, nowhere.
    #[must_use]
    pub fn output(mut self, output: ChildOutput) -> Self {
        self.output = output;
        self
    }
}

/// Why a spawner could not be made.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpawnerRefused {
    /// A program can't be called so.
    #[error("`{0}` can't be the name of a program: 1 to {MAX_NAME} ASCII letters, digits, `_` or `-`")]
    BadName(String),
}

impl Capability {
    /// Mints a Spawner: the power to start programs, on these terms.
    ///
    /// Programs that are started through it descend from it: revoking it stops them all.
    ///
    /// # Errors
    ///
    /// [`SpawnerRefused`]: a program has a name that none can have.
    ///
    /// # Ambient authority
    ///
    /// This makes authority from nothing, so it takes the token.
    pub fn spawner(
        label: &str,
        terms: SpawnerTerms,
        _: AmbientAuthority,
    ) -> Result<Capability, SpawnerRefused> {
        if let Some(name) = terms.programs.keys().find(|name| !is_name(name)) {
            return Err(SpawnerRefused::BadName(name.clone()));
        }
        let label: Arc<str> = label.into();
        let birth = Birth::new(Kind::Spawner, &label);
        audit::grant(birth.id, Kind::Spawner, &label, None);
        let (tree, node) = Tree::plant(birth);
        let object = Object::Spawner(Arc::new(Spawner::new(terms)));
        Ok(Capability::new(tree, node, Kind::Spawner, label, Some(object)))
    }
}

/// What a Spawner is a capability to. All that are derived from one share it.
#[derive(Debug)]
pub(crate) struct Spawner {
    terms: SpawnerTerms,
    /// How many children there are.
    seated: AtomicUsize,
    compiling: Arc<Semaphore>,
}

impl Spawner {
    fn new(terms: SpawnerTerms) -> Spawner {
        Spawner {
            terms,
            seated: AtomicUsize::new(0),
            compiling: Arc::new(Semaphore::new(1)),
        }
    }

    /// The program of that name. `NotFound`.
    pub(crate) fn program(&self, name: &str) -> Result<Program, Refusal> {
        self.terms.programs.get(name).cloned().ok_or_else(|| {
            let names: Vec<_> = self
                .terms
                .programs
                .keys()
                .map(|name| format!("`{name}`"))
                .collect();
            let known = match names.is_empty() {
                true => "it names none".to_owned(),
                false => format!("it starts {}", names.join(", ")),
            };
            let why = format!("the spawner starts no program named `{name}`; {known}");
            Refusal::new(ErrorCode::NotFound, why)
        })
    }

    /// How many bytes a module may have that a guest brings. `Denied` where it may not.
    pub(crate) fn load_limit(&self) -> Result<usize, Refusal> {
        let limit = self.terms.loads.as_ref().map(|&(_, bytes)| bytes);
        limit.ok_or_else(|| {
            let why = "the spawner starts only programs that it has a name for, none from bytes";
            Refusal::new(ErrorCode::Denied, why)
        })
    }

    /// Makes a program of a module that a guest brings. `BadArgument`, with the load gate's reasons.
    pub(crate) async fn load(&self, bytes: Vec<u8>) -> Result<Program, Refusal> {
        let (runtime, _) = self.terms.loads.clone().ok_or(ErrorCode::Denied)?;
        let permit = self.compiling.clone().acquire_owned().await;
        let permit = permit.map_err(|closed| Refusal::new(ErrorCode::Io, closed))?;
        let compile = move || {
            let program = Program::load(&runtime, &bytes);
            // Kept until here also when the guest that waits for it is gone.
            drop(permit);
            program
        };
        match tokio::task::spawn_blocking(compile).await {
            Ok(Ok(program)) => Ok(program),
            Ok(Err(error)) => Err(Refusal::new(ErrorCode::BadArgument, error)),
            Err(error) => Err(Refusal::new(
                ErrorCode::Io,
                format_args!("the module was not compiled: {error}"),
            )),
        }
    }

    /// A place for one more child of a program that has so many above it. `LimitReached`.
    pub(crate) fn seat(self: &Arc<Self>, generation: u32) -> Result<Seat, Refusal> {
        let SpawnerTerms { children, depth, .. } = self.terms;
        if generation >= depth {
            return Err(Refusal::limit(format_args!(
                "{depth} programs started by one another"
            )));
        }
        let more = |seated: usize| (seated < children).then_some(seated + 1);
        let seat = self
            .seated
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        seat.map_err(|_| Refusal::limit(format_args!("{children} children of this spawner")))?;
        Ok(Seat(self.clone()))
    }
}

/// One of the places for children that a spawner has; free again when it is dropped.
pub(crate) struct Seat(Arc<Spawner>);

impl Seat {
    /// What a child has unless its parent says otherwise.
    pub(crate) fn default_limits(&self) -> Limits {
        let SpawnerTerms { limits, most, .. } = &self.0.terms;
        limits.at_most(most)
    }

    /// The most that its parent can give it.
    pub(crate) fn most(&self) -> &Limits {
        &self.0.terms.most
    }

    /// Where its output goes, for a parent with this standard output and standard error.
    pub(crate) fn output(&self, stdout: &Output, stderr: &Output) -> (Output, Output) {
        match &self.0.terms.output {
            ChildOutput::Discard => (Output::Discard, Output::Discard),
            ChildOutput::Parents => (stdout.clone(), stderr.clone()),
            ChildOutput::To(output) => (output.clone(), output.clone()),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.seated.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").finish_non_exhaustive()
    }
}
