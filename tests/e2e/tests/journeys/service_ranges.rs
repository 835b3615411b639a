//! Addresses that Services may have and none has (`serviceLoopPrevention`).

use tortie_lab::{Family, Protocol, Verdict};
use tortie_tests_e2e::{TestLab, briefly, items};

const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node1, containers: [{name: c, image: any}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec:
  ipFamilyPolicy: PreferDualStack
  selector: {app: server}
  ports: [{port: 80, targetPort: 8080}]
";

/// In the laboratory's range, and no Service's.
const NOBODY: [(Family, &str); 2] = [(Family::Ipv4, "10.96.200.200"), (Family::Ipv6, "fd00:96::f0f0")];

fn set(test: &mut TestLab, mode: &str) {
    test.configure(&format!("defaultEndpointToHostAction: Accept, serviceLoopPrevention: {mode}"));
}

fn dropped(test: &TestLab) -> u64 {
    let counters = items(&test.lab, "node1", &["counters", "list", "--reason", "no-service"]);
    counters.iter().filter_map(|item| item["packets"].as_u64()).sum()
}

fn knock(test: &TestLab, from: &str, family: Family, to: &str, protocol: Protocol) -> Verdict {
    let result = test.probe(from, to, |probe| {
        briefly(probe);
        (probe.family, probe.protocol, probe.port) = (Some(family), protocol, Some(80));
    });
    result.result
}

#[test]
fn addresses_that_no_service_has_are_dropped_or_rejected_and_services_answer() {
    let mut test = crate::cluster(1);
    test.apply(WORLD);
    for (prefix, node) in [("10.96.0.0/16", "node1"), ("fd00:96::/112", "node1")] {
        test.lab.route(prefix.parse().expect("a prefix"), node).expect("lab route");
    }
    let clients = ["pod:default/client", "client:c1"];
    for (family, nobody) in NOBODY {
        for from in clients {
            let before = dropped(&test);
            assert_eq!(
                knock(&test, from, family, nobody, Protocol::Tcp),
                Verdict::Timeout,
                "{from} {family:?}"
            );
            assert!(dropped(&test) > before, "{from} {family:?}: with a reason of its own");
        }
    }
    set(&mut test, "Reject");
    for (family, nobody) in NOBODY {
        for from in clients {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                assert_eq!(
                    knock(&test, from, family, nobody, protocol),
                    Verdict::Refused,
                    "{from} {family:?} {protocol:?}"
                );
            }
        }
        assert_eq!(
            knock(&test, "pod:default/client", family, "svc:default/server", Protocol::Tcp),
            Verdict::Connected
        );
    }
    set(&mut test, "Disabled");
    let before = dropped(&test);
    for (family, nobody) in NOBODY {
        assert_ne!(
            knock(&test, "pod:default/client", family, nobody, Protocol::Tcp),
            Verdict::Refused,
            "it went round"
        );
    }
    assert_eq!(dropped(&test), before);
}
