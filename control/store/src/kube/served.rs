//! What the API server serves, and under which path.
//!
//! Owns: discovery, and the choice between Calico's two group forms. Does not: read objects.
//! Invariant: a kind that is served is found under the form the server prefers: `projectcalico.org/v3` where it
//! is, else `crd.projectcalico.org/v1`. That counts too while whoever serves the first, Calico's API server, is down: it may be
//! waiting for us to connect its pod.

use super::connection::{Ask, Connection};
use super::error::ClusterError;
use crate::calico;
use crate::kind::{self, Kind};
use crate::resource::Resource;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A kind as the server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// `v1`, `networking.k8s.io/v1`.
    pub api_version: String,
    /// `NetworkPolicy`.
    pub kind: String,
    /// `networkpolicies`, as the path has it.
    pub plural: String,
    /// Lives in a namespace.
    pub namespaced: bool,
}

impl Api {
    /// The path of its objects; an empty namespace means all of them.
    pub(super) fn collection(&self, namespace: &str) -> String {
        let root = if self.api_version.contains('/') { "/apis" } else { "/api" };
        match namespace {
            namespace if self.namespaced && !namespace.is_empty() => {
                format!("{root}/{}/namespaces/{}/{}", self.api_version, encoded(namespace), self.plural)
            }
            _ => format!("{root}/{}/{}", self.api_version, self.plural),
        }
    }

    /// What an object is most likely called there, and what else it may be called: a policy of the default tier with its tier
    /// or, from somebody who knew of no tiers, without.
    pub(super) fn names(&self, name: &str) -> (String, Option<String>) {
        let plain = name.to_owned();
        let tiered = self.has_tiers().then(|| calico::stored_name(name)).filter(|tiered| *tiered != plain);
        match tiered {
            Some(tiered) if self.stores_policies() => (tiered, Some(plain)),
            other => (plain, other),
        }
    }

    /// The path of an object that is called so there, or of a part of it such as `status`.
    pub(super) fn object(&self, namespace: &str, stored: &str, subresource: Option<&str>) -> String {
        let object = format!("{}/{}", self.collection(namespace), encoded(stored));
        match subresource {
            Some(part) => format!("{object}/{part}"),
            None => object,
        }
    }

    /// These are policies of Calico in the storage form, where they are called otherwise.
    pub(crate) fn stores_policies(&self) -> bool {
        self.api_version == calico::STORAGE && self.has_tiers()
    }

    /// These are policies of Calico.
    pub(crate) fn has_tiers(&self) -> bool {
        calico::is_tiered(kind::group_version(&self.api_version).0, &self.kind)
    }
}

/// What a discovery that has only just been made is good for.
const LATELY: Duration = Duration::from_secs(1);

/// What is known of what is served; clones share it.
#[derive(Clone, Default)]
pub(super) struct Served {
    groups: Arc<Mutex<BTreeMap<String, Found>>>,
    /// When the server said last that it is ready.
    ready: Arc<Mutex<Option<Instant>>>,
    /// Why the preferred form is not used.
    fallback: Arc<Mutex<Option<String>>>,
}

struct Found {
    asked: Instant,
    apis: Vec<Api>,
}

impl Served {
    /// Where a kind is served; what is not known is asked.
    pub async fn find(&self, connection: &Connection, kind: &Kind) -> Result<Api, ClusterError> {
        self.find_since(connection, kind, Instant::now()).await
    }

    /// The same; what was found not to be served a moment ago is not asked again.
    pub async fn find_lately(&self, connection: &Connection, kind: &Kind) -> Result<Api, ClusterError> {
        let now = Instant::now();
        self.find_since(connection, kind, now.checked_sub(LATELY).unwrap_or(now)).await
    }

    /// The same; what was asked after `since` is not asked again.
    pub async fn find_since(
        &self,
        connection: &Connection,
        kind: &Kind,
        since: Instant,
    ) -> Result<Api, ClusterError> {
        let mut unavailable = None;
        for group_version in candidates(kind) {
            match self.find_in(connection, &group_version, kind.kind, since).await {
                Ok(found) => {
                    if unavailable.is_none() && kind.group == kind::CALICO {
                        self.note_fallback(None);
                    }
                    if let Some(api) = found {
                        if let Some((form, error)) = &unavailable {
                            self.note_fallback(Some(format!("{form}: {error}")));
                        }
                        return Ok(api);
                    }
                }
                Err(error) if error.is_unavailable() && prefers(kind, &group_version) => {
                    // One that has only just started does not answer yet for what it serves itself either.
                    self.ready(connection).await?;
                    unavailable = Some((group_version, error));
                }
                Err(error) => return Err(error),
            }
        }
        Err(unavailable.map_or_else(|| not_served(kind.kind, kind.group), |(_, error)| error))
    }

    /// Why Calico's kinds are not read in the form that is preferred.
    pub fn fallback(&self) -> Option<String> {
        self.fallback.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_fallback(&self, why: Option<String>) {
        let mut fallback = self.fallback.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*fallback, &why) {
            (None, Some(why)) => {
                tracing::warn!(why, "Calico's API server is down; its kinds are read in the storage form")
            }
            (Some(_), None) => tracing::info!("Calico's API server answers again"),
            _ => {}
        }
        *fallback = why;
    }

    /// Where an object belongs: kinds we do not know are looked up under what they say themselves.
    pub async fn find_for(&self, connection: &Connection, resource: &Resource) -> Result<Api, ClusterError> {
        if let Some(kind) = resource.kind {
            return self.find(connection, kind).await;
        }
        let api_version = resource.value.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        let found = self.find_in(connection, api_version, &resource.key.kind, Instant::now()).await?;
        found.ok_or_else(|| not_served(&resource.key.kind, &resource.key.group))
    }

    /// What a group and version has is to be asked again.
    pub fn forget_version(&self, group_version: &str) {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).remove(group_version);
    }

    /// Everything is to be asked again.
    pub fn forget(&self) {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits for nothing: asks whether the server is ready, which means that it knows its custom resources.
    /// Gives since when that is known.
    pub async fn ready(&self, connection: &Connection) -> Result<Instant, ClusterError> {
        let lately = *self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = lately.filter(|at| at.elapsed() < LATELY) {
            return Ok(at);
        }
        let asked = Instant::now();
        connection.bytes(&Ask::get("/readyz")).await?;
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
        Ok(asked)
    }

    async fn find_in(
        &self,
        connection: &Connection,
        group_version: &str,
        kind: &str,
        since: Instant,
    ) -> Result<Option<Api>, ClusterError> {
        let of = |apis: &[Api]| apis.iter().find(|api| kind::of_storage(&api.kind) == kind).cloned();
        {
            let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = groups.get(group_version) {
                let api = of(&found.apis);
                if api.is_some() || found.asked >= since {
                    return Ok(api);
                }
            }
        }
        let asked = Instant::now();
        let root = if group_version.contains('/') { "/apis" } else { "/api" };
        let apis = match connection.json(&Ask::get(format!("{root}/{group_version}"))).await {
            Ok(list) => read(group_version, &list),
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Err(error),
        };
        let api = of(&apis);
        let found = Found { asked, apis };
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).insert(group_version.to_owned(), found);
        Ok(api)
    }
}

/// Whether that form comes before another one that has the same objects.
pub(super) fn prefers(kind: &Kind, group_version: &str) -> bool {
    kind.group == kind::CALICO && group_version != calico::STORAGE
}

/// Whether there is another form that comes before this one.
pub(super) fn is_second(kind: &Kind, api: &Api) -> bool {
    kind.group == kind::CALICO && api.api_version == calico::STORAGE
}

fn candidates(kind: &Kind) -> Vec<String> {
    match kind.group {
        "" => kind.versions.iter().map(|version| (*version).to_owned()).collect(),
        group @ kind::CALICO => vec![format!("{group}/v3"), calico::STORAGE.into()],
        group => kind.versions.iter().map(|version| format!("{group}/{version}")).collect(),
    }
}

fn read(group_version: &str, list: &Value) -> Vec<Api> {
    let one = |it: &Value| {
        let plural = it.get("name")?.as_str().filter(|name| !name.contains('/'))?;
        Some(Api {
            api_version: group_version.to_owned(),
            kind: it.get("kind")?.as_str()?.to_owned(),
            plural: plural.to_owned(),
            namespaced: it.get("namespaced").and_then(Value::as_bool).unwrap_or(false),
        })
    };
    list.get("resources").and_then(Value::as_array).into_iter().flatten().filter_map(one).collect()
}

fn not_served(kind: &str, group: &str) -> ClusterError {
    let kind = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
    ClusterError::NotServed { kind }
}

/// A part of a path or query; everything but unreserved characters is escaped.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
