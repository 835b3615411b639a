//! A node with two interfaces: who comes in by one of them is answered by it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tortie_lab::{Family, Probe, Protocol, Where};
use tortie_tests_e2e::{TestLab, briefly, endpoint, eventually, on_node, said};

use crate::tunnel::drops;
use crate::wire;

const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: near, labels: {app: near}}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{name: web, containerPort: 8080}, {name: dns, containerPort: 5353, protocol: UDP}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, labels: {app: far}}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{name: web, containerPort: 8080}, {name: dns, containerPort: 5353, protocol: UDP}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: near}
spec:
  type: NodePort
  externalIPs: [203.0.113.7, '2001:db8:e::7']
  ipFamilyPolicy: PreferDualStack
  selector: {app: near}
  ports: [{name: web, port: 80, targetPort: web, nodePort: 30080}, {name: dns, port: 53, targetPort: dns, protocol: UDP, nodePort: 30082}]
---
apiVersion: v1
kind: Service
metadata: {name: far}
spec:
  type: NodePort
  externalIPs: [203.0.113.8, '2001:db8:e::8']
  ipFamilyPolicy: PreferDualStack
  selector: {app: far}
  ports: [{name: web, port: 80, targetPort: web, nodePort: 30081}, {name: dns, port: 53, targetPort: dns, protocol: UDP, nodePort: 30083}]
";

/// The second interface's addresses.
const SECOND: [(Family, &str); 2] = [(Family::Ipv4, "10.241.0.1"), (Family::Ipv6, "fd00:241::1")];
const CONNECTIONS: usize = 20;

/// Runs a command of `ip` in the network namespace of a machine.
fn ip(test: &TestLab, machine: &str, command: &str) {
    let namespace = test.lab.name.machine(machine);
    let status = Command::new("ip").args(["-n", &namespace]).args(command.split(' ')).status().expect("ip");
    assert!(status.success(), "{machine}: ip {command}: {status}");
}

/// Whether the router takes packets only from where it would answer them.
fn set_strict(test: &TestLab, interface: &str, strict: bool) {
    let namespace = test.lab.name.machine("router");
    let setting = format!("echo {} > /proc/sys/net/ipv4/conf/{interface}/rp_filter", u8::from(strict));
    let command = ["netns", "exec", &namespace, "sh", "-c", &setting];
    assert!(Command::new("ip").args(command).status().expect("ip").success(), "{setting}");
}

/// Brings `node1` onto a second subnet, where it has another way to the world: with IPv4 one that it does not prefer, with
/// IPv6 one for who speaks under that interface's address, since the kernel names programs the best one alone. The router
/// takes IPv4 packets only from where it would answer them.
fn second_interface(test: &TestLab) {
    let node = test.lab.name.machine("node1");
    for command in [
        &*format!("link add second type veth peer name eth1 netns {node}"),
        "link set second up",
        "address add 10.241.0.254/24 dev second",
        "address add fd00:241::fe/64 dev second nodad",
    ] {
        ip(test, "router", command);
    }
    for command in [
        "link set eth1 up",
        "address add 10.241.0.1/24 dev eth1",
        "address add fd00:241::1/64 dev eth1 nodad",
        "route add default via 10.241.0.254 dev eth1 metric 100",
        "-6 route add default via fd00:241::fe dev eth1 table 241",
        "-6 rule add from fd00:241::/64 lookup 241",
    ] {
        ip(test, "node1", command);
    }
    set_strict(test, "br0", true);
    set_strict(test, "second", true);
}

fn world() -> TestLab {
    let mut test = crate::cluster(2);
    test.apply(WORLD);
    second_interface(&test);
    let probe = asking(SECOND[0], Protocol::Tcp, 30080);
    let since = Instant::now();
    while !test.lab.probe(&probe).expect("probe").is_connected() {
        assert!(since.elapsed() < Duration::from_secs(20), "the new interface gets its programs");
    }
    test
}

fn asking((family, address): (Family, &str), protocol: Protocol, port: u16) -> Probe {
    let usual = Probe::new(endpoint("client:c1"), endpoint(address));
    let timeout = Duration::from_secs(5);
    Probe { family: Some(family), protocol, port: Some(port), timeout, ..usual }
}

/// The address that `c1` has in a family.
fn client(test: &TestLab, family: Family) -> IpAddr {
    let addresses = &test.lab.state.plan.client("c1").expect("c1").addresses;
    let of_family = addresses.iter().find(|address| Family::of(&address.addr()) == family);
    of_family.expect("an address").addr()
}

/// Asks every Service by the second interface, and expects the answers at this port of the router.
fn are_answered_by(test: &TestLab, port_of_router: &str) {
    for second in SECOND {
        let client = client(test, second.0);
        let ends = (second.1.parse().expect("an address"), client);
        for (server, protocol, port) in [
            ("default/near", Protocol::Tcp, 30080),
            ("default/far", Protocol::Tcp, 30081),
            ("default/near", Protocol::Udp, 30082),
            ("default/far", Protocol::Udp, 30083),
        ] {
            let what = format!("{second:?} {protocol:?} {server}");
            let probes = vec![asking(second, protocol, port); CONNECTIONS];
            let (arrivals, results) =
                wire::arrivals(&test.lab, ends, || test.lab.matrix(&probes).expect("matrix"));
            for result in results {
                assert!(result.is_connected(), "{what}: {result:?}");
                assert_eq!(result.server.as_deref(), Some(server), "{what}");
                let seen = result.client_seen.expect("an address");
                assert!(seen.contains(&client.to_string()), "{what}: {seen}");
            }
            let answers = arrivals.get(port_of_router).copied().unwrap_or(0);
            assert!(answers >= CONNECTIONS && arrivals.len() == 1, "{what}: {arrivals:?}");
        }
    }
}

#[test]
fn a_request_by_the_second_interface_is_answered_by_it_wherever_the_back_end_is() {
    let test = world();
    are_answered_by(&test, "second");
}

/// Without a route to the client by the second interface its neighbours are all that it leads to. The router has to take
/// packets from everywhere then.
#[test]
fn a_request_is_answered_by_the_first_interface_where_the_second_has_no_way_back() {
    let test = world();
    ip(&test, "node1", "route del default via 10.241.0.254 dev eth1");
    ip(&test, "node1", "-6 rule del from fd00:241::/64 lookup 241");
    set_strict(&test, "br0", false);
    are_answered_by(&test, "node1");
}

#[test]
fn a_connection_goes_on_when_its_requests_come_in_by_the_other_interface() {
    let test = world();
    set_strict(&test, "br0", false);
    set_strict(&test, "second", false);
    let (v4, v6) = (SECOND[0], SECOND[1]);
    let streams =
        [("v4-near", v4, 30080), ("v4-far", v4, 30081), ("v6-near", v6, 30080), ("v6-far", v6, 30081)];
    for (name, second, port) in streams {
        let probe = asking(second, Protocol::Tcp, port);
        test.lab.stream_start(name, &probe, Duration::from_millis(2)).expect("starting");
    }
    let (first, second) = ("10.241.0.1/32 via 10.240.0.1", "fd00:241::1/128 via fd00:240::1");
    for verb in ["add", "del", "add"] {
        thread::sleep(Duration::from_millis(500));
        ip(&test, "router", &format!("route {verb} {first}"));
        ip(&test, "router", &format!("-6 route {verb} {second}"));
    }
    thread::sleep(Duration::from_millis(500));
    for (name, ..) in streams {
        let report = test.unharmed(name);
        assert!(report.longest_pause_micros < 400_000, "{name}: {report:?}");
    }
}

/// What the world knows the Services by, whichever interface of the node it asks.
const EXTERNAL: [(Family, &str); 4] = [
    (Family::Ipv4, "203.0.113.7"),
    (Family::Ipv4, "203.0.113.8"),
    (Family::Ipv6, "2001:db8:e::7"),
    (Family::Ipv6, "2001:db8:e::8"),
];

/// The router asks `node1` for the Services by this interface from now on.
fn lead_to(test: &TestLab, [v4, v6]: [&str; 2]) {
    ip(test, "router", &format!("route replace 203.0.113.0/24 via {v4}"));
    ip(test, "router", &format!("-6 route replace 2001:db8:e::/64 via {v6}"));
}

/// The router has noticed first: requests come in by the other interface already.
#[test]
fn a_connection_goes_on_when_its_interface_leads_to_the_client_no_more() {
    let mut test = crate::cluster(2);
    test.apply(WORLD);
    let losses: [&[&str]; 3] = [
        &["route del default via 10.241.0.254 dev eth1", "-6 route del default via fd00:241::fe dev eth1"],
        &["link set eth1 down"],
        &["link del eth1"],
    ];
    for (number, loss) in losses.into_iter().enumerate() {
        second_interface(&test);
        for interface in ["br0", "second"] {
            set_strict(&test, interface, false);
        }
        ip(&test, "node1", "-6 route add default via fd00:241::fe dev eth1 metric 10");
        lead_to(&test, ["10.241.0.1", "fd00:241::1"]);
        let streams = EXTERNAL.map(|at| (format!("{number}-{}", at.1), asking(at, Protocol::Tcp, 80)));
        for (name, probe) in &streams {
            eventually(|| match test.lab.probe(probe).expect("probe") {
                result if result.is_connected() => Ok(()),
                result => Err(format!("{name}: {result:?}")),
            });
            test.lab.stream_start(name, probe, Duration::from_millis(5)).expect("starting");
        }
        thread::sleep(Duration::from_millis(300));
        lead_to(&test, ["10.240.0.1", "fd00:240::1"]);
        for command in loss {
            ip(&test, "node1", command);
        }
        // What is sent before the agent has heard of it waits for a neighbour that does not answer, three seconds, and TCP
        // sends nothing again while it waits.
        thread::sleep(Duration::from_millis(5500));
        for (name, _) in &streams {
            let report = test.unharmed(name);
            assert!(report.silent_micros < 1_000_000, "{loss:?}, {name}: {report:?}");
        }
        if !loss.contains(&"link del eth1") {
            ip(&test, "node1", "link del eth1");
            ip(&test, "node1", "-6 rule del from fd00:241::/64 lookup 241");
        }
    }
}

#[test]
fn an_interface_that_the_pattern_leaves_out_serves_nothing() {
    let mut test = world();
    test.configure("bpfDataIfacePattern: ^eth0$");
    for second in SECOND {
        let mut probe = asking(second, Protocol::Tcp, 30080);
        briefly(&mut probe);
        let since = Instant::now();
        while test.lab.probe(&probe).expect("probe").is_connected() {
            assert!(since.elapsed() < Duration::from_secs(20), "{second:?}: the programs are taken away");
        }
    }
    let first = test.probe("client:c1", "node:node1", |probe| probe.port = Some(30080));
    assert!(first.is_connected(), "{first:?}");
}

/// The host's routes to other nodes' pods.
fn our_routes(test: &TestLab, family: &str) -> String {
    let namespace = test.lab.name.machine("node1");
    let shown = Command::new("ip").args(["-n", &namespace, family, "route", "show", "proto", "80"]).output();
    String::from_utf8(shown.expect("ip").stdout).expect("text")
}

/// The host's own stack needs them to reach the pods of other nodes; no comparison is due for a minute.
#[test]
fn a_route_to_other_nodes_pods_that_somebody_deletes_or_changes_comes_back() {
    let test = crate::cluster(2);
    for family in ["-4", "-6"] {
        let before = our_routes(&test, family);
        let of_other_node =
            before.lines().find(|line| line.contains(" via ")).expect("a route to node2's pods");
        let route: Vec<_> = of_other_node.split_whitespace().take(5).collect();
        let replace = format!("{} dev lo", route.first().expect("a prefix"));
        for spoilt in [format!("del {}", route.join(" ")), format!("replace {replace} proto 80")] {
            ip(&test, "node1", &format!("{family} route {spoilt}"));
            come_back(&test, family, &before);
        }
    }
}

/// Whoever made it, a route of another owner to the same prefix stays, and nobody waits for ours.
#[test]
fn a_route_of_somebody_else_to_other_nodes_pods_stays_and_is_named_until_it_is_gone() {
    let test = crate::cluster(3);
    let before = our_routes(&test, "-4");
    let to = |node: &str| {
        let address = test.lab.state.plan.node(node).expect("a node").addresses[0].addr().to_string();
        let line = before.lines().find(|line| line.contains(&format!("via {address} "))).expect("a route");
        line.split_whitespace().next().expect("a prefix").to_owned()
    };
    let (prefix, other) = (to("node2"), to("node3"));
    test.lab.kill_agent("node1").expect("kill-agent");
    for route in [format!("del {prefix} proto 80"), format!("del {other} proto 80")] {
        ip(&test, "node1", &format!("route {route}"));
    }
    ip(&test, "node1", &format!("route add {prefix} dev lo proto static"));
    test.lab.start_agent("node1").expect("start-agent");
    test.lab.wait(Duration::from_secs(30)).expect("what can be in force is");
    eventually(|| match on_node(&test.lab, "node1", &["status"]) {
        output if said(&output).contains("(protocol static)") && said(&output).contains("Node node2") => {
            Ok(())
        }
        output => Err(said(&output)),
    });
    let now = our_routes(&test, "-4");
    assert!(now.contains(&other) && !now.contains(&prefix), "{now}");
    ip(&test, "node1", &format!("route del {prefix} dev lo proto static"));
    come_back(&test, "-4", &before);
    eventually(|| match on_node(&test.lab, "node1", &["status"]) {
        output if output.status.success() => Ok(()),
        output => Err(said(&output)),
    });
}

fn come_back(test: &TestLab, family: &str, before: &str) {
    eventually(|| match our_routes(test, family) {
        now if now == before => Ok(()),
        now => Err(format!("{now:?}, not {before:?}")),
    });
}

/// As a DHCP client or a network manager does it: for a moment the node has no way to any other.
#[test]
fn connections_to_other_nodes_outlive_the_renewal_of_the_nodes_addresses() {
    let mut test = crate::cluster(2);
    test.apply(WORLD);
    for (name, flag, family) in [("ipv4", "-4", Family::Ipv4), ("ipv6", "-6", Family::Ipv6)] {
        let before = our_routes(&test, flag);
        let addresses = &test.lab.state.plan.node("node1").expect("node1").addresses;
        let address =
            *addresses.iter().find(|net| net.addr().is_ipv4() == (flag == "-4")).expect("an address");
        let asking = Probe {
            family: Some(family),
            port: Some(8080),
            ..Probe::new(endpoint("pod:default/near"), endpoint("pod:default/far"))
        };
        test.lab.stream_start(name, &asking, Duration::from_millis(1)).expect("starting");
        ip(&test, "node1", &format!("addr del {address} dev eth0"));
        // The agent hears of it while there is no way, or one by the router.
        eventually(|| match on_node(&test.lab, "node1", &["status"]) {
            output if !output.status.success() => Ok(()),
            output => Err(said(&output)),
        });
        ip(&test, "node1", &format!("addr add {address} dev eth0"));
        come_back(&test, flag, &before);
        let result = test.lab.probe(&asking).expect("a probe");
        assert!(result.is_connected(), "{name}: {result:?}");
        let report = test.lab.stream_stop(name).expect("stopping");
        assert_eq!((report.lost, report.ended.as_deref()), (0, Some("stopped")), "{name}: {report:?}");
    }
}

#[test]
fn a_pod_that_may_not_speak_to_its_node_does_not_by_addresses_of_the_nodes_networks() {
    let mut test = crate::cluster(1);
    test.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node1, containers: [{name: c, image: any}]}
",
    );
    test.configure("defaultEndpointToHostAction: Drop");
    let pod = test.lab.place(&Where::Pod("default".into(), "client".into())).expect("a place");
    for to in ["10.240.0.1", "10.240.0.255", "224.0.0.251", "fd00:240::1", "fd00:240::", "ff05::fb"] {
        let to: IpAddr = to.parse().expect("an address");
        let before = drops(&test, "node1", "endpoint-to-host");
        let sent = pod.run(move || {
            let any: IpAddr = if to.is_ipv4() { "0.0.0.0".parse()? } else { "::".parse()? };
            let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
            socket.set_broadcast(true)?;
            Ok(socket.send_to(b"hello", SocketAddr::new(to, 9999))?)
        });
        sent.expect("sending");
        eventually(|| match drops(&test, "node1", "endpoint-to-host") - before {
            1 => Ok(()),
            counted => Err(format!("{to}: {counted} are counted")),
        });
    }
}

/// Another node knows who sends through the tunnel by the address, which is that of the Node whatever the routes would prefer.
#[test]
fn clients_reach_back_ends_of_another_node_when_the_node_gets_an_address_that_its_routes_prefer() {
    let mut test = crate::cluster(2);
    test.apply(WORLD);
    let node = |family| if family == Family::Ipv4 { "10.240.0.1" } else { "fd00:240::1" };
    let reach = |test: &TestLab, when: &str| {
        for family in [Family::Ipv4, Family::Ipv6] {
            let seen = test.probe("client:c1", node(family), |probe| {
                briefly(probe);
                (probe.port, probe.family) = (Some(30081), Some(family));
            });
            assert!(seen.is_connected(), "{when}, {family:?}: {seen:?}");
        }
    };
    reach(&test, "before");
    for address in ["10.240.0.77/25 dev eth0", "fd00:240::77/64 dev eth0 nodad"] {
        ip(&test, "node1", &format!("address add {address}"));
    }
    let namespace = test.lab.name.machine("node1");
    for (option, to, preferred) in
        [("-4", "10.240.0.2", "10.240.0.77"), ("-6", "fd00:240::2", "fd00:240::77")]
    {
        let way =
            Command::new("ip").args(["-n", &namespace, option, "route", "get", to]).output().expect("ip");
        let way = String::from_utf8(way.stdout).expect("text");
        assert!(way.contains(&format!("src {preferred} ")), "the routes do prefer it: {way}");
    }
    reach(&test, "at once");
    thread::sleep(Duration::from_secs(1));
    reach(&test, "when the agent knows of it");
}

/// One word in a FelixConfiguration must not take a node off the network, and the agent with it.
#[test]
fn a_prefix_of_pods_names_that_the_uplink_has_too_leaves_the_uplink_alone() {
    let mut test = TestLab::nodes(2);
    test.apply(WORLD);
    let reach = |test: &TestLab| {
        for family in [Family::Ipv4, Family::Ipv6] {
            for (from, to) in [("client:c1", "node:node1"), ("pod:default/far", "pod:default/near")] {
                let seen = test.probe(from, to, |probe| {
                    briefly(probe);
                    probe.family = Some(family);
                    probe.port = (to == "node:node1").then_some(30080);
                });
                assert!(seen.is_connected(), "{from} {family:?}: {seen:?}");
            }
        }
    };
    reach(&test);
    test.configure("interfacePrefix: eth");
    eventually(|| {
        let told = said(&on_node(&test.lab, "node1", &["status"]));
        if told.contains("interfacePrefix (eth)") && told.contains("(eth0)") { Ok(()) } else { Err(told) }
    });
    reach(&test);
    test.configure("");
    eventually(|| {
        let status = on_node(&test.lab, "node1", &["status"]);
        if status.status.success() { Ok(()) } else { Err(said(&status)) }
    });
    reach(&test);
}
