//! Ports of pods at this node's addresses (`hostPort`).
//!
//! Owns: which front ends they have. Does not: decide between claims.
//! Invariant: only addresses of this node are served, so that no pod can take what is another's.

use super::backends::Place;
use crate::conflicts::{Conflict, Conflicts, Contested};
use crate::pods::Pod;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tortie_intent::{Backend, BackendState, Frontend, Scope, ServicePort, ServicePortId};
use tortie_model::service::ServiceType;
use tortie_model::workload::{HostPort, HostPorts};
use tortie_model::{NodeName, ObjectId, ServiceId, WorkloadId};

/// A pod of this node with ports at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hosted {
    ports: HostPorts,
    /// The pod's address in each family that it has.
    addresses: Vec<IpAddr>,
}

impl Hosted {
    /// What `pod` wants of its node, if it is attached to this one.
    pub(crate) fn of(pod: &Pod, here: &NodeName) -> Option<Self> {
        let ports = HostPorts::clone(pod.attached_workload(here)?.host_ports.as_deref()?);
        let all = pod.addresses(here);
        let first = |v6: bool| all.iter().find(|address| address.is_ipv6() == v6).copied();
        Some(Self { ports, addresses: [first(false), first(true)].into_iter().flatten().collect() })
    }

    /// When the pod was made.
    pub(super) fn created(&self) -> i64 {
        self.ports.created
    }

    /// Its ports as a Service's, of which `id` is the name.
    pub(super) fn ports(&self, id: &ServiceId, here: &Place) -> BTreeMap<ServicePortId, ServicePort> {
        let mut made = BTreeMap::new();
        for port in self.ports.ports.iter().filter(|port| port.address.is_none_or(|a| here.has(a))) {
            let transport = port.transport;
            let id = ServicePortId { service: id.clone(), port: called(port), transport };
            // The same port of the node twice: the first one has it, as with the plugin that did this before.
            made.entry(id).or_insert_with(|| self.port(port, here));
        }
        made
    }

    fn port(&self, port: &HostPort, here: &Place) -> ServicePort {
        let wanted = |own: &&IpAddr| port.address.is_none_or(|at| at.is_ipv6() == own.is_ipv6());
        let served: Vec<IpAddr> = self.addresses.iter().filter(wanted).copied().collect();
        let frontend = |own: &IpAddr| Frontend {
            address: port.address.unwrap_or_else(|| every(own.is_ipv6())),
            port: port.host_port,
        };
        let backend = |own: &IpAddr| Backend {
            address: *own,
            port: port.port,
            local: true,
            node: Some(here.node.clone()),
            state: BackendState::Ready,
            near: true,
        };
        ServicePort {
            frontends: served.iter().map(|own| (frontend(own), Scope::HostPort)).collect(),
            backends: served.iter().map(backend).collect(),
            internal_local: false,
            // Another node's port of that number is that node's own.
            external_local: true,
            source_ranges: BTreeSet::new(),
            affinity_seconds: None,
            maglev: false,
            untranslated: false,
            service_type: ServiceType::NodePort,
        }
    }
}

impl Place {
    fn has(&self, address: IpAddr) -> bool {
        let everywhere = address.is_unspecified() || address.is_loopback();
        everywhere || self.addresses.contains(&address) || self.own.contains(&address)
    }
}

/// Every address of the node.
fn every(v6: bool) -> IpAddr {
    if v6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) }
}

/// Its number, and its address where it is not every one.
fn called(port: &HostPort) -> String {
    match port.address {
        None => port.host_port.to_string(),
        Some(address) => SocketAddr::new(address, port.host_port).to_string(),
    }
}

/// Reports addresses that the pod wants and that this node does not have, and nothing else of it.
pub(super) fn report(pod: &WorkloadId, hosted: Option<&Hosted>, here: &Place, conflicts: &mut Conflicts) {
    let first = Contested::HostAddress(pod.clone(), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let of_pod = |key: &&Contested| matches!(key, Contested::HostAddress(of, _) if of == pod);
    let old: Vec<Contested> =
        conflicts.range(first..).map(|(key, _)| key).take_while(of_pod).cloned().collect();
    old.iter().for_each(|key| _ = conflicts.remove(key));
    let wanted = hosted.into_iter().flat_map(|hosted| &hosted.ports.ports).filter_map(|port| port.address);
    for address in wanted.filter(|address| !here.has(*address)) {
        let losers = vec![ObjectId::Workload(pod.clone())];
        conflicts.insert(Contested::HostAddress(pod.clone(), address), Conflict { winner: None, losers });
    }
}
