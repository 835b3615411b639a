//! EndpointSlices.
//!
//! Owns: their conversion and checks. Does not: join them with Services.
//! Invariant: an endpoint's addresses are of the slice's family; conditions have their documented defaults.

use super::policy::transport;
use super::{Noun, Reading, metadata_of};
use crate::check;
use crate::fault::{Fault, Wrong, invalid};
use crate::resource::Resource;
use k8s_openapi::api::discovery::v1 as wire;
use std::sync::Arc;
use tortie_model::service::{Endpoint, EndpointSlice, Hints, SlicePort};
use tortie_model::{Change, NodeName, Object, ServiceId, SliceId};

const SERVICE: &str = "kubernetes.io/service-name";

invalid! {
    /// Why an EndpointSlice is refused.
    InvalidSlice {
        /// `addressType`.
        AddressType {} => "addressType",
        /// The label that names its Service.
        Service {} => "metadata.labels[kubernetes.io/service-name]",
        /// An endpoint's address.
        Address { endpoint: usize, address: usize } => "endpoints[{endpoint}].addresses[{address}]",
        /// An endpoint without an address.
        Addresses { endpoint: usize } => "endpoints[{endpoint}].addresses",
        /// An endpoint's `nodeName`.
        NodeName { endpoint: usize } => "endpoints[{endpoint}].nodeName",
        /// A port's name.
        PortName { port: usize } => "ports[{port}].name",
        /// A port's protocol.
        Protocol { port: usize } => "ports[{port}].protocol",
        /// A port's number.
        Port { port: usize } => "ports[{port}].port",
    }
}

/// Reads an EndpointSlice. One that no Service can use is kept and says so.
pub fn read(resource: &Resource, slice: wire::EndpointSlice) -> Result<Reading, Fault> {
    let wire::EndpointSlice { address_type, endpoints, metadata, ports } = slice;
    let labels = metadata_of(resource, metadata, check::subdomain)?;
    let id = SliceId::new(resource.key.namespace.as_str(), resource.key.name.as_str());
    let v6 = match address_type.as_str() {
        "IPv4" => false,
        "IPv6" => true,
        "FQDN" => {
            let fix = "give addresses in slices of addressType IPv4 or IPv6, or remove it";
            return Ok(skipped(id, "addressType", "endpoints that are names are not served", fix));
        }
        _ => {
            let allowed = &["IPv4", "IPv6", "FQDN"];
            return Err(InvalidSlice::AddressType {
                wrong: Wrong::NotOneOf { value: address_type, allowed },
            }
            .into());
        }
    };
    let endpoints = read_endpoints(endpoints.unwrap_or_default(), v6)?;
    let (ports, notes) = read_ports(ports.unwrap_or_default())?;
    let Some(service) = labels.get(SERVICE).filter(|name| !name.is_empty()) else {
        let field = "metadata.labels[kubernetes.io/service-name]";
        let fix = "label it with the Service's name, or remove it";
        return Ok(skipped(id, field, "the slice belongs to no Service", fix));
    };
    check::label(service).map_err(|wrong| InvalidSlice::Service { wrong })?;
    // As with Services: what says so is no business of a service proxy, or of another one.
    if super::service::is_foreign(&labels) {
        return Ok(super::object(Object::Slice(Change { key: id, value: None })));
    }
    let service = ServiceId::new(resource.key.namespace.as_str(), service.as_str());
    let value = Some(Arc::new(EndpointSlice { service, ports, endpoints }));
    Ok(Reading { notes, ..super::object(Object::Slice(Change { key: id, value })) })
}

fn skipped(key: SliceId, field: &str, problem: &str, fix: &str) -> Reading {
    let note = Fault { field: field.into(), problem: problem.into(), fix: fix.into() };
    Reading { noun: Noun::Object(Object::Slice(Change { key, value: None })), notes: vec![note] }
}

fn read_endpoints(endpoints: Vec<wire::Endpoint>, v6: bool) -> Result<Vec<Endpoint>, InvalidSlice> {
    let mut read = Vec::with_capacity(endpoints.len());
    for (endpoint, it) in endpoints.into_iter().enumerate() {
        let wire::Endpoint {
            addresses,
            conditions,
            node_name,
            deprecated_topology: _,
            hints,
            hostname: _,
            target_ref: _,
            zone: _,
        } = it;
        if addresses.is_empty() {
            let wrong = Wrong::Missing { expected: "an address" };
            return Err(InvalidSlice::Addresses { endpoint, wrong });
        }
        let wire::EndpointConditions { ready, serving, terminating } = conditions.unwrap_or_default();
        let ready = ready.unwrap_or(true);
        let node = node_name.filter(|name| !name.is_empty());
        if let Some(name) = &node {
            check::subdomain(name).map_err(|wrong| InvalidSlice::NodeName { endpoint, wrong })?;
        }
        let hints = hints.map(read_hints).filter(|hints| *hints != Hints::default()).map(Arc::new);
        let read_one = |(address, text): (usize, &String)| {
            of_family(text, v6).map_err(|wrong| InvalidSlice::Address { endpoint, address, wrong })
        };
        let all = addresses.iter().enumerate().map(read_one).collect::<Result<Vec<_>, _>>()?;
        // What a further one means nobody has said; whoever makes slices writes one, and kube-proxy takes the first.
        read.extend(all.first().map(|address| Endpoint {
            address: *address,
            node: node.as_deref().map(NodeName::new),
            ready,
            serving: serving.unwrap_or(ready),
            terminating: terminating.unwrap_or(false),
            hints,
        }));
    }
    Ok(read)
}

fn read_hints(wire::EndpointHints { for_nodes, for_zones }: wire::EndpointHints) -> Hints {
    let nodes = for_nodes.unwrap_or_default().into_iter();
    let zones = for_zones.unwrap_or_default().into_iter();
    Hints {
        for_nodes: nodes.map(|node| NodeName::new(node.name.as_str())).collect(),
        for_zones: zones.map(|zone| zone.name.into()).collect(),
    }
}

/// One that no back end may have is left out where back ends are made, and the rest of the slice counts.
fn of_family(text: &str, v6: bool) -> Result<std::net::IpAddr, Wrong> {
    let address = check::address(text)?;
    if address.is_ipv6() != v6 {
        let why = "the address is not of the slice's addressType";
        return Err(Wrong::Conflict { why, fix: "put it in a slice of its own family" });
    }
    Ok(address)
}

/// Ports that a Service can use. One without a number (which means every port), or with one that is none, is no
/// reason to leave out the others.
fn read_ports(ports: Vec<wire::EndpointPort>) -> Result<(Vec<SlicePort>, Vec<Fault>), InvalidSlice> {
    let (mut read, mut notes): (Vec<SlicePort>, Vec<Fault>) = (Vec::new(), Vec::new());
    let mut names: Vec<String> = Vec::new();
    for (port, it) in ports.into_iter().enumerate() {
        let wire::EndpointPort { name, protocol, port: number, app_protocol: _ } = it;
        let name = name.unwrap_or_default();
        if !name.is_empty() {
            check::label(&name).map_err(|wrong| InvalidSlice::PortName { port, wrong })?;
        }
        if let Some(first) = names.iter().position(|other| *other == name) {
            let wrong = Wrong::Duplicate { first: format!("ports[{first}].name") };
            return Err(InvalidSlice::PortName { port, wrong });
        }
        let transport =
            transport(protocol.as_deref()).map_err(|wrong| InvalidSlice::Protocol { port, wrong })?;
        names.push(name.clone());
        let number = number.ok_or(Wrong::Missing { expected: "a port number" });
        match number.and_then(|number| check::port(number.into())) {
            Ok(port) => read.push(SlicePort { name, transport, port }),
            Err(wrong) => notes.push(InvalidSlice::Port { port, wrong }.into()),
        }
    }
    Ok((read, notes))
}
