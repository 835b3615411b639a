//! The API server for programs that wait for its answers: verbs, the laboratory, tests.
//!
//! Owns: [`Cluster`], a blocking front with a thread of its own. Does not: keep objects or judge them.
//! Invariant: may be called from any thread, inside a runtime or outside; a call ends after half a minute at most.

use super::access::Access;
use super::connection::{Ask, Connection, path_of};
use super::error::ClusterError;
use super::execute::{self, Command, Ran};
use super::follow::{Follower, Orders, Subject};
use super::served::{Api, Served, encoded};
use super::watching::Watch;
use crate::calico;
use crate::kind::Kind;
use crate::resource::{Key, Resource};
use crate::stream::Standing;
use http::Method;
use kube::Client;
use serde_json::{Value, json};
use std::sync::{Arc, mpsc};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

/// Who we are to server-side apply, unless told otherwise.
pub const FIELD_MANAGER: &str = "tortie";

/// A cluster, over its API server. Dropping it ends its thread and its watches.
pub struct Cluster {
    runtime: Option<Runtime>,
    connection: Connection,
    served: Served,
    upgrading: Arc<OnceCell<Client>>,
    access: Access,
    manager: String,
    dry_run: bool,
}

/// Which objects of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Only in this namespace; empty: everywhere.
    pub namespace: String,
    /// As kubectl's `-l`: `app=web,tier!=db`.
    pub labels: String,
    /// As kubectl's `--field-selector`: `metadata.name=x`.
    pub fields: String,
}

/// A change to parts of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// RFC 7386.
    Merge(Value),
    /// RFC 6902.
    Json(Value),
    /// Kubernetes' own: lists are merged by their keys. Not for custom resources.
    Strategic(Value),
}

/// How to delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delete {
    /// Time to end; `None`: as the object says; 0: at once.
    pub grace_seconds: Option<u32>,
    /// `Background`, `Foreground`, `Orphan`; `None`: as the kind does.
    pub propagation: Option<&'static str>,
}

impl Cluster {
    /// With that configuration file, or by the usual rules. Nothing is asked yet.
    pub fn connect(access: Access) -> Result<Self, ClusterError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("cluster")
            .enable_all()
            .build()
            .map_err(|error| ClusterError::Configuration {
                source_of: "a thread for the API server".into(),
                cause: error.to_string(),
            })?;
        let connection = Connection::for_questions(access.clone());
        let (manager, served) = (FIELD_MANAGER.to_owned(), Served::default());
        Ok(Self {
            runtime: Some(runtime),
            connection,
            served,
            upgrading: Arc::default(),
            access,
            manager,
            dry_run: false,
        })
    }

    /// The same, under another name for server-side apply and `managedFields`.
    #[must_use]
    pub fn with_field_manager(mut self, manager: &str) -> Self {
        manager.clone_into(&mut self.manager);
        self
    }

    /// Nothing is written from now on: the server says what would become of it.
    #[must_use]
    pub fn with_dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Who we are to server-side apply.
    pub fn field_manager(&self) -> &str {
        &self.manager
    }

    /// The namespace that the configuration names; `default` when it names none.
    pub fn namespace(&self) -> Result<String, ClusterError> {
        let access = self.access.clone();
        self.wait(async move { Ok(access.base().await?.default_namespace) })
    }

    /// `v1.36.3`, as the server says it.
    pub fn version(&self) -> Result<String, ClusterError> {
        let answer = self.raw(&Method::GET, "/version", None)?;
        let version = answer.get("gitVersion").and_then(Value::as_str);
        version.map(str::to_owned).ok_or_else(|| ClusterError::Malformed {
            what: "/version".into(),
            cause: "there is no gitVersion in it".into(),
        })
    }

    /// How the connection stands; `None`: nothing has been asked yet.
    pub fn standing(&self) -> Option<Standing> {
        self.connection.standing()
    }

    /// How the server serves a kind: `apiVersion`, path, whether it has namespaces.
    pub fn api(&self, kind: &'static Kind) -> Result<Api, ClusterError> {
        let (connection, served) = self.ends();
        self.wait(async move { served.find(&connection, kind).await })
    }

    /// All objects that are meant, page by page, in the order of the server.
    pub fn list(&self, kind: &'static Kind, query: &Query) -> Result<Vec<Resource>, ClusterError> {
        let api = self.api(kind)?;
        let mut path = format!("{}?limit=500", api.collection(&query.namespace));
        for (name, value) in [("labelSelector", &query.labels), ("fieldSelector", &query.fields)] {
            if !value.is_empty() {
                path.push_str(&format!("&{name}={}", encoded(value)));
            }
        }
        let (mut all, mut next) = (Vec::new(), String::new());
        loop {
            let mut list = self.raw(&Method::GET, &format!("{path}{next}"), None)?;
            if let Some(Value::Array(items)) = list.get_mut("items").map(Value::take) {
                for mut item in items {
                    if let Some(map) = item.as_object_mut() {
                        map.entry("apiVersion").or_insert_with(|| api.api_version.clone().into());
                        map.entry("kind").or_insert_with(|| api.kind.clone().into());
                    }
                    all.push(resource(item, &path)?);
                }
            }
            match list.pointer("/metadata/continue").and_then(Value::as_str) {
                Some(token) if !token.is_empty() => next = format!("&continue={}", encoded(token)),
                _ => return Ok(all),
            }
        }
    }

    /// One object; an error with [`ClusterError::is_not_found`] when there is none.
    pub fn get(&self, kind: &'static Kind, namespace: &str, name: &str) -> Result<Resource, ClusterError> {
        let api = self.api(kind)?;
        let (stored, value) = self.found(&api, namespace, name, None)?;
        resource(value, &api.object(namespace, &stored, None))
    }

    /// An object as it is there, and what it is called there.
    fn found(
        &self,
        api: &Api,
        namespace: &str,
        name: &str,
        subresource: Option<&str>,
    ) -> Result<(String, Value), ClusterError> {
        under_either(api, name, |stored| {
            let value = self.raw(&Method::GET, &api.object(namespace, stored, subresource), None)?;
            Ok((stored.to_owned(), value))
        })
    }

    /// Makes a new object; as the server has it then.
    pub fn create(&self, object: &Resource) -> Result<Resource, ClusterError> {
        let api = self.api_of(object)?;
        let path =
            format!("{}?fieldManager={}", api.collection(&object.key.namespace), encoded(&self.manager));
        self.write(Method::POST, path, JSON, &with_api(object, &api, None))
    }

    /// Server-side apply: the fields given become ours, others stay. `force` takes fields from other managers;
    /// without it that is a conflict. `subresource` is such as `status`.
    pub fn apply(
        &self,
        object: &Resource,
        subresource: Option<&str>,
        force: bool,
    ) -> Result<Resource, ClusterError> {
        let api = self.api_of(object)?;
        let Key { namespace, name, .. } = &object.key;
        let found = match api.has_tiers() {
            true => self.found(&api, namespace, name, subresource).ok(),
            false => None,
        };
        let (stored, before) = found.unzip();
        let stored = stored.unwrap_or_else(|| api.names(name).0);
        let object_path = api.object(namespace, &stored, subresource);
        let path = format!("{object_path}?fieldManager={}&force={force}", encoded(&self.manager));
        let body = called(&stored, with_api(object, &api, before.as_ref()));
        self.write(Method::PATCH, path, "application/apply-patch+yaml", &body)
    }

    /// Writes the whole object; with a `resourceVersion` in it only if it is still that version.
    pub fn replace(&self, object: &Resource, subresource: Option<&str>) -> Result<Resource, ClusterError> {
        let api = self.api_of(object)?;
        let body = with_api(object, &api, None);
        under_either(&api, &object.key.name, |stored| {
            let object_path = api.object(&object.key.namespace, stored, subresource);
            let path = format!("{object_path}?fieldManager={}", encoded(&self.manager));
            self.write(Method::PUT, path, JSON, &called(stored, body.clone()))
        })
    }

    /// Changes parts of an object, or of a part of it such as `status`.
    pub fn patch(
        &self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
        subresource: Option<&str>,
        patch: &Patch,
    ) -> Result<Resource, ClusterError> {
        let api = self.api(kind)?;
        let (content, body, strict) = match patch {
            Patch::Merge(body) => ("application/merge-patch+json", body, ""),
            Patch::Json(body) => ("application/json-patch+json", body, ""),
            // What comes of it, the server alone knows; so it has to look for fields that there are not.
            Patch::Strategic(body) => {
                ("application/strategic-merge-patch+json", body, "&fieldValidation=Strict")
            }
        };
        under_either(&api, name, |stored| {
            let object_path = api.object(namespace, stored, subresource);
            let path = format!("{object_path}?fieldManager={}{strict}", encoded(&self.manager));
            self.write(Method::PATCH, path, content, body)
        })
    }

    /// Deletes an object, or asks it to end; an object with a grace period is there until it has ended.
    pub fn delete(
        &self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
        how: &Delete,
    ) -> Result<(), ClusterError> {
        let api = self.api(kind)?;
        let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        if let Some(map) = options.as_object_mut() {
            map.extend(how.grace_seconds.map(|seconds| ("gracePeriodSeconds".into(), seconds.into())));
            map.extend(self.dry_run.then(|| ("dryRun".into(), json!(["All"]))));
            map.extend(how.propagation.map(|policy| ("propagationPolicy".into(), policy.into())));
        }
        under_either(&api, name, |stored| {
            let path = api.object(namespace, stored, None);
            self.raw(&Method::DELETE, &path, Some((JSON, &options))).map(drop)
        })
    }

    /// The path of an object, also of a kind that this version does not know.
    pub fn path_of(&self, object: &Resource) -> Result<String, ClusterError> {
        let api = self.api_of(object)?;
        let (stored, _) = api.names(&object.key.name);
        Ok(api.object(&object.key.namespace, &stored, None))
    }

    /// Any path, such as `/version`, `/readyz` answers no JSON and is [`Cluster::text`].
    pub fn raw(
        &self,
        method: &Method,
        path: &str,
        body: Option<(&'static str, &Value)>,
    ) -> Result<Value, ClusterError> {
        let ask = match body {
            Some((content, body)) => Ask::with_body(method.clone(), path.to_owned(), content, body),
            None => Ask { method: method.clone(), ..Ask::get(path) },
        };
        let (connection, _) = self.ends();
        self.wait(async move { connection.json(&ask).await })
    }

    /// A path whose answer is text, such as `/readyz`.
    pub fn text(&self, path: &str) -> Result<String, ClusterError> {
        let (connection, _) = self.ends();
        let ask = Ask::get(path);
        let bytes = self.wait(async move { connection.bytes(&ask).await })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Runs a command in a pod, as `kubectl exec` does, and waits for its end.
    pub fn execute(&self, command: Command) -> Result<Ran, ClusterError> {
        let (connection, upgrading) = (self.connection.clone(), Arc::clone(&self.upgrading));
        self.wait(async move {
            let within = command.within;
            let ran = async {
                let client = upgrading.get_or_try_init(|| connection.upgrading()).await?;
                execute::run(client.clone(), command).await
            };
            tokio::time::timeout(within, ran).await.unwrap_or_else(|_| Err(execute::late(within)))
        })
    }

    /// Everything of these kinds, and then what changes.
    pub fn watch(&self, kinds: &[&'static Kind]) -> Result<Watch, ClusterError> {
        self.watch_subjects(kinds.iter().map(|kind| Subject::all(kind)).collect())
    }

    /// The same for parts of kinds.
    pub fn watch_subjects(&self, subjects: Vec<Subject>) -> Result<Watch, ClusterError> {
        let runtime = self.runtime.as_ref().ok_or(ClusterError::Closed)?;
        let (changes, watch) = Watch::pair();
        for subject in subjects {
            // Few at a time: whoever listens slowly slows the server down, not our memory.
            let (say, said) = tokio::sync::mpsc::channel(64);
            let kind = subject.kind;
            let (connection, served) = self.ends();
            let orders = Arc::new(Orders::default());
            let follower = Follower {
                connection,
                served,
                subject,
                orders,
                identity: None,
                trimmed: false,
                number: 0,
                say,
            };
            runtime.spawn(follower.run());
            runtime.spawn(super::watching::relay(kind, said, changes.clone()));
        }
        Ok(watch)
    }

    fn api_of(&self, object: &Resource) -> Result<Api, ClusterError> {
        let (connection, served) = self.ends();
        let object = object.clone();
        self.wait(async move { served.find_for(&connection, &object).await })
    }

    fn write(
        &self,
        method: Method,
        path: String,
        content: &'static str,
        body: &Value,
    ) -> Result<Resource, ClusterError> {
        let dry = if self.dry_run { "&dryRun=All" } else { "" };
        let answer = self.raw(&method, &format!("{path}{dry}"), Some((content, body)))?;
        resource(answer, &path)
    }

    fn ends(&self) -> (Connection, Served) {
        (self.connection.clone(), self.served.clone())
    }

    /// Runs it on our thread, so that a caller inside a runtime of its own may wait as well.
    fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ClusterError>> + Send + 'static,
    ) -> Result<T, ClusterError> {
        let runtime = self.runtime.as_ref().ok_or(ClusterError::Closed)?;
        let (reply, answer) = mpsc::sync_channel(1);
        runtime.spawn(async move {
            // Whoever asked may have gone away.
            let _ = reply.send(work.await);
        });
        answer.recv().map_err(|_| ClusterError::Closed)?
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

const JSON: &str = "application/json";

/// Does something to an object under the name that it has there. `Err`: what was said of the likeliest one.
fn under_either<T>(
    api: &Api,
    name: &str,
    act: impl Fn(&str) -> Result<T, ClusterError>,
) -> Result<T, ClusterError> {
    let (likeliest, other) = api.names(name);
    let is_missing =
        |result: &Result<T, ClusterError>| result.as_ref().is_err_and(ClusterError::is_not_found);
    let first = act(&likeliest);
    let second = other.filter(|_| is_missing(&first)).map(|stored| act(&stored));
    second.filter(|it| !is_missing(it)).unwrap_or(first)
}

/// The object under the name that it has there.
fn called(stored: &str, mut value: Value) -> Value {
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("name".into(), stored.into());
    }
    value
}

/// An object of Calico goes to the server in the group form that it serves, under the name it has there.
fn with_api(object: &Resource, api: &Api, before: Option<&Value>) -> Value {
    let mut value = object.value.clone();
    match api.stores_policies() {
        true => calico::store(&mut value, before),
        false => calico::show(&mut value),
    }
    if let Some(map) = value.as_object_mut() {
        map.insert("apiVersion".into(), api.api_version.clone().into());
        map.insert("kind".into(), api.kind.clone().into());
    }
    value
}

/// A policy of Calico is as its users write it, whichever form the server has it in.
fn resource(mut value: Value, path: &str) -> Result<Resource, ClusterError> {
    calico::show(&mut value);
    Resource::new(value, "").map_err(|error| ClusterError::Malformed {
        what: format!("an object at {}", path_of(path)),
        cause: error.to_string(),
    })
}
