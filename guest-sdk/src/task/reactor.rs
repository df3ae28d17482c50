//! What tasks wait for: sockets, calls and times.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Duration;

use slab::Slab;

use crate::host;
use crate::{Error, Event, Interest, Pollable, Poller, Result};

/// The number of the calls from other programs. Sockets have those from 1.
const CALLS: u32 = 0;

/// The poller of one executor, and who waits.
pub(super) struct Reactor {
    poller: Poller,
    state: RefCell<State>,
}

struct State {
    /// By their numbers: that of the calls, and of each socket.
    sources: Slab<Waiting>,
    /// How many of them the poller looks at.
    looked_at: usize,
    /// Whether a task answers calls.
    is_serving: bool,
    /// By their times.
    timers: BTreeMap<Timer, Waker>,
    next_timer: u64,
    events: Vec<Event>,
}

/// The tasks that wait for one socket, or the one that waits for calls.
#[derive(Default)]
struct Waiting {
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// What the poller looks for. It goes on when a task was woken, for that task most often waits for the same again: to
    /// take the socket out and put it back would cost two calls each time. What nobody waits for when it is told, is taken
    /// out.
    looked_for: Option<Interest>,
}

impl Waiting {
    fn place(&mut self, to_read: bool) -> &mut Option<Waker> {
        match to_read {
            true => &mut self.reader,
            false => &mut self.writer,
        }
    }

    fn interest(&self) -> Option<Interest> {
        match (&self.reader, &self.writer) {
            (Some(_), Some(_)) => Some(Interest::BOTH),
            (Some(_), None) => Some(Interest::READ),
            (None, Some(_)) => Some(Interest::WRITE),
            (None, None) => None,
        }
    }
}

/// When somebody is to be woken, and a number that tells those of one time apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timer {
    nanos: u64,
    number: u64,
}

impl Reactor {
    pub(super) fn new() -> Result<Reactor> {
        let mut sources = Slab::new();
        let calls = sources.insert(Waiting::default());
        debug_assert_eq!(calls, CALLS as usize);
        let state = State {
            sources,
            looked_at: 0,
            is_serving: false,
            timers: BTreeMap::new(),
            next_timer: 0,
            events: Vec::new(),
        };
        Ok(Reactor {
            poller: Poller::new()?,
            state: RefCell::new(state),
        })
    }

    /// A number for a socket, which is its own until it is [forgotten](Reactor::forget).
    pub(super) fn token(&self) -> u32 {
        // A guest has no memory for four billion of them.
        self.state.borrow_mut().sources.insert(Waiting::default()) as u32
    }

    /// Wakes a task when the socket may be read or written.
    pub(super) fn wait_for(
        &self,
        socket: &impl Pollable,
        token: u32,
        to_read: bool,
        waker: &Waker,
    ) -> Result<()> {
        let add = |interest| self.poller.add(socket, token, interest);
        self.state.borrow_mut().wait(token, to_read, waker, add)
    }

    /// Nobody waits for that socket any more: it goes, and another one may have its number.
    pub(super) fn forget(&self, token: u32) {
        let mut state = self.state.borrow_mut();
        self.stop_looking(&mut state, token);
        let waiting = state.sources.remove(token as usize);
        // Dropped outside of the borrow: what its wakers hold may ask the reactor.
        drop(state);
        drop(waiting);
    }

    /// Takes a socket or the calls out of the poller.
    fn stop_looking(&self, state: &mut State, token: u32) {
        if state.set_looked_for(token, None).is_some() {
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
        self.stop_looking(&mut state, CALLS);
        let waker = state.sources[CALLS as usize].reader.take();
        state.is_serving = false;
        drop(state);
        drop(waker);
    }

    /// Wakes the task that serves when there is a call.
    pub(super) fn wait_for_calls(&self, waker: &Waker) -> Result<()> {
        let add = |_| self.poller.add_calls(CALLS);
        self.state.borrow_mut().wait(CALLS, true, waker, add)
    }

    /// Wakes a task at a time.
    pub(super) fn wake_at(&self, nanos: u64, waker: &Waker) -> Timer {
        let mut state = self.state.borrow_mut();
        state.next_timer += 1;
        let timer = Timer {
            nanos,
            number: state.next_timer,
        };
        state.timers.insert(timer, waker.clone());
        timer
    }

    /// Wakes another task, or the same one by another way, at the time of a timer. Returns whether that is still to come.
    pub(super) fn rewake(&self, timer: Timer, waker: &Waker) -> bool {
        match self.state.borrow_mut().timers.get_mut(&timer) {
            Some(current) => {
                current.clone_from(waker);
                true
            }
            None => false,
        }
    }

    pub(super) fn forget_timer(&self, timer: Timer) {
        let waker = self.state.borrow_mut().timers.remove(&timer);
        // Dropped outside of the borrow: what it holds may ask the reactor.
        drop(waker);
    }

    /// Looks what there is, and sleeps until there is something if there is nothing else to do.
    pub(super) fn turn(&self, may_sleep: bool) -> Result<()> {
        let mut events = std::mem::take(&mut self.state.borrow_mut().events);
        let timeout = match may_sleep {
            true => self.until_next_timer()?,
            false => Some(Duration::ZERO),
        };
        // Nobody to hear of, and a time that has come: no need to ask.
        if timeout != Some(Duration::ZERO) || self.state.borrow().looked_at > 0 {
            self.poller.wait(&mut events, timeout)?;
        }
        let mut wakers = Vec::with_capacity(events.len());
        for event in events.drain(..) {
            self.take_woken(event, &mut wakers);
        }
        self.state.borrow_mut().events = events;
        self.take_due(&mut wakers)?;
        wakers.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Who waited for what an event tells.
    fn take_woken(&self, event: Event, wakers: &mut Vec<Waker>) {
        let mut state = self.state.borrow_mut();
        let Some(waiting) = state.sources.get_mut(event.token as usize) else {
            return;
        };
        let before = wakers.len();
        if event.readable || event.ended {
            wakers.extend(waiting.reader.take());
        }
        if event.writable || event.ended {
            wakers.extend(waiting.writer.take());
        }
        if event.ended {
            // The host has taken it out itself.
            state.set_looked_for(event.token, None);
        } else if wakers.len() == before {
            // It would be told over and over. Who waits for the other direction says so again.
            wakers.extend(waiting.reader.take().into_iter().chain(waiting.writer.take()));
            self.stop_looking(&mut state, event.token);
        }
    }

    fn until_next_timer(&self) -> Result<Option<Duration>> {
        let state = self.state.borrow();
        let Some((timer, _)) = state.timers.first_key_value() else {
            return Ok(None);
        };
        Ok(Some(Duration::from_nanos(timer.nanos.saturating_sub(now()?))))
    }

    /// Whose time has come.
    fn take_due(&self, wakers: &mut Vec<Waker>) -> Result<()> {
        let mut state = self.state.borrow_mut();
        if state.timers.is_empty() {
            return Ok(());
        }
        let now = now()?;
        while let Some(first) = state.timers.first_entry()
            && first.key().nanos <= now
        {
            wakers.push(first.remove());
        }
        Ok(())
    }
}

impl State {
    /// Lets a task wait, and the poller look for what is waited for: `add` tells it, if it does not know.
    fn wait(
        &mut self,
        token: u32,
        to_read: bool,
        waker: &Waker,
        add: impl FnOnce(Interest) -> Result<()>,
    ) -> Result<()> {
        let waiting = &mut self.sources[token as usize];
        *waiting.place(to_read) = Some(waker.clone());
        let wanted = waiting.interest();
        if let Some(interest) = wanted
            && waiting.looked_for != wanted
        {
            if let Err(error) = add(interest) {
                *waiting.place(to_read) = None;
                return Err(error);
            }
            self.set_looked_for(token, wanted);
        }
        Ok(())
    }

    /// Notes what the poller looks for, and returns what it was.
    fn set_looked_for(&mut self, token: u32, interest: Option<Interest>) -> Option<Interest> {
        let waiting = &mut self.sources[token as usize];
        let before = std::mem::replace(&mut waiting.looked_for, interest);
        self.looked_at += usize::from(interest.is_some());
        self.looked_at -= usize::from(before.is_some());
        before
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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::{TcpStream, testing};

    #[test]
    fn time_limits_that_were_not_reached_leave_nothing() {
        let reactor = Reactor::new().unwrap();
        let hour = now().unwrap() + 3_600_000_000_000;
        let kept = reactor.wake_at(hour, Waker::noop());
        for _ in 0..10_000 {
            let timer = reactor.wake_at(hour, Waker::noop());
            reactor.forget_timer(timer);
        }
        assert_eq!(reactor.state.borrow().timers.len(), 1);
        assert!(reactor.rewake(kept, Waker::noop()));
        assert!(reactor.until_next_timer().unwrap().is_some());
    }

    #[test]
    fn numbers_of_sockets_are_used_again() {
        let reactor = Reactor::new().unwrap();
        let (first, second) = (reactor.token(), reactor.token());
        assert_ne!(first, second);
        assert!(first != CALLS && second != CALLS);
        reactor.forget(first);
        assert_eq!(reactor.token(), first);
    }

    /// Counts how often it was woken.
    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Counter {
        fn take(&self) -> usize {
            self.0.swap(0, Ordering::SeqCst)
        }
    }

    fn woken() -> (Arc<Counter>, Waker) {
        let counter = Arc::new(Counter::default());
        (counter.clone(), Waker::from(counter))
    }

    fn looked_for(reactor: &Reactor, token: u32) -> Option<Interest> {
        let state = reactor.state.borrow();
        assert_eq!(
            state.looked_at,
            state
                .sources
                .iter()
                .filter(|(_, waiting)| waiting.looked_for.is_some())
                .count()
        );
        state.sources[token as usize].looked_for
    }

    #[test]
    fn a_socket_stays_in_the_poller_until_something_is_told_that_nobody_waits_for() {
        let reactor = Reactor::new().unwrap();
        let (stream, peer) = TcpStream::pair().unwrap();
        let token = reactor.token();
        let (reads, reader) = woken();
        for _ in 0..3 {
            reactor.wait_for(&stream, token, true, &reader).unwrap();
            peer.try_write(b"x").unwrap();
            reactor.turn(true).unwrap();
            assert_eq!(reads.take(), 1);
            assert_eq!(looked_for(&reactor, token), Some(Interest::READ));
            assert_eq!(stream.try_read(&mut [0; 8]).unwrap(), 1);
        }
        // Nobody waits for that, and nothing is told of it twice.
        peer.try_write(b"x").unwrap();
        reactor.turn(false).unwrap();
        assert_eq!(looked_for(&reactor, token), None);
        reactor.turn(false).unwrap();
        assert_eq!(reads.take(), 0);
        // What is there is told to who comes later.
        reactor.wait_for(&stream, token, true, &reader).unwrap();
        reactor.turn(true).unwrap();
        assert_eq!(reads.take(), 1);
        reactor.forget(token);
        assert_eq!(reactor.state.borrow().looked_at, 0);
    }

    #[test]
    fn who_reads_and_who_writes_are_woken_for_what_they_wait_for() {
        let reactor = Reactor::new().unwrap();
        let (stream, peer) = TcpStream::pair().unwrap();
        let token = reactor.token();
        let ((reads, reader), (writes, writer)) = (woken(), woken());
        reactor.wait_for(&stream, token, true, &reader).unwrap();
        reactor.wait_for(&stream, token, false, &writer).unwrap();
        assert_eq!(looked_for(&reactor, token), Some(Interest::BOTH));
        // There is room.
        reactor.turn(true).unwrap();
        assert_eq!((reads.take(), writes.take()), (0, 1));
        // Told again, to nobody: the reader must say again that it waits.
        reactor.turn(true).unwrap();
        assert_eq!((reads.take(), writes.take()), (1, 0));
        assert_eq!(looked_for(&reactor, token), None);
        reactor.wait_for(&stream, token, true, &reader).unwrap();
        assert_eq!(looked_for(&reactor, token), Some(Interest::READ));
        peer.try_write(b"x").unwrap();
        reactor.turn(true).unwrap();
        assert_eq!((reads.take(), writes.take()), (1, 0));
    }

    #[test]
    fn who_waits_for_what_ends_is_woken() {
        let reactor = Reactor::new().unwrap();
        let (net, revoker) = testing::net("listen,bind tcp 127.0.0.1:0").revocable().unwrap();
        let listener = net.listen("127.0.0.1:0").unwrap();
        let token = reactor.token();
        let (ends, waker) = woken();
        reactor.wait_for(&listener, token, true, &waker).unwrap();
        revoker.revoke().unwrap();
        reactor.turn(true).unwrap();
        assert_eq!(ends.take(), 1);
        assert_eq!(looked_for(&reactor, token), None);
        let refused = reactor.wait_for(&listener, token, true, &waker).unwrap_err();
        assert!(refused.is_revoked(), "{refused}");
        // Who was refused does not wait.
        assert!(reactor.state.borrow().sources[token as usize].reader.is_none());
    }
}
