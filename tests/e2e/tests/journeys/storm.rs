//! A storm of EndpointSlice changes, and agents that die in it.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tortie_tests_e2e::{TestLab, items};

const PATIENCE: Duration = Duration::from_secs(120);
const SERVICES: u32 = 50;
const CHANGES: u32 = 10_000;
const NODE: &str = "node1";

/// Services without selectors: their slices are ours to write.
fn services() -> String {
    let service = |n: u32| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{n}}}\n\
             spec: {{ipFamilyPolicy: PreferDualStack, ports: [{{name: web, port: 80}}]}}\n"
        )
    };
    (0..SERVICES).map(service).collect::<Vec<_>>().join("---\n")
}

/// A slice of a Service as `word` says: which of eight endpoints it has, and which of them are ready.
fn slice(service: u32, word: u64) -> String {
    let endpoint = |n: u64| {
        let (ready, terminating) = (word >> (n + 8) & 1 == 1, word >> (n + 16) & 1 == 1);
        format!(
            "{{addresses: [10.244.1.{}], conditions: {{ready: {}, serving: true, terminating: {terminating}}}}}",
            100 + n,
            ready && !terminating
        )
    };
    let endpoints: Vec<String> = (0..8).filter(|n| word >> n & 1 == 1).map(endpoint).collect();
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
         metadata: {{name: s{service}-ours, namespace: default, labels: {{kubernetes.io/service-name: s{service}}}}}\n\
         ports: [{{name: web, port: 8080, protocol: TCP}}]\nendpoints: [{}]\n",
        endpoints.join(", ")
    )
}

/// Writes the changes one after the other, each as an editor would.
fn blow(store: &Path, over: &AtomicBool) {
    let beside = store.with_file_name("storm-new");
    let mut random = 0x5bd1_e995_u64;
    for change in 0..CHANGES {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let service = change % SERVICES;
        fs::write(&beside, slice(service, random)).expect("writing a slice");
        fs::rename(&beside, store.join(format!("storm-{service}.yaml"))).expect("putting it into the store");
    }
    over.store(true, Ordering::SeqCst);
}

/// What the kernel of the node has, in an order that says nothing.
fn in_force(test: &TestLab) -> Vec<Value> {
    let mut items = items(&test.lab, NODE, &["services", "list"]);
    for item in &mut items {
        for list in ["frontends", "endpoints"] {
            item[list].as_array_mut().expect("a list").sort_by_key(Value::to_string);
        }
    }
    items.sort_by_key(Value::to_string);
    items
}

#[test]
fn agents_killed_in_a_storm_of_slices_end_where_a_fresh_start_does() {
    let mut test = crate::cluster(2);
    test.apply(&services());
    let store = test.lab.paths.store();
    let over = AtomicBool::new(false);
    let kills = thread::scope(|scope| {
        scope.spawn(|| blow(&store, &over));
        let mut kills = 0_u64;
        while !over.load(Ordering::SeqCst) || kills < 3 {
            test.lab.kill_agent(NODE).expect("kill-agent");
            kills += 1;
            test.lab.start_agent(NODE).expect("start-agent");
            thread::sleep(Duration::from_millis(kills % 5 * 150));
        }
        kills
    });
    test.lab.wait(PATIENCE).expect("wait");
    let after = in_force(&test);
    test.lab.kill_agent(NODE).expect("kill-agent");
    for pins in ["maps", "links", "programs"] {
        fs::remove_dir_all(test.lab.paths.node_bpffs(NODE).join(pins)).expect("removing pins");
    }
    for names in ["state.json", "services.jsonl"] {
        let _ = fs::remove_file(test.lab.paths.run_dir(NODE).join(names));
    }
    test.lab.start_agent(NODE).expect("start-agent");
    test.lab.wait(PATIENCE).expect("wait");
    let fresh = in_force(&test);
    let used = |items: &[Value]| {
        let endpoints = items.iter().flat_map(|item| item["endpoints"].as_array().into_iter().flatten());
        endpoints.filter(|endpoint| endpoint["used"] == true).count()
    };
    println!(
        "{CHANGES} changes, {kills} kills, {} Service ports, {} back ends in use",
        fresh.len(),
        used(&fresh)
    );
    assert!(used(&fresh) > 50, "the storm has left little: {fresh:?}");
    assert_eq!(after, fresh);
}
