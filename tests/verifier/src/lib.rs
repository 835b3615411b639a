//! What each program may cost: the checked-in budget file, and how a measurement is held against it.
//!
//! Owns: the format of `budgets.toml` and the verdict. Does not: load programs (`tests/programs.rs`).
//! Invariant: growth of more than a tenth fails, and so does a program without a budget or a budget without
//! a program.
#![forbid(unsafe_code)]

mod budget;
mod statistics;

pub use budget::{Budget, Budgets, Excess};
pub use statistics::Statistics;
