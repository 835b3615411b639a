//! The API server, etcd, agents and the kubelet die and come back.

use std::thread;
use std::time::Duration;

use tortie_lab::{Component, Probe};
use tortie_tests_e2e::{TestLab, briefly, endpoint};
use tortie_tests_kubernetes::{kubectl, while_asking};

use super::world::{PATIENCE, asking, denied, kill, revive, start_api_server, status, until};

/// An open connection and new ones go on, what is denied stays denied; changes made afterwards arrive.
pub fn outage(test: &mut TestLab) {
    let lab = &test.lab;
    let still = asking(lab, "still");
    let denied =
        Probe { from: endpoint("pod:default/stranger"), timeout: Duration::from_secs(1), ..still.clone() };
    lab.stream_start("s", &still, Duration::from_millis(1)).expect("starting");
    let ((), attempts) = while_asking(lab, &still, || {
        for components in [&[Component::Etcd][..], &[Component::ApiServer], &Component::ALL] {
            components.iter().for_each(|component| lab.kill_component(*component).expect("killing"));
            thread::sleep(Duration::from_secs(1));
            assert!(!lab.probe(&denied).expect("probe").is_connected(), "{components:?}");
            revive(lab);
            assert!(!lab.probe(&denied).expect("probe").is_connected(), "{components:?}");
        }
    });
    assert!(
        attempts.failed.is_empty(),
        "{} of {}: {:?}",
        attempts.failed.len(),
        attempts.made,
        attempts.failed
    );
    let report = lab.stream_stop("s").expect("stopping");
    assert_eq!(
        (report.lost, report.disordered, report.ended.as_deref()),
        (0, 0, Some("stopped")),
        "{report:?}"
    );
    assert!(report.longest_pause_micros < 500_000, "{report:?}");

    kubectl(lab, &["label", "pod", "stranger", "app=client"], "").expect("label");
    lab.wait(PATIENCE).expect("wait");
    assert!(lab.probe(&denied).expect("probe").is_connected(), "a change after the outage arrives");
    kubectl(lab, &["label", "pod", "stranger", "app-"], "").expect("label");
    lab.wait(PATIENCE).expect("wait");
    assert!(!lab.probe(&denied).expect("probe").is_connected());
}

/// CNI DEL and ADD work without an API server, and the pod has its policy at once.
pub fn sandboxes(test: &mut TestLab) {
    let lab = &test.lab;
    let still = asking(lab, "still");
    kill(lab);
    for _ in 0..3 {
        let client = lab.restart_sandbox("default", "client", PATIENCE).expect("DEL and ADD");
        assert_eq!(client.addresses.len(), 2, "{client:?}");
        // The server's node cannot know the client's new address: it was told of it by nobody, and unknown is denied.
        let asked = Probe { timeout: Duration::from_millis(500), ..still.clone() };
        assert!(!lab.probe(&asked).expect("probe").is_connected());
    }
    let server = lab.restart_sandbox("default", "still", PATIENCE).expect("DEL and ADD");
    let direct = |from: &str| Probe {
        port: Some(80),
        timeout: Duration::from_secs(1),
        ..Probe::new(endpoint(from), endpoint(&server.addresses[0].to_string()))
    };
    assert!(
        !lab.probe(&direct("pod:default/stranger")).expect("probe").is_connected(),
        "closed from the start"
    );
    revive(lab);
    assert!(lab.probe(&asking(lab, "still")).expect("probe").is_connected());
    assert!(
        lab.probe(&Probe { timeout: Duration::from_secs(5), ..direct("pod:default/client") })
            .expect("probe")
            .is_connected()
    );
    assert!(!lab.probe(&direct("pod:default/stranger")).expect("probe").is_connected());
}

/// An agent that starts without an API server takes over what is in force and what it remembers.
pub fn agents(test: &mut TestLab) {
    let still = asking(&test.lab, "still");
    kill(&test.lab);
    for node in ["node1", "node2"] {
        test.lab.kill_agent(node).expect("kill-agent");
        test.lab.start_agent(node).expect("start-agent");
    }
    // Longer than an agent waits for an API server before it works from memory.
    thread::sleep(Duration::from_secs(7));
    assert!(test.lab.probe(&still).expect("probe").is_connected());
    let mut denied = Probe { from: endpoint("pod:default/stranger"), ..still };
    briefly(&mut denied);
    assert!(!test.lab.probe(&denied).expect("probe").is_connected());
    test.lab
        .restart_sandbox("default", "stranger", PATIENCE)
        .expect("an agent that works from memory attaches pods");
    assert!(!test.lab.probe(&denied).expect("probe").is_connected());
    revive(&test.lab);
    assert!(test.lab.probe(&asking(&test.lab, "still")).expect("probe").is_connected());
}

/// What is missing from a damaged memory may be a policy or a Service: what is in the kernel stays, and status says why.
pub fn memory(test: &mut TestLab) {
    let lab = &test.lab;
    let still = asking(lab, "still");
    let in_force = || {
        assert!(lab.probe(&still).expect("probe").is_connected());
        assert!(!lab.probe(&denied(&still)).expect("probe").is_connected());
    };
    let journal = lab.paths.run_dir("node2").join("store/kube.journal");
    let on_disk = || {
        let bytes = std::fs::read(&journal).expect("a journal");
        bytes.starts_with(format!("tortie kube 2 {:016x}\n", bytes.len()).as_bytes())
    };
    until(on_disk, "the journal is on the disk");
    kill(lab);
    lab.kill_agent("node2").expect("kill-agent");
    let good = std::fs::read_to_string(&journal).expect("a journal");
    let policy = good.replace("\"kind\":\"NetworkPolicy\"", "\"kind\":\"NetworkPolizy\"");
    assert_ne!(policy, good);
    for damaged in [&policy[..], &good[..good.len() / 2]] {
        std::fs::write(&journal, damaged).expect("written");
        lab.start_agent("node2").expect("start-agent");
        // Longer than an agent waits for an API server before it works from memory.
        thread::sleep(Duration::from_secs(7));
        let status = status(lab, "node2");
        let why = status["store"]["memory"].as_str().unwrap_or_default();
        assert!(why.contains("kube.journal") && status["inSync"] == false, "{status:#}");
        in_force();
        lab.kill_agent("node2").expect("kill-agent");
    }
    lab.start_agent("node2").expect("start-agent");
    revive(lab);
    in_force();
    assert!(status(lab, "node2")["store"]["memory"].is_null());
}

/// Pods come and go while the API server is killed; in the end everything agrees.
pub fn churn(test: &mut TestLab) {
    let lab = &test.lab;
    let ((), attempts) = while_asking(lab, &asking(lab, "still"), || {
        for round in 0..3 {
            let replicas = format!("--replicas={}", if round % 2 == 0 { 6 } else { 2 });
            kubectl(lab, &["scale", "deployment/web", &replicas], "").expect("scale");
            thread::sleep(Duration::from_millis(250 * round));
            lab.kill_component(Component::ApiServer).expect("killing");
            start_api_server(lab);
        }
        kubectl(lab, &["scale", "deployment/web", "--replicas=3"], "").expect("scale");
        lab.wait(PATIENCE).expect("wait");
    });
    assert!(
        attempts.failed.is_empty(),
        "{} of {}: {:?}",
        attempts.failed.len(),
        attempts.made,
        attempts.failed
    );
    let results = lab.matrix(&vec![asking(lab, "web"); 60]).expect("matrix");
    let servers: std::collections::BTreeSet<_> =
        results.iter().filter_map(|result| result.server.clone()).collect();
    assert!(results.iter().all(|result| result.is_connected()), "{results:?}");
    assert_eq!(servers.len(), 3, "{servers:?}");
}

/// Pods that came and went while no kubelet was there are attached and detached.
pub fn kubelet(test: &mut TestLab) {
    let record = std::fs::read_to_string(test.lab.paths.process("kubelet")).expect("a record");
    let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    let kill = std::process::Command::new("kill").args(["-9", &record["pid"].to_string()]).status();
    assert!(kill.expect("kill").success());
    kubectl(&test.lab, &["delete", "pod", "stranger", "--wait=false"], "").expect("delete");
    // The next command that needs a kubelet starts it.
    test.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: late}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
",
    );
    assert!(test.probe("pod:default/client", "pod:default/late", |_| {}).is_connected());
    for _ in 0..500 {
        if test.lab.attachment("default", "stranger").is_err() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("what was attached for a deleted pod is still there");
}
