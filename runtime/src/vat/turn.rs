//! Turns: guests share threads, and one that moves bytes without end must let others go on.

use std::time::{Duration, Instant};

/// Moves that are looked at together: the clock is asked after as many. With 64 of 64 KiB, a timer beside a guest that
/// writes as fast as it can was at most 5 ms late; without any end, 268 ms.
const MOVES: u32 = 64;
/// A guest whose moves are small may go on for as long. A server of 64 connections has each of them answered in one turn.
const TIME: Duration = Duration::from_millis(1);

/// What a guest has done since others had their turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    moves: u32,
    until: Option<Instant>,
}

impl Turn {
    /// Counts a read or write. Returns whether it may be done; if not, the guest must wait once.
    pub(super) fn take(&mut self) -> bool {
        if self.moves >= MOVES && self.is_over() {
            return false;
        }
        self.moves += 1;
        true
    }

    /// Counts a wait: what is waited for may be there already. Returns whether the turn is over; then a new one begins.
    pub(super) fn wait(&mut self) -> bool {
        self.moves += 1;
        let is_over = self.moves >= MOVES && self.is_over();
        if is_over {
            *self = Turn::default();
        }
        is_over
    }

    /// Asks the clock. If there is time left, the moves are counted anew.
    fn is_over(&mut self) -> bool {
        let now = Instant::now();
        let is_over = now >= *self.until.get_or_insert(now + TIME);
        if !is_over {
            self.moves = 0;
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_over_after_its_time_and_not_before() {
        let mut turn = Turn::default();
        let begun = Instant::now();
        while turn.take() {
            assert!(begun.elapsed() < Duration::from_secs(10));
        }
        assert!(begun.elapsed() >= TIME);
        // It stays so until the guest waits.
        assert!(!turn.take());
        assert!(turn.wait());
        assert!(turn.take());
    }

    #[test]
    fn a_turn_of_few_moves_is_never_over() {
        let mut turn = Turn::default();
        for _ in 1..MOVES {
            assert!(turn.take());
        }
        std::thread::sleep(2 * TIME);
        // The time begins with the first look at the clock.
        assert!(!turn.wait());
    }

    #[test]
    fn a_guest_that_waits_for_what_is_there_has_an_end_too() {
        let mut turn = Turn::default();
        let begun = Instant::now();
        while !turn.wait() {
            assert!(begun.elapsed() < Duration::from_secs(10));
        }
        assert!(begun.elapsed() >= TIME);
    }
}
