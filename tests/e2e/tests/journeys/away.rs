//! A Node object, or an address of it, that is away for a moment: connections with the pods there go on.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use std::{fs, io};

use tortie_lab::Probe;
use tortie_tests_e2e::{BOTH, TestLab, endpoint};

const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: near}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, labels: {app: far}}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: far}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {app: far}
  ports: [{port: 80, targetPort: 8080, nodePort: 30081}]
";

/// Who talks to whom, and by which port: from both sides, through a Service, and from outside through the tunnel.
const TALKS: [(&str, &str, u16); 4] = [
    ("pod:default/near", "pod:default/far", 8080),
    ("pod:default/far", "pod:default/near", 8080),
    ("pod:default/near", "svc:default/far", 80),
    ("client:c1", "node:node1", 30081),
];

/// Time between two records: some talk all the time, some say nothing while the Node is away.
const PACES: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(1500)];

const PATIENCE: Duration = Duration::from_secs(30);

fn file(test: &TestLab) -> PathBuf {
    test.lab.paths.store().join("_cluster/node.node2.yaml")
}

/// The Node's file has these contents from now on, without a moment when it has half of them.
fn put(test: &TestLab, contents: &str) -> io::Result<()> {
    let beside = test.lab.paths.store().with_file_name("node-new");
    fs::write(&beside, contents)?;
    fs::rename(&beside, file(test))
}

/// The Node as it is described, without the lines that name such addresses.
fn without(node: &str, is_gone: impl Fn(&str) -> bool) -> String {
    let address =
        |line: &str| line.trim().strip_prefix("- address: ").map(|it| it.trim_matches('"').to_owned());
    let mut lines = node.lines();
    let mut kept = String::new();
    while let Some(line) = lines.next() {
        if address(line).is_some_and(|it| is_gone(&it)) {
            // Its type.
            lines.next();
            continue;
        }
        kept += line;
        kept += "\n";
    }
    kept
}

/// Takes something of the Node away that is described so.
type Loss<'a> = &'a dyn Fn(&TestLab, &str);

fn survive(restarts: bool, losses: &[Loss<'_>]) {
    let mut test = crate::cluster(2);
    test.apply(WORLD);
    test.configure("defaultEndpointToHostAction: Accept, bpfConnectTimeLoadBalancing: Disabled");
    let talks = || {
        let of_family =
            |talk| BOTH.into_iter().flat_map(move |family| PACES.map(|pace| (talk, family, pace)));
        TALKS.iter().flat_map(of_family)
    };
    for (number, ((from, to, port), family, pace)) in talks().enumerate() {
        let asking =
            Probe { port: Some(*port), family: Some(family), ..Probe::new(endpoint(from), endpoint(to)) };
        test.lab.stream_start(&format!("s{number}"), &asking, pace).expect("starting");
    }
    let node = fs::read_to_string(file(&test)).expect("the Node's file");
    for lose in losses {
        thread::sleep(Duration::from_millis(300));
        lose(&test, &node);
        if restarts {
            test.lab.kill_agent("node1").expect("kill-agent");
            test.lab.start_agent("node1").expect("start-agent");
            test.lab.wait(PATIENCE).expect("lab wait");
        }
        put(&test, &node).expect("writing");
        test.lab.wait(PATIENCE).expect("lab wait");
    }
    let sent = |number| test.lab.stream_report(&format!("s{number}")).expect("report").received;
    let before: Vec<u64> = (0..talks().count()).map(sent).collect();
    // What was sent into the void is sent again.
    thread::sleep(Duration::from_secs(4));
    for (number, talk) in talks().enumerate() {
        let report = test.unharmed(&format!("s{number}"));
        assert!(report.received > before[number], "{talk:?} goes on: {report:?}");
    }
}

fn gone_for(pause: Duration) -> impl Fn(&TestLab, &str) {
    move |test, _| {
        fs::remove_file(file(test)).expect("removing");
        thread::sleep(pause);
    }
}

#[test]
fn a_node_that_is_away_for_a_moment_costs_no_connection() {
    survive(false, &[&gone_for(Duration::from_millis(50)), &gone_for(Duration::from_millis(1000))]);
}

#[test]
fn nor_do_its_addresses_or_those_of_one_family() {
    let lose = |is_gone: fn(&str) -> bool| {
        move |test: &TestLab, node: &str| {
            let fewer = without(node, is_gone);
            assert_ne!(fewer, node);
            put(test, &fewer).expect("writing");
            thread::sleep(Duration::from_millis(500));
        }
    };
    survive(false, &[&lose(|it| it != "node2"), &lose(|it| it.contains(':'))]);
}

#[test]
fn nor_does_an_agent_that_starts_while_it_is_away() {
    survive(true, &[&gone_for(Duration::from_millis(500))]);
}
