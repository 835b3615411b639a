//! Objects as they are written: any kind, its fields as they stand.
//!
//! Owns: [`Resource`], who it is, and taking lists apart. Does not: judge its fields.
//! Invariant: a resource has a kind and a name, and a namespace exactly when its kind has one.

use crate::calico;
use crate::fault::{Wrong, invalid};
use crate::kind::{self, Kind, Role};
use crate::rejection::ObjectName;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value};

/// Identity of any resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// API group; Calico's storage form counts as the group itself.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace; empty for objects of the cluster.
    pub namespace: String,
    /// Name; that of a policy of Calico as [`calico::name`] has it.
    pub name: String,
}

/// An object of any kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Who it is.
    pub key: Key,
    /// Its kind, when known.
    pub kind: Option<&'static Kind>,
    /// Its fields, as written.
    pub value: Value,
}

invalid! {
    /// Why a value is no object.
    InvalidIdentity {
        /// Not a mapping of fields.
        Object {} => "",
        /// `apiVersion`.
        ApiVersion {} => "apiVersion",
        /// `kind`.
        Kind {} => "kind",
        /// `items` of a list.
        Items {} => "items",
        /// `metadata`.
        Metadata {} => "metadata",
        /// `metadata.name`.
        Name {} => "metadata.name",
        /// `metadata.namespace`.
        Namespace {} => "metadata.namespace",
    }
}

impl Key {
    /// For people.
    pub fn object_name(&self) -> ObjectName {
        ObjectName { kind: self.kind.clone(), namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

/// Whether a value is a list of objects.
pub fn is_list(value: &Value) -> bool {
    match value.get("kind") {
        Some(kind) => kind.as_str().is_some_and(|kind| kind.ends_with("List")),
        None => value.get("items").is_some(),
    }
}

/// Items of a list of one kind, such as a `ServiceList`, may leave out what kind they are.
pub fn name_items(list: &mut Value) {
    let text = |name: &str| list.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let Some(kind) = kind.strip_suffix("List").filter(|kind| !kind.is_empty()) else { return };
    let items = list.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten();
    for item in items.filter_map(Value::as_object_mut) {
        item.entry("apiVersion").or_insert_with(|| api_version.as_str().into());
        item.entry("kind").or_insert_with(|| kind.into());
    }
}

/// The objects of a document: none for an empty one, several for a list.
pub fn members(mut value: Value) -> Result<Vec<Value>, InvalidIdentity> {
    let listed = is_list(&value);
    if listed {
        name_items(&mut value);
    }
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Object(mut map) if listed => match map.remove("items") {
            Some(Value::Array(items)) => Ok(items),
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(other) => Err(InvalidIdentity::Items {
                wrong: Wrong::Type { found: type_of(&other).into(), expected: "a list".into() },
            }),
        },
        other => Ok(vec![other]),
    }
}

impl Resource {
    /// Finds out who a value is; `namespace` is for objects that name none.
    pub fn new(value: Value, namespace: &str) -> Result<Self, InvalidIdentity> {
        let map = value.as_object().ok_or_else(|| InvalidIdentity::Object {
            wrong: Wrong::Type {
                found: type_of(&value).into(),
                expected: "an object with apiVersion and kind".into(),
            },
        })?;
        let api_version = text(map, "apiVersion", "such as v1 or networking.k8s.io/v1")
            .map_err(|wrong| InvalidIdentity::ApiVersion { wrong })?;
        let kind_name = text(map, "kind", "such as Pod").map_err(|wrong| InvalidIdentity::Kind { wrong })?;
        let (group, version) = kind::group_version(api_version);
        let kind = kind::of(group, kind_name);
        check_version(kind, version)?;
        if let (None, Some(elsewhere)) = (kind, kind::elsewhere(group, kind_name)) {
            let (api_version, kind) = (api_version.to_owned(), kind_name.to_owned());
            return Err(InvalidIdentity::ApiVersion {
                wrong: Wrong::NotInGroup { api_version, kind, elsewhere },
            });
        }
        let metadata = match map.get("metadata") {
            Some(Value::Object(metadata)) => metadata,
            _ => {
                return Err(InvalidIdentity::Metadata {
                    wrong: Wrong::Missing { expected: "metadata with a name" },
                });
            }
        };
        let name = text(metadata, "name", "a name").map_err(|wrong| InvalidIdentity::Name { wrong })?;
        let namespace = namespace_of(kind, metadata, namespace)?;
        let called = kind.map_or(kind_name, |kind| kind.kind);
        let name = calico::name(group, called, name).into();
        let key = Key { group: group.into(), kind: called.into(), namespace, name };
        Ok(Self { key, kind, value })
    }

    /// What becomes of it.
    pub fn role(&self) -> Role {
        self.kind.map_or(Role::Kept, |kind| kind.role)
    }

    /// When it was made, in seconds since 1970, if it says so.
    pub fn created(&self) -> Option<i64> {
        let text = self.value.pointer("/metadata/creationTimestamp")?;
        serde_json::from_value::<Time>(text.clone()).ok().map(|time| time.0.as_second())
    }

    /// Its labels that are text.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let labels = self.value.pointer("/metadata/labels").and_then(Value::as_object);
        labels.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
    }
}

fn check_version(kind: Option<&'static Kind>, version: &str) -> Result<(), InvalidIdentity> {
    match kind {
        Some(kind) if !kind.versions.contains(&version) => Err(InvalidIdentity::ApiVersion {
            wrong: Wrong::NotOneOf { value: version.into(), allowed: kind.versions },
        }),
        _ => Ok(()),
    }
}

fn namespace_of(
    kind: Option<&'static Kind>,
    metadata: &Map<String, Value>,
    default: &str,
) -> Result<String, InvalidIdentity> {
    let given = match metadata.get("namespace") {
        None | Some(Value::Null) => "",
        Some(Value::String(text)) => text,
        Some(other) => {
            let wrong = Wrong::Type { found: type_of(other).into(), expected: "text".into() };
            return Err(InvalidIdentity::Namespace { wrong });
        }
    };
    match kind.map(|kind| kind.namespaced) {
        Some(true) if given.is_empty() => Ok(default.into()),
        Some(false) if !given.is_empty() => Err(InvalidIdentity::Namespace {
            wrong: Wrong::Conflict { why: "this kind has no namespace", fix: "remove the field" },
        }),
        _ => Ok(given.into()),
    }
}

fn text<'m>(map: &'m Map<String, Value>, field: &str, expected: &'static str) -> Result<&'m str, Wrong> {
    match map.get(field) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        None | Some(Value::Null | Value::String(_)) => Err(Wrong::Missing { expected }),
        Some(other) => Err(Wrong::Type { found: type_of(other).into(), expected: "text".into() }),
    }
}

/// A value's type, for people.
pub fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "fields",
    }
}
