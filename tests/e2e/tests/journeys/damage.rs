//! What somebody breaks on a node by hand: the agent mends it, or says what to do.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tortie_host::bpf::{self, Program, ProgramDef, ProgramKind};
use tortie_lab::{Family, Probe};
use tortie_tests_e2e::{BOTH, TestLab, endpoint, eventually, items, on_node, said, tortie_lab};

const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: a}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, labels: {app: b}}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: b}
spec: {ipFamilyPolicy: PreferDualStack, selector: {app: b}, ports: [{port: 80}]}
";

const POD_B: &str = "{apiVersion: v1, kind: Pod, metadata: {name: b}}";

fn world() -> TestLab {
    let mut test = crate::cluster(1);
    test.apply(WORLD);
    test
}

/// Runs a line of shell on `node1`.
fn run(test: &TestLab, line: &str) -> String {
    let output = tortie_lab(&test.lab.name, &["exec", "--node", "node1", "--", "sh", "-c", line]);
    assert!(output.status.success(), "{line}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn status(test: &TestLab) -> Value {
    let output = on_node(&test.lab, "node1", &["status", "-o", "json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)))
}

fn healthy(test: &TestLab) {
    eventually(|| match status(test) {
        status if status["health"] == "healthy" => Ok(()),
        status => Err(status["reasons"].clone()),
    });
}

/// Waits until one of the reasons why the node is degraded says all of this.
fn told(test: &TestLab, words: &[&str]) {
    eventually(|| {
        let status = status(test);
        let reasons: Vec<&str> =
            status["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let found = reasons.iter().any(|reason| words.iter().all(|word| reason.contains(word)));
        if found && status["health"] == "degraded" { Ok(()) } else { Err(status["reasons"].clone()) }
    });
}

fn restart(test: &TestLab) {
    test.lab.kill_agent("node1").expect("kill-agent");
    test.lab.start_agent("node1").expect("start-agent");
    test.lab.wait(Duration::from_secs(30)).expect("wait");
}

fn interface(test: &TestLab, pod: &str) -> String {
    items(&test.lab, "node1", &["endpoints", "show", &format!("default/{pod}")])[0]["interface"]
        .as_str()
        .expect("a name")
        .to_owned()
}

fn record(test: &TestLab, pod: &str) -> String {
    test.lab.paths.run_dir("node1").join(format!("endpoints/default_{pod}.json")).display().to_string()
}

/// Starts a conversation of `a` with the Service; the answer says how often it has been cut.
fn talk(test: &TestLab) -> impl Fn() -> u64 {
    let asking = Probe { port: Some(80), ..Probe::new(endpoint("pod:default/a"), endpoint("svc:default/b")) };
    test.lab.stream_start("s", &asking, Duration::from_millis(5)).expect("starting");
    || {
        let report = test.lab.stream_stop("s").expect("stopping");
        assert!(report.received > 0 && report.ended.as_deref() == Some("stopped"), "{report:?}");
        report.lost
    }
}

#[test]
fn maps_whose_pins_are_removed_are_pinned_again_and_connections_outlive_the_next_restart() {
    let test = world();
    let stop = talk(&test);
    let status = status(&test);
    let dir = format!("{}/maps", status["bpffs"].as_str().expect("bpffs"));
    let before = run(&test, &format!("ls {dir}"));
    run(&test, &format!("rm {dir}/endpoint_* {dir}/flow4_* {dir}/route4_* {dir}/policy_v* {dir}/settings_*"));
    eventually(|| match run(&test, &format!("ls {dir}")) {
        found if found == before => Ok(()),
        found => Err(found),
    });
    restart(&test);
    assert_eq!(stop(), 0);
}

/// The node, as a kubelet does, and a pod reach `b`.
fn reach(test: &TestLab, what: &str) {
    for (from, family) in
        ["node:node1", "pod:default/a"].iter().flat_map(|from| BOTH.map(|family| (from, family)))
    {
        eventually(|| {
            let result = test.probe(from, "pod:default/b", |probe| {
                (probe.family, probe.timeout) = (Some(family), Duration::from_secs(1));
            });
            if result.is_connected() {
                Ok(())
            } else {
                Err(format!("{what}, {from}, {family:?}: {result:?}"))
            }
        });
    }
}

#[test]
fn the_way_to_a_pod_comes_back_when_its_interface_was_switched_off_or_its_route_removed() {
    let test = world();
    let (interface, addresses) =
        (interface(&test, "b"), test.lab.attachment("default", "b").expect("attached").addresses);
    let route = addresses.iter().find(|address| Family::of(address) == Family::Ipv4).expect("IPv4");
    let routes = addresses.iter().map(|address| format!("ip route del {address} dev {interface}"));
    let remove = routes.collect::<Vec<_>>().join(" && ");
    let settings = format!("/proc/sys/net/ipv4/conf/{interface}/proxy_arp");
    reach(&test, "at first");
    run(&test, &format!("ip link set {interface} down"));
    told(&test, &["default/b", &interface, "switched off"]);
    run(&test, &format!("ip link set {interface} up"));
    reach(&test, "switched on again");
    healthy(&test);
    run(&test, &remove);
    reach(&test, "routes removed");
    assert!(run(&test, &format!("ip route show {route}")).contains("proto 80"));
    test.lab.kill_agent("node1").expect("kill-agent");
    run(&test, &format!("ip link set {interface} down && ip link set {interface} up && echo 0 >{settings}"));
    test.lab.start_agent("node1").expect("start-agent");
    reach(&test, "while there was no agent");
    resync(&test);
    assert_eq!(run(&test, &format!("cat {settings}")), "1");
}

fn resync(test: &TestLab) {
    let asked =
        test.lab.ask_agent("node1", &json!({"verb": "resync"}), Instant::now() + Duration::from_secs(10));
    assert_eq!(asked.expect("an answer")["ok"], true);
}

#[test]
fn a_node_forwards_again_and_a_pods_interface_leads_to_that_pod_alone() {
    let test = world();
    let interface = interface(&test, "b");
    let forwarding = "/proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding";
    run(&test, &format!("for it in {forwarding}; do echo 0 >$it; done"));
    // As of an earlier sandbox, of which nobody knows any more.
    let others = ["10.99.0.1", "fd00:99::1"];
    for other in others {
        run(&test, &format!("ip route add {other} dev {interface} proto 80"));
    }
    resync(&test);
    assert_eq!(run(&test, &format!("cat {forwarding}")), "1\n1");
    for family in ["-4", "-6"] {
        eventually(|| match run(&test, &format!("ip {family} route show dev {interface} proto 80")) {
            routes if others.iter().any(|other| routes.contains(other)) => Err(routes),
            _ => Ok(()),
        });
    }
    reach(&test, "its own routes stay");
}

/// As `sysctl --system` does it with a distribution's settings.
#[test]
fn loose_filters_of_reverse_paths_come_back_where_the_programs_need_them() {
    let test = world();
    let of = |interface: &str| format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter");
    let own = ["lo", "eth0", "tortie-tunnel"].map(of).join(" ");
    let local = "/proc/sys/net/ipv4/conf/lo/accept_local";
    let spoil = format!("for it in {own} {}; do echo 1 >$it; done; echo 0 >{local}", of("all"));
    let come_back = || {
        eventually(|| match run(&test, &format!("cat {own} {local}")) {
            settings if settings == "2\n2\n2\n1" => Ok(()),
            settings => Err(settings),
        });
    };
    run(&test, &spoil);
    resync(&test);
    come_back();
    run(&test, &spoil);
    restart(&test);
    come_back();
}

#[test]
fn an_agent_whose_terminal_is_gone_ends_in_order() {
    let test = world();
    let pid = test.lab.agent_pid("node1").expect("an agent");
    run(&test, &format!("kill -HUP {pid}"));
    eventually(|| if test.lab.agent_is_alive("node1") { Err("it runs") } else { Ok(()) });
    assert!(!test.lab.paths.run_dir("node1").join("agent.sock").exists(), "callers see that nobody answers");
    test.lab.start_agent("node1").expect("start-agent");
    reach(&test, "after the next start");
}

#[test]
fn a_pod_that_goes_while_there_is_no_agent_leaves_no_links() {
    let mut test = world();
    // Links take the place of filters some seconds after a pod has come.
    let interface = interface(&test, "b");
    eventually(|| {
        let status = status(&test);
        let dir = status["bpffs"].as_str().unwrap_or_default();
        match run(&test, &format!("ls {dir}/links")) {
            found if found.contains(&interface) || status["attach"] != "tcx" => Ok(()),
            found => Err(found),
        }
    });
    test.lab.kill_agent("node1").expect("kill-agent");
    test.delete(POD_B);
    test.lab.start_agent("node1").expect("start-agent");
    test.lab.wait(Duration::from_secs(30)).expect("wait");
    let status = status(&test);
    assert_eq!(status["health"], "healthy", "{}", status["reasons"]);
}

#[test]
fn a_damaged_record_leaves_its_pod_connected_and_a_lost_one_is_told() {
    let test = world();
    let stop = talk(&test);
    let record = record(&test, "b");
    run(&test, &format!("cp {record} {record}.kept && : >{record}"));
    told(&test, &["default/b", &record, "stays in force", "delete the pod"]);
    assert_eq!(stop(), 0);
    run(&test, &format!("mv {record}.kept {record}"));
    healthy(&test);
    run(&test, &format!("rm {record}"));
    told(&test, &["default/b", &record, "no network", "delete the pod"]);
}

#[test]
fn a_pod_whose_interface_somebody_deletes_is_told() {
    let test = world();
    let interface = interface(&test, "b");
    run(&test, &format!("ip link del {interface}"));
    told(&test, &["default/b", &interface, "gone", "delete the pod"]);
}

#[test]
fn an_agent_whose_socket_is_removed_or_replaced_listens_again() {
    let mut test = world();
    let socket = test.lab.paths.run_dir("node1").join("agent.sock").display().to_string();
    for (number, damage) in [format!("rm {socket}"), format!("rm {socket}; : >{socket}")].iter().enumerate() {
        run(&test, damage);
        eventually(|| test.lab.wait_node("node1", Duration::from_secs(1)));
        let pod = POD_B.replace("name: b", &format!("name: new{number}"));
        let spec = "spec: {nodeName: node1, containers: [{name: c, image: any}]}}";
        test.apply(&format!("{}, {spec}", pod.strip_suffix('}').expect("a map")));
    }
}

#[test]
fn a_node_whose_uplink_no_pattern_matches_says_so_until_one_does() {
    let mut test = world();
    test.configure("bpfDataIfacePattern: ^ensX$");
    told(&test, &["eth0", "bpfDataIfacePattern (^ensX$)", "FelixConfiguration"]);
    test.configure("bpfDataIfacePattern: ^eth");
    healthy(&test);
}

#[test]
fn xdp_programs_of_others_are_shown_and_at_a_pods_interface_told() {
    // r0 = XDP_PASS; exit
    const PASS: [u8; 16] = [0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let test = world();
    let program = Program::load(&ProgramDef::new("somebody", ProgramKind::Xdp, &PASS)).expect("loading");
    let pin = test.lab.paths.bpffs().join("somebody");
    bpf::pin(&program, &pin).expect("pinning");
    let shown = |interface: &str| {
        let all = status(&test)["interfaces"].as_array().cloned().unwrap_or_default();
        let mut found = all.iter().filter(|it| it["interface"] == interface).map(|it| it["xdp"].clone());
        found.find(|xdp| !xdp.is_null()).unwrap_or_default()
    };
    let pods = interface(&test, "a");
    for interface in ["eth0", &pods] {
        run(&test, &format!("ip link set {interface} xdpgeneric pinned {}", pin.display()));
        eventually(|| match shown(interface) {
            xdp if xdp["program"] == "somebody" => Ok(()),
            xdp => Err(xdp),
        });
        match interface {
            "eth0" => healthy(&test),
            _ => told(&test, &[interface, "pod default/a", "XDP program", "somebody"]),
        }
        run(&test, &format!("ip link set {interface} xdpgeneric off"));
        healthy(&test);
        assert_eq!(shown(interface), Value::Null);
    }
}

#[test]
fn an_interface_that_gets_another_name_keeps_its_programs() {
    let test = world();
    let data = || {
        let status = status(&test);
        let all = status["interfaces"].as_array().cloned().unwrap_or_default();
        let names = all.iter().filter(|it| it["kind"] == "data").filter_map(|it| it["interface"].as_str());
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.dedup();
        (status["health"].clone(), names)
    };
    run(&test, "ip link add eth5 type veth peer name far5 && ip link set eth5 up");
    for (command, names) in [
        ("true", ["eth0", "eth5"]),
        ("ip link set eth5 down; ip link set eth5 name eth7; ip link set eth7 up", ["eth0", "eth7"]),
        ("ip link set eth7 down; ip link set eth7 name eth5; ip link set eth5 up", ["eth0", "eth5"]),
    ] {
        run(&test, command);
        let expected = (Value::from("healthy"), names.map(str::to_owned).to_vec());
        eventually(|| match data() {
            found if found == expected => Ok(()),
            found => Err(found),
        });
    }
}
