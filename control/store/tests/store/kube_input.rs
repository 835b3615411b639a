//! Objects that validation would refuse and the API server has all the same, and write-back about them.

use crate::kube::options;
use crate::server::Server;
use crate::suite::{Listener, changed, rejected};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tortie_model::Object;
use tortie_store::{Effect, Event, NodeState, kube};

struct World {
    server: Server,
    /// With the kubeconfig.
    _directory: TempDir,
    listener: Listener,
}

impl World {
    fn new(objects: &[Value]) -> Self {
        let server = Server::of_a_cluster();
        objects.iter().for_each(|object| server.put(object));
        let directory = tempfile::tempdir().unwrap();
        let listener = Listener::new(kube::open(options(&server, &directory)).unwrap());
        Self { server, _directory: directory, listener }
    }

    fn said(&mut self) -> Vec<Event> {
        self.listener.catch_up()
    }
}

fn node(name: &str, addresses: &[&str]) -> Value {
    let addresses: Vec<Value> =
        addresses.iter().map(|address| json!({"type": "InternalIP", "address": address})).collect();
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"addresses": addresses}})
}

fn pod(name: &str, address: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "n"},
        "spec": {"nodeName": "node1", "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}})
}

fn policy(rules: usize) -> Value {
    let rule =
        |n: usize| json!({"from": [{"ipBlock": {"cidr": format!("10.{}.{}.0/24", n >> 8 & 255, n & 255)}}]});
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "n"},
        "spec": {"podSelector": {}, "ingress": (0..rules).map(rule).collect::<Vec<_>>()}})
}

#[test]
fn nodes_with_one_address_and_nodes_without_are_all_said() {
    let mut world = World::new(&[node("a", &["192.168.0.1"]), node("b", &["192.168.0.1"]), node("c", &[])]);
    let events = world.said();
    let of = |object: &&Object| match object {
        Object::Node(change) => {
            change.value.as_ref().map(|node| (change.key.to_string(), node.addresses.len()))
        }
        _ => None,
    };
    let nodes: Vec<_> = changed(&events).iter().filter_map(of).collect();
    assert_eq!(nodes, [("a".to_owned(), 1), ("b".to_owned(), 1), ("c".to_owned(), 0)]);
    assert_eq!(rejected(&events).len(), 0);
}

#[test]
fn a_pod_with_an_address_that_cannot_be_keeps_the_last_good_one() {
    let mut world = World::new(&[pod("a", "172.31.0.1")]);
    assert_eq!(rejected(&world.said()).len(), 0, "outside every pool is no fault of the pod");
    for address in ["127.0.0.1", "169.254.1.1", "224.0.0.1", "0.0.0.0", "fe80::1", "nonsense"] {
        world.server.put(&pod("a", address));
        let events = world.said();
        assert_eq!(changed(&events).len(), 0, "{address}");
        assert_eq!(rejected(&events)[0].effect, Effect::KeepsLast, "{address}");
    }
}

#[test]
fn a_megabyte_of_annotations_is_not_kept_and_not_repeated() {
    let big = "x".repeat(1 << 20);
    let mut one = pod("a", "10.0.0.1");
    one["metadata"]["annotations"] = json!({"example.com/big": big});
    let mut other = pod("b", "10.0.0.2");
    other["metadata"]["annotations"] = json!({"cni.projectcalico.org/podIPs": big});
    let mut world = World::new(&[one, other]);
    let events = world.said();
    let workloads = changed(&events).into_iter().filter(|object| matches!(object, Object::Workload(_)));
    assert_eq!(workloads.count(), 1);
    let [rejection] = rejected(&events)[..] else { panic!("{events:?}") };
    assert!(rejection.problem.len() < 1000, "{}", rejection.problem.len());
}

#[test]
fn ten_thousand_rules_are_said_whole() {
    let mut world = World::new(&[policy(10_000)]);
    let events = world.said();
    let of = |object: &&Object| match object {
        Object::NetworkPolicy(change) => {
            change.value.as_ref().and_then(|it| it.ingress.as_ref().map(Vec::len))
        }
        _ => None,
    };
    assert_eq!(changed(&events).iter().find_map(of), Some(10_000));
}

#[test]
fn labels_of_strange_unicode_are_refused_and_disturb_nobody() {
    let label = |name: &str, value: &str| {
        let mut pod = pod(name, &format!("10.0.0.{}", name.len()));
        pod["metadata"]["labels"] = json!({"l": value});
        pod
    };
    let mut world = World::new(&[
        label("a", "\u{202e}evil"),
        label("ab", "e\u{301}"),
        label("abc", "\u{0}"),
        label("abcd", "good"),
        label("abcde", &"\u{1f9a6}".repeat(1000)),
    ]);
    let events = world.said();
    let workloads = changed(&events).into_iter().filter(|object| matches!(object, Object::Workload(_)));
    assert_eq!((workloads.count(), rejected(&events).len()), (1, 4));
    for rejection in rejected(&events) {
        assert!(rejection.problem.chars().count() < 400);
        assert!(!rejection.to_string().contains(['\u{202e}', '\u{0}']), "{rejection}");
    }
}

#[test]
fn fields_that_a_newer_server_adds_to_pods_and_services_are_no_fault() {
    let mut pod = pod("a", "10.0.0.1");
    pod["spec"]["fieldOfTomorrow"] = json!({"a": 1});
    pod["spec"]["containers"][0]["another"] = json!(1);
    pod["status"]["more"] = json!([]);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "n"},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80, "tomorrow": 1}], "tomorrow": true}, "status": {"x": 1}});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "s-1", "namespace": "n", "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": "IPv4", "tomorrow": 1, "ports": [{"port": 80}],
        "endpoints": [{"addresses": ["10.0.0.1"], "tomorrow": 1, "conditions": {"ready": true, "tomorrow": true}}]});
    let mut world = World::new(&[pod, service, slice]);
    let events = world.said();
    assert_eq!(rejected(&events).len(), 0, "{events:?}");
    assert!(changed(&events).len() >= 5, "{events:?}");
}

fn conditions(server: &Server) -> Value {
    server.objects("nodes").first().map(|node| node["status"]["conditions"].clone()).unwrap_or_default()
}

fn wait(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(Instant::now() < until, "{what} has not happened");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_node_that_is_ready_has_a_network_and_addresses_also_when_it_is_made_anew() {
    let server = Server::of_a_cluster();
    let directory = tempfile::tempdir().unwrap();
    let options = kube::Options { writes: true, ..options(&server, &directory) };
    let mut agent = Listener::new(kube::open(options).unwrap());
    agent.catch_up();
    let addresses = ["192.168.0.1/24", "fd00::1/64"].map(|net| net.parse().unwrap()).to_vec();
    let handle = agent.store.handle();
    handle.set_node(NodeState { ready: false, addresses: addresses.clone() });
    server.put(&node("node1", &["192.168.0.1"]));
    wait("annotations", || server.objects("nodes")[0]["metadata"]["annotations"] != Value::Null);
    let annotations = server.objects("nodes")[0]["metadata"]["annotations"].clone();
    let expected = json!({"projectcalico.org/IPv4Address": "192.168.0.1/24", "projectcalico.org/IPv6Address": "fd00::1/64"});
    assert_eq!((annotations, conditions(&server)), (expected, Value::Null), "not ready yet");
    handle.set_node(NodeState { ready: true, addresses });
    wait("the condition", || conditions(&server)[0]["type"] == "NetworkUnavailable");
    assert_eq!(conditions(&server)[0]["status"], "False");
    server.delete(&node("node1", &[]));
    agent.catch_up();
    server.put(&node("node1", &["192.168.0.1"]));
    wait("the condition again", || conditions(&server)[0]["status"] == "False");
    wait("annotations again", || server.objects("nodes")[0]["metadata"]["annotations"] != Value::Null);
    let before = server.requests().len();
    std::thread::sleep(Duration::from_millis(300));
    let after = server.requests()[before..].to_vec();
    assert!(after.iter().all(|it| it.starts_with("GET")), "what is written is not written again: {after:#?}");
}

#[test]
fn another_writer_of_the_condition_is_overruled_once_only() {
    let server = Server::of_a_cluster();
    server.put(&node("node1", &["192.168.0.1"]));
    let refusal = crate::server::status(409, "Conflict", "conflict with \"cloud-controller\"");
    server.with_faults(|faults| {
        faults.refuse = vec![("status?fieldManager=tortie-node&force=false".into(), 409, refusal)]
    });
    let directory = tempfile::tempdir().unwrap();
    let options = kube::Options { writes: true, ..options(&server, &directory) };
    let mut agent = Listener::new(kube::open(options).unwrap());
    agent.catch_up();
    agent.store.handle().set_node(NodeState { ready: true, addresses: vec![] });
    wait("the condition", || conditions(&server)[0]["status"] == "False");
    let mut back = node("node1", &["192.168.0.1"]);
    back["status"]["conditions"] = json!([{"type": "NetworkUnavailable", "status": "True"}]);
    server.put(&back);
    agent
        .store
        .handle()
        .set_node(NodeState { ready: true, addresses: vec!["192.168.0.1/24".parse().unwrap()] });
    wait("the annotation", || server.objects("nodes")[0]["metadata"]["annotations"] != Value::Null);
    assert_eq!(conditions(&server)[0]["status"], "True", "it is not fought over");
    let forced = server.requests().iter().filter(|it| it.contains("force=true")).count();
    assert_eq!(forced, 1);
}

#[test]
fn a_rejected_object_has_one_event_that_says_why() {
    let bad = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "n", "uid": "the-uid"},
        "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 80, "endPort": 70}]}]}});
    let server = Server::of_a_cluster();
    server.put(&bad);
    let directory = tempfile::tempdir().unwrap();
    let options = kube::Options { writes: true, ..options(&server, &directory) };
    let mut agents: Vec<Listener> =
        (0..2).map(|_| Listener::new(kube::open(options.clone()).unwrap())).collect();
    for agent in &mut agents {
        assert_eq!(rejected(&agent.catch_up()).len(), 1);
    }
    let until = Instant::now() + Duration::from_secs(5);
    while server.objects("events").is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    server.put(&bad);
    agents.iter_mut().for_each(|agent| drop(agent.catch_up()));
    std::thread::sleep(Duration::from_millis(500));
    let events = server.objects("events");
    let [event] = &events[..] else { panic!("{events:#?}") };
    assert_eq!(event["reason"], "Rejected");
    assert_eq!(event["involvedObject"]["uid"], "the-uid");
    assert_eq!(event["metadata"]["namespace"], "n");
    let message = event["message"].as_str().unwrap();
    assert!(message.starts_with("spec.ingress[0].ports[0].endPort: "), "{message}");
}

const SIX: [&str; 6] = ["n1", "n2", "n3", "n4", "n5", "n6"];

/// A cluster of six nodes where agents have been, with an object that nobody can read.
fn six_nodes_and_a_mistake() -> Server {
    let server = Server::of_a_cluster();
    for name in SIX {
        let mut node = node(name, &["192.168.0.1"]);
        node["metadata"]["annotations"] = json!({"projectcalico.org/IPv4Address": "192.168.0.1/24"});
        server.put(&node);
    }
    server.put(&json!({"apiVersion": "crd.projectcalico.org/v1", "kind": "IPPool",
        "metadata": {"name": "wrong", "uid": "u"}, "spec": {"cidr": "none"}}));
    server
}

fn agent_of(server: &Server, directory: &tempfile::TempDir, node: &str) -> Listener {
    let options = kube::Options { writes: true, node: node.into(), ..options(server, directory) };
    let mut agent = Listener::new(kube::open(options).unwrap());
    assert_eq!(rejected(&agent.catch_up()).len(), 1);
    agent
}

#[test]
fn whichever_agent_alone_is_alive_says_what_is_wrong_with_an_object() {
    for name in SIX {
        let (server, directory) = (six_nodes_and_a_mistake(), tempfile::tempdir().unwrap());
        let _agent = agent_of(&server, &directory, name);
        wait(&format!("the Event, by {name} alone,"), || !server.objects("events").is_empty());
    }
}

#[test]
fn agents_whose_turn_comes_later_make_no_second_event() {
    let (server, directory) = (six_nodes_and_a_mistake(), tempfile::tempdir().unwrap());
    let agents = SIX.map(|name| agent_of(&server, &directory, name));
    let asked = || server.requests().iter().filter(|it| it.starts_with("POST")).count();
    wait("the turn of all six", || asked() == 6);
    assert_eq!(server.objects("events").len(), 1);
    drop(agents);
}

#[test]
fn the_event_about_a_policy_names_it_as_the_server_does() {
    let (server, directory) = (Server::with_group("crd.projectcalico.org/v1"), tempfile::tempdir().unwrap());
    server.put(
        &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": "u"}}),
    );
    server.put(&json!({"apiVersion": "crd.projectcalico.org/v1", "kind": "NetworkPolicy", "spec": {},
        "metadata": {"name": "default.deny", "namespace": "shop", "uid": "the-uid"}}));
    let options = kube::Options { writes: true, ..options(&server, &directory) };
    let mut agent = Listener::new(kube::open(options).unwrap());
    let events = agent.catch_up();
    let said = rejected(&events);
    assert_eq!(said[0].object.as_ref().unwrap().name, "deny", "as people do");
    wait("the Event", || !server.objects("events").is_empty());
    assert_eq!(server.objects("events")[0]["involvedObject"]["name"], "default.deny");
}
