//! The verbs of a node, in a laboratory with real agents. Needs root.

mod bench;
mod check;
mod drops;
mod health_checks;
mod lists;
mod observe;
mod status;
mod traces;
mod uninstall;

use std::path::PathBuf;
use std::process::Output;

use serde_json::Value;
use tortie_tests_e2e::{TestLab, briefly, on_node, tortie_lab};

/// A client and two servers behind a Service; the servers take the client's calls alone.
const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: client}}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near, labels: {app: server}}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, labels: {app: server}}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec: {ipFamilyPolicy: PreferDualStack, selector: {app: server}, ports: [{name: web, port: 8000, targetPort: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server}
spec: {podSelector: {matchLabels: {app: server}}, ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]}
";

/// Two nodes.
fn empty() -> TestLab {
    TestLab::nodes(2)
}

/// Two nodes with the world above in force.
fn world() -> TestLab {
    let mut test = empty();
    test.apply(WORLD);
    test
}

/// A verb on node1, as a person there would type it.
fn verb(test: &TestLab, arguments: &[&str]) -> Output {
    on_node(&test.lab, "node1", arguments)
}

/// The answer of a verb as JSON, and its exit code.
fn answer(test: &TestLab, arguments: &[&str]) -> (Value, i32) {
    let output = verb(test, &[arguments, &["-o", "json"]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let json =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {said}"));
    (json, output.status.code().expect("an exit code"))
}

/// The items of a list.
fn items(test: &TestLab, arguments: &[&str]) -> Vec<Value> {
    let (json, code) = answer(test, arguments);
    assert_eq!(code, 0, "{arguments:?}: {json}");
    json["items"].as_array().expect("items").clone()
}

/// The directory that the agents read.
fn store(test: &TestLab) -> PathBuf {
    let output = tortie_lab(&test.lab.name, &["exec", "--node", "node1", "--", "printenv", "TORTIE_STORE"]);
    let text = String::from_utf8(output.stdout).expect("a path");
    PathBuf::from(text.trim().strip_prefix("dir:").expect("dir:PATH"))
}

/// An attempt that node1 itself denies: `near` is there, and takes calls of the client alone.
fn denied(test: &TestLab) {
    assert!(!test.probe("pod:default/far", "pod:default/near", briefly).is_connected());
}
