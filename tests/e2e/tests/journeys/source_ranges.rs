//! `loadBalancerSourceRanges`, for machines outside, pods and nodes, in both families.

use tortie_lab::{Family, Verdict};
use tortie_tests_e2e::{TestLab, briefly};

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node1, containers: [{name: c, image: any}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near, labels: {app: server}}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{name: web, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, labels: {app: server}}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{name: web, containerPort: 8080}]}]}
";

const ADDRESSES: [(Family, &str); 2] = [(Family::Ipv4, "203.0.113.200"), (Family::Ipv6, "2001:db8:f::c8")];

fn guarded(ranges: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: guarded}}
spec:
  type: LoadBalancer
  ipFamilyPolicy: PreferDualStack
  loadBalancerSourceRanges: [{ranges}]
  selector: {{app: server}}
  ports: [{{name: web, port: 80, targetPort: web, nodePort: 30080}}]
status: {{loadBalancer: {{ingress: [{{ip: 203.0.113.200}}, {{ip: '2001:db8:f::c8'}}]}}}}
"
    )
}

/// Whether each of these is served at the load balancer's address.
fn expect(test: &TestLab, clients: &[(&str, bool)]) {
    for (family, address) in ADDRESSES {
        for (from, served) in clients {
            let result = test.probe(from, address, |probe| {
                if !served {
                    briefly(probe);
                }
                (probe.family, probe.port) = (Some(family), Some(80));
            });
            let wanted = if *served { Verdict::Connected } else { Verdict::Timeout };
            assert_eq!(result.result, wanted, "{from} {family:?}: {result:?}");
        }
    }
}

#[test]
fn a_load_balancers_address_is_open_to_the_clients_of_its_ranges_alone_and_changes_live() {
    let mut test = crate::cluster(2);
    test.apply(PODS);
    for prefix in ["203.0.113.200/32", "2001:db8:f::c8/128"] {
        test.lab.route(prefix.parse().expect("a prefix"), "node1").expect("lab route");
    }
    test.apply(&guarded("192.0.2.10/32, '2001:db8:1::10/128'"));
    let others = [("client:c2", false), ("pod:default/client", false), ("node:node1", false)];
    expect(&test, &[[("client:c1", true)].as_slice(), &others].concat());
    // The Service's own address and its node port are as open as ever.
    for (to, port) in [("svc:default/guarded", 80), ("node:node1", 30080), ("node:node2", 30080)] {
        let result = test.probe("pod:default/client", to, |probe| probe.port = Some(port));
        assert!(result.is_connected(), "{to}: {result:?}");
    }
    assert!(test.probe("client:c2", "node:node1", |probe| probe.port = Some(30080)).is_connected());
    // Pods, and the nodes' own addresses.
    test.apply(&guarded("10.244.0.0/16, 10.240.0.0/16, 'fd00:244::/32', 'fd00:240::/32'"));
    expect(
        &test,
        &[("client:c1", false), ("client:c2", false), ("pod:default/client", true), ("node:node1", true)],
    );
    test.apply(&guarded("0.0.0.0/0, '::/0'"));
    expect(&test, &[("client:c1", true), ("client:c2", true), ("pod:default/client", true)]);
}
