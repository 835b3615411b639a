//! Services and their EndpointSlices.

use crate::support::build::*;
use crate::support::driver::Driver;
use crate::support::expand::expand;
use crate::support::state::State;
use std::sync::Arc;
use tortie_calc::{HealthCheck, KnownEndpoint};
use tortie_intent::{Frontend, Intent, ServicePort, ServicePortId};
use tortie_model::service::{Hints, Service, ServiceType, TrafficPolicy};
use tortie_model::workload::Transport;
use tortie_model::{Change, Object, ObjectId};

fn id(service: &str, port: &str, transport: Transport) -> ServicePortId {
    ServicePortId { service: service_id(service), port: port.into(), transport }
}

fn port_of<'a>(state: &'a State, service: &str, port: &str, transport: Transport) -> &'a ServicePort {
    &state.services[&id(service, port, transport)]
}

fn backends(port: &ServicePort) -> Vec<String> {
    port.backends.iter().map(|b| format!("{}:{} {:?}", b.address, b.port, b.state)).collect()
}

fn frontends(port: &ServicePort) -> Vec<Frontend> {
    port.frontends.keys().copied().collect()
}

fn web() -> Object {
    service("shop/web", "10.96.0.1 fd96::1", &[("http", TCP, 80), ("dns", UDP, 53)])
}

fn slice_of_web(name: &str, endpoints: Vec<tortie_model::service::Endpoint>) -> Object {
    slice(name, "shop/web", &[("http", TCP, 8080), ("dns", UDP, 5353)], endpoints)
}

#[test]
fn a_service_joins_its_slices_by_port_name_and_protocol_in_both_families() {
    let state = expand(&[
        web(),
        slice_of_web("shop/web-4", vec![endpoint("10.0.1.1", "rs")]),
        slice_of_web("shop/web-6", vec![endpoint("fd00::1", "rs")]),
        slice(
            "shop/web-x",
            "shop/web",
            &[("http", UDP, 1), ("dns", TCP, 2)],
            vec![endpoint("10.0.1.9", "rs")],
        ),
    ]);
    let http = port_of(&state, "shop/web", "http", TCP);
    assert_eq!(backends(http), ["10.0.1.1:8080 Ready", "fd00::1:8080 Ready"]);
    let at = |address| Frontend { address: ip(address), port: 80 };
    assert_eq!(frontends(http), [at("10.96.0.1"), at("fd96::1")]);
    let dns = port_of(&state, "shop/web", "dns", UDP);
    assert_eq!(backends(dns), ["10.0.1.1:5353 Ready", "fd00::1:5353 Ready"]);
    assert_eq!(state.services.len(), 2);
}

#[test]
fn source_ranges_bind_their_family_unless_one_is_everybody() {
    let of = |ranges: &[&str]| {
        let value = Service {
            service_type: ServiceType::LoadBalancer,
            ingress_ips: vec![ip("203.0.113.9"), ip("2001:db8::9")],
            source_ranges: ranges.iter().map(|net| net.parse().unwrap()).collect(),
            ..service_value("10.96.0.1 fd96::1", &[("http", TCP, 80)])
        };
        let state = expand(&[
            node("n1", "192.0.2.1 2001:db8:1::1", ""),
            Object::Service(Change { key: service_id("shop/web"), value: Some(value.into()) }),
        ]);
        let port = port_of(&state, "shop/web", "http", TCP);
        port.source_ranges.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(of(&[]), [""; 0]);
    assert_eq!(of(&["10.0.0.0/8", "fd00::/8"]), ["10.0.0.0/8", "fd00::/8"]);
    assert_eq!(of(&["10.0.0.0/8", "0.0.0.0/0", "fd00::/8"]), ["fd00::/8"]);
    // A range with this node in it: the node may come under the load balancer's own address too.
    assert_eq!(of(&["192.0.2.0/24"]), ["192.0.2.0/24", "203.0.113.9/32"]);
    assert_eq!(of(&["2001:db8:1::/64"]), ["2001:db8::9/128", "2001:db8:1::/64"]);
}

#[test]
fn clients_outside_are_spread_over_the_same_back_ends_by_every_node() {
    let value = Service {
        maglev: true,
        ..service_value("10.96.0.1 fd96::1", &[("http", TCP, 80), ("dns", UDP, 53)])
    };
    let endpoint = |address: &str, node: &str, state: &str| {
        let mut endpoint = endpoint(address, state);
        endpoint.node = Some(node.into());
        endpoint.hints = Some(Hints { for_nodes: vec![node.into()], for_zones: Vec::new() }.into());
        endpoint
    };
    let everywhere = |node: &str, endpoints: &[tortie_model::service::Endpoint]| {
        let objects = [
            Object::Service(Change { key: service_id("shop/web"), value: Some(value.clone().into()) }),
            slice_of_web("shop/web-4", endpoints.to_vec()),
        ];
        let state = Driver::with(node, &objects).state();
        let port = port_of(&state, "shop/web", "http", TCP);
        assert!(port.maglev);
        let of = |v6| port.everywhere(v6).map(|b| b.address.to_string()).collect::<Vec<_>>();
        [of(false), of(true)].concat()
    };
    let all = [
        endpoint("10.0.1.2", "n2", "rs"),
        endpoint("10.0.1.1", "n1", "rs"),
        endpoint("fd00::1", "n1", "st"),
        endpoint("10.0.1.3", "n3", "st"),
        endpoint("10.0.1.4", "n3", ""),
    ];
    for node in ["n1", "n2", "n3"] {
        // Hints would leave each node its own; what terminates is used only in a family where nothing is ready.
        assert_eq!(everywhere(node, &all), ["10.0.1.1", "10.0.1.2", "fd00::1"], "{node}");
        assert_eq!(everywhere(node, &all[2..]), ["10.0.1.3", "fd00::1"], "{node}");
    }
}

#[test]
fn a_health_check_counts_the_ready_endpoints_of_this_node_once_in_each_family() {
    let mut driver = Driver::new("n1");
    let value = Service {
        service_type: ServiceType::LoadBalancer,
        external_traffic_policy: TrafficPolicy::Local,
        health_check_port: Some(30_100),
        ..service_value("10.96.0.1", &[("http", TCP, 80), ("dns", UDP, 53)])
    };
    let key = service_id("shop/web");
    let mut elsewhere = endpoint("10.0.2.1", "rs");
    elsewhere.node = Some("n2".into());
    driver.step(&[Object::Service(Change { key: key.clone(), value: Some(value.into()) })]);
    let counted = |driver: &mut Driver| driver.calc.take_health_checks().map(|all| all.get(&key).copied());
    let check = |v4| Some(Some(HealthCheck { port: 30_100, v4: Some(v4), v6: None }));
    assert_eq!(counted(&mut driver), check(0));
    driver.step(&[slice_of_web("shop/web-4", vec![elsewhere.clone()])]);
    assert_eq!(counted(&mut driver), None, "nothing has changed here");
    let here = [endpoint("10.0.1.1", "rs"), endpoint("10.0.1.2", "st"), elsewhere];
    driver.step(&[slice_of_web("shop/web-4", here.to_vec())]);
    assert_eq!(counted(&mut driver), check(1), "who terminates or is elsewhere does not count");
    driver.step(&[Object::Service(Change { key: key.clone(), value: None })]);
    assert_eq!(counted(&mut driver), Some(None));
}

#[test]
fn the_state_of_an_endpoint_decides_whether_it_is_used() {
    let endpoints = vec![
        endpoint("10.0.1.1", "rs"),
        endpoint("10.0.1.2", "st"),
        endpoint("10.0.1.3", "s"),
        endpoint("10.0.1.4", "t"),
    ];
    let state = expand(&[web(), slice_of_web("shop/w", endpoints)]);
    let http = port_of(&state, "shop/web", "http", TCP);
    assert_eq!(
        backends(http),
        [
            "10.0.1.1:8080 Ready",
            "10.0.1.2:8080 ServingTerminating",
            "10.0.1.3:8080 NotReady",
            "10.0.1.4:8080 NotReady"
        ]
    );
    assert_eq!(http.used(false).count(), 1);
    let state = expand(&[web(), slice_of_web("shop/w", vec![endpoint("10.0.1.2", "st")])]);
    assert_eq!(port_of(&state, "shop/web", "http", TCP).used(false).count(), 1, "nothing better is there");
}

#[test]
fn publish_not_ready_counts_every_endpoint_as_ready() {
    let Object::Service(mut change) = web() else { unreachable!("a service") };
    if let Some(value) = change.value.as_mut().map(Arc::make_mut) {
        value.publish_not_ready = true;
        value.internal_traffic_policy = TrafficPolicy::Local;
    }
    let state = expand(&[Object::Service(change), slice_of_web("shop/w", vec![endpoint("10.0.1.4", "")])]);
    let http = port_of(&state, "shop/web", "http", TCP);
    assert_eq!(backends(http), ["10.0.1.4:8080 Ready"]);
    assert!(http.internal_local);
}

#[test]
fn an_endpoint_in_several_slices_is_one_back_end_and_the_best_word_counts() {
    let state = expand(&[
        web(),
        slice_of_web("shop/w1", vec![endpoint("10.0.1.1", "s"), endpoint("10.0.1.2", "rs")]),
        slice_of_web("shop/w2", vec![endpoint("10.0.1.1", "rs"), endpoint("10.0.1.2", "st")]),
    ]);
    let http = port_of(&state, "shop/web", "http", TCP);
    assert_eq!(backends(http), ["10.0.1.1:8080 Ready", "10.0.1.2:8080 Ready"]);
    assert!(http.backends.iter().all(|backend| backend.local));
}

#[test]
fn slices_may_come_before_their_service_and_change_it() {
    let slices = [
        slice_of_web("shop/w", vec![endpoint("10.0.1.1", "rs")]),
        slice("shop/w", "shop/api", &[("", TCP, 9000)], vec![endpoint("10.0.1.1", "rs")]),
    ];
    let state = expand(&[
        slices[0].clone(),
        slices[1].clone(),
        web(),
        service("shop/api", "10.96.0.2", &[("", TCP, 443)]),
    ]);
    assert!(port_of(&state, "shop/web", "http", TCP).backends.is_empty());
    assert_eq!(backends(port_of(&state, "shop/api", "", TCP)), ["10.0.1.1:9000 Ready"]);
    assert!(expand(&slices).services.is_empty(), "slices of no Service say nothing");
}

#[test]
fn a_service_without_endpoints_is_said_so_that_it_can_refuse() {
    assert_eq!(port_of(&expand(&[web()]), "shop/web", "http", TCP).used(false).count(), 0);
}

#[test]
fn addresses_that_lead_to_the_node_or_to_nobody_are_refused_and_reported() {
    let bad = ["127.0.0.1", "169.254.1.1", "224.0.0.1", "0.0.0.0", "255.255.255.255"];
    let bad = bad.into_iter().chain(["::1", "fe80::1", "ff02::1", "::", "::ffff:127.0.0.1"]);
    let endpoints: Vec<_> = bad.chain(["10.0.1.1"]).map(|address| endpoint(address, "rs")).collect();
    let state = expand(&[web(), slice_of_web("shop/w", endpoints)]);
    assert_eq!(backends(port_of(&state, "shop/web", "http", TCP)), ["10.0.1.1:8080 Ready"]);
    assert_eq!(state.conflicts.len(), 10);
    let (what, who) = state.conflicts.first_key_value().expect("reported");
    assert_eq!(
        format!("{what}: {}", what.explain(who)),
        "back end 0.0.0.0 of Service shop/web: refused: no pod can have this address (endpoints[].addresses of EndpointSlice shop/w); remove it there, the other endpoints are in force"
    );
}

#[test]
fn a_front_end_that_two_services_claim_belongs_to_one_and_the_other_is_reported() {
    let rival = service("shop/xeb", "10.96.0.1", &[("", TCP, 80), ("alt", TCP, 81)]);
    let state = expand(&[web(), rival.clone()]);
    assert_eq!(frontends(port_of(&state, "shop/web", "http", TCP)).len(), 2);
    assert!(frontends(port_of(&state, "shop/xeb", "", TCP)).is_empty());
    assert_eq!(frontends(port_of(&state, "shop/xeb", "alt", TCP)).len(), 1, "the rest of it is unharmed");
    assert_eq!(state.conflicts.len(), 1);

    let mut driver = Driver::with("n1", &[web(), rival]);
    driver.step(&[gone(&web()).expect("an object")]);
    assert_eq!(frontends(port_of(&driver.state(), "shop/xeb", "", TCP)).len(), 1);
    assert!(driver.state().conflicts.is_empty());
}

#[test]
fn a_port_that_is_renamed_lets_its_front_end_go_before_the_new_one_takes_it() {
    let mut driver = Driver::with("n1", &[service("shop/s", "10.96.0.1", &[("old", TCP, 80)])]);
    let said = driver.step(&[service("shop/s", "10.96.0.1", &[("new", TCP, 80)])]);
    assert!(matches!(said.as_slice(), [Intent::Service(_, None), Intent::Service(_, Some(_))]), "{said:?}");
}

#[test]
fn of_two_services_with_one_front_end_the_older_has_it_whatever_they_are_called() {
    let made = |id: &str, created| {
        let value = Service { created, ..service_value("10.96.0.1", &[("http", TCP, 80)]) };
        Object::Service(Change { key: service_id(id), value: Some(value.into()) })
    };
    let holders = |objects: &[Object]| {
        let state = expand(objects);
        let held = state.services.iter().filter(|(_, port)| !port.frontends.is_empty());
        held.map(|(id, _)| id.service.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(holders(&[made("a/new", 200), made("b/old", 100)]), ["b/old"]);
    assert_eq!(holders(&[made("b/old", 100), made("a/new", 200)]), ["b/old"]);
    assert_eq!(holders(&[made("a/same", 100), made("b/same", 100)]), ["a/same"]);
    // Deleted and made anew within one batch, it is the younger one.
    let mut driver = Driver::with("n1", &[made("a/first", 100), made("b/second", 200)]);
    let gone = Object::Service(Change { key: service_id("a/first"), value: None });
    driver.step(&[gone, made("a/first", 300)]);
    let held = |driver: &Driver, id: &str| !port_of(&driver.state(), id, "http", TCP).frontends.is_empty();
    assert_eq!((held(&driver, "a/first"), held(&driver, "b/second")), (false, true));
}

#[test]
fn nobody_takes_another_services_cluster_ip_by_writing_it_elsewhere_however_old_he_is() {
    let made = |id: &str, created, value: Service| {
        let value = Service { created, ..value };
        Object::Service(Change { key: service_id(id), value: Some(value.into()) })
    };
    let own = made("z/young", 300, service_value("10.96.0.9", &[("", TCP, 80)]));
    let mut doors = service_value("10.96.0.1", &[("", TCP, 80)]);
    doors.ports[0].node_port = 80;
    let elsewhere = [
        Service { external_ips: ips("10.96.0.9"), ..service_value("10.96.0.1", &[("", TCP, 80)]) },
        Service { ingress_ips: ips("10.96.0.9"), ..service_value("10.96.0.1", &[("", TCP, 80)]) },
        // The address is one of the node's, too.
        doors,
    ];
    for (index, thief) in elsewhere.into_iter().enumerate() {
        let thief = made("a/old", 100, thief);
        let here = node("n1", "10.96.0.9", "10.0.1.0/24");
        let all = [thief, own.clone(), here];
        for mut objects in [all.clone(), [all[1].clone(), all[2].clone(), all[0].clone()]] {
            let state = expand(&objects);
            let young = frontends(port_of(&state, "z/young", "", TCP));
            assert_eq!(young.iter().map(|it| it.address).collect::<Vec<_>>(), ips("10.96.0.9"), "{index}");
            let old = frontends(port_of(&state, "a/old", "", TCP));
            assert!(old.iter().any(|it| it.address == ip("10.96.0.1")), "{index}: the rest is unharmed");
            let (what, who) = state.conflicts.first_key_value().expect("reported");
            assert_eq!(what.reason(), Some("FrontendTaken"));
            assert_eq!(who.winner, Some(ObjectId::Service(service_id("z/young"))), "{index}");
            assert_eq!(who.losers, [ObjectId::Service(service_id("a/old"))], "{index}");
            objects.reverse();
            // In a cluster where the thief was first, the address changes hands.
            let mut driver = Driver::with("n1", &objects[..2]);
            driver.step(&objects[2..]);
            assert_eq!(driver.state().services, state.services, "{index}");
        }
    }
}

#[test]
fn ten_thousand_endpoints_of_one_service_are_all_back_ends_and_a_change_of_one_costs_one_join() {
    let endpoints = |ready: &str| -> Vec<_> {
        let one = |n: u32| endpoint(&format!("10.{}.{}.{}", 1 + (n >> 16), n >> 8 & 255, n & 255), "rs");
        (0..10_000).map(one).chain([endpoint("10.9.9.9", ready)]).collect()
    };
    let mut driver = Driver::with("n1", &[web(), slice_of_web("shop/web-1", endpoints("rs"))]);
    let usable = |driver: &Driver| port_of(&driver.state(), "shop/web", "http", TCP).used(false).count();
    assert_eq!(usable(&driver), 10_001);
    let before = driver.calc.work().services;
    driver.step(&[slice_of_web("shop/web-1", endpoints("s"))]);
    assert_eq!((usable(&driver), driver.calc.work().services - before), (10_000, 1));
}

#[test]
fn two_services_that_swap_addresses_in_one_batch_never_share_one() {
    let one = |address| service("shop/a", address, &[("", TCP, 80)]);
    let two = |address| service("shop/b", address, &[("", TCP, 80)]);
    let mut driver = Driver::with("n1", &[one("10.96.0.1"), two("10.96.0.2")]);
    driver.step(&[one("10.96.0.2"), two("10.96.0.1")]);
    assert_eq!(frontends(port_of(&driver.state(), "shop/a", "", TCP))[0].address, ip("10.96.0.2"));
}

#[test]
fn one_port_number_for_two_protocols_is_no_conflict() {
    let state = expand(&[service("shop/dns", "10.96.0.10", &[("udp", UDP, 53), ("tcp", TCP, 53)])]);
    assert!(state.conflicts.is_empty());
    assert_eq!(state.services.len(), 2);
}

#[test]
fn the_outside_has_node_ports_external_and_load_balancers_addresses_of_the_services_families() {
    let mut value = service_value("10.96.0.1", &[("http", TCP, 80)]);
    value.ports[0].node_port = 30_080;
    value.external_ips = ips("198.51.100.1 2001:db8::1");
    value.ingress_ips = ips("203.0.113.1 198.51.100.1");
    let object =
        |value: Service| Object::Service(Change { key: service_id("shop/web"), value: Some(value.into()) });
    let state = expand(&[object(value.clone())]);
    let scopes = |state: &State| -> Vec<String> {
        let frontends = &port_of(state, "shop/web", "http", TCP).frontends;
        frontends.iter().map(|(f, scope)| format!("{}:{} {scope:?}", f.address, f.port)).collect()
    };
    let v4 = [
        "0.0.0.0:30080 NodePort",
        "10.96.0.1:80 Cluster",
        "198.51.100.1:80 External",
        "203.0.113.1:80 LoadBalancer",
    ];
    assert_eq!(scopes(&state), v4);
    value.cluster_ips = ips("10.96.0.1 fd96::1");
    let v6 = [":::30080 NodePort", "2001:db8::1:80 External", "fd96::1:80 Cluster"];
    assert_eq!(scopes(&expand(&[object(value)])), [&v4[..], &v6[..]].concat());
}

#[test]
fn a_change_of_one_slice_says_one_service_port() {
    let only_http = |endpoints| slice("shop/w", "shop/web", &[("http", TCP, 8080)], endpoints);
    let mut driver = Driver::with("n1", &[web(), only_http(vec![endpoint("10.0.1.1", "rs")])]);
    let said = driver.step(&[only_http(vec![endpoint("10.0.1.1", "rs"), endpoint("10.0.1.2", "rs")])]);
    assert!(matches!(said.as_slice(), [Intent::Service(of, Some(_))] if of.port == "http"), "{said:?}");
}

#[test]
fn slices_of_a_service_that_is_not_there_are_reported_until_it_comes() {
    let slices = [
        slice_of_web("shop/w1", vec![endpoint("10.0.1.1", "rs")]),
        slice_of_web("shop/w2", vec![endpoint("10.0.1.2", "rs")]),
    ];
    let state = expand(&slices);
    let (what, who) = state.conflicts.first_key_value().expect("reported");
    assert_eq!(
        format!("{what}: {}", what.explain(who)),
        "Service shop/web: is not known, but EndpointSlice shop/w1, EndpointSlice shop/w2 would serve it; \
         create the Service, correct it if it is rejected, or remove the slice"
    );
    assert_eq!(state.conflicts.len(), 1);

    let mut driver = Driver::with("n1", &slices);
    driver.step(&[web()]);
    assert!(driver.state().conflicts.is_empty());
    driver.step(&[gone(&web()).expect("an object")]);
    assert_eq!(driver.state().conflicts.len(), 1);
    slices.iter().for_each(|slice| _ = driver.step(&[gone(slice).expect("an object")]));
    assert!(driver.state().conflicts.is_empty());
}

#[test]
fn slices_of_a_service_that_serves_nothing_here_are_no_orphans() {
    let headless = Object::Service(tortie_model::Change {
        key: service_id("shop/web"),
        value: Some(tortie_model::service::Service::default().into()),
    });
    let state = expand(&[headless, slice_of_web("shop/w", vec![endpoint("10.0.1.1", "rs")])]);
    assert!(state.conflicts.is_empty() && state.services.is_empty(), "{state:?}");
}

/// An endpoint with hints: `node=n1`, `zone=a`, several separated by blanks.
fn hinted(address: &str, hints: &str) -> tortie_model::service::Endpoint {
    let of = |kind: &str| -> Vec<String> {
        hints.split_whitespace().filter_map(|hint| hint.strip_prefix(kind)).map(String::from).collect()
    };
    let mut made = endpoint(address, "rs");
    let for_nodes = of("node=").iter().map(|name| name.as_str().into()).collect();
    let for_zones = of("zone=").into_iter().map(Into::into).collect();
    made.hints = Some(Hints { for_nodes, for_zones }.into());
    made
}

fn node_in(zone: &str) -> Object {
    let labels = [("topology.kubernetes.io/zone".to_owned(), zone.to_owned())].into_iter().collect();
    let value = tortie_model::node::Node { labels, ..Default::default() };
    Object::Node(tortie_model::Change { key: "n1".into(), value: Some(value.into()) })
}

fn chosen(objects: &[Object]) -> Vec<String> {
    let state = expand(objects);
    let http = port_of(&state, "shop/web", "http", TCP);
    http.used(false).map(|backend| backend.address.to_string()).collect()
}

#[test]
fn hints_lead_to_the_own_node_else_to_the_own_zone_and_count_only_when_complete() {
    let with = |first: &str, second: &str| {
        let endpoints = vec![hinted("10.0.1.1", first), hinted("10.0.1.2", second)];
        chosen(&[web(), node_in("a"), slice_of_web("shop/w", endpoints)])
    };
    assert_eq!(with("zone=a", "zone=b"), ["10.0.1.1"]);
    assert_eq!(with("zone=a", "zone=a zone=b"), ["10.0.1.1", "10.0.1.2"]);
    assert_eq!(with("node=n2 zone=a", "node=n1 zone=b"), ["10.0.1.2"], "the node goes first");
    assert_eq!(with("node=n2 zone=a", "node=n3 zone=b"), ["10.0.1.1"], "none for this node");
    assert_eq!(with("zone=a", "").len(), 2, "one has no hint");
    assert_eq!(with("zone=b", "zone=c").len(), 2, "none for this zone");
}

#[test]
fn hints_follow_the_nodes_own_zone_and_leave_node_local_traffic_alone() {
    let endpoints = vec![hinted("10.0.1.1", "zone=b"), hinted("10.0.1.2", "zone=c")];
    let mut driver = Driver::with("n1", &[web(), slice_of_web("shop/w", endpoints)]);
    let used = |driver: &Driver| {
        let state = driver.state();
        let http = port_of(&state, "shop/web", "http", TCP);
        let all: Vec<String> = http.used(false).map(|b| b.address.to_string()).collect();
        let chosen = http.chosen(false);
        (all, chosen.local_only.len() + chosen.local.len())
    };
    assert_eq!(used(&driver).0.len(), 2, "the node has no zone");
    driver.step(&[node_in("b")]);
    assert_eq!(used(&driver), (vec!["10.0.1.1".to_owned()], 2));
    driver.step(&[node_in("c")]);
    assert_eq!(used(&driver), (vec!["10.0.1.2".to_owned()], 2));
}

#[test]
fn while_no_local_endpoint_is_ready_node_local_traffic_has_those_that_terminate() {
    let mut far = endpoint("10.0.1.2", "rs");
    far.node = Some("n2".into());
    let state = expand(&[web(), slice_of_web("shop/w", vec![endpoint("10.0.1.1", "st"), far])]);
    let chosen = port_of(&state, "shop/web", "http", TCP).chosen(false);
    let names = |list: &[&tortie_intent::Backend]| -> Vec<String> {
        list.iter().map(|backend| backend.address.to_string()).collect()
    };
    assert_eq!(names(&chosen.local_only), ["10.0.1.1"]);
    assert_eq!(names(&chosen.remote), ["10.0.1.2"]);
    assert!(chosen.local.is_empty());
}

#[test]
fn the_service_of_the_api_server_keeps_its_last_back_end_until_there_is_another() {
    let service = service("default/kubernetes", "10.96.0.1", &[("https", TCP, 443)]);
    let slice_with =
        |endpoints| slice("default/kubernetes", "default/kubernetes", &[("https", TCP, 6443)], endpoints);
    let with = slice_with(vec![endpoint("192.0.2.1", "rs")]);
    for without in [slice_with(vec![]), gone(&with).expect("an object")] {
        let mut driver = Driver::with("n1", &[service.clone(), with.clone()]);
        assert_eq!(driver.step(&[without]), [], "nothing is said");
        let kept = driver.state();
        assert_eq!(backends(port_of(&kept, "default/kubernetes", "https", TCP)), ["192.0.2.1:6443 Ready"]);
        driver.step(&[slice_with(vec![endpoint("192.0.2.2", "rs")])]);
        let moved = driver.state();
        assert_eq!(backends(port_of(&moved, "default/kubernetes", "https", TCP)), ["192.0.2.2:6443 Ready"]);
        driver.step(&[gone(&service).expect("an object")]);
        assert!(driver.state().services.is_empty(), "a Service that is gone keeps nothing");
    }
}

#[test]
fn what_is_known_of_endpoints_that_nobody_is_led_to_says_why() {
    let with = [
        web(),
        node_in("a"),
        slice_of_web("shop/a", vec![hinted("10.0.1.1", "zone=a"), hinted("10.0.1.2", "zone=b")]),
        slice("shop/b", "shop/web", &[("htp", TCP, 8080)], vec![endpoint("10.0.1.3", "rs")]),
        slice("shop/c", "shop/web", &[("htp", TCP, 8080)], vec![endpoint("fd00::3", "rs")]),
        service("shop/none", "", &[]),
    ];
    let calc = Driver::with("n1", &with).calc;
    let known = calc.known_endpoints();
    let of_http = known.iter().filter(|it| it.id.port == "http");
    let mut told: Vec<_> = of_http.map(|it| (it.address, it.elsewhere, it.misnamed)).collect();
    told.sort_unstable();
    // The port has endpoints of IPv4, and none of IPv6.
    let expected = [("10.0.1.1", false, false), ("10.0.1.2", true, false), ("fd00::3", false, true)];
    assert_eq!(told, expected.map(|(address, elsewhere, misnamed)| (ip(address), elsewhere, misnamed)));
    let services = calc.known_services();
    let told: Vec<_> = services.iter().map(|it| (&*it.id.name, it.service_type)).collect();
    assert_eq!(told, [("none", None), ("web", Some(ServiceType::ClusterIp))]);
}

#[test]
fn slices_that_are_split_by_port_are_no_defect_and_a_port_that_no_slice_has_is() {
    let two = service("shop/two", "10.96.0.2", &[("a", TCP, 80), ("b", TCP, 81)]);
    let of = |name: &str, ports: &[(&str, Transport, u16)], address: &str| {
        slice(name, "shop/two", ports, vec![endpoint(address, "rs")])
    };
    let told = |slices: &[Object]| {
        let calc = Driver::with("n1", &[std::slice::from_ref(&two), slices].concat()).calc;
        let row = |it: &KnownEndpoint| (it.id.port.clone(), it.address.to_string(), it.port, it.misnamed);
        let mut rows: Vec<_> = calc.known_endpoints().iter().map(row).collect();
        rows.sort_unstable();
        rows
    };
    let row = |port: &str, address: &str, number, misnamed| (port.into(), address.into(), number, misnamed);
    let split = [
        of("shop/1", &[("a", TCP, 8080)], "10.0.1.1"),
        of("shop/2", &[("b", TCP, 8081), ("zz", TCP, 8001)], "10.0.1.2"),
    ];
    assert_eq!(told(&split), [row("a", "10.0.1.1", 8080, false), row("b", "10.0.1.2", 8081, false)]);
    // As the controller makes them where no container has a port of the name that targetPort says.
    let nameless = [of("shop/1", &[], "10.0.1.1")];
    assert_eq!(told(&nameless), [row("a", "10.0.1.1", 0, true), row("b", "10.0.1.1", 0, true)]);
    let one = [of("shop/1", &[("a", TCP, 8080)], "10.0.1.1")];
    assert_eq!(told(&one), [row("a", "10.0.1.1", 8080, false), row("b", "10.0.1.1", 0, true)]);
    let other = [of("shop/1", &[("a", TCP, 8080), ("bb", TCP, 8081)], "10.0.1.1")];
    assert_eq!(told(&other)[1], row("b", "10.0.1.1", 8081, true));
}
