//! `status`: the exit code is the answer, and what is wrong is named with its fix.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tortie_tests_e2e::TestLab;

use crate::{answer, store, verb, world};

const BROKEN: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: broken}
spec: {podSelector: {}, ingress: [{ports: [{port: 80, endPort: 70}]}]}
";

/// Asks until the exit code is `code`: the agent sees a file milliseconds after it is written.
fn until(test: &TestLab, code: i32) -> Value {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let (status, found) = answer(test, &["status"]);
        if found == code {
            return status;
        }
        assert!(Instant::now() < deadline, "exit code {found} instead of {code}: {status}");
        thread::sleep(Duration::from_millis(50));
    }
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
