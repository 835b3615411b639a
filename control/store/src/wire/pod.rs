//! Pods.
//!
//! Owns: their conversion: addresses, named ports, ports at the node, whether they still run. Does not: know endpoints.
//! Invariant: a pod that has ended is no workload.

use super::policy::transport;
use super::{Reading, metadata_of, object};
use crate::check;
use crate::fault::{Fault, Wrong, invalid};
use crate::resource::Resource;
use k8s_openapi::api::core::v1 as wire;
use std::net::IpAddr;
use std::sync::Arc;
use tortie_model::workload::{HostPort, HostPorts, NamedPort, PodUid, Workload};
use tortie_model::{Change, NodeName, Object, WorkloadId};

/// Written by Calico's CNI plugin as soon as it has addresses; wins over the status.
pub const ADDRESSES: &str = "cni.projectcalico.org/podIPs";

/// The uid by which the kubelet knows a pod of its own, whose object in the API server has another one.
pub const STATIC_UID: &str = "kubernetes.io/config.hash";

invalid! {
    /// Why a Pod is refused.
    InvalidPod {
        /// The addresses' annotation.
        Annotation {} => "metadata.annotations[cni.projectcalico.org/podIPs]",
        /// `status.podIP`.
        PodIp {} => "status.podIP",
        /// One of `status.podIPs`.
        PodIps { index: usize } => "status.podIPs[{index}].ip",
        /// `spec.nodeName`.
        NodeName {} => "spec.nodeName",
        /// A container port's number.
        ContainerPort { list: &'static str, container: usize, port: usize }
            => "spec.{list}[{container}].ports[{port}].containerPort",
        /// A container port's name.
        PortName { list: &'static str, container: usize, port: usize }
            => "spec.{list}[{container}].ports[{port}].name",
        /// A container port's protocol.
        Protocol { list: &'static str, container: usize, port: usize }
            => "spec.{list}[{container}].ports[{port}].protocol",
        /// A container port's number at the node.
        HostPort { list: &'static str, container: usize, port: usize }
            => "spec.{list}[{container}].ports[{port}].hostPort",
        /// The node's address for it.
        HostIp { list: &'static str, container: usize, port: usize }
            => "spec.{list}[{container}].ports[{port}].hostIP",
    }
}

/// Reads a Pod.
pub fn read(resource: &Resource, pod: wire::Pod) -> Result<Reading, Fault> {
    let wire::Pod { mut metadata, spec, status } = pod;
    let annotation = metadata.annotations.as_mut().and_then(|all| all.remove(ADDRESSES));
    let own = metadata.annotations.as_ref().and_then(|all| all.get(STATIC_UID));
    let uid = own.or(metadata.uid.as_ref()).and_then(|text| PodUid::parse(text));
    let labels = metadata_of(resource, metadata, check::subdomain)?;
    let spec = spec.unwrap_or_default();
    let status = status.unwrap_or_default();
    let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let Ports { named: ports, at_node } = read_ports(&spec)?;
    let host_network = spec.host_network.unwrap_or(false);
    // What is on the host's network has its ports there already.
    let created = || resource.created().unwrap_or(0);
    let host_ports = (!at_node.is_empty() && !host_network)
        .then(|| Box::new(HostPorts { created: created(), ports: at_node }));
    let (addresses, reported) = match annotation {
        Some(text) => {
            let (said, reported) = (annotated(&text)?, of_status(&status).unwrap_or_default());
            let all = said.iter().all(|address| reported.contains(address));
            (said, all)
        }
        None => (of_status(&status)?, true),
    };
    let workload = Workload {
        uid,
        node: node(spec.node_name)?,
        addresses: in_order(addresses),
        reported,
        labels,
        service_account: spec
            .service_account_name
            .or(spec.service_account)
            .unwrap_or_else(|| "default".into()),
        ports,
        host_ports,
        host_network,
    };
    let key = WorkloadId::new(resource.key.namespace.as_str(), resource.key.name.as_str());
    Ok(object(Object::Workload(Change { key, value: (!ended).then(|| Arc::new(workload)) })))
}

fn node(name: Option<String>) -> Result<Option<NodeName>, InvalidPod> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
    check::subdomain(&name).map_err(|wrong| InvalidPod::NodeName { wrong })?;
    Ok(Some(NodeName::new(name)))
}

/// The addresses of the annotation, with or without prefix length; an empty text: it has none any more.
fn annotated(text: &str) -> Result<Vec<IpAddr>, InvalidPod> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let one = |part: &str| match part.split_once('/') {
        Some((address, "32" | "128")) => check::reachable_address(address),
        Some(_) => Err(Wrong::NotAddress { value: part.into() }),
        None => check::reachable_address(part),
    };
    parts.map(|part| one(part).map_err(|wrong| InvalidPod::Annotation { wrong })).collect()
}

fn of_status(status: &wire::PodStatus) -> Result<Vec<IpAddr>, InvalidPod> {
    let many = status.pod_ips.as_deref().unwrap_or_default();
    if many.is_empty() {
        let one = status.pod_ip.as_deref().filter(|text| !text.is_empty());
        let read = |text| check::reachable_address(text).map_err(|wrong| InvalidPod::PodIp { wrong });
        return one.map(read).into_iter().collect();
    }
    let read = |(index, wire::PodIP { ip }): (usize, &wire::PodIP)| {
        check::reachable_address(ip).map_err(|wrong| InvalidPod::PodIps { index, wrong })
    };
    many.iter().enumerate().map(read).collect()
}

/// The first of each family first, each once.
fn in_order(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut ordered: Vec<IpAddr> = Vec::new();
    let firsts = [addresses.iter().find(|a| a.is_ipv4()), addresses.iter().find(|a| a.is_ipv6())];
    let mut firsts: Vec<IpAddr> = firsts.into_iter().flatten().copied().collect();
    if addresses.first().is_some_and(IpAddr::is_ipv6) {
        firsts.reverse();
    }
    for address in firsts.into_iter().chain(addresses.iter().copied()) {
        if !ordered.contains(&address) {
            ordered.push(address);
        }
    }
    ordered
}

/// The ports of all containers that mean something to others.
#[derive(Default)]
struct Ports {
    named: Vec<NamedPort>,
    at_node: Vec<HostPort>,
}

/// Ports of containers, and of init containers that keep running beside them.
fn read_ports(spec: &wire::PodSpec) -> Result<Ports, InvalidPod> {
    let mut ports = Ports::default();
    let sidecars = spec.init_containers.as_deref().unwrap_or_default();
    for (index, container) in spec.containers.iter().enumerate() {
        ports_of(&mut ports, "containers", index, container)?;
    }
    for (index, container) in sidecars.iter().enumerate() {
        if container.restart_policy.as_deref() == Some("Always") {
            ports_of(&mut ports, "initContainers", index, container)?;
        }
    }
    Ok(ports)
}

fn ports_of(
    ports: &mut Ports,
    list: &'static str,
    container: usize,
    of: &wire::Container,
) -> Result<(), InvalidPod> {
    for (port, it) in of.ports.iter().flatten().enumerate() {
        let wire::ContainerPort { container_port, name, protocol, host_ip, host_port } = it;
        let number = check::port((*container_port).into()).map_err(|wrong| InvalidPod::ContainerPort {
            list,
            container,
            port,
            wrong,
        })?;
        let transport = transport(protocol.as_deref()).map_err(|wrong| InvalidPod::Protocol {
            list,
            container,
            port,
            wrong,
        })?;
        if let Some(host_port) = host_port.filter(|number| *number != 0) {
            let host_port = check::port(host_port.into()).map_err(|wrong| InvalidPod::HostPort {
                list,
                container,
                port,
                wrong,
            })?;
            let address = host_ip.as_deref().filter(|text| !text.is_empty()).map(check::address).transpose();
            let address = address.map_err(|wrong| InvalidPod::HostIp { list, container, port, wrong })?;
            ports.at_node.push(HostPort { address, host_port, transport, port: number });
        }
        let Some(name) = name.clone().filter(|name| !name.is_empty()) else { continue };
        check::port_name(&name).map_err(|wrong| InvalidPod::PortName { list, container, port, wrong })?;
        ports.named.push(NamedPort { name, transport, port: number });
    }
    Ok(())
}
