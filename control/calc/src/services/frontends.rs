//! Where clients reach a Service port, and which clients may.
//!
//! Owns: addresses, ports and source ranges as kube-proxy reads them. Does not: know endpoints.
//! Invariant: a family that the Service does not have has no front end.

use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tortie_intent::{Frontend, Scope};
use tortie_model::service::{Service, ServicePort as Port};

/// As kube-proxy reads them: a range of everybody opens the family, a family without a range is open. A node that may use
/// the load balancer may do so under the load balancer's address as well, which may be on one of its interfaces.
pub(super) fn source_ranges(service: &Service, own: &[IpAddr]) -> BTreeSet<IpNet> {
    let mut ranges = BTreeSet::new();
    for v6 in [false, true] {
        let of: Vec<&IpNet> = service.source_ranges.iter().filter(|net| net.addr().is_ipv6() == v6).collect();
        if of.iter().any(|net| net.prefix_len() == 0) {
            continue;
        }
        if of.iter().any(|net| own.iter().any(|address| net.contains(address))) {
            let addresses = service.ingress_ips.iter().filter(|address| address.is_ipv6() == v6);
            ranges.extend(addresses.map(|address| IpNet::from(*address)));
        }
        ranges.extend(of);
    }
    ranges
}

/// Every address that clients reach a port by. Of the outside's addresses those of the Service's own families.
pub(super) fn frontends(service: &Service, port: &Port) -> Vec<(Frontend, Scope)> {
    let mut found: Vec<(Frontend, Scope)> = Vec::new();
    let mut add = |address: IpAddr, port: u16, scope: Scope| {
        let frontend = Frontend { address, port };
        if !found.iter().any(|(other, _)| *other == frontend) {
            found.push((frontend, scope));
        }
    };
    let of_family = |a: &&IpAddr| service.cluster_ips.iter().any(|own| own.is_ipv6() == a.is_ipv6());
    service.cluster_ips.iter().for_each(|a| add(*a, port.port, Scope::Cluster));
    service.external_ips.iter().filter(of_family).for_each(|a| add(*a, port.port, Scope::External));
    service.ingress_ips.iter().filter(of_family).for_each(|a| add(*a, port.port, Scope::LoadBalancer));
    if port.node_port != 0 {
        let every = |a: &IpAddr| {
            if a.is_ipv6() { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) }
        };
        service.cluster_ips.iter().for_each(|a| add(every(a), port.node_port, Scope::NodePort));
    }
    found
}
