//! What the agent knows of endpoints, joined with what the kernel uses.
//!
//! Owns: why an endpoint is not in use. Does not: ask the agent.
//! Invariant: whether an endpoint is in use is the kernel's word alone.

use super::{BackendRow, Conditions, Row};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// One endpoint of one Service port, as the agent knows it from EndpointSlices.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// Namespace.
    pub namespace: String,
    /// Name of the Service.
    pub name: String,
    /// Name of its port; empty for the only one.
    pub service_port: String,
    /// `TCP` …
    pub protocol: String,
    /// Address.
    pub address: IpAddr,
    /// Port; 0: its slice has none that could be meant.
    pub port: u16,
    /// Its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Takes new connections.
    pub ready: bool,
    /// Can still serve.
    pub serving: bool,
    /// Is being shut down.
    pub terminating: bool,
    /// On this node.
    pub local: bool,
    /// It has an address that no back end may have.
    pub refused: bool,
    /// Topology hints lead this node's clients to other endpoints.
    #[serde(default)]
    pub elsewhere: bool,
    /// No slice of its family has a port of the Service port's name and protocol.
    #[serde(default)]
    pub misnamed: bool,
}

/// A Service, as the agent knows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownService {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Its type where it has front ends here.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub service_type: Option<String>,
    /// It is rejected: what of it is in force, if anything, is an older version.
    #[serde(default)]
    pub rejected: bool,
}

impl KnownService {
    /// Whether it is NAMESPACE/NAME.
    pub fn is_called(&self, name: &str) -> bool {
        name.split_once('/') == Some((&self.namespace, &self.name))
    }

    /// Why it has no front end in the kernel.
    pub fn why_absent(&self) -> &'static str {
        match self {
            Self { rejected: true, .. } => "it is rejected; see `tortie status`",
            Self { service_type: None, .. } => {
                "it has no front end by design: it is headless, a name of another host, another proxy's, or has no address yet"
            }
            Self { .. } => "not in the kernel yet; see `tortie status`",
        }
    }
}

/// Gives rows the type that the kernel does not know.
pub fn tell_types(rows: &mut [Row], known: &[KnownService]) {
    for row in rows.iter_mut().filter(|row| row.service_type != "HostPort") {
        let is_its = |it: &&KnownService| it.namespace == row.namespace && it.name == row.name;
        if known.iter().find(is_its).is_some_and(|it| it.service_type.as_deref() == Some("LoadBalancer")) {
            row.service_type = "LoadBalancer";
        }
    }
}

/// Gives endpoints in use their conditions, and adds those that are not in use.
pub fn join(rows: &mut [Row], known: &[Known]) {
    for row in rows {
        let families: Vec<bool> = row.frontends.iter().map(|f| f.address.is_ipv6()).collect();
        let of_row: Vec<&Known> = known.iter().filter(|it| is_of(row, it)).collect();
        for it in of_row {
            add(row, it, families.contains(&it.address.is_ipv6()));
        }
        row.endpoints.sort();
    }
}

/// A port without a name is shown by its number, and is the only one.
fn is_of(row: &Row, known: &Known) -> bool {
    let port = known.service_port == row.port || known.service_port.is_empty();
    known.namespace == row.namespace && known.name == row.name && known.protocol == row.protocol && port
}

fn add(row: &mut Row, it: &Known, of_family: bool) {
    let conditions = Conditions { ready: it.ready, serving: it.serving, terminating: it.terminating };
    let reason = reason(it, of_family, row.internal_traffic_policy == "Local");
    match row.endpoints.iter_mut().find(|e| e.address == it.address && e.port == it.port) {
        // Of two slices that name one endpoint, the better word counts.
        Some(endpoint) if endpoint.conditions.is_none_or(|known| !known.ready && it.ready) => {
            endpoint.conditions = Some(conditions);
            endpoint.node = endpoint.node.take().or_else(|| it.node.clone());
            endpoint.reason = (!endpoint.used).then_some(reason);
        }
        Some(_) => {}
        None => row.endpoints.push(BackendRow {
            address: it.address,
            port: it.port,
            node: it.node.clone(),
            local: it.local,
            used: false,
            conditions: Some(conditions),
            reason: Some(reason),
        }),
    }
}

/// A reason.
pub(super) const MISNAMED: &str = "its EndpointSlice has no port of this name and protocol";

const fn reason(it: &Known, of_family: bool, internal_local: bool) -> &'static str {
    match it {
        Known { refused: true, .. } => "no back end may have this address",
        Known { misnamed: true, .. } => MISNAMED,
        _ if !of_family => "the Service has no address of this family",
        Known { ready: true, elsewhere: true, .. } => {
            "the hints (trafficDistribution) prefer another node or zone"
        }
        Known { ready: true, local: false, .. } if internal_local => {
            "internalTrafficPolicy keeps clients on their own node"
        }
        Known { ready: true, .. } => "not in the kernel yet",
        Known { serving: true, terminating: true, .. } => "terminating, and others are ready",
        Known { terminating: true, .. } => "terminating",
        _ => "not ready",
    }
}
