//! Vats: programs that run, each with its own store and its own references.

mod builder;
mod child;
mod instances;
mod kin;
mod share;
mod spawner;
mod state;
mod stdio;
mod turn;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use refcap_abi::{COMMAND_EXPORT, START_EXPORT};
use thiserror::Error;
use wasmtime::{Instance, Store, Val};
use wasmtime_wasi::I32Exit;

use crate::capability::Capability;
use crate::capability::mailbox::Mailbox;

pub use builder::{StartError, VatBuilder};
pub(crate) use child::Child;
pub use spawner::{
    ChildOutput, DEFAULT_CHILD_CAPABILITIES, DEFAULT_CHILD_MEMORY, DEFAULT_CHILD_SOCKETS, DEFAULT_CHILDREN,
    SpawnerRefused, SpawnerTerms,
};
pub(crate) use spawner::{Seat, Spawner};
pub(crate) use state::{Refusal, VatState};
pub use stdio::{Captured, Input, Output};

/// A program that was given its endowments and can run.
///
/// Dropping a vat ends it: its connections are closed, it gives up all capabilities that it holds, and the programs
/// that it started are stopped.
pub struct Vat {
    store: Store<VatState>,
    instance: Instance,
    /// A guest that trapped or was cut off is in no state to be called again.
    ended: bool,
}

/// How a program ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exit {
    /// The exit code: 0 when it returned.
    pub code: i32,
    /// The message that it left with the host, on targets without a standard error.
    pub report: Option<String>,
}

/// Why a call into a guest did not come back.
#[non_exhaustive]
#[derive(Debug, Error)]
pub enum RunError {
    /// The program has neither of the two entry points.
    #[error("the program exports neither `{COMMAND_EXPORT}` nor `{START_EXPORT}`")]
    NoEntryPoint,
    /// There is no such function, or it does not take and return `i32`s as called.
    #[error("the program exports no function `{0}` that takes and returns i32s as it was called")]
    NoSuchFunction(String),
    /// The guest trapped.
    #[error("the program trapped: {message}")]
    Trap {
        /// What happened, and where in the guest.
        message: String,
        /// The message that it left with the host before that.
        report: Option<String>,
    },
    /// The guest ran longer than its limit.
    #[error("the program ran longer than its limit of {0:?}")]
    TimedOut(Duration),
    /// The guest trapped or was cut off before; it can't be called again.
    #[error("the program has ended and can't be called again")]
    Ended,
}

/// What an embedder can do with a vat while it runs: observe it, and give it more. To take away, keep the
/// [`Capability`] that was granted.
#[derive(Debug, Clone)]
pub struct VatHandle {
    mailbox: Arc<Mailbox>,
    children: Arc<kin::Children>,
}

impl VatHandle {
    /// The vat's number, as the audit log names it.
    pub fn id(&self) -> u64 {
        self.mailbox.vat()
    }

    /// How many capabilities the vat has, with those that are kept because others descend from them.
    pub fn capabilities(&self) -> usize {
        self.mailbox.capabilities()
    }

    /// How many sockets the vat has open.
    pub fn sockets(&self) -> usize {
        self.mailbox.sockets()
    }

    /// How many programs that the guest started are not gone yet.
    pub fn children(&self) -> usize {
        self.children.count()
    }

    /// Leaves a capability for the guest to take under that name. A later one of the same name takes the
    /// place of one that was not taken yet.
    pub fn grant(&self, name: &str, capability: &Capability) {
        self.mailbox.leave(name, capability.clone());
    }
}

impl Vat {
    /// What can be done with the vat while it runs.
    pub fn handle(&self) -> VatHandle {
        VatHandle {
            mailbox: self.store.data().mailbox.clone(),
            children: self.store.data().kin.children.clone(),
        }
    }

    /// Runs the program from its entry point to its end, and stops the programs that it started and that have not
    /// ended by then. When this returns, those are gone.
    ///
    /// # Errors
    ///
    /// [`RunError`]. A program that returns an exit code other than 0 has not failed in this sense.
    pub async fn run(&mut self) -> Result<Exit, RunError> {
        let name = self.entry_point()?;
        let result = self.call(name, &[]).await;
        self.end_children().await;
        let result = result?;
        let report = self.take_report();
        Ok(match result {
            Ended::Returned(code) => Exit {
                code: code.unwrap_or(0),
                report,
            },
            Ended::Exited(code) => Exit { code, report },
        })
    }

    /// The export at which the program begins.
    fn entry_point(&mut self) -> Result<&'static str, RunError> {
        [COMMAND_EXPORT, START_EXPORT]
            .into_iter()
            .find(|name| self.instance.get_func(&mut self.store, name).is_some())
            .ok_or(RunError::NoEntryPoint)
    }

    /// Stops the programs that this one started, and waits until they are gone.
    async fn end_children(&mut self) {
        let state = self.store.data();
        for child in state.table.children() {
            child.control().stop();
        }
        let children = state.kin.children.clone();
        children.gone().await;
    }

    /// Calls an exported function that takes `i32`s and returns one or nothing. Programs that the guest started
    /// go on after the call, unless it ended the guest.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn call_export(&mut self, name: &str, arguments: &[i32]) -> Result<Option<i32>, RunError> {
        let result = self.call(name, arguments).await;
        if self.ended {
            self.end_children().await;
        }
        match result? {
            Ended::Returned(result) => Ok(result),
            Ended::Exited(code) => Ok(Some(code)),
        }
    }

    async fn call(&mut self, name: &str, arguments: &[i32]) -> Result<Ended, RunError> {
        if self.ended {
            return Err(RunError::Ended);
        }
        let no_function = || RunError::NoSuchFunction(name.to_owned());
        let function = self
            .instance
            .get_func(&mut self.store, name)
            .ok_or_else(no_function)?;
        let ty = function.ty(&self.store);
        let are_numbers = ty.params().chain(ty.results()).all(|ty| ty.is_i32());
        if !are_numbers || ty.params().len() != arguments.len() || ty.results().len() > 1 {
            return Err(no_function());
        }
        let arguments: Vec<Val> = arguments.iter().map(|&number| Val::I32(number)).collect();
        let mut results = vec![Val::I32(0); ty.results().len()];
        // A call that does not come back leaves this set.
        self.ended = true;
        let limit = self.store.data().limits.wall_time;
        let call = function.call_async(&mut self.store, &arguments, &mut results);
        let result = within(limit, call).await?;
        match result {
            Ok(()) => {
                self.ended = false;
                Ok(Ended::Returned(results.first().and_then(Val::i32)))
            }
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(exit) => Ok(Ended::Exited(exit.0)),
                None => Err(RunError::Trap {
                    message: format!("{error:#}"),
                    report: self.take_report(),
                }),
            },
        }
    }

    /// The message that the program left, once.
    fn take_report(&mut self) -> Option<String> {
        let report = self.store.data_mut().instance_mut(0).report.take();
        report.map(String::from)
    }

    /// Closes all capabilities that the guest can't reach any more, and returns how many it still holds.
    /// The collector does this by itself when the guest makes references; a host that lets a guest rest
    /// may call it to have their memory and sockets back now.
    ///
    /// # Errors
    ///
    /// [`RunError::Ended`] when the engine could not collect, which ends the vat.
    pub fn collect(&mut self) -> Result<usize, RunError> {
        if self.store.gc(None).is_err() {
            self.ended = true;
            return Err(RunError::Ended);
        }
        Ok(self.capabilities())
    }

    /// How many capabilities the guest holds.
    pub fn capabilities(&mut self) -> usize {
        let state = self.store.data_mut();
        state.read_letters();
        state.table.len()
    }
}

/// How a call ended.
enum Ended {
    Returned(Option<i32>),
    Exited(i32),
}

/// Gives a future as long as the limit says.
async fn within<T>(limit: Option<Duration>, future: impl Future<Output = T>) -> Result<T, RunError> {
    match limit {
        None => Ok(future.await),
        Some(limit) => tokio::time::timeout(limit, future)
            .await
            .map_err(|_| RunError::TimedOut(limit)),
    }
}

impl fmt::Debug for Vat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vat")
            .field("state", self.store.data())
            .finish_non_exhaustive()
    }
}
