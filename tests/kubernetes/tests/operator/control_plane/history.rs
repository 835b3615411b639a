//! The API server does not know any more what happened while agents heard nothing.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use serde_json::Value;
use tortie_lab::{Component, Lab, Probe};
use tortie_tests_e2e::{TestLab, briefly, endpoint};
use tortie_tests_kubernetes::{kubectl, while_asking};

use super::world::{PATIENCE, asking, denied, start_api_server, until};

const CLOSED: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: late}
spec: {podSelector: {matchLabels: {app: web}}, ingress: []}
";

/// 410 Gone, from a compacted etcd: agents list again, nothing is removed that is still there, and what came, changed
/// and went meanwhile is seen. Nobody asks them to look again.
pub fn is_compacted(test: &mut TestLab) {
    let lab = &test.lab;
    let still = asking(lab, "still");
    let stranger = denied(&still);
    let mut web = Probe { to: endpoint("svc:default/web"), ..still.clone() };
    web = lab.resolve(&web).expect("the Service's address");
    briefly(&mut web);
    let ((), attempts) = while_asking(lab, &still, || {
        agents(lab, "-STOP");
        // Came, changed, and went.
        kubectl(lab, &["create", "-f", "-"], CLOSED).expect("create");
        kubectl(lab, &["label", "pod", "stranger", "app=client"], "").expect("label");
        let listed = lists(lab);
        lab.kill_component(Component::ApiServer).expect("killing");
        compact(lab);
        start_api_server(lab);
        agents(lab, "-CONT");
        until(|| lab.probe(&stranger).expect("probe").is_connected(), "what changed is seen");
        until(|| !lab.probe(&web).expect("probe").is_connected(), "what came is seen");
        assert!(lists(lab) > listed, "the agents have gone on where they were: nothing was compacted");

        agents(lab, "-STOP");
        kubectl(lab, &["delete", "networkpolicy", "late"], "").expect("delete");
        kubectl(lab, &["label", "pod", "stranger", "app-"], "").expect("label");
        lab.kill_component(Component::ApiServer).expect("killing");
        compact(lab);
        start_api_server(lab);
        agents(lab, "-CONT");
        until(|| lab.probe(&web).expect("probe").is_connected(), "what went is seen");
        until(|| !lab.probe(&stranger).expect("probe").is_connected(), "what changed back is seen");
        lab.wait(PATIENCE).expect("wait");
    });
    assert!(attempts.made > 20 && attempts.failed.is_empty(), "{attempts:?}");
}

/// Agents that are stopped hear nothing, and do not know it.
fn agents(lab: &Lab, signal: &str) {
    for node in ["node1", "node2"] {
        let pid = lab.agent_pid(node).expect("an agent").to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
    }
}

/// How many lists of policies agents have asked for. One whose watch can go on where it was asks for none.
fn lists(lab: &Lab) -> usize {
    let lines = fs::read_to_string(lab.audit_log()).expect("the audit log");
    let events = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_policies = |event: &Value| event["objectRef"]["apiGroup"] == "networking.k8s.io";
    events.filter(|event| event["verb"] == "list" && of_policies(event)).count()
}

/// Everything before now is forgotten. etcd speaks JSON beside its own protocol.
fn compact(lab: &Lab) {
    let now = etcd(lab, "kv/range", r#"{"key": "AA=="}"#);
    let revision = now["header"]["revision"].as_str().expect("a revision").to_owned();
    let answer = etcd(lab, "kv/compaction", &format!(r#"{{"revision": "{revision}", "physical": true}}"#));
    assert!(answer["header"]["revision"].is_string(), "{answer}");
}

fn etcd(lab: &Lab, what: &str, body: &str) -> Value {
    let request = format!(
        "POST /v3/{what} HTTP/1.0\r\nHost: etcd\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let place = lab.control_plane_place().expect("the machine of etcd");
    let answer = place.run(|| {
        let mut stream = TcpStream::connect("127.0.0.1:2379")?;
        stream.write_all(request.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    });
    let answer = answer.expect("an answer of etcd");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}
