//! Waiting for many sockets at once.
//!
//! A wait looks only at the sockets that may have something: those whose wakers fired, those that were
//! ready at the last wait (a guest need not take all that there is), and those that wait for a rate. They stand in a
//! queue, and a wait looks at no more of them than it has room for. So ten thousand idle connections cost a busy one
//! nothing, and ten thousand busy ones cost each other nothing either.

use std::collections::{HashMap, VecDeque, hash_map};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use refcap_abi::{ErrorCode, READY_ENDED};
use slab::Slab;

use super::source::{Interest, Readiness, Source};
use crate::capability::mailbox::lock;
use crate::vat::Refusal;

/// A set of sockets, each with a number that the guest chose.
#[derive(Debug, Default)]
pub(crate) struct PollSet {
    // Locked before the queue, where both are.
    members: Mutex<Members>,
    signal: Arc<Signal>,
}

#[derive(Debug, Default)]
struct Members {
    slab: Slab<Member>,
    /// Where each is, by its number.
    places: HashMap<u32, usize>,
}

struct Member {
    token: u32,
    source: Arc<dyn Source>,
    interest: Interest,
    ticket: Arc<Ticket>,
    /// The ticket, as one who waits.
    waker: Waker,
}

/// Who may have something.
#[derive(Debug, Default)]
struct Signal {
    state: Mutex<Signalled>,
}

#[derive(Debug, Default)]
struct Signalled {
    /// Each member at most once; and some that were removed, until they come up or [`PollSet::tidy`] finds too many.
    queue: VecDeque<Arc<Ticket>>,
    waiter: Option<Waker>,
    /// How many looks there were.
    looks: u64,
    /// Whether the set is gone. A ticket that was queued then would keep this, and this the ticket.
    is_closed: bool,
}

/// What stands in the queue for one member.
struct Ticket {
    /// Where the member is, as long as that has this ticket.
    place: usize,
    /// Written under the lock of the queue.
    is_queued: AtomicBool,
    signal: Arc<Signal>,
}

/// What a wait found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) token: u32,
    pub(crate) ready: i32,
}

impl Wake for Ticket {
    fn wake(self: Arc<Self>) {
        Signal::raise(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        Signal::raise(self);
    }
}

impl Signal {
    /// A member may have something.
    fn raise(ticket: &Arc<Ticket>) {
        let waiter = {
            let mut state = lock(&ticket.signal.state);
            state.enqueue(ticket);
            // Also for one that was in the queue: it may be there for the sake of a time, of which the waiter knows.
            state.waiter.take()
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}

impl Signalled {
    fn enqueue(&mut self, ticket: &Arc<Ticket>) {
        if !self.is_closed && !ticket.is_queued.swap(true, Ordering::Relaxed) {
            self.queue.push_back(ticket.clone());
        }
    }

    /// Takes so many out. From here on each is queued again when it is woken.
    fn dequeue(&mut self, count: usize, tickets: &mut Vec<Arc<Ticket>>) {
        for ticket in self.queue.drain(..count.min(self.queue.len())) {
            ticket.is_queued.store(false, Ordering::Relaxed);
            tickets.push(ticket);
        }
    }
}

impl Members {
    /// The member that a ticket was made for, if it is still here.
    fn of(&self, ticket: &Arc<Ticket>) -> Option<&Member> {
        let member = self.slab.get(ticket.place)?;
        Arc::ptr_eq(&member.ticket, ticket).then_some(member)
    }

    fn remove(&mut self, token: u32) -> Option<Member> {
        let place = self.places.remove(&token)?;
        self.slab.try_remove(place)
    }
}

impl PollSet {
    /// Adds a socket. One that is in this set under that token already changes its interest.
    pub(crate) fn add(&self, source: Arc<dyn Source>, token: u32, interest: Interest) -> Result<(), Refusal> {
        let mut members = lock(&self.members);
        let Members { slab, places } = &mut *members;
        let ticket = match places.entry(token) {
            hash_map::Entry::Occupied(place) => {
                let member = slab.get_mut(*place.get());
                let Some(member) = member.filter(|member| Arc::ptr_eq(&member.source, &source)) else {
                    let why = format!("the poller has another socket with the token {token}");
                    return Err(Refusal::new(ErrorCode::BadArgument, why));
                };
                member.interest = interest;
                member.ticket.clone()
            }
            hash_map::Entry::Vacant(_) if source.ending().is_watched() => {
                let why = "the socket is in a poller already, under another token or in another one";
                return Err(Refusal::new(ErrorCode::BadArgument, why));
            }
            hash_map::Entry::Vacant(vacant) => {
                let place = slab.vacant_entry();
                vacant.insert(place.key());
                let ticket = Arc::new(Ticket {
                    place: place.key(),
                    is_queued: AtomicBool::new(false),
                    signal: self.signal.clone(),
                });
                let waker = Waker::from(ticket.clone());
                source.ending().watch(Some(waker.clone()));
                place.insert(Member {
                    token,
                    source,
                    interest,
                    ticket: ticket.clone(),
                    waker,
                });
                self.tidy(&members);
                ticket
            }
        };
        // The next wait looks at it, and so enlists its waker.
        Signal::raise(&ticket);
        Ok(())
    }

    /// Forgets those in the queue that were removed, when there are many. A guest that adds and removes without ever waiting
    /// would fill the memory with them.
    fn tidy(&self, members: &Members) {
        /// Not worth the trouble.
        const FEW: usize = 64;
        let mut state = lock(&self.signal.state);
        if state.queue.len() > FEW + 2 * members.slab.len() {
            state.queue.retain(|ticket| members.of(ticket).is_some());
        }
    }

    /// Removes a socket. Returns whether it was there.
    pub(crate) fn remove(&self, token: u32) -> bool {
        let member = lock(&self.members).remove(token);
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

    /// Looks at whoever was signalled, as long as there is room. Returns the events, and when a look is worth it without a
    /// signal.
    fn look(&self, context: &Context<'_>, most: usize) -> (Vec<Event>, Option<Instant>) {
        let mut left = {
            let mut state = lock(&self.signal.state);
            state.waiter = Some(context.waker().clone());
            state.queue.len()
        };
        let (mut events, mut tickets, mut again) = (Vec::new(), Vec::new(), Vec::new());
        let mut soonest: Option<Instant> = None;
        let mut members = lock(&self.members);
        // Each at most once, also of those that are queued again meanwhile.
        while left > 0 && events.len() < most {
            let count = left.min(most - events.len());
            left -= count;
            lock(&self.signal.state).dequeue(count, &mut tickets);
            for ticket in tickets.drain(..) {
                let Some(member) = members.of(&ticket) else {
                    continue;
                };
                let token = member.token;
                let mut context = Context::from_waker(&member.waker);
                match member.source.poll_ready(&mut context, member.interest) {
                    Ok(Readiness::Now(ready)) => {
                        let ready = ready.bits();
                        events.push(Event { token, ready });
                        again.push(ticket);
                    }
                    Ok(Readiness::Later(None)) => {}
                    Ok(Readiness::Later(Some(when))) => {
                        soonest = Some(soonest.map_or(when, |soonest| soonest.min(when)));
                        again.push(ticket);
                    }
                    Err(_) => {
                        let ready = READY_ENDED;
                        events.push(Event { token, ready });
                        members.remove(token);
                    }
                }
            }
        }
        drop(members);
        let mut state = lock(&self.signal.state);
        again.iter().for_each(|ticket| state.enqueue(ticket));
        state.looks = state.looks.wrapping_add(1);
        rotate(&mut events, state.looks);
        (events, soonest)
    }
}

/// Lets another event be the first each time. When all that are ready are told each time, in the same order, a guest whose
/// turn is over soon would else never come to the last ones.
fn rotate(events: &mut [Event], looks: u64) {
    /// As a fraction of a turn, far from any fraction of small numbers, so that it comes near every place equally often
    /// (the golden ratio, of 64 bits).
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    // The fraction of a turn that is gone so far, in as many parts as there are events.
    let gone = u128::from(looks.wrapping_mul(STEP));
    let start = (gone * events.len() as u128) >> 64;
    events.rotate_left(start as usize);
}

impl Drop for PollSet {
    fn drop(&mut self) {
        for (_, member) in &lock(&self.members).slab {
            member.source.ending().watch(None);
        }
        let mut state = lock(&self.signal.state);
        state.is_closed = true;
        state.queue.clear();
    }
}

// Without the queue, in which it may be.
impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("place", &self.place)
            .field("is_queued", &self.is_queued)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("token", &self.token)
            .field("source", &self.source)
            .field("interest", &self.interest)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::latch::{Ending, Latch};
    use super::*;

    /// Ready, or not.
    #[derive(Debug)]
    struct Switch {
        is_on: AtomicBool,
        ending: Latch<()>,
    }

    impl Switch {
        fn new(is_on: bool) -> Arc<Switch> {
            Arc::new(Switch {
                is_on: AtomicBool::new(is_on),
                ending: Latch::new(()),
            })
        }
    }

    impl Source for Switch {
        fn poll_ready(&self, _: &mut Context<'_>, interest: Interest) -> Result<Readiness, ErrorCode> {
            self.ending.with(|()| match self.is_on.load(Ordering::SeqCst) {
                true => Readiness::Now(interest),
                false => Readiness::Later(None),
            })
        }

        fn ending(&self) -> &dyn Ending {
            &self.ending
        }
    }

    fn look(set: &PollSet, most: usize) -> Vec<u32> {
        let (events, soonest) = set.look(&Context::from_waker(Waker::noop()), most);
        assert_eq!(soonest, None);
        events.iter().map(|event| event.token).collect()
    }

    fn queued(set: &PollSet) -> usize {
        lock(&set.signal.state).queue.len()
    }

    fn set_of(count: u32) -> (PollSet, Vec<Arc<Switch>>) {
        let set = PollSet::default();
        let switches: Vec<_> = (0..count).map(|_| Switch::new(true)).collect();
        for (token, switch) in (0..).zip(&switches) {
            set.add(switch.clone(), token, Interest::READ).unwrap();
        }
        (set, switches)
    }

    // It was left to chance: of seven that are always ready, one in fifty times one was first less than three times of 70.
    #[test]
    fn each_of_those_that_are_signalled_is_first_as_often_as_the_others() {
        for count in 1..100_u32 {
            let (set, _switches) = set_of(count);
            let mut first = vec![0; count as usize];
            for _ in 0..10 * count {
                let told = look(&set, usize::MAX);
                assert_eq!(told.len(), count as usize);
                first[told[0] as usize] += 1;
            }
            assert!(first.iter().all(|times| (8..=12).contains(times)), "{first:?}");
        }
    }

    #[test]
    fn with_little_room_all_are_told_equally_often_and_no_more_are_looked_at() {
        for (count, most) in [(7, 1), (1_000, 32), (33, 32), (5, 3)] {
            let (set, _switches) = set_of(count);
            let mut times = vec![0_usize; count as usize];
            for _ in 0..count {
                let told = look(&set, most);
                assert_eq!(told.len(), most);
                told.iter().for_each(|&token| times[token as usize] += 1);
            }
            assert!(times.iter().all(|&times| times == most), "{times:?}");
            assert_eq!(queued(&set), count as usize);
        }
    }

    #[test]
    fn those_that_have_nothing_are_looked_at_once_and_keep_no_others_from_being_told() {
        let (set, switches) = set_of(100);
        for switch in &switches[..98] {
            switch.is_on.store(false, Ordering::SeqCst);
        }
        let mut told = look(&set, 2);
        told.sort_unstable();
        assert_eq!((told, queued(&set)), (vec![98, 99], 2));
        // It is when it is woken, and no more than once.
        for _ in 0..3 {
            switches[5].is_on.store(true, Ordering::SeqCst);
            switches[5].ending.disturb();
        }
        assert_eq!(queued(&set), 3);
        assert!(look(&set, 3).contains(&5));
    }

    #[test]
    fn what_has_ended_is_told_once() {
        let (set, switches) = set_of(2);
        switches[1].ending.sever();
        let (events, _) = set.look(&Context::from_waker(Waker::noop()), 8);
        assert!(events.contains(&Event {
            token: 1,
            ready: READY_ENDED
        }));
        assert_eq!(look(&set, 8), [0]);
        assert!(!set.remove(1));
        // Its number is free.
        set.add(Switch::new(true), 1, Interest::READ).unwrap();
        assert_eq!(look(&set, 8).len(), 2);
    }

    // Each left its number with the set until the next wait, which a guest need not make.
    #[test]
    fn adding_and_removing_without_end_fills_nothing() {
        let set = PollSet::default();
        let kept = Switch::new(true);
        set.add(kept, 0, Interest::READ).unwrap();
        let switch = Switch::new(true);
        for token in 1..10_000 {
            set.add(switch.clone(), token, Interest::READ).unwrap();
            assert!(set.remove(token));
        }
        assert!(queued(&set) < 100, "{}", queued(&set));
        // What was removed is not told of, whoever has its place now.
        set.add(switch, 7, Interest::READ).unwrap();
        let mut told = look(&set, usize::MAX);
        told.sort_unstable();
        assert_eq!((told, queued(&set)), (vec![0, 7], 2));
    }

    #[test]
    fn a_set_that_is_gone_leaves_nothing_behind() {
        let (set, switches) = set_of(3);
        let signal = Arc::downgrade(&set.signal);
        // Sockets keep the wakers of who waited for them.
        let waker = lock(&set.members).slab[1].waker.clone();
        drop(set);
        waker.wake();
        assert!(signal.upgrade().is_none());
        assert!(switches.iter().all(|switch| !switch.ending.is_watched()));
    }
}
