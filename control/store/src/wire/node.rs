//! Nodes.
//!
//! Owns: their conversion. Does not: know which is ours.
//! Invariant: `InternalIP` addresses come first, each address once.

use super::{Reading, metadata_of, object};
use crate::check;
use crate::fault::{Fault, Wrong, invalid};
use crate::resource::Resource;
use k8s_openapi::api::core::v1 as wire;
use std::net::IpAddr;
use std::sync::Arc;
use tortie_model::node::Node;
use tortie_model::{Change, NodeName, Object};

/// What the cluster's autoscaler does before it deletes a node.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

invalid! {
    /// Why a Node is refused.
    InvalidNode {
        /// `spec.podCIDR`.
        PodCidr {} => "spec.podCIDR",
        /// One of `spec.podCIDRs`.
        PodCidrs { index: usize } => "spec.podCIDRs[{index}]",
        /// An address.
        Address { index: usize } => "status.addresses[{index}].address",
        /// An address's type.
        AddressType { index: usize } => "status.addresses[{index}].type",
    }
}

/// Reads a Node.
pub fn read(resource: &Resource, node: wire::Node) -> Result<Reading, Fault> {
    let wire::Node { metadata, spec, status } = node;
    let deleted = metadata.deletion_timestamp.is_some();
    let labels = metadata_of(resource, metadata, check::subdomain)?;
    let wire::NodeSpec {
        pod_cidr,
        pod_cidrs,
        config_source: _,
        external_id: _,
        provider_id: _,
        taints,
        unschedulable: _,
    } = spec.unwrap_or_default();
    let pod_cidrs = read_cidrs(pod_cidr, pod_cidrs)?;
    let addresses = read_addresses(status.unwrap_or_default().addresses.unwrap_or_default())?;
    let leaving = deleted || taints.unwrap_or_default().iter().any(|taint| taint.key == TO_BE_DELETED);
    let created = resource.created().unwrap_or(0);
    let value = Some(Arc::new(Node { labels, addresses, pod_cidrs, created, leaving }));
    Ok(object(Object::Node(Change { key: NodeName::new(resource.key.name.as_str()), value })))
}

fn read_cidrs(one: Option<String>, many: Option<Vec<String>>) -> Result<Vec<ipnet::IpNet>, InvalidNode> {
    match (one, many.unwrap_or_default()) {
        (Some(text), many) if many.is_empty() && !text.is_empty() => {
            Ok(vec![check::cidr(&text).map_err(|wrong| InvalidNode::PodCidr { wrong })?])
        }
        (_, many) => many
            .iter()
            .enumerate()
            .map(|(index, text)| check::cidr(text).map_err(|wrong| InvalidNode::PodCidrs { index, wrong }))
            .collect(),
    }
}

fn read_addresses(addresses: Vec<wire::NodeAddress>) -> Result<Vec<IpAddr>, InvalidNode> {
    const TYPES: &[&str] = &["InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS"];
    let mut internal = Vec::new();
    let mut external = Vec::new();
    for (index, wire::NodeAddress { address, type_ }) in addresses.into_iter().enumerate() {
        let list = match type_.as_str() {
            "InternalIP" => &mut internal,
            "ExternalIP" => &mut external,
            "Hostname" | "InternalDNS" | "ExternalDNS" => continue,
            _ => {
                let wrong = Wrong::NotOneOf { value: type_, allowed: TYPES };
                return Err(InvalidNode::AddressType { index, wrong });
            }
        };
        let address =
            check::reachable_address(&address).map_err(|wrong| InvalidNode::Address { index, wrong })?;
        list.push(address);
    }
    let mut all: Vec<IpAddr> = Vec::new();
    for address in internal.into_iter().chain(external) {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    Ok(all)
}
