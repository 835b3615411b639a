//! What Calico's policies are called, and how their storage form differs.
//!
//! Owns: the tier in a policy's name, and the annotation in which Calico's storage form keeps what its users wrote.
//! Does not: read specs.
//! Invariant: a policy has one name here whichever form it is in; a name that is read and written back names the same
//! object.
//!
//! A policy of the tier `default` may be called `deny` or `default.deny` in `projectcalico.org/v3`, and is one object. In
//! `crd.projectcalico.org/v1` it is always `default.deny`. A policy of another tier begins with its tier's name in both.

use crate::kind::CALICO;
use serde_json::{Map, Value, json};

/// The version of [`CALICO`] that people write.
const V3: &str = "projectcalico.org/v3";
/// The storage form.
pub(crate) const STORAGE: &str = "crd.projectcalico.org/v1";
/// Calico keeps the metadata of its objects here where it cannot keep them in the object's own.
pub(crate) const METADATA: &str = "projectcalico.org/metadata";

const TIERED: [&str; 4] =
    ["GlobalNetworkPolicy", "NetworkPolicy", "StagedGlobalNetworkPolicy", "StagedNetworkPolicy"];
const DEFAULT_TIER: &str = "default.";
/// Copies that Calico makes of others' policies; their names are the same in both forms.
const COPIES: [&str; 6] = [
    "knp.default.",
    "kcnp.kube-admin.",
    "kcnp.kube-baseline.",
    "kanp.adminnetworkpolicy.",
    "kbanp.baselineadminnetworkpolicy.",
    "ossg.",
];

/// Whether names of this kind carry a tier.
pub(crate) fn is_tiered(group: &str, kind: &str) -> bool {
    group == CALICO && TIERED.contains(&kind)
}

/// The one name that is used here for an object of that kind: without the default tier.
pub fn name<'n>(group: &str, kind: &str, name: &'n str) -> &'n str {
    let rest = name.strip_prefix(DEFAULT_TIER).filter(|rest| is_tiered(group, kind) && !rest.is_empty());
    // `default.a.b` is not `a.b`, which would be of the tier `a`.
    rest.filter(|rest| !rest.contains('.')).unwrap_or(name)
}

/// What the storage form calls a policy.
pub(crate) fn stored_name(name: &str) -> String {
    let is_complete = name.contains('.') || COPIES.iter().any(|copy| name.starts_with(copy));
    if is_complete { name.to_owned() } else { format!("{DEFAULT_TIER}{name}") }
}

/// A policy becomes what users of `projectcalico.org/v3` see, whichever form it is in.
pub(crate) fn show(value: &mut Value) {
    let Some(object) = value.as_object_mut() else { return };
    let api_version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_stored = api_version == STORAGE;
    if !(is_stored || api_version == V3) || !is_tiered(CALICO, &kind) {
        return;
    }
    object.insert("apiVersion".into(), V3.into());
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    if let Some(stored) = metadata.get("name").and_then(Value::as_str) {
        let shown = name(CALICO, &kind, stored).to_owned();
        metadata.insert("name".into(), shown.into());
    }
    if !is_stored {
        return;
    }
    restore(metadata);
    let Some(Value::Object(annotations)) = metadata.get_mut("annotations") else { return };
    annotations.remove(METADATA);
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
}

/// In the storage form, labels and annotations are in an annotation; they win over the object's own, which remain.
pub(crate) fn restore(metadata: &mut Map<String, Value>) {
    let kept = kept(metadata.get("annotations").and_then(|all| all.get(METADATA)));
    for part in ["labels", "annotations"] {
        let Some(Value::Object(theirs)) = kept.get(part) else { continue };
        let own = metadata.entry(part).or_insert_with(|| json!({}));
        if let Some(own) = own.as_object_mut() {
            own.extend(theirs.clone());
        }
    }
}

/// A policy becomes what is to be stored. `before` is the same policy as it is stored now, if some of that is to stay: what
/// it keeps in the annotation is brought up to date there, since that wins.
pub(crate) fn store(value: &mut Value, before: Option<&Value>) {
    show(value);
    let Some(object) = value.as_object_mut() else { return };
    object.insert("apiVersion".into(), STORAGE.into());
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let Some(written) = metadata.get("name").and_then(Value::as_str).map(str::to_owned) else { return };
    let text = before.and_then(|before| before.pointer("/metadata/annotations")?.get(METADATA));
    let mut keeps = kept(text);
    let already = keeps.clone();
    if keeps.get("name").and_then(Value::as_str).is_none_or(|it| stored_name(it) != stored_name(&written)) {
        keeps.insert("name".into(), written.clone().into());
    }
    for part in ["labels", "annotations"] {
        if let (Some(Value::Object(kept)), Some(Value::Object(own))) =
            (keeps.get_mut(part), metadata.get(part))
        {
            kept.iter_mut()
                .for_each(|(key, value)| own.get(key).into_iter().for_each(|own| *value = own.clone()));
        }
    }
    // Who wrote the same already keeps it to the letter, so that nobody takes it from them.
    let text = match text {
        Some(text) if keeps == already => text.clone(),
        _ => Value::Object(keeps).to_string().into(),
    };
    metadata.insert("name".into(), stored_name(&written).into());
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.insert(METADATA.into(), text);
    }
}

fn kept(text: Option<&Value>) -> Map<String, Value> {
    text.and_then(|text| serde_json::from_str(text.as_str()?).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_in_both_forms_but_for_the_default_tier() {
        for (people, stored) in [
            ("deny", "default.deny"),
            ("security.deny", "security.deny"),
            ("default.a.b", "default.a.b"),
            ("knp.default.web", "knp.default.web"),
            ("ossg.default.web", "ossg.default.web"),
        ] {
            assert_eq!(stored_name(people), stored);
            assert_eq!(name(CALICO, "NetworkPolicy", stored), people);
        }
        assert_eq!(stored_name("default.deny"), "default.deny");
        assert_eq!(name("networking.k8s.io", "NetworkPolicy", "default.deny"), "default.deny");
        assert_eq!(name(CALICO, "GlobalNetworkSet", "default.deny"), "default.deny");
    }

    fn policy(metadata: Value) -> Value {
        json!({"apiVersion": V3, "kind": "GlobalNetworkPolicy", "metadata": metadata, "spec": {"order": 1}})
    }

    #[test]
    fn what_is_stored_is_shown_as_it_was_written() {
        let written = policy(json!({"name": "deny", "labels": {"a": "b"}, "annotations": {"note": "x"}}));
        let mut value = written.clone();
        store(&mut value, None);
        assert_eq!(value["apiVersion"], STORAGE);
        assert_eq!(value["metadata"]["name"], "default.deny");
        let kept: Value =
            serde_json::from_str(value["metadata"]["annotations"][METADATA].as_str().unwrap()).unwrap();
        assert_eq!(kept, json!({"name": "deny"}), "Calico takes the rest from the object itself");
        let again = value.clone();
        store(&mut value, None);
        assert_eq!(value, again, "storing what is stored changes nothing");
        show(&mut value);
        assert_eq!(value, written);
    }

    #[test]
    fn what_calico_wrote_is_not_taken_from_it_without_need() {
        let text = r#"{"name":"deny", "labels":{"a":"b"}, "creationTimestamp":"2026-01-01T00:00:00Z"}"#;
        let before = json!({"metadata": {"name": "default.deny", "annotations": {METADATA: text}}});
        let stored = |labels: Value| {
            let mut value = policy(json!({"name": "default.deny", "labels": labels}));
            store(&mut value, Some(&before));
            value["metadata"]["annotations"][METADATA].as_str().unwrap().to_owned()
        };
        assert_eq!(stored(json!({"a": "b"})), text);
        let changed: Value = serde_json::from_str(&stored(json!({"a": "c"}))).unwrap();
        assert_eq!(changed["labels"], json!({"a": "c"}));
        assert_eq!(changed["creationTimestamp"], "2026-01-01T00:00:00Z");
    }
}
