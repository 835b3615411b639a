//! What load balancers ask of a Service on this node.
//!
//! Owns: counting its ready endpoints here. Does not: answer. Invariant: an endpoint counts once, however many ports
//! and slices name it; a family that the Service does not have is not asked about.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use tortie_intent::{BackendState, ServicePort, ServicePortId};
use tortie_model::service::Service;

/// A Service with `healthCheckNodePort`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Where its load balancer asks.
    pub port: u16,
    /// Ready IPv4 endpoints on this node; `None`: the Service has no IPv4.
    pub v4: Option<u32>,
    /// Ready IPv6 endpoints on this node; `None`: the Service has no IPv6.
    pub v6: Option<u32>,
}

/// The health check of a Service with these ports.
pub(super) fn of(service: &Service, made: &BTreeMap<ServicePortId, ServicePort>) -> Option<HealthCheck> {
    let port = service.health_check_port?;
    let ready = |v6: bool| -> Option<u32> {
        service.cluster_ips.iter().find(|address| address.is_ipv6() == v6)?;
        let all = made.values().flat_map(|port| port.backends.iter());
        let here = all.filter(|b| b.local && b.state == BackendState::Ready && b.address.is_ipv6() == v6);
        let addresses: BTreeSet<IpAddr> = here.map(|backend| backend.address).collect();
        Some(u32::try_from(addresses.len()).unwrap_or(u32::MAX))
    };
    Some(HealthCheck { port, v4: ready(false), v6: ready(true) })
}
