//! The tests of the whole crate, in one binary.

mod attacks;
mod classes;
mod errors;
mod forms;
mod model;
mod properties;
mod questions;
