//! Desired against actual: what has to be written so that the kernel does what the intent says.
//!
//! Owns: the two sides of every table ([`delta`]), ids and slots, the apply plan ([`reconciler`]), the contract
//! of a table ([`table`]).
//! Does not: call the kernel, read time, or know aya and netlink.
//! Invariant: nothing that was in force before the agent started is removed before the intent is in sync.
#![forbid(unsafe_code)]

mod classes;
pub mod delta;
mod dirty;
mod endpoints;
mod generations;
mod kernel;
mod opt_outs;
mod policies;
mod program_name;
mod queue;
pub mod reconciler;
mod routes;
mod rules;
pub mod saved;
mod services;
mod settings;
mod slots;
pub mod table;

pub use delta::{DeltaTracker, Now, Part, Written};
pub use dirty::Dirty;
pub use endpoints::{GUARD_SLOT, Readiness};
pub use kernel::{Dyn, HookError, Hooks, Kernel, Programs};
pub use reconciler::Reconciler;
pub use routes::Way;
pub use saved::{
    Saved, SavedChange, SavedEndpoint, SavedMatches, SavedNextHop, SavedProgram, SavedRule, SavedService,
    SavedServices,
};
pub use services::maglev_pieces;
pub use settings::KernelTimeouts;
pub use table::{KernelError, Table, TableError};
