//! `endpoints list`: the pods of this node.

use crate::{Names, Snapshot};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use tortie_abi::endpoint::{Endpoint, NO_PROGRAM, endpoint_flags};
use tortie_abi::route::Kind;

/// One direction's policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Program {
    /// Slot of the policy program; absent: no policy, everything is allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// Generation in force; 0: none yet, everything is denied.
    pub generation: u32,
}

/// Both directions, from the host's point of view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Programs {
    /// Egress.
    pub from_workload: Program,
    /// Ingress.
    pub to_workload: Program,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// Node.
    pub node: String,
    /// Host side of its veth.
    pub interface: String,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// Programs and policy are in force.
    pub ready: bool,
    /// Policy by direction.
    pub programs: Programs,
}

/// All endpoints, sorted by namespace and name.
pub fn rows(snapshot: &Snapshot, names: &Names) -> Vec<Row> {
    let addresses = addresses_by_slot(snapshot);
    let mut rows: Vec<Row> = snapshot
        .endpoints
        .iter()
        .map(|(slot, endpoint)| row(*slot, endpoint, addresses.get(slot).cloned().unwrap_or_default(), names))
        .collect();
    rows.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    rows
}

/// Every address that a route gives to a local endpoint.
fn addresses_by_slot(snapshot: &Snapshot) -> BTreeMap<u32, Vec<IpAddr>> {
    let v4 = snapshot.route4.iter().map(|(k, r)| (IpAddr::V4(k.address.into()), r));
    let v6 = snapshot.route6.iter().map(|(k, r)| (IpAddr::V6(k.address.into()), r));
    let mut by_slot: BTreeMap<u32, Vec<IpAddr>> = BTreeMap::new();
    for (address, route) in v4.chain(v6).filter(|(_, r)| r.kind == Kind::LocalPod as u8) {
        by_slot.entry(route.target.slot()).or_default().push(address);
    }
    by_slot.values_mut().for_each(|list| list.sort());
    by_slot
}

fn row(slot: u32, endpoint: &Endpoint, addresses: Vec<IpAddr>, names: &Names) -> Row {
    let name = names.endpoints.get(&slot);
    let program = |id: u32, generation| Program { id: (id != NO_PROGRAM).then_some(id), generation };
    Row {
        namespace: name.map(|n| n.namespace.clone()),
        name: name.map_or_else(|| format!("slot-{slot}"), |n| n.name.clone()),
        node: names.node.clone(),
        interface: name.map_or_else(|| names.interface(endpoint.ifindex), |n| n.interface.clone()),
        addresses,
        ready: endpoint.flags & endpoint_flags::READY != 0,
        programs: Programs {
            from_workload: program(endpoint.egress_program, endpoint.egress_generation),
            to_workload: program(endpoint.ingress_program, endpoint.ingress_generation),
        },
    }
}
