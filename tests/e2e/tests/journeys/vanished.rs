//! Connections to a pod that goes without a word: its peers hear of it, or are led elsewhere.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use tortie_lab::{Family, Probe, Protocol, Verdict, Where};
use tortie_tests_e2e::{TestLab, briefly, endpoint, items, tortie_lab};

use crate::wire;

const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node1, containers: [{name: c, image: any}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near, labels: {app: near}}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, labels: {app: far}}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: near}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {app: near}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
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

/// Who talks to whom, and by which port.
const TALKS: [(&str, &str, u16); 8] = [
    ("pod:default/client", "svc:default/near", 80),
    ("pod:default/client", "svc:default/far", 80),
    ("pod:default/client", "pod:default/far", 8080),
    ("node:node1", "svc:default/near", 80),
    ("node:node1", "svc:default/far", 80),
    ("node:node2", "svc:default/near", 80),
    ("client:c1", "node:node1", 30080),
    ("client:c1", "node:node1", 30081),
];

/// A pod hears a reset at its next segment, which it sends again and again.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pod's interface on its node.
fn interface(test: &TestLab, node: &str, pod: &str) -> String {
    let found = items(&test.lab, node, &["endpoints", "show", pod]);
    found[0]["interface"].as_str().expect("an interface").to_owned()
}

/// Nothing that the pod would say at its end gets out.
fn silence(test: &TestLab, node: &str, pod: &str) {
    let interface = interface(test, node, pod);
    let down = ["exec", "--node", node, "--", "ip", "link", "set", &interface, "down"];
    assert!(tortie_lab(&test.lab.name, &down).status.success());
}

fn peers_of_vanished_pods_get_a_reset(connect_time: &str) {
    let mut test = crate::cluster(2);
    test.apply(WORLD);
    test.configure(&format!(
        "defaultEndpointToHostAction: Accept, bpfConnectTimeLoadBalancing: {connect_time}"
    ));
    let talks = || TALKS.iter().flat_map(|talk| [Family::Ipv4, Family::Ipv6].map(|family| (talk, family)));
    for (number, ((from, to, port), family)) in talks().enumerate() {
        let asking =
            Probe { port: Some(*port), family: Some(family), ..Probe::new(endpoint(from), endpoint(to)) };
        test.lab.stream_start(&format!("s{number}"), &asking, Duration::from_millis(5)).expect("starting");
    }
    thread::sleep(Duration::from_millis(500));
    for (node, pod) in [("node1", "near"), ("node2", "far")] {
        silence(&test, node, &format!("default/{pod}"));
        test.delete(&format!("{{apiVersion: v1, kind: Pod, metadata: {{name: {pod}}}}}"));
    }
    test.lab.wait(Duration::from_secs(30)).expect("lab wait");
    let gone = Instant::now();
    for (number, talk) in talks().enumerate() {
        let name = format!("s{number}");
        let report = || test.lab.stream_report(&name).expect("report");
        while report().open && gone.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(50));
        }
        let report = test.lab.stream_stop(&name).expect("stopping");
        assert!(report.received > 20, "{talk:?}: {report:?}");
        assert_eq!(report.ended.as_deref(), Some("reset"), "{talk:?}: {report:?}");
    }
}

#[test]
fn peers_of_a_vanished_pod_get_a_reset_where_sockets_were_led_to_it() {
    peers_of_vanished_pods_get_a_reset("TCP");
}

#[test]
fn peers_of_a_vanished_pod_get_a_reset_where_packets_were_translated() {
    peers_of_vanished_pods_get_a_reset("Disabled");
}

/// The router leads a node's prefix there, and the node what it does not know to the router.
#[test]
fn what_is_sent_to_a_pod_that_nobody_has_does_not_go_round() {
    let mut test = crate::cluster(2);
    test.apply(WORLD);
    test.configure("defaultEndpointToHostAction: Accept");
    for (family, client, nobody) in
        [(Family::Ipv4, "192.0.2.10", "10.244.1.250"), (Family::Ipv6, "2001:db8:1::10", "fd00:244:1::fa")]
    {
        let ends = (client.parse().expect("an address"), nobody.parse().expect("an address"));
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let (arrivals, result) = wire::arrivals(&test.lab, ends, || {
                test.probe("client:c1", nobody, |probe| {
                    briefly(probe);
                    (probe.family, probe.protocol, probe.port) = (Some(family), protocol, Some(8080));
                })
            });
            assert_eq!(result.result, Verdict::Timeout, "{family:?} {protocol:?}");
            assert!(arrivals.contains_key("c1"), "{family:?} {protocol:?}: {arrivals:?}");
            assert_eq!(arrivals.len(), 1, "none from a node: {family:?} {protocol:?}: {arrivals:?}");
        }
    }
    let dropped = items(&test.lab, "node1", &["counters", "list", "--reason", "blackhole"]);
    assert!(dropped.iter().filter_map(|item| item["packets"].as_u64()).sum::<u64>() >= 4, "{dropped:?}");
}

/// Names, of one back end and of another one.
const ASKED: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node1, containers: [{name: c, image: any}]}
---
apiVersion: v1
kind: Service
metadata: {name: names}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {app: names}
  ports: [{port: 53, targetPort: 5353, nodePort: 30053, protocol: UDP}]
";

fn names(pod: &str, node: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}, labels: {{app: names}}}}\n\
         spec: {{nodeName: {node}, containers: [{{name: c, image: any, ports: [{{containerPort: 5353, protocol: UDP}}]}}]}}\n"
    )
}

/// A client that keeps its port, as a resolver's may.
fn asking(test: &TestLab, from: &Where, at: IpAddr) -> UdpSocket {
    let place = test.lab.place(from).expect("a place");
    let socket = place.run(move || {
        let any: IpAddr = if at.is_ipv4() { "0.0.0.0".parse()? } else { "::".parse()? };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        socket.connect(SocketAddr::new(at, 30053))?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        Ok(socket)
    });
    socket.expect("a socket")
}

/// Until there is an answer, or for as long as this.
fn ask(socket: &UdpSocket, until: Instant) -> bool {
    while Instant::now() < until {
        let _ = socket.send(b"who");
        if socket.recv(&mut [0; 512]).is_ok() {
            return true;
        }
    }
    false
}

#[test]
fn udp_clients_are_led_to_another_back_end_at_once_when_theirs_on_another_node_is_gone() {
    let mut test = crate::cluster(2);
    test.apply(ASKED);
    test.configure("defaultEndpointToHostAction: Accept, bpfConnectTimeLoadBalancing: Disabled");
    let node = test.lab.state.plan.node("node1").expect("node1");
    let node: Vec<IpAddr> = node.addresses.iter().map(|address| address.addr()).collect();
    let clients = [Where::Pod("default".into(), "client".into()), Where::Client("c1".into())];
    // A sweep that comes by itself is seldom just in time.
    for round in 0..3 {
        test.apply(&names("far", "node2"));
        let places = clients.iter().flat_map(|client| node.iter().map(move |at| (client, *at)));
        let sockets: Vec<UdpSocket> = places.map(|(client, at)| asking(&test, client, at)).collect();
        for socket in &sockets {
            assert!(ask(socket, Instant::now() + Duration::from_secs(5)), "{socket:?}");
        }
        test.apply(&names("near", "node1"));
        silence(&test, "node2", "default/far");
        test.delete(&names("far", "node2"));
        test.lab.wait(Duration::from_secs(30)).expect("lab wait");
        let until = Instant::now() + Duration::from_secs(1);
        for socket in &sockets {
            assert!(ask(socket, until), "round {round}: {socket:?}");
        }
        // The next round's sweep is another one.
        thread::sleep(Duration::from_millis(1100));
        test.delete(&names("near", "node1"));
    }
}
