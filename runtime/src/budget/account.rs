//! What is left of a budget, and who else draws on it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use refcap_authority::Terms;

use super::bucket::Bucket;
use crate::capability::mailbox::lock;

/// The most budgets in a row that one capability draws on. Each costs a few nanoseconds at each read and
/// write.
pub(crate) const MAX_ACCOUNTS: u32 = 32;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Out,
    In,
}

/// What a capability may still use. It draws on the account above it as well.
#[derive(Debug)]
pub(crate) struct Account {
    parent: Option<Arc<Account>>,
    /// How many are above it, and itself.
    height: u32,
    sockets: Option<Stock>,
    connections: Option<Stock>,
    outward: Flow,
    inward: Flow,
}

/// Why a budget does not give what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Short {
    /// It is used up.
    Exhausted(Spent),
    /// There will be more at that time.
    Until(Instant),
}

/// The budget that is used up, and how much it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spent {
    Sockets(u64),
    Connections(u64),
    Bytes(Direction, u64),
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Spent::Sockets(limit) => write!(f, "all {limit} sockets of the budget are open"),
            Spent::Connections(limit) => write!(f, "all {limit} connections of the budget were made"),
            Spent::Bytes(Direction::Out, limit) => write!(f, "all {limit} bytes of the budget were sent"),
            Spent::Bytes(Direction::In, limit) => write!(f, "all {limit} bytes of the budget were received"),
        }
    }
}

/// How much of a budget is used, as an embedder sees it. What has no limit at this capability is `None`;
/// a capability above it may have one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Sockets that are open, and how many may be.
    pub sockets: Option<(u64, u64)>,
    /// Connections that were made or accepted, and how many may be.
    pub connections: Option<(u64, u64)>,
    /// Bytes that were sent, and how many may be.
    pub bytes_out: Option<(u64, u64)>,
    /// Bytes that were received, and how many may be.
    pub bytes_in: Option<(u64, u64)>,
    /// Bytes per second that may be sent.
    pub rate_out: Option<u64>,
    /// Bytes per second that may be received.
    pub rate_in: Option<u64>,
}

/// A number of things, of which some are taken.
#[derive(Debug)]
struct Stock {
    limit: u64,
    left: AtomicU64,
}

impl Stock {
    fn new(limit: u64) -> Stock {
        Stock {
            limit,
            left: AtomicU64::new(limit),
        }
    }

    /// Takes up to that many.
    fn take(&self, wanted: u64) -> u64 {
        let before = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                Some(left - left.min(wanted))
            });
        before.unwrap_or_default().min(wanted)
    }

    fn give_back(&self, count: u64) {
        self.left.fetch_add(count, Ordering::Relaxed);
    }

    fn usage(&self) -> (u64, u64) {
        (
            self.limit - self.left.load(Ordering::Relaxed).min(self.limit),
            self.limit,
        )
    }
}

/// A number of bytes. What is reserved for an operation that has not ended may come back, so while there
/// is such, having none is no reason for an error: it is one for trying again a moment later.
#[derive(Debug)]
struct Bytes {
    limit: u64,
    state: Mutex<BytesLeft>,
}

#[derive(Debug)]
struct BytesLeft {
    left: u64,
    reserved: u64,
}

/// A moment later.
const RETRY: Duration = Duration::from_millis(1);

impl Bytes {
    fn new(limit: u64) -> Bytes {
        Bytes {
            limit,
            state: Mutex::new(BytesLeft {
                left: limit,
                reserved: 0,
            }),
        }
    }

    /// Takes up to `wanted`, and at least `least`.
    fn take(&self, wanted: u64, least: u64, direction: Direction) -> Result<u64, Short> {
        let mut state = lock(&self.state);
        if state.left >= least {
            let taken = wanted.min(state.left);
            state.left -= taken;
            state.reserved += taken;
            return Ok(taken);
        }
        Err(if state.left + state.reserved >= least {
            Short::Until(Instant::now() + RETRY)
        } else {
            Short::Exhausted(Spent::Bytes(direction, self.limit))
        })
    }

    /// Of what was reserved, `unused` comes back.
    fn settle(&self, reserved: u64, unused: u64) {
        let mut state = lock(&self.state);
        state.reserved -= reserved;
        state.left += unused;
    }

    fn is_held_up(&self) -> bool {
        let state = lock(&self.state);
        state.left == 0 && state.reserved > 0
    }

    fn usage(&self) -> (u64, u64) {
        (self.limit - lock(&self.state).left, self.limit)
    }
}

/// Bytes in one direction.
#[derive(Debug, Default)]
struct Flow {
    bytes: Option<Bytes>,
    rate: Option<Bucket>,
}

impl Flow {
    fn new(bytes: Option<u64>, rate: Option<u64>) -> Flow {
        Flow {
            bytes: bytes.map(Bytes::new),
            rate: rate.map(|rate| Bucket::new(rate, Instant::now())),
        }
    }

    fn take(&self, wanted: u64, whole: bool, direction: Direction) -> Result<u64, Short> {
        let mut taken = wanted;
        if let Some(bytes) = &self.bytes {
            taken = bytes.take(wanted, if whole { wanted } else { 1 }, direction)?;
        }
        let Some(rate) = &self.rate else {
            return Ok(taken);
        };
        let now = Instant::now();
        let result = match whole {
            true => rate.take_whole(taken, now).map(|()| taken),
            false => rate.take(taken, now),
        };
        let unused = taken - result.unwrap_or(0);
        if let Some(bytes) = &self.bytes {
            bytes.settle(unused, unused);
        }
        result.map_err(Short::Until)
    }

    fn settle(&self, reserved: u64, unused: u64) {
        if let Some(bytes) = &self.bytes {
            bytes.settle(reserved, unused);
        }
        if let Some(rate) = &self.rate {
            rate.give_back(unused);
        }
    }

    /// When it is worth trying again, if it is not now.
    fn held_up_until(&self, now: Instant) -> Option<Instant> {
        let bytes = self.bytes.as_ref().is_some_and(Bytes::is_held_up);
        let rate = self.rate.as_ref().and_then(|rate| rate.empty_until(now));
        bytes.then(|| now + RETRY).max(rate)
    }
}

impl Account {
    /// An account with the limits of `terms` under another one. `None` if there is no limit at all; `Err`
    /// if there would be more than [`MAX_ACCOUNTS`] in a row.
    pub(crate) fn open(
        parent: Option<Arc<Account>>,
        terms: &Terms,
    ) -> Result<Option<Arc<Account>>, TooManyAccounts> {
        let limits_something = terms.sockets.is_some()
            || terms.connections.is_some()
            || terms.bytes_out.is_some()
            || terms.bytes_in.is_some()
            || terms.rate_out.is_some()
            || terms.rate_in.is_some();
        if !limits_something {
            return Ok(parent);
        }
        let height = parent.as_ref().map_or(0, |parent| parent.height) + 1;
        if height > MAX_ACCOUNTS {
            return Err(TooManyAccounts);
        }
        Ok(Some(Arc::new(Account {
            parent,
            height,
            sockets: terms.sockets.map(Stock::new),
            connections: terms.connections.map(Stock::new),
            outward: Flow::new(terms.bytes_out, terms.rate_out),
            inward: Flow::new(terms.bytes_in, terms.rate_in),
        })))
    }

    /// Takes one socket from this account and all above it.
    pub(crate) fn take_socket(self: &Arc<Self>) -> Result<SocketShare, Short> {
        self.take_one(|account| account.sockets.as_ref(), Spent::Sockets)?;
        Ok(SocketShare(self.clone()))
    }

    /// Takes one connection.
    pub(crate) fn take_connection(self: &Arc<Self>) -> Result<Connection, Short> {
        self.take_one(|account| account.connections.as_ref(), Spent::Connections)?;
        Ok(Connection(Some(self.clone())))
    }

    fn take_one(
        &self,
        stock: impl Fn(&Account) -> Option<&Stock>,
        spent: fn(u64) -> Spent,
    ) -> Result<(), Short> {
        for account in self.upward() {
            let Some(here) = stock(account) else { continue };
            if here.take(1) == 0 {
                // Back to those below it, which gave theirs.
                self.upward()
                    .take_while(|below| !std::ptr::eq(*below, account))
                    .filter_map(&stock)
                    .for_each(|below| below.give_back(1));
                return Err(Short::Exhausted(spent(here.limit)));
            }
        }
        Ok(())
    }

    /// Reserves up to `wanted` bytes for a stream: at least one, unless none was wanted. What became of
    /// them is told with [`Account::settle`].
    pub(crate) fn reserve(&self, direction: Direction, wanted: u64) -> Result<u64, Short> {
        self.draw(direction, wanted, false)
    }

    /// Reserves all the bytes of a datagram.
    pub(crate) fn reserve_whole(&self, direction: Direction, bytes: u64) -> Result<(), Short> {
        self.draw(direction, bytes, true).map(|_| ())
    }

    fn draw(&self, direction: Direction, wanted: u64, whole: bool) -> Result<u64, Short> {
        if wanted == 0 {
            return Ok(0);
        }
        let mut taken = wanted;
        for account in self.upward() {
            let back_to_those_below = |bytes| {
                self.upward()
                    .take_while(|below| !std::ptr::eq(*below, account))
                    .for_each(|below| below.flow(direction).settle(bytes, bytes));
            };
            match account.flow(direction).take(taken, whole, direction) {
                Ok(less) => {
                    if less < taken {
                        back_to_those_below(taken - less);
                    }
                    taken = less;
                }
                Err(short) => {
                    back_to_those_below(taken);
                    return Err(short);
                }
            }
        }
        Ok(taken)
    }

    /// Of what was reserved, `used` bytes are gone; the others come back.
    pub(crate) fn settle(&self, direction: Direction, reserved: u64, used: u64) {
        let unused = reserved.saturating_sub(used);
        if reserved > 0 {
            self.upward()
                .for_each(|account| account.flow(direction).settle(reserved, unused));
        }
    }

    /// When it is worth trying again to move bytes, if a rate stands in the way now. A budget that is used
    /// up is nothing to wait for: the next call says so.
    pub(crate) fn throttled(&self, direction: Direction) -> Option<Instant> {
        let now = Instant::now();
        self.upward()
            .filter_map(|account| account.flow(direction).held_up_until(now))
            .max()
    }

    /// How much of this account is used.
    pub(crate) fn usage(&self) -> Usage {
        let usage = |stock: &Option<Stock>| stock.as_ref().map(Stock::usage);
        let bytes = |flow: &Flow| flow.bytes.as_ref().map(Bytes::usage);
        let rate = |flow: &Flow| flow.rate.as_ref().map(Bucket::rate);
        Usage {
            sockets: usage(&self.sockets),
            connections: usage(&self.connections),
            bytes_out: bytes(&self.outward),
            bytes_in: bytes(&self.inward),
            rate_out: rate(&self.outward),
            rate_in: rate(&self.inward),
        }
    }

    fn flow(&self, direction: Direction) -> &Flow {
        match direction {
            Direction::Out => &self.outward,
            Direction::In => &self.inward,
        }
    }

    /// This account and all above it.
    fn upward(&self) -> impl Iterator<Item = &Account> {
        std::iter::successors(Some(self), |account| account.parent.as_deref())
    }
}

/// There would be more than [`MAX_ACCOUNTS`] budgets in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooManyAccounts;

/// One open socket of a budget; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct SocketShare(Arc<Account>);

impl Drop for SocketShare {
    fn drop(&mut self) {
        for account in self.0.upward() {
            if let Some(sockets) = &account.sockets {
                sockets.give_back(1);
            }
        }
    }
}

/// One connection of a budget; given back when it is dropped before it was [used](Connection::used).
#[derive(Debug)]
pub(crate) struct Connection(Option<Arc<Account>>);

impl Connection {
    /// The connection was begun: it counts for good.
    pub(crate) fn used(mut self) {
        self.0 = None;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for account in self.0.iter().flat_map(|account| account.upward()) {
            if let Some(connections) = &account.connections {
                connections.give_back(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;

    fn open(parent: Option<&Arc<Account>>, terms: &str) -> Arc<Account> {
        Account::open(parent.cloned(), &terms.parse().unwrap())
            .unwrap()
            .unwrap()
    }

    #[test]
    fn children_draw_on_their_parent() {
        let parent = open(None, "limit sockets 3, out 100");
        let a = open(Some(&parent), "limit sockets 2, out 80");
        let b = open(Some(&parent), "limit sockets 2");
        let held = [a.take_socket().unwrap(), a.take_socket().unwrap()];
        assert_eq!(a.take_socket().unwrap_err(), Short::Exhausted(Spent::Sockets(2)));
        let _one = b.take_socket().unwrap();
        // The parent has none left, and the child's own share came back.
        assert_eq!(b.take_socket().unwrap_err(), Short::Exhausted(Spent::Sockets(3)));
        assert_eq!(b.usage().sockets, Some((1, 2)));
        drop(held);
        assert!(b.take_socket().is_ok());

        assert_eq!(a.reserve(Direction::Out, 1_000), Ok(80));
        assert_eq!(b.reserve(Direction::Out, 1_000), Ok(20));
        // What is in use by somebody may come back, so this is no error yet.
        assert!(matches!(b.reserve(Direction::Out, 1), Err(Short::Until(_))));
        assert!(b.throttled(Direction::Out).is_some());
        a.settle(Direction::Out, 80, 30);
        b.settle(Direction::Out, 20, 20);
        assert_eq!(b.reserve(Direction::Out, 1_000), Ok(50));
        b.settle(Direction::Out, 50, 50);
        assert_eq!(
            b.reserve(Direction::Out, 1),
            Err(Short::Exhausted(Spent::Bytes(Direction::Out, 100)))
        );
        assert!(b.throttled(Direction::Out).is_none());
        assert_eq!(b.reserve(Direction::In, 7), Ok(7));
    }

    #[test]
    fn a_thousand_children_at_once_have_no_more_than_their_parent() {
        let parent = open(None, "limit sockets 10, connections 20, out 1MiB");
        let (sockets, connections, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let children: Vec<_> = (0..125)
                        .map(|_| open(Some(&parent), "limit sockets 10, out 1MiB"))
                        .collect();
                    for child in &children {
                        if let Ok(share) = child.take_socket() {
                            sockets.fetch_add(1, Ordering::Relaxed);
                            std::mem::forget(share);
                        }
                        if let Ok(connection) = child.take_connection() {
                            connections.fetch_add(1, Ordering::Relaxed);
                            connection.used();
                        }
                        if let Ok(taken) = child.reserve(Direction::Out, 4_099) {
                            child.settle(Direction::Out, taken, taken / 2);
                            bytes.fetch_add(taken / 2, Ordering::Relaxed);
                        }
                    }
                    for child in children.iter().cycle().take(100_000) {
                        match child.reserve(Direction::Out, 97) {
                            Ok(taken) => {
                                child.settle(Direction::Out, taken, taken);
                                bytes.fetch_add(taken, Ordering::Relaxed);
                            }
                            Err(Short::Until(_)) => std::thread::yield_now(),
                            Err(Short::Exhausted(_)) => break,
                        }
                    }
                });
            }
        });
        assert_eq!(sockets.into_inner(), 10);
        assert_eq!(connections.into_inner(), 20);
        assert_eq!(bytes.into_inner(), 1 << 20);
    }

    #[test]
    fn a_rate_above_holds_below() {
        let parent = open(None, "limit out 1000/s");
        let child = open(Some(&parent), "limit out 1MiB");
        assert_eq!(child.reserve(Direction::Out, 1_000), Ok(50));
        child.settle(Direction::Out, 50, 50);
        let Err(Short::Until(when)) = child.reserve(Direction::Out, 1_000) else {
            panic!("there is more");
        };
        assert!(when <= Instant::now() + Duration::from_millis(30));
        assert!(child.throttled(Direction::Out).is_some());
        assert!(child.throttled(Direction::In).is_none());
        // What the rate did not give was not taken from the bytes either.
        assert_eq!(child.usage().bytes_out, Some((50, 1 << 20)));
    }

    #[test]
    fn a_datagram_is_sent_whole_or_not_at_all() {
        let account = open(None, "limit out 100");
        assert_eq!(account.reserve_whole(Direction::Out, 60), Ok(()));
        assert!(account.reserve_whole(Direction::Out, 60).is_err());
        assert_eq!(account.reserve_whole(Direction::Out, 40), Ok(()));
    }

    #[test]
    fn accounts_in_a_row_are_bounded() {
        let mut last = open(None, "limit out 1000");
        for _ in 1..MAX_ACCOUNTS {
            last = open(Some(&last), "limit out 1000");
        }
        assert!(Account::open(Some(last.clone()), &"limit out 1".parse().unwrap()).is_err());
        // No limit of its own is no account of its own.
        let same = Account::open(Some(last.clone()), &"no derive".parse().unwrap()).unwrap();
        assert!(Arc::ptr_eq(&same.unwrap(), &last));
    }

    #[test]
    fn a_connection_that_was_not_begun_comes_back() {
        let account = open(None, "limit connections 1");
        drop(account.take_connection().unwrap());
        account.take_connection().unwrap().used();
        assert!(account.take_connection().is_err());
    }
}
