//! What the API server does to an object that arrives.
//!
//! Owns: identity, times, and the fields that a later version of an object inherits from the one before.
//! Does not: validate fields; the store does.
//! Invariant: what the cluster has decided once (node, addresses, uid) stays when the user applies again.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::services::has_node_ports;
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

/// Ports that have the same name keep their node ports, whatever else of them changed. A Service that has no use for them any
/// more loses those that it has from before.
fn inherit_node_ports(object: &mut Object, before: &Object) {
    let node_port = |port: &Value| port.get("nodePort").and_then(Value::as_u64);
    let node_ports =
        |of: &Object| of.list("/spec/ports").iter().filter_map(node_port).collect::<BTreeSet<u64>>();
    let (old, given) = (node_ports(before), node_ports(object));
    if !has_node_ports(before) || old.is_empty() {
        return;
    }
    let mut ports = object.list("/spec/ports").to_vec();
    if has_node_ports(object) {
        let mut used: BTreeSet<u64> = old.intersection(&given).copied().collect();
        for port in ports.iter_mut().filter(|port| node_port(port).is_none()) {
            let same_name = |old: &&Value| old.get("name") == port.get("name");
            let known = before.list("/spec/ports").iter().find(same_name).and_then(node_port);
            if let (Some(number), Some(map)) = (known.filter(|it| used.insert(*it)), port.as_object_mut()) {
                map.insert("nodePort".into(), json!(number));
            }
        }
    } else if old == given {
        ports.iter_mut().filter_map(Value::as_object_mut).for_each(|port| _ = port.remove("nodePort"));
    }
    if !ports.is_empty() {
        object.set(&["spec", "ports"], Value::Array(ports));
    }
}

/// A Service that becomes an ExternalName has no address of its own any more, and one that is no LoadBalancer none of a load
/// balancer.
fn forget_addresses_of_another_type(object: &mut Object) {
    if object.text("/spec/type") == Some("ExternalName") {
        object.set(&["spec", "clusterIP"], Value::Null);
        object.set(&["spec", "clusterIPs"], Value::Null);
    }
    if object.text("/spec/type") != Some("LoadBalancer") && object.at("/status/loadBalancer").is_some() {
        object.set(&["status", "loadBalancer"], json!({}));
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

    fn service(spec: Value) -> Object {
        Object::make("v1", "Service", Some("default"), "a", json!({"spec": spec}))
    }

    /// What becomes of a Service that is applied with `spec`, where one is with `before`.
    fn applied(before: Value, spec: Value) -> Object {
        let mut before = service(before);
        if before.text("/spec/type") == Some("LoadBalancer") {
            before.set(&["status", "loadBalancer", "ingress"], json!([{"ip": "198.51.100.1"}]));
        }
        admit(service(spec), Some(&before), UNIX_EPOCH).unwrap()
    }

    fn node_ports(of: &Object) -> Vec<Option<u64>> {
        of.list("/spec/ports").iter().map(|port| port.get("nodePort")?.as_u64()).collect()
    }

    #[test]
    fn a_service_of_another_type_has_no_node_ports_and_no_load_balancers_address_any_more() {
        let ports = |node_port: Value| json!([{"port": 80, "protocol": "TCP", "nodePort": node_port}]);
        for before in ["NodePort", "LoadBalancer"] {
            let before = json!({"type": before, "ports": ports(json!(30080))});
            // Left out, or as `get` shows it.
            for again in [json!([{"port": 80}]), ports(json!(30080))] {
                for spec in [json!({"ports": again}), json!({"type": "ClusterIP", "ports": again})] {
                    let now = applied(before.clone(), spec);
                    assert_eq!(node_ports(&now), [None]);
                    assert!(now.list("/status/loadBalancer/ingress").is_empty());
                }
            }
            let now = applied(before, json!({"type": "LoadBalancer", "ports": [{"port": 80}]}));
            assert_eq!(node_ports(&now), [Some(30080)]);
        }
        let asked = json!({"ports": ports(json!(30081))});
        let now = applied(json!({"type": "NodePort", "ports": ports(json!(30080))}), asked);
        assert_eq!(
            node_ports(&now),
            [Some(30081)],
            "what somebody asks for is refused elsewhere, not dropped"
        );
    }

    #[test]
    fn a_port_keeps_its_node_port_by_its_name() {
        let before = json!({"type": "NodePort", "ports": [
            {"name": "a", "port": 80, "protocol": "TCP", "nodePort": 30080},
            {"name": "b", "port": 81, "protocol": "TCP", "nodePort": 30081},
        ]});
        let again = json!({"type": "NodePort", "ports": [
            {"name": "b", "port": 8081},
            {"name": "c", "port": 80, "nodePort": 30080},
            {"name": "a", "port": 82},
        ]});
        assert_eq!(node_ports(&applied(before, again)), [Some(30081), Some(30080), None], "30080 is c's now");
        let unnamed =
            json!({"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}]});
        let again = json!({"type": "NodePort", "ports": [{"port": 80}]});
        assert_eq!(node_ports(&applied(unnamed, again)), [Some(30080)], "TCP is what no protocol means");
    }
}
