//! What tasks wait for: sockets, calls and times.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::task::Waker;
use std::time::Duration;

use crate::host;
use crate::{Error, Event, Interest, Pollable, Poller, Result};

/// The number of the calls from other programs. Sockets have those from 1.
const CALLS: u32 = 0;

/// The poller of one executor, and who waits.
pub(super) struct Reactor {
    poller: Poller,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    waiting: HashMap<u32, Waiting>,
    /// How many numbers there are, and which of them no socket has.
    tokens: u32,
    free_tokens: Vec<u32>,
    /// Whether a task answers calls.
    is_serving: bool,
    /// By their times. Those that nobody waits for any more have no waker.
    timers: BinaryHeap<Reverse<(u64, u64)>>,
    timer_wakers: HashMap<u64, Waker>,
    next_timer: u64,
    events: Vec<Event>,
}

/// The tasks that wait for one socket, or the one that waits for calls.
#[derive(Default)]
struct Waiting {
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Waiting {
    fn interest(&self) -> Option<Interest> {
        match (&self.reader, &self.writer) {
            (Some(_), Some(_)) => Some(Interest::BOTH),
            (Some(_), None) => Some(Interest::READ),
            (None, Some(_)) => Some(Interest::WRITE),
            (None, None) => None,
        }
    }
}

impl Reactor {
    pub(super) fn new() -> Result<Reactor> {
        Ok(Reactor {
            poller: Poller::new()?,
            state: RefCell::default(),
        })
    }

    /// A number for a socket, which is its own until it is [forgotten](Reactor::forget).
    pub(super) fn token(&self) -> u32 {
        let mut state = self.state.borrow_mut();
        state.free_tokens.pop().unwrap_or_else(|| {
            state.tokens += 1;
            state.tokens
        })
    }

    /// Wakes a task when the socket may be read or written.
    pub(super) fn wait_for(
        &self,
        socket: &impl Pollable,
        token: u32,
        to_read: bool,
        waker: &Waker,
    ) -> Result<()> {
        let mut state = self.state.borrow_mut();
        let waiting = state.waiting.entry(token).or_default();
        let place = match to_read {
            true => &mut waiting.reader,
            false => &mut waiting.writer,
        };
        *place = Some(waker.clone());
        match waiting.interest() {
            Some(interest) => self.poller.add(socket, token, interest),
            None => Ok(()),
        }
    }

    /// Nobody waits for that socket any more: it goes, and another one may have its number.
    pub(super) fn forget(&self, token: u32) {
        let mut state = self.state.borrow_mut();
        self.stop_waiting(&mut state, token);
        state.free_tokens.push(token);
    }

    fn stop_waiting(&self, state: &mut State, token: u32) {
        if state.waiting.remove(&token).is_some() {
            // It may be gone with the socket, or with the host's word that it has ended.
            let _ = self.poller.remove(token);
        }
    }

    /// Lets a task serve, unless one does already.
    pub(super) fn begin_serving(&self) -> bool {
        !std::mem::replace(&mut self.state.borrow_mut().is_serving, true)
    }

    pub(super) fn end_serving(&self) {
        let mut state = self.state.borrow_mut();
        self.stop_waiting(&mut state, CALLS);
        state.is_serving = false;
    }

    /// Wakes the task that serves when there is a call.
    pub(super) fn wait_for_calls(&self, waker: &Waker) -> Result<()> {
        let mut state = self.state.borrow_mut();
        state.waiting.entry(CALLS).or_default().reader = Some(waker.clone());
        self.poller.add_calls(CALLS)
    }

    /// Wakes a task at a time, and returns a number to change one's mind with.
    pub(super) fn wake_at(&self, nanos: u64, waker: &Waker) -> u64 {
        let mut state = self.state.borrow_mut();
        state.next_timer += 1;
        let timer = state.next_timer;
        state.timers.push(Reverse((nanos, timer)));
        state.timer_wakers.insert(timer, waker.clone());
        timer
    }

    /// Wakes another task, or the same one by another way, at the time of a timer.
    pub(super) fn rewake(&self, timer: u64, waker: &Waker) {
        if let Some(current) = self.state.borrow_mut().timer_wakers.get_mut(&timer) {
            current.clone_from(waker);
        }
    }

    pub(super) fn forget_timer(&self, timer: u64) {
        /// Not worth tidying up.
        const FEW: usize = 64;
        let mut state = self.state.borrow_mut();
        let State {
            timers, timer_wakers, ..
        } = &mut *state;
        timer_wakers.remove(&timer);
        // Most time limits are never reached: without this, they would stay until they are.
        if timers.len() > FEW + 2 * timer_wakers.len() {
            timers.retain(|Reverse((_, timer))| timer_wakers.contains_key(timer));
        }
    }

    /// Looks what there is, and sleeps until there is something if there is nothing else to do.
    pub(super) fn turn(&self, may_sleep: bool) -> Result<()> {
        let mut events = std::mem::take(&mut self.state.borrow_mut().events);
        let timeout = match may_sleep {
            true => self.until_next_timer()?,
            false => Some(Duration::ZERO),
        };
        // Nobody to hear of, and a time that has come: no need to ask.
        if timeout != Some(Duration::ZERO) || !self.state.borrow().waiting.is_empty() {
            self.poller.wait(&mut events, timeout)?;
        }
        let wakers: Vec<_> = events.iter().flat_map(|event| self.woken(event)).collect();
        events.clear();
        self.state.borrow_mut().events = events;
        let due = self.due()?;
        wakers.into_iter().chain(due).for_each(Waker::wake);
        Ok(())
    }

    /// Who waited for the socket of an event. Both directions are woken and the poller forgets the socket:
    /// whoever still has to wait says so again, and what nobody waits for is not told over and over.
    fn woken(&self, event: &Event) -> impl Iterator<Item = Waker> {
        let waiting = self.state.borrow_mut().waiting.remove(&event.token);
        if waiting.is_some() && !event.ended {
            let _ = self.poller.remove(event.token);
        }
        let waiting = waiting.unwrap_or_default();
        waiting.reader.into_iter().chain(waiting.writer)
    }

    fn until_next_timer(&self) -> Result<Option<Duration>> {
        let mut state = self.state.borrow_mut();
        while let Some(Reverse((nanos, timer))) = state.timers.peek().copied() {
            if state.timer_wakers.contains_key(&timer) {
                return Ok(Some(Duration::from_nanos(nanos.saturating_sub(now()?))));
            }
            state.timers.pop();
        }
        Ok(None)
    }

    /// Whose time has come.
    fn due(&self) -> Result<Vec<Waker>> {
        let mut state = self.state.borrow_mut();
        let mut wakers = Vec::new();
        if state.timers.is_empty() {
            return Ok(wakers);
        }
        let now = now()?;
        while let Some(Reverse((nanos, timer))) = state.timers.peek().copied() {
            if nanos > now {
                break;
            }
            state.timers.pop();
            wakers.extend(state.timer_wakers.remove(&timer));
        }
        Ok(wakers)
    }
}

/// Nanoseconds since the program started.
pub(super) fn now() -> Result<u64> {
    let mut bytes = [0; 8];
    host::time_now(&mut bytes).map_err(|failure| Error::last(failure, "ask for the time"))?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use super::*;

    #[test]
    fn time_limits_that_were_not_reached_leave_nothing() {
        let reactor = Reactor::new().unwrap();
        let hour = now().unwrap() + 3_600_000_000_000;
        let kept = reactor.wake_at(hour, Waker::noop());
        for _ in 0..10_000 {
            let timer = reactor.wake_at(hour, Waker::noop());
            reactor.forget_timer(timer);
        }
        assert!(reactor.state.borrow().timers.len() < 100);
        assert!(reactor.state.borrow().timer_wakers.contains_key(&kept));
        assert!(reactor.until_next_timer().unwrap().is_some());
    }

    #[test]
    fn numbers_of_sockets_are_used_again() {
        let reactor = Reactor::new().unwrap();
        let (first, second) = (reactor.token(), reactor.token());
        assert_ne!(first, second);
        reactor.forget(first);
        assert_eq!(reactor.token(), first);
    }
}
