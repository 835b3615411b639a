//! Services whose clients outside are led by a consistent hash: connections outlive a change of the node they come in at.

use std::collections::BTreeSet;
use std::process::Command;
use std::thread;
use std::time::Duration;

use tortie_lab::{Family, Probe, Protocol};
use tortie_tests_e2e::{BOTH, TestLab, endpoint, on_node};

const PREFIXES: [&str; 2] = ["203.0.113.7/32", "2001:db8:e::7/128"];

/// All back ends are on the second and third node; who asks the first meets none there.
const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: second, labels: {app: server}}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{name: web, containerPort: 8080}, {name: dns, containerPort: 5353, protocol: UDP}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: third, labels: {app: server}}
spec: {nodeName: node3, containers: [{name: c, image: any, ports: [{name: web, containerPort: 8080}, {name: dns, containerPort: 5353, protocol: UDP}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: server, annotations: {ANNOTATION: maglev}}
spec:
  ipFamilyPolicy: PreferDualStack
  selector: {app: server}
  externalIPs: [203.0.113.7, '2001:db8:e::7']
  ports: [{name: web, port: 80, targetPort: web}, {name: dns, port: 53, targetPort: dns, protocol: UDP}]
";

const OURS: &str = "tortie.dev/external-traffic-strategy";
const CALICOS: &str = "lb.projectcalico.org/external-traffic-strategy";

fn world(annotation: &str, mode: &str) -> TestLab {
    let mut test = crate::cluster(3);
    test.apply(&WORLD.replace("ANNOTATION", annotation));
    test.configure(&format!("bpfExternalServiceMode: {mode}"));
    lead(&mut test, "node1");
    test
}

/// The address is at this node from now on.
fn lead(test: &mut TestLab, node: &str) {
    for prefix in PREFIXES {
        test.lab.route(prefix.parse().expect("a prefix"), node).expect("lab route");
    }
}

fn external(family: Family) -> &'static str {
    if family == Family::Ipv4 { "203.0.113.7" } else { "2001:db8:e::7" }
}

fn probe_of(family: Family, protocol: Protocol, source_port: Option<u16>) -> Probe {
    let port = Some(if protocol == Protocol::Tcp { 80 } else { 53 });
    let usual = Probe::new(endpoint("client:c1"), endpoint(external(family)));
    Probe { family: Some(family), protocol, port, source_port, timeout: Duration::from_secs(5), ..usual }
}

/// Switches a node's link to all others.
fn set_link(test: &TestLab, node: &str, state: &str) {
    let router = test.lab.name.machine("router");
    let status = Command::new("ip").args(["-n", &router, "link", "set", node, state]).status();
    assert!(status.expect("running ip").success());
}

#[test]
fn every_node_leads_a_clients_port_to_the_same_back_end() {
    for annotation in [OURS, CALICOS] {
        let mut test = world(annotation, "Tunnel");
        let mut met = BTreeSet::new();
        for family in BOTH {
            for (protocol, port) in [(Protocol::Tcp, 41_000), (Protocol::Udp, 42_000)] {
                for port in port..port + 8 {
                    let servers: Vec<_> = ["node1", "node2", "node3"]
                        .map(|node| {
                            lead(&mut test, node);
                            let probe = probe_of(family, protocol, Some(port));
                            let result = test.lab.probe(&probe).expect("a probe");
                            assert!(result.is_connected(), "{node} {probe:?}: {result:?}");
                            result.server
                        })
                        .into();
                    let first = servers[0].clone();
                    assert!(servers.iter().all(|server| *server == first), "{family:?} {port}: {servers:?}");
                    met.insert(first);
                }
            }
        }
        assert_eq!(met.len(), 2, "both back ends get their share: {met:?}");
        let shown = on_node(&test.lab, "node1", &["services", "show", "default/server"]);
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.contains("maglev"), "{shown}");
    }
}

/// Conversations go on while their address moves from node to node, at the end away from one that is lost.
fn moving(mode: &str) {
    let mut test = world(OURS, mode);
    let mut streams = Vec::new();
    for family in BOTH {
        for number in 0..4 {
            let name = format!("{family:?}-{number}");
            let probe = probe_of(family, Protocol::Tcp, None);
            test.lab.stream_start(&name, &probe, Duration::from_millis(2)).expect("starting");
            streams.push(name);
        }
    }
    for node in ["node1", "node2", "node3", "node2", "node1", "node3"] {
        lead(&mut test, node);
        thread::sleep(Duration::from_millis(400));
    }
    // What is lost has no part in any of them.
    set_link(&test, "node1", "down");
    thread::sleep(Duration::from_millis(400));
    set_link(&test, "node1", "up");
    for name in streams {
        let report = test.lab.stream_stop(&name).expect("stopping");
        let end = (report.lost, report.disordered, report.ended.as_deref());
        assert_eq!(end, (0, 0, Some("stopped")), "{mode} {name}: {report:?}");
        assert!(report.longest_pause_micros < 1_000_000, "{mode} {name}: {report:?}");
    }
}

#[test]
fn connections_go_on_when_their_address_moves_from_node_to_node() {
    moving("Tunnel");
}

#[test]
fn connections_that_are_answered_directly_do_so_too() {
    moving("DSR");
}
