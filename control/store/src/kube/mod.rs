//! The store that is a Kubernetes API server.
//!
//! Owns: the connection, and [`Cluster`], the blocking front for verbs and the laboratory.
//! Does not: decide what is in force.
//! Invariant: no trouble of the API server ever reads as "deleted".

mod access;
mod backoff;
mod client;
mod cluster;
mod connection;
mod error;
mod follow;
mod lines;
mod served;
mod watching;

pub use access::{Access, SERVERS_VARIABLE};
pub use cluster::{Cluster, Delete, FIELD_MANAGER, Patch, Query};
pub use connection::Standing;
pub use error::{ClusterError, Refusal};
pub use follow::Subject;
pub use http::Method;
pub use served::Api;
pub use watching::{Change, Watch};
