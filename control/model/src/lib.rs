//! Our nouns: what the agent knows about the cluster, free of wire formats.
//!
//! Owns: ids, objects and [`Change`]. Does not: know kube, aya, serde or where objects come from.
//! Invariant: an object of this crate is valid; whatever could be wrong was refused in `control/store`.
#![forbid(unsafe_code)]

pub mod change;
pub mod id;
pub mod namespace;
pub mod node;
pub mod policy;
pub mod pool;
pub mod ranges;
pub mod selector;
pub mod service;
pub mod settings;
pub mod workload;

pub use change::{Change, Object, ObjectId};
pub use id::{NamespaceName, NodeName, PolicyId, ServiceId, SliceId, WorkloadId};
pub use ranges::RangesId;
