//! Pods that come and go, and Services that follow them.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tortie_lab::{Family, Probe, Protocol, Verdict};
use tortie_tests_e2e::{BOTH, TestLab, briefly, endpoint};

use crate::verbs::cluster;

const PATIENCE: Duration = Duration::from_secs(30);

const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node1, containers: [{name: c, image: any}]}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec:
  ipFamilyPolicy: PreferDualStack
  selector: {app: server}
  ports: [{name: web, port: 80, targetPort: web}, {name: dns, port: 53, targetPort: dns, protocol: UDP}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed}
spec: {podSelector: {matchLabels: {app: closed}}, ingress: []}
";

fn server(labels: &str, extra: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: server, labels: {labels}{extra}}}\n\
         spec: {{nodeName: node2, containers: [{{name: c, image: any, ports: \
         [{{name: web, containerPort: 8080}}, {{name: dns, containerPort: 5353, protocol: UDP}}]}}]}}\n"
    )
}

/// What the client finds behind the Service: one verdict for all four ways to ask.
fn verdict(test: &TestLab, when: &str) -> Verdict {
    let mut found = BTreeSet::new();
    for family in BOTH {
        for (protocol, port) in [(Protocol::Tcp, 80), (Protocol::Udp, 53)] {
            let result = test.probe("pod:default/client", "svc:default/server", |probe| {
                (probe.family, probe.protocol, probe.port) = (Some(family), protocol, Some(port));
            });
            found.insert(result.result);
        }
    }
    assert_eq!(found.len(), 1, "{when}: {found:?}");
    found.pop_first().expect("one")
}

#[test]
fn a_service_refuses_at_once_while_it_has_no_ready_endpoint_and_serves_when_it_has() {
    let mut test = cluster(2, WORLD);
    assert_eq!(verdict(&test, "no pod"), Verdict::Refused);
    test.apply(&server("{app: server}", ""));
    assert_eq!(verdict(&test, "a pod"), Verdict::Connected);
    test.apply(&server("{app: server}", ", annotations: {tortie.dev/ready: 'false'}"));
    assert_eq!(verdict(&test, "not ready"), Verdict::Refused);
    test.apply(&server("{app: server}", ", annotations: {tortie.dev/ready: 'true'}"));
    assert_eq!(verdict(&test, "ready again"), Verdict::Connected);
    test.apply(&server("{app: other}", ""));
    assert_eq!(verdict(&test, "no longer selected"), Verdict::Refused);
    test.apply(&server("{app: server}", ""));
    test.delete(&server("{app: server}", ""));
    test.lab.wait(PATIENCE).expect("wait");
    assert_eq!(verdict(&test, "the pod has gone"), Verdict::Refused);
}

/// The next pod of that node gets the lowest address that is free.
fn forget_last_address(test: &TestLab, node: &str) {
    let directory = test.lab.paths.node(node).join("ipam/tortie");
    for range in 0..2 {
        fs::remove_file(directory.join(format!("last_reserved_ip.{range}"))).expect("host-local's file");
    }
}

#[test]
fn a_pod_that_gets_the_address_of_one_that_has_gone_inherits_nothing() {
    let mut test = cluster(2, WORLD);
    test.apply(&server("{app: server}", ""));
    let addresses = test.lab.attachment("default", "server").expect("attached").addresses;
    let asking = Probe {
        port: Some(8080),
        ..Probe::new(endpoint("pod:default/client"), endpoint("pod:default/server"))
    };
    test.lab.stream_start("old", &asking, Duration::from_millis(1)).expect("starting");
    thread::sleep(Duration::from_millis(100));
    test.delete(&server("{app: server}", ""));
    let gone = SystemTime::now();
    forget_last_address(&test, "node2");
    test.apply(&server("{app: closed}", ""));
    assert_eq!(test.lab.attachment("default", "server").expect("attached").addresses, addresses);
    let ask = |test: &TestLab, family: Family| {
        test.probe("pod:default/client", "pod:default/server", |probe| {
            briefly(probe);
            (probe.port, probe.family) = (Some(8080), Some(family));
        })
    };
    for family in BOTH {
        let result = ask(&test, family);
        assert!(!result.is_connected(), "the policy of the new pod's labels: {result:?}");
    }
    let old = test.lab.stream_stop("old").expect("stopping");
    // Whether it hears a last word or nothing: no record comes once the old pod is away.
    let last = UNIX_EPOCH + Duration::from_micros(old.last_record_unix_micros);
    assert!(old.received > 10 && last < gone, "the old pod's connection is over: {old:?}");
    // And the other way round: nothing of the closed pod clings to an open one.
    test.delete(&server("{app: closed}", ""));
    forget_last_address(&test, "node2");
    test.apply(&server("{app: server}", ""));
    assert_eq!(test.lab.attachment("default", "server").expect("attached").addresses, addresses);
    for family in BOTH {
        let result = ask(&test, family);
        assert!(result.is_connected(), "{result:?}");
    }
    assert_eq!(verdict(&test, "a new pod at the old address"), Verdict::Connected);
}

#[test]
fn a_named_port_of_a_policy_means_each_pods_own_number() {
    let mut test = cluster(2, "
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node1, containers: [{name: c, image: any}]}
---
apiVersion: v1
kind: Pod
metadata: {name: old, labels: {app: server}}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{name: web, containerPort: 80}, {containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: new, labels: {app: server}}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 80}, {name: web, containerPort: 8080}]}]}
");
    test.apply(
        "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec: {podSelector: {matchLabels: {app: server}}, ingress: [{ports: [{port: web}]}]}
",
    );
    for family in BOTH {
        for (pod, open, closed) in [("old", 80, 8080), ("new", 8080, 80)] {
            let ask = |port: u16| {
                test.probe("pod:default/client", &format!("pod:default/{pod}"), |probe| {
                    briefly(probe);
                    (probe.port, probe.family) = (Some(port), Some(family));
                })
            };
            assert!(ask(open).is_connected(), "{family:?} {pod} {open}");
            assert!(!ask(closed).is_connected(), "{family:?} {pod} {closed}");
        }
    }
}
