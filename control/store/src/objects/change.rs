//! Changing objects, in either store.
//!
//! Owns: what create, apply, replace, modify and delete mean. Does not: validate objects.
//! Invariant: nothing of a directory's session is written before [`Session::commit`]; a cluster's is by then.

use super::error::ObjectsError;
use super::{Look, Selection, find_in, find_with_book, list_in, ownership, plain};
use crate::dir::{Directory, Edit, Outcome};
use crate::kind::Kind;
use crate::kube::{Cluster, ClusterError, Delete, Patch};
use crate::resource::{Key, Resource};
use serde_json::{Value, json};

/// Whether anything is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dry {
    /// It is.
    #[default]
    Not,
    /// Nothing; what would happen is found out by looking.
    Client,
    /// Nothing; the API server says what would happen. The same as [`Dry::Client`] in a directory.
    Server,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It is new.
    Created,
    /// It is different.
    Changed,
    /// It was like that already.
    Unchanged,
}

/// A change that was made.
#[derive(Clone, Debug)]
pub struct Done {
    /// What became of the object.
    pub what: What,
    /// The object as it is now.
    pub resource: Resource,
}

/// Changes under way.
pub struct Session<'o> {
    dry: Dry,
    place: Place<'o>,
}

enum Place<'o> {
    Directory(Box<Edit<'o>>),
    Cluster(&'o Cluster),
}

impl<'o> Session<'o> {
    pub(super) fn in_directory(directory: &'o Directory, dry: Dry) -> Result<Self, ObjectsError> {
        Ok(Self { dry, place: Place::Directory(Box::new(directory.edit()?)) })
    }

    pub(super) fn in_cluster(cluster: &'o Cluster, dry: Dry) -> Self {
        Self { dry, place: Place::Cluster(cluster) }
    }

    /// Whether all of it is done or none.
    pub fn is_atomic(&self) -> bool {
        matches!(self.place, Place::Directory(_))
    }

    /// Makes a new object. What a file says of one that is gone, as a backup does, is left out.
    pub fn create(&mut self, mut resource: Resource) -> Result<Done, ObjectsError> {
        let dry = self.dry;
        match &mut self.place {
            Place::Directory(edit) if edit.get(&resource.key).is_some() => {
                Err(ObjectsError::Exists { object: called(&resource) })
            }
            Place::Directory(edit) => Ok(put(edit, resource)),
            Place::Cluster(cluster) => {
                let kind = kind_of(&resource)?;
                without_past(&mut resource);
                without_status(kind, &mut resource);
                // The server takes a policy's two names for two policies.
                let looks = dry == Dry::Client || cluster.api(kind)?.has_tiers();
                if looks && find_in(cluster, kind, &resource.key)?.is_some() {
                    return Err(ObjectsError::Exists { object: called(&resource) });
                }
                let resource = written(dry, resource, |it| cluster.create(it))?;
                Ok(Done { what: What::Created, resource })
            }
        }
    }

    /// Makes an object what is given, new or not. In a cluster the fields that are given become ours, and what we wrote
    /// before and is not given goes; what is given of another object that had the name is left out. `force` takes fields from other managers, and without it that is a conflict.
    pub fn apply(&mut self, mut resource: Resource, force: bool) -> Result<Done, ObjectsError> {
        let dry = self.dry;
        match &mut self.place {
            Place::Directory(edit) => {
                let resource = keeping(edit, resource);
                Ok(put(edit, resource))
            }
            Place::Cluster(cluster) => {
                let kind = kind_of(&resource)?;
                let before = match dry {
                    Dry::Not => taken_over(cluster, kind, &mut resource, force)?,
                    Dry::Client | Dry::Server => find_in(cluster, kind, &resource.key)?,
                };
                if !before.as_ref().is_some_and(|before| may_be(&resource, before)) {
                    without_past(&mut resource);
                }
                without_status(kind, &mut resource);
                let resource = written(dry, resource, |it| apply_in(cluster, it, force))?;
                let what = match before {
                    None => What::Created,
                    Some(before) if version(&before) == version(&resource) => What::Unchanged,
                    Some(_) => What::Changed,
                };
                Ok(Done { what, resource })
            }
        }
    }

    /// Writes the whole of an object that exists. One that carries a `resourceVersion` is written only if it is still
    /// that version.
    pub fn replace(&mut self, mut resource: Resource) -> Result<Done, ObjectsError> {
        let dry = self.dry;
        match &mut self.place {
            Place::Directory(edit) => {
                let Some(before) = edit.get(&resource.key) else { return Err(missing(&resource)) };
                let now = text(before, "/metadata/resourceVersion");
                if let (Some(given), Some(now)) = (version(&resource), now)
                    && given != now
                {
                    let (given, now) = (given.to_owned(), now.to_owned());
                    return Err(ObjectsError::Changed { object: called(&resource), given, now });
                }
                let resource = keeping(edit, resource);
                Ok(put(edit, resource))
            }
            Place::Cluster(cluster) => {
                if version(&resource).is_none() || dry == Dry::Client {
                    let found = find_in(cluster, kind_of(&resource)?, &resource.key)?;
                    let before = found.ok_or_else(|| missing(&resource))?;
                    // Custom resources are not replaced without one; this is the version seen just now.
                    set_version(&mut resource, version(&before));
                }
                let resource = written(dry, resource, |it| cluster.replace(it, None))?;
                Ok(Done { what: What::Changed, resource })
            }
        }
    }

    /// Changes parts of an object that exists: `after` is what `patch` makes of `before`.
    pub fn modify(
        &mut self,
        kind: &'static Kind,
        before: &Resource,
        after: Resource,
        patch: &Patch,
    ) -> Result<Done, ObjectsError> {
        let dry = self.dry;
        match &mut self.place {
            Place::Directory(edit) => Ok(put(edit, after)),
            Place::Cluster(cluster) => {
                let key = &before.key;
                let resource = match cluster.api(kind)?.stores_policies() {
                    // Part of what is patched is elsewhere there; `after` has the version that was seen.
                    true => written(dry, after, |after| cluster.replace(after, None))?,
                    false => {
                        let patched =
                            |_: &Resource| cluster.patch(kind, &key.namespace, &key.name, None, patch);
                        written(dry, after, patched)?
                    }
                };
                let same = version(before) == version(&resource);
                let what = if same && dry == Dry::Not { What::Unchanged } else { What::Changed };
                Ok(Done { what, resource })
            }
        }
    }

    /// Removes an object; returns what else went with it. A directory's namespace goes with everything in it, as the
    /// cluster's does after a while.
    pub fn delete(
        &mut self,
        kind: Option<&'static Kind>,
        key: &Key,
        how: &Delete,
    ) -> Result<Vec<(Key, Option<&'static Kind>)>, ObjectsError> {
        match &mut self.place {
            Place::Directory(edit) => {
                if !edit.delete(key) {
                    return Err(missing_key(kind, key));
                }
                Ok(with_it(edit, key))
            }
            Place::Cluster(cluster) => {
                let kind = kind.ok_or_else(|| ObjectsError::UnknownKind { kind: key.kind.clone() })?;
                if self.dry != Dry::Not {
                    let found = find_in(cluster, kind, key)?;
                    return found.map(|_| Vec::new()).ok_or_else(|| missing_key(Some(kind), key));
                }
                match cluster.delete(kind, &key.namespace, &key.name, how) {
                    Ok(()) => Ok(Vec::new()),
                    Err(error) if error.code() == Some(404) => Err(missing_key(Some(kind), key)),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    /// Writes what has not been written yet.
    pub fn commit(self) -> Result<(), ObjectsError> {
        match self.place {
            Place::Directory(edit) if self.dry == Dry::Not => Ok(edit.commit()?),
            Place::Directory(_) | Place::Cluster(_) => Ok(()),
        }
    }
}

impl Look for Session<'_> {
    fn find(&self, kind: &'static Kind, key: &Key) -> Result<Option<Resource>, ObjectsError> {
        match &self.place {
            Place::Directory(edit) => Ok(edit.get(key).map(|value| Resource {
                key: key.clone(),
                kind: Some(kind),
                value: value.clone(),
            })),
            Place::Cluster(cluster) => find_in(cluster, kind, key),
        }
    }

    fn list(&self, kind: &'static Kind, selection: &Selection) -> Result<Vec<Resource>, ObjectsError> {
        match &self.place {
            Place::Directory(edit) => {
                let known = edit.snapshot().objects.keys().chain(edit.wanted());
                let keys: std::collections::BTreeSet<&Key> =
                    known.filter(|key| key.kind == kind.kind && key.group == kind.group).collect();
                let found = keys.into_iter().filter_map(|key| {
                    let value = edit.get(key)?.clone();
                    Some(Resource { key: key.clone(), kind: Some(kind), value })
                });
                Ok(found.filter(|it| selection.means(kind, it)).collect())
            }
            Place::Cluster(cluster) => list_in(cluster, kind, selection),
        }
    }
}

fn put(edit: &mut Edit<'_>, resource: Resource) -> Done {
    let what = match edit.put(resource.clone()) {
        Outcome::Created => What::Created,
        Outcome::Changed => What::Changed,
        Outcome::Unchanged => What::Unchanged,
    };
    Done { what, resource }
}

/// Writes unless that is not wanted.
fn written(
    dry: Dry,
    resource: Resource,
    write: impl FnOnce(&Resource) -> Result<Resource, ClusterError>,
) -> Result<Resource, ObjectsError> {
    match dry {
        Dry::Client => Ok(resource),
        Dry::Not | Dry::Server => Ok(plain(write(&resource)?)),
    }
}

/// How often somebody else may change an object while its fields are taken over.
const TURNS: usize = 5;

/// The object as it is now, after what `create` and `replace` wrote of it has become what `apply` wrote: else the server would
/// let it stand when the file no longer says it. `force` takes over what kubectl has applied in its own way, too. Who gives the
/// version from before means the one after.
fn taken_over(
    cluster: &Cluster,
    kind: &'static Kind,
    resource: &mut Resource,
    force: bool,
) -> Result<Option<Resource>, ObjectsError> {
    let key = resource.key.clone();
    let manager = cluster.field_manager();
    let from: &[&str] = if force { &[manager, ownership::KUBECTL] } else { &[manager] };
    let mut turns = 1..=TURNS;
    loop {
        let Some(before) = find_with_book(cluster, kind, &key)? else { return Ok(None) };
        let book = before.value.pointer("/metadata/managedFields").and_then(Value::as_array);
        let book = book.and_then(|book| ownership::taken_over(book, from, manager));
        let Some(book) = book else { return Ok(Some(before)) };
        let patch = Patch::Json(json!([
            {"op": "replace", "path": "/metadata/managedFields", "value": book},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version(&before)},
        ]));
        match cluster.patch(kind, &key.namespace, &key.name, None, &patch) {
            Err(error) if error.is_conflict() && turns.next().is_some() => {}
            Err(error) => return Err(error.into()),
            Ok(after) => {
                if version(resource) == version(&before) {
                    set_version(resource, version(&after));
                }
                return Ok(Some(after));
            }
        }
    }
}

/// What `patch` and `replace` of ours wrote is no stranger's: those fields are taken over without being asked.
fn apply_in(cluster: &Cluster, resource: &Resource, force: bool) -> Result<Resource, ClusterError> {
    let manager = cluster.field_manager();
    match cluster.apply(resource, None, force) {
        Err(error)
            if error.is_conflict()
                && only_with(&error.to_string(), &[manager, &ownership::of_parts(manager)]) =>
        {
            cluster.apply(resource, None, true)
        }
        other => other,
    }
}

/// Whether a conflict of server-side apply names some of these managers and no other.
fn only_with(message: &str, managers: &[&str]) -> bool {
    let mut named = message.split(" with \"").skip(1).filter_map(|rest| rest.split('"').next()).peekable();
    named.peek().is_some() && named.all(|it| managers.contains(&it))
}

/// What a cluster writes into metadata.
const SYSTEM: [&str; 5] = ["creationTimestamp", "uid", "resourceVersion", "generation", "managedFields"];

/// Of an object that is not there, a server is not to be told what it said of it itself.
fn without_past(resource: &mut Resource) {
    if let Some(metadata) = resource.value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|name, _| !SYSTEM.contains(&name.as_str()));
    }
}

/// It is written elsewhere, and the server refuses to be given a Node's addresses as it prints them.
fn without_status(kind: &Kind, resource: &mut Resource) {
    if !kind.is_custom() {
        resource.value.as_object_mut().map(|it| it.remove("status"));
    }
}

/// What a cluster says of an object stays when a file is silent about it.
fn keeping(edit: &Edit<'_>, mut resource: Resource) -> Resource {
    let Some(before) = edit.get(&resource.key) else { return resource };
    let Some(after) = resource.value.as_object_mut() else { return resource };
    if let Some(status) = before.get("status") {
        after.entry("status").or_insert_with(|| status.clone());
    }
    let metadata = (before.get("metadata").and_then(Value::as_object), after.get_mut("metadata"));
    if let (Some(before), Some(Value::Object(after))) = metadata {
        for name in SYSTEM {
            if let Some(value) = before.get(name) {
                after.entry(name).or_insert_with(|| value.clone());
            }
        }
    }
    resource
}

/// A namespace goes with everything in it.
fn with_it(edit: &mut Edit<'_>, gone: &Key) -> Vec<(Key, Option<&'static Kind>)> {
    if gone.kind != "Namespace" || !gone.group.is_empty() {
        return Vec::new();
    }
    let inside = edit.snapshot().objects.values().filter(|it| it.resource.key.namespace == gone.name);
    let inside: Vec<_> = inside.map(|it| (it.resource.key.clone(), it.resource.kind)).collect();
    inside.into_iter().filter(|(key, _)| edit.delete(key)).collect()
}

fn kind_of(resource: &Resource) -> Result<&'static Kind, ObjectsError> {
    resource.kind.ok_or_else(|| ObjectsError::UnknownKind { kind: resource.key.kind.clone() })
}

fn text<'v>(value: &'v Value, path: &str) -> Option<&'v str> {
    value.pointer(path)?.as_str().filter(|text| !text.is_empty())
}

/// Whether what is given is of the object that is there, and not of another one that had its name.
fn may_be(given: &Resource, there: &Resource) -> bool {
    let uid = |resource: &Resource| text(&resource.value, "/metadata/uid").map(str::to_owned);
    uid(given).is_none_or(|given| uid(there) == Some(given))
}

fn version(resource: &Resource) -> Option<&str> {
    text(&resource.value, "/metadata/resourceVersion")
}

fn set_version(resource: &mut Resource, version: Option<&str>) {
    let metadata = resource.value.get_mut("metadata").and_then(Value::as_object_mut);
    if let (Some(metadata), Some(version)) = (metadata, version) {
        metadata.insert("resourceVersion".into(), version.into());
    }
}

/// `ippool.projectcalico.org/main`.
fn called(resource: &Resource) -> String {
    let kind = resource.kind.map_or_else(|| resource.key.kind.to_lowercase(), Kind::resource);
    format!("{kind}/{}", resource.key.name)
}

fn missing(resource: &Resource) -> ObjectsError {
    missing_key(resource.kind, &resource.key)
}

/// As kubectl says it.
fn missing_key(kind: Option<&'static Kind>, key: &Key) -> ObjectsError {
    let object = match kind {
        Some(kind) if kind.group.is_empty() => format!("{} {:?}", kind.plural, key.name),
        Some(kind) => format!("{}.{} {:?}", kind.plural, kind.group, key.name),
        None => format!("{}/{}", key.kind.to_lowercase(), key.name),
    };
    ObjectsError::Missing { object }
}

#[cfg(test)]
mod tests {
    use super::only_with;

    #[test]
    fn a_conflict_with_what_we_wrote_ourselves_is_none() {
        let one = "Apply failed with 1 conflict: conflict with \"tortie\" using v1: .spec.cidr";
        let two = "Apply failed with 2 conflicts: conflicts with \"kubectl\":\n- .a\nconflicts with \"tortie\":\n- .b";
        assert!(only_with(one, &["tortie"]) && only_with(two, &["tortie", "kubectl"]));
        assert!(!only_with(two, &["tortie"]) && !only_with(one, &["kubectl"]));
        assert!(!only_with("the object has been modified", &["tortie"]));
    }
}
