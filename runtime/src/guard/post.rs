//! A guard at its post: one instance before one Net, and what it remembers.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use refcap_abi::guard::{CHECK_EXPORT, NO, Question, RECORD_BYTES, RECORD_EXPORT, YES};
use refcap_abi::{ErrorCode, MEMORY_EXPORT};
use wasmtime::{InstancePre, Memory, Store, Trap, TypedFunc};

use super::chain::Asked;
use super::engine::{FUEL, MAX_GUARD_MEMORY, Meter, store};
use super::{GuardError, gate};
use crate::capability::mailbox::{GuardPermit, lock};
use crate::vat::Refusal;

/// One guard before one Net, shared by all that is derived from that Net, in every vat.
pub(crate) struct Post {
    /// How it is called in refusals: its name, or its number.
    name: Arc<str>,
    state: Mutex<State>,
    /// Sockets that it let through and that are open.
    open: AtomicU32,
    _permit: Option<GuardPermit>,
}

enum State {
    Alive(Running),
    Dead(Death),
}

/// A guard that runs.
struct Running {
    store: Store<Meter>,
    memory: Memory,
    /// Where its record is.
    record: usize,
    check: TypedFunc<(), i32>,
    checks: u64,
    allowed: u64,
}

/// Why a guard is in no state to be asked again.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Death {
    Fuel,
    Memory,
    Trap(String),
}

/// Why a guard's answer was not yes.
enum No {
    Said,
    Nonsense(i32),
    Dead(Death),
}

impl Post {
    pub(super) fn begin(
        name: &str,
        linked: &InstancePre<Meter>,
        permit: Option<GuardPermit>,
    ) -> Result<Post, GuardError> {
        let start = |error: wasmtime::Error| GuardError::Start(format!("{error:#}"));
        let mut store = store(linked.module().engine()).map_err(start)?;
        let instance = linked.instantiate(&mut store).map_err(start)?;
        let memory = instance.get_memory(&mut store, MEMORY_EXPORT);
        let memory = memory.ok_or(gate::MEMORY_MISSING)?;
        let record = instance.get_global(&mut store, RECORD_EXPORT);
        let record = record.and_then(|record| record.get(&mut store).i32());
        let address = record.ok_or(gate::RECORD_MISSING)?.cast_unsigned();
        let record = address as usize;
        // Memories never shrink, so what is inside stays inside.
        if record + RECORD_BYTES > memory.data_size(&store) {
            return Err(GuardError::RecordOutside { address });
        }
        let check = instance
            .get_typed_func(&mut store, CHECK_EXPORT)
            .map_err(|_| gate::CHECK_MISSING)?;
        Ok(Post {
            name: name.into(),
            state: Mutex::new(State::Alive(Running {
                store,
                memory,
                record,
                check,
                checks: 0,
                allowed: 0,
            })),
            open: AtomicU32::new(0),
            _permit: permit,
        })
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Asks. One question at a time; while others are asked, this waits.
    ///
    /// May be called with a socket's latch held; takes no other lock, and is bounded by the guard's fuel.
    pub(super) fn ask(&self, asked: &Asked<'_>, question: &Question<'_>) -> Result<(), Refusal> {
        let mut state = lock(&self.state);
        let no = match &mut *state {
            State::Dead(death) => No::Dead(death.clone()),
            State::Alive(running) => {
                let open = self.open.load(Ordering::Relaxed);
                match running.ask(Question { open, ..*question }) {
                    Ok(YES) => return Ok(()),
                    Ok(NO) => No::Said,
                    Ok(other) => No::Nonsense(other),
                    Err(death) => {
                        *state = State::Dead(death.clone());
                        No::Dead(death)
                    }
                }
            }
        };
        drop(state);
        Err(self.refusal(&no, asked))
    }

    fn refusal(&self, no: &No, asked: &Asked<'_>) -> Refusal {
        let name = &self.name;
        let why = match no {
            No::Said => format!("the guard {name} said no to {asked}"),
            No::Nonsense(other) => {
                format!(
                    "the guard {name} answered {other} to {asked}, which is neither yes ({YES}) nor no ({NO})"
                )
            }
            No::Dead(death) => {
                format!("the guard {name} {death}, and from then on everything is denied: {asked}")
            }
        };
        Refusal::new(ErrorCode::Denied, why)
    }

    /// Counts a socket that was let through.
    pub(super) fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Running {
    fn ask(&mut self, question: Question<'_>) -> Result<i32, Death> {
        let question = Question {
            checks: self.checks,
            allowed: self.allowed,
            ..question
        };
        self.checks += 1;
        let memory = self.memory.data_mut(&mut self.store);
        if let Some(record) = memory
            .get_mut(self.record..)
            .and_then(|rest| rest.first_chunk_mut::<RECORD_BYTES>())
        {
            question.write(record);
        }
        let answer = self
            .store
            .set_fuel(FUEL)
            .and_then(|()| self.check.call(&mut self.store, ()))
            .map_err(|error| self.death(&error))?;
        self.allowed += u64::from(answer == YES);
        Ok(answer)
    }

    fn death(&self, error: &wasmtime::Error) -> Death {
        if self.store.data().is_over {
            return Death::Memory;
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => Death::Fuel,
            Some(trap) => Death::Trap(trap.to_string()),
            None => Death::Trap(format!("{error:#}")),
        }
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Death::Fuel => write!(f, "did not answer within {FUEL} units of fuel"),
            Death::Memory => write!(f, "wanted more than {MAX_GUARD_MEMORY} bytes of memory"),
            Death::Trap(why) => write!(f, "trapped ({why})"),
        }
    }
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
