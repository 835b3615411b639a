//! Rows as people see them, from the state that real packet journeys leave behind.

use std::collections::BTreeMap;
use std::net::IpAddr;
use tortie_abi::counter::{Counter, CounterKey};
use tortie_abi::settings::{Settings, flags};
use tortie_abi::{DropReason, Hook};
use tortie_datapath::kernel::Table;
use tortie_observe::drops::PlaceNames;
use tortie_observe::names::{EndpointName, Matches, Names, ProgramName, RuleName, ServiceName};
use tortie_observe::{Snapshot, conntrack, counters, drops, endpoints, explain, policy, routes, services};
use tortie_sim::Node;
use tortie_sim::world::World;
use tortie_testkit::packet::PacketBuilder;
use tortie_wire::tcp::TcpFlags;
use zerocopy::{FromBytes, FromZeros};

fn flows<K: FromBytes, V>(entries: BTreeMap<Vec<u8>, V>) -> Vec<(K, V)> {
    entries.into_iter().map(|(k, v)| (K::read_from_bytes(&k).unwrap(), v)).collect()
}

fn typed<K: FromBytes, V: Copy>(sorted: BTreeMap<&[u8], &V>) -> Vec<(K, V)> {
    sorted.into_iter().map(|(k, v)| (K::read_from_bytes(k).unwrap(), *v)).collect()
}

fn snapshot(node: &Node) -> Snapshot {
    Snapshot {
        flow4: flows(node.v4.entries(Table::Main)),
        flow6: flows(node.v6.entries(Table::Main)),
        half_open4: flows(node.v4.entries(Table::HalfOpen)),
        half_open6: flows(node.v6.entries(Table::HalfOpen)),
        endpoints: node.endpoint.borrow().clone(),
        next_hops: node.next_hop.borrow().clone(),
        frontend4: typed(node.v4.frontend.borrow().sorted()),
        frontend6: typed(node.v6.frontend.borrow().sorted()),
        backend4: typed(node.v4.backend.borrow().sorted()),
        backend6: typed(node.v6.backend.borrow().sorted()),
        rule_counters: node.rule_counter.borrow().clone(),
        counters: node
            .counter
            .borrow()
            .iter()
            .map(|((ifindex, hook, reason), c)| {
                (CounterKey { ifindex: *ifindex, hook: *hook, reason: *reason }, *c)
            })
            .collect(),
        settings: Some(node.settings.get()),
        now_nanos: node.now_nanos.get(),
        ..Snapshot::default()
    }
}

fn names() -> Names {
    let endpoint = |name: &str| EndpointName {
        namespace: "shop".into(),
        name: name.into(),
        interface: format!("cali-{name}"),
    };
    Names {
        node: "node1".into(),
        endpoints: [(0, endpoint("a")), (1, endpoint("b"))].into(),
        services: [(1, ServiceName { namespace: "shop".into(), name: "web".into(), port: "http".into() })]
            .into(),
        rules: [(
            1,
            RuleName {
                tier: "default".into(),
                policy: "NetworkPolicy shop/web".into(),
                rule: 0,
                direction: "ingress".into(),
                action: "allow".into(),
                matches: Matches { peers: vec!["pods app=front".into()], ports: vec!["TCP/80".into()] },
            },
        )]
        .into(),
        programs: [(
            0,
            ProgramName {
                rules: vec![1],
                default: "deny".into(),
                policies: vec!["NetworkPolicy shop/web".into()],
            },
        )]
        .into(),
        interfaces: [(100, "cali-a".to_owned())].into(),
        ..Names::default()
    }
}

#[test]
fn a_service_flow_is_one_row_with_client_service_and_back_end() {
    for v6 in [false, true] {
        let mut world = World::new(1);
        let (a, b) = (world.add_pod("a", 0), world.add_pod("b", 0));
        let of = |p: &tortie_sim::world::Pod| if v6 { IpAddr::V6(p.v6) } else { IpAddr::V4(p.v4) };
        let vip: IpAddr = if v6 { "fd00:96::1".parse().unwrap() } else { "10.96.0.1".parse().unwrap() };
        world.add_service(vip, 80, 6, &[(of(&b), 8080)]);
        world.set_policy(&b, true, |_| tortie_abi::policy::Verdict::Allow);
        let tcp = |from, sp, to, dp, flags| PacketBuilder::ip(from, to).tcp(sp, dp).flags(flags).build();
        let syn_ack = TcpFlags::SYN.union(TcpFlags::ACK);
        let _ = world.send(&a, tcp(of(&a), 40000, vip, 80, TcpFlags::SYN));
        let rows = conntrack::rows(&snapshot(&world.nodes[0]), &names());
        assert_eq!((rows.len(), rows[0].state), (1, "syn-sent"));
        assert_eq!(rows[0].flags, ["service", "half-open"]);
        let _ = world.send(&b, tcp(of(&b), 8080, of(&a), 40000, syn_ack));
        let _ = world.send(&a, tcp(of(&a), 40000, vip, 80, TcpFlags::ACK));
        world.nodes[0].advance_millis(10_000);
        let rows = conntrack::rows(&snapshot(&world.nodes[0]), &names());
        assert_eq!(rows.len(), 1);
        let row = &rows[0];
        assert_eq!((row.client.address, row.client.port), (of(&a), 40000));
        assert_eq!((row.server.address, row.server.port), (vip, 80));
        assert_eq!(row.backend.as_ref().map(|b| (b.address, b.port)), Some((of(&b), 8080)));
        assert_eq!(row.service.as_deref(), Some("shop/web"));
        assert_eq!((row.state, row.forward.packets, row.reverse.packets), ("established", 2, 1));
        assert!((9.9..10.2).contains(&row.idle_seconds), "{}", row.idle_seconds);
        assert!((3589.0..3591.0).contains(&row.expires_seconds), "{}", row.expires_seconds);
    }
}

#[test]
fn a_flow_that_is_answered_directly_names_its_service_on_the_back_ends_node() {
    let mut world = World::new(2);
    let c = world.add_pod("c", 1);
    let (client, vip) = (std::net::Ipv4Addr::new(192, 0, 2, 7), std::net::Ipv4Addr::new(10, 96, 0, 1));
    world.add_service(vip.into(), 53, 17, &[(c.v4.into(), 5353)]);
    for node in &world.nodes {
        let mut settings = node.settings.get();
        settings.flags |= tortie_abi::settings::flags::DIRECT_RETURN;
        node.settings.set(settings);
    }
    let _ = world.arrive(0, PacketBuilder::ipv4(client, vip).udp(40000, 53).build());
    let _ = world.send(&c, PacketBuilder::ipv4(c.v4, client).udp(5353, 40000).build());
    let rows = conntrack::rows(&snapshot(&world.nodes[1]), &names());
    assert_eq!(rows.len(), 1, "{rows:?}");
    let row = &rows[0];
    assert_eq!((row.server.address, row.server.port), (vip.into(), 53));
    assert_eq!(row.backend.as_ref().map(|b| (b.address, b.port)), Some((c.v4.into(), 5353)));
    assert_eq!((row.service.as_deref(), row.reverse.packets), (Some("shop/web"), 1));
    assert!(row.flags.contains(&"direct"), "{:?}", row.flags);
}

#[test]
fn hairpin_and_moved_ports_find_their_other_direction() {
    let mut world = World::new(1);
    let a = world.add_pod("a", 0);
    world.add_service("10.96.0.1".parse().unwrap(), 53, 17, &[(a.v4.into(), 53)]);
    let frame = PacketBuilder::ipv4(a.v4, "10.96.0.1".parse().unwrap()).udp(999, 53).build();
    let there = world.send(&a, frame);
    let (node4, _) = World::node_addresses(0);
    let _ = world.send(&a, PacketBuilder::ipv4(a.v4, node4).udp(53, 999).build());
    assert_eq!(there.landed, tortie_sim::world::Landed::Pod("a".into()));
    let rows = conntrack::rows(&snapshot(&world.nodes[0]), &names());
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((rows[0].state, rows[0].reverse.packets), ("established", 1));
    assert!(rows[0].flags.contains(&"hairpin"));
}

#[test]
fn policy_lists_rules_in_order_with_hits_and_says_what_ends_the_list() {
    let mut world = World::new(1);
    let (a, b) = (world.add_pod("a", 0), world.add_pod("b", 0));
    world.set_policy(&b, true, |_| tortie_abi::policy::Verdict::Allow);
    let _ = world.send(&a, PacketBuilder::ipv4(a.v4, b.v4).udp(1, 2).build());
    let rows = policy::rows(&snapshot(&world.nodes[0]), &names());
    let of_b: Vec<_> = rows.iter().filter(|r| r.endpoint == "shop/b" && r.direction == "ingress").collect();
    assert_eq!(of_b.len(), 2);
    assert_eq!((of_b[0].policy.as_str(), of_b[0].packets), ("NetworkPolicy shop/web", Some(1)));
    assert_eq!((of_b[1].policy.as_str(), of_b[1].action.as_str()), ("end of the list", "deny"));
    // Nobody counts by endpoint what ingress denies, which is not nothing.
    assert_eq!((of_b[1].packets, serde_json::to_value(of_b[1]).unwrap().get("packets")), (None, None));
    let json = serde_json::to_value(of_b[0]).unwrap();
    assert_eq!(json["matches"], serde_json::json!({"peers": ["pods app=front"], "ports": ["TCP/80"]}));
    assert_eq!(of_b[1].matches, None, "no rule of a policy");
    assert!(rows.iter().any(|r| r.endpoint == "shop/a" && r.policy == "no policy selects it"));
    let listed = endpoints::rows(&snapshot(&world.nodes[0]), &names());
    assert_eq!(listed[1].programs.to_workload.id, Some(0));
    assert!(listed.iter().all(|e| e.ready));
}

#[test]
fn the_end_of_an_egress_list_has_what_it_denied_where_no_rule_can_have() {
    let mut world = World::new(1);
    let (a, b) = (world.add_pod("a", 0), world.add_pod("b", 0));
    world.set_policy(&a, false, |_| tortie_abi::policy::Verdict::Deny);
    let end = |snapshot: &Snapshot, names: &Names| {
        let rows = policy::rows(snapshot, names);
        let end = rows.iter().find(|r| r.endpoint == "shop/a" && r.policy == "end of the list").unwrap();
        end.packets
    };
    assert_eq!(end(&snapshot(&world.nodes[0]), &names()), Some(0));
    let _ = world.send(&a, PacketBuilder::ipv4(a.v4, b.v4).udp(1, 2).build());
    let _ = world.send(&b, PacketBuilder::ipv4(b.v4, a.v4).udp(1, 2).build());
    assert_eq!(end(&snapshot(&world.nodes[0]), &names()), Some(1));
    let mut denying = names();
    denying.rules.get_mut(&1).unwrap().action = "deny".into();
    assert_eq!(end(&snapshot(&world.nodes[0]), &denying), None);
}

#[test]
fn drops_are_counted_with_names_and_every_reason_is_explained() {
    let snapshot = Snapshot {
        counters: vec![(
            CounterKey {
                ifindex: 100,
                hook: Hook::FromWorkload as u16,
                reason: DropReason::SourceSpoofed as u16,
            },
            Counter { packets: 3, bytes: 120 },
        )],
        ..Snapshot::default()
    };
    let rows = counters::rows(&snapshot, &names());
    assert_eq!((rows[0].interface.as_str(), rows[0].hook.as_str()), ("cali-a", "from-workload"));
    assert_eq!((rows[0].reason.as_str(), rows[0].packets), ("source-spoofed", 3));
    let gone = counters::rows(&snapshot, &Names::default());
    assert_eq!((gone[0].interface.as_str(), gone[0].ifindex), ("ifindex 100", 100));
    assert_eq!(Names::default().interface(0), "-", "a socket's");
    for reason in DropReason::ALL {
        assert!(explain::reason(*reason).ends_with('.'), "{reason:?}");
    }
}

#[test]
fn services_show_front_ends_and_back_ends_by_name() {
    let mut world = World::new(1);
    let b = world.add_pod("b", 0);
    world.add_service("10.96.0.1".parse().unwrap(), 80, 6, &[(b.v4.into(), 8080)]);
    let rows = services::rows(&snapshot(&world.nodes[0]), &names());
    assert_eq!(
        (rows[0].namespace.as_str(), rows[0].name.as_str(), rows[0].port.as_str()),
        ("shop", "web", "http")
    );
    assert_eq!(rows[0].endpoints[0].address, IpAddr::V4(b.v4));
    assert!(routes::rows(&Snapshot::default(), &names()).is_empty());
}

#[test]
fn a_back_end_that_only_node_local_traffic_may_use_is_used_where_there_is_such_traffic() {
    use tortie_abi::service::{Frontend, flags};
    let address = |last: u8| (IpAddr::from([10, 9, 9, last]), 8080);
    // On this node one that terminates and one that is ready; one elsewhere.
    let ends = [address(1), address(2), address(3)];
    let used = |flags: u32| {
        let mut world = World::new(1);
        let service = world.new_service();
        let frontend =
            Frontend { service, first: 1, backends: 2, local_backends: 2, flags, ..Frontend::default() };
        world.set_frontend(0, (IpAddr::from([10, 96, 0, 1]), 80, 6), frontend, &ends);
        let rows = services::rows(&snapshot(&world.nodes[0]), &names());
        rows[0].endpoints.iter().map(|e| (e.address, e.port)).collect::<Vec<_>>()
    };
    assert_eq!(used(0), ends[1..]);
    assert_eq!(used(flags::INTERNAL_LOCAL), ends[..2]);
    assert_eq!(used(flags::EXTERNAL), ends[1..]);
    assert_eq!(
        used(flags::EXTERNAL | flags::INTERNAL_LOCAL),
        ends[1..],
        "that policy is of other front ends"
    );
    assert_eq!(used(flags::EXTERNAL | flags::EXTERNAL_LOCAL), ends, "clients inside meet no policy there");
}

#[test]
fn a_flow_by_a_port_of_the_node_is_its_services_and_one_that_is_not_translated_is_nobodys() {
    use tortie_abi::service::{Frontend, flags};
    let client = std::net::Ipv4Addr::new(192, 0, 2, 7);
    let mut world = World::new(1);
    let (a, b) = (world.add_pod("a", 0), world.add_pod("b", 0));
    let (node, _) = World::node_addresses(0);
    let service = world.new_service();
    let flags = flags::NODE_PORT | flags::EXTERNAL;
    let frontend = Frontend { service, backends: 1, local_backends: 1, flags, ..Frontend::default() };
    let key = (IpAddr::from([0, 0, 0, 0]), 30080, 6);
    world.set_frontend(0, key, frontend, &[(b.v4.into(), 8080)]);
    let syn = |from, to, port| PacketBuilder::ipv4(from, to).tcp(40000, port).flags(TcpFlags::SYN).build();
    let _ = world.arrive(0, syn(client, node, 30080));
    let _ = world.send(&a, syn(a.v4, b.v4, 30080));
    let rows = conntrack::rows(&snapshot(&world.nodes[0]), &names());
    let service_at = |server: IpAddr| {
        let row = rows.iter().find(|row| row.server.address == server && row.server.port == 30080).unwrap();
        row.service.as_deref()
    };
    assert_eq!((service_at(node.into()), service_at(b.v4.into())), (Some("shop/web"), None));
}

#[test]
fn icmp_is_told_by_type_code_and_id() {
    use tortie_abi::event::{Event, Kind};
    use zerocopy::IntoBytes;
    let mut event = Event::new_zeroed();
    event.kind = Kind::Drop as u16;
    (event.family, event.protocol) = (4, 1);
    event.source_port = tortie_wire::Be16::from_bytes([8, 0]);
    event.destination_port = tortie_wire::Be16::new(4660);
    let told = |event: &Event| {
        let row = drops::row(event.as_bytes(), &names(), &PlaceNames::default(), 0.0).unwrap();
        serde_json::to_value(row).unwrap()["packet"].clone()
    };
    let echo = told(&event);
    assert_eq!(echo["icmp"], serde_json::json!({"type": 8, "code": 0, "id": 4660}));
    assert_eq!((echo.get("sourcePort"), echo.get("destinationPort")), (None, None));
    event.protocol = 17;
    let udp = told(&event);
    assert_eq!((&udp["sourcePort"], udp.get("icmp")), (&2048.into(), None));
}

#[test]
fn a_drop_has_the_names_that_its_place_had() {
    use tortie_abi::event::{Event, Kind, Refusal};
    use zerocopy::IntoBytes;
    let mut event = Event::new_zeroed();
    (event.kind, event.family, event.ifindex) = (Kind::Drop as u16, 4, 7);
    event.source.0[0] = tortie_wire::Be32::new(0x0a00_0001);
    event.destination.0[0] = tortie_wire::Be32::new(0x0a00_0002);
    let place = drops::place(event.as_bytes()).unwrap();
    let address = |last| Some(IpAddr::from([10, 0, 0, last]));
    assert_eq!((place.ifindex, place.source, place.destination), (7, address(1), address(2)));
    let named = PlaceNames {
        interface: Some("cali7".into()),
        interface_pod: Some("shop/culprit".into()),
        source_pod: Some("shop/victim".into()),
        destination_pod: None,
    };
    let told = |named| serde_json::to_value(drops::row(event.as_bytes(), &names(), named, 0.0)).unwrap();
    let row = told(&named);
    assert_eq!((&row["interface"], &row["interfacePod"]), (&"cali7".into(), &"shop/culprit".into()));
    let packet = &row["packet"];
    assert_eq!((&packet["sourcePod"], packet.get("destinationPod")), (&"shop/victim".into(), None));
    let row = told(&PlaceNames::default());
    assert_eq!((&row["interface"], row.get("interfacePod")), (&"ifindex 7".into(), None));
    let mut refusal = Refusal::new_zeroed();
    refusal.kind = Kind::Refusal as u16;
    assert_eq!(drops::place(refusal.as_bytes()), None, "a call is at no interface");
}

#[test]
fn a_refused_call_is_told_with_who_made_it_and_which_service_it_wanted() {
    use tortie_abi::event::{Kind, Refusal};
    use zerocopy::IntoBytes;
    let mut refusal = Refusal::new_zeroed();
    (refusal.kind, refusal.hook) = (Kind::Refusal as u16, Hook::Socket as u16);
    (refusal.reason, refusal.family, refusal.protocol) = (DropReason::NoBackend as u16, 4, 6);
    refusal.destination.0[0] = tortie_wire::Be32::new(0x0a60_0001);
    refusal.destination_port = tortie_wire::Be16::new(80);
    (refusal.service, refusal.netns) = (1, 77);
    refusal.task[..4].copy_from_slice(b"curl");
    let told = |refusal: &Refusal, names: &Names| {
        serde_json::to_value(drops::row(refusal.as_bytes(), names, &PlaceNames::default(), 0.0).unwrap())
            .unwrap()
    };
    let mut known = names();
    known.pods_by_netns.insert(77, "shop/cart".into());
    known.netns = Some(78);
    let row = told(&refusal, &known);
    assert_eq!((&row["reason"], &row["hook"]), (&"no-backend".into(), &"socket".into()));
    let mut call = serde_json::json!({"task": "curl", "pod": "shop/cart", "protocol": "TCP",
        "destination": "10.96.0.1", "destinationPort": 80, "service": "shop/web"});
    assert_eq!((&row["call"], row.get("packet")), (&call, None));
    refusal.netns = 78;
    let row = told(&refusal, &known);
    assert_eq!((&row["call"]["node"], row["call"].get("pod")), (&"node1".into(), None));
    call.as_object_mut().unwrap().remove("pod");
    assert_eq!(told(&refusal, &names())["call"], call);
    // Cut short it is none of which this version knows.
    assert_eq!(drops::row(&refusal.as_bytes()[..40], &known, &PlaceNames::default(), 0.0), None);
}

#[test]
fn endpoints_that_are_not_in_use_are_listed_with_the_reason_when_the_agent_knows_them() {
    let mut world = World::new(1);
    let b = world.add_pod("b", 0);
    world.add_service("10.96.0.1".parse().unwrap(), 80, 6, &[(b.v4.into(), 8080)]);
    let mut rows = services::rows(&snapshot(&world.nodes[0]), &names());
    let json = serde_json::to_value(&rows[0]).unwrap();
    assert_eq!((&json["endpoints"][0]["used"], json["endpoints"][0].get("ready")), (&true.into(), None));
    let protocol = rows[0].protocol.clone();
    let known = |address: &str, states: [bool; 3]| services::Known {
        namespace: "shop".into(),
        name: "web".into(),
        service_port: "http".into(),
        protocol: protocol.clone(),
        address: address.parse().unwrap(),
        port: 8080,
        node: Some("node2".into()),
        ready: states[0],
        serving: states[1],
        terminating: states[2],
        local: false,
        refused: address == "127.0.0.1",
        elsewhere: address == "10.9.9.3",
        misnamed: address == "10.9.9.4",
    };
    let mut all = vec![
        known(&b.v4.to_string(), [true, true, false]),
        known("10.9.9.1", [false, false, false]),
        known("10.9.9.2", [false, true, true]),
        known("fd00::9", [true, true, false]),
        known("127.0.0.1", [true, true, false]),
        known("10.9.9.3", [true, true, false]),
        known("10.9.9.4", [true, true, false]),
    ];
    all.push(services::Known { name: "other".into(), ..all[1].clone() });
    services::join(&mut rows, &all);
    let told = |address: &str| {
        let found = rows[0].endpoints.iter().find(|e| e.address.to_string() == address).unwrap();
        (found.used, found.conditions.map(|c| c.ready), found.reason)
    };
    assert_eq!(told(&b.v4.to_string()), (true, Some(true), None));
    assert_eq!(told("10.9.9.1"), (false, Some(false), Some("not ready")));
    assert_eq!(told("10.9.9.2"), (false, Some(false), Some("terminating, and others are ready")));
    assert_eq!(told("fd00::9"), (false, Some(true), Some("the Service has no address of this family")));
    assert_eq!(told("127.0.0.1"), (false, Some(true), Some("no back end may have this address")));
    let hinted = "the hints (trafficDistribution) prefer another node or zone";
    assert_eq!(told("10.9.9.3"), (false, Some(true), Some(hinted)));
    let misnamed = "its EndpointSlice has no port of this name and protocol";
    assert_eq!(told("10.9.9.4"), (false, Some(true), Some(misnamed)));
    assert_eq!(rows[0].endpoints.len(), 7);
    assert_eq!(rows[0].misnamed(), 1);
    let nameless =
        ["10.9.9.4", "10.9.9.4"].map(|it| services::Known { port: 0, ..known(it, [true, true, false]) });
    let unready =
        services::Known { address: "10.9.9.6".parse().unwrap(), ready: false, ..nameless[0].clone() };
    let mut bare = [services::Row { endpoints: Vec::new(), ..rows[0].clone() }];
    services::join(&mut bare, &[&nameless[..], &[unready]].concat());
    assert_eq!((bare[0].endpoints.len(), bare[0].misnamed()), (2, 1), "one is ready");
    assert_eq!(serde_json::to_value(&bare[0]).unwrap()["endpoints"][0].get("port"), None);
    let remote = [known("10.9.9.5", [true, true, false])];
    rows[0].internal_traffic_policy = "Local";
    services::join(&mut rows, &remote);
    let reason = rows[0].endpoints.iter().find(|e| e.address.to_string() == "10.9.9.5").unwrap().reason;
    assert_eq!(reason, Some("internalTrafficPolicy keeps clients on their own node"));
}

#[test]
fn connections_that_their_socket_leads_to_a_service_are_not_known_to_be_its() {
    let mut world = World::new(1);
    let b = world.add_pod("b", 0);
    world.add_service("10.96.0.1".parse().unwrap(), 80, 6, &[(b.v4.into(), 8080)]);
    let snapshot = snapshot(&world.nodes[0]);
    let row = services::rows(&snapshot, &names()).remove(0);
    let settings = |flags| Settings { flags, ..snapshot.settings.unwrap() };
    let (tcp, udp) = (settings(flags::CONNECT_TCP), settings(flags::CONNECT_UDP));
    assert!(row.is_chosen_at_connect(&tcp));
    assert!(!row.is_chosen_at_connect(&udp) && !row.is_chosen_at_connect(&settings(0)));
    let with_udp = services::Row { protocol: "UDP".into(), ..row.clone() };
    assert!(with_udp.is_chosen_at_connect(&udp) && !with_udp.is_chosen_at_connect(&tcp));
    let without = services::Row { endpoints: Vec::new(), ..row.clone() };
    assert!(!without.is_chosen_at_connect(&tcp), "there is nobody to be led to");
    let frontends = vec![services::FrontendRow { scope: "node-port", ..row.frontends[0].clone() }];
    let at_a_node = services::Row { frontends, ..row };
    assert!(!at_a_node.is_chosen_at_connect(&tcp), "a port of the node is left to the packet programs");
}

#[test]
fn what_the_kernel_does_not_know_of_a_service_the_agent_says() {
    let mut world = World::new(1);
    let b = world.add_pod("b", 0);
    world.add_service("10.96.0.1".parse().unwrap(), 80, 6, &[(b.v4.into(), 8080)]);
    let mut snapshot = snapshot(&world.nodes[0]);
    for (_, frontend) in &mut snapshot.frontend4 {
        frontend.affinity = tortie_abi::time::Tick::ticks_of_millis(10_800_000);
    }
    let mut rows = services::rows(&snapshot, &names());
    assert_eq!(rows[0].affinity_seconds, Some(10_800));
    let known = |service_type: Option<&str>, rejected| services::KnownService {
        namespace: "shop".into(),
        name: "web".into(),
        service_type: service_type.map(str::to_owned),
        rejected,
    };
    services::tell_types(&mut rows, &[known(Some("LoadBalancer"), false)]);
    assert_eq!(rows[0].service_type, "LoadBalancer");
    assert!(known(None, false).why_absent().contains("headless"));
    assert!(known(None, true).why_absent().contains("rejected"));
}
