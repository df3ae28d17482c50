//! Starting a program with what it was granted.

use std::fmt;
use std::sync::Arc;

use refcap_abi::endowment::Endowment;
use refcap_abi::{GRANT_EXPORT, Kind};
use thiserror::Error;
use wasmtime::{ExternRef, Instance, PoolConcurrencyLimitError, RootScope, Rooted, Store, UpdateDeadline};

use super::kin::Kin;
use super::state::InstanceState;
use super::stdio::World;
use super::{Input, Output, Refusal, RunError, Vat, VatState, instances, within};
use crate::capability::Capability;
use crate::capability::table::NoBirth;
use crate::limits::Limits;
use crate::program::{Program, link};
use crate::references::{self, References};
use crate::resolver::Resolver;

/// Ticks of the engine's clock between two chances for others to run.
const EPOCHS: u64 = 1;

/// What a program is started with. Nothing is granted that is not said here.
#[derive(Debug)]
pub struct VatBuilder {
    program: Program,
    pub(super) grants: Vec<(String, Capability)>,
    pub(super) limits: Limits,
    pub(super) world: World,
    linked_worlds: Vec<(String, World)>,
    resolver: Option<Arc<dyn Resolver>>,
    pub(super) kin: Kin,
}

/// Why a program could not be started.
#[non_exhaustive]
#[derive(Debug, Error)]
pub enum StartError {
    /// Endowments that the program asks for were not granted.
    #[error("the program needs {}", list(.0))]
    Missing(Vec<Endowment>),
    /// Something was granted that the program does not ask for.
    #[error("the program does not ask for `{name}`; it asks for {}", list(.asked))]
    Unknown {
        /// The name that was granted.
        name: String,
        /// What the program asks for.
        asked: Vec<Endowment>,
    },
    /// Two capabilities were granted under one name.
    #[error("`{0}` was granted twice")]
    Twice(String),
    /// A capability of another kind was granted than the program asks for.
    #[error("`{}` must be a {}, but a {granted} was granted", .asked.name, .asked.kind)]
    WrongKind {
        /// What the program asks for.
        asked: Endowment,
        /// What was granted.
        granted: Kind,
    },
    /// A granted capability was revoked before the program started.
    #[error("what was granted as `{0}` is revoked")]
    Revoked(String),
    /// A capability that may be held by one program only was granted to another one before.
    #[error("what was granted as `{0}` may not be handed to a second program")]
    NotTransferable(String),
    /// The program could not take a capability that it asked for.
    #[error("the program could not take `{name}`: {why}")]
    NotTaken {
        /// The endowment.
        name: String,
        /// What happened.
        why: String,
    },
    /// As many vats run as the runtime's pool holds.
    #[error("the pool is full: it has room for {0} programs at once")]
    PoolFull(u32),
    /// The program could not be instantiated within its limits, or its start function trapped.
    #[error("the program could not be instantiated: {0}")]
    Instantiate(String),
    /// It ran longer than its limit before it was even started.
    #[error(transparent)]
    Run(#[from] RunError),
}

fn list(endowments: &[Endowment]) -> impl fmt::Display {
    let all: Vec<_> = endowments
        .iter()
        .map(|endowment| format!("`{}` (a {})", endowment.name, endowment.kind))
        .collect();
    if all.is_empty() {
        "nothing".to_owned()
    } else {
        all.join(", ")
    }
}

impl VatBuilder {
    pub(crate) fn new(program: &Program) -> Self {
        VatBuilder {
            program: program.clone(),
            grants: Vec::new(),
            limits: Limits::default(),
            world: World::default(),
            linked_worlds: Vec::new(),
            resolver: None,
            kin: Kin::default(),
        }
    }

    /// Grants a capability under the name of one of the program's endowments. The program receives one
    /// that is derived from it: revoking yours ends the program's.
    #[must_use]
    pub fn grant(mut self, name: &str, capability: &Capability) -> Self {
        self.grants.push((name.to_owned(), capability.clone()));
        self
    }

    /// Sets the vat's limits; without this they are [`Limits::default`].
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets who looks names up for the program; without this a [`SystemResolver`](crate::SystemResolver)
    /// of the program's own, made when it looks up its first name.
    #[must_use]
    pub fn resolver(mut self, resolver: Arc<dyn Resolver>) -> Self {
        self.resolver = Some(resolver);
        self
    }

    /// Sets the program's arguments, the first of which is its own name by convention.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.world.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// Adds an environment variable. Nothing of this process's environment is inherited.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.world.env.push((name.into(), value.into()));
        self
    }

    /// Sets where standard input comes from; without this it is empty.
    #[must_use]
    pub fn stdin(mut self, input: Input) -> Self {
        self.world.stdin = input;
        self
    }

    /// Sets where standard output goes; without this, nowhere.
    #[must_use]
    pub fn stdout(mut self, output: Output) -> Self {
        self.world.stdout = output;
        self
    }

    /// Sets where standard error goes; without this, nowhere.
    #[must_use]
    pub fn stderr(mut self, output: Output) -> Self {
        self.world.stderr = output;
        self
    }

    /// Sets where the output of a program goes that this one is linked to, directly or by way of others; without
    /// this, nowhere. `name` is the one under which it is linked.
    #[must_use]
    pub fn linked_output(mut self, name: &str, stdout: Output, stderr: Output) -> Self {
        let world = World {
            stdout,
            stderr,
            ..World::default()
        };
        self.linked_worlds.push((name.to_owned(), world));
        self
    }

    /// Sets where the vat stands among others; without this nobody started it but the embedder.
    pub(super) fn kin(mut self, kin: Kin) -> Self {
        self.kin = kin;
        self
    }

    /// Instantiates the program and hands it its endowments. Its entry point has not run yet.
    ///
    /// # Errors
    ///
    /// [`StartError`]. Nothing was handed out then.
    pub async fn start(self) -> Result<Vat, StartError> {
        let grants = self.match_grants()?;
        let VatBuilder {
            program,
            limits,
            world,
            linked_worlds,
            resolver,
            kin,
            ..
        } = self;
        let wall_time = limits.wall_time;
        let name = world.args.first().cloned();
        let mut state = VatState::new(limits, world, resolver, kin);
        for link in link::all(program.links()) {
            let world = linked_worlds.iter().rfind(|(name, _)| **name == *link.name);
            let world = world.map(|(_, world)| world.clone()).unwrap_or_default();
            state.add_instance(InstanceState::new(&link.name, world.build()));
        }
        state.announce(name.as_deref());
        let mut store = Store::new(program.engine(), state);
        store.limiter(|state| &mut state.meter);
        store.set_epoch_deadline(EPOCHS);
        store.epoch_deadline_callback(|_| {
            // Not wasmtime's own yield: that wakes itself at once, so that tokio gets to its timers and
            // sockets only every 61 turns.
            Ok(UpdateDeadline::YieldCustom(
                EPOCHS,
                Box::pin(tokio::task::yield_now()),
            ))
        });
        let instance = within(wall_time, instances::instantiate(&mut store, &program))
            .await?
            .map_err(|error| match program.places() {
                Some(places) if error.is::<PoolConcurrencyLimitError>() => StartError::PoolFull(places),
                _ => StartError::Instantiate(format!("{error:#}")),
            })?;
        for (endowment, grant) in program.endowments().iter().zip(&grants) {
            let given = give(
                &mut store,
                program.references(),
                &instance,
                endowment,
                grant.as_ref(),
            );
            within(wall_time, given).await??;
        }
        Ok(Vat {
            store,
            instance,
            ended: false,
        })
    }

    /// Whether the program asks for a capability of that kind under that name, and was not granted it before.
    pub(super) fn place_for(
        &self,
        name: &str,
        kind: Kind,
        before: &[(String, Capability)],
    ) -> Result<(), StartError> {
        let asked = self.program.endowments();
        let Some(endowment) = asked.iter().find(|endowment| endowment.name == name) else {
            return Err(StartError::Unknown {
                name: name.to_owned(),
                asked: asked.to_vec(),
            });
        };
        if before.iter().any(|(other, _)| other == name) {
            return Err(StartError::Twice(name.to_owned()));
        }
        if endowment.kind != kind {
            return Err(StartError::WrongKind {
                asked: endowment.clone(),
                granted: kind,
            });
        }
        Ok(())
    }

    /// The grants in the order of the program's endowments.
    pub(super) fn match_grants(&self) -> Result<Vec<Option<Capability>>, StartError> {
        let asked = self.program.endowments();
        for (index, (name, capability)) in self.grants.iter().enumerate() {
            self.place_for(name, capability.kind(), &self.grants[..index])?;
        }
        let find = |endowment: &Endowment| {
            self.grants
                .iter()
                .find(|(name, _)| *name == endowment.name)
                .map(|(_, capability)| capability.clone())
        };
        let grants: Vec<_> = asked.iter().map(find).collect();
        let missing: Vec<_> = asked
            .iter()
            .zip(&grants)
            .filter(|(endowment, grant)| grant.is_none() && !endowment.optional)
            .map(|(endowment, _)| endowment.clone())
            .collect();
        if missing.is_empty() {
            Ok(grants)
        } else {
            Err(StartError::Missing(missing))
        }
    }
}

/// Hands over one endowment, or null for an optional one that was not granted.
async fn give(
    store: &mut Store<VatState>,
    way: References,
    instance: &Instance,
    endowment: &Endowment,
    grant: Option<&Capability>,
) -> Result<(), StartError> {
    let name = &endowment.name;
    let not_taken = |why: String| StartError::NotTaken {
        name: name.clone(),
        why,
    };
    // The load gate has seen that the export is there and has this type.
    let take = instance
        .get_typed_func::<Option<Rooted<ExternRef>>, i32>(&mut *store, GRANT_EXPORT)
        .map_err(|error| not_taken(error.to_string()))?;
    let accept = |grant| match store.data_mut().table.accept(name, grant) {
        Ok(key) => Ok(key),
        Err(NoBirth::Revoked | NoBirth::Stale) => Err(StartError::Revoked(name.clone())),
        Err(NoBirth::NotTransferable) => Err(StartError::NotTransferable(name.clone())),
        Err(limit) => Err(not_taken(Refusal::from(limit).to_string())),
    };
    let key = grant.map(accept).transpose()?;
    let mut scope = RootScope::new(&mut *store);
    let reference = match key {
        None => None,
        Some(key) => {
            Some(references::mint(way, &mut scope, key).map_err(|error| not_taken(error.to_string()))?)
        }
    };
    let slot = take
        .call_async(&mut scope, reference)
        .await
        .map_err(|error| not_taken(format!("{error:#}")))?;
    if slot < 0 {
        return Err(not_taken("its table of references is full".to_owned()));
    }
    Ok(())
}
