//! Probes say what happened.

use std::time::{Duration, Instant};

use tortie_lab::{Family, Probe, Protocol, Verdict};
use tortie_tests_e2e::{TestLab, endpoint, tortie_lab};

const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  nodeName: node1
  containers:
  - {name: c, image: any, ports: [{containerPort: 80}, {containerPort: 53, protocol: UDP}, {containerPort: 99, protocol: SCTP}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b}
spec:
  nodeName: node2
  containers:
  - {name: c, image: any, ports: [{containerPort: 80}, {containerPort: 53, protocol: UDP}, {containerPort: 99, protocol: SCTP}]}
";

fn world() -> TestLab {
    let mut test = TestLab::plain(2);
    test.apply(WORLD);
    test
}

#[test]
fn every_protocol_reaches_a_pod_on_another_node_in_both_families() {
    let test = world();
    for family in [Family::Ipv4, Family::Ipv6] {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp, Protocol::Icmp] {
            let result = test.probe("pod:default/a", "pod:default/b", |probe| {
                (probe.family, probe.protocol) = (Some(family), protocol);
            });
            assert_eq!(result.result, Verdict::Connected, "{family:?} {protocol:?}: {result:?}");
            assert_eq!(
                (result.server.as_deref(), result.node.as_deref()),
                (Some("default/b"), Some("node2"))
            );
        }
    }
}

#[test]
fn a_result_names_both_ends_as_the_other_sees_them() {
    let test = world();
    let result = test.probe("pod:default/a", "pod:default/b", |probe| probe.source_port = Some(4321));
    assert_eq!(result.client_seen.as_deref(), Some("10.244.1.2:4321"));
    assert_eq!(result.server_address.as_deref(), Some("10.244.2.2:80"));
    let result = test.probe("client:c1", "pod:default/b", |probe| probe.family = Some(Family::Ipv6));
    assert_eq!(result.server_address.as_deref(), Some("fd00:244:2::2:80"));
    assert!(result.client_seen.is_some_and(|seen| seen.starts_with("2001:db8:1::10:")));
}

#[test]
fn a_megabyte_each_way_arrives_undamaged() {
    let test = world();
    let result = test.probe("pod:default/a", "pod:default/b", |probe| {
        (probe.bytes, probe.timeout) = (1 << 20, Duration::from_secs(10));
    });
    assert!(result.is_connected(), "{result:?}");
    let result = test.probe("pod:default/a", "pod:default/b", |probe| {
        (probe.protocol, probe.bytes) = (Protocol::Udp, 9000);
    });
    assert!(result.is_connected(), "{result:?}");
}

#[test]
fn refusal_silence_and_a_missing_way_are_told_apart() {
    let test = world();
    let verdict = |to: &str, protocol: Protocol, port: u16| {
        let result =
            test.probe("pod:default/a", to, |probe| (probe.protocol, probe.port) = (protocol, Some(port)));
        result.result
    };
    assert_eq!(verdict("pod:default/b", Protocol::Tcp, 81), Verdict::Refused);
    assert_eq!(verdict("pod:default/b", Protocol::Udp, 81), Verdict::Refused);
    assert_eq!(verdict("pod:default/b", Protocol::Sctp, 81), Verdict::Refused);
    for nowhere in ["203.0.113.1", "2001:db8:ffff::1"] {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Icmp] {
            assert_eq!(verdict(nowhere, protocol, 80), Verdict::Unreachable, "{nowhere} {protocol:?}");
        }
    }
    let node = |command: &[&str]| {
        let all = [&["exec", "--node", "node2", "--"], command].concat();
        assert!(tortie_lab(&test.lab.name, &all).status.success(), "{command:?}");
    };
    node(&["ip", "route", "replace", "blackhole", "10.244.1.2"]);
    for (protocol, port) in [(Protocol::Tcp, 80), (Protocol::Udp, 53)] {
        let result = test.probe("pod:default/a", "pod:default/b", |probe| {
            (probe.protocol, probe.port, probe.timeout) = (protocol, Some(port), Duration::from_millis(500));
        });
        assert_eq!(result.result, Verdict::Timeout, "{protocol:?}: {result:?}");
    }
}

#[test]
fn a_thousand_probes_that_all_time_out_take_less_than_ten_seconds() {
    let test = world();
    let silent =
        ["exec", "--node", "node1", "--", "ip", "-n", &test.lab.name.machine("router"), "route", "add"];
    let silent = [&silent[..], &["blackhole", "198.18.0.0/15"]].concat();
    assert!(tortie_lab(&test.lab.name, &silent).status.success());
    let probe = Probe { port: Some(80), ..Probe::new(endpoint("pod:default/a"), endpoint("198.18.0.1")) };
    let started = Instant::now();
    let results = test.lab.matrix(&vec![probe; 1000]).expect("matrix");
    let took = started.elapsed();
    assert!(results.iter().all(|result| result.result == Verdict::Timeout), "{:?}", results.first());
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn a_matrix_keeps_order_and_fields_of_its_items_and_names_what_does_not_exist() {
    let test = world();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let items = r#"{"items":[
        {"from":"pod:default/a","to":"pod:default/b","protocol":"tcp","port":80,"note":"first","expect":"connected"},
        {"from":"pod:default/a","to":"pod:default/none","protocol":"tcp","port":80},
        {"from":"pod:default/a","to":"pod:default/b","protocol":"udp","port":80,"expect":"blocked"}]}"#;
    std::fs::write(file.path(), items).expect("writing");
    let path = file.path().to_str().expect("a path");
    let output = tortie_lab(&test.lab.name, &["matrix", "-f", path, "-o", "json"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "one could not be made: {told}");
    assert!(told.contains("1 of 3 could not be made") && told.contains("no pod default/none"), "{told}");
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let field = |index: usize, name: &str| list["items"][index][name].as_str().unwrap_or_default().to_owned();
    assert_eq!((field(0, "note"), field(0, "result")), ("first".into(), "connected".into()));
    assert_eq!(field(1, "result"), "error");
    assert!(field(1, "detail").contains("no pod default/none"));
    assert_eq!(field(2, "result"), "refused");
    let grid = tortie_lab(&test.lab.name, &["matrix", "-f", path]);
    assert!(String::from_utf8_lossy(&grid.stdout).contains('!'), "{grid:?}");
    std::fs::write(file.path(), items.replace("\"protocol\":\"udp\"", "\"prot\":\"udp\"")).expect("writing");
    let output = tortie_lab(&test.lab.name, &["matrix", "-f", path]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("items[2]: prot") && told.contains("did you mean port?"), "{told}");
}

#[test]
fn the_exit_code_of_a_probe_is_its_answer() {
    let test = world();
    let code =
        |arguments: &[&str]| tortie_lab(&test.lab.name, &[&["probe"], arguments].concat()).status.code();
    assert_eq!(code(&["--from", "pod:a", "--to", "pod:b"]), Some(0));
    assert_eq!(code(&["--from", "pod:a", "--to", "pod:b", "--port", "81"]), Some(1));
    assert_eq!(code(&["--from", "pod:a", "--to", "pod:none"]), Some(1));
    assert_eq!(code(&["--from", "nonsense", "--to", "pod:b"]), Some(2));
    assert_eq!(code(&["--from", "10.0.0.1", "--to", "pod:b"]), Some(2));
}

#[test]
fn a_killed_pod_server_is_back_with_the_next_probe() {
    let test = world();
    let pid = std::fs::read_to_string(test.lab.paths.process("server-node2")).expect("a record");
    let record: serde_json::Value = serde_json::from_str(&pid).expect("JSON");
    let kill = std::process::Command::new("kill").args(["-9", &record["pid"].to_string()]).status();
    assert!(kill.expect("kill").success());
    assert!(test.probe("pod:default/b", "pod:default/a", |_| {}).is_connected());
    assert!(test.probe("pod:default/a", "pod:default/b", |_| {}).is_connected());
}

#[test]
fn a_conversation_reports_what_it_lost_and_how_long_it_was_silent() {
    let test = world();
    let probe = Probe { port: Some(80), ..Probe::new(endpoint("pod:default/a"), endpoint("pod:default/b")) };
    test.lab.stream_start("s", &probe, Duration::from_millis(1)).expect("starting");
    std::thread::sleep(Duration::from_millis(300));
    let exec = |command: &[&str]| {
        let all = [&["exec", "--node", "node2", "--"], command].concat();
        assert!(tortie_lab(&test.lab.name, &all).status.success());
    };
    let before = test.lab.stream_report("s").expect("report");
    assert!(before.open && before.received > 50 && before.acknowledged > 50, "{before:?}");
    exec(&["ip", "route", "replace", "blackhole", "10.244.1.2"]);
    std::thread::sleep(Duration::from_millis(400));
    let silent = test.lab.stream_report("s").expect("report");
    assert!(silent.silent_micros > 300_000, "{silent:?}");
    exec(&["ip", "route", "del", "blackhole", "10.244.1.2"]);
    std::thread::sleep(Duration::from_millis(1500));
    let after = test.lab.stream_stop("s").expect("stop");
    assert_eq!((after.lost, after.disordered, after.ended.as_deref()), (0, 0, Some("stopped")), "{after:?}");
    assert!(after.received > silent.received && after.longest_pause_micros > 300_000, "{after:?}");
}

#[test]
fn what_a_person_types_at_a_pod_is_answered() {
    let test = world();
    let ask = |line: &str| {
        let script = format!("exec 3<>/dev/tcp/10.244.2.2/80; printf '{line}' >&3; timeout 2 cat <&3");
        let output = tortie_lab(&test.lab.name, &["exec", "--client", "c1", "--", "bash", "-c", &script]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let page = ask("GET / HTTP/1.1\\r\\nHost: pod\\r\\n\\r\\n");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("\"server\":\"default/b\""), "{page}");
    for line in ["", "hello\\n"] {
        let text = ask(line);
        assert!(
            text.contains("\"server\":\"default/b\"") && text.contains("\"clientSeen\":\"192.0.2.10:"),
            "{text}"
        );
    }
}
