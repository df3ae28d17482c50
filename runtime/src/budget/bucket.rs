//! Bytes per second: a token bucket.
//!
//! It is some forty lines of arithmetic and not a crate's limiter, for two things that governor's
//! `check_n` does not do: give as much as there is where there is less than was asked for, and let a
//! datagram, which can't be cut, run into debt. Time is an argument, so tests need no clock.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::capability::mailbox::lock;

/// What gathers while nobody draws, as a part of a second: 50 ms worth. Over ten seconds that is half a
/// percent more than the rate.
const BURST: u64 = 20;
const NANOS: i128 = 1_000_000_000;

/// A supply of bytes that refills at a fixed rate.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Bytes per second; not 0.
    rate: u64,
    level: Mutex<Level>,
}

#[derive(Debug)]
struct Level {
    /// What can be drawn, in billionths of a byte, so that no rounding adds up. Less than zero is debt.
    credit: i128,
    at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(rate: u64, now: Instant) -> Bucket {
        let rate = rate.max(1);
        Bucket {
            rate,
            level: Mutex::new(Level {
                credit: i128::from(burst(rate)) * NANOS,
                at: now,
            }),
        }
    }

    pub(super) fn rate(&self) -> u64 {
        self.rate
    }

    /// Draws up to `wanted` bytes; if there is not one, says when there will be enough to be worth it.
    pub(super) fn take(&self, wanted: u64, now: Instant) -> Result<u64, Instant> {
        let mut level = lock(&self.level);
        self.refill(&mut level, now);
        let there = u64::try_from(level.credit.max(0) / NANOS).unwrap_or(u64::MAX);
        if there == 0 {
            return Err(self.when(&level, wanted, now));
        }
        let taken = wanted.min(there);
        level.credit -= i128::from(taken) * NANOS;
        Ok(taken)
    }

    /// Draws all of `wanted`, on credit if there is anything at all.
    pub(super) fn take_whole(&self, wanted: u64, now: Instant) -> Result<(), Instant> {
        let mut level = lock(&self.level);
        self.refill(&mut level, now);
        if level.credit < NANOS {
            return Err(self.when(&level, 1, now));
        }
        level.credit -= i128::from(wanted) * NANOS;
        Ok(())
    }

    /// When there will be enough to be worth it, if there is nothing now.
    pub(super) fn empty_until(&self, now: Instant) -> Option<Instant> {
        let mut level = lock(&self.level);
        self.refill(&mut level, now);
        (level.credit < NANOS).then(|| self.when(&level, u64::MAX, now))
    }

    /// Puts back what was drawn and not used.
    pub(super) fn give_back(&self, bytes: u64) {
        lock(&self.level).credit += i128::from(bytes) * NANOS;
    }

    fn refill(&self, level: &mut Level, now: Instant) {
        let nanos = now.saturating_duration_since(level.at).as_nanos();
        let more = i128::try_from(nanos)
            .unwrap_or(i128::MAX)
            .saturating_mul(i128::from(self.rate));
        let full = i128::from(burst(self.rate)) * NANOS;
        level.credit = level.credit.saturating_add(more).min(full);
        level.at = level.at.max(now);
    }

    /// When there will be as much as is wanted, or half a bucket.
    fn when(&self, level: &Level, wanted: u64, now: Instant) -> Instant {
        let worth = wanted.min(burst(self.rate).div_ceil(2)).max(1);
        let missing = i128::from(worth) * NANOS - level.credit;
        let nanos = missing.max(0) / i128::from(self.rate) + 1;
        now + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 2))
    }
}

/// How much a bucket holds.
fn burst(rate: u64) -> u64 {
    (rate / BURST).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn over_ten_seconds_the_rate_holds() {
        for rate in [7, 1_000, 1 << 20, 10 << 30] {
            let start = Instant::now();
            let bucket = Bucket::new(rate, start);
            let (mut now, mut sum) = (start, 0);
            let end = start + Duration::from_secs(10);
            while now < end {
                match bucket.take(rate, now) {
                    Ok(taken) => sum += taken,
                    Err(when) => {
                        assert!(when > now);
                        now = when;
                    }
                }
                now += MS;
            }
            let ratio = sum as f64 / (10 * rate) as f64;
            assert!(
                (0.95..=1.05).contains(&ratio) || sum.abs_diff(10 * rate) <= 1,
                "{rate}: {ratio}"
            );
        }
    }

    #[test]
    fn nothing_gathers_beyond_the_burst() {
        let start = Instant::now();
        let bucket = Bucket::new(1_000, start);
        assert_eq!(bucket.take(u64::MAX, start + Duration::from_secs(3_600)), Ok(50));
        assert!(bucket.take(1, start + Duration::from_secs(3_600)).is_err());
    }

    #[test]
    fn what_is_given_back_can_be_drawn_again() {
        let start = Instant::now();
        let bucket = Bucket::new(1_000, start);
        assert_eq!(bucket.take(50, start), Ok(50));
        bucket.give_back(20);
        assert_eq!(bucket.take(50, start), Ok(20));
    }

    #[test]
    fn a_datagram_is_sent_whole_and_paid_for_later() {
        let start = Instant::now();
        let bucket = Bucket::new(1_000, start);
        assert_eq!(bucket.take_whole(1_050, start), Ok(()));
        let when = bucket.take_whole(1, start).unwrap_err();
        let wait = when - start;
        assert!(wait > 1_000 * MS && wait < 1_010 * MS, "{wait:?}");
        assert_eq!(bucket.take_whole(1, when), Ok(()));
    }
}
