//! `drops`: counters of the kernel, the latest packets, and packets as they are dropped.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tortie_lab::Family;
use tortie_tests_e2e::{BOTH, TestLab, binary, briefly, eventually, tortie_lab};

use crate::{answer, denied, verb, world};

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

/// No back end at all, and none that internalTrafficPolicy allows on node1.
const NOBODY: &str = "
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {ipFamilyPolicy: PreferDualStack, selector: {app: nobody}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere}
spec: {ipFamilyPolicy: PreferDualStack, internalTrafficPolicy: Local, selector: {app: elsewhere}, ports: [{port: 81, targetPort: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: elsewhere, labels: {app: elsewhere}}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
";

#[test]
fn a_refused_connect_is_told_with_the_pod_or_node_that_called_and_the_service() {
    let mut test = world();
    test.apply(NOBODY);
    for family in BOTH {
        for (from, kind, place) in
            [("pod:default/client", "pod", "default/client"), ("node:node1", "node", "node1")]
        {
            for (service, port) in [("default/nobody", 80), ("default/elsewhere", 81)] {
                let seen = test.probe(from, &format!("svc:{service}"), |probe| {
                    briefly(probe);
                    probe.family = Some(family);
                });
                assert!(!seen.is_connected(), "{from} {service} {family:?}: {seen:?}");
                let row = call(&test, family, |call| call["service"] == service && call[kind] == place);
                let call = &row["call"];
                assert_eq!(
                    (&call["protocol"], &call["destinationPort"]),
                    (&"TCP".into(), &port.into()),
                    "{row}"
                );
                assert!(
                    call["task"] != "" && row["hook"] == "socket" && row.get("packet").is_none(),
                    "{row}"
                );
            }
        }
    }
    let text = String::from_utf8(verb(&test, &["drops"]).stdout).expect("text");
    let line =
        text.lines().find(|line| line.contains("default/nobody (")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("default/client (") || line.contains("node1 ("), "{line}");
}

/// The refused call of that family, once the agent has read of it.
fn call(test: &TestLab, family: Family, is_it: impl Fn(&Value) -> bool) -> Value {
    eventually(|| {
        let (drops, _) = answer(test, &["drops", "--reason", "no-backend"]);
        let of_family = |call: &Value| {
            call["destination"].as_str().is_some_and(|it| it.contains(':') == (family == Family::Ipv6))
        };
        let items = drops["items"].as_array().expect("items");
        items.iter().find(|row| of_family(&row["call"]) && is_it(&row["call"])).cloned().ok_or(drops)
    })
}

/// So many that the agent cannot tell each of them in time, on most machines.
const FLOOD: u64 = 4000;

#[test]
fn who_follows_is_told_of_every_refused_call_or_of_how_many_more_there_were() {
    let mut test = world();
    test.apply(NOBODY);
    let services = answer(&test, &["services", "list"]).0;
    let nobody = services["items"].as_array().expect("items").iter().find(|it| it["name"] == "nobody");
    let frontends = nobody.expect("the Service")["frontends"].as_array().expect("front ends").clone();
    let address = frontends.iter().filter_map(|it| it["address"].as_str()).find(|it| it.contains('.'));
    let address = address.expect("an IPv4 address");
    let directory = tempfile::tempdir().expect("a directory");
    let [told, said] = ["told", "said"].map(|name| directory.path().join(name));
    let mut following = Command::new(binary())
        .args(["lab", "exec", "--name", &test.lab.name.to_string(), "--node", "node1", "--"])
        .arg(binary())
        .args(["drops", "--follow", "--last", "0", "--reason", "no-backend", "-o", "json"])
        .stdin(Stdio::null())
        .stdout(File::create(&told).expect("a file"))
        .stderr(File::create(&said).expect("a file"))
        .spawn()
        .expect("running tortie");
    thread::sleep(Duration::from_secs(1));
    let connect = |times: u64| {
        let each = format!("for i in $(seq {times}); do : < /dev/tcp/{address}/80; done 2>/dev/null; true");
        let output = tortie_lab(&test.lab.name, &["exec", "client", "--", "bash", "-c", &each]);
        assert!(output.status.success(), "{output:?}");
    };
    connect(FLOOD);
    // What the ring lost is looked at when something comes, and once a second.
    thread::sleep(Duration::from_millis(1500));
    connect(1);
    eventually(|| {
        let lines = fs::read_to_string(&told).expect("what was told").lines().count() as u64;
        let said = fs::read_to_string(&said).expect("what was said");
        let number = |line: &str| line.split(' ').find_map(|word| word.parse::<u64>().ok());
        let more: u64 = said.lines().filter(|line| line.contains("too fast")).filter_map(number).sum();
        if lines + more == FLOOD + 1 { Ok(()) } else { Err((lines, said)) }
    });
    following.kill().expect("killing");
    following.wait().expect("waiting");
}
