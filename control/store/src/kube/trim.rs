//! Only what is needed of an object, before it is kept.
//!
//! Owns: the fields that the model reads, by kind. Does not: read them.
//! Invariant: what `wire` reads is here, so that reading the trimmed object gives the same; what a newer server
//! adds to Pods, Nodes, Services and EndpointSlices is not here, so that it is no unknown field.

use crate::calico;
use crate::kind::{Kind, Role};
use serde_json::{Map, Value};

/// Annotations that mean something to us contain one of these.
const OUR_ANNOTATIONS: [&str; 4] =
    ["projectcalico.org/", "tortie.dev/", "service.kubernetes.io/", crate::wire::pod::STATIC_UID];

const METADATA: [&str; 8] = [
    "name",
    "namespace",
    "labels",
    "annotations",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
];
const PORT: &[Field] = &[one("containerPort"), one("name"), one("protocol"), one("hostIP"), one("hostPort")];
const CONTAINER: &[Field] = &[one("name"), one("restartPolicy"), each("ports", PORT)];
const POD: &[Field] = &[
    part(
        "spec",
        &[
            one("nodeName"),
            one("hostNetwork"),
            one("serviceAccountName"),
            one("serviceAccount"),
            each("containers", CONTAINER),
            each("initContainers", CONTAINER),
        ],
    ),
    part("status", &[one("phase"), one("podIP"), each("podIPs", &[one("ip")])]),
];
const NODE: &[Field] = &[
    part("spec", &[one("podCIDR"), one("podCIDRs"), each("taints", &[one("key"), one("effect")])]),
    part("status", &[each("addresses", &[one("type"), one("address")])]),
];
const SERVICE: &[Field] = &[
    part(
        "spec",
        &[
            one("clusterIP"),
            one("clusterIPs"),
            one("externalIPs"),
            one("externalName"),
            one("externalTrafficPolicy"),
            one("healthCheckNodePort"),
            one("internalTrafficPolicy"),
            one("ipFamilies"),
            one("ipFamilyPolicy"),
            one("loadBalancerClass"),
            one("loadBalancerIP"),
            one("loadBalancerSourceRanges"),
            each(
                "ports",
                &[
                    one("name"),
                    one("protocol"),
                    one("port"),
                    one("targetPort"),
                    one("nodePort"),
                    one("appProtocol"),
                ],
            ),
            one("publishNotReadyAddresses"),
            one("sessionAffinity"),
            one("sessionAffinityConfig"),
            one("trafficDistribution"),
            one("type"),
        ],
    ),
    part("status", &[part("loadBalancer", &[each("ingress", &[one("ip"), one("hostname"), one("ipMode")])])]),
];
const SLICE: &[Field] = &[
    one("addressType"),
    each("ports", &[one("name"), one("protocol"), one("port"), one("appProtocol")]),
    each(
        "endpoints",
        &[
            one("addresses"),
            part("conditions", &[one("ready"), one("serving"), one("terminating")]),
            one("nodeName"),
            one("zone"),
            part("hints", &[each("forZones", &[one("name")]), each("forNodes", &[one("name")])]),
        ],
    ),
];

/// A field that stays.
struct Field {
    name: &'static str,
    /// Of it, or of each item of it, only these; `None`: all.
    of: Option<&'static [Field]>,
    each: bool,
}

const fn one(name: &'static str) -> Field {
    Field { name, of: None, each: false }
}

const fn part(name: &'static str, of: &'static [Field]) -> Field {
    Field { name, of: Some(of), each: false }
}

const fn each(name: &'static str, of: &'static [Field]) -> Field {
    Field { name, of: Some(of), each: true }
}

/// Drops what is not needed of an object of that kind.
pub(super) fn trim(kind: &Kind, value: &mut Value) {
    let Some(object) = value.as_object_mut() else { return };
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        if kind.group == "projectcalico.org" {
            calico::restore(metadata);
        }
        metadata.retain(|name, _| METADATA.contains(&name.as_str()));
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.retain(|key, _| OUR_ANNOTATIONS.iter().any(|ours| key.contains(ours)));
            annotations.remove(calico::METADATA);
        }
    }
    let fields = match kind.role {
        Role::Pod => POD,
        Role::Node => NODE,
        Role::Service => SERVICE,
        Role::EndpointSlice => SLICE,
        Role::Namespace => &[],
        _ if matches!(kind.kind, "ServiceAccount" | "CustomResourceDefinition") => &[],
        _ => {
            object.remove("status");
            return;
        }
    };
    keep(object, fields, true);
}

fn keep(object: &mut Map<String, Value>, fields: &[Field], whole: bool) {
    let identity = ["apiVersion", "kind", "metadata"];
    object.retain(|name, value| {
        if whole && identity.contains(&name.as_str()) {
            return true;
        }
        let Some(field) = fields.iter().find(|field| field.name == name) else { return false };
        let Some(of) = field.of else { return true };
        match value {
            Value::Object(map) if !field.each => keep(map, of, false),
            Value::Array(items) if field.each => {
                items.iter_mut().filter_map(Value::as_object_mut).for_each(|map| keep(map, of, false));
            }
            // Not what it should be: whoever reads it says so.
            _ => {}
        }
        true
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::named;
    use serde_json::json;

    fn trimmed(kind: &str, mut value: Value) -> Value {
        trim(named(kind).expect("a kind"), &mut value);
        value
    }

    #[test]
    fn of_a_pod_only_what_the_model_reads_stays() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "namespace": "b", "labels": {"l": "v"}, "managedFields": [1],
                "annotations": {"big": "x", "cni.projectcalico.org/podIPs": "10.0.0.1/32"}},
            "spec": {"nodeName": "n", "volumes": [1], "newField": {},
                "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 1, "name": "p"}]}]},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [1]},
        });
        let expected = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "namespace": "b", "labels": {"l": "v"},
                "annotations": {"cni.projectcalico.org/podIPs": "10.0.0.1/32"}},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [{"containerPort": 1, "name": "p"}]}]},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]},
        });
        assert_eq!(trimmed("pod", pod), expected);
    }

    #[test]
    fn labels_of_calicos_storage_form_are_those_that_were_written() {
        let stored = json!({"labels": {"a": "b"}, "annotations": {"k": "v"}}).to_string();
        let pool = json!({
            "apiVersion": "crd.projectcalico.org/v1", "kind": "IPPool", "spec": {"cidr": "10.0.0.0/8"},
            "metadata": {"name": "p", "annotations": {"projectcalico.org/metadata": stored}},
        });
        let pool = trimmed("ippool", pool);
        assert_eq!(pool["metadata"], json!({"name": "p", "labels": {"a": "b"}, "annotations": {}}));
        assert_eq!(pool["spec"]["cidr"], "10.0.0.0/8");
    }
}
