//! Between two times of the day.

use crate::{Guard, Request};

const DAY: u32 = 24 * 3_600;

/// Says yes between two times of the day, in UTC, and no at any other. What was begun goes on afterwards.
#[derive(Debug, Clone)]
pub struct TimeOfDay {
    /// In seconds since midnight; the second one is not included.
    from: u32,
    to: u32,
}

impl TimeOfDay {
    /// From one full hour to another: `hours(8, 18)` is from 8:00:00 to 17:59:59. Where the second is the lower one,
    /// midnight lies between them: `hours(22, 6)` is the night.
    ///
    /// # Panics
    ///
    /// If both are the same, which would be always or never, or if one is more than 24. In `guard!` that is an error of
    /// the compiler.
    pub const fn hours(from: u32, to: u32) -> TimeOfDay {
        TimeOfDay::minutes(from * 60, to * 60)
    }

    /// The same in minutes since midnight.
    ///
    /// # Panics
    ///
    /// As [`hours`](TimeOfDay::hours), if one is more than 1440.
    pub const fn minutes(from: u32, to: u32) -> TimeOfDay {
        let (from, to) = (from * 60, to * 60);
        assert!(from <= DAY && to <= DAY, "a day has 24 hours");
        assert!(from % DAY != to % DAY, "the same time twice is always or never");
        TimeOfDay { from, to }
    }
}

impl Guard for TimeOfDay {
    fn allows(&mut self, request: &Request<'_>) -> bool {
        let now = (request.time().as_secs() % u64::from(DAY)) as u32;
        if self.from < self.to {
            (self.from..self.to).contains(&now)
        } else {
            now >= self.from || now < self.to
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Question, ask, connect};

    /// Whether it says yes at that time of some day.
    fn at(guard: &TimeOfDay, hour: u64, minute: u64, second: u64) -> bool {
        let seconds = 20_000 * 86_400 + hour * 3_600 + minute * 60 + second;
        ask(
            &mut guard.clone(),
            &Question {
                seconds,
                nanoseconds: 999_999_999,
                ..connect("192.0.2.1:1")
            },
        )
    }

    #[test]
    fn the_day_begins_and_ends_on_the_second() {
        let day = TimeOfDay::hours(8, 18);
        assert!(!at(&day, 7, 59, 59) && at(&day, 8, 0, 0) && at(&day, 17, 59, 59) && !at(&day, 18, 0, 0));
        let late = TimeOfDay::minutes(23 * 60 + 30, 24 * 60);
        assert!(!at(&late, 23, 29, 59) && at(&late, 23, 59, 59) && !at(&late, 0, 0, 0));
    }

    #[test]
    fn a_night_has_midnight_in_it() {
        let night = TimeOfDay::hours(22, 6);
        assert!(at(&night, 22, 0, 0) && at(&night, 0, 0, 0) && at(&night, 5, 59, 59));
        assert!(!at(&night, 6, 0, 0) && !at(&night, 21, 59, 59));
    }

    #[test]
    fn always_or_never_is_a_mistake() {
        for (from, to) in [(8, 8), (0, 24), (24, 0), (25, 3)] {
            assert!(std::panic::catch_unwind(|| TimeOfDay::hours(from, to)).is_err());
        }
    }
}
