//! `drops`: counters of the kernel, the latest packets, and packets as they are dropped.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tortie_lab::Family;
use tortie_tests_e2e::{BOTH, TestLab, binary, briefly, eventually, tortie_lab};

use crate::{answer, denied, verb, world};

fn is_the_denied_packet(drop: &Value) -> bool {
    let packet = &drop["packet"];
    drop["reason"] == "policy-ingress"
        && packet["protocol"] == "TCP"
        && packet["destinationPod"] == "default/near"
        && packet["destinationPort"] == 80
        && drop["detail"].as_str().is_some_and(|detail| detail.contains("ingress policy"))
}

/// The answer once it holds something: the agent reads the ring a moment after the packet.
fn told(test: &TestLab) -> Value {
    eventually(|| {
        let (drops, code) = answer(test, &["drops", "--reason", "policy-ingress"]);
        assert_eq!(code, 0, "{drops}");
        let is_told = drops["items"].as_array().is_some_and(|items| !items.is_empty());
        if is_told { Ok(drops) } else { Err(drops) }
    })
}

#[test]
fn a_denied_packet_is_counted_and_told_with_pod_port_and_reason() {
    let test = world();
    denied(&test);
    let drops = told(&test);
    let items = drops["items"].as_array().expect("items");
    assert!(items.iter().all(is_the_denied_packet), "{drops}");
    let again = told(&test);
    let same =
        |drop: &Value| again["items"].as_array().expect("items").iter().any(|it| it["time"] == drop["time"]);
    assert!(items.iter().all(same), "one drop has one time: {drops} {again}");
    let counted = &drops["counters"][0];
    assert_eq!(counted["reason"], "policy-ingress", "{drops}");
    assert!(counted["packets"].as_u64().expect("packets") >= items.len() as u64, "{drops}");
    test.lab.kill_agent("node1").expect("kill-agent");
    let (drops, code) = answer(&test, &["drops"]);
    assert_eq!((code, drops["items"].as_array().map(Vec::len)), (3, Some(0)), "{drops}");
    assert!(!drops["counters"].as_array().expect("counters").is_empty(), "{drops}");
}

#[test]
fn drops_are_followed_as_they_happen_one_object_a_line() {
    let test = world();
    let follower = Follower::start(&test, &["--reason", "policy-ingress"]);
    denied(&test);
    let drop = eventually(|| follower.told().first().cloned().ok_or("nothing"));
    assert!(is_the_denied_packet(&drop), "{drop}");
}

/// Names are those of the moment: who follows learns of pods that come later, and one that goes keeps its drops.
#[test]
fn a_drop_names_a_pod_that_came_after_the_question_and_one_that_has_gone() {
    let late = "
apiVersion: v1
kind: Pod
metadata: {name: late}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
";
    let mut test = world();
    let follower = Follower::start(&test, &["--reason", "policy-ingress"]);
    test.apply(late);
    assert!(!test.probe("pod:default/late", "pod:default/near", briefly).is_connected());
    let is_of_late =
        |row: &Value| row["packet"]["sourcePod"] == "default/late" && row["interfacePod"] == "default/late";
    let row = eventually(|| follower.told().into_iter().find(is_of_late).ok_or_else(|| follower.told()));
    test.delete(late);
    let (drops, _) = answer(&test, &["drops", "--reason", "policy-ingress"]);
    let items = drops["items"].as_array().expect("items");
    assert!(items.contains(&row), "{row} is now {drops}");
    assert!(!row["interface"].as_str().expect("an interface").starts_with("ifindex"), "{row}");
}

/// `drops --follow -o json` on node1.
struct Follower {
    process: Child,
    directory: TempDir,
}

impl Follower {
    fn start(test: &TestLab, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name| File::create(directory.path().join(name)).expect("a file");
        let process = Command::new(binary())
            .args(["lab", "exec", "--name", &test.lab.name.to_string(), "--node", "node1", "--"])
            .arg(binary())
            .args(["drops", "--follow", "-o", "json"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file("told"))
            .stderr(file("said"))
            .spawn()
            .expect("running tortie");
        thread::sleep(Duration::from_secs(1));
        Self { process, directory }
    }

    /// Each whole line of its standard output.
    fn told(&self) -> Vec<Value> {
        let text = self.read("told");
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn said(&self) -> String {
        self.read("said")
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory.path().join(name)).expect("its output")
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// No back end at all, and none that internalTrafficPolicy allows on node1.
const NOBODY: &str = "
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {ipFamilyPolicy: PreferDualStack, selector: {app: nobody}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere}
spec: {ipFamilyPolicy: PreferDualStack, internalTrafficPolicy: Local, selector: {app: elsewhere}, ports: [{port: 81, targetPort: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: elsewhere, labels: {app: elsewhere}}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
";

#[test]
fn a_refused_connect_is_told_with_the_pod_or_node_that_called_and_the_service() {
    let mut test = world();
    test.apply(NOBODY);
    for family in BOTH {
        for (from, kind, place) in
            [("pod:default/client", "pod", "default/client"), ("node:node1", "node", "node1")]
        {
            for (service, port) in [("default/nobody", 80), ("default/elsewhere", 81)] {
                let seen = test.probe(from, &format!("svc:{service}"), |probe| {
                    briefly(probe);
                    probe.family = Some(family);
                });
                assert!(!seen.is_connected(), "{from} {service} {family:?}: {seen:?}");
                let row = call(&test, family, |call| call["service"] == service && call[kind] == place);
                let call = &row["call"];
                assert_eq!(
                    (&call["protocol"], &call["destinationPort"]),
                    (&"TCP".into(), &port.into()),
                    "{row}"
                );
                assert!(
                    call["task"] != "" && row["hook"] == "socket" && row.get("packet").is_none(),
                    "{row}"
                );
            }
        }
    }
    let text = String::from_utf8(verb(&test, &["drops"]).stdout).expect("text");
    let line =
        text.lines().find(|line| line.contains("default/nobody (")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("default/client (") || line.contains("node1 ("), "{line}");
}

/// The refused call of that family, once the agent has read of it.
fn call(test: &TestLab, family: Family, is_it: impl Fn(&Value) -> bool) -> Value {
    eventually(|| {
        let (drops, _) = answer(test, &["drops", "--reason", "no-backend"]);
        let of_family = |call: &Value| {
            call["destination"].as_str().is_some_and(|it| it.contains(':') == (family == Family::Ipv6))
        };
        let items = drops["items"].as_array().expect("items");
        items.iter().find(|row| of_family(&row["call"]) && is_it(&row["call"])).cloned().ok_or(drops)
    })
}

/// So many that the agent cannot tell each of them in time, on most machines.
const FLOOD: u64 = 4000;

#[test]
fn who_follows_is_told_of_every_refused_call_or_of_how_many_more_there_were() {
    let mut test = world();
    test.apply(NOBODY);
    let services = answer(&test, &["services", "list"]).0;
    let nobody = services["items"].as_array().expect("items").iter().find(|it| it["name"] == "nobody");
    let frontends = nobody.expect("the Service")["frontends"].as_array().expect("front ends").clone();
    let address = frontends.iter().filter_map(|it| it["address"].as_str()).find(|it| it.contains('.'));
    let address = address.expect("an IPv4 address");
    let follower = Follower::start(&test, &["--last", "0", "--reason", "no-backend"]);
    let connect = |times: u64| {
        let each = format!("for i in $(seq {times}); do : < /dev/tcp/{address}/80; done 2>/dev/null; true");
        let output = tortie_lab(&test.lab.name, &["exec", "client", "--", "bash", "-c", &each]);
        assert!(output.status.success(), "{output:?}");
    };
    connect(FLOOD);
    // What the ring lost is looked at when something comes, and once a second.
    thread::sleep(Duration::from_millis(1500));
    connect(1);
    eventually(|| {
        let (told, said) = (follower.told().len() as u64, follower.said());
        let number = |line: &str| line.split(' ').find_map(|word| word.parse::<u64>().ok());
        let more: u64 = said.lines().filter(|line| line.contains("too fast")).filter_map(number).sum();
        if told + more == FLOOD + 1 { Ok(()) } else { Err((told, said)) }
    });
}
