//! Services for clients outside the cluster: node ports, external addresses, load balancers' addresses.

use crate::{ACK, Family, SYN, SYN_ACK, assert_dropped, assert_lands, both, ends, shop, tcp, udp};
use std::net::IpAddr;
use tortie_abi::policy::Verdict as Decision;
use tortie_abi::service::{Frontend, flags};
use tortie_abi::{DropReason, Hook};
use tortie_datapath::Verdict;
use tortie_sim::world::{Landed, UPLINK, World};
use tortie_testkit::packet::{PacketBuilder, verify_checksums};

pub const NODE_PORT: u16 = 30_080;
pub const CLUSTER: u32 = flags::EXTERNAL | flags::NODE_PORT;
const LOCAL: u32 = CLUSTER | flags::EXTERNAL_LOCAL;

/// A front end on the first node: its address (or every one of the node's), and its back ends, this node's first.
pub fn serve(world: &mut World, at: (IpAddr, u16, u8), flags: u32, local: u32, backends: &[(IpAddr, u16)]) {
    let service = world.new_service();
    let backends_count = backends.len() as u32;
    let frontend =
        Frontend { service, backends: backends_count, local_backends: local, flags, ..Frontend::default() };
    world.set_frontend(0, at, frontend, backends);
}

pub fn every(f: Family) -> IpAddr {
    f.pick("0.0.0.0", "::")
}

#[test]
fn a_client_outside_meets_a_pod_behind_a_node_port_and_never_learns_of_it() {
    both(|f| {
        let (mut world, _, b, _) = shop();
        serve(&mut world, (every(f), NODE_PORT, 6), CLUSTER, 1, &[(f.of(&b), 8080)]);
        let there = world.arrive(0, tcp(f.outside(), 40000, f.node(0), NODE_PORT, SYN));
        assert_lands(&there, "b");
        assert_eq!(ends(&there.packet), (f.outside(), 40000, f.of(&b), 8080), "the client's address is kept");
        let back = world.send(&b, tcp(f.of(&b), 8080, f.outside(), 40000, SYN_ACK));
        assert_eq!(back.landed, Landed::Outside(0), "{:?}", back.steps);
        assert_eq!(back.steps.last().unwrap().2, Verdict::Routed { ifindex: UPLINK }, "the way it came");
        assert_eq!(ends(&back.packet), (f.node(0), NODE_PORT, f.outside(), 40000));
        verify_checksums(&back.packet).unwrap();
        assert_lands(&world.arrive(0, tcp(f.outside(), 40000, f.node(0), NODE_PORT, ACK)), "b");
    });
}

#[test]
fn an_external_address_is_served_whoever_it_belongs_to() {
    both(|f| {
        let (mut world, a, b, _) = shop();
        let external = f.pick("198.51.100.9", "2001:db8:f::9");
        serve(&mut world, (external, 53, 17), flags::EXTERNAL, 1, &[(f.of(&b), 5353)]);
        assert_lands(&world.arrive(0, udp(f.outside(), 40000, external, 53)), "b");
        let back = world.send(&b, udp(f.of(&b), 5353, f.outside(), 40000));
        assert_eq!(ends(&back.packet), (external, 53, f.outside(), 40000));
        assert_lands(&world.send(&a, udp(f.of(&a), 40000, external, 53)), "b");
        assert_lands(&world.send_from_host(0, udp(f.node(0), 40000, external, 53)), "b");
    });
}

#[test]
fn a_node_port_works_from_pods_through_every_node() {
    both(|f| {
        let (mut world, a, b, _) = shop();
        serve(&mut world, (every(f), NODE_PORT, 6), CLUSTER, 1, &[(f.of(&b), 8080)]);
        for (index, port) in [(0, 40000), (1, 40001)] {
            assert_lands(&world.send(&a, tcp(f.of(&a), port, f.node(index), NODE_PORT, SYN)), "b");
            let back = world.send(&b, tcp(f.of(&b), 8080, f.of(&a), port, SYN_ACK));
            assert_lands(&back, "a");
            assert_eq!(ends(&back.packet), (f.node(index), NODE_PORT, f.of(&a), port));
        }
    });
}

#[test]
fn external_traffic_policy_local_binds_the_outside_and_not_the_cluster() {
    both(|f| {
        let (mut world, a, b, c) = shop();
        let backends = [(f.of(&b), 8080), (f.of(&c), 8080)];
        serve(&mut world, (every(f), NODE_PORT, 6), LOCAL, 1, &backends);
        for n in 0..30 {
            assert_lands(&world.arrive(0, tcp(f.outside(), 40000 + n, f.node(0), NODE_PORT, SYN)), "b");
        }
        let from_pod: Vec<Landed> = (0..40)
            .map(|n| world.send(&a, tcp(f.of(&a), 40000 + n, f.node(0), NODE_PORT, SYN)).landed)
            .collect();
        assert!(from_pod.contains(&Landed::Pod("c".into())), "{from_pod:?}");
        serve(&mut world, (every(f), NODE_PORT, 6), LOCAL, 0, &[(f.of(&c), 8080)]);
        let lost = world.arrive(0, tcp(f.outside(), 50000, f.node(0), NODE_PORT, SYN));
        assert_dropped(&lost, DropReason::NoBackend);
        assert_lands(&world.send(&a, tcp(f.of(&a), 50000, f.node(0), NODE_PORT, SYN)), "c");
    });
}

#[test]
fn a_node_port_of_another_node_leads_to_that_nodes_back_ends_where_the_policy_says_local() {
    both(|f| {
        let (world, a, b, c) = shop();
        let frontend = |local_backends| Frontend {
            service: 7,
            backends: 1,
            local_backends,
            flags: LOCAL,
            ..Frontend::default()
        };
        for node in 0..2 {
            let at = (every(f), NODE_PORT, 6);
            world.set_frontend(node, at, frontend(u32::from(node == 0)), &[(f.of(&b), 8080)]);
        }
        // From the node without a back end: led there as any packet, and by that node to its own.
        let there = world.send(&c, tcp(f.of(&c), 40000, f.node(0), NODE_PORT, SYN));
        assert_lands(&there, "b");
        assert_eq!(there.steps[1].1, Hook::FromHostDevice);
        assert_eq!(ends(&there.packet), (f.of(&c), 40000, f.of(&b), 8080));
        let back = world.send(&b, tcp(f.of(&b), 8080, f.of(&c), 40000, SYN_ACK));
        assert_lands(&back, "c");
        assert_eq!(ends(&back.packet), (f.node(0), NODE_PORT, f.of(&c), 40000));
        // And the other way round: nobody is there.
        let lost = world.send(&a, tcp(f.of(&a), 40000, f.node(1), NODE_PORT, SYN));
        assert_dropped(&lost, DropReason::NoBackend);
        let sent = tcp(f.node(0), 40001, f.node(1), NODE_PORT, SYN);
        let asked = world.send_from_host(0, sent.clone());
        assert_eq!((asked.landed, &asked.packet), (Landed::Outside(0), &sent), "as it is");
        assert_dropped(&world.arrive(1, sent), DropReason::NoBackend);
    });
}

#[test]
fn a_node_port_without_endpoints_refuses_the_outside() {
    both(|f| {
        let (mut world, ..) = shop();
        serve(&mut world, (every(f), NODE_PORT, 6), CLUSTER, 0, &[]);
        serve(&mut world, (every(f), NODE_PORT, 17), CLUSTER, 0, &[]);
        let reset = world.arrive(0, tcp(f.outside(), 40000, f.node(0), NODE_PORT, SYN));
        assert_eq!(reset.landed, Landed::Outside(0));
        assert_eq!(ends(&reset.packet), (f.node(0), NODE_PORT, f.outside(), 40000));
        let refused = world.arrive(0, udp(f.outside(), 40000, f.node(0), NODE_PORT));
        assert_eq!(refused.landed, Landed::Outside(0));
        assert_eq!(world.nodes[0].dropped(DropReason::NoBackend), 2);
    });
}

#[test]
fn a_back_end_on_the_nodes_own_network_answers_under_the_node_port() {
    both(|f| {
        let (mut world, ..) = shop();
        serve(&mut world, (every(f), NODE_PORT, 17), CLUSTER, 1, &[(f.node(0), 8080)]);
        let there = world.arrive(0, udp(f.outside(), 40000, f.node(0), NODE_PORT));
        assert_eq!(there.landed, Landed::Host(0), "{:?}", there.steps);
        assert_eq!(ends(&there.packet), (f.outside(), 40000, f.node(0), 8080));
        let back = world.send_from_host(0, udp(f.node(0), 8080, f.outside(), 40000));
        assert_eq!(back.landed, Landed::Outside(0), "{:?}", back.steps);
        assert_eq!(ends(&back.packet), (f.node(0), NODE_PORT, f.outside(), 40000));
        verify_checksums(&back.packet).unwrap();
        let error = PacketBuilder::ip(f.node(0), f.outside()).port_unreachable(&there.packet[14..]).build();
        let told = world.send_from_host(0, error);
        assert_eq!(told.landed, Landed::Outside(0), "{:?}", told.steps);
        verify_checksums(&told.packet).unwrap();
        let quote = if f == Family::V4 { 14 + 20 + 8 } else { 14 + 40 + 8 };
        let mut quoted = there.packet[..14].to_vec();
        quoted.extend(&told.packet[quote..]);
        assert_eq!(ends(&quoted), (f.outside(), 40000, f.node(0), NODE_PORT), "in the client's own words");
    });
}

#[test]
fn a_pods_ingress_policy_sees_the_client_outside_and_is_asked_again_when_it_changes() {
    both(|f| {
        let (mut world, _, b, _) = shop();
        serve(&mut world, (every(f), NODE_PORT, 6), CLUSTER, 1, &[(f.of(&b), 8080)]);
        let client = match f.outside() {
            IpAddr::V4(a) => a.to_ipv6_mapped().segments()[6..].to_vec(),
            IpAddr::V6(a) => a.segments()[..2].to_vec(),
        };
        let first = u32::from(client[0]) << 16 | u32::from(client[1]);
        world.set_policy(&b, true, move |io| {
            let seen = io.remote_address.0[0].get() == first && io.destination_port == 8080;
            if seen { Decision::Allow } else { Decision::Deny }
        });
        let syn = || tcp(f.outside(), 40000, f.node(0), NODE_PORT, SYN);
        assert_lands(&world.arrive(0, syn()), "b");
        let back = world.send(&b, tcp(f.of(&b), 8080, f.outside(), 40000, SYN_ACK));
        assert_eq!(back.landed, Landed::Outside(0));
        world.set_policy(&b, true, |_| Decision::Deny);
        assert_dropped(
            &world.arrive(0, tcp(f.outside(), 40000, f.node(0), NODE_PORT, ACK)),
            DropReason::PolicyIngress,
        );
        let reply = world.send(&b, tcp(f.of(&b), 8080, f.outside(), 40000, ACK));
        assert_dropped(&reply, DropReason::PolicyIngress);
    });
}

#[test]
fn nobody_outside_uses_a_service_as_one_of_the_nodes_own() {
    both(|f| {
        let (mut world, a, b, _) = shop();
        serve(&mut world, (every(f), NODE_PORT, 6), CLUSTER, 1, &[(f.of(&b), 8080)]);
        for source in [f.node(0), f.of(&a)] {
            let forged = world.arrive(0, tcp(source, 40000, f.node(0), NODE_PORT, SYN));
            assert_dropped(&forged, DropReason::SourceSpoofed);
        }
    });
}

#[test]
fn fragments_to_a_node_port_follow_their_first_one() {
    both(|f| {
        let (mut world, _, b, _) = shop();
        serve(&mut world, (every(f), NODE_PORT, 17), CLUSTER, 1, &[(f.of(&b), 53)]);
        let whole = PacketBuilder::ip(f.outside(), f.node(0)).udp(9999, NODE_PORT).payload_len(2000);
        let whole = if f == Family::V4 { whole.id(7) } else { whole };
        for fragment in whole.build_fragments(1400) {
            let journey = world.arrive(0, fragment);
            assert_eq!(journey.landed, Landed::Pod("b".into()), "{:?}", journey.steps);
            assert_eq!(tortie_sim::world::destination(&journey.packet), Some(f.of(&b)));
        }
    });
}
