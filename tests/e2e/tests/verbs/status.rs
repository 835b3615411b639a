//! `status`: the exit code is the answer, and what is wrong is named with its fix.

use std::fs;

use serde_json::Value;
use tortie_tests_e2e::{TestLab, binary, eventually};

use crate::{answer, store, verb, world};

const BROKEN: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: broken}
spec: {podSelector: {}, ingress: [{ports: [{port: 80, endPort: 70}]}]}
";

/// Asks until the exit code is `code`: the agent sees a file milliseconds after it is written.
fn until(test: &TestLab, code: i32) -> Value {
    eventually(|| match answer(test, &["status"]) {
        (status, found) if found == code => Ok(status),
        (status, found) => Err(format!("exit code {found} instead of {code}: {status}")),
    })
}

#[test]
fn a_broken_file_makes_a_node_degraded_until_it_is_mended() {
    let test = world();
    let healthy = until(&test, 0);
    assert_eq!((&healthy["health"], &healthy["node"]), (&"healthy".into(), &"node1".into()));
    assert_eq!(healthy["endpoints"], 2);
    assert!(healthy["interfaces"].as_array().expect("interfaces").len() >= 5, "{healthy}");

    let file = store(&test).join("mistake.yaml");
    fs::write(&file, BROKEN).expect("writing");
    let degraded = until(&test, 1);
    let rejected = &degraded["rejected"][0];
    assert_eq!(rejected["file"], file.to_str().expect("a path"));
    assert_eq!(rejected["object"], "NetworkPolicy default/broken");
    assert!(rejected["field"].as_str().expect("a field").contains("endPort"), "{rejected}");
    assert!(!rejected["fix"].as_str().expect("a fix").is_empty(), "{rejected}");
    let screen = String::from_utf8(verb(&test, &["status"]).stdout).expect("text");
    for part in ["degraded", "REJECTED", "mistake.yaml", "NetworkPolicy default/broken", "fix:"] {
        assert!(screen.contains(part), "{part} in {screen}");
    }
    assert!(test.probe("pod:default/client", "pod:default/near", |_| {}).is_connected());

    fs::remove_file(&file).expect("removing");
    assert_eq!(until(&test, 0)["health"], "healthy");
}

#[test]
fn without_its_agent_a_node_tells_what_the_kernel_has_and_the_exit_code_is_3() {
    let test = world();
    let before = until(&test, 0);
    test.lab.kill_agent("node1").expect("kill-agent");
    let (status, code) = answer(&test, &["status"]);
    assert_eq!((code, &status["health"]), (3, &"agent-unreachable".into()), "{status}");
    assert_eq!((&status["node"], &status["endpoints"]), (&"node1".into(), &2.into()));
    let count = |status: &Value, what: &str| status[what].as_array().map(Vec::len);
    assert_eq!(count(&status, "interfaces"), count(&before, "interfaces"));
    assert_eq!(count(&status, "maps"), count(&before, "maps"));
    test.lab.start_agent("node1").expect("start-agent");
    until(&test, 0);
}

#[test]
fn every_node_is_a_line_and_one_without_its_agent_keeps_none_from_being_shown() {
    let test = world();
    let name = test.lab.name.to_string();
    let all = |arguments: &[&str]| {
        let mut command = std::process::Command::new(binary());
        command
            .args(["status", "--cluster", "--lab", &name])
            .args(arguments)
            .output()
            .expect("running tortie")
    };
    let output = all(&[]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("2 of 2 nodes: everything is in force"), "{text}");

    test.lab.kill_agent("node2").expect("kill-agent");
    let output = all(&["-o", "json"]);
    assert_eq!(output.status.code(), Some(3));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let health: Vec<_> = answer["items"].as_array().expect("items").iter().map(|i| &i["health"]).collect();
    assert_eq!(health, ["healthy", "agent-unreachable"]);
    assert_eq!(answer["items"][0]["endpoints"], 2, "{answer}");
    let why = answer["items"][1]["reasons"][0].as_str().expect("a reason");
    assert!(why.contains("agent.sock"), "{why}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("1 of 2 agents cannot be reached: node2"), "{said}");
}
