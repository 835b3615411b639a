//! `routes list`: whose addresses are where.

use crate::{Names, Snapshot};
use serde::Serialize;
use std::net::IpAddr;
use tortie_abi::route::{Kind, Route, flags};
use tortie_abi::target::TargetKind;

/// One prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// `10.244.1.0/24`.
    pub prefix: String,
    /// `local-pod`, `remote-pod`, `host`, `remote-host`, `pool`, `blackhole`.
    pub kind: &'static str,
    /// The node it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The neighbour it is sent to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<IpAddr>,
    /// The interface it is sent out of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The pod it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// `in-pool`, `nat-outgoing`.
    pub flags: Vec<&'static str>,
}

/// All routes, by address and length.
pub fn rows(snapshot: &Snapshot, names: &Names) -> Vec<Row> {
    let v4 = snapshot.route4.iter().map(|(k, r)| ((IpAddr::V4(k.address.into()), k.prefix_length), r));
    let v6 = snapshot.route6.iter().map(|(k, r)| ((IpAddr::V6(k.address.into()), k.prefix_length), r));
    let mut sorted: Vec<_> = v4.chain(v6).collect();
    sorted.sort_by_key(|(prefix, _)| *prefix);
    sorted.into_iter().map(|((address, length), r)| row(address, length, r, snapshot, names)).collect()
}

fn row(address: IpAddr, length: u32, route: &Route, snapshot: &Snapshot, names: &Names) -> Row {
    let slot = route.target.slot();
    let mut row = Row {
        prefix: format!("{address}/{length}"),
        kind: kind_name(route.kind),
        node: None,
        next_hop: None,
        interface: None,
        endpoint: None,
        flags: flag_names(route.flags),
    };
    match route.target.kind() {
        TargetKind::Endpoint => {
            row.node = Some(names.node.clone());
            row.endpoint = names.endpoints.get(&slot).map(|n| format!("{}/{}", n.namespace, n.name));
            row.interface = snapshot.endpoints.get(&slot).map(|e| names.interface(e.ifindex));
        }
        TargetKind::NextHop => {
            row.node = names.node_of_hop(slot);
            row.next_hop = names.next_hops.get(&slot).copied();
            row.interface = snapshot.next_hops.get(&slot).map(|n| names.interface(n.ifindex));
        }
        TargetKind::Host | TargetKind::Device => {}
    }
    if route.kind == Kind::Host as u8 {
        row.node = Some(names.node.clone());
    }
    row
}

fn kind_name(byte: u8) -> &'static str {
    Kind::from_byte(byte).map_or("unknown", name_of_kind)
}

/// The names of all kinds.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    (0..=u8::MAX).filter_map(Kind::from_byte).map(name_of_kind)
}

fn name_of_kind(kind: Kind) -> &'static str {
    match kind {
        Kind::LocalPod => "local-pod",
        Kind::RemotePod => "remote-pod",
        Kind::Host => "host",
        Kind::RemoteHost => "remote-host",
        Kind::Pool => "pool",
        Kind::Blackhole => "blackhole",
        Kind::Services => "services",
    }
}

fn flag_names(bits: u8) -> Vec<&'static str> {
    [(flags::IN_POOL, "in-pool"), (flags::NAT_OUTGOING, "nat-outgoing")]
        .iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, name)| *name)
        .collect()
}
