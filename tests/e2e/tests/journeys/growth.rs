//! Maps become larger under traffic: the agent starts again for it, and nobody notices.

use std::thread;
use std::time::Duration;

use serde_json::Value;
use tortie_lab::Probe;
use tortie_tests_e2e::{BOTH, TestLab, endpoint, eventually, on_node};

const PATIENCE: Duration = Duration::from_secs(30);
/// An agent that has just started does not start again.
const AT_LEAST: Duration = Duration::from_secs(10);
const NODES: [&str; 2] = ["node1", "node2"];

const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node1, containers: [{name: c, image: any}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec: {ipFamilyPolicy: PreferDualStack, selector: {app: server}, ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server}
spec: {podSelector: {matchLabels: {app: server}}, ingress: [{from: [{podSelector: {}}]}]}
";

fn size(test: &TestLab, node: &str, map: &str) -> u64 {
    let output = on_node(&test.lab, node, &["status", "-o", "json"]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let maps = status["maps"].as_array().cloned().unwrap_or_default();
    maps.iter().find(|it| it["name"] == map).and_then(|it| it["maxEntries"].as_u64()).unwrap_or_default()
}

fn grows(test: &TestLab, node: &str, map: &str, beyond: u64) {
    eventually(|| {
        let size = size(test, node, map);
        if size > beyond { Ok(()) } else { Err(format!("{node}: {map} has room for {size}")) }
    });
}

fn restart(test: &mut TestLab) {
    for node in NODES {
        test.lab.kill_agent(node).expect("kill-agent");
        test.lab.start_agent(node).expect("start-agent");
    }
}

fn stream(test: &mut TestLab) {
    let asking = Probe::new(endpoint("pod:default/client"), endpoint("svc:default/server"));
    test.lab.stream_start("s", &asking, Duration::from_millis(1)).expect("starting");
}

fn goes_on(test: &mut TestLab) {
    let report = test.unharmed("s");
    assert!(report.longest_pause_micros < 500_000 && report.silent_micros < 200_000, "{report:?}");
}

#[test]
fn a_flow_table_that_is_full_becomes_larger_under_open_connections() {
    const SIZE: u64 = 64;
    let mut test = crate::cluster(2);
    test.apply(WORLD);
    // One by one, so that flows are in the table and not at sockets.
    let small = "bpfConnectTimeLoadBalancing: Disabled, bpfMapSizeConntrack: 64";
    // Of those that it may grow from, the one that is chosen, and not the one that it has.
    test.configure("bpfConnectTimeLoadBalancing: Disabled, bpfMapSizeConntrack: 4096");
    restart(&mut test);
    test.lab.wait(PATIENCE).expect("wait");
    assert_eq!([size(&test, "node1", "flow4"), size(&test, "node2", "flow6")], [4096; 2]);
    test.configure(small);
    restart(&mut test);
    test.lab.wait(PATIENCE).expect("wait");
    assert_eq!([size(&test, "node1", "flow4"), size(&test, "node2", "flow6")], [SIZE; 2]);
    let processes = NODES.map(|node| test.lab.agent_pid(node));
    stream(&mut test);
    thread::sleep(AT_LEAST);
    // The server's node translates nothing: one element for each.
    for turn in 0..SIZE {
        for family in BOTH {
            let result = test.probe("pod:default/client", "svc:default/server", |probe| {
                probe.family = Some(family);
                probe.timeout = PATIENCE;
            });
            assert!(result.is_connected(), "{family:?}, connection {turn}: {result:?}");
        }
    }
    for node in NODES {
        grows(&test, node, "flow4", SIZE);
        grows(&test, node, "flow6", SIZE);
    }
    assert_eq!(NODES.map(|node| test.lab.agent_pid(node)), processes, "they are the same processes");
    test.lab.wait(PATIENCE).expect("wait");
    goes_on(&mut test);
    let grown = NODES.map(|node| size(&test, node, "flow4"));
    restart(&mut test);
    test.lab.wait(PATIENCE).expect("wait");
    assert_eq!(NODES.map(|node| size(&test, node, "flow4")), grown, "nobody has chosen another size");
    for node in NODES {
        let left = on_node(&test.lab, node, &["status", "-o", "json"]);
        assert!(left.status.success(), "{}", tortie_tests_e2e::said(&left));
    }
}

#[test]
fn the_map_of_back_ends_makes_room_for_a_large_service() {
    let mut test = crate::cluster(2);
    test.apply(WORLD);
    let before = size(&test, "node1", "backend4");
    stream(&mut test);
    thread::sleep(AT_LEAST);
    let mut large = "
apiVersion: v1
kind: Service
metadata: {name: large}
spec: {ports: [{port: 80}]}
"
    .to_owned();
    // A slice has at most a thousand; one more than fit without becoming crowded.
    let slices = before * 3 / 4 / 1000 + 1;
    for slice in 0..slices {
        let ends: Vec<String> = (0..1000u64)
            .map(|end| format!("{{addresses: [10.250.{}.{}]}}", slice * 4 + end / 250, end % 250 + 1))
            .collect();
        large += &format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: large-{slice}, \
             labels: {{kubernetes.io/service-name: large}}}}\naddressType: IPv4\nports: [{{port: 80}}]\nendpoints: [{}]\n",
            ends.join(", ")
        );
    }
    test.apply(&large);
    for node in NODES {
        grows(&test, node, "backend4", before);
    }
    test.lab.wait(PATIENCE).expect("wait");
    goes_on(&mut test);
    assert!(test.probe("pod:default/client", "svc:default/server", |_| {}).is_connected());
}

#[test]
fn connections_that_begin_while_agents_are_dead_in_the_middle_of_a_resize_go_on() {
    let mut test = crate::cluster(2);
    test.apply(WORLD);
    let sized = |size: u32| {
        format!(
            "bpfConnectTimeLoadBalancing: Disabled, bpfMapSizeConntrackScaling: Disabled, bpfMapSizeConntrack: {size}"
        )
    };
    let mut streams = Vec::new();
    for round in 0..4 {
        test.configure(&sized(4096 << (round % 2)));
        restart(&mut test);
        // Before, while and after programs are loaded.
        thread::sleep(Duration::from_millis(250 * (round + 1)));
        for node in NODES {
            test.lab.kill_agent(node).expect("kill-agent");
        }
        for family in BOTH {
            let name = format!("s{round}{family:?}").to_lowercase();
            let mut asking = Probe::new(endpoint("pod:default/client"), endpoint("svc:default/server"));
            asking.family = Some(family);
            test.lab.stream_start(&name, &asking, Duration::from_millis(5)).expect("starting");
            streams.push(name);
        }
        thread::sleep(Duration::from_millis(100));
        for node in NODES {
            test.lab.start_agent(node).expect("start-agent");
        }
        test.lab.wait(PATIENCE).expect("wait");
    }
    for name in streams {
        let report = test.lab.stream_stop(&name).expect("stopping");
        assert_eq!((report.lost, report.ended.as_deref()), (0, Some("stopped")), "{name}: {report:?}");
    }
    for node in NODES {
        let left = std::fs::read_dir(test.lab.paths.node_bpffs(node).join("maps")).expect("pins");
        let old = left.flatten().filter(|pin| pin.file_name().to_string_lossy().ends_with("_old")).count();
        assert_eq!(old, 0, "{node}");
    }
}
