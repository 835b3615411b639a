//! What load balancers ask: kube-proxy's page (`/healthz`, `/livez`) and each Service's `healthCheckNodePort`.
//!
//! Owns: the answers, field by field kube-proxy's. Does not: listen.
//! Invariant: answered from what the main loop has left, also while it hangs; a Service counts the ready endpoints of
//! this node and of the family that was asked.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use serde::Serialize;
use tortie_calc::HealthCheck;
use tortie_model::ServiceId;

use super::vitals::Vitals;

/// Services' changes that are not in force for longer make the proxy ill, as in kube-proxy (two sync periods).
const PATIENCE: Duration = Duration::from_secs(60);

/// The Services that are asked about.
pub type Checks = BTreeMap<ServiceId, HealthCheck>;

/// Status and body.
pub type Answer = (StatusCode, String);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Family {
    last_updated: String,
    healthy: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    status: BTreeMap<&'static str, Family>,
}

/// Whether Services are served as desired: the main loop turns, and no change waits for too long.
pub fn is_healthy(vitals: &Vitals) -> bool {
    let waiting = vitals.services_in_force().elapsed().unwrap_or_default();
    vitals.idle() <= vitals.watchdog() && (waiting <= PATIENCE || !vitals.services_wait())
}

/// `/healthz`: should a load balancer send clients to this node? Not when the node is about to go.
pub fn healthz(vitals: &Vitals) -> Answer {
    page(vitals, Some(vitals.is_eligible()))
}

/// `/livez`: does the proxy work?
pub fn livez(vitals: &Vitals) -> Answer {
    page(vitals, None)
}

fn page(vitals: &Vitals, node_eligible: Option<bool>) -> Answer {
    let (healthy, now) = (is_healthy(vitals), SystemTime::now());
    let well = healthy && node_eligible != Some(false);
    let in_force = tortie_lab::rfc3339(vitals.services_in_force());
    let current_time = tortie_lab::rfc3339(now);
    let family = || Family { last_updated: in_force.clone(), healthy };
    let page = Page {
        // As in kube-proxy: of late, when all is well.
        last_updated: if well { current_time.clone() } else { in_force.clone() },
        current_time,
        node_eligible,
        healthy,
        status: [("IPv4", family()), ("IPv6", family())].into(),
    };
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, serde_json::to_string(&page).unwrap_or_default())
}

/// The page of one Service in one family: ready endpoints on this node, and whether to send clients here. `None`: the
/// Service has none any more.
pub fn of_service(vitals: &Vitals, checks: &Checks, service: &ServiceId, v6: bool) -> Option<(Answer, u32)> {
    let check = checks.get(service)?;
    let endpoints = (if v6 { check.v6 } else { check.v4 })?;
    let healthy = is_healthy(vitals);
    let status = if endpoints > 0 && healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let (namespace, name) = (service.namespace.as_str(), &service.name);
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{namespace}\",\n\t\t\"name\": \"{name}\"\n\t}},\n\t\
         \"localEndpoints\": {endpoints},\n\t\"serviceProxyHealthy\": {healthy}\n}}"
    );
    Some(((status, body), endpoints))
}
