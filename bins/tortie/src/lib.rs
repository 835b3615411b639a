//! What of `tortie` is used by more than one verb, or called in-process by tests.
//!
//! Owns: the CNI plugin, and what it and the agent say to each other. Does not: parse the command line.
//! Invariant: nothing here prints but [`cni::main`].
#![forbid(unsafe_code)]

pub mod agent_api;
pub mod cni;
pub mod pod_cidrs;
pub mod replace;
