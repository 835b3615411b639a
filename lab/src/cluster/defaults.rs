//! What the API server does to an object that arrives.
//!
//! Owns: identity, times, and the fields that a later version of an object inherits from the one before.
//! Does not: validate fields; the store does.
//! Invariant: what the cluster has decided once (node, addresses, uid) stays when the user applies again.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::error::{Result, bad};
use crate::object::Object;

/// Fields that the cluster sets and users leave out.
const INHERITED: &[&[&str]] = &[
    &["metadata", "uid"],
    &["metadata", "creationTimestamp"],
    &["metadata", "deletionTimestamp"],
    &["metadata", "deletionGracePeriodSeconds"],
    &["spec", "nodeName"],
    &["spec", "clusterIP"],
    &["spec", "clusterIPs"],
    &["spec", "ipFamilies"],
    &["spec", "healthCheckNodePort"],
    &["status"],
];

/// The object as it is stored, given what is stored now.
pub fn admit(mut object: Object, before: Option<&Object>, now: SystemTime) -> Result<Object> {
    if let Some(before) = before {
        let (old, new) = (before.text("/spec/nodeName"), object.text("/spec/nodeName"));
        if object.kind() == "Pod" && old.is_some() && new.is_some() && old != new {
            return Err(bad!(
                "{}: spec.nodeName cannot change from {} to {}: delete the pod first",
                object.key(),
                old.unwrap_or_default(),
                new.unwrap_or_default()
            ));
        }
        inherit(&mut object, before);
    }
    if object.kind() == "Service" {
        forget_addresses_of_another_type(&mut object);
    }
    if object.at("/metadata/uid").is_none() {
        object.set(&["metadata", "uid"], json!(new_uid()?));
    }
    object.set_default(&["metadata", "creationTimestamp"], json!(rfc3339(now)));
    Ok(object)
}

fn inherit(object: &mut Object, before: &Object) {
    let policy = |of: &Object| of.text("/spec/ipFamilyPolicy").unwrap_or("SingleStack").to_owned();
    let new_policy = policy(before) != policy(object);
    let new_address = object.at("/spec/clusterIP").is_some();
    for path in INHERITED {
        let families =
            path.last().is_some_and(|last| ["clusterIP", "clusterIPs", "ipFamilies"].contains(last));
        if families && (new_policy || new_address) {
            continue;
        }
        if let Some(value) = before.at(&format!("/{}", path.join("/"))) {
            object.set_default(path, value.clone());
        }
    }
    if object.kind() == "Service" {
        inherit_node_ports(object, before);
    }
}

fn inherit_node_ports(object: &mut Object, before: &Object) {
    let same =
        |a: &Value, b: &Value| ["name", "port", "protocol"].iter().all(|field| a.get(field) == b.get(field));
    let mut ports = object.list("/spec/ports").to_vec();
    for port in &mut ports {
        let old = before.list("/spec/ports").iter().find(|old| same(old, port));
        if let (Some(node_port), Some(map)) = (old.and_then(|old| old.get("nodePort")), port.as_object_mut())
        {
            map.entry("nodePort").or_insert_with(|| node_port.clone());
        }
    }
    if !ports.is_empty() {
        object.set(&["spec", "ports"], Value::Array(ports));
    }
}

/// A Service that becomes an ExternalName, or headless, has no address of its own any more.
fn forget_addresses_of_another_type(object: &mut Object) {
    if object.text("/spec/type") == Some("ExternalName") {
        object.set(&["spec", "clusterIP"], Value::Null);
        object.set(&["spec", "clusterIPs"], Value::Null);
    }
}

fn new_uid() -> Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned())
}

/// A time as Kubernetes writes it, in whole seconds.
pub fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Days to a date in the proleptic Gregorian calendar: eras of 400 years that start on 1 March.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", of_day / 3_600, of_day / 60 % 60, of_day % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: Value) -> Object {
        Object::make("v1", "Pod", Some("default"), "a", json!({"spec": spec}))
    }

    #[test]
    fn dates_are_right_around_leap_days_and_centuries() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (1_795_420_283, "2026-11-23T07:51:23Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_pod_that_is_applied_again_keeps_its_node_its_uid_and_its_status() {
        let mut before = admit(pod(json!({"nodeName": "node2"})), None, UNIX_EPOCH).unwrap();
        before.set(&["status", "podIP"], json!("10.244.2.2"));
        let again = admit(pod(json!({})), Some(&before), SystemTime::now()).unwrap();
        assert_eq!(again, before);
    }

    #[test]
    fn a_pod_cannot_move_to_another_node() {
        let before = admit(pod(json!({"nodeName": "node2"})), None, UNIX_EPOCH).unwrap();
        let error = admit(pod(json!({"nodeName": "node1"})), Some(&before), UNIX_EPOCH).unwrap_err();
        assert!(error.to_string().contains("Pod default/a: spec.nodeName"), "{error}");
    }
}
