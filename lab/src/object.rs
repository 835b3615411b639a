//! Kubernetes and Calico objects, as the laboratory sees them: JSON values with an identity.
//!
//! Owns: identity (group, kind, namespace, name) and parsing of YAML.
//! Does not: validate; the store does, with the field's name.
//! Invariant: what the laboratory does not understand passes through unchanged.

use std::fmt;

use serde_json::{Map, Value, json};
use tortie_store::kind;

use crate::error::{Result, bad};

/// What tells one object from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Kind, such as `Pod`.
    pub kind: String,
    /// API group; the same kind may exist in two.
    pub group: String,
    /// Namespace; `None` for cluster-wide kinds.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

impl Key {
    /// Key of a kind of the core group.
    pub fn core(kind: &str, namespace: Option<&str>, name: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            group: String::new(),
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// Kinds that live in no namespace.
const CLUSTER_WIDE: &[&str] = &[
    "APIService",
    "BGPConfiguration",
    "BGPFilter",
    "BGPPeer",
    "ClusterInformation",
    "ClusterNetworkPolicy",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "FelixConfiguration",
    "GlobalNetworkPolicy",
    "GlobalNetworkSet",
    "HostEndpoint",
    "IPPool",
    "IPReservation",
    "KubeControllersConfiguration",
    "Namespace",
    "Node",
    "PriorityClass",
    "Profile",
    "ServiceCIDR",
    "StagedGlobalNetworkPolicy",
    "StorageClass",
    "Tier",
];

/// One object. Always a mapping with kind and metadata.name.
#[derive(Debug, Clone, PartialEq)]
pub struct Object(Value);

impl Object {
    /// Takes a parsed document. `origin` is where it came from, for the error.
    pub fn new(mut value: Value, origin: &str) -> Result<Self> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let kind = text("/kind").ok_or_else(|| bad!("{origin}: the field kind is missing"))?;
        if text("/apiVersion").is_none() {
            return Err(bad!("{origin}: {kind}: the field apiVersion is missing"));
        }
        let name = text("/metadata/name")
            .ok_or_else(|| bad!("{origin}: {kind}: the field metadata.name is missing"))?;
        if name.is_empty() || name.len() > 253 || name.starts_with('.') || name.contains(['/', '\0']) {
            return Err(bad!("{origin}: {kind} {name:?}: metadata.name is not a name"));
        }
        let namespace = text("/metadata/namespace");
        if let Some(Value::Object(metadata)) = value.pointer_mut("/metadata") {
            let cluster_wide = CLUSTER_WIDE.contains(&kind.as_str());
            match namespace {
                Some(wrong) if cluster_wide => {
                    return Err(bad!(
                        "{origin}: {kind} {name}: has no namespace; remove metadata.namespace {wrong:?}"
                    ));
                }
                Some(wrong) if wrong.is_empty() || wrong.starts_with('.') || wrong.contains('/') => {
                    return Err(bad!("{origin}: {kind} {name}: metadata.namespace {wrong:?} is not a name"));
                }
                None if !cluster_wide => {
                    metadata.insert("namespace".to_owned(), Value::String("default".to_owned()));
                }
                _ => {}
            }
        }
        Ok(Self(value))
    }

    /// Builds an object of our own.
    pub fn make(api_version: &str, kind: &str, namespace: Option<&str>, name: &str, rest: Value) -> Self {
        let mut metadata = Map::new();
        metadata.insert("name".into(), json!(name));
        if let Some(namespace) = namespace {
            metadata.insert("namespace".into(), json!(namespace));
        }
        let mut map = Map::new();
        map.insert("apiVersion".into(), json!(api_version));
        map.insert("kind".into(), json!(kind));
        map.insert("metadata".into(), Value::Object(metadata));
        if let Value::Object(rest) = rest {
            map.extend(rest);
        }
        Self(Value::Object(map))
    }

    /// Its identity.
    pub fn key(&self) -> Key {
        let api_version = self.text("/apiVersion").unwrap_or_default();
        Key {
            kind: self.kind().to_owned(),
            // One object, whichever of its two forms Calico's kinds are in.
            group: kind::group_version(api_version).0.to_owned(),
            namespace: self.namespace().map(str::to_owned),
            name: self.name().to_owned(),
        }
    }

    /// Its kind.
    pub fn kind(&self) -> &str {
        self.text("/kind").unwrap_or_default()
    }

    /// Its namespace, if its kind has one.
    pub fn namespace(&self) -> Option<&str> {
        self.text("/metadata/namespace")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.text("/metadata/name").unwrap_or_default()
    }

    /// The whole document.
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// A field, by JSON pointer.
    pub fn at(&self, pointer: &str) -> Option<&Value> {
        self.0.pointer(pointer).filter(|value| !value.is_null())
    }

    /// A text field.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.at(pointer).and_then(Value::as_str)
    }

    /// The items of a list field; none when absent.
    pub fn list(&self, pointer: &str) -> &[Value] {
        self.at(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// A list of texts.
    pub fn texts(&self, pointer: &str) -> Vec<&str> {
        self.list(pointer).iter().filter_map(Value::as_str).collect()
    }

    /// Sets a field, making the mappings on the way. Segments are plain keys.
    pub fn set(&mut self, path: &[&str], value: Value) {
        let mut place = &mut self.0;
        for segment in path {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            let Value::Object(map) = place else { return };
            place = map.entry(*segment).or_insert(Value::Null);
        }
        *place = value;
    }

    /// Sets a field only where the user left it out.
    pub fn set_default(&mut self, path: &[&str], value: Value) {
        if self.at(&format!("/{}", path.join("/").replace('~', "~0"))).is_none() {
            self.set(path, value);
        }
    }
}

/// Parses a YAML text of any number of documents; `kind: List` is opened.
pub fn parse(text: &str, origin: &str) -> Result<Vec<Object>> {
    // A pod may be called `n` or `no`: only true and false are booleans.
    let options = serde_saphyr::options! {
        strict_booleans: true,
        // Whoever plays a large cluster writes it into one file.
        budget: serde_saphyr::budget! {
            max_documents: 100_000,
            max_nodes: 10_000_000,
            max_events: 30_000_000,
        },
    };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| bad!("{origin}: not YAML: {error}"))?;
    let mut objects = Vec::new();
    for document in documents {
        match document {
            Value::Null => {}
            Value::Object(mut list) if list.get("kind").and_then(Value::as_str) == Some("List") => {
                let Some(Value::Array(items)) = list.remove("items") else {
                    return Err(bad!("{origin}: List: the field items is missing"));
                };
                for item in items {
                    objects.push(Object::new(item, origin)?);
                }
            }
            other => objects.push(Object::new(other, origin)?),
        }
    }
    Ok(objects)
}

/// Writes objects as YAML documents.
pub fn print(objects: &[Object]) -> Result<String> {
    let mut text = String::new();
    for object in objects {
        if !text.is_empty() {
            text.push_str("---\n");
        }
        let document = serde_saphyr::to_string(&object.0)
            .map_err(|error| bad!("{}: cannot be written as YAML: {error}", object.key()))?;
        text.push_str(&document);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_documents_and_lists_become_objects_with_a_namespace() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\n---\napiVersion: v1\nkind: List\nitems:\n\
                    - {apiVersion: v1, kind: Node, metadata: {name: n}}\n";
        let objects = parse(text, "x.yaml").unwrap();
        let keys: Vec<String> = objects.iter().map(|object| object.key().to_string()).collect();
        assert_eq!(keys, ["Pod default/a", "Node n"]);
    }

    #[test]
    fn a_large_cluster_is_one_text() {
        let document = |n: u32| {
            format!("---\n{{apiVersion: v1, kind: Node, metadata: {{name: n{n}, labels: {{a: b}}}}}}\n")
        };
        let text: String = (0..30_000).map(document).collect();
        assert_eq!(parse(&text, "x.yaml").unwrap().len(), 30_000);
    }

    #[test]
    fn a_broken_document_is_named_with_its_file_and_field() {
        for (text, expected) in [
            ("apiVersion: v1\nkind: Pod\n", "x.yaml: Pod: the field metadata.name is missing"),
            ("apiVersion: v1\nmetadata: {name: a}\n", "x.yaml: the field kind is missing"),
            ("apiVersion: v1\nkind: Pod\nmetadata: {name: ../a}\n", "not a name"),
            ("apiVersion: v1\nkind: Node\nmetadata: {name: a, namespace: b}\n", "has no namespace"),
            ("{", "x.yaml: not YAML"),
        ] {
            let error = parse(text, "x.yaml").unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn texts_that_look_like_other_types_survive_being_written() {
        let odd = [
            "1",
            "true",
            "null",
            "~",
            "1e3",
            "0x10",
            "",
            "a: b",
            "- a",
            "10.0",
            "no",
            "n",
            "2001-01-01",
            "a\nb\n",
            " a",
            "#a",
            "fd00::1",
            "0o7",
            "1_000",
            "é",
            ".inf",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            "'a",
            "\"a",
            "on",
            "12:30:00",
            "+1",
        ];
        let object = Object::make(
            "v1",
            "Pod",
            Some("default"),
            "a",
            json!({"odd": odd, "number": 7, "empty": {}, "none": []}),
        );
        let text = print(&[object.clone(), object.clone()]).unwrap();
        assert_eq!(parse(&text, "x.yaml").unwrap(), [object.clone(), object], "{text}");
    }

    #[test]
    fn a_default_does_not_overwrite_what_the_user_said() {
        let mut object = Object::make("v1", "Pod", None, "a", json!({"spec": {"nodeName": "node2"}}));
        object.set_default(&["spec", "nodeName"], json!("node1"));
        object.set_default(&["status", "phase"], json!("Pending"));
        assert_eq!(object.text("/spec/nodeName"), Some("node2"));
        assert_eq!(object.text("/status/phase"), Some("Pending"));
    }
}
