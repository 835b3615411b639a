//! Packets in the tunnel that no node of ours has put there.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use serde_json::Value;
use tortie_lab::{Family, Probe, Where};
use tortie_testkit::packet::PacketBuilder;
use tortie_tests_e2e::{TestLab, endpoint, eventually, items, on_node};

const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: server}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 5353, protocol: UDP}]}]}
";

/// The network identifier and the UDP port of the tunnel.
const OURS: u32 = 0x00ca_11c0;
const PORT: u16 = 4789;

/// A client outside, as the node that it asked would pass it on.
fn client(server: IpAddr) -> IpAddr {
    let text = if server.is_ipv4() { "203.0.113.9" } else { "2001:db8:f::9" };
    text.parse().expect("an address")
}

/// Sends a client's packet from `from` to `node1` through the tunnel, in a network.
fn send(test: &TestLab, from: Where, network: u32, server: IpAddr, client_port: u16) {
    let node = test.lab.state.plan.node("node1").expect("node1");
    let same = |address: &IpAddr| address.is_ipv4() == server.is_ipv4();
    let node = node.addresses.iter().map(|address| address.addr()).find(same).expect("an address");
    let [_, high, middle, low] = network.to_be_bytes();
    let mut packet = vec![0x08, 0, 0, 0, high, middle, low, 0];
    packet.extend(PacketBuilder::ip(client(server), server).udp(client_port, 5353).payload(b"hello").build());
    let place = test.lab.place(&from).expect("a place");
    let sent = place.run(move || {
        let any: IpAddr = if node.is_ipv4() { "0.0.0.0".parse()? } else { "::".parse()? };
        Ok(UdpSocket::bind(SocketAddr::new(any, 0))?.send_to(&packet, SocketAddr::new(node, PORT))?)
    });
    sent.expect("sending");
}

/// Whether `node1` has a flow of this client.
fn is_known(test: &TestLab, port: u16) -> bool {
    let flows = items(&test.lab, "node1", &["conntrack", "list"]);
    flows.iter().any(|flow| flow["client"]["port"] == port)
}

/// Packets that a node has dropped for this reason.
pub fn drops(test: &TestLab, node: &str, reason: &str) -> u64 {
    let output = on_node(&test.lab, node, &["drops", "-o", "json"]);
    let drops: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let counters = drops["counters"].as_array().expect("counters").iter();
    let of_reason = counters.filter(|counter| counter["reason"] == reason);
    of_reason.map(|counter| counter["packets"].as_u64().expect("packets")).sum()
}

#[test]
fn packets_of_another_network_and_of_nobodys_node_are_dropped_and_counted() {
    let mut test = crate::cluster(2);
    test.apply(WORLD);
    let node2 = || Where::Node("node2".into());
    for (server, port) in
        test.lab.attachment("default", "server").expect("attached").addresses.iter().zip([40000, 41000])
    {
        send(&test, node2(), OURS, *server, port);
        eventually(|| match is_known(&test, port) {
            true => Ok(()),
            false => Err(format!("{server}: what a node sends arrives")),
        });
        let before = drops(&test, "node1", "tunnel-source");
        // Bits of ours that say something are the lowest three.
        for (network, from) in [
            (OURS + 8, node2()),
            (OURS ^ 0x80_0000, node2()),
            (4096, node2()),
            (OURS, Where::Client("c1".into())),
        ] {
            send(&test, from, network, *server, port + 1);
        }
        eventually(|| match drops(&test, "node1", "tunnel-source") - before {
            4.. => Ok(()),
            counted => Err(format!("{server}: {counted} of 4 are counted")),
        });
        assert!(!is_known(&test, port + 1), "{server}: it was another network's");
    }
}

const POOLS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: liar}
spec: {nodeName: node2, containers: [{name: c, image: any}]}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: v4}
spec: {cidr: 10.244.0.0/16, natOutgoing: true}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: v6}
spec: {cidr: 'fd00:244::/32', natOutgoing: true}
";

#[test]
fn a_pod_whose_packets_leave_under_its_nodes_address_puts_none_into_the_tunnel() {
    let mut test = crate::cluster(2);
    test.apply(&format!("{WORLD}---{POOLS}"));
    for (server, port) in
        test.lab.attachment("default", "server").expect("attached").addresses.iter().zip([40000, 41000])
    {
        let before = drops(&test, "node2", "encapsulated");
        send(&test, Where::Pod("default".into(), "liar".into()), OURS, *server, port);
        eventually(|| match drops(&test, "node2", "encapsulated") - before {
            1 => Ok(()),
            counted => Err(format!("{server}: {counted} are counted")),
        });
        assert!(!is_known(&test, port), "{server}: nobody but nodes sends there");
    }
}

const BEHIND: &str = "
apiVersion: v1
kind: Pod
metadata: {name: far, labels: {app: far}}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: far}
spec: {type: NodePort, ipFamilyPolicy: PreferDualStack, selector: {app: far}, ports: [{port: 80, nodePort: 30080}]}
";

#[test]
fn clients_of_another_nodes_endpoints_do_not_notice_that_both_agents_are_new() {
    let mut test = crate::cluster(2);
    test.apply(BEHIND);
    let asking = |family| Probe {
        family: Some(family),
        port: Some(30080),
        ..Probe::new(endpoint("client:c1"), endpoint("node:node1"))
    };
    let families = [("ipv4", Family::Ipv4), ("ipv6", Family::Ipv6)];
    for (name, family) in families {
        test.lab.stream_start(name, &asking(family), Duration::from_millis(1)).expect("starting");
    }
    for node in ["node1", "node2"] {
        test.lab.kill_agent(node).expect("kill-agent");
        test.lab.start_agent(node).expect("start-agent");
        test.lab.wait(Duration::from_secs(30)).expect("wait");
        for (name, family) in families {
            let result = test.lab.probe(&asking(family)).expect("a probe");
            assert!(result.is_connected(), "after {node}'s, {name}: {result:?}");
        }
    }
    for (name, _) in families {
        let report = test.lab.stream_stop(name).expect("stopping");
        assert_eq!((report.lost, report.ended.as_deref()), (0, Some("stopped")), "{name}: {report:?}");
        assert!(report.longest_pause_micros < 500_000, "{name}: {report:?}");
    }
}

#[test]
fn connections_from_one_port_to_two_nodes_meet_one_endpoint_on_a_third_and_both_go_on() {
    let mut test = crate::cluster(3);
    test.apply(BEHIND);
    for (name, family) in [("ipv4", Family::Ipv4), ("ipv6", Family::Ipv6)] {
        let asking = |node: &str| Probe {
            family: Some(family),
            port: Some(30080),
            source_port: Some(45_000),
            timeout: Duration::from_secs(10),
            ..Probe::new(endpoint("client:c1"), endpoint(node))
        };
        test.lab.stream_start(name, &asking("node:node1"), Duration::from_millis(1)).expect("starting");
        let result = test.lab.probe(&asking("node:node3")).expect("a probe");
        assert!(result.is_connected(), "{name}: {result:?}");
        let report = test.lab.stream_stop(name).expect("stopping");
        assert_eq!((report.lost, report.ended.as_deref()), (0, Some("stopped")), "{name}: {report:?}");
    }
}
