//! The packet logic outside the kernel: a fake kernel with the real maps' semantics, nodes and a world of them.
//!
//! Owns: [`table`] (hash, LRU, longest prefix as the kernel has them), [`node`] (one kernel's state),
//! [`mod@run`] (one packet through one hook), [`socket`] (system calls), [`world`] (several nodes, journeys), [`pcap`].
//! Does not: reach a real kernel, or ship in a binary except behind `tortie why`.
//! Invariant: a table refuses, evicts and matches exactly as the kernel's; its contract test runs against both.
#![forbid(unsafe_code)]

mod context;
pub mod node;
pub mod pcap;
pub mod run;
pub mod socket;
pub mod table;
pub mod world;

pub use node::{Node, Tables};
pub use run::{Outcome, Packet, run};
