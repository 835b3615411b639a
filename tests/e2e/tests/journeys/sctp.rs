//! SCTP through every kind of Service, in both families: whole associations, from INIT to SHUTDOWN COMPLETE, whose ports
//! change on the way. `host_ports` has the ports of pods at their node.

use std::collections::BTreeSet;
use std::time::Duration;

use tortie_lab::{Family, Probe, ProbeResult, Protocol, Verdict};
use tortie_tests_e2e::{BOTH, TestLab, endpoint};

const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node1, containers: [{name: c, image: any}]}
---
apiVersion: v1
kind: Pod
metadata: {name: on-host}
spec: {nodeName: node1, hostNetwork: true, containers: [{name: c, image: any}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near, labels: {app: server, pod: near}}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 36412, protocol: SCTP}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, labels: {app: server, pod: far}}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{containerPort: 36412, protocol: SCTP}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: host-server, labels: {pod: host-server}}
spec: {nodeName: node2, hostNetwork: true, containers: [{name: c, image: any, ports: [{containerPort: 7132, protocol: SCTP}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec:
  ipFamilyPolicy: PreferDualStack
  selector: {app: server}
  ports: [{port: 132, targetPort: 36412, protocol: SCTP}]
---
apiVersion: v1
kind: Service
metadata: {name: near}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {pod: near}
  externalIPs: [203.0.113.7, '2001:db8:e::7']
  ports: [{port: 132, targetPort: 36412, nodePort: 30032, protocol: SCTP}]
---
apiVersion: v1
kind: Service
metadata: {name: far}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {pod: far}
  externalIPs: [203.0.113.7, '2001:db8:e::7']
  ports: [{port: 133, targetPort: 36412, nodePort: 30033, protocol: SCTP}]
---
apiVersion: v1
kind: Service
metadata: {name: host-server}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {pod: host-server}
  ports: [{port: 132, targetPort: 7132, nodePort: 30034, protocol: SCTP}]
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {pod: nobody}
  ports: [{port: 132, nodePort: 30035, protocol: SCTP}]
";

/// Node port, and who serves there.
const NODE_PORTS: [(u16, &str); 3] = [(30032, "near"), (30033, "far"), (30034, "host-server")];

fn world() -> TestLab {
    let mut test = crate::cluster(2);
    test.apply(WORLD);
    test
}

/// A few packets each way, so that every length and both directions are translated.
fn ask(test: &TestLab, from: &str, to: &str, port: u16, family: Family) -> ProbeResult {
    test.probe(from, to, |probe| {
        (probe.family, probe.protocol, probe.port) = (Some(family), Protocol::Sctp, Some(port));
        probe.bytes = 5003;
    })
}

fn of(family: Family, v4: &'static str, v6: &'static str) -> &'static str {
    if family == Family::Ipv4 { v4 } else { v6 }
}

#[test]
fn associations_through_a_cluster_ip_reach_every_back_end_under_the_services_address() {
    let test = world();
    for family in BOTH {
        for from in ["pod:default/client", "pod:default/near", "pod:default/on-host", "node:node2"] {
            let usual = Probe::new(endpoint(from), endpoint("svc:default/server"));
            let probe = Probe {
                family: Some(family),
                protocol: Protocol::Sctp,
                port: Some(132),
                bytes: 5003,
                timeout: Duration::from_secs(5),
                ..usual
            };
            let results = test.lab.matrix(&vec![probe; 30]).expect("matrix");
            assert!(results.iter().all(ProbeResult::is_connected), "{from} {family:?}: {results:?}");
            let servers: BTreeSet<&str> =
                results.iter().filter_map(|result| result.server.as_deref()).collect();
            assert_eq!(servers, BTreeSet::from(["default/near", "default/far"]), "{from} {family:?}");
            let addresses: BTreeSet<&str> =
                results.iter().filter_map(|result| result.server_address.as_deref()).collect();
            assert_eq!(addresses.len(), 1, "the client sees the Service alone: {addresses:?}");
        }
    }
}

/// Everybody reaches every node port at both nodes, and a client outside is seen as itself.
fn assert_node_ports_are_open(test: &TestLab) {
    for family in BOTH {
        for (port, server) in NODE_PORTS {
            for from in ["client:c1", "pod:default/client", "pod:default/on-host", "node:node2"] {
                for node in ["node:node1", "node:node2"] {
                    let result = ask(test, from, node, port, family);
                    let said = format!("{from} {node} {port} {family:?}: {result:?}");
                    assert_eq!(result.server, Some(format!("default/{server}")), "{said}");
                    if from == "client:c1" {
                        let own = of(family, "192.0.2.10:", "2001:db8:1::10:");
                        let seen = result.client_seen.unwrap_or_default();
                        assert!(seen.starts_with(own), "the server sees the client itself: {said}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_node_port_is_open_to_everybody_and_the_back_end_sees_the_client_itself_here_and_elsewhere() {
    assert_node_ports_are_open(&world());
}

#[test]
fn where_back_ends_answer_directly_associations_still_go_by_the_node_that_was_asked() {
    let mut test = world();
    test.configure("bpfExternalServiceMode: DSR");
    assert_node_ports_are_open(&test);
}

#[test]
fn an_external_address_leads_each_port_to_its_own_back_end() {
    let mut test = world();
    for prefix in ["203.0.113.7/32", "2001:db8:e::7/128"] {
        test.lab.route(prefix.parse().expect("a prefix"), "node1").expect("lab route");
    }
    for family in BOTH {
        let address = of(family, "203.0.113.7", "2001:db8:e::7");
        for (port, server) in [(132, "default/near"), (133, "default/far")] {
            for from in ["client:c1", "pod:default/client", "node:node1"] {
                let result = ask(&test, from, address, port, family);
                assert_eq!(result.server.as_deref(), Some(server), "{from} {port} {family:?}: {result:?}");
            }
        }
    }
}

#[test]
fn without_back_ends_an_association_is_refused_at_once() {
    let test = world();
    for family in BOTH {
        for (from, to, port) in [
            ("pod:default/client", "svc:default/nobody", 132),
            ("pod:default/client", "node:node1", 30035),
            ("client:c1", "node:node1", 30035),
        ] {
            let result = ask(&test, from, to, port, family);
            assert_eq!(result.result, Verdict::Refused, "{from} {to} {family:?}: {result:?}");
        }
    }
}
