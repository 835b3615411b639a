//! How the small API server changes objects: patch, apply, replace, delete.
//!
//! Versions go up when something has changed, and only then. Nobody keeps the book of who wrote which field: it is as it was
//! put, and conflicts are made by [`super::Faults::refuse`].

use super::{Request, World, create, parse, split, status};
use serde_json::Value;
use std::collections::BTreeMap;

type Answer = (u16, String);

/// Any request that changes an object.
pub fn write(world: &mut World, request: &Request, path: &str, query: &BTreeMap<&str, &str>) -> Answer {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    if request.method == "POST" {
        return create(world, &request.body);
    }
    let (group, rest) = parse(path);
    let (plural, namespace, name) = split(rest);
    let place = (group, plural, namespace, name.expect("a name"));
    let before = world.objects.get(&place).cloned();
    match (request.method.as_str(), before) {
        ("DELETE", Some(before)) => {
            let dry = body.pointer("/dryRun").is_some() || query.contains_key("dryRun");
            if !dry {
                world.version += 1;
                world.objects.remove(&place);
            }
            (200, before.to_string())
        }
        ("PATCH", None) if query.contains_key("force") => create(world, &request.body),
        (_, None) => (404, status(404, "NotFound", "there is none")),
        ("PUT", Some(before)) => {
            let version = |value: &Value| value.pointer("/metadata/resourceVersion").cloned();
            if version(&body).is_none() {
                return (
                    422,
                    status(422, "Invalid", "metadata.resourceVersion: must be specified for an update"),
                );
            }
            if version(&body) != version(&before) {
                return (409, status(409, "Conflict", "the object has been modified"));
            }
            keep(world, place, &before, body)
        }
        ("PATCH", Some(before)) if body.is_array() => {
            let mut after = before.clone();
            for operation in body.as_array().unwrap() {
                assert_eq!(operation["op"], "replace");
                *after.pointer_mut(operation["path"].as_str().unwrap()).unwrap() = operation["value"].clone();
            }
            if after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"] {
                return (409, status(409, "Conflict", "the object has been modified"));
            }
            keep(world, place, &before, after)
        }
        ("PATCH", Some(before)) if is_stale(&body, &before) => {
            (409, status(409, "Conflict", "the object has been modified"))
        }
        ("PATCH", Some(before)) => {
            let mut after = before.clone();
            merge(&mut after, &body);
            keep(world, place, &before, after)
        }
        (method, _) => panic!("{method}"),
    }
}

/// It says that it is of another version.
fn is_stale(body: &Value, before: &Value) -> bool {
    let version = |value: &Value| value.pointer("/metadata/resourceVersion").cloned();
    version(body).is_some_and(|given| Some(given) != version(before))
}

fn keep(
    world: &mut World,
    place: (String, String, String, String),
    before: &Value,
    mut after: Value,
) -> Answer {
    if *before != after {
        world.version += 1;
        after["metadata"]["resourceVersion"] = world.version.to_string().into();
        world.objects.insert(place, after.clone());
    }
    (200, after.to_string())
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    for (key, value) in patch {
        match value {
            Value::Null => _ = target.as_object_mut().unwrap().remove(key),
            value => merge(&mut target[key.as_str()], value),
        }
    }
}
