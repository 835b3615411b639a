//! Starts without an API server, or with a memory that is damaged or cannot be written.

use super::*;

#[test]
fn an_agent_starts_with_what_was_in_force_when_the_server_is_away() {
    let server = Server::of_a_cluster();
    server.put(&namespace("a"));
    server.put(&namespace("b"));
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(&server, &directory);
    options.cache = Some(directory.path().join("store"));
    let mut listener = Listener::new(kube::open(options.clone()).unwrap());
    listener.catch_up();
    server.put(&namespace("c"));
    server.delete(&namespace("a"));
    assert_eq!(names(&listener.catch_up()), [is("c"), gone("a")]);
    drop(listener);

    server.with_faults(|faults| faults.down = true);
    let mut listener = Listener::new(kube::open(options.clone()).unwrap());
    let events = until(&mut listener, "in sync", |events| events.contains(&Event::InSync));
    assert_eq!(sorted(names(&events)), [is("b"), is("c"), is("kube-system")]);
    let standing = listener.store.handle().standing().unwrap();
    assert!(standing.from_cache && standing.trouble.is_some(), "{standing:?}");

    server.put(&namespace("d"));
    server.delete(&namespace("b"));
    server.with_faults(|faults| faults.down = false);
    let events = until(&mut listener, "what differs", |events| names(events).len() >= 2);
    assert_eq!(names(&events), [is("d"), gone("b")], "only what differs");
    wait("the whole", || !listener.store.handle().standing().unwrap().from_cache);
    drop(listener);

    server.lose_everything();
    let mut listener = Listener::new(kube::open(options).unwrap());
    let events = until(&mut listener, "in sync", |events| events.contains(&Event::InSync));
    assert_eq!(
        sorted(names(&events)),
        [is("c"), is("d"), is("kube-system")],
        "another cluster is not believed"
    );
}

/// Nothing has failed yet, and nothing is as it should be either.
#[test]
fn a_server_that_takes_connections_and_says_nothing_is_away_once_nobody_waits_for_it() {
    let server = Server::of_a_cluster();
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(&server, &directory);
    options.cache = Some(directory.path().join("store"));
    options.access.timing.answer = Duration::from_secs(60);
    let mut listener = Listener::new(kube::open(options.clone()).unwrap());
    listener.catch_up();
    drop(listener);
    server.with_faults(|faults| faults.silent = true);
    let mut listener = Listener::new(kube::open(options).unwrap());
    until(&mut listener, "in sync", |events| events.contains(&Event::InSync));
    let standing = listener.store.handle().standing().expect("it is known how it stands");
    assert!(standing.from_cache && !standing.server.is_empty(), "{standing:?}");
    assert_eq!(standing.trouble.as_deref(), Some("it has not answered yet"));
    server.with_faults(|faults| faults.silent = false);
    let well = |it: tortie_store::Standing| !it.from_cache && it.trouble.is_none();
    wait("the whole", || listener.store.handle().standing().is_some_and(well));
}

/// Whatever is missing from it may be a policy: nothing of it is in force before the server has said everything.
#[test]
fn a_damaged_memory_says_nothing_until_the_server_has_said_everything() {
    let server = Server::of_a_cluster();
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(&server, &directory);
    options.cache = Some(directory.path().join("store"));
    let journal = directory.path().join("store/kube.journal");
    let mut listener = Listener::new(kube::open(options.clone()).unwrap());
    listener.catch_up();
    server.put(&namespace("a"));
    listener.catch_up();
    drop(listener);
    let read = || std::fs::read_to_string(&journal).unwrap();
    wait("it is on the disk", || read().starts_with(&format!("tortie kube 2 {:016x}\n", read().len())));
    let good = read();
    assert!(good.contains(r#""name":"a""#), "{good}");

    server.with_faults(|faults| faults.down = true);
    std::fs::write(&journal, good.replace(r#""name":"a""#, r#""name":"b""#)).unwrap();
    let mut listener = Listener::new(kube::open(options).unwrap());
    let memory = || listener.store.handle().standing().and_then(|it| it.memory);
    wait("the damage is told", || memory().is_some_and(|why| why.contains("kube.journal: line")));
    // Longer than a whole memory waits for the server.
    std::thread::sleep(Duration::from_secs(1));
    assert!(listener.store.try_next().is_none(), "nothing is in sync");

    server.with_faults(|faults| faults.down = false);
    let events = until(&mut listener, "in sync", |events| events.contains(&Event::InSync));
    assert_eq!(sorted(names(&events)), [is("a"), is("kube-system")]);
    assert_eq!(listener.store.handle().standing().unwrap().memory, None);
}

#[test]
fn what_cannot_be_remembered_is_told_and_remembered_when_it_can_be() {
    let server = Server::of_a_cluster();
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(&server, &directory);
    let cache = directory.path().join("store");
    std::fs::write(&cache, "in the way").unwrap();
    options.cache = Some(cache.clone());
    let mut listener = Listener::new(kube::open(options.clone()).unwrap());
    let unwritten = || listener.store.handle().standing().and_then(|it| it.unwritten);
    wait("it is told", || unwritten().is_some_and(|why| why.contains("store/kube.journal: ")));
    server.put(&namespace("a"));
    listener.catch_up();
    std::fs::remove_file(&cache).unwrap();
    let unwritten = || listener.store.handle().standing().and_then(|it| it.unwritten);
    wait("it is written, though nothing changes", || unwritten().is_none());
    drop(listener);

    server.with_faults(|faults| faults.down = true);
    let mut listener = Listener::new(kube::open(options).unwrap());
    let events = until(&mut listener, "in sync", |events| events.contains(&Event::InSync));
    assert_eq!(sorted(names(&events)), [is("a"), is("kube-system")]);
}

#[test]
fn a_version_that_was_good_stays_in_force_over_a_restart() {
    let server = Server::of_a_cluster();
    let policy = |end: u16| {
        object(&format!(
            "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p, namespace: n}}, \
             spec: {{podSelector: {{}}, ingress: [{{ports: [{{port: 80, endPort: {end}}}]}}]}}}}"
        ))
    };
    server.put(&policy(90));
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(&server, &directory);
    options.cache = Some(directory.path().join("store"));
    let mut listener = Listener::new(kube::open(options.clone()).unwrap());
    listener.catch_up();
    server.put(&policy(70));
    assert_eq!(rejected(&listener.catch_up())[0].effect, Effect::KeepsLast);
    drop(listener);
    let mut listener = Listener::new(kube::open(options).unwrap());
    let events = listener.catch_up();
    assert_eq!(rejected(&events)[0].effect, Effect::KeepsLast);
    let there =
        changed(&events).into_iter().any(|object| matches!(id(object), (ObjectId::NetworkPolicy(_), true)));
    assert!(there, "{events:?}");
}
