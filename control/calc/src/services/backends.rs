//! The back ends of a Service port.
//!
//! Owns: which endpoints of which slices count, and as what. Does not: know front ends.
//! Invariant: the order and the number of slices that say the same make no difference.

use crate::conflicts::{Conflict, Conflicts, Contested};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tortie_intent::{self as intent, Backend, BackendState, Frontend};
use tortie_model::service::{Endpoint, EndpointSlice, Service, ServicePort};
use tortie_model::{NodeName, ObjectId, ServiceId, SliceId};

/// Where this node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Its name.
    pub(super) node: NodeName,
    /// Its zone (label `topology.kubernetes.io/zone`).
    pub(super) zone: Option<Arc<str>>,
    /// Its addresses, as its Node says.
    pub(super) addresses: Vec<IpAddr>,
    /// Those of its interfaces.
    pub(super) own: Vec<IpAddr>,
}

impl Place {
    /// The front ends that a port claims: its own, and for one at every address of the node each of them as well.
    pub(super) fn claimed(&self, port: &intent::ServicePort) -> impl Iterator<Item = Frontend> {
        port.frontends.keys().flat_map(|&frontend| {
            let every = frontend.address.is_unspecified();
            let all = self.addresses.iter().chain(&self.own);
            let own = all.filter(move |a| every && a.is_ipv6() == frontend.address.is_ipv6());
            let each = own.map(move |address| Frontend { address: *address, ..frontend });
            std::iter::once(frontend).chain(each)
        })
    }
}

/// Makes back ends and remembers what it refused.
pub(super) struct Backends<'a> {
    here: &'a Place,
    refused: BTreeMap<IpAddr, BTreeSet<SliceId>>,
}

impl<'a> Backends<'a> {
    pub(super) fn new(here: &'a Place) -> Self {
        Self { here, refused: BTreeMap::new() }
    }

    /// This node.
    pub(super) fn here(&self) -> &'a Place {
        self.here
    }

    /// Back ends of `port`: endpoints of the slices that have a port of the same name and protocol.
    pub(super) fn of<'s>(
        &mut self,
        service: &Service,
        port: &ServicePort,
        slices: impl Iterator<Item = (&'s SliceId, &'s Arc<EndpointSlice>)>,
    ) -> Box<[Backend]> {
        let mut made: Vec<(Backend, &'s Endpoint)> = Vec::new();
        for (id, slice) in slices {
            let numbers = slice.ports.iter().filter(|p| p.name == port.name && p.transport == port.transport);
            for number in numbers {
                for endpoint in &slice.endpoints {
                    if unfit(endpoint.address) {
                        self.refused.entry(endpoint.address).or_default().insert(id.clone());
                        continue;
                    }
                    made.push((self.backend(service, endpoint, number.port), endpoint));
                }
            }
        }
        let place = |backend: &Backend| (backend.address, backend.port);
        made.sort_by(|(a, of_a), (b, of_b)| {
            place(a).cmp(&place(b)).then_with(|| preference(a, of_a).cmp(&preference(b, of_b)))
        });
        made.dedup_by(|(later, _), (first, _)| place(later) == place(first));
        if made.iter().any(|(_, endpoint)| endpoint.hints.is_some()) {
            self.follow_hints(&mut made);
        }
        made.into_iter().map(|(backend, _)| backend).collect()
    }

    /// Node hints, else zone hints, where every ready endpoint of the family has some and one of them names this
    /// node or zone; else they do not count (as in kube-proxy, so that no traffic is lost to missing hints).
    fn follow_hints(&self, made: &mut [(Backend, &Endpoint)]) {
        for v6 in [false, true] {
            let ready: Vec<&Endpoint> = made
                .iter()
                .filter(|(b, _)| b.address.is_ipv6() == v6 && b.state == BackendState::Ready)
                .map(|(_, endpoint)| *endpoint)
                .collect();
            let for_node = |e: &Endpoint| e.for_nodes().contains(&self.here.node);
            let for_zone = |e: &Endpoint| self.here.zone.as_ref().is_some_and(|z| e.for_zones().contains(z));
            let all_nodes =
                ready.iter().all(|e| !e.for_nodes().is_empty()) && ready.iter().any(|e| for_node(e));
            let all_zones =
                ready.iter().all(|e| !e.for_zones().is_empty()) && ready.iter().any(|e| for_zone(e));
            for (backend, endpoint) in made.iter_mut().filter(|(b, _)| b.address.is_ipv6() == v6) {
                backend.near = match (all_nodes, all_zones) {
                    (true, _) => for_node(endpoint),
                    (false, true) => for_zone(endpoint),
                    (false, false) => true,
                };
            }
        }
    }

    /// Replaces what was reported of the Service.
    pub(super) fn report(self, service: &ServiceId, conflicts: &mut Conflicts) {
        let first = Contested::Backend(service.clone(), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let of_service = |key: &&Contested| matches!(key, Contested::Backend(id, _) if id == service);
        let old: Vec<Contested> =
            conflicts.range(first..).map(|(key, _)| key).take_while(of_service).cloned().collect();
        old.iter().for_each(|key| _ = conflicts.remove(key));
        for (address, slices) in self.refused {
            let losers = slices.into_iter().map(ObjectId::Slice).collect();
            conflicts.insert(Contested::Backend(service.clone(), address), Conflict { winner: None, losers });
        }
    }

    fn backend(&self, service: &Service, endpoint: &Endpoint, port: u16) -> Backend {
        let state = if endpoint.ready || service.publish_not_ready {
            BackendState::Ready
        } else if endpoint.serving && endpoint.terminating {
            BackendState::ServingTerminating
        } else {
            BackendState::NotReady
        };
        let local = endpoint.node.as_ref() == Some(&self.here.node);
        Backend { address: endpoint.address, port, local, node: endpoint.node.clone(), state, near: true }
    }
}

/// Of two slices that name one endpoint, the one that says more good of it is the newer one: an endpoint moves
/// between slices by being added before it is removed.
fn preference<'a>(backend: &'a Backend, endpoint: &'a Endpoint) -> impl Ord + use<'a> {
    (backend.state, backend.node.is_none(), backend.node.as_ref(), &endpoint.hints)
}

/// Addresses that lead to the node itself or to nobody: whoever can write slices could reach the node's own
/// services through them.
pub(super) fn unfit(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(a) => {
            a.octets()[0] == 0 || a.is_loopback() || a.is_link_local() || a.is_multicast() || a.is_broadcast()
        }
        IpAddr::V6(a) => {
            a.is_unspecified() || a.is_loopback() || a.is_unicast_link_local() || a.is_multicast()
        }
    }
}
