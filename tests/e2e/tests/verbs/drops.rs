//! `drops`: counters of the kernel, the latest packets, and packets as they are dropped.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tortie_tests_e2e::{TestLab, binary, eventually};

use crate::{answer, denied, world};

fn is_the_denied_packet(drop: &Value) -> bool {
    let packet = &drop["packet"];
    drop["reason"] == "policy-ingress"
        && packet["protocol"] == "TCP"
        && packet["destinationPod"] == "default/near"
        && packet["destinationPort"] == 80
        && drop["detail"].as_str().is_some_and(|detail| detail.contains("ingress policy"))
}

/// The answer once it holds something: the agent reads the ring a moment after the packet.
fn told(test: &TestLab) -> Value {
    eventually(|| {
        let (drops, code) = answer(test, &["drops", "--reason", "policy-ingress"]);
        assert_eq!(code, 0, "{drops}");
        let is_told = drops["items"].as_array().is_some_and(|items| !items.is_empty());
        if is_told { Ok(drops) } else { Err(drops) }
    })
}

#[test]
fn a_denied_packet_is_counted_and_told_with_pod_port_and_reason() {
    let test = world();
    denied(&test);
    let drops = told(&test);
    let items = drops["items"].as_array().expect("items");
    assert!(items.iter().all(is_the_denied_packet), "{drops}");
    let again = told(&test);
    let same =
        |drop: &Value| again["items"].as_array().expect("items").iter().any(|it| it["time"] == drop["time"]);
    assert!(items.iter().all(same), "one drop has one time: {drops} {again}");
    let counted = &drops["counters"][0];
    assert_eq!(counted["reason"], "policy-ingress", "{drops}");
    assert!(counted["packets"].as_u64().expect("packets") >= items.len() as u64, "{drops}");
    test.lab.kill_agent("node1").expect("kill-agent");
    let (drops, code) = answer(&test, &["drops"]);
    assert_eq!((code, drops["items"].as_array().map(Vec::len)), (3, Some(0)), "{drops}");
    assert!(!drops["counters"].as_array().expect("counters").is_empty(), "{drops}");
}

#[test]
fn drops_are_followed_as_they_happen_one_object_a_line() {
    let test = world();
    let mut following = Command::new(binary())
        .args(["lab", "exec", "--name", &test.lab.name.to_string(), "--node", "node1", "--"])
        .arg(binary())
        .args(["drops", "--follow", "--reason", "policy-ingress", "-o", "json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("running tortie");
    let lines = BufReader::new(following.stdout.take().expect("its output")).lines();
    let (told, line) = mpsc::channel();
    thread::spawn(move || lines.take(1).try_for_each(|line| told.send(line)));
    denied(&test);
    let line = line.recv_timeout(Duration::from_secs(20));
    following.kill().expect("killing");
    following.wait().expect("waiting");
    let line = line.expect("a line in time").expect("reading");
    let drop: Value = serde_json::from_str(&line).expect("JSON");
    assert!(is_the_denied_packet(&drop), "{drop}");
}
