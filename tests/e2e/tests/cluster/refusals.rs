//! Input that is wrong: named, refused as a whole, and without effect on what is in force.

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use tortie_lab::Lab;
use tortie_tests_e2e::{TestLab, briefly, eventually, tortie_lab};

use crate::verbs::{assert_no_panic, cluster, on_node, said, status, written};

const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: friend, labels: {app: friend}}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, labels: {app: stranger}}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server}
spec: {podSelector: {matchLabels: {app: server}}, ingress: [{from: [{podSelector: {matchLabels: {app: friend}}}]}]}
";

/// A second object would change the matrix if anything of the file were taken.
const OPENER: &str = "
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: opener}
spec: {podSelector: {matchLabels: {app: server}}, ingress: [{}]}
";

/// Name, YAML, and what the error must say: the object, the field, the fix.
const WRONG: &[(&str, &str, &[&str])] = &[
    ("no-yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: x\n", &["unclosed", "correct the YAML"]),
    (
        "cidr",
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/99}}]}]}\n",
        &["NetworkPolicy default/p", "spec.ingress[0].from[0].ipBlock.cidr", "10.0.0.0/99", "write it as"],
    ),
    (
        "except-outside",
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]}]}\n",
        &["NetworkPolicy default/p", "spec.ingress[0].from[0].ipBlock.except[0]", "11.0.0.0/16"],
    ),
    (
        "port-range",
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelector: {}, ingress: [{ports: [{port: 90, endPort: 80}]}]}\n",
        &["NetworkPolicy default/p", "spec.ingress[0].ports[0].endPort", "80"],
    ),
    (
        "service-port",
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {selector: {app: server}, ports: [{port: 70000}]}\n",
        &["Service default/s", "spec.ports[0].port", "70000", "1 to 65535"],
    ),
    (
        "unknown-field",
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelector: {}, ingres: []}\n",
        &["NetworkPolicy default/p", "ingres"],
    ),
    (
        "twice",
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {selector: {a: b}, ports: [{port: 80}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {selector: {a: c}, ports: [{port: 80}]}\n",
        &["Service default/s", "once"],
    ),
];

/// Friend may, stranger may not.
fn assert_unchanged(test: &TestLab, after: &str) {
    let ask = |from: &str| test.probe(from, "pod:default/server", briefly);
    assert!(ask("pod:default/friend").is_connected(), "{after}");
    assert!(!ask("pod:default/stranger").is_connected(), "{after}");
}

fn lab_apply(lab: &Lab, file: &std::path::Path) -> Output {
    tortie_lab(&lab.name, &["apply", "-f", file.to_str().expect("a path")])
}

#[test]
fn a_wrong_file_is_refused_with_object_field_and_fix_and_changes_nothing() {
    let test = cluster(2, WORLD);
    let directory = tempfile::tempdir().expect("a directory");
    let before = test.lab.objects().expect("objects").len();
    for (name, yaml, words) in WRONG {
        let file_name = format!("{name}.yaml");
        // Broken YAML has no second object that a reader could still see.
        let text = if *name == "no-yaml" { (*yaml).to_owned() } else { format!("{yaml}{OPENER}") };
        let file = written(directory.path(), &file_name, &text);
        let path = file.to_str().expect("a path");
        for (verb, output) in [
            ("lab apply", lab_apply(&test.lab, &file)),
            ("apply", on_node(&test.lab, "node1", &["apply", "-f", path])),
            ("validate", on_node(&test.lab, "node1", &["validate", "-f", path])),
        ] {
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{name}, {verb}: {}", said(&output));
            assert_no_panic(&output);
            for word in words.iter().copied().chain([file_name.as_str()]) {
                assert!(stderr.contains(word), "{name}, {verb}: {word:?} is not in: {stderr}");
            }
        }
        assert_eq!(test.lab.objects().expect("objects").len(), before, "{name}");
    }
    test.lab.wait(Duration::from_secs(30)).expect("wait");
    assert_unchanged(&test, "all refusals");
    for node in ["node1", "node2"] {
        assert_eq!(status(&test.lab, node).0, Some(0), "{node}");
    }
}

#[test]
fn a_wrong_file_in_the_store_is_named_by_status_until_it_is_right() {
    let test = cluster(2, WORLD);
    let file = test.lab.paths.store().join("default/wrong.yaml");
    for (name, yaml, words) in WRONG.iter().filter(|(name, _, _)| *name != "twice") {
        fs::write(&file, yaml).expect("writing");
        let (code, answer) = until(&test.lab, |code| code == Some(1));
        assert_eq!((code, answer["health"].as_str()), (Some(1), Some("degraded")), "{name}: {answer}");
        let rejected = answer["rejected"].to_string();
        for word in words.iter().copied().chain(["wrong.yaml"]) {
            assert!(rejected.contains(word), "{name}: {word:?} is not in: {rejected}");
        }
        assert_unchanged(&test, name);
        fs::remove_file(&file).expect("removing");
        assert_eq!(until(&test.lab, |code| code == Some(0)).0, Some(0), "{name}");
    }
}

#[test]
fn a_kind_that_nobody_knows_is_kept_and_said_not_to_be_in_force() {
    let test = cluster(2, WORLD);
    let directory = tempfile::tempdir().expect("a directory");
    let file = written(directory.path(), "pot.yaml", "apiVersion: v1\nkind: Pot\nmetadata: {name: x}\n");
    let output = lab_apply(&test.lab, &file);
    assert!(output.status.success(), "{}", said(&output));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    for word in ["pot.yaml", "Pot x", "not enforced", "did you mean Pod?"] {
        assert!(stderr.contains(word), "{word:?} is not in: {stderr}");
    }
    test.lab.wait(Duration::from_secs(30)).expect("wait");
    assert_unchanged(&test, "an unknown kind");
}

/// Asks until the agent has seen the file.
fn until(lab: &Lab, good: impl Fn(Option<i32>) -> bool) -> (Option<i32>, serde_json::Value) {
    eventually(|| {
        let found = status(lab, "node1");
        if good(found.0) { Ok(found) } else { Err(found) }
    })
}

#[test]
fn slices_without_a_service_and_pods_outside_every_pool_are_named_and_leave_the_rest_alone() {
    let mut test = cluster(2, WORLD);
    let stray = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: lonely, labels: {kubernetes.io/service-name: nothere}}
addressType: IPv4
ports: [{port: 80, protocol: TCP}]
endpoints: [{addresses: [10.244.2.2], conditions: {ready: true}}]
";
    test.apply(stray);
    assert_unchanged(&test, "a slice without a Service");
    let (code, answer) = until(&test.lab, |code| code == Some(1));
    let told = answer["conflicts"].to_string();
    assert!(
        code == Some(1) && told.contains("default/nothere") && told.contains("default/lonely"),
        "{answer}"
    );
    let directory = tempfile::tempdir().expect("a directory");
    let service = "{apiVersion: v1, kind: Service, metadata: {name: nothere}, spec: {clusterIP: 10.96.0.99, ports: [{port: 80}]}}";
    let file = written(directory.path(), "service.yaml", service);
    let applied = on_node(&test.lab, "node1", &["apply", "-f", file.to_str().expect("a path")]);
    assert!(applied.status.success(), "{}", said(&applied));
    let (code, answer) = until(&test.lab, |code| code == Some(0));
    assert_eq!(code, Some(0), "taken back when the Service comes: {answer}");
    // Straight into the store, as an API server that knows no pools would have it.
    let outside = "
apiVersion: v1
kind: Pod
metadata: {name: outside, labels: {app: stranger}}
spec: {nodeName: node2, containers: [{name: c, image: any}]}
status: {phase: Running, podIP: 172.31.0.9, podIPs: [{ip: 172.31.0.9}]}
";
    let file = written(directory.path(), "outside.yaml", outside);
    let applied = on_node(&test.lab, "node1", &["apply", "-f", file.to_str().expect("a path")]);
    assert!(applied.status.success(), "{}", said(&applied));
    let warned = String::from_utf8_lossy(&applied.stderr).into_owned();
    for word in ["outside.yaml", "Pod default/outside", "status.podIPs[0].ip", "172.31.0.9", "IPPool"] {
        assert!(warned.contains(word), "{word:?} is not in: {warned}");
    }
    test.lab.wait(Duration::from_secs(30)).expect("wait");
    assert_unchanged(&test, "a pod outside every pool");
    let output = on_node(&test.lab, "node2", &["status", "-o", "json"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("address 172.31.0.9 of Pod default/outside"), "{told}");
}

/// Whoever may write a Pod may write its annotations.
#[test]
fn an_annotation_moves_no_address_and_is_named_by_the_pods_node() {
    let test = cluster(2, WORLD);
    let thief = "
apiVersion: v1
kind: Pod
metadata: {name: thief, annotations: {cni.projectcalico.org/podIPs: 198.51.100.7/32}}
spec: {nodeName: node2, containers: [{name: c, image: any}]}
status: {phase: Pending}
";
    let directory = tempfile::tempdir().expect("a directory");
    let file = written(directory.path(), "thief.yaml", thief);
    let route = || {
        let namespace = test.lab.name.machine("node1");
        let shown = Command::new("ip").args(["-n", &namespace, "route", "show", "proto", "80"]).output();
        String::from_utf8(shown.expect("ip").stdout).expect("text")
    };
    let before = route();
    let applied = on_node(&test.lab, "node1", &["apply", "-f", file.to_str().expect("a path")]);
    assert!(applied.status.success(), "{}", said(&applied));
    test.lab.wait(Duration::from_secs(30)).expect("wait");
    assert_eq!(route(), before, "no route to it on another node");
    assert_unchanged(&test, "an address that is not the pod's");
    let output = on_node(&test.lab, "node2", &["status", "-o", "json"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("address 198.51.100.7 of Pod default/thief"), "{told}");
}

#[test]
fn two_pods_with_one_address_are_a_conflict_that_status_names() {
    let test = cluster(2, WORLD);
    let taken = test.lab.attachment("default", "friend").expect("attached").addresses[0];
    let twin = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: twin, labels: {{app: stranger}}}}\n\
         spec: {{nodeName: node2, containers: [{{name: c, image: any}}]}}\n\
         status: {{phase: Running, podIP: {taken}, podIPs: [{{ip: {taken}}}]}}\n"
    );
    let directory = tempfile::tempdir().expect("a directory");
    let file = written(directory.path(), "twin.yaml", &twin);
    let applied = on_node(&test.lab, "node1", &["apply", "-f", file.to_str().expect("a path")]);
    assert!(applied.status.success(), "{}", said(&applied));
    let (code, answer) = until(&test.lab, |code| code == Some(1));
    assert_eq!(code, Some(1), "{answer}");
    let conflicts = answer["conflicts"].to_string();
    assert!(conflicts.contains("default/twin") && conflicts.contains(&taken.to_string()), "{conflicts}");
    assert_unchanged(&test, "a second pod with the address");
}
