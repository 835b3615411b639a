//! Connect-time load balancing: the node's own processes reach Services, and pods' connections need no
//! translation.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tortie_lab::{Probe, Protocol, Verdict};
use tortie_tests_e2e::{BOTH, TestLab, briefly, endpoint, items, on_node};

const PATIENCE: Duration = Duration::from_secs(30);

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
metadata: {name: near, labels: {app: server}}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 8080}, {name: dns, containerPort: 5353, protocol: UDP}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, labels: {app: server}}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{containerPort: 8080}, {name: dns, containerPort: 5353, protocol: UDP}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec:
  ipFamilyPolicy: PreferDualStack
  selector: {app: server}
  ports: [{name: web, port: 80, targetPort: 8080}, {name: dns, port: 53, targetPort: dns, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {ipFamilyPolicy: PreferDualStack, selector: {app: nobody}, ports: [{port: 80}]}
";

fn world() -> TestLab {
    let mut test = crate::cluster(2);
    test.apply(WORLD);
    test
}

/// Both agents act on this mode when it returns.
fn mode(test: &mut TestLab, mode: &str) {
    test.configure(&format!("defaultEndpointToHostAction: Accept, bpfConnectTimeLoadBalancing: {mode}"));
}

fn status(test: &TestLab, node: &str) -> Value {
    let output = on_node(&test.lab, node, &["status", "-o", "json"]);
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn pods_host_pods_and_the_node_itself_reach_a_service_and_call_it_by_its_name() {
    let mut test = world();
    for family in BOTH {
        for from in ["pod:default/client", "pod:default/on-host", "node:node1"] {
            let usual = Probe::new(endpoint(from), endpoint("svc:default/server"));
            let probe = Probe { family: Some(family), port: Some(80), ..usual };
            let results = test.lab.matrix(&vec![probe; 30]).expect("matrix");
            assert!(results.iter().all(|result| result.is_connected()), "{from} {family:?}: {results:?}");
            let servers: BTreeSet<&str> = results.iter().filter_map(|r| r.server.as_deref()).collect();
            assert_eq!(servers, BTreeSet::from(["default/near", "default/far"]), "{from} {family:?}");
            let names: BTreeSet<&str> = results.iter().filter_map(|r| r.server_address.as_deref()).collect();
            let name = names.first().copied().unwrap_or_default();
            assert!(names.len() == 1 && name.ends_with(":80"), "the Service alone: {names:?}");
            let clients: BTreeSet<&str> =
                results.iter().filter_map(|r| Some(r.client_seen.as_deref()?.rsplit_once(':')?.0)).collect();
            assert_eq!(clients.len(), 1, "{from}: no address but the client's own: {clients:?}");
        }
    }
    // What a pod connects to is a pod: nothing was translated.
    let flows_then = flows(&test);
    assert_eq!(flows_then.len(), 0, "{flows_then:?}");
    mode(&mut test, "Disabled");
    let result = test.probe("pod:default/client", "svc:default/server", |probe| probe.port = Some(80));
    assert!(result.is_connected(), "{result:?}");
    let flows_now = flows(&test);
    assert_eq!(flows_now.len(), 1, "now packets are: {flows_now:?}");
}

#[test]
fn a_service_without_endpoints_refuses_every_kind_of_client_at_once() {
    let test = world();
    for family in BOTH {
        for from in ["pod:default/client", "pod:default/on-host", "node:node2"] {
            let result = test.probe(from, "svc:default/nobody", |probe| {
                (probe.family, probe.port) = (Some(family), Some(80));
            });
            assert_eq!(result.result, Verdict::Refused, "{from} {family:?}: {result:?}");
        }
    }
}

#[test]
fn a_pod_that_asks_no_address_asks_itself_and_no_port_of_its_node() {
    let mut test = world();
    test.apply(
        "
apiVersion: v1
kind: Service
metadata: {name: everywhere}
spec: {type: NodePort, ipFamilyPolicy: PreferDualStack, selector: {app: server}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}
",
    );
    for connect_time in ["TCP", "Enabled"] {
        mode(&mut test, connect_time);
        for nowhere in ["0.0.0.0", "::"] {
            let from = |from| test.probe(from, nowhere, |probe| probe.port = Some(30080));
            let (pod, node) = (from("pod:default/client"), from("node:node1"));
            assert_eq!(pod.result, Verdict::Refused, "{connect_time}: {pod:?}");
            assert!(node.is_connected(), "as at its loopback: {node:?}");
        }
    }
}

#[test]
fn an_egress_policy_is_not_bypassed_by_connecting_a_socket() {
    let mut test = world();
    test.apply(
        "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: client}
spec: {podSelector: {}, policyTypes: [Egress], egress: []}
",
    );
    for (connect_time, again) in [("TCP", false), ("Disabled", true)] {
        if again {
            mode(&mut test, connect_time);
        }
        for family in BOTH {
            let result = test.probe("pod:default/client", "svc:default/server", |probe| {
                briefly(probe);
                (probe.family, probe.port) = (Some(family), Some(80));
            });
            assert!(!result.is_connected(), "{connect_time} {family:?}: {result:?}");
        }
    }
}

#[test]
fn the_mode_changes_and_agents_die_under_an_open_connection_and_it_notices_nothing() {
    let mut test = world();
    let before = status(&test, "node1");
    assert_eq!(before["connectTime"]["mode"], "TCP", "{before}");
    let programs = before["connectTime"]["programs"].as_array().expect("programs").clone();
    assert!(!programs.is_empty() && programs.iter().all(|p| p["attached"] == true), "{before}");
    let asking =
        |from: &str| Probe { port: Some(80), ..Probe::new(endpoint(from), endpoint("svc:default/server")) };
    test.lab.stream_start("pod", &asking("pod:default/client"), Duration::from_millis(1)).expect("starting");
    test.lab.stream_start("node", &asking("node:node1"), Duration::from_millis(1)).expect("starting");
    let reaches = |test: &TestLab, from: &str| {
        test.probe(from, "svc:default/server", |probe| {
            briefly(probe);
            probe.port = Some(80);
        })
        .is_connected()
    };
    for round in 0..3 {
        mode(&mut test, "Disabled");
        assert!(reaches(&test, "pod:default/client"), "round {round}: translated packet by packet");
        mode(&mut test, "TCP");
        test.lab.kill_agent("node1").expect("kill-agent");
        for from in ["pod:default/client", "node:node1"] {
            assert!(reaches(&test, from), "round {round}: {from} while the agent is dead");
        }
        test.lab.start_agent("node1").expect("start-agent");
        test.lab.wait(PATIENCE).expect("wait");
    }
    thread::sleep(Duration::from_millis(200));
    for stream in ["pod", "node"] {
        let report = test.unharmed(stream);
        assert!(report.longest_pause_micros < 500_000, "{stream}: {report:?}");
    }
    let after = status(&test, "node1");
    assert_eq!(after["connectTime"]["programs"], Value::from(programs), "adopted, not made anew");
}

/// Flows of the Service on node1, as the packet programs know them.
fn flows(test: &TestLab) -> Vec<Value> {
    items(&test.lab, "node1", &["conntrack", "list", "--service", "default/server"])
}

#[test]
fn messages_of_every_kind_of_client_are_answered_by_the_service_in_every_mode() {
    let mut test = world();
    for (connect_time, translated) in [("Enabled", false), ("TCP", true), ("Disabled", true)] {
        mode(&mut test, connect_time);
        // Connected sockets come last: their flows stay for a while.
        for (unconnected, family) in [true, false].into_iter().flat_map(|u| BOTH.map(|f| (u, f))) {
            for from in ["pod:default/client", "pod:default/on-host", "node:node1"] {
                let usual = Probe::new(endpoint(from), endpoint("svc:default/server"));
                let asking = (Protocol::Udp, Some(53), Some(family), Duration::from_secs(5));
                let (protocol, port, family, timeout) = asking;
                let probe = Probe { protocol, port, family, timeout, unconnected, ..usual };
                let results = test.lab.matrix(&vec![probe; 20]).expect("matrix");
                let case = format!("{connect_time} {from} {family:?} unconnected {unconnected}: {results:?}");
                assert!(results.iter().all(|result| result.is_connected()), "{case}");
                let servers: BTreeSet<&str> = results.iter().filter_map(|r| r.server.as_deref()).collect();
                assert_eq!(servers, BTreeSet::from(["default/near", "default/far"]), "{case}");
                let names: BTreeSet<&str> =
                    results.iter().filter_map(|r| r.server_address.as_deref()).collect();
                assert!(names.len() == 1 && names.iter().all(|name| name.ends_with(":53")), "{case}");
            }
            // Connected sockets are never led to a back end: it could not be replaced at a send.
            let items = flows(&test).len();
            assert_eq!(items > 0, translated || !unconnected, "{connect_time} {family:?} {unconnected}");
        }
    }
}
