//! The packet logic: what every hook does, for both families, free of the kernel it runs in.
//!
//! Owns: hooks ([`hook`], tables of contents), stages ([`stage`], one thing each), the traits of the
//! kernel underneath ([`kernel`]). Does not: depend on aya, allocate, read a clock, or know maps.
//! Invariant: nothing here can panic; the same source gives the same verdict and bytes natively and as BPF.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![deny(clippy::panic)]

pub mod family;
pub mod hook;
pub mod kernel;
mod seeded;
pub mod stage;
pub mod state;
pub mod tuple;
pub mod verdict;

pub use family::{Family, FlowEntry, V4, V6};
pub use kernel::Kernel;
pub use state::State;
pub use tuple::Tuple;
pub use verdict::{Next, Step, Verdict};
