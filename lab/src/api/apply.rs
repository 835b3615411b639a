//! `lab apply` and `lab delete` on an API server.
//!
//! Owns: the order of objects, and waiting until what was asked for has happened.
//! Does not: attach pods; the kubelet does, when it hears of them.
//! Invariant: server-side apply, so that fields of others stay; an object that the server refuses is named.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tortie_store::kind;
use tortie_store::kube::{ClusterError, Method, Patch};
use tortie_store::resource::Resource;

use super::{explain, resource};
use crate::apply::{Applied, Change};
use crate::error::{Result, bad, no, silent};
use crate::lab::Lab;
use crate::object::{Key, Object};

/// Attaching a pod takes a fraction of a second; a busy machine may need more.
const PATIENCE: Duration = Duration::from_secs(60);

/// A kind has been made when its objects are served.
const KIND_PATIENCE: Duration = Duration::from_secs(10);

impl Lab {
    /// Applies objects to the API server, and returns when the pods among them run.
    pub(crate) fn apply_to_cluster(&self, mut objects: Vec<Object>) -> Result<Applied> {
        self.ensure_kubelet()?;
        self.check(&objects)?;
        let cluster = self.cluster()?;
        objects.sort_by_key(rank);
        self.make_namespaces(&objects)?;
        let mut applied = Applied::default();
        for object in &objects {
            let resource = resource(object)?;
            let before = match resource.kind {
                Some(kind) => cluster.get(kind, &resource.key.namespace, &resource.key.name).ok(),
                None => None,
            };
            self.note(object.key());
            let after = self.apply_one(&resource).map_err(|error| {
                let key = object.key();
                explain(error).context(format!("{key}"))
            })?;
            applied.objects.push((object.key(), change(before.as_ref(), &after)));
        }
        self.wait_for_pods(&objects, &mut applied.complaints)?;
        Ok(applied)
    }

    fn check(&self, objects: &[Object]) -> Result<()> {
        let mut seen = BTreeSet::new();
        for object in objects {
            if !seen.insert(object.key()) {
                return Err(bad!("{} appears twice", object.key()));
            }
            if let (Some(name), "Pod") = (object.text("/spec/nodeName"), object.kind()) {
                let known = self.state.plan.node(name);
                known.map_err(|error| bad!("{}: spec.nodeName: {error}", object.key()))?;
            }
        }
        Ok(())
    }

    /// A namespace that nobody declared exists once something lives in it.
    fn make_namespaces(&self, objects: &[Object]) -> Result<()> {
        let declared: BTreeSet<&str> =
            objects.iter().filter(|object| object.kind() == "Namespace").map(Object::name).collect();
        let used: BTreeSet<&str> = objects.iter().filter_map(Object::namespace).collect();
        for name in used.difference(&declared).filter(|name| **name != "default") {
            let namespace = Object::make("v1", "Namespace", None, name, json!({}));
            match self.cluster()?.create(&resource(&namespace)?) {
                Err(error) if !error.is_already_exists() => return Err(explain(error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn apply_one(&self, resource: &Resource) -> std::result::Result<Resource, ClusterError> {
        let cluster = self.cluster().map_err(|error| ClusterError::Malformed {
            what: "the laboratory".into(),
            cause: error.to_string(),
        })?;
        let deadline = Instant::now() + KIND_PATIENCE;
        let after = loop {
            match cluster.apply(resource, None, true) {
                // Its CustomResourceDefinition may have been applied a moment ago.
                Err(ClusterError::NotServed { .. }) if self.is_defined(&resource.key) => {
                    if Instant::now() > deadline {
                        break cluster.apply(resource, None, true);
                    }
                    thread::sleep(Duration::from_millis(50));
                }
                other => break other,
            }
        }?;
        match (resource.kind, resource.value.get("status")) {
            (Some(kind), Some(status)) => {
                let (namespace, name) = (&resource.key.namespace, &resource.key.name);
                let patch = Patch::Merge(json!({"status": status}));
                cluster.patch(kind, namespace, name, Some("status"), &patch)
            }
            _ => Ok(after),
        }
    }

    /// Whether the API server has a definition for a kind that it does not serve yet.
    fn is_defined(&self, key: &tortie_store::resource::Key) -> bool {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let list = self.cluster().ok().and_then(|cluster| cluster.raw(&Method::GET, path, None).ok());
        let items = list.as_ref().and_then(|list| list.get("items")).and_then(Value::as_array);
        items
            .into_iter()
            .flatten()
            .any(|crd| crd.pointer("/spec/names/kind") == Some(&Value::String(key.kind.clone())))
    }

    /// Returns when these pods run; what keeps them from it becomes a complaint.
    fn wait_for_pods(&self, objects: &[Object], complaints: &mut Vec<String>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut waiting: Vec<Key> = objects.iter().filter(|o| o.kind() == "Pod").map(Object::key).collect();
        while !waiting.is_empty() {
            let world = self.world()?;
            let mut errors = Vec::new();
            waiting.retain(|key| match world.get(key) {
                Some(pod) if pod.text("/status/podIP").is_some() => false,
                Some(pod) => match trouble(pod) {
                    Some(text) => {
                        errors.push(text.to_owned());
                        true
                    }
                    None => true,
                },
                // Deleted by somebody else meanwhile.
                None => false,
            });
            if !errors.is_empty() {
                return Err(no!("{}", errors.join("\n")));
            }
            if Instant::now() > deadline {
                complaints.extend(waiting.iter().map(|key| format!("{key}: does not run yet")));
                return Ok(());
            }
            if !waiting.is_empty() {
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// Deletes objects, and returns when they are gone.
    pub(crate) fn delete_from_cluster(&self, keys: &[Key], grace: Option<Duration>) -> Result<Applied> {
        self.ensure_kubelet()?;
        let cluster = self.cluster()?;
        let grace_seconds = grace.map(|grace| u32::try_from(grace.as_secs()).unwrap_or(u32::MAX));
        let mut applied = Applied::default();
        let mut missing = Vec::new();
        let mut leaving = Vec::new();
        for key in keys {
            let path = self.path_of(key)?;
            let found = match cluster.raw(&Method::GET, &path, None) {
                Ok(found) => found,
                Err(error) if error.is_not_found() => {
                    missing.push(key.to_string());
                    continue;
                }
                Err(error) => return Err(explain(error)),
            };
            let mut body = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
            if let (Some(seconds), Some(map)) = (grace_seconds, body.as_object_mut())
                && key.kind == "Pod"
            {
                map.insert("gracePeriodSeconds".into(), seconds.into());
            }
            match cluster.raw(&Method::DELETE, &path, Some(("application/json", &body))) {
                Err(error) if !error.is_not_found() => return Err(explain(error)),
                _ => {}
            }
            leaving.push((key.clone(), path, found.pointer("/metadata/uid").cloned()));
            applied.objects.push((key.clone(), Change::Deleted));
        }
        self.wait_until_gone(leaving)?;
        if missing.is_empty() { Ok(applied) } else { Err(no!("not found: {}", missing.join(", "))) }
    }

    fn wait_until_gone(&self, mut leaving: Vec<(Key, String, Option<Value>)>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !leaving.is_empty() {
            let cluster = self.cluster()?;
            leaving.retain(|(_, path, uid)| match cluster.raw(&Method::GET, path, None) {
                Ok(found) => found.pointer("/metadata/uid") == uid.as_ref(),
                Err(error) => !error.is_not_found(),
            });
            if Instant::now() > deadline {
                let names: Vec<String> = leaving.iter().map(|(key, ..)| key.to_string()).collect();
                return Err(silent!("{} does not go away", names.join(", ")));
            }
            if !leaving.is_empty() {
                thread::sleep(Duration::from_millis(20));
            }
        }
        // A pod's record goes with its network, which the kubelet takes away before the pod.
        Ok(())
    }

    /// The path of an object on the API server. Kinds that the store does not know are looked for in `v1` of their group.
    fn path_of(&self, key: &Key) -> Result<String> {
        let version = match kind::of(&key.group, &key.kind) {
            Some(kind) => kind.api_version(),
            None if key.group.is_empty() => "v1".into(),
            None => format!("{}/v1", key.group),
        };
        let object = Object::make(&version, &key.kind, key.namespace.as_deref(), &key.name, json!({}));
        self.cluster()?.path_of(&resource(&object)?).map_err(explain)
    }
}

/// Why a pod is not attached, if the kubelet has said so.
fn trouble(pod: &Object) -> Option<&str> {
    let conditions = pod.list("/status/conditions").iter();
    let mut failed = conditions.filter(|condition| condition.get("reason") == Some(&json!("NetworkFailed")));
    failed.find_map(|condition| condition.get("message")?.as_str())
}

fn change(before: Option<&Resource>, after: &Resource) -> Change {
    let version = |of: &Resource| of.value.pointer("/metadata/resourceVersion").cloned();
    match before {
        None => Change::Created,
        Some(before) if version(before) == version(after) => Change::Unchanged,
        Some(_) => Change::Configured,
    }
}

/// What others live in comes first, whatever the order in the file; and who asks for a port of the nodes by its number
/// before those whom the API server gives one.
fn rank(object: &Object) -> u8 {
    let numbered = || {
        object.at("/spec/healthCheckNodePort").is_some()
            || object.list("/spec/ports").iter().any(|port| port.get("nodePort").is_some())
    };
    match object.kind() {
        "CustomResourceDefinition" => 0,
        "Namespace" => 1,
        "Service" if numbered() => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::parse;

    #[test]
    fn a_port_that_is_asked_for_is_taken_before_ports_are_given_out() {
        let service = |name: &str, spec: &str| {
            format!(
                "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: a}}\nspec: {{{spec}}}\n"
            )
        };
        let text = [
            service("given", "type: NodePort, ports: [{port: 80}]"),
            service("asked", "type: NodePort, ports: [{port: 80}, {port: 81, nodePort: 30000}]"),
            service("health", "type: LoadBalancer, healthCheckNodePort: 30001, ports: [{port: 80}]"),
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n".to_owned(),
        ];
        let mut objects = parse(&text.concat(), "test").expect("objects");
        objects.sort_by_key(rank);
        let names: Vec<&str> = objects.iter().map(Object::name).collect();
        assert_eq!(names, ["a", "asked", "health", "given"]);
    }
}
