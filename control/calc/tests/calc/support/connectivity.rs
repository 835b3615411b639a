//! Who reaches whom in a cluster of several nodes: each node calculates for itself.

use super::build::ip;
use super::driver::Driver;
use super::evaluate::admits;
use super::oracle::Cluster;
use std::net::IpAddr;
use tortie_model::{Object, WorkloadId};
use tortie_policy::form::Direction::{Egress, Ingress};

/// One end of a connection.
#[derive(Clone, Debug)]
pub struct Party {
    pub name: String,
    pub address: IpAddr,
    /// Its pod and the node that this is attached to; `None`: outside of the cluster.
    pub pod: Option<(WorkloadId, String)>,
}

impl Party {
    pub fn outside(name: &str, address: &str) -> Self {
        Self { name: name.into(), address: ip(address), pod: None }
    }
}

/// What each node makes of the cluster: its calculation, and the oracle for it.
pub struct Nodes {
    nodes: Vec<(String, Driver, Cluster)>,
}

impl Nodes {
    /// `objects_of` gives the objects that a node sees: everything, and its own attachments.
    pub fn new(names: &[&str], objects_of: impl Fn(&str) -> Vec<Object>) -> Self {
        let nodes = names.iter().map(|name| {
            let objects = objects_of(name);
            ((*name).to_owned(), Driver::with(name, &objects), Cluster::of(name, &objects))
        });
        Self { nodes: nodes.collect() }
    }

    /// Whether the lists of both ends let a connection through.
    pub fn connects(&self, from: &Party, to: &Party, protocol: u8, port: u16) -> bool {
        let end = |party: &Party, direction, remote| {
            party.pod.as_ref().is_none_or(|(id, node)| {
                admits(&self.node(node).1.folded, id, direction, remote, protocol, port)
            })
        };
        end(from, Egress, to.address) && end(to, Ingress, from.address)
    }

    /// What the documentation says about it.
    pub fn should_connect(&self, from: &Party, to: &Party, protocol: u8, port: u16) -> bool {
        let end = |party: &Party, direction, remote| {
            party
                .pod
                .as_ref()
                .is_none_or(|(id, node)| self.node(node).2.admits(id, direction, remote, protocol, port))
        };
        end(from, Egress, to.address) && end(to, Ingress, from.address)
    }

    fn node(&self, name: &str) -> &(String, Driver, Cluster) {
        self.nodes.iter().find(|(of, _, _)| of == name).expect("a node of the cluster")
    }
}
