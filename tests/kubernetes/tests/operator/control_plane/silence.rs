//! The API server says nothing, or its own Service says that nobody is there.

use std::collections::BTreeSet;
use std::io::{self, Seek as _, SeekFrom};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tortie_lab::{Component, Lab, Where};
use tortie_store::Event;
use tortie_store::kube::{self, Access, Options, Timing};
use tortie_tests_e2e::{TestLab, briefly, endpoint};
use tortie_tests_kubernetes::{kubectl, until, while_asking};

use super::world::{PATIENCE, asking};

/// Stopped but listening, and then behind a cable that is cut: connections stay, what is denied stays denied, and what
/// changed meanwhile arrives.
pub fn of_the_server(test: &mut TestLab) {
    let lab = &test.lab;
    let still = asking(lab, "still");
    let mut denied = tortie_lab::Probe { from: endpoint("pod:default/stranger"), ..still.clone() };
    briefly(&mut denied);
    let ((), attempts) = while_asking(lab, &still, || {
        for silence in [freeze, cut_the_cable] {
            silence(lab, true);
            for _ in 0..3 {
                assert!(!lab.probe(&denied).expect("probe").is_connected());
                thread::sleep(Duration::from_millis(500));
            }
            silence(lab, false);
            kubectl(lab, &["label", "pod", "stranger", "app=client"], "").expect("label");
            lab.wait(PATIENCE).expect("wait");
            assert!(lab.probe(&denied).expect("probe").is_connected(), "a change arrives");
            kubectl(lab, &["label", "pod", "stranger", "app-"], "").expect("label");
            lab.wait(PATIENCE).expect("wait");
            assert!(!lab.probe(&denied).expect("probe").is_connected());
        }
    });
    assert!(attempts.made > 20 && attempts.failed.is_empty(), "{attempts:?}");
}

fn freeze(lab: &Lab, now: bool) {
    let record =
        std::fs::read_to_string(lab.paths.process(Component::ApiServer.program())).expect("a record");
    let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    let signal = if now { "-STOP" } else { "-CONT" };
    assert!(
        Command::new("kill").args([signal, &record["pid"].to_string()]).status().expect("kill").success()
    );
}

/// At the router's end: addresses and routes of the machine would go with its own.
fn cut_the_cable(lab: &Lab, now: bool) {
    let command = ["ip", "link", "set", "api", if now { "down" } else { "up" }].map(Into::into);
    let stdio = [Stdio::null(), Stdio::null(), Stdio::inherit()];
    let mut child = lab.router_place().spawn(&command, stdio).expect("ip");
    assert!(child.wait().expect("ip").success());
}

/// A kind of which nothing changes has no bookmarks either, as long as etcd does not tell the API server how far it is. All watches
/// on one connection ask one question, and stay open.
pub fn of_kinds(test: &mut TestLab) {
    let lab = &test.lab;
    let timing = Timing { quiet: Duration::from_secs(2), ..Timing::default() };
    let access = Access { kubeconfig: Some(lab.agent_kubeconfig("node1")), timing, ..Access::default() };
    let options = Options { access, node: "node1".into(), ..Options::default() };
    let place = lab.control_plane_place().expect("the machine of the API server");
    let log = std::fs::metadata(lab.audit_log()).expect("the audit log").len();
    let mut store = place.run(|| Ok(kube::open(options).expect("a store"))).expect("a store");
    while !store.blocking_next().expect("a batch").events.contains(&Event::InSync) {}
    let standing = || store.handle().standing().expect("it is elsewhere");
    until(|| standing().behind.is_empty(), "every kind is followed");
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(9) {
        let standing = standing();
        assert_eq!((standing.trouble, standing.behind), (None, Vec::new()), "{:?}", since.elapsed());
        thread::sleep(Duration::from_millis(20));
    }
    let asked = asked_from_its_machine(lab, log);
    let questions = asked.iter().filter(|uri| *uri == "/version").count();
    assert!((2..=9).contains(&questions), "{asked:?}");
    let watches = asked.iter().filter(|uri| uri.contains("?watch"));
    let mut watched: Vec<&str> = watches.filter_map(|uri| uri.split('?').next()).collect();
    watched.sort_unstable();
    let once: BTreeSet<&str> = watched.iter().copied().collect();
    assert_eq!(watched, Vec::from_iter(once), "each is opened once");
}

/// What has been asked as an agent from the address of the API server, after so many bytes of its log.
fn asked_from_its_machine(lab: &Lab, bytes: u64) -> Vec<String> {
    let url = lab.api_server_url();
    let server: SocketAddr = url.trim_start_matches("https://").parse().expect("an address");
    let mut log = std::fs::File::open(lab.audit_log()).expect("the audit log");
    log.seek(SeekFrom::Start(bytes)).expect("the audit log");
    let text = io::read_to_string(log).expect("text");
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_here = |event: &Value| event["sourceIPs"][0] == server.ip().to_string();
    events.filter(is_here).map(|event| event["requestURI"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Whoever reaches the API server through its Service must not lose the way when the list of its servers is lost.
pub fn of_its_service(test: &mut TestLab) {
    let lab = &test.lab;
    let place = lab.place(&Where::Pod("default".into(), "client".into())).expect("a pod");
    let address: SocketAddr = "10.96.0.1:443".parse().expect("an address");
    let reaches =
        || place.run(|| Ok(TcpStream::connect_timeout(&address, Duration::from_secs(5)).map(drop)?));
    reaches().expect("the Service of the API server");
    kubectl(lab, &["delete", "endpointslices", "kubernetes"], "").expect("delete");
    lab.wait(PATIENCE).expect("wait");
    reaches().expect("it keeps its last back end");
}
