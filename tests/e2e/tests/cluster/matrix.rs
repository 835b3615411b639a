//! Everybody reaches everybody, unless a policy says otherwise, and again when it has gone.

use std::fmt::Write as _;

use serde_json::Value;
use tortie_lab::Lab;
use tortie_tests_e2e::tortie_lab;

use crate::verbs::{cluster, said};

fn world() -> String {
    let mut yaml = String::new();
    for node in 1..=3 {
        for pod in ["a", "b", "c"] {
            let _ = write!(
                yaml,
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}{node}, labels: {{letter: {pod}}}}}\n\
                 spec: {{nodeName: node{node}, containers: [{{name: c, image: any, ports: \
                 [{{containerPort: 80}}, {{containerPort: 53, protocol: UDP}}]}}]}}\n"
            );
        }
    }
    yaml
}

/// How many attempts of `lab matrix` ended how: (connected, not).
fn matrix(lab: &Lab, family: &str) -> (usize, Vec<Value>) {
    let output = tortie_lab(&lab.name, &["matrix", "--family", family, "--timeout", "700ms", "-o", "json"]);
    let answer: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&output)));
    let all = answer["items"].as_array().expect("items").clone();
    let (open, closed): (Vec<Value>, Vec<Value>) =
        all.into_iter().partition(|item| item["result"] == "connected");
    (open.len(), closed)
}

const DENY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny}
spec: {podSelector: {matchLabels: {letter: a}}, ingress: []}
";

/// Pods to pods on two ports; a pod also asks itself.
const ATTEMPTS: usize = 9 * 9 * 2;

#[test]
fn nine_pods_on_three_nodes_reach_each_other_and_do_so_again_after_a_policy() {
    let mut test = cluster(3, &world());
    for family in ["ipv4", "ipv6"] {
        let (open, closed) = matrix(&test.lab, family);
        assert!(closed.is_empty(), "{family}: {closed:#?}");
        assert!(open >= 9 * 8 * 2, "{family}: only {open} attempts");
    }
    test.apply(DENY);
    for family in ["ipv4", "ipv6"] {
        let (open, closed) = matrix(&test.lab, family);
        let wrong: Vec<&Value> = closed
            .iter()
            .filter(|item| !item["to"].as_str().is_some_and(|to| to.starts_with("pod:default/a")))
            .collect();
        assert!(wrong.is_empty(), "{family}: {wrong:#?}");
        // Three pods, each closed to the eight others on two ports.
        assert_eq!(closed.len(), 3 * 8 * 2, "{family}");
        assert!(open + closed.len() <= ATTEMPTS, "{family}");
    }
    test.delete(DENY);
    test.lab.wait(std::time::Duration::from_secs(30)).expect("wait");
    for family in ["ipv4", "ipv6"] {
        let (_, closed) = matrix(&test.lab, family);
        assert!(closed.is_empty(), "{family}, after the policy: {closed:#?}");
    }
}
