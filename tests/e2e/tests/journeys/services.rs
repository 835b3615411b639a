//! Services, from pods and from nodes, in both families.

use std::collections::BTreeSet;

use tortie_lab::{Family, Probe, Protocol, Verdict};
use tortie_tests_e2e::{BOTH, TestLab, endpoint};

const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node1, containers: [{name: c, image: any}]}
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
kind: Service
metadata: {name: server}
spec:
  ipFamilyPolicy: PreferDualStack
  selector: {app: server}
  ports: [{name: web, port: 80, targetPort: web}, {name: dns, port: 53, targetPort: dns, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: alone}
spec: {ipFamilyPolicy: PreferDualStack, selector: {pod: alone}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {ipFamilyPolicy: PreferDualStack, selector: {pod: nobody}, ports: [{name: web, port: 80}, {name: dns, port: 53, protocol: UDP}]}
---
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec:
  ipFamilyPolicy: PreferDualStack
  sessionAffinity: ClientIP
  selector: {app: server}
  ports: [{name: web, port: 80, targetPort: web}, {name: dns, port: 53, targetPort: dns, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: here}
spec:
  ipFamilyPolicy: PreferDualStack
  internalTrafficPolicy: Local
  selector: {app: server}
  ports: [{name: web, port: 80, targetPort: web}]
---
apiVersion: v1
kind: Pod
metadata: {name: alone, labels: {pod: alone}}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
";

fn world() -> TestLab {
    let mut test = crate::cluster(2);
    test.apply(WORLD);
    test
}

#[test]
fn every_backend_gets_connections_under_the_services_address() {
    let test = world();
    for family in BOTH {
        for (protocol, port) in [(Protocol::Tcp, 80), (Protocol::Udp, 53)] {
            let usual = Probe::new(endpoint("pod:default/client"), endpoint("svc:default/server"));
            let probe = Probe { family: Some(family), protocol, port: Some(port), ..usual };
            let results = test.lab.matrix(&vec![probe; 40]).expect("matrix");
            assert!(
                results.iter().all(|result| result.is_connected()),
                "{family:?} {protocol:?}: {results:?}"
            );
            let servers: BTreeSet<&str> =
                results.iter().filter_map(|result| result.server.as_deref()).collect();
            assert_eq!(servers, BTreeSet::from(["default/near", "default/far"]), "{family:?} {protocol:?}");
            let addresses: BTreeSet<&str> =
                results.iter().filter_map(|result| result.server_address.as_deref()).collect();
            assert_eq!(addresses.len(), 1, "the client sees the Service alone: {addresses:?}");
        }
    }
}

#[test]
fn a_pod_reaches_itself_through_its_service() {
    let test = world();
    for family in BOTH {
        let result =
            test.probe("pod:default/alone", "svc:default/alone", |probe| probe.family = Some(family));
        assert_eq!(result.server.as_deref(), Some("default/alone"), "{result:?}");
    }
}

#[test]
fn a_service_without_endpoints_refuses_at_once() {
    let test = world();
    for family in BOTH {
        for (protocol, port) in [(Protocol::Tcp, 80), (Protocol::Udp, 53)] {
            let result = test.probe("pod:default/client", "svc:default/nobody", |probe| {
                (probe.family, probe.protocol, probe.port) = (Some(family), protocol, Some(port));
            });
            assert_eq!(result.result, Verdict::Refused, "{family:?} {protocol:?}: {result:?}");
        }
    }
}

#[test]
fn a_backend_that_is_not_ready_gets_no_new_connections() {
    let mut test = world();
    let unready = "
apiVersion: v1
kind: Pod
metadata: {name: near, labels: {app: server}, annotations: {tortie.dev/ready: 'false'}}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{name: web, containerPort: 8080}, {name: dns, containerPort: 5353, protocol: UDP}]}]}
";
    test.apply(unready);
    let probe = Probe::new(endpoint("pod:default/client"), endpoint("svc:default/server"));
    let results = test.lab.matrix(&vec![probe; 30]).expect("matrix");
    assert!(results.iter().all(|result| result.server.as_deref() == Some("default/far")), "{results:?}");
}

#[test]
fn pods_nodes_and_machines_outside_reach_each_other_as_in_any_cluster() {
    let test = world();
    let open = |from: &str, to: &str, port: Option<u16>, family: Family, protocol: Protocol| {
        let result = test.probe(from, to, |probe| {
            (probe.port, probe.family, probe.protocol) = (port, Some(family), protocol);
        });
        assert!(result.is_connected(), "{from} → {to} {family:?}: {result:?}");
        result
    };
    for family in BOTH {
        for from in ["node:node1", "node:node2"] {
            open(from, "pod:default/near", None, family, Protocol::Tcp);
            open(from, "pod:default/near", None, family, Protocol::Icmp);
        }
        open("pod:default/client", "client:c1", None, family, Protocol::Tcp);
        open("pod:default/client", "client:c2", None, family, Protocol::Udp);
        open("pod:default/client", "pod:default/far", None, family, Protocol::Icmp);
        for node in ["node:node1", "node:node2"] {
            open("pod:default/client", node, None, family, Protocol::Icmp);
        }
        let seen =
            open("client:c1", "pod:default/far", None, family, Protocol::Tcp).client_seen.unwrap_or_default();
        let own = if family == Family::Ipv4 { "192.0.2.10:" } else { "2001:db8:1::10:" };
        assert!(seen.starts_with(own), "the pod sees the client itself: {seen}");
    }
}

#[test]
fn a_megabyte_through_a_service_arrives_undamaged_near_and_far() {
    let test = world();
    for family in BOTH {
        for _ in 0..6 {
            let result = test.probe("pod:default/client", "svc:default/server", |probe| {
                (probe.family, probe.bytes, probe.timeout) =
                    (Some(family), 1 << 20, std::time::Duration::from_secs(10));
            });
            assert!(result.is_connected(), "{family:?}: {result:?}");
        }
    }
}

/// The servers that so many connections of a pod meet.
fn servers(test: &TestLab, service: &str, probe: impl Fn(&mut Probe)) -> BTreeSet<String> {
    let mut usual = Probe::new(endpoint("pod:default/client"), endpoint(service));
    probe(&mut usual);
    let results = test.lab.matrix(&vec![usual; 30]).expect("matrix");
    assert!(results.iter().all(|result| result.is_connected()), "{service}: {results:?}");
    results.into_iter().filter_map(|result| result.server).collect()
}

#[test]
fn a_client_with_affinity_keeps_its_back_end_until_that_is_not_ready_any_more() {
    let mut test = world();
    for family in BOTH {
        for (protocol, port) in [(Protocol::Tcp, 80), (Protocol::Udp, 53)] {
            let met = servers(&test, "svc:default/sticky", |probe| {
                (probe.family, probe.protocol, probe.port) = (Some(family), protocol, Some(port));
            });
            assert_eq!(met.len(), 1, "{family:?} {protocol:?}: {met:?}");
        }
    }
    let gone = "
apiVersion: v1
kind: Pod
metadata: {name: near, labels: {app: server}, annotations: {tortie.dev/ready: 'false'}}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{name: web, containerPort: 8080}, {name: dns, containerPort: 5353, protocol: UDP}]}]}
";
    test.apply(gone);
    for family in BOTH {
        let met = servers(&test, "svc:default/sticky", |probe| probe.family = Some(family));
        assert_eq!(met, BTreeSet::from(["default/far".to_owned()]), "{family:?}");
    }
}

#[test]
fn internal_traffic_policy_local_keeps_connections_on_the_node() {
    let test = world();
    for family in BOTH {
        let met = servers(&test, "svc:default/here", |probe| probe.family = Some(family));
        assert_eq!(met, BTreeSet::from(["default/near".to_owned()]), "{family:?}");
    }
}
