//! Connect-time load balancing: what a process sees of its sockets.

use crate::{Family, both, shop};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use tortie_abi::settings::flags;
use tortie_abi::{DropReason, Hook, Tick, service, v4, v6};
use tortie_sim::node::Node;
use tortie_sim::socket::{Errno, Socket};
use tortie_sim::world::World;
use tortie_wire::Be16;

const TCP: u8 = 6;
pub const UDP: u8 = 17;
/// The namespace that a socket is in, when it does not matter which.
pub const ANY: u64 = 7;

pub fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

/// The address as an IPv6 socket names it.
pub fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(v4) => at(IpAddr::V6(v4.to_ipv6_mapped()), address.port()),
        IpAddr::V6(_) => address,
    }
}

pub fn mode(world: &World, bits: u32) {
    for node in &world.nodes {
        let mut settings = node.settings.get();
        settings.flags = settings.flags & !(flags::CONNECT_TCP | flags::CONNECT_UDP) | bits;
        node.settings.set(settings);
    }
}

/// A world in mode TCP, with a Service of the given back ends.
fn tcp_world(f: Family, backends: &[(IpAddr, u16)]) -> World {
    let (mut world, ..) = shop();
    mode(&world, flags::CONNECT_TCP);
    world.add_service(f.vip(), 80, TCP, backends);
    world
}

fn remembered(node: &Node) -> usize {
    node.v4.socket.borrow().len() + node.v6.socket.borrow().len()
}

/// Changes the Service's front end.
pub fn edit(node: &Node, f: Family, protocol: u8, change: impl FnOnce(&mut service::Frontend)) {
    use zerocopy::IntoBytes as _;
    let (port, _zero) = (Be16::new(80), 0);
    match f.vip() {
        IpAddr::V4(a) => {
            let key = v4::FrontendKey { address: a.into(), port, protocol, _zero };
            change(node.v4.frontend.borrow_mut().get_mut(key.as_bytes()).expect("the front end"));
        }
        IpAddr::V6(a) => {
            let key = v6::FrontendKey { address: a.into(), port, protocol, _zero };
            change(node.v6.frontend.borrow_mut().get_mut(key.as_bytes()).expect("the front end"));
        }
    }
}

#[test]
fn a_connection_to_a_service_goes_to_a_back_end_and_is_called_by_the_services_name() {
    both(|f| {
        let backend = at(f.pick("10.244.2.10", "fd00:244:2::a"), 8080);
        let world = tcp_world(f, &[(backend.ip(), backend.port())]);
        let socket = Socket::new(&world.nodes[0], ANY, TCP);
        assert_eq!(socket.connect(at(f.vip(), 80)), Ok(backend));
        assert_eq!(socket.peer(), Ok(at(f.vip(), 80)));
        socket.close();
        assert_eq!(remembered(&world.nodes[0]), 0, "nothing is left of a closed socket");
        let refused = Socket::new(&world.nodes[0], ANY, TCP);
        assert_eq!(refused.connect(at(f.vip(), 80)), Ok(backend));
        refused.refused();
        refused.close();
        assert_eq!(remembered(&world.nodes[0]), 0, "nor of one that was refused");
    });
}

#[test]
fn an_ipv6_socket_reaches_an_ipv4_service_in_its_clothes() {
    let f = Family::V4;
    let backend = at(f.pick("10.244.2.10", ""), 8080);
    let world = tcp_world(f, &[(backend.ip(), backend.port())]);
    let socket = Socket::new(&world.nodes[0], ANY, TCP);
    assert_eq!(socket.connect(mapped(at(f.vip(), 80))), Ok(mapped(backend)));
    assert_eq!(socket.peer(), Ok(mapped(at(f.vip(), 80))));
    socket.close();
    assert_eq!(remembered(&world.nodes[0]), 0);
}

#[test]
fn the_low_bits_of_an_ipv6_address_alone_are_no_ipv4_address() {
    let f = Family::V4;
    let world = tcp_world(f, &[(f.pick("10.244.2.10", ""), 8080)]);
    let IpAddr::V4(vip) = f.vip() else { panic!("IPv4") };
    let [a, b, c, d] = vip.octets();
    let low = |first: u16| {
        let word = |x: u8, y: u8| u16::from_be_bytes([x, y]);
        at(Ipv6Addr::new(first, 0, 0, 0, 0, 0, word(a, b), word(c, d)).into(), 80)
    };
    for address in [low(0), low(0xfd00)] {
        assert_eq!(Socket::new(&world.nodes[0], ANY, TCP).connect(address), Ok(address));
    }
}

#[test]
fn what_is_no_service_is_left_alone() {
    both(|f| {
        let world = tcp_world(f, &[(f.pick("10.244.2.10", "fd00:244:2::a"), 8080)]);
        for to in [at(f.outside(), 80), at(f.vip(), 81), at(f.pick("10.244.2.10", "fd00:244:2::a"), 8080)] {
            let socket = Socket::new(&world.nodes[0], ANY, TCP);
            assert_eq!(socket.connect(to), Ok(to));
            assert_eq!(socket.peer(), Ok(to));
        }
        assert_eq!(remembered(&world.nodes[0]), 0);
    });
}

#[test]
fn a_socket_without_a_peer_has_no_name_to_tell() {
    let world = World::new(1);
    assert_eq!(Socket::new(&world.nodes[0], ANY, TCP).peer(), Err(Errno::NotConnected));
}

#[test]
fn every_back_end_gets_its_share_of_connections() {
    both(|f| {
        let backends: Vec<_> = (1..=4).map(|n| (f.pick("10.244.2.10", "fd00:244:2::a"), 8080 + n)).collect();
        let world = tcp_world(f, &backends);
        let mut counts = [0; 4];
        for _ in 0..4000 {
            let goes = Socket::new(&world.nodes[0], ANY, TCP).connect(at(f.vip(), 80)).expect("served");
            counts[usize::from(goes.port() - 8081)] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    });
}

#[test]
fn a_service_without_endpoints_refuses_the_connection_at_once_and_counts_it() {
    both(|f| {
        let world = tcp_world(f, &[]);
        let socket = Socket::new(&world.nodes[0], ANY, TCP);
        assert_eq!(socket.connect(at(f.vip(), 80)), Err(Errno::Refused));
        assert_eq!(world.nodes[0].dropped(DropReason::NoBackend), 1);
        let counted = world.nodes[0].counter.borrow();
        assert!(counted.contains_key(&(0, Hook::Socket as u16, DropReason::NoBackend as u16)));
    });
}

#[test]
fn without_an_endpoint_on_this_node_a_local_service_may_not_be_called() {
    both(|f| {
        let backend = f.pick("10.244.2.10", "fd00:244:2::a");
        let world = tcp_world(f, &[(backend, 8080), (backend, 8081)]);
        let node = &world.nodes[0];
        edit(node, f, TCP, |frontend| frontend.flags |= service::flags::INTERNAL_LOCAL);
        let connect = || Socket::new(node, ANY, TCP).connect(at(f.vip(), 80));
        assert_eq!(connect(), Err(Errno::NotPermitted));
        edit(node, f, TCP, |frontend| frontend.local_backends = 1);
        let seen: BTreeSet<_> = (0..50).map(|_| connect()).collect();
        assert_eq!(seen, BTreeSet::from([Ok(at(backend, 8080))]), "the first ones are the local ones");
    });
}

#[test]
fn a_front_end_whose_back_end_is_missing_leads_nowhere_else() {
    both(|f| {
        let backend = f.pick("10.244.2.10", "fd00:244:2::a");
        let world = tcp_world(f, &[(backend, 8080), (backend, 8081)]);
        world.nodes[0].v4.backend.borrow_mut().clear();
        world.nodes[0].v6.backend.borrow_mut().clear();
        let socket = Socket::new(&world.nodes[0], ANY, TCP);
        assert_eq!(socket.connect(at(f.vip(), 80)), Err(Errno::Refused));
        assert_eq!(world.nodes[0].dropped(DropReason::BackendMissing), 1);
    });
}

#[test]
fn a_lone_back_end_is_told_by_the_front_end_itself_where_all_traffic_may_use_it() {
    both(|f| {
        let backend = f.pick("10.244.2.10", "fd00:244:2::a");
        let world = tcp_world(f, &[(backend, 8080)]);
        let node = &world.nodes[0];
        node.v4.backend.borrow_mut().clear();
        node.v6.backend.borrow_mut().clear();
        let connect = || Socket::new(node, ANY, TCP).connect(at(f.vip(), 80));
        assert_eq!(connect(), Ok(at(backend, 8080)));
        edit(node, f, TCP, |frontend| frontend.flags |= service::flags::INTERNAL_LOCAL);
        assert_eq!(connect(), Err(Errno::NotPermitted), "it is elsewhere");
    });
}

#[test]
fn switched_off_it_leaves_new_connections_alone_and_old_ones_keep_their_name() {
    both(|f| {
        let backend = at(f.pick("10.244.2.10", "fd00:244:2::a"), 8080);
        let world = tcp_world(f, &[(backend.ip(), backend.port())]);
        let old = Socket::new(&world.nodes[0], ANY, TCP);
        old.connect(at(f.vip(), 80)).expect("served");
        mode(&world, 0);
        assert_eq!(old.peer(), Ok(at(f.vip(), 80)));
        let new = Socket::new(&world.nodes[0], ANY, TCP);
        assert_eq!(new.connect(at(f.vip(), 80)), Ok(at(f.vip(), 80)));
    });
}

#[test]
fn in_mode_tcp_udp_is_left_to_the_packet_programs() {
    both(|f| {
        let (mut world, ..) = shop();
        mode(&world, flags::CONNECT_TCP);
        world.add_service(f.vip(), 80, UDP, &[(f.pick("10.244.2.10", "fd00:244:2::a"), 53)]);
        let socket = Socket::new(&world.nodes[0], ANY, UDP);
        assert_eq!(socket.connect(at(f.vip(), 80)), Ok(at(f.vip(), 80)));
    });
}

#[test]
fn sockets_of_one_back_end_under_two_services_each_keep_their_own_name() {
    both(|f| {
        let backend = at(f.pick("10.244.2.10", "fd00:244:2::a"), 8080);
        let mut world = tcp_world(f, &[(backend.ip(), backend.port())]);
        let other = at(f.pick("10.96.0.11", "fd00:96::11"), 443);
        world.add_service(other.ip(), other.port(), TCP, &[(backend.ip(), backend.port())]);
        let (one, two) = (Socket::new(&world.nodes[0], ANY, TCP), Socket::new(&world.nodes[0], ANY, TCP));
        assert_eq!((one.connect(at(f.vip(), 80)), two.connect(other)), (Ok(backend), Ok(backend)));
        assert_eq!((one.peer(), two.peer()), (Ok(at(f.vip(), 80)), Ok(other)));
        assert_eq!(one.connect(other), Ok(backend), "as after an attempt that was refused");
        assert_eq!(one.peer(), Ok(other));
        let elsewhere = at(f.pick("10.244.2.11", "fd00:244:2::b"), 8080);
        assert_eq!(one.connect(elsewhere), Ok(elsewhere));
        assert_eq!(one.peer(), Ok(elsewhere));
    });
}

#[test]
fn affinity_is_a_pods_and_not_a_nodes() {
    both(|f| {
        let backends: Vec<_> = (1..=4).map(|n| (f.pick("10.244.2.10", "fd00:244:2::a"), 8080 + n)).collect();
        let world = tcp_world(f, &backends);
        let node = &world.nodes[0];
        edit(node, f, TCP, |frontend| frontend.affinity = Tick::ticks_of_millis(10_000));
        let connect = |netns| Socket::new(node, netns, TCP).connect(at(f.vip(), 80)).expect("served");
        // Numbers of namespaces that differ in either half alone are different ones.
        let mut chosen = BTreeSet::new();
        for netns in (1..=20).chain((1..=20).map(|n| n << 32)) {
            let first = connect(netns);
            assert!((0..20).all(|_| connect(netns) == first), "namespace {netns}");
            chosen.insert(first);
        }
        assert_eq!(chosen.len(), 4, "every pod by itself");
        node.advance_millis(10_100);
        let later: BTreeSet<_> = (1..=40)
            .map(|_| {
                node.advance_millis(10_100);
                connect(1)
            })
            .collect();
        assert_eq!(later.len(), 4, "silence ends it");
    });
}

#[test]
fn a_front_end_for_some_clients_only_is_left_to_the_packet_programs() {
    both(|f| {
        let world = tcp_world(f, &[(f.pick("10.244.2.10", "fd00:244:2::a"), 8080)]);
        edit(&world.nodes[0], f, TCP, |frontend| frontend.flags |= service::flags::SOURCE_RANGES);
        let socket = Socket::new(&world.nodes[0], ANY, TCP);
        assert_eq!(socket.connect(at(f.vip(), 80)), Ok(at(f.vip(), 80)));
    });
}

/// The namespace of the node itself.
const HOST: u64 = (3 << 32) | 9;

/// A node port in front of one back end, in mode TCP.
fn ports_of_the_node(f: Family, protocol: u8) -> (World, SocketAddr) {
    let backend = at(f.pick("10.244.2.10", "fd00:244:2::a"), 8080);
    let world = tcp_world(f, &[(backend.ip(), backend.port())]);
    let node = &world.nodes[0];
    let settings = node.settings.get();
    node.settings.set(tortie_abi::settings::Settings { host_netns: service::netns_words(HOST), ..settings });
    let frontend = service::Frontend {
        service: 77,
        backends: 1,
        flags: service::flags::EXTERNAL | service::flags::NODE_PORT,
        ..service::Frontend::default()
    };
    world.set_frontend(
        0,
        (f.pick("0.0.0.0", "::"), 30_080, protocol),
        frontend,
        &[(backend.ip(), backend.port())],
    );
    (world, backend)
}

#[test]
fn a_process_of_the_node_reaches_ports_of_the_node_at_its_loopback_and_a_pod_does_not() {
    both(|f| {
        for protocol in [TCP, UDP] {
            let (world, backend) = ports_of_the_node(f, protocol);
            let loopback = at(f.pick("127.0.0.1", "::1"), 30_080);
            let socket = Socket::new(&world.nodes[0], HOST, protocol);
            assert_eq!(socket.connect(loopback), Ok(backend));
            assert_eq!(socket.peer(), Ok(loopback));
            if protocol == UDP {
                assert_eq!(socket.receive(backend), loopback, "whom it has asked");
                let single = Socket::new(&world.nodes[0], HOST, protocol);
                assert_eq!(single.send(loopback), Ok(backend));
                assert_eq!(single.receive(backend), loopback);
            }
            let pod = Socket::new(&world.nodes[0], ANY, protocol);
            assert_eq!(pod.connect(loopback), Ok(loopback), "a pod's loopback is its own");
            let nowhere = at(f.pick("0.0.0.0", "::"), 30_080);
            assert_eq!(pod.connect(nowhere), Ok(nowhere), "which is itself, too");
            assert_eq!(Socket::new(&world.nodes[0], ANY, protocol).send(nowhere), Ok(nowhere));
            assert_eq!(Socket::new(&world.nodes[0], HOST, protocol).connect(nowhere), Ok(backend));
            let other = at(loopback.ip(), 30_081);
            assert_eq!(Socket::new(&world.nodes[0], HOST, protocol).connect(other), Ok(other));
            mode(&world, 0);
            let socket = Socket::new(&world.nodes[0], HOST, protocol);
            assert_eq!(socket.connect(loopback), Ok(loopback), "not without connect-time load balancing");
        }
    });
}
