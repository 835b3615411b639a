//! The database of a control plane, without its API server.
//!
//! Owns: reading and writing etcd's keys over its HTTP interface, and which of them are a cluster's contents.
//! Does not: interpret values.
//! Invariant: API servers that share an etcd learn each other's writes from it, and so learn these.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tortie_store::kube::{Access, Cluster, Method};

use super::CLIENTS_OF_ETCD;
use crate::api::explain;
use crate::error::{Result, no};
use crate::lab::Lab;
use crate::object::Object;

/// Everything of Kubernetes is below it.
const ROOT: &str = "/registry/";
/// The first key after those.
const END: &str = "/registry0";
/// etcd takes so many operations at once.
const AT_ONCE: usize = 100;

/// What the control plane writes for itself all the time: who is alive, and what the API server has in its memory too.
const ITS_OWN: [&str; 3] = ["/registry/leases/kube-system/", "/registry/masterleases/", "/registry/ranges/"];
/// They come and go by themselves.
const PASSING: &str = "/registry/events/";
/// Whose owners make more when some are taken away.
const CONTROLLERS: [&str; 7] = [
    "/registry/controllers/",
    "/registry/cronjobs/",
    "/registry/daemonsets/",
    "/registry/deployments/",
    "/registry/jobs/",
    "/registry/replicasets/",
    "/registry/statefulsets/",
];

/// A connection to etcd.
pub struct Database(Cluster);

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Database")
    }
}

/// Keys and their values, as etcd gives and takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Contents(BTreeMap<String, String>);

/// What is to be written for some contents to be other ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Differences {
    surplus: BTreeSet<String>,
    other: BTreeMap<String, String>,
}

impl Database {
    /// Of that laboratory.
    pub(super) fn of(lab: &Lab) -> Result<Self> {
        let servers = vec![CLIENTS_OF_ETCD.to_owned()];
        let access = Access { kubeconfig: Some(lab.admin_kubeconfig()), servers, ..Access::default() };
        Ok(Self(lab.connect(access)?))
    }

    /// All that is in it now.
    pub(super) fn read(&self) -> Result<Contents> {
        let answer =
            self.ask("range", &json!({"key": BASE64.encode(ROOT), "range_end": BASE64.encode(END)}))?;
        let rows = answer.get("kvs").and_then(Value::as_array).into_iter().flatten();
        let contents = rows.map(|row| {
            let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
            let key = BASE64.decode(text("key")).context("a key of etcd")?;
            let key = String::from_utf8(key).context("a key of etcd")?;
            Ok((key, text("value").to_owned()))
        });
        let contents: BTreeMap<_, _> = contents.collect::<anyhow::Result<_>>()?;
        if contents.is_empty() {
            return Err(no!("there is nothing in etcd"));
        }
        Ok(Contents(contents))
    }

    /// Writes that.
    pub(super) fn write(&self, differences: &Differences) -> Result<()> {
        let removals = differences.surplus.iter();
        let removals = removals.map(|key| json!({"request_delete_range": {"key": BASE64.encode(key)}}));
        let values = differences.other.iter();
        let values =
            values.map(|(key, value)| json!({"request_put": {"key": BASE64.encode(key), "value": value}}));
        let all: Vec<Value> = removals.chain(values).collect();
        for some in all.chunks(AT_ONCE) {
            self.ask("txn", &json!({"success": some}))?;
        }
        Ok(())
    }

    /// Writes a complete object, with what an API server would have given it, below its directory (`services/specs`). The
    /// API server reads of it there. Of one at a time: objects of one revision are nothing that it knows.
    pub fn put(&self, directory: &str, object: &Object) -> Result<()> {
        let namespace = object.namespace().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let key = format!("{ROOT}{directory}/{namespace}{}", object.name());
        let value = BASE64.encode(object.value().to_string());
        self.ask("put", &json!({"key": BASE64.encode(key), "value": value})).map(drop)
    }

    fn ask(&self, what: &str, request: &Value) -> Result<Value> {
        let answer =
            self.0.raw(&Method::POST, &format!("/v3/kv/{what}"), Some(("application/json", request)));
        answer.map_err(|error| explain(error).context(format!("etcd: {what}")))
    }
}

impl Lab {
    /// The database of the control plane, for what would take long through the API server.
    pub fn database(&self) -> Result<Database> {
        Database::of(self)
    }
}

impl Contents {
    /// What is to be written for `now` to be these contents again.
    pub fn differences(&self, now: &Self) -> Differences {
        let counts = |key: &str| !ITS_OWN.iter().any(|prefix| key.starts_with(prefix));
        let surplus = now.0.keys().filter(|key| counts(key) && !self.0.contains_key(*key)).cloned();
        let is_other = |key: &String, value: &String| {
            counts(key) && !key.starts_with(PASSING) && now.0.get(key) != Some(value)
        };
        let other = self.0.iter().filter(|(key, value)| is_other(key, value));
        Differences {
            surplus: surplus.collect(),
            other: other.map(|(key, value)| (key.clone(), value.clone())).collect(),
        }
    }
}

impl Differences {
    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.surplus.is_empty() && self.other.is_empty()
    }

    /// Of them, that there are objects by which controllers make others.
    pub fn of_controllers(&self) -> Self {
        let makes_others = |key: &&String| CONTROLLERS.iter().any(|prefix| key.starts_with(prefix));
        Self { surplus: self.surplus.iter().filter(makes_others).cloned().collect(), other: BTreeMap::new() }
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.surplus.len() + self.other.len();
        let first = self.surplus.iter().chain(self.other.keys()).next();
        write!(f, "{} and {} more", first.map_or("nothing", String::as_str), count.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(rows: &[(&str, &str)]) -> Contents {
        Contents(rows.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn what_was_added_changed_or_removed_is_undone_and_what_the_server_keeps_for_itself_is_left() {
        let fresh = contents(&[
            ("/registry/configmaps/a", "1"),
            ("/registry/configmaps/b", "1"),
            ("/registry/events/default/old", "1"),
            ("/registry/ranges/servicenodeports", "1"),
        ]);
        let now = contents(&[
            ("/registry/configmaps/a", "2"),
            ("/registry/deployments/default/web", "1"),
            ("/registry/events/default/new", "1"),
            ("/registry/leases/kube-system/apiserver", "1"),
            ("/registry/pods/default/web", "1"),
            ("/registry/ranges/servicenodeports", "2"),
        ]);
        let differences = fresh.differences(&now);
        let surplus: Vec<&str> = differences.surplus.iter().map(String::as_str).collect();
        let other: Vec<&str> = differences.other.keys().map(String::as_str).collect();
        assert_eq!(
            surplus,
            [
                "/registry/deployments/default/web",
                "/registry/events/default/new",
                "/registry/pods/default/web"
            ]
        );
        assert_eq!(other, ["/registry/configmaps/a", "/registry/configmaps/b"]);
        let first = differences.of_controllers();
        assert_eq!(
            (first.surplus.len(), first.other.len()),
            (1, 0),
            "a Deployment goes before its pods, and nothing else does"
        );
        assert!(fresh.differences(&fresh).is_empty());
    }
}
