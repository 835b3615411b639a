//! Bad input is never open by accident and never breaks what is good.

use std::fs;
use std::time::Duration;

use tortie_tests_e2e::{TestLab, briefly};

const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node1, containers: [{name: c, image: any}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server}
spec: {podSelector: {matchLabels: {app: server}}, ingress: []}
";

/// Whatever the wait says about the broken file, it must have seen it.
fn seen(test: &TestLab) {
    let _ = test.lab.wait(Duration::from_secs(5));
}

#[test]
fn a_file_that_breaks_keeps_its_last_good_objects_in_force() {
    let mut test = crate::cluster(1);
    test.apply(WORLD);
    let is_open =
        |test: &TestLab| test.probe("pod:default/client", "pod:default/server", briefly).is_connected();
    assert!(!is_open(&test));
    let file = test.lab.paths.store().join("default/networkpolicy.networking.k8s.io.server.yaml");
    let good = fs::read_to_string(&file).expect("the policy's file");
    for broken in [
        "kind: [",
        "",
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: server}\nspec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/99}}]}]}\n",
    ] {
        fs::write(&file, broken).expect("writing");
        seen(&test);
        if broken.is_empty() {
            // An empty file has no objects: its policy is gone, as if the file were.
            assert!(is_open(&test), "{broken:?}");
        } else {
            assert!(!is_open(&test), "{broken:?}");
        }
        fs::write(&file, &good).expect("writing");
        test.lab.wait(Duration::from_secs(10)).expect("wait");
        assert!(!is_open(&test), "after {broken:?}");
    }
}
