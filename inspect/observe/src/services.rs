//! `services list`: front ends, the back ends in use, and what the agent knows of the others.

mod known;

use known::MISNAMED;
pub use known::{Known, KnownService, join, tell_types};

use crate::{AddressPort, Names, Snapshot, protocol_name};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use tortie_abi::route::Kind;
use tortie_abi::service::{Frontend, flags};
use tortie_abi::settings::{self, Settings};
use tortie_abi::time::Tick;
use tortie_datapath::stage::service::{self, Side};

/// Where clients reach it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct FrontendRow {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// `cluster`, `node-port`, `host-port`, `external`.
    pub scope: &'static str,
    /// Its packets are not translated, but go where the address leads by itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub untranslated: bool,
}

/// A back end; those that are not in use are known only where the agent was asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct BackendRow {
    /// Address.
    pub address: IpAddr,
    /// Port; 0 and absent: its EndpointSlice has none that could be meant.
    #[serde(skip_serializing_if = "is_none")]
    pub port: u16,
    /// Its node, when this node knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// On this node.
    pub local: bool,
    /// In the kernel, and some client's connections go there.
    pub used: bool,
    /// What its EndpointSlice says; absent when the agent was not asked.
    #[serde(flatten)]
    pub conditions: Option<Conditions>,
    /// Why it is not in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_none(port: &u16) -> bool {
    *port == 0
}

/// The conditions of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Conditions {
    /// Takes new connections.
    pub ready: bool,
    /// Can still serve.
    pub serving: bool,
    /// Is being shut down.
    pub terminating: bool,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Namespace.
    pub namespace: String,
    /// Name; of a pod with ports at this node `pod/NAME`.
    pub name: String,
    /// Port name, or its number when it has none.
    pub port: String,
    /// `TCP` …
    pub protocol: String,
    /// `ClusterIP`, `NodePort`, `HostPort`: what the front ends say; `LoadBalancer` where the agent was asked.
    #[serde(rename = "type")]
    pub service_type: &'static str,
    /// Where clients reach it.
    pub frontends: Vec<FrontendRow>,
    /// Who answers.
    pub endpoints: Vec<BackendRow>,
    /// Time-out of `sessionAffinity: ClientIP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity_seconds: Option<u64>,
    /// `Cluster` or `Local`.
    pub internal_traffic_policy: &'static str,
    /// `Cluster` or `Local`.
    pub external_traffic_policy: &'static str,
    /// How clients outside are spread: `random`, or `maglev`: by a consistent hash of their connection.
    pub external_traffic_strategy: &'static str,
}

impl Row {
    /// Whether its Service is NAMESPACE/NAME.
    pub fn is_called(&self, name: &str) -> bool {
        name.split_once('/') == Some((&self.namespace, &self.name))
    }

    /// Addresses that are ready and have no port of this name and protocol, as where no container has the port that the
    /// Service's `targetPort` names.
    pub fn misnamed(&self) -> usize {
        let ready = |it: &&BackendRow| it.conditions.is_some_and(|it| it.ready);
        let addresses = self.endpoints.iter().filter(|it| it.reason == Some(MISNAMED)).filter(ready);
        addresses.map(|it| it.address).collect::<BTreeSet<_>>().len()
    }

    /// Whether sockets of this node that connect to it, or send to it, are led to an endpoint before there is a packet. What
    /// they open are flows that no Service is known of (design/connect-time.md).
    pub fn is_chosen_at_connect(&self, settings: &Settings) -> bool {
        let mode = match self.protocol.as_str() {
            "TCP" => settings::flags::CONNECT_TCP,
            "UDP" => settings::flags::CONNECT_UDP,
            _ => 0,
        };
        // A port of the node is left to the packet programs.
        let asked = |frontend: &FrontendRow| {
            matches!(frontend.scope, "cluster" | "external") && !frontend.untranslated
        };
        settings.flags & mode != 0
            && self.frontends.iter().any(asked)
            && self.endpoints.iter().any(|endpoint| endpoint.used)
    }
}

/// All Service ports, sorted by namespace, name and port.
pub fn rows(snapshot: &Snapshot, names: &Names) -> Vec<Row> {
    let v4 =
        snapshot.frontend4.iter().map(|(k, f)| ((IpAddr::V4(k.address.into()), k.port.get(), k.protocol), f));
    let v6 =
        snapshot.frontend6.iter().map(|(k, f)| ((IpAddr::V6(k.address.into()), k.port.get(), k.protocol), f));
    let mut by_port: BTreeMap<(String, String, String, u8, u32), Row> = BTreeMap::new();
    for ((address, port, protocol), frontend) in v4.chain(v6) {
        let (namespace, name, port_name) = name_of(names, frontend.service);
        let key = (namespace.clone(), name.clone(), port_name.clone(), protocol, frontend.service);
        let row = by_port.entry(key).or_insert_with(|| Row {
            namespace,
            name,
            port: port_name,
            protocol: protocol_name(protocol),
            service_type: "ClusterIP",
            frontends: Vec::new(),
            endpoints: Vec::new(),
            affinity_seconds: affinity_seconds(frontend),
            internal_traffic_policy: policy_name(frontend, flags::INTERNAL_LOCAL),
            external_traffic_policy: policy_name(frontend, flags::EXTERNAL_LOCAL),
            external_traffic_strategy: "random",
        });
        if frontend.maglev_slots != 0 {
            row.external_traffic_strategy = MAGLEV;
        }
        if frontend.flags & flags::NODE_PORT != 0 {
            row.service_type = if frontend.flags & flags::HOST_PORT != 0 { "HostPort" } else { "NodePort" };
        }
        row.frontends.push(FrontendRow {
            address,
            port,
            scope: scope(frontend),
            untranslated: frontend.flags & flags::UNTRANSLATED != 0,
        });
        row.endpoints.extend(backends(snapshot, names, frontend, address.is_ipv6()));
    }
    let mut rows: Vec<Row> = by_port.into_values().collect();
    for row in &mut rows {
        row.frontends.sort();
        row.endpoints.sort();
        row.endpoints.dedup();
        if row.port.is_empty() {
            row.port = number_of(row);
        }
    }
    rows
}

/// [`Row::external_traffic_strategy`] of a consistent hash, as its annotation says it.
pub const MAGLEV: &str = "maglev";

fn name_of(names: &Names, service: u32) -> (String, String, String) {
    match names.services.get(&service) {
        Some(s) => (s.namespace.clone(), s.name.clone(), s.port.clone()),
        None => (String::new(), format!("service-{service}"), String::new()),
    }
}

/// The number at the Service's own address, where it has one.
fn number_of(row: &Row) -> String {
    let own = row.frontends.iter().find(|f| f.scope == "cluster").or_else(|| row.frontends.first());
    own.map_or_else(String::new, |frontend| frontend.port.to_string())
}

/// Ticks are no whole parts of a second.
fn affinity_seconds(frontend: &Frontend) -> Option<u64> {
    let millis = Tick::millis_of_ticks(frontend.affinity);
    (frontend.affinity != 0).then_some(millis.saturating_add(500) / 1000)
}

const fn policy_name(frontend: &Frontend, local: u32) -> &'static str {
    if frontend.flags & local != 0 { "Local" } else { "Cluster" }
}

const fn scope(frontend: &Frontend) -> &'static str {
    match frontend.flags & (flags::NODE_PORT | flags::EXTERNAL) {
        0 => "cluster",
        flags::EXTERNAL => "external",
        _ if frontend.flags & flags::HOST_PORT != 0 => "host-port",
        _ => "node-port",
    }
}

fn backends(snapshot: &Snapshot, names: &Names, frontend: &Frontend, v6: bool) -> Vec<BackendRow> {
    let used = |service: u32, ordinal: u32| service == frontend.service && is_used(frontend, ordinal);
    let ends: Vec<AddressPort> = if v6 {
        let of = snapshot.backend6.iter().filter(|(k, _)| used(k.service, k.ordinal));
        of.map(|(_, b)| AddressPort { address: IpAddr::V6(b.address.into()), port: b.port.get() }).collect()
    } else {
        let of = snapshot.backend4.iter().filter(|(k, _)| used(k.service, k.ordinal));
        of.map(|(_, b)| AddressPort { address: IpAddr::V4(b.address.into()), port: b.port.get() }).collect()
    };
    ends.into_iter()
        .map(|AddressPort { address, port }| {
            let (node, local) = place(snapshot, names, address);
            BackendRow { address, port, node, local, used: true, conditions: None, reason: None }
        })
        .collect()
}

/// Whether some client is led to it, wherever clients are.
fn is_used(frontend: &Frontend, ordinal: u32) -> bool {
    let leads = |side| service::usable(frontend, side).contains(ordinal);
    frontend.backends != 0 && (leads(Side::Inside) || leads(Side::Outside))
}

/// The node of an address, by the longest matching route.
fn place(snapshot: &Snapshot, names: &Names, address: IpAddr) -> (Option<String>, bool) {
    let route = match address {
        IpAddr::V4(a) => snapshot
            .route4
            .iter()
            .filter(|(k, _)| {
                covers(&a.octets(), &std::net::Ipv4Addr::from(k.address).octets(), k.prefix_length)
            })
            .max_by_key(|(k, _)| k.prefix_length)
            .map(|(_, r)| *r),
        IpAddr::V6(a) => snapshot
            .route6
            .iter()
            .filter(|(k, _)| {
                covers(&a.octets(), &std::net::Ipv6Addr::from(k.address).octets(), k.prefix_length)
            })
            .max_by_key(|(k, _)| k.prefix_length)
            .map(|(_, r)| *r),
    };
    match route.map(|r| (Kind::from_byte(r.kind), r.target)) {
        Some((Some(Kind::LocalPod | Kind::Host), _)) => (Some(names.node.clone()), true),
        Some((Some(Kind::RemotePod | Kind::RemoteHost), target)) => (names.node_of_hop(target.slot()), false),
        _ => (None, false),
    }
}

fn covers(address: &[u8], prefix: &[u8], length: u32) -> bool {
    let mut left = length;
    address.iter().zip(prefix).all(|(a, p)| {
        let bits = left.min(8);
        left -= bits;
        let mask = u8::MAX.checked_shl(8 - bits).unwrap_or(0);
        a & mask == p & mask
    })
}
