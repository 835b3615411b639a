//! The laboratory: a Kubernetes cluster on one machine, out of network namespaces.
//!
//! Owns: what a data plane does not do (scheduler, kubelet, address allocation, EndpointSlices), the network
//! between the machines, servers in the pods, and probes between them.
//! Does not: forward a pod's packet or judge one; agents and plugins do, as separate processes.
//! Invariant: everything it makes is found again by the prefix `tl-<lab>-` or in the laboratory's directory,
//! and removed by `down` whatever was killed in between.
#![forbid(unsafe_code)]

mod agent;
mod api;
mod apply;
mod attach;
mod cluster;
mod control_plane;
mod endpoint;
pub mod error;
mod files;
mod ip;
pub mod kubelet;
mod lab;
mod names;
mod netns;
mod object;
mod plain;
mod plan;
mod probe;
mod process;
mod proto;
pub mod server;
mod servers;
mod state;
mod summary;
mod sweep;
mod underlay;
mod world;

pub use apply::{Applied, Change};
pub use cluster::rfc3339;
pub use control_plane::{Component, ControlPlane, Database};
pub use endpoint::Endpoint;
pub use error::{Error, Result};
pub use lab::{Lab, StoreKind, UpOptions, Where};
pub use names::LabName;
pub use object::{Key, Object, parse as parse_objects};
pub use plan::{Client, Dataplane, Families, Family, Node, Plan};
pub use probe::Probe;
pub use process::Place;
pub use proto::{ProbeResult, Protocol, StreamReport, Verdict};
pub use state::names;
pub use summary::{Summary, summaries};
pub use sweep::{down, down_all};
