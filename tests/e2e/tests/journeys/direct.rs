//! Direct server return: who answers clients outside, and that a change of the mode breaks nothing.

use std::net::IpAddr;
use std::process::Command;
use std::thread;
use std::time::Duration;

use tortie_lab::{Family, Probe, ProbeResult, Protocol};
use tortie_tests_e2e::{BOTH, TestLab, endpoint};

use crate::wire::{Arrivals, arrivals};

/// All back ends are on the second node; the router leads everything to the first.
const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: far, labels: {app: server}}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{name: web, containerPort: 8080}, {name: dns, containerPort: 5353, protocol: UDP}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: host-server, labels: {app: host-server}}
spec: {nodeName: node2, hostNetwork: true, containers: [{name: c, image: any, ports: [{name: web, containerPort: 7070}, {name: dns, containerPort: 7053, protocol: UDP}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {app: server}
  externalIPs: [203.0.113.7, '2001:db8:e::7']
  ports: [{name: web, port: 80, targetPort: web, nodePort: 30080}, {name: dns, port: 53, targetPort: dns, protocol: UDP, nodePort: 30053}]
---
apiVersion: v1
kind: Service
metadata: {name: on-host}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {app: host-server}
  ports: [{name: web, port: 80, targetPort: web, nodePort: 30018}, {name: dns, port: 53, targetPort: dns, protocol: UDP, nodePort: 30015}]
";

fn world(spec: &str) -> TestLab {
    let mut test = crate::cluster(2);
    test.apply(WORLD);
    configure(&mut test, spec);
    for prefix in ["203.0.113.7/32", "2001:db8:e::7/128"] {
        test.lab.route(prefix.parse().expect("a prefix"), "node1").expect("lab route");
    }
    test
}

/// Both agents act on this when it returns.
fn configure(test: &mut TestLab, spec: &str) {
    test.configure(&format!("defaultEndpointToHostAction: Accept, {spec}"));
}

const DSR: &str = "bpfExternalServiceMode: DSR";

fn external(family: Family) -> &'static str {
    if family == Family::Ipv4 { "203.0.113.7" } else { "2001:db8:e::7" }
}

fn node(family: Family) -> &'static str {
    if family == Family::Ipv4 { "10.240.0.1" } else { "fd00:240::1" }
}

fn client(family: Family) -> &'static str {
    if family == Family::Ipv4 { "192.0.2.10" } else { "2001:db8:1::10" }
}

/// The ends of what goes from `address` to the client.
fn ends(address: &str, family: Family) -> (IpAddr, IpAddr) {
    (address.parse().expect("an address"), client(family).parse().expect("an address"))
}

fn probe_of(to: &str, (protocol, port): (Protocol, u16), family: Family) -> Probe {
    let timeout = Duration::from_secs(5);
    let usual = Probe::new(endpoint("client:c1"), endpoint(to));
    Probe { family: Some(family), protocol, port: Some(port), timeout, ..usual }
}

/// Who answered from `address`, and what the client says.
fn ask(test: &TestLab, address: &str, probe: &Probe) -> (Arrivals, ProbeResult) {
    let ends = ends(address, probe.family.expect("a family"));
    let (arrivals, result) = arrivals(&test.lab, ends, || test.lab.probe(probe).expect("a probe"));
    assert!(result.is_connected(), "{probe:?}: {result:?}");
    (arrivals, result)
}

fn of(arrivals: &Arrivals, node: &str) -> usize {
    arrivals.get(node).copied().unwrap_or(0)
}

#[test]
fn a_back_end_on_another_node_answers_directly_under_the_address_that_was_asked() {
    let test = world(DSR);
    for family in BOTH {
        for (address, web, dns, server) in [
            (external(family), 80, 53, "default/far"),
            (node(family), 30080, 30053, "default/far"),
            (node(family), 30018, 30015, "default/host-server"),
        ] {
            for door in [(Protocol::Tcp, web), (Protocol::Udp, dns)] {
                let (seen, result) = ask(&test, address, &probe_of(address, door, family));
                let case = format!("{family:?} {address} {door:?}: {seen:?} {result:?}");
                assert_eq!(result.server.as_deref(), Some(server), "{case}");
                assert!(
                    result.client_seen.as_deref().is_some_and(|c| c.starts_with(client(family))),
                    "{case}"
                );
                assert!(of(&seen, "node2") > 0, "{case}");
                // The node that was asked sees the handshake, and nothing else.
                let handshake = usize::from(door.0 == Protocol::Tcp);
                assert_eq!(of(&seen, "node1"), handshake, "{case}");
            }
        }
    }
}

#[test]
fn a_megabyte_comes_back_directly_and_undamaged_also_through_a_narrow_link() {
    let test = world(DSR);
    let router = test.lab.name.machine("router");
    for mtu in ["1500", "1300"] {
        let narrow = Command::new("ip").args(["-n", &router, "link", "set", "c1", "mtu", mtu]).status();
        assert!(narrow.expect("running ip").success());
        for family in BOTH {
            for door in [(Protocol::Tcp, 30080), (Protocol::Tcp, 30018)] {
                let probe = Probe {
                    bytes: 1 << 20,
                    timeout: Duration::from_secs(20),
                    ..probe_of(node(family), door, family)
                };
                let (seen, _) = ask(&test, node(family), &probe);
                assert!(of(&seen, "node2") > 10 * of(&seen, "node1"), "{mtu} {family:?} {door:?}: {seen:?}");
            }
        }
    }
}

#[test]
fn clients_that_have_opted_out_are_answered_through_the_node_that_was_asked() {
    let mut test = world(&format!("{DSR}, bpfDSROptoutCIDRs: [192.0.2.0/24, '2001:db8:1::/64']"));
    let doors = [(Protocol::Tcp, 80), (Protocol::Udp, 53)];
    for family in BOTH {
        for door in doors {
            let (seen, _) = ask(&test, external(family), &probe_of(external(family), door, family));
            assert_eq!(of(&seen, "node2"), 0, "{family:?} {door:?}: {seen:?}");
        }
    }
    configure(&mut test, DSR);
    for family in BOTH {
        for door in doors {
            let (seen, _) = ask(&test, external(family), &probe_of(external(family), door, family));
            assert!(of(&seen, "node2") > 0, "{family:?} {door:?}: {seen:?}");
        }
    }
}

#[test]
fn connections_go_on_as_they_began_when_the_mode_changes_under_load() {
    let mut test = world("bpfExternalServiceMode: Tunnel");
    let start = |test: &TestLab, name: &str, family: Family, port: u16| {
        let probe = probe_of(node(family), (Protocol::Tcp, port), family);
        test.lab.stream_start(name, &probe, Duration::from_millis(1)).expect("starting");
    };
    let answered_by = |test: &TestLab, family: Family| {
        arrivals(&test.lab, ends(node(family), family), || thread::sleep(Duration::from_millis(200))).0
    };
    let mut streams = Vec::new();
    for (round, spec) in ["", DSR, "bpfExternalServiceMode: Tunnel", DSR, ""].into_iter().enumerate() {
        if round > 0 {
            configure(&mut test, if spec.is_empty() { "bpfExternalServiceMode: Tunnel" } else { spec });
        }
        for family in BOTH {
            for port in [30080, 30018] {
                let name = format!("{round}-{port}-{family:?}");
                start(&test, &name, family, port);
                streams.push(name);
            }
            let seen = answered_by(&test, family);
            assert!(of(&seen, "node1") > 0, "those that began through the tunnel: {seen:?}");
            assert_eq!(of(&seen, "node2") > 0, round > 0, "those that began directly: {seen:?}");
        }
    }
    for name in streams {
        let report = test.unharmed(&name);
        assert!(report.longest_pause_micros < 1_000_000, "{name}: {report:?}");
    }
}
