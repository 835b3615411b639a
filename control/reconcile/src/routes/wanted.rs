//! Routes that are wanted, by their prefixes and by what they lead to.
//!
//! Owns: who a route leads to. Does not: know ways, slots or tables.
//! Invariant: what is asked about one node or workload costs what its routes are, not what all are.

use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use tortie_intent::Route;
use tortie_model::{NodeName, WorkloadId};

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    routes: BTreeMap<IpNet, Route>,
    /// Those that lead to another node, by its address.
    to_node: BTreeMap<IpAddr, BTreeSet<IpNet>>,
    /// Those that lead to a workload of this node.
    to_workload: BTreeMap<WorkloadId, BTreeSet<IpNet>>,
    /// Counts changes of routes that lead to other nodes.
    version: u64,
}

impl Wanted {
    /// A route is as given from now on; the node that it led to and the one it leads to, where it has changed.
    pub(super) fn set(&mut self, net: IpNet, route: Option<Route>) -> [Option<IpAddr>; 2] {
        let before = match &route {
            Some(route) => self.routes.insert(net, route.clone()),
            None => self.routes.remove(&net),
        };
        if before == route {
            return [None; 2];
        }
        let nodes = [&before, &route].map(|route| route.as_ref().and_then(|route| destination(&net, route)));
        if let Some(node) = nodes[0] {
            remove(&mut self.to_node, &node, &net);
        }
        if let Some(node) = nodes[1] {
            self.to_node.entry(node).or_default().insert(net);
        }
        if let Some(Route::LocalPod(id)) = before {
            remove(&mut self.to_workload, &id, &net);
        }
        if let Some(Route::LocalPod(id)) = route {
            self.to_workload.entry(id).or_default().insert(net);
        }
        self.version = self.version.wrapping_add(u64::from(nodes != [None; 2]));
        nodes
    }

    /// The route of a prefix.
    pub(super) fn get(&self, net: &IpNet) -> Option<&Route> {
        self.routes.get(net)
    }

    /// Prefixes of all routes.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = &IpNet> {
        self.routes.keys()
    }

    /// Nodes that routes lead to.
    pub(super) fn nodes(&self) -> impl Iterator<Item = IpAddr> {
        self.to_node.keys().copied()
    }

    /// Whether a route leads to that node.
    pub(super) fn leads_to(&self, node: &IpAddr) -> bool {
        self.to_node.contains_key(node)
    }

    /// The routes that lead to a node.
    pub(super) fn to_node(&self, node: &IpAddr) -> impl Iterator<Item = &IpNet> {
        self.to_node.get(node).into_iter().flatten()
    }

    /// The routes that lead to a workload of this node.
    pub(super) fn to_workload(&self, id: &WorkloadId) -> impl Iterator<Item = &IpNet> {
        self.to_workload.get(id).into_iter().flatten()
    }

    /// Prefixes of other nodes' pods with the node and its address.
    pub(super) fn remote_pods(&self) -> impl Iterator<Item = (IpNet, (NodeName, IpAddr))> {
        self.routes.iter().filter_map(|(net, route)| match route {
            Route::RemotePod { node, next_hop: Some(next_hop) } => Some((*net, (node.clone(), *next_hop))),
            _ => None,
        })
    }

    /// Another one whenever [`Wanted::nodes`] or [`Wanted::remote_pods`] may be other ones.
    pub(super) fn version(&self) -> u64 {
        self.version
    }
}

/// Takes one route out of those of a node or a workload.
fn remove<K: Ord>(routes: &mut BTreeMap<K, BTreeSet<IpNet>>, of: &K, net: &IpNet) {
    if let Some(nets) = routes.get_mut(of) {
        nets.remove(net);
        if nets.is_empty() {
            routes.remove(of);
        }
    }
}

/// The node that a route leads to.
pub(super) fn destination(net: &IpNet, route: &Route) -> Option<IpAddr> {
    match route {
        Route::RemotePod { next_hop, .. } => *next_hop,
        Route::RemoteHost { .. } => Some(net.addr()),
        Route::LocalPod(_) | Route::Host | Route::Pool { .. } | Route::Services | Route::Blackhole => None,
    }
}
