//! Waiting for many sockets at once.
//!
//! A wait looks only at the sockets that may have something: those whose wakers fired, those that were
//! ready at the last wait (a guest need not take all that there is), and those that wait for a rate. So
//! ten thousand idle connections cost a busy one nothing.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use refcap_abi::{ErrorCode, READY_ENDED};

use super::source::{Interest, Readiness, Source};
use crate::capability::mailbox::lock;
use crate::vat::Refusal;

/// A set of sockets, each with a number that the guest chose.
#[derive(Debug, Default)]
pub(crate) struct PollSet {
    members: Mutex<HashMap<u32, Member>>,
    signal: Arc<Signal>,
}

/// Who may have something.
#[derive(Debug, Default)]
struct Signal {
    state: Mutex<Signalled>,
}

#[derive(Debug, Default)]
struct Signalled {
    /// In an order that stays the same, so that beginning elsewhere is that and no chance.
    tokens: BTreeSet<u32>,
    waiter: Option<Waker>,
    /// How many looks there were.
    looks: u64,
}

struct Member {
    source: Arc<dyn Source>,
    interest: Interest,
    waker: Waker,
}

/// What a wait found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) token: u32,
    pub(crate) ready: i32,
}

/// The waker of one member.
struct MemberWaker {
    token: u32,
    signal: Arc<Signal>,
}

impl Wake for MemberWaker {
    fn wake(self: Arc<Self>) {
        self.signal.raise(self.token);
    }
}

impl Signal {
    fn raise(&self, token: u32) {
        let waiter = {
            let mut state = lock(&self.state);
            state.tokens.insert(token);
            state.waiter.take()
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}

impl Signal {
    /// Who was signalled since the last time, beginning at another one each time: a guest with room for few events, or
    /// whose turn is over soon, would else never come to the others.
    fn take(&self, waiter: &Waker) -> Vec<u32> {
        /// As a fraction of a turn, far from any fraction of small numbers, so that it comes near every place equally often
        /// (the golden ratio, of 64 bits).
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut state = lock(&self.state);
        state.waiter = Some(waiter.clone());
        let mut tokens: Vec<_> = std::mem::take(&mut state.tokens).into_iter().collect();
        state.looks = state.looks.wrapping_add(1);
        // The fraction of a turn that was gone so far, in as many parts as there are tokens.
        let gone = u128::from(state.looks.wrapping_mul(STEP));
        let start = (gone * tokens.len() as u128) >> 64;
        tokens.rotate_left(start as usize);
        tokens
    }
}

impl PollSet {
    /// Adds a socket. One that is in this set under that token already changes its interest.
    pub(crate) fn add(&self, source: Arc<dyn Source>, token: u32, interest: Interest) -> Result<(), Refusal> {
        let mut members = lock(&self.members);
        let is_same = match members.get(&token) {
            None => false,
            Some(member) if Arc::ptr_eq(&member.source, &source) => true,
            Some(_) => {
                let why = format!("the poller has another socket with the token {token}");
                return Err(Refusal::new(ErrorCode::BadArgument, why));
            }
        };
        if !is_same && source.ending().is_watched() {
            let why = "the socket is in a poller already, under another token or in another one";
            return Err(Refusal::new(ErrorCode::BadArgument, why));
        }
        let waker = Waker::from(Arc::new(MemberWaker {
            token,
            signal: self.signal.clone(),
        }));
        source.ending().watch(Some(waker.clone()));
        let member = Member {
            source,
            interest,
            waker,
        };
        members.insert(token, member);
        // The next wait looks at it, and so enlists its waker.
        self.signal.raise(token);
        Ok(())
    }

    /// Removes a socket. Returns whether it was there.
    pub(crate) fn remove(&self, token: u32) -> bool {
        let member = lock(&self.members).remove(&token);
        if let Some(member) = &member {
            member.source.ending().watch(None);
        }
        member.is_some()
    }

    /// Waits until at least one socket is ready, and returns up to `most` of them; none when the time has
    /// passed. A time of zero looks once.
    pub(crate) async fn wait(&self, most: usize, timeout: Option<Duration>) -> Vec<Event> {
        let mut look_again = pin!(tokio::time::sleep(Duration::ZERO));
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let wait = poll_fn(|context| {
            loop {
                let (events, soonest) = self.look(context, most);
                let now = Instant::now();
                if !events.is_empty() || deadline.is_some_and(|deadline| deadline <= now) {
                    return Poll::Ready(events);
                }
                let Some(when) = soonest.into_iter().chain(deadline).min() else {
                    return Poll::Pending;
                };
                look_again.as_mut().reset(when.into());
                // Whoever waits for a time stays signalled, so the next look sees it.
                if look_again.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
            }
        });
        // Without tokio's cooperation: with its budget used up, every look would find nothing, wake itself,
        // and look again. The guest's own turns see to it that others have theirs.
        tokio::task::unconstrained(wait).await
    }

    /// Looks at whoever was signalled. Returns the events, and when a look is worth it without a signal.
    fn look(&self, context: &Context<'_>, most: usize) -> (Vec<Event>, Option<Instant>) {
        let signalled = self.signal.take(context.waker());
        let mut events = Vec::new();
        let mut again = Vec::new();
        let mut soonest: Option<Instant> = None;
        let mut ended = Vec::new();
        let mut members = lock(&self.members);
        for token in signalled {
            let Some(member) = members.get(&token) else {
                continue;
            };
            if events.len() == most {
                again.push(token);
                continue;
            }
            let mut context = Context::from_waker(&member.waker);
            match member.source.poll_ready(&mut context, member.interest) {
                Ok(Readiness::Now(ready)) => {
                    events.push(Event {
                        token,
                        ready: ready.bits(),
                    });
                    again.push(token);
                }
                Ok(Readiness::Later(None)) => {}
                Ok(Readiness::Later(Some(when))) => {
                    soonest = Some(soonest.map_or(when, |soonest| soonest.min(when)));
                    again.push(token);
                }
                Err(_) => {
                    events.push(Event {
                        token,
                        ready: READY_ENDED,
                    });
                    ended.push(token);
                }
            }
        }
        for token in ended {
            members.remove(&token);
        }
        drop(members);
        lock(&self.signal.state).tokens.extend(again);
        (events, soonest)
    }
}

impl Drop for PollSet {
    fn drop(&mut self) {
        for member in lock(&self.members).values() {
            member.source.ending().watch(None);
        }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("source", &self.source)
            .field("interest", &self.interest)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // It was left to chance: of seven that are always ready, one in fifty times one was first less than three times of 70.
    #[test]
    fn each_of_those_that_are_signalled_is_first_as_often_as_the_others() {
        for count in 1..100_usize {
            let signal = Signal::default();
            let mut first = vec![0; count];
            for _ in 0..10 * count {
                for token in 0..count {
                    signal.raise(token as u32);
                }
                let taken = signal.take(Waker::noop());
                assert_eq!(taken.len(), count);
                first[taken[0] as usize] += 1;
            }
            assert!(first.iter().all(|times| (8..=12).contains(times)), "{first:?}");
        }
    }
}
