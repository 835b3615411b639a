//! A policy reaches connections that are already open.

use std::time::Duration;

use tortie_lab::Probe;
use tortie_tests_e2e::endpoint;

const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node1, containers: [{name: c, image: any}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near, labels: {app: server}}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, labels: {app: server}}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
";

const CLOSED: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server}
spec: {podSelector: {matchLabels: {app: server}}, ingress: []}
";

#[test]
fn a_policy_cuts_an_open_connection_within_50_ms_and_taking_it_back_lets_new_ones_in() {
    let mut test = crate::cluster(2);
    test.apply(WORLD);
    for server in ["near", "far"] {
        let asking = Probe::new(endpoint("pod:default/client"), endpoint(&format!("pod:default/{server}")));
        // In the median: other tests use this machine's processors as well.
        let mut late: Vec<Duration> = (0..3).map(|_| test.cut(&asking, CLOSED)).collect();
        late.sort();
        assert!(late[1] <= Duration::from_millis(50), "{server}: cut after {late:?}");
    }
}
