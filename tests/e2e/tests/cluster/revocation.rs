//! How soon a policy reaches connections that are open, as a distribution.

use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use tortie_lab::{Key, Probe, parse_objects};
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
    let mut late = Vec::new();
    for round in 0..5 {
        test.lab.stream_start("s", &asking, Duration::from_millis(1)).expect("starting");
        thread::sleep(Duration::from_millis(100));
        let running = test.lab.stream_report("s").expect("report");
        assert!(running.open && running.received > 10, "round {round}: {running:?}");
        // Not through the helper that waits: the time counts from the moment the file is there.
        test.lab.apply(parse_objects(CLOSED, "the test").expect("YAML")).expect("apply");
        let policy = Key {
            group: "networking.k8s.io".into(),
            ..Key::core("NetworkPolicy", Some("default"), "server")
        };
        let there = test.lab.stored_at(&policy).expect("stored").duration_since(UNIX_EPOCH).expect("a time");
        thread::sleep(Duration::from_millis(400));
        let cut = test.lab.stream_stop("s").expect("stopping");
        assert!(cut.silent_micros > 100_000, "round {round}: it goes on: {cut:?}");
        late.push(Duration::from_micros(cut.last_record_unix_micros).saturating_sub(there));
        test.delete(CLOSED);
        test.lab.wait(Duration::from_secs(30)).expect("wait");
        assert!(test.lab.probe(&asking).expect("probe").is_connected(), "round {round}");
    }
    late.sort();
    assert!(late[2] <= Duration::from_millis(50), "{late:?}");
    assert!(late[4] < Duration::from_millis(250), "{late:?}");
}
