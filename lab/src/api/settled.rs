//! Whether the cluster has finished what it was asked for.
//!
//! Owns: the comparison of what users want with what scheduler, kubelet and controllers have made of it.
//! Does not: ask agents; they are asked when everything they are to enforce is in the API server.
//! Invariant: a cluster counts as settled only when the API server itself says so, of the pods that are attached now.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tortie_store::kube::Method;

use super::{explain, known};
use crate::cluster::{expected_slices, is_ready_by_annotation};
use crate::error::{Error, Result, silent};
use crate::lab::Lab;
use crate::object::{Key, Object};
use crate::world::World;

const MANAGED_BY: &str = "/metadata/labels/endpointslice.kubernetes.io~1managed-by";

/// Controllers' kinds: path, and where they say how many pods they want and have.
const CONTROLLERS: [(&str, &str, &str); 4] = [
    ("deployments", "/spec/replicas", "/status/updatedReplicas"),
    ("replicasets", "/spec/replicas", "/status/replicas"),
    ("statefulsets", "/spec/replicas", "/status/replicas"),
    ("daemonsets", "/status/desiredNumberScheduled", "/status/updatedNumberScheduled"),
];

impl Lab {
    /// Returns when pods run, are ready or not as they should be, and are in their Services' EndpointSlices.
    pub(crate) fn wait_until_settled(&self, deadline: Instant) -> Result<()> {
        loop {
            let unsettled = match self.unsettled() {
                Ok(None) => return Ok(()),
                Ok(Some(text)) => text,
                Err(error @ Error::NotAllowed(_)) => return Err(error),
                // An API server that has just been started refuses, or has lost its database for a moment.
                Err(error) => error.to_string(),
            };
            if Instant::now() > deadline {
                return Err(silent!("the cluster has not settled: {unsettled}"));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Something that is still to happen.
    fn unsettled(&self) -> Result<Option<String>> {
        for (plural, wanted, there) in CONTROLLERS {
            if let Some(text) = self.unsettled_controller(plural, wanted, there)? {
                return Ok(Some(text));
            }
        }
        let mut world = self.world()?;
        if let Some(pod) = world.of_kind("Pod").find(|pod| !self.pod_is_settled(pod)) {
            return Ok(Some(format!("{} is not as it should be yet", pod.key())));
        }
        self.list_into(&mut world, known("discovery.k8s.io", "EndpointSlice")?)?;
        Ok(late_service(&world)
            .map(|(namespace, name)| format!("the EndpointSlices of {namespace}/{name} are not there yet")))
    }

    fn unsettled_controller(&self, plural: &str, wanted: &str, there: &str) -> Result<Option<String>> {
        let list = self.cluster()?.raw(&Method::GET, &format!("/apis/apps/v1/{plural}"), None);
        let list = list.map_err(explain)?;
        let items = list.get("items").and_then(Value::as_array).into_iter().flatten();
        let number = |item: &Value, pointer: &str| item.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        let mut late = items.filter(|item| {
            let seen = number(item, "/status/observedGeneration") >= number(item, "/metadata/generation");
            let all = number(item, "/status/replicas");
            let extra = plural == "deployments" && all != number(item, wanted);
            !seen || number(item, wanted) != number(item, there) || extra
        });
        Ok(late.next().map(|item| {
            let name = item.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            format!("{plural} {name} has not all its pods yet")
        }))
    }

    /// Pods that are not for our nodes are nobody's concern here.
    fn pod_is_settled(&self, pod: &Object) -> bool {
        if let Some(name) = pod.text("/spec/nodeName")
            && self.state.plan.node(name).is_err()
        {
            return true;
        }
        if pod.at("/metadata/deletionTimestamp").is_some() {
            return true;
        }
        let mut conditions = pod.list("/status/conditions").iter();
        let ready = conditions.any(|condition| {
            condition.get("type").is_some_and(|kind| kind == "Ready")
                && condition.get("status").is_some_and(|status| status == "True")
        });
        self.has_its_address(pod) && ready == is_ready_by_annotation(pod)
    }

    /// A sandbox that was made anew has another address, of which the API server may not have heard yet.
    fn has_its_address(&self, pod: &Object) -> bool {
        let Some(said) = pod.text("/status/podIP") else { return false };
        let attached = self.attachment(pod.namespace().unwrap_or_default(), pod.name());
        attached.is_ok_and(|attached| attached.addresses.iter().any(|address| address.to_string() == said))
    }
}

/// Of each Service, the addresses behind it with their conditions.
type Endpoints = BTreeMap<(String, String), BTreeSet<String>>;

/// A Service whose slices are not what its pods are. Those of one without a selector, and of a name outside, the
/// controller leaves as they are, also where it made them before.
fn late_service(world: &World) -> Option<(String, String)> {
    let controlled = |slice: &&Object| slice.text(MANAGED_BY) == Some("endpointslice-controller.k8s.io");
    let slices: Vec<Object> = world.of_kind("EndpointSlice").filter(controlled).cloned().collect();
    let (expected, there) = (endpoints(&expected_slices(world)), endpoints(&slices));
    let of = |all: &Endpoints, service: &_| all.get(service).cloned().unwrap_or_default();
    let left_alone = |(namespace, name): &(String, String)| {
        let service = world.get(&Key::core("Service", Some(namespace), name));
        service.is_some_and(|service| {
            service.text("/spec/type") == Some("ExternalName") || service.at("/spec/selector").is_none()
        })
    };
    let mut services = expected.keys().chain(there.keys()).filter(|service| !left_alone(service));
    services.find(|service| of(&expected, service) != of(&there, service)).cloned()
}

fn endpoints(slices: &[Object]) -> Endpoints {
    let mut found = Endpoints::new();
    for slice in slices {
        let Some(service) = slice.text("/metadata/labels/kubernetes.io~1service-name") else { continue };
        let key = (slice.namespace().unwrap_or_default().to_owned(), service.to_owned());
        let set = found.entry(key).or_default();
        for endpoint in slice.list("/endpoints") {
            let address = endpoint.pointer("/addresses/0").and_then(Value::as_str).unwrap_or_default();
            let is = |name: &str| {
                endpoint.pointer(&format!("/conditions/{name}")).and_then(Value::as_bool).unwrap_or(false)
            };
            set.insert(format!("{address} {} {} {}", is("ready"), is("serving"), is("terminating")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A Service, and a slice that the controller made for it when it had a pod.
    fn world(spec: Option<Value>) -> World {
        let mut world = World::default();
        if let Some(spec) = spec {
            world.put(Object::make("v1", "Service", Some("default"), "chg", json!({"spec": spec})));
        }
        let endpoints = json!([{"addresses": ["10.244.1.2"], "conditions": {"ready": true}}]);
        let body = json!({"addressType": "IPv4", "ports": [], "endpoints": endpoints});
        let mut slice =
            Object::make("discovery.k8s.io/v1", "EndpointSlice", Some("default"), "chg-abc", body);
        slice.set(&["metadata", "labels", "kubernetes.io/service-name"], json!("chg"));
        let managed_by = "endpointslice.kubernetes.io/managed-by";
        slice.set(&["metadata", "labels", managed_by], json!("endpointslice-controller.k8s.io"));
        world.put(slice);
        world
    }

    #[test]
    fn slices_that_the_controller_leaves_as_they_are_are_not_waited_for() {
        for (spec, late) in [
            (Some(json!({"selector": {"app": "a"}, "ipFamilies": ["IPv4"]})), true),
            (None, true),
            (Some(json!({"type": "ExternalName", "selector": {"app": "a"}})), false),
            (Some(json!({"ipFamilies": ["IPv4"]})), false),
        ] {
            assert_eq!(late_service(&world(spec.clone())).is_some(), late, "{spec:?}");
        }
    }
}
