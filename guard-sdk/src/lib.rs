#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod blocks;
mod request;
pub mod testing;

pub use refcap_abi::guard::Act;

pub use blocks::{AfterResolve, Once, RateByPeer, TimeOfDay};
pub use request::{Name, Protocol, Request};

/// What says yes or no.
pub trait Guard {
    /// Whether this may be done. It is asked when all that the capability's rules say has permitted it; what it
    /// remembers in `self` is there the next time.
    fn allows(&mut self, request: &Request<'_>) -> bool;
}

impl<F: FnMut(&Request<'_>) -> bool> Guard for F {
    fn allows(&mut self, request: &Request<'_>) -> bool {
        self(request)
    }
}

/// Both: the second one is asked if the first one says yes.
impl<A: Guard, B: Guard> Guard for (A, B) {
    fn allows(&mut self, request: &Request<'_>) -> bool {
        self.0.allows(request) && self.1.allows(request)
    }
}

/// Makes a module a guard: `guard!(TYPE = VALUE)` with a type that is a [`Guard`] and the constant that it begins as,
/// or `guard!(FUNCTION)` with a function that takes a `&Request` and returns a `bool`.
///
/// ```
/// use refcap_guard::{Once, Request, TimeOfDay, guard};
///
/// // One connection, in working hours.
/// guard!((TimeOfDay, Once) = (TimeOfDay::hours(8, 18), Once::new()));
/// # mod other {
/// # use refcap_guard::{Request, guard};
///
/// fn no_more_than_five(request: &Request<'_>) -> bool {
///     request.open() < 5
/// }
///
/// guard!(no_more_than_five);
/// # }
/// # fn main() {}
/// ```
///
/// A module has one. In a native build it makes nothing, so that the crate can be tested.
#[macro_export]
macro_rules! guard {
    ($type:ty = $value:expr) => {
        const _: () = {
            #[allow(dead_code, reason = "in a native build nobody asks")]
            static GUARD: ::std::sync::Mutex<$type> = ::std::sync::Mutex::new($value);

            #[cfg(target_family = "wasm")]
            #[unsafe(export_name = "refcap_guard_record")]
            static RECORD: $crate::__private::Record = $crate::__private::Record::new();

            #[cfg(target_family = "wasm")]
            #[unsafe(export_name = "refcap_guard_check")]
            extern "C" fn check() -> i32 {
                $crate::__private::check(&GUARD, &RECORD)
            }
        };
    };
    ($function:path) => {
        $crate::guard!(fn(&$crate::Request<'_>) -> bool = $function);
    };
}

/// What the code that [`guard!`] writes needs. Not for other use, and not under semver.
#[doc(hidden)]
pub mod __private {
    use std::sync::Mutex;

    use refcap_abi::guard::{NO, YES};

    pub use crate::request::Record;
    use crate::{Guard, Request};

    /// Answers the question in the record.
    pub fn check<G: Guard>(guard: &Mutex<G>, record: &Record) -> i32 {
        // What this version does not know it denies. The lock is always free: a module has one thread, and the host
        // asks one question at a time.
        let allows = match (Request::new(record), guard.try_lock()) {
            (Some(request), Ok(mut guard)) => guard.allows(&request),
            _ => false,
        };
        if allows { YES } else { NO }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use refcap_abi::guard::{CHECK_EXPORT, NO, Question, RECORD_EXPORT, YES};

    use super::__private::{Record, check};
    use super::*;

    #[test]
    fn the_macro_exports_what_the_host_looks_for() {
        let source = include_str!("lib.rs");
        for name in [CHECK_EXPORT, RECORD_EXPORT] {
            assert!(source.contains(&format!("export_name = \"{name}\"")), "{name}");
        }
    }

    #[test]
    fn answers_are_yes_and_no() {
        let guard = Mutex::new(Once::new());
        let record = Record::of(&Question::new(Act::Connect));
        assert_eq!([check(&guard, &record), check(&guard, &record)], [YES, NO]);
        // Nothing was written yet, as in an act of a later version.
        assert_eq!(check(&Mutex::new(|_: &Request<'_>| true), &Record::new()), NO);
    }

    #[test]
    fn of_a_pair_the_second_is_asked_if_the_first_says_yes() {
        let mut asked = 0;
        let mut pair = (
            |request: &Request<'_>| request.act() == Act::Connect,
            |_: &Request<'_>| {
                asked += 1;
                asked == 1
            },
        );
        let answers =
            [Act::Bind, Act::Connect, Act::Connect].map(|act| testing::ask(&mut pair, &Question::new(act)));
        assert_eq!(answers, [false, true, false]);
        assert_eq!(asked, 2);
    }
}
