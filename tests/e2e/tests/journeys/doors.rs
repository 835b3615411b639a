//! Services for the nodes' own processes, for pods on their network, and for machines outside.

use std::collections::BTreeSet;

use tortie_lab::{Family, Probe, Protocol, Verdict};
use tortie_tests_e2e::{BOTH, TestLab, briefly, endpoint, tortie_lab};

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
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{name: web, containerPort: 8080}, {name: dns, containerPort: 5353, protocol: UDP}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, labels: {app: server}}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{name: web, containerPort: 9090}, {name: dns, containerPort: 5353, protocol: UDP}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: host-server, labels: {app: host-server}}
spec: {nodeName: node1, hostNetwork: true, containers: [{name: c, image: any, ports: [{name: web, containerPort: 7070}, {name: dns, containerPort: 7053, protocol: UDP}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec:
  type: LoadBalancer
  ipFamilyPolicy: PreferDualStack
  externalTrafficPolicy: Local
  selector: {app: server}
  externalIPs: [198.51.100.7, '2001:db8:e::7']
  ports: [{name: web, port: 80, targetPort: web, nodePort: 30080}, {name: dns, port: 53, targetPort: dns, protocol: UDP, nodePort: 30053}]
---
apiVersion: v1
kind: Service
metadata: {name: everywhere}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {app: server}
  ports: [{name: web, port: 80, targetPort: web, nodePort: 30038}, {name: dns, port: 53, targetPort: dns, protocol: UDP, nodePort: 30035}]
---
apiVersion: v1
kind: Service
metadata: {name: on-host}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {app: host-server}
  ports: [{name: web, port: 80, targetPort: web, nodePort: 30018}, {name: dns, port: 53, targetPort: dns, protocol: UDP, nodePort: 30015}]
---
apiVersion: v1
kind: Service
metadata: {name: on-one}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  externalTrafficPolicy: Local
  selector: {app: host-server}
  ports: [{name: web, port: 80, targetPort: web, nodePort: 30048}]
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {app: nobody}
  ports: [{name: web, port: 80, nodePort: 30028}, {name: dns, port: 53, protocol: UDP, nodePort: 30025}]
";

const WEB: Protocol = Protocol::Tcp;
const DNS: Protocol = Protocol::Udp;

fn world() -> TestLab {
    let mut test = crate::cluster(2);
    test.apply(WORLD);
    test
}

/// Who answers so many connections; every one has to be answered.
fn servers(
    test: &TestLab,
    from: &str,
    to: &str,
    (protocol, port): (Protocol, u16),
    family: Family,
) -> BTreeSet<String> {
    let usual = Probe::new(endpoint(from), endpoint(to));
    let timeout = std::time::Duration::from_secs(5);
    let probe = Probe { family: Some(family), protocol, port: Some(port), timeout, ..usual };
    let results = test.lab.matrix(&vec![probe; 20]).expect("matrix");
    assert!(results.iter().all(|r| r.is_connected()), "{from} → {to}:{port} {family:?}: {results:?}");
    results.into_iter().filter_map(|result| result.server).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| format!("default/{name}")).collect()
}

#[test]
fn processes_of_a_node_and_pods_on_its_network_reach_every_back_end_of_a_service() {
    let test = world();
    for family in BOTH {
        for door in [(WEB, 80), (DNS, 53)] {
            for from in ["node:node1", "pod:default/on-host", "node:node2"] {
                assert_eq!(
                    servers(&test, from, "svc:default/server", door, family),
                    set(&["near", "far"]),
                    "{from}"
                );
                assert_eq!(
                    servers(&test, from, "svc:default/on-host", door, family),
                    set(&["host-server"]),
                    "{from}"
                );
            }
        }
    }
}

#[test]
fn node_ports_answer_pods_and_nodes_through_every_node() {
    let test = world();
    for family in BOTH {
        for door in [(WEB, 30038), (DNS, 30035)] {
            for from in ["pod:default/client", "node:node1", "node:node2"] {
                for to in ["node:node1", "node:node2"] {
                    assert_eq!(
                        servers(&test, from, to, door, family),
                        set(&["near", "far"]),
                        "{from} → {to}"
                    );
                }
            }
        }
    }
}

#[test]
fn node_ports_answer_the_node_at_its_loopback_and_leave_a_pods_own_alone() {
    let test = world();
    for (address, family) in [("127.0.0.1", Family::Ipv4), ("::1", Family::Ipv6)] {
        for from in ["node:node1", "pod:default/on-host"] {
            for door in [(WEB, 30038), (DNS, 30035)] {
                assert_eq!(
                    servers(&test, from, address, door, family),
                    set(&["near", "far"]),
                    "{from} {address}"
                );
            }
            // Only this node's processes are asked, so no policy for the outside binds them.
            assert_eq!(servers(&test, from, address, (WEB, 30080), family), set(&["near", "far"]));
            let nobody = test.probe(from, address, |probe| {
                (probe.family, probe.port) = (Some(family), Some(30028));
            });
            assert_eq!(nobody.result, Verdict::Refused, "{from} {address}: {nobody:?}");
        }
        let own = test.probe("pod:default/client", address, |probe| {
            (probe.family, probe.port) = (Some(family), Some(30038));
        });
        assert_eq!(own.result, Verdict::Refused, "a pod's loopback is its own: {own:?}");
    }
}

#[test]
fn node_ports_are_served_at_addresses_that_only_an_interface_of_the_node_has_while_it_has_them() {
    let mut test = world();
    let addresses = [("203.0.113.77", "32", Family::Ipv4), ("2001:db8:77::77", "128", Family::Ipv6)];
    for (address, length, family) in addresses {
        let prefix = format!("{address}/{length}");
        test.lab.route(prefix.parse().expect("a prefix"), "node1").expect("lab route");
        let on_node = |verb: &str| {
            let command = ["exec", "--node", "node1", "--", "ip", "address", verb, &prefix, "dev", "eth0"];
            assert!(tortie_lab(&test.lab.name, &command).status.success(), "{verb} {prefix}");
        };
        on_node("add");
        let reached = || {
            test.probe("client:c1", address, |probe| {
                briefly(probe);
                (probe.family, probe.port) = (Some(family), Some(30038));
            })
            .is_connected()
        };
        let start = std::time::Instant::now();
        while !reached() {
            assert!(start.elapsed() < std::time::Duration::from_secs(10), "{address}");
        }
        for from in ["client:c1", "client:c2", "node:node1", "pod:default/client"] {
            assert_eq!(servers(&test, from, address, (WEB, 30038), family), set(&["near", "far"]), "{from}");
        }
        on_node("del");
        let start = std::time::Instant::now();
        while reached() {
            assert!(start.elapsed() < std::time::Duration::from_secs(10), "{address} is gone");
        }
    }
}

#[test]
fn with_external_traffic_policy_local_another_nodes_port_leads_to_its_own_back_ends() {
    let test = world();
    for family in BOTH {
        for door in [(WEB, 30080), (DNS, 30053)] {
            // A node's own port is like an address inside the cluster.
            for from in ["pod:default/client", "node:node1"] {
                assert_eq!(servers(&test, from, "node:node1", door, family), set(&["near", "far"]), "{from}");
                assert_eq!(servers(&test, from, "node:node2", door, family), set(&["far"]), "{from}");
            }
        }
        // Its only back end is on node1.
        for from in ["pod:default/client", "node:node1"] {
            let lost = test.probe(from, "node:node2", |probe| {
                briefly(probe);
                (probe.family, probe.port) = (Some(family), Some(30048));
            });
            assert_eq!(lost.result, Verdict::Timeout, "{from}: {lost:?}");
        }
        assert_eq!(servers(&test, "node:node2", "node:node1", (WEB, 30048), family), set(&["host-server"]));
    }
}

#[test]
fn a_machine_outside_meets_the_back_end_of_the_node_it_asks_and_keeps_its_address() {
    let test = world();
    for family in BOTH {
        for door in [(WEB, 30080), (DNS, 30053)] {
            for from in ["client:c1", "client:c2"] {
                assert_eq!(servers(&test, from, "node:node1", door, family), set(&["near"]));
                assert_eq!(servers(&test, from, "node:node2", door, family), set(&["far"]));
            }
        }
        for door in [(WEB, 30018), (DNS, 30015)] {
            assert_eq!(servers(&test, "client:c1", "node:node1", door, family), set(&["host-server"]));
        }
        let seen = test.probe("client:c1", "node:node1", |probe| {
            (probe.port, probe.family) = (Some(30080), Some(family));
        });
        let own = if family == Family::Ipv4 { "192.0.2.10:" } else { "2001:db8:1::10:" };
        assert!(seen.client_seen.as_deref().unwrap_or_default().starts_with(own), "{seen:?}");
    }
}

#[test]
fn a_machine_outside_meets_back_ends_of_all_nodes_through_each_and_keeps_its_address() {
    let test = world();
    for family in BOTH {
        for door in [(WEB, 30038), (DNS, 30035)] {
            for to in ["node:node1", "node:node2"] {
                assert_eq!(servers(&test, "client:c1", to, door, family), set(&["near", "far"]), "{to}");
            }
        }
        for door in [(WEB, 30018), (DNS, 30015)] {
            assert_eq!(servers(&test, "client:c1", "node:node2", door, family), set(&["host-server"]));
        }
        let usual = Probe::new(endpoint("client:c1"), endpoint("node:node1"));
        let probe = Probe { family: Some(family), port: Some(30038), ..usual };
        let own = if family == Family::Ipv4 { "192.0.2.10:" } else { "2001:db8:1::10:" };
        for result in test.lab.matrix(&vec![probe; 20]).expect("matrix") {
            assert!(result.client_seen.as_deref().unwrap_or_default().starts_with(own), "{result:?}");
        }
    }
}

#[test]
fn external_and_load_balancers_addresses_are_served_where_the_router_leads_them() {
    let mut test = world();
    for (prefix, node) in [("198.51.100.7/32", "node1"), ("2001:db8:e::7/128", "node2")] {
        test.lab.route(prefix.parse().expect("a prefix"), node).expect("lab route");
    }
    for (address, family, server) in
        [("198.51.100.7", Family::Ipv4, "near"), ("2001:db8:e::7", Family::Ipv6, "far")]
    {
        let to = address.to_owned();
        assert_eq!(servers(&test, "client:c1", &to, (WEB, 80), family), set(&[server]));
        for from in ["pod:default/client", "node:node1", "node:node2"] {
            assert_eq!(servers(&test, from, &to, (DNS, 53), family), set(&["near", "far"]), "{from}");
        }
    }
}

#[test]
fn a_service_without_endpoints_refuses_nodes_pods_and_machines_outside() {
    let test = world();
    for family in BOTH {
        for (from, to, web, dns) in [
            ("node:node1", "svc:default/nobody", 80, 53),
            ("node:node1", "node:node1", 30028, 30025),
            ("node:node1", "node:node2", 30028, 30025),
            ("pod:default/client", "node:node2", 30028, 30025),
            ("client:c1", "node:node1", 30028, 30025),
        ] {
            for (protocol, port) in [(WEB, web), (DNS, dns)] {
                let result = test.probe(from, to, |probe| {
                    (probe.family, probe.protocol, probe.port) = (Some(family), protocol, Some(port));
                });
                assert_eq!(
                    result.result,
                    Verdict::Refused,
                    "{from} → {to} {family:?} {protocol:?}: {result:?}"
                );
            }
        }
    }
}

#[test]
fn a_megabyte_arrives_undamaged_through_every_door() {
    let test = world();
    for family in BOTH {
        for (from, to, port) in [
            // First, before the client has learnt from others how little fits into the tunnel.
            ("client:c1", "node:node2", 30018),
            ("node:node1", "svc:default/server", 80),
            ("node:node1", "node:node1", 30080),
            ("client:c1", "node:node1", 30080),
            ("client:c1", "node:node1", 30018),
            ("client:c1", "node:node1", 30038),
            ("client:c1", "node:node2", 30038),
            ("node:node1", "svc:default/on-host", 80),
        ] {
            for _ in 0..3 {
                let result = test.probe(from, to, |probe| {
                    (probe.family, probe.port, probe.bytes) = (Some(family), Some(port), 1 << 20);
                    probe.timeout = std::time::Duration::from_secs(10);
                });
                assert!(result.is_connected(), "{from} → {to}:{port} {family:?}: {result:?}");
            }
        }
    }
}

#[test]
fn pods_of_a_pool_with_nat_outgoing_leave_the_cluster_under_their_nodes_address() {
    let mut test = world();
    let pool = |family: &str, cidr: &str| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{name: default-{family}-ippool}}\n\
             spec: {{cidr: '{cidr}', natOutgoing: true, ipipMode: Never, vxlanMode: Never, nodeSelector: all()}}\n"
        )
    };
    test.apply(&format!("{}---\n{}", pool("ipv4", "10.244.0.0/16"), pool("ipv6", "fd00:244::/32")));
    for (family, node) in [(Family::Ipv4, "10.240.0.1:"), (Family::Ipv6, "fd00:240::1:")] {
        for protocol in [WEB, DNS] {
            let seen = test.probe("pod:default/client", "client:c1", |probe| {
                (probe.family, probe.protocol) = (Some(family), protocol);
            });
            let client = seen.client_seen.as_deref().unwrap_or_default();
            assert!(client.starts_with(node), "{family:?} {protocol:?}: {seen:?}");
        }
        let echo = test.probe("pod:default/client", "client:c1", |probe| {
            (probe.family, probe.protocol) = (Some(family), Protocol::Icmp);
        });
        assert!(echo.is_connected(), "{echo:?}");
        let far = test.probe("pod:default/client", "pod:default/far", |probe| probe.family = Some(family));
        let client = far.client_seen.as_deref().unwrap_or_default();
        assert!(
            far.is_connected() && !client.starts_with(node),
            "inside the cluster a pod keeps its address: {far:?}"
        );
    }
}
