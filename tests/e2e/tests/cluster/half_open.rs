//! SYNs to pods that do not exist.

use std::net::Ipv4Addr;
use std::time::Duration;

use tortie_lab::{Lab, Probe};
use tortie_tests_e2e::{endpoint, items};

use crate::verbs::cluster;

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

const FLOWS: u64 = 100_000;

/// The rows of the client's conversation with the Service: age, and packets both ways.
fn rows(lab: &Lab, client: &str) -> Vec<(f64, u64)> {
    let all = items(lab, "node1", &["conntrack", "list"]);
    let own = all.iter().filter(|row| row["client"]["address"] == client && row["state"] == "established");
    own.map(|row| {
        let packets = |way: &str| row[way]["packets"].as_u64().expect("packets");
        (row["ageSeconds"].as_f64().expect("an age"), packets("forward") + packets("reverse"))
    })
    .collect()
}

#[test]
fn half_open_flows_to_pods_that_do_not_exist_leave_an_established_one_in_the_table() {
    let test = cluster(2, WORLD);
    let client = test.lab.attachment("default", "client").expect("attached").addresses[0].to_string();
    let asking = Probe::new(endpoint("pod:default/client"), endpoint("svc:default/server"));
    test.lab.stream_start("s", &asking, Duration::from_millis(1)).expect("starting");
    let before = rows(&test.lab, &client);
    assert_eq!(before.len(), 1, "{before:?}");
    // Node 2 answers nothing for an address of its range that no pod has, or says that it is unreachable.
    let nobody = Ipv4Addr::new(10, 244, 2, 200).to_string();
    let flood = Probe { port: Some(1000), ..Probe::new(endpoint("pod:default/flooder"), endpoint(&nobody)) };
    assert_eq!(test.lab.flood(&flood, FLOWS).expect("flood"), FLOWS);
    let after = rows(&test.lab, &client);
    assert_eq!(after.len(), 1, "{after:?}");
    assert!(
        after[0].0 > before[0].0 && after[0].1 > before[0].1,
        "the same row, older: {before:?} {after:?}"
    );
    test.unharmed("s");
}
