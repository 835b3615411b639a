//! Health and metrics over HTTP, settings that change while the agent runs, and programs that are put back.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use prometheus_parse::{Sample, Scrape, Value as Parsed};
use serde_json::Value;
use tortie_lab::Where;
use tortie_observe::metrics;
use tortie_tests_e2e::{TestLab, eventually, tortie_lab};

use crate::{WORLD, answer, denied, empty, items, store, world};

/// Of the node alone: the laboratory has written those of the cluster.
const SETTINGS: &str =
    "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: node.node1}\n";

/// GET on a node, from a socket in its network namespace: status and body.
pub(crate) fn get(test: &TestLab, address: &str, path: &str) -> io::Result<(u16, String)> {
    let place = test.lab.place(&Where::Node("node1".into())).expect("node1");
    let address: SocketAddr = address.parse().expect("address and port");
    let fetch = || {
        setns(fs::File::open(&place.netns)?, CloneFlags::CLONE_NEWNET)?;
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: node1\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    // A thread of its own: the namespace ends with it.
    let text: io::Result<String> = thread::scope(|scope| scope.spawn(fetch).join().expect("no panic"));
    let text = text?;
    // A server that moves closes the connections that it has.
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    Ok((status, body.to_owned()))
}

/// Asks until the status is as expected.
pub(crate) fn until(test: &TestLab, address: &str, path: &str, status: u16) -> String {
    eventually(|| match get(test, address, path) {
        Ok((found, body)) if found == status => Ok(body),
        other => Err(format!("{address}{path}: {other:?} instead of {status}")),
    })
}

/// Asks until nobody answers.
pub(crate) fn until_closed(test: &TestLab, address: &str, path: &str) {
    eventually(|| match get(test, address, path) {
        Ok(_) => Err(format!("{address} listens although nothing says so any more")),
        Err(_) => Ok(()),
    });
}

fn component(report: &str, name: &str) -> Value {
    let report: Value = serde_json::from_str(report).expect("JSON");
    let all = report["components"].as_array().expect("components").clone();
    all.into_iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("{name} in {report}"))
}

pub(crate) fn configure(test: &TestLab, spec: &str) {
    fs::write(store(test).join("felix.yaml"), format!("{SETTINGS}spec: {{{spec}}}\n")).expect("writing");
}

fn scrape(test: &TestLab) -> (String, Vec<Sample>) {
    let text = until(test, "[::1]:9091", "/metrics", 200);
    let parsed = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).expect("an exposition");
    (text, parsed.samples)
}

/// What is told is a fifth of a second old at most.
fn scrape_until(test: &TestLab, enough: impl Fn(&[Sample]) -> bool) -> (String, Vec<Sample>) {
    eventually(|| {
        let (text, samples) = scrape(test);
        if enough(&samples) { Ok((text, samples)) } else { Err(text) }
    })
}

fn find(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let is = |sample: &&Sample| {
        sample.metric == name && labels.iter().all(|(key, value)| sample.labels.get(key) == Some(value))
    };
    match samples.iter().find(is).map(|sample| &sample.value)? {
        Parsed::Counter(v) | Parsed::Gauge(v) | Parsed::Untyped(v) => Some(*v),
        other => panic!("{name}{labels:?}: {other:?}"),
    }
}

fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    find(samples, name, labels).unwrap_or_else(|| panic!("{name}{labels:?} is not there"))
}

#[test]
fn health_and_metrics_are_served_where_the_settings_say_and_follow_them_live() {
    let test = world();
    for address in ["127.0.0.1:9099", "[::1]:9099", "[::1]:9091"] {
        assert!(get(&test, address, "/readiness").is_err(), "{address} is closed by default");
    }
    configure(&test, "healthEnabled: true, prometheusMetricsEnabled: true");
    for address in ["127.0.0.1:9099", "[::1]:9099"] {
        for path in ["/liveness", "/readiness"] {
            let report = until(&test, address, path, 200);
            assert_eq!(component(&report, "store")["ready"], true, "{report}");
        }
    }
    assert_eq!(get(&test, "127.0.0.1:9099", "/metrics").expect("an answer").0, 404);
    let node: SocketAddr = "127.0.0.1:9091".parse().expect("an address");
    until(&test, &node.to_string(), "/metrics", 200);

    configure(&test, "healthEnabled: true, healthPort: 9100, healthHost: '127.0.0.1'");
    until(&test, "127.0.0.1:9100", "/liveness", 200);
    for closed in ["[::1]:9100", "127.0.0.1:9099", "[::1]:9091"] {
        assert!(get(&test, closed, "/liveness").is_err(), "{closed} is closed by now");
    }
    fs::remove_file(store(&test).join("felix.yaml")).expect("removing");
    until_closed(&test, "127.0.0.1:9100", "/liveness");
}

#[test]
fn every_metric_is_in_the_catalogue_and_tells_what_happens() {
    let test = world();
    configure(&test, "prometheusMetricsEnabled: true");
    let (text, before) =
        scrape_until(&test, |samples| value(samples, "felix_active_local_endpoints", &[]) == 2.0);
    for metric in metrics::ALL {
        // These have a series for each thing that was rejected, and there is none.
        if metric.name == metrics::REJECTED.name {
            continue;
        }
        let kind = metric.kind.name();
        assert!(text.contains(&format!("# TYPE {} {kind}\n", metric.name)), "no {} in\n{text}", metric.name);
        assert!(text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{}", metric.name);
    }
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().expect("a name");
        assert!(metrics::ALL.iter().any(|metric| metric.name == name), "{name} is not in the catalogue");
    }
    assert!(before.len() < 1000, "{} series of an idle node", before.len());
    assert_eq!(value(&before, "felix_resync_state", &[]), 3.0);
    assert_eq!(value(&before, "felix_cluster_num_hosts", &[]), 2.0);
    assert_eq!(value(&before, "felix_active_local_policies", &[]), 1.0);
    assert_eq!(value(&before, "tortie_cluster_services", &[]), 1.0);
    assert_eq!(value(&before, "tortie_links", &[("kind", "data"), ("direction", "ingress")]), 1.0);
    assert!(
        value(&before, "tortie_cni_requests_total", &[("verb", "endpointReady"), ("result", "ok")]) >= 2.0
    );
    assert!(value(&before, "process_resident_memory_bytes", &[]) > 1e6);

    denied(&test);
    let egress = [("hook", "from-workload"), ("reason", "policy-ingress")];
    let far = [("hook", "from-workload"), ("reason", "policy-egress")];
    let dropped = |samples: &[Sample]| {
        value(samples, "tortie_dropped_packets_total", &egress)
            + value(samples, "tortie_dropped_packets_total", &far)
            + value(
                samples,
                "tortie_dropped_packets_total",
                &[("hook", "from-host-device"), ("reason", "policy-ingress")],
            )
    };
    fs::write(
        store(&test).join("wrong.yaml"),
        "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: 3}\n",
    )
    .expect("writing");
    let rejected = [("effect", "absent"), ("kind", "Service")];
    scrape_until(&test, |after| {
        dropped(after) > dropped(&before) && find(after, "tortie_rejected_objects", &rejected) == Some(1.0)
    });
}

#[test]
fn a_main_loop_that_hangs_fails_liveness_and_the_health_server_still_answers() {
    let test = world();
    configure(&test, "healthEnabled: true, dataplaneWatchdogTimeout: 2s");
    until(&test, "[::1]:9099", "/liveness", 200);
    configure(
        &test,
        "healthEnabled: true, dataplaneWatchdogTimeout: 2s, debugSimulateDataplaneHangAfter: 1s",
    );
    let report = until(&test, "[::1]:9099", "/liveness", 503);
    let main_loop = component(&report, "main-loop");
    assert_eq!((&main_loop["live"], &main_loop["ready"]), (&false.into(), &false.into()));
    assert!(main_loop["detail"].as_str().expect("detail").contains("has not turned"), "{report}");
    assert_eq!(component(&report, "sweeper")["live"], true, "{report}");
    assert!(
        test.probe("pod:default/client", "pod:default/near", |_| {}).is_connected(),
        "the data plane goes on"
    );
    test.lab.kill_agent("node1").expect("kill-agent");
}

/// Interfaces and directions of node1 with a program on them.
fn attached(test: &TestLab) -> BTreeSet<(String, String)> {
    let (status, _) = answer(test, &["status"]);
    let rows = status["interfaces"].as_array().expect("interfaces").clone();
    let text = |row: &Value, field: &str| row[field].as_str().expect("text").to_owned();
    let there = rows.iter().filter(|row| row["attached"] == true);
    there.map(|row| (text(row, "interface"), text(row, "direction"))).collect()
}

/// The pinned links of node1.
fn links(test: &TestLab) -> Vec<PathBuf> {
    let place = test.lab.place(&Where::Node("node1".into())).expect("node1");
    let links = PathBuf::from(place.env.get("TORTIE_BPFFS").expect("TORTIE_BPFFS")).join("links");
    let mut found: Vec<PathBuf> =
        fs::read_dir(links).expect("links").map(|entry| entry.expect("an entry").path()).collect();
    found.sort();
    found
}

#[test]
fn programs_that_somebody_takes_off_are_back_within_a_second_or_two_and_counted() {
    let test = world();
    configure(&test, "prometheusMetricsEnabled: true");
    let (_, before) = scrape(&test);
    let kinds = [("eth", "data"), ("cali", "workload")];
    // New pods carry filters, until they are some seconds old and nobody waits for another.
    let pods = items(&test, &["endpoints", "list"]).iter().filter(|pod| pod["node"] == "node1").count();
    let linked = || links(&test).iter().filter(|path| path.to_string_lossy().contains("/cali")).count();
    eventually(|| match linked() {
        enough if enough >= 2 * pods => Ok(()),
        few => Err(format!("{pods} pods have {few} links")),
    });
    for (start, kind) in kinds {
        let name = |path: &PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
        let before_that = attached(&test);
        let links = links(&test);
        let victim = links.iter().find(|path| name(path).starts_with(start)).expect("a link").clone();
        // The pin is the only thing that holds the link: the program is off from now on.
        fs::remove_file(&victim).expect("removing the pin");
        let start = Instant::now();
        while attached(&test) != before_that {
            assert!(start.elapsed() < Duration::from_secs(5), "{} is not back", victim.display());
            thread::sleep(Duration::from_millis(10));
        }
        println!("{kind}: back after {:?}", start.elapsed());
        let lost = |samples: &[Sample]| value(samples, "tortie_links_lost_total", &[("kind", kind)]);
        // It is counted when it is back, which is a moment later than the pin.
        let (_, after) = scrape_until(&test, |samples| lost(samples) > lost(&before));
        assert_eq!(lost(&after) - lost(&before), 1.0, "{kind}");
    }
    assert!(test.probe("pod:default/client", "pod:default/near", |_| {}).is_connected());
}

/// `tc` on node1.
fn tc(test: &TestLab, arguments: &str) -> String {
    let command: Vec<&str> =
        ["exec", "--node", "node1", "--", "tc"].into_iter().chain(arguments.split(' ')).collect();
    let output = tortie_lab(&test.lab.name, &command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "tc {arguments}: {said}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn filters_that_somebody_deletes_are_back_at_once_where_programs_are_filters() {
    // The kind of attachment is chosen when the agent starts, also for the pods that are there.
    let mut test = empty();
    test.apply(WORLD);
    configure(&test, "prometheusMetricsEnabled: true, bpfAttachType: TC");
    test.lab.kill_agent("node1").expect("kill-agent");
    test.lab.start_agent("node1").expect("start-agent");
    eventually(|| {
        let status = answer(&test, &["status"]).0;
        let is_so = status["attach"] == "clsact" && status["health"] == "healthy";
        if is_so { Ok(()) } else { Err(status.to_string()) }
    });
    let pods = items(&test, &["endpoints", "list"]);
    let cali = pods[0]["interface"].as_str().expect("a name").to_owned();
    let shown = answer(&test, &["status"]).0["interfaces"].as_array().cloned().unwrap_or_default();
    let (_, before) = scrape(&test);
    for (interface, kind) in [("eth0", "data"), (&cali, "workload")] {
        let programs = shown.iter().filter(|row| row["interface"] == *interface && row["kind"] == kind);
        assert_eq!(programs.count(), 2, "{interface} in {shown:?}");
        let there = || tc(&test, &format!("filter show dev {interface} ingress")).contains("bpf");
        assert!(there(), "{interface}");
        tc(&test, &format!("filter del dev {interface} ingress"));
        let start = Instant::now();
        while !there() {
            assert!(start.elapsed() < Duration::from_secs(5), "{interface} is without its program");
            thread::sleep(Duration::from_millis(5));
        }
        println!("{kind}: back after {:?}", start.elapsed());
        let lost = |samples: &[Sample]| value(samples, "tortie_links_lost_total", &[("kind", kind)]);
        let counted = scrape_until(&test, |samples| lost(samples) > lost(&before)).1;
        assert_eq!(lost(&counted) - lost(&before), 1.0, "{kind}");
    }
    assert!(test.probe("pod:default/client", "pod:default/near", |_| {}).is_connected());
}
