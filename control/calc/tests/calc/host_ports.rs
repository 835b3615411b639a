//! Ports of pods at their node's addresses.

use crate::support::build::*;
use crate::support::expand::expand;
use crate::support::state::State;
use tortie_intent::{Scope, ServicePort, ServicePortId};
use tortie_model::service::{Service, ServicePort as Port, ServiceType};
use tortie_model::workload::Transport;
use tortie_model::{Change, Object, ServiceId};

fn here() -> Object {
    node("n1", "192.0.2.1 192.0.2.11 2001:db8::1", "")
}

fn port_of<'a>(state: &'a State, pod: &str, port: &str, transport: Transport) -> Option<&'a ServicePort> {
    let service = ServiceId::of_pod(&pod_id(pod));
    state.services.get(&ServicePortId { service, port: port.into(), transport })
}

/// Where a pod's port is reached.
fn doors(state: &State, pod: &str, port: &str) -> Vec<String> {
    let frontends = port_of(state, pod, port, TCP).into_iter().flat_map(|port| port.frontends.keys());
    frontends.map(|f| std::net::SocketAddr::new(f.address, f.port).to_string()).collect()
}

fn conflicts(state: &State) -> Vec<String> {
    state
        .conflicts
        .iter()
        .map(|(contested, conflict)| format!("{contested}: {}", contested.explain(conflict)))
        .collect()
}

fn all(parts: &[&[Object]]) -> Vec<Object> {
    parts.concat()
}

fn node_port_service(id: &str, external: &str, node_port: u16) -> Object {
    let ports = vec![Port { name: String::new(), transport: TCP, port: 80, node_port }];
    let value = Service {
        service_type: ServiceType::NodePort,
        external_ips: ips(external),
        created: 1_000,
        ports,
        ..service_value("10.96.0.1 fd96::1", &[])
    };
    Object::Service(Change { key: service_id(id), value: Some(value.into()) })
}

#[test]
fn a_host_port_is_a_door_of_the_pods_own_node_in_both_families_and_leads_to_that_pod_alone() {
    let web = pod("shop/web", "10.0.1.1 fd00::1").host_port("8080", TCP, 80).host_port("8080", UDP, 53);
    let elsewhere = pod("shop/far", "10.0.2.1").on("n2").host_port("9090", TCP, 80).object();
    let state = expand(&all(&[&[here(), elsewhere], &web.local()]));
    assert_eq!(doors(&state, "shop/web", "8080"), ["0.0.0.0:8080", "[::]:8080"]);
    let port = port_of(&state, "shop/web", "8080", TCP).expect("a port");
    let backends: Vec<_> = port.backends.iter().map(|b| (b.address, b.port, b.local)).collect();
    assert_eq!(backends, [(ip("10.0.1.1"), 80, true), (ip("fd00::1"), 80, true)]);
    assert!(port.frontends.values().all(|scope| *scope == Scope::HostPort));
    assert!(port.external_local, "the same port of another node is that node's own");
    assert!(port_of(&state, "shop/web", "8080", UDP).is_some());
    assert_eq!(state.services.len(), 2, "another node's pod has no port here");
}

#[test]
fn a_host_ip_is_the_only_address_unless_it_stands_for_all_of_its_family() {
    let web = pod("shop/web", "10.0.1.1 fd00::1")
        .host_port("192.0.2.11:8080", TCP, 80)
        .host_port("0.0.0.0:8081", TCP, 80)
        .host_port("[2001:db8::1]:8082", TCP, 80);
    let state = expand(&all(&[&[here()], &web.local()]));
    assert_eq!(doors(&state, "shop/web", "192.0.2.11:8080"), ["192.0.2.11:8080"]);
    assert_eq!(doors(&state, "shop/web", "0.0.0.0:8081"), ["0.0.0.0:8081"]);
    assert_eq!(doors(&state, "shop/web", "[2001:db8::1]:8082"), ["[2001:db8::1]:8082"]);
}

#[test]
fn a_host_ip_that_is_not_the_nodes_is_not_served_and_reported() {
    let web = pod("shop/web", "10.0.1.1").host_port("10.96.0.10:53", UDP, 53);
    let state = expand(&all(&[&[here()], &web.local()]));
    assert!(state.services.is_empty(), "nobody takes the address of a Service by hostIP");
    let said = conflicts(&state);
    assert!(
        matches!(said.as_slice(), [one] if one.starts_with("hostIP 10.96.0.10 of Pod shop/web: is no address")),
        "{said:?}"
    );
}

#[test]
fn an_address_of_an_interface_or_of_loopback_is_the_nodes_whatever_its_node_object_says() {
    let web = pod("shop/web", "10.0.1.1 fd00::1")
        .host_port("198.51.100.1:80", TCP, 80)
        .host_port("127.0.0.1:81", TCP, 80)
        .host_port("[::1]:82", TCP, 80);
    let own = Object::OwnAddresses(nets("192.0.2.1/24 198.51.100.1/32"));
    let state = expand(&all(&[&[here(), own], &web.local()]));
    assert_eq!(doors(&state, "shop/web", "198.51.100.1:80"), ["198.51.100.1:80"]);
    assert_eq!(doors(&state, "shop/web", "127.0.0.1:81"), ["127.0.0.1:81"]);
    assert_eq!(doors(&state, "shop/web", "[::1]:82"), ["[::1]:82"]);
    assert!(conflicts(&state).is_empty(), "{:?}", conflicts(&state));
}

#[test]
fn pods_on_the_hosts_network_or_not_attached_here_have_no_door() {
    let on_host = pod("shop/host", "192.0.2.1").host_network().host_port("8080", TCP, 8080).object();
    let unattached = pod("shop/new", "10.0.1.1").host_port("8081", TCP, 80).object();
    assert!(expand(&[here(), on_host, unattached]).services.is_empty());
}

#[test]
fn of_two_pods_with_one_host_port_the_older_has_it_and_the_other_is_reported() {
    let young = pod("shop/a", "10.0.1.1").host_port("8080", TCP, 80).created(20).local();
    let old = pod("shop/b", "10.0.1.2").host_port("8080", TCP, 80).created(10).local();
    let state = expand(&all(&[&[here()], &young, &old]));
    assert_eq!(doors(&state, "shop/a", "8080"), [""; 0]);
    assert_eq!(doors(&state, "shop/b", "8080"), ["0.0.0.0:8080"]);
    assert_eq!(
        conflicts(&state),
        ["front end 0.0.0.0 port 8080/TCP: held by Pod shop/b, also claimed by Pod shop/a"]
    );
}

#[test]
fn an_older_pod_at_every_address_keeps_each_of_them() {
    let every = pod("shop/a", "10.0.1.1").host_port("8080", TCP, 80).created(10).local();
    let one = pod("shop/b", "10.0.1.2").host_port("192.0.2.11:8080", TCP, 80).created(20).local();
    let state = expand(&all(&[&[here()], &every, &one]));
    assert_eq!(doors(&state, "shop/b", "192.0.2.11:8080"), [""; 0]);
    let expected = "front end 192.0.2.11 port 8080/TCP: held by Pod shop/a, also claimed by Pod shop/b";
    assert_eq!(conflicts(&state), [expected]);

    let older = pod("shop/b", "10.0.1.2").host_port("192.0.2.11:8080", TCP, 80).created(5).local();
    let state = expand(&all(&[&[here()], &every, &older]));
    assert_eq!(doors(&state, "shop/b", "192.0.2.11:8080"), ["192.0.2.11:8080"]);
    assert_eq!(doors(&state, "shop/a", "8080"), ["0.0.0.0:8080"], "every other address");
}

#[test]
fn a_service_has_a_port_of_the_node_before_an_older_pod() {
    let web = pod("shop/web", "10.0.1.1").host_port("30080", TCP, 80).created(10).local();
    let state = expand(&all(&[&[here(), node_port_service("shop/svc", "", 30_080)], &web]));
    assert_eq!(doors(&state, "shop/web", "30080"), [""; 0]);
    assert_eq!(
        conflicts(&state),
        ["front end 0.0.0.0 port 30080/TCP: held by Service shop/svc, also claimed by Pod shop/web"]
    );

    let one = pod("shop/web", "10.0.1.1").host_port("192.0.2.1:30080", TCP, 80).created(10).local();
    let state = expand(&all(&[&[here(), node_port_service("shop/svc", "", 30_080)], &one]));
    assert_eq!(doors(&state, "shop/web", "192.0.2.1:30080"), [""; 0], "a node port is at every address");

    let web = pod("shop/web", "10.0.1.1").host_port("80", TCP, 80).created(10).local();
    let state = expand(&all(&[&[here(), node_port_service("shop/svc", "192.0.2.1", 0)], &web]));
    assert_eq!(doors(&state, "shop/web", "80"), ["0.0.0.0:80"], "an external address takes one of them");
    assert_eq!(
        conflicts(&state),
        ["front end 192.0.2.1 port 80/TCP: held by Service shop/svc, also claimed by Pod shop/web"]
    );
}

#[test]
fn a_host_port_goes_with_its_pod_and_the_next_one_takes_it() {
    let first = pod("shop/a", "10.0.1.1").host_port("8080", TCP, 80).created(10);
    let second = pod("shop/b", "10.0.1.2").host_port("8080", TCP, 80).created(20);
    let ended = Object::Workload(Change { key: pod_id("shop/a"), value: None });
    let state = expand(&all(&[&[here()], &first.local(), &second.local(), &[ended]]));
    assert_eq!(doors(&state, "shop/a", "8080"), [""; 0]);
    assert_eq!(doors(&state, "shop/b", "8080"), ["0.0.0.0:8080"]);
    assert!(conflicts(&state).is_empty());
}

#[test]
fn a_service_named_like_a_pod_is_another_thing() {
    let web = pod("shop/web", "10.0.1.1").host_port("80", TCP, 80).local();
    let state = expand(&all(&[&[here(), service("shop/web", "10.96.0.1", &[("", TCP, 80)])], &web]));
    assert_eq!(state.services.len(), 2);
    assert!(conflicts(&state).is_empty());
}
