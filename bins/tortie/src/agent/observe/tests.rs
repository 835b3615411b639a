//! The observing thread over loopback, without a kernel's parts: what it answers while the main loop starts,
//! turns and stops turning.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tortie_calc::HealthCheck;
use tortie_model::ServiceId;
use tortie_model::settings::{Listen, Settings};
use tortie_observe::metrics;

use super::{Facts, Observer, Vitals};

/// A port that was free a moment ago, on both families, and that no other test of this process has been given.
fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let found = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = found.local_addr().unwrap().port();
        if GIVEN.lock().unwrap().insert(port) {
            return port;
        }
    }
}

fn until_closed(ports: &[u16]) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Some(port) = ports.iter().find(|port| TcpStream::connect(("127.0.0.1", **port)).is_ok()) {
        assert!(Instant::now() < deadline, "{port} is still open");
        thread::sleep(Duration::from_millis(10));
    }
}

fn get(host: &str, port: u16, path: &str) -> std::io::Result<(u16, String)> {
    let address = SocketAddr::new(host.parse().unwrap(), port);
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    // A server that moves closes the connections that it has.
    let (head, body) = text.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned()))
}

/// Asks until the answer is as expected.
fn until(port: u16, path: &str, status: u16) -> String {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match get("127.0.0.1", port, path) {
            Ok((found, body)) if found == status => return body,
            other => assert!(Instant::now() < deadline, "{path}: {other:?} instead of {status}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn bad(report: &str) -> Vec<String> {
    let report: Value = serde_json::from_str(report).unwrap();
    let all = report["components"].as_array().unwrap().iter();
    all.filter(|c| c["ready"] == false).map(|c| c["name"].as_str().unwrap().to_owned()).collect()
}

fn listen(port: u16) -> Listen {
    Listen { enabled: true, host: "localhost".into(), port }
}

/// Without the one server that is on by default, on a port that all tests would share.
fn quiet() -> Settings {
    let proxy_health = Listen { enabled: false, ..Settings::default().proxy_health };
    Settings { proxy_health, ..Settings::default() }
}

/// Which servers cannot listen, once that is as it should be, or else after five seconds; the main loop beats meanwhile.
fn deaf_once(observer: &Observer, is_it: impl Fn(&[String]) -> bool) -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        observer.vitals.beat();
        let told = observer.vitals.deaf();
        if is_it(&told) || Instant::now() >= end {
            return told;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_agent_is_alive_while_it_waits_ready_when_told_so_and_dead_when_its_loop_stands_still() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let (health, later, metrics_port) = (free_port(), free_port(), free_port());
    let watchdog = Duration::from_secs(2);
    let settings = Settings { health: listen(health), watchdog, ..quiet() };
    let vitals = Vitals::new("n1", socket, Duration::from_secs(5));
    let observer = Observer::start(vitals, dir.path(), &settings).unwrap();
    observer.vitals.beat();

    until(health, "/liveness", 200);
    assert_eq!(get("::1", health, "/liveness").unwrap().0, 200);
    assert_eq!(
        bad(&until(health, "/readiness", 503)),
        ["store", "calc", "kernel-tables", "links", "sweeper"]
    );
    assert_eq!(get("127.0.0.1", health, "/metrics").unwrap().0, 404);
    assert!(get("127.0.0.1", metrics_port, "/metrics").is_err(), "metrics are off by default");

    let kernel = Some(("6.18".to_owned(), "tcx"));
    observer.vitals.publish(Facts { kernel, in_sync: true, revision: 4, ..Facts::default() });
    observer.vitals.beat();
    assert_eq!(bad(&until(health, "/readiness", 503)), ["sweeper"], "no sweeper has been started here");

    // Another port at once, and metrics, without a restart.
    observer.configure(&Settings {
        health: listen(later),
        metrics: listen(metrics_port),
        watchdog,
        ..quiet()
    });
    until(later, "/liveness", 200);
    assert!(get("127.0.0.1", health, "/liveness").is_err(), "the old port is closed");
    let text = until(metrics_port, "/metrics", 200);
    assert!(text.contains("\nfelix_resync_state 3\n"), "{text}");
    assert!(text.contains("tortie_component_ready{component=\"store\"} 1\n"), "{text}");

    // What is no place to listen at changes nothing but what is said.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let wrong = listen(taken.local_addr().unwrap().port());
    observer.configure(&Settings { health: wrong, metrics: listen(metrics_port), watchdog, ..quiet() });
    let told = deaf_once(&observer, |told| !told.is_empty());
    assert!(told.iter().any(|it| it.ends_with("it listens where it did")), "{told:?}");
    observer.vitals.beat();
    assert_eq!(get("127.0.0.1", later, "/liveness").unwrap().0, 200);
    let everywhere = Listen { host: String::new(), ..listen(later) };
    observer.configure(&Settings { health: everywhere, metrics: listen(metrics_port), watchdog, ..quiet() });
    assert_eq!(deaf_once(&observer, <[_]>::is_empty), [""; 0], "its own address is in nobody's way");

    // Nobody beats any more.
    let report = until(later, "/liveness", 503);
    assert!(bad(&report).contains(&"main-loop".to_owned()), "{report}");
    observer.configure(&Settings { watchdog, ..quiet() });
    until_closed(&[later]);
}

#[test]
fn a_taken_port_is_told_and_does_not_end_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let health = listen(taken.local_addr().unwrap().port());
    let vitals = Vitals::new("n1", dir.path().join("agent.sock"), Duration::from_secs(5));
    let observer = Observer::start(vitals, dir.path(), &Settings { health, ..quiet() }).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while observer.vitals.deaf().is_empty() {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(10));
    }
    assert!(observer.vitals.deaf()[0].contains("healthPort"), "{:?}", observer.vitals.deaf());
}

#[test]
fn the_exposition_parses_and_holds_only_what_the_catalogue_names() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let settings = Settings { metrics: listen(port), ..quiet() };
    let vitals = Vitals::new("n1", dir.path().join("agent.sock"), Duration::from_secs(5));
    let observer = Observer::start(vitals, dir.path(), &settings).unwrap();
    let rejected = [(("Service".to_owned(), "absent"), 2)].into();
    observer.vitals.publish(Facts { rejected, dirty: [("route", 1)].into(), ..Facts::default() });
    observer.live.cni("endpointReady", Some("brandNew"), Duration::from_millis(3));
    let text = until(port, "/metrics", 200);
    let parsed = prometheus_parse::Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
    assert!(parsed.samples.len() > 30, "{text}");
    let mut types = 0;
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let metric = metrics::ALL.iter().find(|metric| metric.name == name);
        let metric = metric.unwrap_or_else(|| panic!("{name} is not in the catalogue"));
        assert_eq!(metric.kind.name(), kind);
        assert!(text.contains(&format!("# HELP {name} {}\n", metric.help)), "{name}");
        types += 1;
    }
    assert!(types > 30, "{text}");
    assert!(text.contains("tortie_rejected_objects{effect=\"absent\",kind=\"Service\"} 2"), "{text}");
    assert!(text.contains("tortie_cni_requests_total{result=\"other\",verb=\"endpointReady\"} 1"), "{text}");
    assert_eq!(get("127.0.0.1", port, "/liveness").unwrap().0, 404);
}

/// Status, the header with a Service's weight, and the body.
fn ask(host: &str, port: u16, path: &str) -> std::io::Result<(u16, Option<String>, Value)> {
    let mut stream = TcpStream::connect(SocketAddr::new(host.parse().unwrap(), port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let head = head.to_ascii_lowercase();
    let weight = head.lines().find_map(|line| line.strip_prefix("x-load-balancing-endpoint-weight: "));
    assert!(head.contains("content-type: application/json"), "{head}");
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok((status, weight.map(str::to_owned), serde_json::from_str(body).unwrap()))
}

/// Asks until there is an answer that is good.
fn ask_until(
    host: &str,
    port: u16,
    path: &str,
    good: impl Fn(u16, &Value) -> bool,
) -> (Option<String>, Value) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match ask(host, port, path) {
            Ok((status, weight, body)) if good(status, &body) => return (weight, body),
            other => assert!(Instant::now() < deadline, "{host} {port} {path}: {other:?}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_proxys_page_is_kube_proxys_and_a_node_that_goes_is_no_place_for_clients() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let settings = Settings { proxy_health: listen(port), ..quiet() };
    let vitals = Vitals::new("n1", dir.path().join("agent.sock"), Duration::from_secs(5));
    let observer = Observer::start(vitals, dir.path(), &settings).unwrap();
    observer.vitals.beat();
    let (_, page) = ask_until("127.0.0.1", port, "/healthz", |status, _| status == 503);
    assert_eq!((&page["nodeEligible"], &page["healthy"]), (&false.into(), &true.into()), "an unknown node");
    observer.vitals.set_eligible(true);
    for host in ["127.0.0.1", "::1"] {
        let (_, page) = ask_until(host, port, "/healthz", |status, _| status == 200);
        assert_eq!(page["nodeEligible"], true);
        assert_eq!(page["status"]["IPv6"]["healthy"], true);
        assert!(page["lastUpdated"].as_str().unwrap().ends_with('Z') && page["currentTime"].is_string());
    }
    observer.vitals.set_eligible(false);
    ask_until("127.0.0.1", port, "/healthz", |status, _| status == 503);
    let (_, page) = ask_until("127.0.0.1", port, "/livez", |status, _| status == 200);
    assert_eq!(page.get("nodeEligible"), None, "as kube-proxy: it says nothing about the node");
    // 0 switches it off, at once.
    observer.configure(&quiet());
    until_closed(&[port]);
}

#[test]
fn a_service_is_asked_about_in_its_families_and_a_new_count_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let vitals = Vitals::new("n1", dir.path().join("agent.sock"), Duration::from_secs(5));
    let observer = Observer::start(vitals, dir.path(), &quiet()).unwrap();
    observer.vitals.beat();
    let (web, port) = (ServiceId::new("shop", "web"), free_port());
    let check = |port, v4, v6| super::Checks::from([(web.clone(), HealthCheck { port, v4, v6 })]);
    observer.set_checks(check(port, Some(0), None));
    let (weight, body) = ask_until("127.0.0.1", port, "/", |status, _| status == 503);
    assert_eq!(weight.as_deref(), Some("0"));
    let service = serde_json::json!({"namespace": "shop", "name": "web"});
    let expected =
        |n| serde_json::json!({"service": service, "localEndpoints": n, "serviceProxyHealthy": true});
    assert_eq!(body, expected(0));
    assert!(ask("::1", port, "/").is_err(), "the Service has no IPv6");
    observer.set_checks(check(port, Some(3), Some(1)));
    let (weight, body) = ask_until("127.0.0.1", port, "/anything", |status, _| status == 200);
    assert_eq!((weight.as_deref(), body), (Some("3"), expected(3)));
    let (weight, _) = ask_until("::1", port, "/", |status, _| status == 200);
    assert_eq!(weight.as_deref(), Some("1"));
    // Another port, then none.
    let other = free_port();
    observer.set_checks(check(other, Some(1), None));
    ask_until("127.0.0.1", other, "/", |status, _| status == 200);
    observer.set_checks(super::Checks::new());
    until_closed(&[other, port]);
}

#[test]
fn a_health_check_whose_port_is_taken_is_told_and_comes_when_the_port_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let vitals = Vitals::new("n1", dir.path().join("agent.sock"), Duration::from_secs(5));
    let observer = Observer::start(vitals, dir.path(), &quiet()).unwrap();
    observer.vitals.beat();
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let check = HealthCheck { port, v4: Some(1), v6: None };
    observer.set_checks(super::Checks::from([(ServiceId::new("shop", "web"), check)]));
    let deadline = Instant::now() + Duration::from_secs(10);
    while !observer
        .vitals
        .deaf()
        .iter()
        .any(|it| it.contains("shop/web") && it.contains("healthCheckNodePort"))
    {
        assert!(Instant::now() < deadline, "{:?}", observer.vitals.deaf());
        thread::sleep(Duration::from_millis(10));
    }
    drop(taken);
    ask_until("127.0.0.1", port, "/", |status, _| status == 200);
    assert_eq!(observer.vitals.deaf(), [""; 0]);
}
