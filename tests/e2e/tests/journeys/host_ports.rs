//! Ports of pods at their node's addresses (`hostPort`).

use tortie_lab::{Family, Protocol, Verdict};
use tortie_tests_e2e::{BOTH, TestLab, briefly};

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
metadata: {name: far}
spec: {nodeName: node2, containers: [{name: c, image: any}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  nodeName: node1
  containers:
  - name: c
    image: any
    ports:
    - {containerPort: 8080, hostPort: 8088}
    - {containerPort: 5353, hostPort: 5300, protocol: UDP}
    - {containerPort: 36412, hostPort: 1132, protocol: SCTP}
    - {containerPort: 7070, hostPort: 7077, hostIP: 10.240.0.1}
    - {containerPort: 6060, hostPort: 6066, hostIP: 127.0.0.1}
";

const DOORS: [(Protocol, u16); 3] = [(Protocol::Tcp, 8088), (Protocol::Udp, 5300), (Protocol::Sctp, 1132)];

fn knock(
    test: &TestLab,
    from: &str,
    to: &str,
    door: (Protocol, u16),
    family: Family,
) -> tortie_lab::ProbeResult {
    test.probe(from, to, |probe| {
        (probe.family, probe.protocol, probe.port) = (Some(family), door.0, Some(door.1));
    })
}

#[test]
fn a_host_port_is_open_to_everybody_at_the_pods_node_and_goes_with_the_pod() {
    let mut test = crate::cluster(2);
    test.apply(WORLD);
    for family in BOTH {
        for door in DOORS {
            for from in [
                "client:c1",
                "node:node2",
                "pod:default/far",
                "node:node1",
                "pod:default/on-host",
                "pod:default/client",
                "pod:default/web",
            ] {
                let result = knock(&test, from, "node:node1", door, family);
                assert_eq!(
                    result.server.as_deref(),
                    Some("default/web"),
                    "{from} {door:?} {family:?}: {result:?}"
                );
            }
            let seen = knock(&test, "client:c1", "node:node1", door, family).client_seen.unwrap_or_default();
            let own = if family == Family::Ipv4 { "192.0.2.10:" } else { "2001:db8:1::10:" };
            assert!(seen.starts_with(own), "the pod sees the client itself: {seen}");
        }
        let elsewhere = knock(&test, "client:c1", "node:node2", DOORS[0], family);
        assert_eq!(elsewhere.result, Verdict::Refused, "the other node has no such port: {elsewhere:?}");
    }
    let of_ipv4 = (Protocol::Tcp, 7077);
    assert!(knock(&test, "client:c1", "node:node1", of_ipv4, Family::Ipv4).is_connected());
    let result = knock(&test, "client:c1", "node:node1", of_ipv4, Family::Ipv6);
    assert_eq!(result.result, Verdict::Refused, "hostIP is of IPv4: {result:?}");

    let at_loopback = (Protocol::Tcp, 6066);
    for from in ["node:node1", "pod:default/on-host"] {
        let result = knock(&test, from, "127.0.0.1", at_loopback, Family::Ipv4);
        assert_eq!(result.server.as_deref(), Some("default/web"), "{from}: {result:?}");
    }
    for (from, to) in
        [("pod:default/client", "127.0.0.1"), ("client:c1", "node:node1"), ("node:node1", "node:node1")]
    {
        let result = knock(&test, from, to, at_loopback, Family::Ipv4);
        assert_eq!(result.result, Verdict::Refused, "{from}: {result:?}");
    }

    test.delete("{apiVersion: v1, kind: Pod, metadata: {name: web}}");
    test.lab.wait(std::time::Duration::from_secs(30)).expect("lab wait");
    for family in BOTH {
        let result = knock(&test, "client:c1", "node:node1", DOORS[0], family);
        assert_eq!(result.result, Verdict::Refused, "{family:?}: {result:?}");
    }
}

#[test]
fn policy_of_the_pod_decides_who_comes_in_by_its_host_port() {
    let mut test = crate::cluster(2);
    test.apply(WORLD);
    test.apply(
        "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: far-only}
spec:
  podSelector: {}
  policyTypes: [Ingress]
  ingress: [{from: [{ipBlock: {cidr: 192.0.2.10/32}}, {ipBlock: {cidr: '2001:db8:1::10/128'}}]}]
",
    );
    for family in BOTH {
        assert!(knock(&test, "client:c1", "node:node1", DOORS[0], family).is_connected());
        let denied = test.probe("pod:default/far", "node:node1", |probe| {
            briefly(probe);
            (probe.family, probe.port) = (Some(family), Some(8088));
        });
        assert_eq!(denied.result, Verdict::Timeout, "{family:?}: {denied:?}");
    }
}
