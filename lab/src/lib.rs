//! The laboratory: a Kubernetes cluster on one machine, out of network namespaces.
//!
//! Owns: what a data plane does not do (scheduler, kubelet, address allocation, EndpointSlices), the network
//! between the machines, servers in the pods, and probes between them.
//! Does not: forward a pod's packet or judge one; agents and plugins do, as separate processes.
//! Invariant: everything it makes is found again by the prefix `tl-<lab>-` or in the laboratory's directory,
//! and removed by `down` whatever was killed in between.
#![forbid(unsafe_code)]

pub mod error;
mod files;
mod ip;
mod names;
mod netns;
mod object;
pub mod plan;
mod process;
mod proto;
pub mod server;
mod state;
mod underlay;
mod world;

pub use error::{Error, Result};
pub use names::LabName;
pub use state::names;
