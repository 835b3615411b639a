//! A policy reaches connections that are already open.

use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use tortie_lab::{Key, Probe};
use tortie_tests_e2e::{TestLab, endpoint};

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

const AT_MOST: Duration = Duration::from_millis(50);
const ATTEMPTS: usize = 3;

#[test]
fn a_policy_cuts_an_open_connection_within_50_ms_and_taking_it_back_lets_new_ones_in() {
    let mut test = crate::cluster(2);
    test.apply(WORLD);
    for server in ["near", "far"] {
        let asking = Probe::new(endpoint("pod:default/client"), endpoint(&format!("pod:default/{server}")));
        // Other tests use this machine's processors as well: one of a few cuts shows how long one takes.
        let late = (0..ATTEMPTS).map(|_| cut(&mut test, &asking)).find(|late| *late <= AT_MOST);
        assert!(late.is_some(), "{server}: none of {ATTEMPTS} cuts within {AT_MOST:?}");
    }
}

/// Cuts a connection and takes it back; how long it went on.
fn cut(test: &mut TestLab, asking: &Probe) -> Duration {
    test.lab.stream_start("s", asking, Duration::from_millis(1)).expect("starting");
    thread::sleep(Duration::from_millis(200));
    assert!(test.lab.stream_report("s").expect("report").received > 20);
    test.apply(CLOSED);
    let policy =
        Key { group: "networking.k8s.io".into(), ..Key::core("NetworkPolicy", Some("default"), "server") };
    let changed =
        test.lab.stored_at(&policy).expect("the policy").duration_since(UNIX_EPOCH).expect("a time");
    thread::sleep(Duration::from_millis(500));
    let cut = test.lab.stream_stop("s").expect("stopping");
    assert!(cut.silent_micros > 300_000, "{asking:?}: it goes on: {cut:?}");
    assert!(!test.lab.probe(asking).expect("probe").is_connected(), "{asking:?}");
    test.delete(CLOSED);
    test.lab.wait(Duration::from_secs(30)).expect("wait");
    assert!(test.lab.probe(asking).expect("probe").is_connected(), "{asking:?}");
    Duration::from_micros(cut.last_record_unix_micros).saturating_sub(changed)
}
