//! Objects that are valid and do not fit to what is there: an EndpointSlice before its Service, a Pod outside the pools.
//!
//! Owns: the warnings. Does not: refuse; the missing part may come later, and the agent reports what lasts.
//! Invariant: a warning names where the object was read, the object, the field and the fix.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;
use tortie_store::kind::Role;
use tortie_store::resource::{Key, Resource};

/// What is there, as far as these questions go.
pub trait World {
    /// Whether there is such an object.
    fn has(&self, key: &Key) -> bool;
    /// `spec.cidr` of every IPPool.
    fn pools(&self) -> Vec<IpNet>;
}

/// What does not fit, one line for each.
pub fn warnings(resource: &Resource, world: &impl World) -> Vec<String> {
    let said = |field: &str, problem: String, fix: &str| {
        format!("{}: {field}: {problem}; {fix}", resource.key.object_name())
    };
    match resource.role() {
        Role::EndpointSlice => missing_service(resource)
            .filter(|key| !world.has(key))
            .map(|key| {
                said(
                    "metadata.labels[kubernetes.io/service-name]",
                    format!("there is no Service {}/{} yet", key.namespace, key.name),
                    "its endpoints are used as soon as the Service comes; create it, or remove the slice",
                )
            })
            .into_iter()
            .collect(),
        Role::Pod => outside(resource, &world.pools())
            .map(|(field, address)| {
                said(
                    &field,
                    format!("{address} is outside every IPPool"),
                    "extend a pool to it, or give the pod an address of a pool",
                )
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// The Service that a slice names.
fn missing_service(slice: &Resource) -> Option<Key> {
    let (_, service) = slice.labels().find(|(key, _)| *key == "kubernetes.io/service-name")?;
    (!service.is_empty()).then(|| Key {
        group: String::new(),
        kind: "Service".into(),
        namespace: slice.key.namespace.clone(),
        name: service.into(),
    })
}

/// A pod's own addresses that no pool of their family has, where there are pools of it.
fn outside(pod: &Resource, pools: &[IpNet]) -> impl Iterator<Item = (String, IpAddr)> {
    let on_the_host = pod.value.pointer("/spec/hostNetwork").and_then(Value::as_bool) == Some(true);
    let at = |path: &str| pod.value.pointer(path).and_then(Value::as_str)?.parse::<IpAddr>().ok();
    let listed = pod.value.pointer("/status/podIPs").and_then(Value::as_array).map_or(0, Vec::len);
    let mut addresses: Vec<(String, IpAddr)> = (0..listed)
        .filter_map(|n| Some((format!("status.podIPs[{n}].ip"), at(&format!("/status/podIPs/{n}/ip"))?)))
        .collect();
    if addresses.is_empty() {
        addresses.extend(at("/status/podIP").map(|address| ("status.podIP".to_owned(), address)));
    }
    addresses.into_iter().filter(move |(_, address)| {
        let mut of_family = pools.iter().filter(|pool| pool.addr().is_ipv6() == address.is_ipv6()).peekable();
        !on_the_host && of_family.peek().is_some() && !of_family.any(|pool| pool.contains(address))
    })
}

/// The range of an IPPool.
pub fn range(pool: &Value) -> Option<IpNet> {
    pool.pointer("/spec/cidr")?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Has(Vec<&'static str>, Vec<&'static str>);

    impl World for Has {
        fn has(&self, key: &Key) -> bool {
            self.0.iter().any(|name| *name == format!("{}/{}", key.namespace, key.name))
        }
        fn pools(&self) -> Vec<IpNet> {
            self.1.iter().filter_map(|cidr| range(&json!({"spec": {"cidr": cidr}}))).collect()
        }
    }

    fn pod(addresses: &[&str], host: bool) -> Resource {
        let ips: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        let value = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"hostNetwork": host}, "status": {"podIPs": ips}});
        Resource::new(value, "shop").unwrap()
    }

    #[test]
    fn a_slice_is_told_of_its_missing_service_and_not_of_one_that_is_there() {
        let value = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "s", "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4"});
        let slice = Resource::new(value, "shop").unwrap();
        let told = warnings(&slice, &Has(vec![], vec![]));
        assert!(
            told[0].contains("EndpointSlice shop/s") && told[0].contains("no Service shop/web"),
            "{told:?}"
        );
        assert!(warnings(&slice, &Has(vec!["shop/web"], vec![])).is_empty());
    }

    #[test]
    fn a_pods_addresses_are_held_against_the_pools_of_their_family() {
        let pools = vec!["10.0.0.0/16", "10.2.0.0/16"];
        let told = warnings(&pod(&["172.31.0.9", "fd00::1"], false), &Has(vec![], pools.clone()));
        assert_eq!(told.len(), 1, "there is no pool of the other family: {told:?}");
        assert!(told[0].starts_with("Pod shop/p: status.podIPs[0].ip: 172.31.0.9 is outside"), "{told:?}");
        assert!(warnings(&pod(&["10.2.0.9"], false), &Has(vec![], pools.clone())).is_empty());
        assert!(warnings(&pod(&["192.0.2.9"], true), &Has(vec![], pools)).is_empty());
        assert!(warnings(&pod(&["172.31.0.9"], false), &Has(vec![], vec![])).is_empty(), "no pool, no check");
    }
}
