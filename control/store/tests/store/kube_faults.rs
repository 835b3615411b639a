//! API servers that are dead, slow, overloaded, forgetful or lying: nothing that is in force goes.

mod memory;
mod outage;

use crate::kube::{object, options};
use crate::server::{Faults, Server, status};
use crate::suite::{Listener, changed, id, rejected, resolved};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tortie_model::{Object, ObjectId};
use tortie_store::kube::{self, Access};
use tortie_store::{Effect, Event};

struct World {
    server: Server,
    /// With the kubeconfig.
    _directory: TempDir,
    listener: Listener,
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

fn labelled(name: &str, label: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"l": label}}})
}

fn names(events: &[Event]) -> Vec<(String, bool)> {
    let name = |object: &&tortie_model::Object| match id(object) {
        (ObjectId::Namespace(name), there) => Some((name.to_string(), there)),
        _ => None,
    };
    changed(events).iter().filter_map(name).collect()
}

fn sorted(mut names: Vec<(String, bool)>) -> Vec<(String, bool)> {
    names.sort();
    names
}

fn is(name: &str) -> (String, bool) {
    (name.to_owned(), true)
}

fn gone(name: &str) -> (String, bool) {
    (name.to_owned(), false)
}

impl World {
    /// A cluster with namespaces, followed, and everything said.
    fn new(namespaces: &[&str]) -> Self {
        Self::on(Server::of_a_cluster(), namespaces)
    }

    fn on(server: Server, namespaces: &[&str]) -> Self {
        namespaces.iter().for_each(|name| server.put(&namespace(name)));
        let directory = tempfile::tempdir().unwrap();
        let store = kube::open(options(&server, &directory)).unwrap();
        let mut listener = Listener::new(store);
        listener.catch_up();
        Self { server, _directory: directory, listener }
    }

    fn faults(&self, change: impl FnOnce(&mut Faults)) {
        self.server.with_faults(change);
    }

    fn heal(&self) {
        self.faults(|faults| *faults = Faults { expired_below: faults.expired_below, ..Faults::default() });
    }

    fn said(&mut self) -> Vec<(String, bool)> {
        names(&self.listener.catch_up())
    }

    /// Everything said until the condition holds.
    fn until(&mut self, what: &str, holds: impl Fn(&[Event]) -> bool) -> Vec<Event> {
        until(&mut self.listener, what, holds)
    }

    /// Everything said in that time.
    fn during(&mut self, time: Duration) -> Vec<Event> {
        std::thread::sleep(time);
        let mut events = Vec::new();
        while let Some(batch) = self.listener.store.try_next() {
            events.extend(batch.events);
        }
        events
    }

    fn trouble(&self) -> Option<String> {
        self.listener.store.handle().standing().unwrap().trouble
    }
}

fn until(listener: &mut Listener, what: &str, holds: impl Fn(&[Event]) -> bool) -> Vec<Event> {
    let end = Instant::now() + Duration::from_secs(10);
    let mut events = Vec::new();
    while Instant::now() < end {
        while let Some(batch) = listener.store.try_next() {
            events.extend(batch.events);
        }
        if holds(&events) {
            return events;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{what} has not happened; said: {events:#?}");
}

fn wait(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "{what} has not happened");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_change_is_said_without_being_asked_for() {
    let mut world = World::new(&[]);
    let start = Instant::now();
    world.server.put(&namespace("a"));
    assert_eq!(names(&world.listener.next_unasked()), [is("a")]);
    assert!(start.elapsed() < Duration::from_millis(200), "{:?}", start.elapsed());
}

#[test]
fn a_long_list_comes_in_pages() {
    let server = Server::of_a_cluster();
    server.set_page(3);
    let all: Vec<String> = (0..20).map(|n| format!("n{n:02}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let world = World::on(server, &all);
    let said = names(&world.listener.batches[0].events);
    assert_eq!(said.len(), 21);
    let pages = world.server.requests().iter().filter(|it| it.contains("/namespaces?limit=500")).count();
    assert!(pages >= 7, "{pages} pages");
}

#[test]
fn what_happened_while_a_watch_had_expired_is_said_and_nothing_else() {
    let mut world = World::new(&["a", "b"]);
    world.server.unseen(|server| {
        server.delete(&namespace("a"));
        server.put(&namespace("c"));
    });
    let events = world.until("the new list", |events| names(events).len() >= 2);
    assert_eq!(names(&events), [is("c"), gone("a")]);
    assert_eq!(world.said(), []);
}

#[test]
fn a_watch_that_is_cut_off_in_an_event_loses_nothing() {
    let mut world = World::new(&["a"]);
    world.faults(|faults| faults.truncate = true);
    world.server.put(&labelled("a", "v"));
    world.server.delete(&namespace("a"));
    let events = world.until("both events", |events| names(events).len() >= 2);
    assert_eq!(names(&events), [is("a"), gone("a")]);
}

#[test]
fn a_line_that_is_no_event_is_not_believed_and_loses_nothing() {
    for garbage in ["no json", "{\"type\":\"DELETED\"}", "{\"type\":\"DELETED\",\"object\":null}", "[]"] {
        let mut world = World::new(&["a"]);
        world.faults(|faults| faults.garbage = Some(garbage.into()));
        world.server.put(&namespace("b"));
        world.server.put(&namespace("c"));
        let events = world.until(garbage, |events| names(events).contains(&is("c")));
        assert!(!names(&events).contains(&gone("a")), "{garbage}: {events:?}");
    }
}

#[test]
fn a_server_that_is_away_changes_nothing_and_is_followed_again() {
    let mut world = World::new(&["a"]);
    assert_eq!(world.trouble(), None);
    world.faults(|faults| faults.down = true);
    wait("trouble", || world.trouble().is_some());
    assert_eq!(changed(&world.during(Duration::from_millis(300))).len(), 0);
    world.server.put(&namespace("b"));
    world.heal();
    let events = world.until("b", |events| names(events) == [is("b")]);
    assert_eq!(rejected(&events).len(), 0);
    wait("no watch is in trouble", || world.trouble().is_none());
}

#[test]
fn a_connection_that_says_nothing_more_is_noticed_and_made_anew() {
    let mut world = World::new(&["a"]);
    world.faults(|faults| faults.silent = true);
    world.server.put(&namespace("b"));
    wait("trouble", || world.trouble().is_some());
    world.heal();
    let events = world.until("b", |events| !names(events).is_empty());
    assert_eq!(names(&events), [is("b")]);
}

#[test]
fn a_server_that_has_lost_its_data_removes_nothing() {
    let mut world = World::new(&["a", "b"]);
    world.server.lose_everything();
    world.faults(|faults| faults.down = true);
    world.heal();
    wait("disbelief", || world.server.requests().iter().filter(|r| r.ends_with("/kube-system")).count() > 2);
    assert_eq!(changed(&world.during(Duration::from_millis(400))).len(), 0);
    let why = world.listener.store.handle().standing().unwrap().trouble.unwrap();
    assert!(why.contains("lost its data"), "{why}");
}

#[test]
fn a_list_with_something_that_is_no_object_removes_nothing() {
    for item in
        [json!(null), json!(7), json!({"metadata": {}}), json!({"kind": "Secret", "metadata": {"name": "a"}})]
    {
        let mut world = World::new(&["a"]);
        world.faults(|faults| faults.foreign_items = vec![json!({"of": "namespaces", "item": item})]);
        world.server.unseen(|server| {
            server.delete(&namespace("a"));
            server.put(&namespace("b"));
        });
        let events = world.until("a report", |events| !rejected(events).is_empty());
        assert_eq!(names(&events), [is("b")], "{item}");
        assert_eq!(rejected(&events)[0].effect, Effect::KeepsLast);
        world.heal();
        let events = world.listener.catch_up();
        assert_eq!((names(&events), resolved(&events).len()), (vec![gone("a")], 1), "{item}");
    }
}

#[test]
fn rights_that_are_taken_away_remove_nothing_and_are_named() {
    let mut world = World::new(&["a"]);
    let forbidden = status(403, "Forbidden", "namespaces is forbidden: User \"x\" cannot list resource");
    world.faults(|faults| {
        faults.refuse = vec![("/namespaces?".into(), 403, forbidden)];
        faults.down = true;
    });
    world.faults(|faults| faults.down = false);
    let events = world.until("a report", |events| !rejected(events).is_empty());
    assert_eq!(names(&events), []);
    let problem = &rejected(&events)[0].problem;
    assert!(problem.starts_with("namespaces: may not be read: namespaces is forbidden"), "{problem}");
    world.server.put(&namespace("b"));
    world.heal();
    let events = world.until("b", |events| names(events) == [is("b")] && resolved(events).len() == 1);
    assert_eq!(rejected(&events).len(), 0);
}

#[test]
fn an_overloaded_server_is_waited_for() {
    for (code, reason) in [(429, "TooManyRequests"), (500, "InternalError"), (503, "ServiceUnavailable")] {
        let server = Server::of_a_cluster();
        server.put(&namespace("a"));
        server
            .with_faults(|faults| faults.refuse = vec![("/pods?".into(), code, status(code, reason, "no"))]);
        let directory = tempfile::tempdir().unwrap();
        let mut listener = Listener::new(kube::open(options(&server, &directory)).unwrap());
        let waiting = || listener.store.handle().standing().map(|s| s.waiting_for).unwrap_or_default();
        let deadline = Instant::now() + Duration::from_secs(20);
        while waiting() != ["pods"] {
            assert!(Instant::now() < deadline, "{:?}", waiting());
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(300));
        assert!(listener.store.try_next().is_none(), "in sync without pods");
        assert_eq!(listener.store.handle().standing().unwrap().waiting_for, ["pods"]);
        server.with_faults(|faults| faults.refuse.clear());
        let events = until(&mut listener, "in sync", |events| events.contains(&Event::InSync));
        assert!(names(&events).contains(&is("a")));
    }
}

#[test]
fn a_kind_that_appears_later_is_picked_up_and_one_that_goes_takes_its_objects_along() {
    let server = Server::of_a_cluster();
    server.with_faults(|faults| faults.absent = vec!["IPPool".into()]);
    let mut world = World::on(server, &[]);
    let pool = json!({"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "p"},
        "spec": {"cidr": "10.0.0.0/8"}});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "ippools.projectcalico.org"}});
    world.server.put(&pool);
    assert_eq!(world.listener.catch_up(), []);
    world.faults(|faults| faults.absent.clear());
    world.server.put(&definition);
    let events = world.until("the pool", |events| !changed(events).is_empty());
    assert_eq!(id(changed(&events)[0]), (ObjectId::Pool("p".into()), true));
    // Defined, and served a moment later, of which nobody is told.
    let tiers = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "tiers.projectcalico.org"}});
    let tier = json!({"apiVersion": "projectcalico.org/v3", "kind": "Tier", "metadata": {"name": "t"},
        "spec": {}});
    world.faults(|faults| faults.absent = vec!["Tier".into()]);
    world.server.put(&tier);
    world.listener.catch_up();
    world.server.put(&tiers);
    assert_eq!(world.during(Duration::from_millis(100)), []);
    world.faults(|faults| faults.absent.clear());
    world.until("the tier", |events| !rejected(events).is_empty());
    // A server that has just begun and does not know its kinds yet.
    world.faults(|faults| {
        faults.absent = vec!["IPPool".into()];
        faults.unready = true;
        faults.down = true;
    });
    world.faults(|faults| faults.down = false);
    assert_eq!(changed(&world.during(Duration::from_millis(500))).len(), 0, "it was not ready");
    world.faults(|faults| faults.unready = false);
    let events = world.listener.catch_up();
    assert_eq!(
        changed(&events).into_iter().map(id).collect::<Vec<_>>(),
        [(ObjectId::Pool("p".into()), false)]
    );
}

fn pool(name: &str, cidr: &str) -> Value {
    json!({"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": name}, "spec": {"cidr": cidr}})
}

fn definition() -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "ippools.projectcalico.org"}})
}

/// Calico's kinds are in the storage form there.
fn storing() -> Server {
    let server = Server::with_group("crd.projectcalico.org/v1");
    server.put(
        &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": "u"}}),
    );
    server.put(&pool("p", "10.0.0.0/8"));
    server
}

fn pools(events: &[Event]) -> Vec<(ObjectId, bool)> {
    let all = changed(events).into_iter().map(id);
    all.filter(|(object, _)| matches!(object, ObjectId::Pool(_))).collect()
}

#[test]
fn while_calicos_api_server_is_down_its_kinds_are_read_in_the_storage_form() {
    let server = storing();
    let down = status(503, "ServiceUnavailable", "service unavailable");
    server.with_faults(|faults| {
        faults.refuse = vec![("/apis/projectcalico.org/v3".into(), 503, down)];
        faults.unready = true;
    });
    let directory = tempfile::tempdir().unwrap();
    let mut listener = Listener::new(kube::open(options(&server, &directory)).unwrap());
    wait("it is asked", || server.requests().iter().any(|it| it.ends_with("/readyz")));
    assert!(
        listener.store.handle().standing().is_some_and(|it| it.fallback.is_none()),
        "a server that begins"
    );
    server.with_faults(|faults| faults.unready = false);
    let events = until(&mut listener, "in sync", |events| events.contains(&Event::InSync));
    assert_eq!(pools(&events), [(ObjectId::Pool("p".into()), true)]);
    let handle = listener.store.handle();
    let fallback = || handle.standing().and_then(|it| it.fallback);
    assert!(fallback().is_some_and(|why| why.contains("projectcalico.org/v3: service unavailable")));

    server.with_faults(|faults| faults.refuse.clear());
    server.set_group("projectcalico.org/v3");
    server.put(&definition());
    wait("it answers again", || fallback().is_none());
    server.put(&pool("q", "192.168.0.0/16"));
    let events = until(&mut listener, "another", |events| !pools(events).is_empty());
    assert_eq!(pools(&events), [(ObjectId::Pool("q".into()), true)]);
}

#[test]
fn the_preferred_form_is_followed_as_soon_as_it_is_served() {
    let mut world = World::on(storing(), &[]);
    world.server.set_group("projectcalico.org/v3");
    world.server.put(&definition());
    wait("it is listed", || {
        world.server.requests().iter().any(|it| it.contains("projectcalico.org/v3/ippools?watch"))
    });
    world.server.put(&pool("q", "192.168.0.0/16"));
    let events = world.until("the pool", |events| !pools(events).is_empty());
    assert_eq!(pools(&events), [(ObjectId::Pool("q".into()), true)], "and nothing was gone between");
}

/// Of a pod with a uid, on a node.
fn pod(name: &str, node: &str, uid: u8) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "a", "name": name, "uid": format!("00000000-0000-0000-0000-0000000000{uid:02x}")},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "any"}]}})
}

/// Pods and policies, in the order in which they were said.
fn pods_and_policies(events: &[Event]) -> Vec<(&str, bool)> {
    let of = |event: &'_ Event| match event {
        Event::Changed(Object::Workload(change)) => Some(("pod", change.value.is_some())),
        Event::Changed(Object::NetworkPolicy(change)) => Some(("policy", change.value.is_some())),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

#[test]
fn a_new_pod_of_this_node_waits_while_policies_cannot_be_read() {
    let server = Server::of_a_cluster();
    server.put(&pod("known", "node1", 1));
    let mut world = World::on(server, &["a"]);
    world.listener.catch_up();
    let forbidden = status(403, "Forbidden", "networkpolicies is forbidden");
    let refuse = vec![("/networkpolicies?".into(), 403, forbidden)];
    world.faults(|faults| {
        faults.refuse = refuse;
        faults.down = true;
    });
    world.faults(|faults| faults.down = false);
    world.until("a report", |events| !rejected(events).is_empty());
    let deny = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": "a", "name": "deny"}, "spec": {"podSelector": {}}});
    world.server.put(&deny);
    // One that is scheduled later, one that takes a known name, and one that comes and goes.
    let mut unscheduled = pod("late", "node1", 2);
    unscheduled["spec"].as_object_mut().unwrap().remove("nodeName");
    world.server.put(&unscheduled);
    world.server.put(&pod("late", "node1", 2));
    world.server.delete(&pod("known", "node1", 1));
    world.server.put(&pod("known", "node1", 3));
    world.server.put(&pod("brief", "node1", 4));
    world.server.delete(&pod("brief", "node1", 4));
    world.server.put(&pod("elsewhere", "node2", 5));
    let events = world.during(Duration::from_secs(1));
    let said = pods_and_policies(&events);
    assert_eq!(
        said,
        [("pod", true), ("pod", false), ("pod", true)],
        "late without a node, known gone, elsewhere"
    );
    world.heal();
    let events = world.until("the pods", |events| pods_and_policies(events).len() == 3);
    assert_eq!(pods_and_policies(&events).iter().filter(|it| **it == ("policy", true)).count(), 1);
    assert_eq!(pods_and_policies(&world.during(Duration::from_millis(500))), [], "brief has gone");
}

#[test]
fn a_rotated_token_is_read_again_with_or_without_a_line_feed() {
    ["", "\n"].into_iter().for_each(a_rotated_token_is_read_again);
}

fn a_rotated_token_is_read_again(end: &str) {
    let server = Server::of_a_cluster();
    server.with_faults(|faults| faults.token = Some("one".into()));
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, format!("one{end}")).unwrap();
    let kubeconfig = server.kubeconfig(directory.path(), &json!({"tokenFile": token}));
    let mut options = options(&server, &directory);
    server.kubeconfig(directory.path(), &json!({"tokenFile": token}));
    options.access.kubeconfig = Some(kubeconfig);
    let mut listener = Listener::new(kube::open(options).unwrap());
    listener.catch_up();
    server.with_faults(|faults| {
        faults.token = Some("two".into());
        faults.down = true;
    });
    server.with_faults(|faults| faults.down = false);
    let handle = listener.store.handle();
    let trouble = || handle.standing().unwrap().trouble.unwrap_or_default();
    wait("the trouble is named", || trouble().starts_with("401 "));
    server.put(&namespace("a"));
    std::fs::write(&token, format!("two{end}")).unwrap();
    until(&mut listener, "a", |events| names(events) == [is("a")]);
    // Every kind has a watch of its own, and each asks again in its own time.
    wait("no watch is in trouble", || trouble().is_empty());
}

#[test]
fn a_token_without_rights_that_is_replaced_by_the_right_one_is_read_again() {
    let server = Server::of_a_cluster();
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "weak").unwrap();
    let mut options = options(&server, &directory);
    options.access.kubeconfig = Some(server.kubeconfig(directory.path(), &json!({"tokenFile": token})));
    let mut listener = Listener::new(kube::open(options).unwrap());
    listener.catch_up();
    server.with_faults(|faults| {
        (faults.token, faults.knows_all) = (Some("strong".into()), true);
        faults.down = true;
    });
    server.with_faults(|faults| faults.down = false);
    let handle = listener.store.handle();
    wait("it may not be read", || !handle.standing().unwrap().behind.is_empty());
    server.put(&namespace("a"));
    std::fs::write(&token, "strong").unwrap();
    until(&mut listener, "a", |events| names(events) == [is("a")]);
}

#[test]
fn the_next_server_is_asked_when_one_is_gone() {
    let (first, second) = (Server::of_a_cluster(), Server::of_a_cluster());
    let directory = tempfile::tempdir().unwrap();
    let servers = [&first, &second].map(|server| format!("http://127.0.0.1:{}", server.port));
    let base = options(&first, &directory);
    let access = Access { servers: servers.to_vec(), ..base.access.clone() };
    let mut listener = Listener::new(kube::open(kube::Options { access, ..base }).unwrap());
    listener.catch_up();
    second.put(&namespace("a"));
    first.with_faults(|faults| faults.down = true);
    second.bookmark();
    until(&mut listener, "a", |events| names(events) == [is("a")]);
    let handle = listener.store.handle();
    wait("all watches are at the other server", || {
        let standing = handle.standing().unwrap();
        (standing.server, standing.trouble) == (servers[1].clone(), None)
    });
}

#[test]
fn at_rest_nothing_is_asked() {
    let mut world = World::new(&["a"]);
    std::thread::sleep(Duration::from_millis(300));
    let before = world.server.requests().len();
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(400));
        world.server.bookmark();
    }
    assert_eq!(
        world.server.requests()[before..],
        [] as [String; 0],
        "longer than a silent watch is believed"
    );
    world.server.put(&namespace("b"));
    assert_eq!(names(&world.listener.next_unasked()), [is("b")]);
}
