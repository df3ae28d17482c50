//! Programs that programs start.
//!
//! A child is prepared, given what it is to have, and started; then it runs as a task of its own, in a vat of its
//! own. Who holds its [`Child`] can wait for it and stop it. It stops when that capability is closed or revoked, and
//! with its parent, so that no program runs that nobody could stop.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use refcap_abi::ending::Ending;
use refcap_abi::{ARGUMENT_BYTES, ErrorCode, LIMIT_CAPABILITIES, LIMIT_MEMORY, LIMIT_SOCKETS, LIMIT_TIME};
use refcap_authority::Authority;
use tokio::sync::{oneshot, watch};

use super::kin::{Children, Kin, Place};
use super::share::Share;
use super::spawner::Seat;
use super::{Exit, Refusal, RunError, StartError, VatBuilder, VatState};
use crate::audit::{self, Parentage};
use crate::capability::entry::Entry;
use crate::capability::lineage::Sever;
use crate::capability::mailbox::{Mailbox, lock};
use crate::capability::table::CapTable;
use crate::capability::{CapId, Key};
use crate::program::Program;

/// A program that was started through a spawner, or is about to be.
#[derive(Debug)]
pub(crate) struct Child {
    control: Arc<Control>,
    /// What it will be started with, until it is. Not where the lineage could drop it while it is locked: it holds
    /// capabilities, which lock the lineage when they are dropped.
    plan: Mutex<Option<Plan>>,
}

/// What a child will be started with.
#[derive(Debug)]
struct Plan {
    builder: VatBuilder,
    seat: Seat,
}

/// The part of a child that others may touch, from any thread.
#[derive(Debug)]
pub(crate) struct Control {
    mailbox: Arc<Mailbox>,
    stop: watch::Sender<bool>,
    fate: watch::Sender<Option<Fate>>,
}

/// What became of a child.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    /// It could not be started.
    NotStarted,
    /// It ran, and ended.
    Ended(Ending),
}

impl Control {
    fn new(mailbox: Arc<Mailbox>) -> Control {
        Control {
            mailbox,
            stop: watch::Sender::new(false),
            fate: watch::Sender::new(None),
        }
    }

    /// Tells it to stop. When this returns, no host call of it starts that finds a capability; its instructions end
    /// within a tick of the engine's clock.
    pub(crate) fn stop(&self) {
        self.mailbox.stop();
        self.stop.send_replace(true);
    }

    /// Returns when it is gone, with all that it started.
    pub(crate) async fn gone(&self) -> Fate {
        let mut fate = self.fate.subscribe();
        let fate = fate.wait_for(Option::is_some).await;
        // Whoever could set it is `self`.
        fate.ok()
            .and_then(|fate| fate.clone())
            .unwrap_or(Fate::NotStarted)
    }

    async fn stopped(&self) {
        // Whoever could say so is `self`.
        let _ = self.stop.subscribe().wait_for(|&stop| stop).await;
    }

    fn end(&self, fate: Fate) {
        self.fate.send_replace(Some(fate));
    }
}

impl Sever for Control {
    fn sever(&self) {
        self.stop();
    }

    fn restrict(&self, _: &Authority) -> bool {
        true
    }
}

impl Child {
    /// Prepares a program for a parent that has this state.
    pub(crate) fn new(program: Program, name: &str, seat: Seat, parent: &VatState) -> Child {
        let kin = Kin::below(parent.kin.generation + 1);
        let control = Arc::new(Control::new(kin.mailbox.clone()));
        let (stdout, stderr) = seat.output(&parent.kin.stdout, &parent.kin.stderr);
        let mut builder = program
            .vat()
            .limits(seat.default_limits().under(&parent.limits))
            .args([name])
            .stdout(stdout)
            .stderr(stderr)
            .kin(kin);
        if let Some(resolver) = &parent.kin.resolver {
            builder = builder.resolver(resolver.clone());
        }
        Child {
            control,
            plan: Mutex::new(Some(Plan { builder, seat })),
        }
    }

    pub(crate) fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Hands it a capability of its parent's, under the name of one of its endowments.
    pub(crate) fn grant(&self, table: &mut CapTable, key: Key<Entry>, name: &str) -> Result<(), Refusal> {
        self.change(|plan| {
            let kind = table.get(key)?.object().kind();
            let no_place = |error| Refusal::new(ErrorCode::BadArgument, error);
            plan.builder
                .place_for(name, kind, &plan.builder.grants)
                .map_err(no_place)?;
            plan.builder.grants.push((name.to_owned(), table.hand_over(key)?));
            Ok(())
        })
    }

    /// Gives it one more argument.
    pub(crate) fn argument(&self, text: String) -> Result<(), Refusal> {
        self.change(|plan| {
            if text.contains('\0') {
                let why = "an argument has a zero byte, which would end it";
                return Err(Refusal::new(ErrorCode::BadArgument, why));
            }
            let bytes: usize = plan
                .builder
                .world
                .args
                .iter()
                .chain([&text])
                .map(|text| text.len() + 1)
                .sum();
            if bytes > ARGUMENT_BYTES {
                return Err(Refusal::limit(format_args!(
                    "{ARGUMENT_BYTES} bytes of arguments"
                )));
            }
            plan.builder.world.args.push(text);
            Ok(())
        })
    }

    /// Sets one of its limits.
    pub(crate) fn limit(&self, which: i32, amount: u64) -> Result<(), Refusal> {
        self.change(|plan| {
            let most = plan.seat.most();
            let count = usize::try_from(amount).unwrap_or(usize::MAX);
            let (most, what) = match which {
                LIMIT_MEMORY => (most.memory, "bytes of memory"),
                LIMIT_CAPABILITIES => (most.capabilities, "capabilities"),
                LIMIT_SOCKETS => (most.sockets, "sockets"),
                LIMIT_TIME => (
                    most.wall_time.map_or(usize::MAX, |time| {
                        usize::try_from(time.as_millis()).unwrap_or(usize::MAX)
                    }),
                    "milliseconds",
                ),
                other => {
                    let why = format!("{other} is not a limit of a child: 1 (memory) to 4 (time)");
                    return Err(Refusal::new(ErrorCode::BadArgument, why));
                }
            };
            if count > most {
                let why = format!(
                    "a child of this spawner may have {most} {what} at most, and {amount} were asked for"
                );
                return Err(Refusal::new(ErrorCode::LimitReached, why));
            }
            match which {
                LIMIT_MEMORY => plan.builder.limits.memory = count,
                LIMIT_CAPABILITIES => plan.builder.limits.capabilities = count,
                LIMIT_SOCKETS => plan.builder.limits.sockets = count,
                _ => plan.builder.limits.wall_time = Some(Duration::from_millis(amount)),
            }
            Ok(())
        })
    }

    /// Changes what it will be started with, which is possible until it is.
    fn change(&self, change: impl FnOnce(&mut Plan) -> Result<(), Refusal>) -> Result<(), Refusal> {
        match &mut *lock(&self.plan) {
            Some(plan) => change(plan),
            None => Err(started_already()),
        }
    }

    /// Starts it as a task of its own. What is returned says whether it has begun to run; if it never says, the child
    /// was stopped before. On an error nothing has changed.
    pub(crate) fn start(
        &self,
        id: CapId,
        label: &Arc<str>,
        parent: &VatState,
    ) -> Result<oneshot::Receiver<Result<(), StartError>>, Refusal> {
        let mut place = lock(&self.plan);
        let plan = place.as_ref().ok_or_else(started_already)?;
        plan.builder.match_grants()?;
        let executor = tokio::runtime::Handle::try_current()
            .map_err(|error| Refusal::new(ErrorCode::NotStarted, format_args!("no task can run: {error}")))?;
        let share = Share::draw(parent, &plan.builder.limits)?;
        let Some(Plan { builder, seat }) = place.take() else {
            return Err(started_already());
        };
        drop(place);
        let life = Life {
            control: self.control.clone(),
            children: builder.kin.children.clone(),
            fate: Fate::Ended(Ending::Stopped),
            held: Some((share, seat)),
            parentage: self.parentage(id, label, parent),
            place: Some(parent.kin.children.enter()),
        };
        let (tell, told) = oneshot::channel();
        executor.spawn(life.live(builder, tell));
        Ok(told)
    }

    /// Stops it, and returns when it is gone; whether there was anything to stop.
    pub(crate) async fn stop(&self) -> bool {
        self.control.stop();
        // Dropped without the lock, for it gives up capabilities.
        let plan = lock(&self.plan).take();
        if plan.is_some() {
            self.control.end(Fate::Ended(Ending::Stopped));
            return true;
        }
        let was_there = self.control.fate.borrow().is_none();
        self.control.gone().await;
        was_there
    }

    /// Returns when it is gone. `NotStarted` when it has not begun.
    pub(crate) async fn wait(&self) -> Result<Ending, Refusal> {
        if lock(&self.plan).is_some() {
            return Err(Refusal::new(
                ErrorCode::NotStarted,
                "the child has not been started",
            ));
        }
        match self.control.gone().await {
            Fate::Ended(ending) => Ok(ending),
            Fate::NotStarted => Err(Refusal::new(
                ErrorCode::NotStarted,
                "the child could not be started",
            )),
        }
    }

    /// What the audit log says of whose child it is.
    pub(crate) fn parentage(&self, id: CapId, label: &Arc<str>, parent: &VatState) -> Parentage {
        Parentage {
            id,
            label: label.clone(),
            vat: parent.mailbox.vat(),
            child: self.control.mailbox.vat(),
        }
    }
}

fn started_already() -> Refusal {
    Refusal::new(ErrorCode::BadArgument, "the child was started or stopped already")
}

/// A child from its start until it is gone. When this is dropped, it is.
struct Life {
    control: Arc<Control>,
    children: Arc<Children>,
    /// What will have become of it; stopped, if nobody says otherwise: whoever runs tasks may drop this one.
    fate: Fate,
    held: Option<(Share, Seat)>,
    parentage: Parentage,
    place: Option<Place>,
}

impl Life {
    async fn live(mut self, builder: VatBuilder, tell: oneshot::Sender<Result<(), StartError>>) {
        let fate = tokio::select! {
            biased;
            () = self.control.stopped() => Fate::Ended(Ending::Stopped),
            fate = self.run(builder, tell) => fate,
        };
        self.fate = fate;
        // The vat was dropped, which stops what it had started. That may take a tick of the clock.
        self.children.gone().await;
    }

    async fn run(&self, mut builder: VatBuilder, tell: oneshot::Sender<Result<(), StartError>>) -> Fate {
        // One limit for all that it does; those of the vat are for each call.
        let time = builder.limits.wall_time.take();
        let run = async {
            let mut vat = match builder.start().await {
                Ok(vat) => vat,
                Err(error) => {
                    // Whoever started it may be gone.
                    let _ = tell.send(Err(error));
                    return Fate::NotStarted;
                }
            };
            if let Err(error) = vat.entry_point() {
                let _ = tell.send(Err(error.into()));
                return Fate::NotStarted;
            }
            audit::begin(&self.parentage);
            let _ = tell.send(Ok(()));
            Fate::Ended(ending(vat.run().await))
        };
        match time {
            None => run.await,
            Some(time) => {
                let run = tokio::time::timeout(time, run).await;
                run.unwrap_or(Fate::Ended(Ending::TimedOut))
            }
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // Its limits are its parent's again before anybody hears that it is gone.
        drop(self.held.take());
        if let Fate::Ended(ending) = &self.fate {
            audit::exit(&self.parentage, ending);
        }
        // Nor is it counted any more when that is heard.
        drop(self.place.take());
        self.control.end(self.fate.clone());
    }
}

fn ending(result: Result<Exit, RunError>) -> Ending {
    match result {
        Ok(Exit { code, report }) => Ending::Exited {
            code,
            report: report.unwrap_or_default(),
        },
        Err(RunError::Trap { message, .. }) => Ending::Trapped { message },
        Err(RunError::TimedOut(_)) => Ending::TimedOut,
        Err(other) => Ending::Trapped {
            message: other.to_string(),
        },
    }
}
