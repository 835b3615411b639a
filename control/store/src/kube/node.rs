//! What the API server is told of this node: that its pods have a network, and its addresses.
//!
//! Owns: the condition `NetworkUnavailable` and the annotations that Calico's users know. Does not: decide when a
//! node is ready.
//! Invariant: what another writer says stays, except that it is told once that the network is there.

use super::backoff::Backoff;
use super::connection::{Ask, Connection};
use super::error::ClusterError;
use super::served::encoded;
use crate::stream::NodeState;
use http::Method;
use ipnet::IpNet;
use serde_json::{Map, Value, json};
use std::time::SystemTime;
use tokio::sync::watch;

/// Who we are to server-side apply.
const MANAGER: &str = "tortie-node";
/// Where an agent writes its node's address of each family, as Calico's does.
pub(super) const ADDRESS_ANNOTATIONS: [&str; 2] =
    ["projectcalico.org/IPv4Address", "projectcalico.org/IPv6Address"];
const CONDITION: &str = "NetworkUnavailable";
const REASON: &str = "TortieIsUp";

/// Writes what is new until nobody has anything to say any more. `appeared` counts how often our Node came to be.
pub(super) async fn keep(
    connection: Connection,
    node: String,
    mut state: watch::Receiver<Option<NodeState>>,
    mut appeared: watch::Receiver<u64>,
) {
    let timing = connection.timing();
    let mut backoff = Backoff::new(timing.first_pause * 5, timing.longest_pause);
    let mut writer = Writer { connection, node, forced: false };
    loop {
        let now = state.borrow_and_update().clone();
        appeared.borrow_and_update();
        let pause = match now {
            None => None,
            Some(now) => match writer.write(&now).await {
                Ok(()) => {
                    backoff.reset();
                    None
                }
                Err(error) => {
                    tracing::debug!(%error, "this node's conditions and annotations");
                    Some(backoff.next())
                }
            },
        };
        let wait = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => {}
            changed = state.changed() => if changed.is_err() { return },
            changed = appeared.changed() => if changed.is_err() { return },
        }
    }
}

struct Writer {
    connection: Connection,
    node: String,
    /// The condition has been taken from another writer once; if that one says it again, it stays.
    forced: bool,
}

impl Writer {
    async fn write(&mut self, state: &NodeState) -> Result<(), ClusterError> {
        let path = format!("/api/v1/nodes/{}", encoded(&self.node));
        let found = match self.connection.json(&Ask::get(&path)).await {
            Ok(found) => found,
            // There is none yet; we are told when it comes.
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        if state.ready && !has_network(&found) {
            self.clear(&path).await?;
        }
        let annotations = annotations(&state.addresses);
        let there =
            |(key, value): (&String, &Value)| found["metadata"]["annotations"].get(key) == Some(value);
        if !annotations.iter().all(there) {
            // With its uid nothing is made when it has gone meanwhile.
            let uid = &found["metadata"]["uid"];
            let metadata = json!({"name": self.node, "uid": uid, "annotations": annotations});
            match self.apply(&path, json!({"metadata": metadata}), false).await {
                Err(error) if error.is_conflict() => {
                    tracing::info!(%error, "this node's addresses are another's to write; they stay as they are");
                }
                other => other?,
            }
        }
        Ok(())
    }

    async fn clear(&mut self, path: &str) -> Result<(), ClusterError> {
        let now = k8s_openapi::jiff::Timestamp::try_from(SystemTime::now()).ok();
        let now = now.map(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time);
        let condition = json!({
            "type": CONDITION, "status": "False", "reason": REASON, "message": "Tortie is running on this node",
            "lastTransitionTime": now, "lastHeartbeatTime": now,
        });
        let body = json!({"metadata": {"name": self.node}, "status": {"conditions": [condition]}});
        let path = format!("{path}/status");
        match self.apply(&path, body.clone(), false).await {
            Err(error) if error.is_conflict() && !std::mem::replace(&mut self.forced, true) => {
                self.apply(&path, body, true).await
            }
            Err(error) if error.is_conflict() => {
                tracing::warn!(%error, "another writer says that this node has no network; it stays so");
                Ok(())
            }
            other => other,
        }
    }

    async fn apply(&self, path: &str, mut body: Value, force: bool) -> Result<(), ClusterError> {
        body["apiVersion"] = "v1".into();
        body["kind"] = "Node".into();
        let path = format!("{path}?fieldManager={MANAGER}&force={force}");
        let ask = Ask::with_body(Method::PATCH, path, "application/apply-patch+yaml", &body);
        self.connection.json(&ask).await.map(drop)
    }
}

/// Whether the Node says that its network is there.
fn has_network(node: &Value) -> bool {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|it| it["type"] == CONDITION && it["status"] == "False")
}

fn annotations(addresses: &[IpNet]) -> Map<String, Value> {
    let mut all = Map::new();
    for (key, v6) in ADDRESS_ANNOTATIONS.into_iter().zip([false, true]) {
        let first = addresses.iter().find(|net| net.addr().is_ipv6() == v6);
        all.extend(first.map(|net| (key.to_owned(), net.to_string().into())));
    }
    all
}
