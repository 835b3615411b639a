//! The end of an outage: what was in force is old until every kind is followed again.

use super::*;
use std::collections::BTreeSet;
use tortie_store::kube::Timing;

impl World {
    fn behind(&self) -> Vec<String> {
        self.listener.store.handle().standing().unwrap().behind
    }

    fn outage(&self) {
        self.faults(|faults| faults.down = true);
        wait("trouble", || self.trouble().is_some());
    }
}

#[test]
fn a_kind_that_is_not_followed_again_after_an_outage_is_named() {
    let world = World::new(&["a"]);
    wait("everything is followed", || world.behind().is_empty());
    world.outage();
    wait("it is behind", || world.behind().contains(&"networkpolicies".to_owned()));
    let busy = status(503, "ServiceUnavailable", "no");
    world.faults(|faults| {
        faults.refuse = vec![("/networkpolicies?watch".into(), 503, busy.clone())];
        faults.down = false;
    });
    wait("only it is behind", || world.behind() == ["networkpolicies"]);
    assert_eq!(world.trouble(), None, "the server answers");
    world.heal();
    wait("it is followed", || world.behind().is_empty());
}

#[test]
fn a_kind_whose_history_is_gone_after_an_outage_is_behind_until_it_has_been_listed() {
    let world = World::new(&["a"]);
    world.outage();
    world.server.unseen(|server| {
        server.delete(&namespace("a"));
        server.with_faults(|faults| faults.held = Some("/namespaces?limit".into()));
    });
    wait("all others are followed", || world.behind() == ["namespaces"]);
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(world.behind(), ["namespaces"], "its watch was opened, and was told nothing");
    world.heal();
    wait("it is listed", || world.behind().is_empty());
}

fn may_not(what: &str) -> (String, u16, String) {
    (what.into(), 403, status(403, "Forbidden", "RBAC: clusterrole not found"))
}

/// An API server that has begun a second ago knows no roles.
#[test]
fn a_kind_that_may_not_be_read_for_a_moment_is_behind_and_is_not_reported() {
    let server = Server::of_a_cluster();
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(&server, &directory);
    options.access.timing.refusal = Duration::from_secs(60);
    let mut listener = Listener::new(kube::open(options).unwrap());
    listener.catch_up();
    let mut world = World { server, _directory: directory, listener };
    world.outage();
    world.faults(|faults| {
        faults.refuse = vec![may_not("?watch"), may_not("?limit")];
        faults.down = false;
    });
    wait("the server answers", || world.trouble().is_none());
    assert!(world.behind().len() > 3, "{:?}", world.behind());
    let events = world.during(Duration::from_millis(500));
    assert_eq!(rejected(&events).len(), 0, "{events:#?}");
    world.heal();
    wait("all are followed", || world.behind().is_empty());
    let events = world.listener.catch_up();
    assert_eq!((rejected(&events).len(), resolved(&events).len()), (0, 0), "{events:#?}");
}

#[test]
fn a_kind_that_could_never_be_read_is_reported_at_once() {
    let server = Server::of_a_cluster();
    server.with_faults(|faults| faults.refuse = vec![may_not("/tiers?")]);
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(&server, &directory);
    options.access.timing.refusal = Duration::from_secs(60);
    let mut listener = Listener::new(kube::open(options).unwrap());
    let events = until(&mut listener, "a report", |events| !rejected(events).is_empty());
    assert!(rejected(&events)[0].problem.starts_with("tiers: may not be read"), "{events:#?}");
}

#[test]
fn a_watch_that_ends_in_the_ordinary_way_is_no_outage() {
    let world = World::new(&["a"]);
    wait("everything is followed", || world.behind().is_empty());
    let watches = || world.server.requests().iter().filter(|it| it.contains("/namespaces?watch")).count();
    let before = watches();
    world.faults(|faults| faults.over = true);
    wait("it is opened again", || {
        assert_eq!((world.behind(), world.trouble()), (Vec::new(), None));
        watches() > before
    });
}

#[test]
fn a_server_that_has_nothing_to_say_is_not_away() {
    let mut world = World::new(&["a"]);
    std::thread::sleep(Duration::from_millis(300));
    let before = world.server.requests().len();
    let (since, end) = (Instant::now(), Duration::from_secs(4));
    while since.elapsed() < end {
        assert_eq!((world.trouble(), world.behind()), (None, Vec::new()), "{:?}", since.elapsed());
        std::thread::sleep(Duration::from_millis(5));
    }
    // On a connection of its own, as HTTP/1.1 has it, a watch is asked for again.
    let asked = world.server.requests().split_off(before);
    assert!(!asked.is_empty() && asked.iter().all(|it| it.contains("?watch")), "{asked:?}");
    world.server.put(&namespace("b"));
    assert_eq!(names(&world.listener.next_unasked()), [is("b")]);
}

/// Each waits for two to four seconds by itself.
#[test]
fn whoever_waits_for_a_server_asks_again_when_another_one_is_answered() {
    let server = Server::of_a_cluster();
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(&server, &directory);
    let pause = Duration::from_secs(4);
    options.access.timing = Timing { first_pause: pause, longest_pause: pause, ..options.access.timing };
    let mut listener = Listener::new(kube::open(options).unwrap());
    listener.catch_up();
    let watched = |from: usize| {
        let requests = server.requests();
        let watches = requests[from..].iter().filter(|it| it.contains("?watch"));
        watches.map(|it| it.split('?').next().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    wait("watches", || watched(0).len() > 20);
    std::thread::sleep(Duration::from_millis(200));
    let all = watched(0);
    server.with_faults(|faults| faults.down = true);
    let handle = listener.store.handle();
    wait("trouble", || handle.standing().unwrap().trouble.is_some());
    let before = server.requests().len();
    server.with_faults(|faults| faults.down = false);
    wait("the first", || !watched(before).is_empty());
    let first = Instant::now();
    wait("all", || watched(before) == all);
    assert!(first.elapsed() < Duration::from_secs(1), "{:?}", first.elapsed());
}
