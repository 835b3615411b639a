//! A flood of half-open connections is nobody else's business.

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
metadata: {name: flooder}
spec: {nodeName: node1, containers: [{name: c, image: any}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec: {selector: {app: server}, ports: [{port: 80}]}
";

#[test]
fn a_hundred_thousand_half_open_flows_do_not_disturb_an_established_one() {
    let mut test = crate::cluster(2);
    test.apply(WORLD);
    // What goes there is forwarded by node and router, and nobody answers.
    for family in ["-4", "-6"] {
        let prefix = if family == "-4" { "198.18.0.0/15" } else { "2001:db8:dead::/48" };
        let set = std::process::Command::new("ip")
            .args(["-n", &test.lab.name.machine("router"), family, "route", "add", "blackhole", prefix])
            .status();
        assert!(set.expect("ip").success());
    }
    let asking = Probe::new(endpoint("pod:default/client"), endpoint("svc:default/server"));
    test.lab.stream_start("s", &asking, Duration::from_millis(1)).expect("starting");
    for silent in ["198.18.0.1", "2001:db8:dead::1"] {
        let flood =
            Probe { port: Some(1000), ..Probe::new(endpoint("pod:default/flooder"), endpoint(silent)) };
        assert_eq!(test.lab.flood(&flood, 100_000).expect("flood"), 100_000);
    }
    let report = test.unharmed("s");
    assert!(report.silent_micros < 500_000 && report.longest_pause_micros < 1_000_000, "{report:?}");
    assert!(test.probe("pod:default/client", "svc:default/server", |_| {}).is_connected());
}
