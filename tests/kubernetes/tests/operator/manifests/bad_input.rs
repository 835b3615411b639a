//! Objects that are wrong and that an API server takes all the same: older definitions have no rules.

use std::time::Instant;

use serde_json::{Value, json};
use tortie_lab::{Lab, Probe};
use tortie_tests_e2e::{TestLab, briefly, endpoint};
use tortie_tests_kubernetes::{PATIENCE, kubectl, until};

const POOLS: &str = "ippools.crd.projectcalico.org";
/// Of a cluster whose definitions are older than their rules.
const WITHOUT_RULES: &str = r#"[{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema",
    "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}]"#;
/// Name, and a spec that no validation would let through, with the field that is wrong.
const POOLS_THAT_CANNOT_BE: [(&str, &str, &str); 5] = [
    ("prefix", "{cidr: 10.0.0.0/33}", "spec.cidr"),
    ("host-bits", "{cidr: 10.0.0.1/8}", "spec.cidr"),
    ("nothing", "{}", "spec.cidr"),
    ("overlay", "{cidr: 10.99.0.0/16, vxlanMode: always}", "spec.vxlanMode"),
    ("type", "{cidr: [10.0.0.0/8]}", "spec"),
];

const WORLD: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: bad}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: bad, labels: {app: client}}
spec: {nodeName: node1, containers: [{name: c, image: any}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: bad}
spec: {nodeName: node1, containers: [{name: c, image: any}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: bad, labels: {app: server}}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server, namespace: bad}
spec: {podSelector: {matchLabels: {app: server}}, ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]}
";

/// Each is named by `status`, by an Event where an object is refused, and disturbs nothing that is good.
pub fn is_named_and_disturbs_nothing(test: &mut TestLab) {
    test.apply(WORLD);
    let lab = &test.lab;
    assert_undisturbed(lab, "at first");
    pools_without_rules(lab);
    nodes(lab);
    pods_outside_the_pools(lab);
    big_objects(lab);
    strange_texts(lab);
    lab.wait(PATIENCE).unwrap();
    let status = status(lab);
    assert_eq!(status["health"], "healthy", "{}", status["reasons"]);
}

fn pools_without_rules(lab: &Lab) {
    let kept = kubectl(lab, &["get", "crd", POOLS, "-o", "json"], "").unwrap();
    let mut kept: Value = serde_json::from_str(&kept).unwrap();
    kubectl(lab, &["patch", "crd", POOLS, "--type=json", "--patch", WITHOUT_RULES], "").unwrap();
    let pool = |name: &str, spec: &str| {
        format!(
            "{{apiVersion: crd.projectcalico.org/v1, kind: IPPool, metadata: {{name: {name}}}, spec: {spec}}}"
        )
    };
    for (name, spec, field) in POOLS_THAT_CANNOT_BE {
        // A definition that has changed counts a moment later.
        until(|| kubectl(lab, &["apply", "-f", "-"], &pool(name, spec)).is_ok(), spec);
        until(|| is_rejected(lab, name, field, "absent"), &format!("status names {name}"));
        until(|| has_event(lab, "Rejected", ("IPPool", name), field), &format!("an Event names {name}"));
    }
    // One that was good, with pods in it.
    let good = kubectl(lab, &["get", POOLS, "default-ipv4-ippool", "-o", "json"], "").unwrap();
    let good: Value = serde_json::from_str(&good).unwrap();
    let spec = |spec: &Value| json!({ "spec": spec }).to_string();
    let patch = |spec: &str| {
        let arguments = ["patch", POOLS, "default-ipv4-ippool", "--type=merge", "--patch", spec];
        kubectl(lab, &arguments, "").unwrap();
    };
    patch(&spec(&json!({"cidr": "nonsense"})));
    until(|| is_rejected(lab, "default-ipv4-ippool", "spec.cidr", "keepsLast"), "the last good pool stays");
    assert_undisturbed(lab, "with a pool that is wrong");
    assert_eq!(conflicts(lab), "", "its pods are inside the pool that stays");
    patch(&spec(&good["spec"]));
    for (name, _, _) in POOLS_THAT_CANNOT_BE {
        kubectl(lab, &["delete", POOLS, name], "").unwrap();
    }
    let schema = kept["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take();
    let back = json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": schema}]);
    kubectl(lab, &["patch", "crd", POOLS, "--type=json", "--patch", &back.to_string()], "").unwrap();
    until(|| status(lab)["rejected"] == json!([]), "everything is right again");
}

/// One with another's address, one with none, and those whose pods would have another's addresses.
fn nodes(lab: &Lab) {
    let own = kubectl(lab, &["get", "node", "node1", "-o", "jsonpath={.spec.podCIDR}"], "").unwrap();
    let own = own.trim();
    let node = |name: &str, cidr: &str| {
        format!(
            "{{apiVersion: v1, kind: Node, metadata: {{name: {name}}}, spec: {{podCIDR: {cidr}, podCIDRs: [{cidr}]}}}}"
        )
    };
    for (name, cidr) in [
        ("twin", "10.244.77.0/24"),
        ("bare", "10.244.78.0/24"),
        ("owner", "10.244.79.0/24"),
        ("thief", "10.244.79.0/24"),
        ("squatter", own),
    ] {
        kubectl(lab, &["create", "-f", "-"], &node(name, cidr)).unwrap();
    }
    let addresses = |address: &str| {
        json!({"status": {"addresses": [{"type": "InternalIP", "address": address}]}}).to_string()
    };
    for (name, address) in [("twin", "10.240.0.1"), ("thief", "10.240.0.79"), ("owner", "10.240.0.80")] {
        kubectl(lab, &["patch", "node", name, "--subresource=status", "--patch", &addresses(address)], "")
            .unwrap();
    }
    until(|| conflicts(lab).contains("address 10.240.0.1"), "status says that two nodes have one address");
    let refused = |cidr: &str, node: &str| conflicts(lab).contains(&format!("podCIDR {cidr} of Node {node}"));
    until(|| refused("10.244.79.0/24", "thief"), "status says that two nodes have one prefix");
    until(|| refused(own, "squatter"), "status says who wants this node's prefix");
    until(|| conflicts(lab).contains("Node bare "), "status says which node has no address");
    for (reason, node, word) in [
        ("AddressTaken", "twin", "10.240.0.1"),
        ("PodCIDRRefused", "thief", "10.244.79.0/24"),
        ("PodCIDRRefused", "squatter", own),
        ("NoNodeAddress", "bare", "--node-ip"),
    ] {
        until(|| has_event(lab, reason, ("Node", node), word), &format!("an Event tells Node {node}"));
    }
    assert_undisturbed(lab, "with nodes that cannot be");
    let nonsense = addresses("127.0.0.1");
    kubectl(lab, &["patch", "node", "thief", "--subresource=status", "--patch", &nonsense], "").unwrap();
    until(|| is_rejected(lab, "thief", "status.addresses[0].address", "keepsLast"), "status names the Node");
    until(|| has_event(lab, "Rejected", ("Node", "thief"), "127.0.0.1"), "an Event names the Node");
    assert_undisturbed(lab, "with a node that has no address anybody could reach");
    kubectl(lab, &["delete", "node", "twin", "bare", "thief", "owner", "squatter"], "").unwrap();
    until(|| conflicts(lab).is_empty(), "nothing is contested any more");
}

fn pods_outside_the_pools(lab: &Lab) {
    let kept = kubectl(lab, &["get", POOLS, "default-ipv4-ippool", "-o", "json"], "").unwrap();
    let mut kept: Value = serde_json::from_str(&kept).unwrap();
    // Where there is no pool at all, nothing is outside.
    let elsewhere = "{apiVersion: crd.projectcalico.org/v1, kind: IPPool, metadata: {name: elsewhere}, spec: {cidr: 10.251.0.0/16}}";
    kubectl(lab, &["create", "-f", "-"], elsewhere).unwrap();
    kubectl(lab, &["delete", POOLS, "default-ipv4-ippool"], "").unwrap();
    until(|| conflicts(lab).contains("of Pod bad/server"), "status names pods outside the pools");
    let event = || has_event(lab, "OutsidePools", ("Pod", "server"), "is outside every IPPool");
    until(event, "an Event tells the pod");
    let described = kubectl(lab, &["-n", "bad", "describe", "pod", "server"], "").unwrap();
    assert!(described.contains("OutsidePools"), "{described}");
    assert_undisturbed(lab, "with pods outside the pools");
    for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"] {
        kept["metadata"].as_object_mut().unwrap().remove(field);
    }
    kubectl(lab, &["create", "-f", "-"], &kept.to_string()).unwrap();
    kubectl(lab, &["delete", POOLS, "elsewhere"], "").unwrap();
    until(|| conflicts(lab).is_empty(), "the pool is there again");
}

/// As much as an API server takes: a quarter of a megabyte of annotations, and ten thousand rules.
fn big_objects(lab: &Lab) {
    let much = "x".repeat(250 << 10);
    let annotated = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "big", "namespace": "bad", "annotations": {"example.com/much": much}},
        "spec": {"nodeName": "node1", "containers": [{"name": "c", "image": "any"}]}});
    kubectl(lab, &["create", "-f", "-"], &annotated.to_string()).unwrap();
    let rule = |n: u32| json!({"from": [{"ipBlock": {"cidr": format!("10.{}.{}.0/24", n / 250, n % 250)}}]});
    let rules: Vec<Value> = (0..10_000).map(rule).collect();
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "big", "namespace": "bad"},
        "spec": {"podSelector": {"matchLabels": {"app": "server"}}, "ingress": rules}});
    kubectl(lab, &["create", "-f", "-"], &policy.to_string()).unwrap();
    lab.wait(PATIENCE).unwrap();
    assert_undisturbed(lab, "with ten thousand rules");
    assert_eq!(status(lab)["rejected"], json!([]));
    kubectl(lab, &["-n", "bad", "delete", "networkpolicy/big", "pod/big"], "").unwrap();
}

/// An API server refuses strange label values itself; annotations may hold anything.
fn strange_texts(lab: &Lab) {
    let strange = ["\u{202e}evil", "e\u{301}", "\u{1f9a6}\u{200d}\u{1f9a6}", "\u{feff}", "a\nb: [\u{7}"];
    for text in strange {
        let labelled = json!({"metadata": {"labels": {"l": text}}}).to_string();
        let said =
            kubectl(lab, &["-n", "bad", "patch", "pod", "client", "--patch", &labelled], "").unwrap_err();
        assert!(said.contains("metadata.labels"), "{said}");
        let annotated = json!({"metadata": {"annotations": {"example.com/strange": text}}}).to_string();
        for object in ["pod/client", "networkpolicy/server", "namespace/bad"] {
            kubectl(lab, &["-n", "bad", "patch", object, "--patch", &annotated], "").unwrap();
        }
    }
    lab.wait(PATIENCE).unwrap();
    assert_undisturbed(lab, "with strange annotations");
    assert_eq!(status(lab)["rejected"], json!([]));
}

fn assert_undisturbed(lab: &Lab, when: &str) {
    let may = |from: &str| {
        let mut probe = Probe::new(endpoint(from), endpoint("pod:bad/server"));
        briefly(&mut probe);
        lab.probe(&probe).unwrap().is_connected()
    };
    assert_eq!((may("pod:bad/client"), may("pod:bad/stranger")), (true, false), "{when}");
}

fn status(lab: &Lab) -> Value {
    lab.ask_agent("node1", &json!({"verb": "status"}), Instant::now() + PATIENCE).unwrap()
}

/// Contested things, in one text; empty when there is none.
fn conflicts(lab: &Lab) -> String {
    let status = status(lab);
    let rows = status["conflicts"].as_array().unwrap().iter();
    rows.map(|row| format!("{} {}\n", row["contested"].as_str().unwrap(), row["detail"].as_str().unwrap()))
        .collect()
}

fn is_rejected(lab: &Lab, name: &str, field: &str, effect: &str) -> bool {
    let status = status(lab);
    let mut rows = status["rejected"].as_array().unwrap().iter();
    rows.any(|row| {
        row["effect"] == effect && row.to_string().contains(name) && row.to_string().contains(field)
    })
}

fn has_event(lab: &Lab, reason: &str, (kind, name): (&str, &str), word: &str) -> bool {
    let printed = kubectl(lab, &["get", "events", "-A", "-o", "json"], "").unwrap();
    let events: Value = serde_json::from_str(&printed).unwrap();
    events["items"].as_array().unwrap().iter().any(|event| {
        let about = &event["involvedObject"];
        about["kind"] == kind
            && about["name"] == name
            && event["reason"] == reason
            && event["message"].as_str().is_some_and(|text| text.contains(word))
    })
}
