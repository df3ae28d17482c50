//! Guards to use as they are, or to put together.

mod after_resolve;
mod once;
mod rate;
mod time_of_day;

pub use after_resolve::AfterResolve;
pub use once::Once;
pub use rate::RateByPeer;
pub use time_of_day::TimeOfDay;
