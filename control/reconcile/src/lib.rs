//! Desired against actual: what has to be written so that the kernel does what the intent says.
//!
//! Owns: the two sides of every table ([`delta`]), the contract of a table ([`table`]).
//! Does not: call the kernel, read time, or know aya and netlink.
//! Invariant: nothing that was in force before the agent started is removed before the intent is in sync.
#![forbid(unsafe_code)]

pub mod delta;
pub mod table;

pub use delta::{DeltaTracker, Now, Part, Written};
pub use table::{KernelError, Table, TableError};
