//! Nodes.

use crate::namespace::Labels;
use ipnet::IpNet;
use std::net::IpAddr;

/// A node of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its labels.
    pub labels: Labels,
    /// Its addresses (`InternalIP` first, then others), at most a few of each family.
    pub addresses: Vec<IpAddr>,
    /// The prefixes its pods' addresses come from (`spec.podCIDRs`).
    pub pod_cidrs: Vec<IpNet>,
    /// When it was made, in seconds since the epoch; 0: not said. Of two that claim one thing the older has it.
    pub created: i64,
    /// It is about to go: being deleted, or marked so by the cluster's autoscaler. New clients should go elsewhere.
    pub leaving: bool,
}
