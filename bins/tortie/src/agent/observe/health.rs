//! `/liveness` and `/readiness`.
//!
//! Invariant: answered from memory, the kernel and the agent's own socket; never from the store.

use std::time::Duration;

use hyper::StatusCode;
use serde::Serialize;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::component::{Component, Outside, components};
use super::vitals::Vitals;

/// A socket that somebody listens on takes a connection at once.
const SOCKET_PATIENCE: Duration = Duration::from_secs(1);

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Would a restart help?
    Liveness,
    /// Is it doing what it was told?
    Readiness,
}

/// The answer's body.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    live: bool,
    ready: bool,
    node: &'a str,
    version: &'static str,
    uptime_seconds: u64,
    components: &'a [Component],
}

/// Looks at the agent.
pub async fn look(vitals: &Vitals) -> Vec<Component> {
    let standing = vitals.store();
    let outside = Outside {
        idle: vitals.idle(),
        watchdog: vitals.watchdog(),
        socket: socket(vitals).await,
        store_trouble: standing.as_ref().and_then(|standing| standing.trouble.clone()),
        never_listed: standing.map(|standing| standing.waiting_for).unwrap_or_default(),
        sweeps: vitals.sweeps().map(|report| {
            let since = report.ended.unwrap_or(vitals.started);
            (report.sweeps, since.elapsed())
        }),
        sweep_every: vitals.sweep_every,
    };
    components(&vitals.facts(), &outside)
}

async fn socket(vitals: &Vitals) -> Result<(), String> {
    let path = &vitals.socket;
    match timeout(SOCKET_PATIENCE, UnixStream::connect(path)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("{}: {error}; CNI ADD cannot reach the agent", path.display())),
        Err(_) => Err(format!("{}: takes no connection", path.display())),
    }
}

/// 200 or 503, with every component.
pub async fn answer(vitals: &Vitals, probe: Probe) -> (StatusCode, String) {
    let components = look(vitals).await;
    let live = components.iter().all(|component| component.live);
    let ready = components.iter().all(|component| component.ready);
    let well = match probe {
        Probe::Liveness => live,
        Probe::Readiness => ready,
    };
    let report = Report {
        live,
        ready,
        node: &vitals.node,
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: vitals.started.elapsed().as_secs(),
        components: &components,
    };
    let body = serde_json::to_string_pretty(&report).unwrap_or_default();
    (if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body + "\n")
}
