//! How soon a policy reaches connections that are open, as a distribution.

use std::time::Duration;

use tortie_lab::Probe;
use tortie_tests_e2e::endpoint;

use crate::verbs::cluster;

const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: client}}
spec: {nodeName: node1, containers: [{name: c, image: any}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
";

/// Everybody may come in but the client.
const CLOSED: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress: [{from: [{podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [client]}]}}]}]
";

#[test]
fn five_open_connections_are_cut_within_50_ms_in_the_median_and_new_ones_get_in_after() {
    let mut test = cluster(2, WORLD);
    let asking = Probe::new(endpoint("pod:default/client"), endpoint("pod:default/server"));
    let mut late: Vec<Duration> = (0..5).map(|_| test.cut(&asking, CLOSED)).collect();
    late.sort();
    assert!(late[2] <= Duration::from_millis(50), "{late:?}");
    assert!(late[4] < Duration::from_millis(250), "{late:?}");
}
