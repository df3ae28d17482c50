//! The tests of the whole crate, in one binary.

mod answers;
mod attacks;
mod classes;
mod derived;
mod errors;
mod forms;
mod model;
mod names;
mod policy;
mod properties;
mod questions;
#[cfg(feature = "serde")]
mod structured;
