//! Agents die; traffic does not notice.

use std::thread;
use std::time::Duration;

use tortie_lab::Probe;
use tortie_tests_e2e::{briefly, endpoint};

const PATIENCE: Duration = Duration::from_secs(30);

/// Packets are translated one by one, so that the flow table is what must survive; sockets are in
/// `connect_time.rs`.
const WORLD: &str = "
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {defaultEndpointToHostAction: Accept, bpfConnectTimeLoadBalancing: Disabled}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec: {ipFamilyPolicy: PreferDualStack, selector: {app: server}, ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server}
spec: {podSelector: {matchLabels: {app: server}}, ingress: [{from: [{podSelector: {}}]}]}
";

#[test]
fn an_open_connection_through_a_service_survives_twenty_kills_of_the_agents() {
    let mut test = crate::cluster(2);
    test.apply(WORLD);
    let asking = Probe::new(endpoint("pod:default/client"), endpoint("svc:default/server"));
    test.lab.stream_start("s", &asking, Duration::from_millis(1)).expect("starting");
    for round in 0..20 {
        let node = if round % 2 == 0 { "node1" } else { "node2" };
        test.lab.kill_agent(node).expect("kill-agent");
        assert!(
            test.probe("pod:default/client", "svc:default/server", |_| {}).is_connected(),
            "round {round}"
        );
        test.lab.start_agent(node).expect("start-agent");
        test.lab.wait(PATIENCE).expect("wait");
    }
    thread::sleep(Duration::from_millis(200));
    let report = test.unharmed("s");
    assert!(report.longest_pause_micros < 500_000, "{report:?}");
    assert!(report.silent_micros < 200_000, "{report:?}");
}

#[test]
fn what_was_denied_stays_denied_while_the_agent_is_dead() {
    let mut test = crate::cluster(2);
    test.apply(WORLD);
    for node in ["node1", "node2"] {
        test.lab.kill_agent(node).expect("kill-agent");
    }
    assert!(!test.probe("client:c1", "pod:default/server", briefly).is_connected());
    assert!(test.probe("pod:default/client", "pod:default/server", |_| {}).is_connected());
}

#[test]
fn a_change_made_while_the_agent_was_dead_is_in_force_when_it_is_back() {
    let mut test = crate::cluster(2);
    test.apply(WORLD);
    test.lab.kill_agent("node2").expect("kill-agent");
    let closed = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server}
spec: {podSelector: {matchLabels: {app: server}}, ingress: []}
";
    test.lab.apply(tortie_lab::parse_objects(closed, "the test").expect("YAML")).expect("apply");
    test.lab.start_agent("node2").expect("start-agent");
    test.lab.wait(PATIENCE).expect("wait");
    assert!(!test.probe("pod:default/client", "pod:default/server", briefly).is_connected());
}

#[test]
fn a_cluster_leaves_nothing_behind_whichever_of_its_processes_were_killed() {
    let mut test = crate::cluster(2);
    test.apply(WORLD);
    test.lab.kill_agent("node1").expect("kill-agent");
    let record = std::fs::read_to_string(test.lab.paths.process("server-node1")).expect("a record");
    let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    let kill = std::process::Command::new("kill").args(["-9", &record["pid"].to_string()]).status();
    assert!(kill.expect("kill").success());
    let name = test.lab.name.clone();
    // The guard takes it down and looks for residue; here once more, to be sure that it looked.
    assert!(!tortie_tests_e2e::residue(&name).is_empty());
    drop(test);
    assert_eq!(tortie_tests_e2e::residue(&name), Vec::<String>::new());
}

#[test]
fn building_a_cluster_that_was_killed_at_any_moment_leaves_nothing() {
    for step in 0..8 {
        let name = tortie_tests_e2e::fresh_name();
        let mut up = std::process::Command::new(tortie_tests_e2e::binary())
            .args(["lab", "up", "--nodes", "2", "--store", crate::STORE, "--name", &name.to_string()])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("running tortie");
        thread::sleep(Duration::from_millis(30 + 250 * step));
        up.kill().expect("killing");
        up.wait().expect("waiting");
        tortie_lab::down(&name).expect("down");
        assert_eq!(tortie_tests_e2e::residue(&name), Vec::<String>::new(), "step {step}");
    }
}
