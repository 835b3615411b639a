//! Services for clients outside the cluster whose back ends are on other nodes than the one that is asked: through the tunnel and back.

use crate::outside::{CLUSTER, NODE_PORT, every};
use crate::{
    ACK, DST_MAC, FIN_ACK, Family, SRC_MAC, SYN, SYN_ACK, assert_dropped, assert_lands, both, ends, shop,
    tcp, udp,
};
use std::net::IpAddr;
use tortie_abi::policy::Verdict as Decision;
use tortie_abi::service::{Frontend, flags};
use tortie_abi::{DropReason, Hook};
use tortie_datapath::Verdict;
use tortie_sim::world::{Landed, Pod, UPLINK, World};
use tortie_testkit::packet::{PacketBuilder, verify_checksums};

/// The same front end on every node, with back ends of which none is on the first.
fn serve_everywhere(world: &mut World, f: Family, protocol: u8, flags: u32, backends: &[(IpAddr, u16)]) {
    let frontend = Frontend {
        service: world.new_service(),
        backends: backends.len() as u32,
        flags,
        ..Frontend::default()
    };
    for node in 0..world.nodes.len() {
        world.set_frontend(node, (every(f), NODE_PORT, protocol), frontend, backends);
    }
}

#[test]
fn a_back_end_on_another_node_sees_the_client_itself_and_answers_through_the_node_that_was_asked() {
    both(|f| {
        let (mut world, _, _, c) = shop();
        serve_everywhere(&mut world, f, 6, CLUSTER, &[(f.of(&c), 8080)]);
        for flags in [SYN, ACK, ACK] {
            let there = world.arrive(0, tcp(f.outside(), 40000, f.node(0), NODE_PORT, flags));
            assert_lands(&there, "c");
            assert_eq!(there.steps[1].1, Hook::FromTunnel);
            assert_eq!(
                ends(&there.packet),
                (f.outside(), 40000, f.of(&c), 8080),
                "the client's address is kept"
            );
            let reply = if flags == SYN { SYN_ACK } else { ACK };
            let back = world.send(&c, tcp(f.of(&c), 8080, f.outside(), 40000, reply));
            assert_eq!(back.landed, Landed::Outside(0), "{:?}", back.steps);
            assert_eq!(back.steps.last().unwrap().2, Verdict::Routed { ifindex: UPLINK });
            assert_eq!(ends(&back.packet), (f.node(0), NODE_PORT, f.outside(), 40000));
            verify_checksums(&back.packet).unwrap();
        }
    });
}

#[test]
fn a_back_end_on_another_nodes_own_network_answers_through_the_node_that_was_asked() {
    both(|f| {
        let (mut world, ..) = shop();
        serve_everywhere(&mut world, f, 17, CLUSTER, &[(f.node(1), 8080)]);
        for _ in 0..2 {
            let there = world.arrive(0, udp(f.outside(), 40000, f.node(0), NODE_PORT));
            assert_eq!(there.landed, Landed::Host(1), "{:?}", there.steps);
            assert_eq!(ends(&there.packet), (f.outside(), 40000, f.node(1), 8080));
            let back = world.send_from_host(1, udp(f.node(1), 8080, f.outside(), 40000));
            assert_eq!(back.landed, Landed::Outside(0), "{:?}", back.steps);
            assert_eq!(ends(&back.packet), (f.node(0), NODE_PORT, f.outside(), 40000));
            verify_checksums(&back.packet).unwrap();
        }
    });
}

#[test]
fn datagrams_are_answered_through_the_node_that_was_asked_last() {
    both(|f| {
        let mut world = World::new(3);
        let c = world.add_pod("c", 1);
        serve_everywhere(&mut world, f, 17, CLUSTER, &[(f.of(&c), 5353)]);
        for node in [0, 2, 2, 0] {
            assert_lands(&world.arrive(node, udp(f.outside(), 40000, f.node(node), NODE_PORT)), "c");
            for _ in 0..2 {
                let back = world.send(&c, udp(f.of(&c), 5353, f.outside(), 40000));
                assert_eq!(back.landed, Landed::Outside(node), "{:?}", back.steps);
                assert_eq!(ends(&back.packet), (f.node(node), NODE_PORT, f.outside(), 40000));
            }
        }
    });
}

#[test]
fn a_connection_is_answered_through_the_node_where_it_began_whoever_uses_its_ports_elsewhere() {
    both(|f| {
        let mut world = World::new(3);
        let c = world.add_pod("c", 1);
        serve_everywhere(&mut world, f, 6, CLUSTER, &[(f.of(&c), 8080)]);
        let answer = |flags| {
            let back = world.send(&c, tcp(f.of(&c), 8080, f.outside(), 40000, flags));
            assert_eq!(back.landed, Landed::Outside(0), "{:?}", back.steps);
        };
        for (sent, answered) in [(SYN, SYN_ACK), (ACK, ACK)] {
            assert_lands(&world.arrive(0, tcp(f.outside(), 40000, f.node(0), NODE_PORT, sent)), "c");
            answer(answered);
        }
        let other = world.arrive(2, opening(f, 2, 77));
        assert_eq!(other.steps[1].2, Verdict::Answer);
        assert_dropped(&other, DropReason::SourcePortCollision);
        answer(ACK);
        assert_lands(&world.arrive(0, tcp(f.outside(), 40000, f.node(0), NODE_PORT, ACK)), "c");
    });
}

/// A client outside opens a connection to a node's port.
fn opening(f: Family, node: usize, sequence: u32) -> Vec<u8> {
    let ends = PacketBuilder::ip(f.outside(), f.node(node)).mac(SRC_MAC, DST_MAC).tcp(40000, NODE_PORT);
    ends.flags(SYN).seq(sequence).build()
}

#[test]
fn one_port_asks_many_nodes_for_one_back_end_and_every_connection_is_its_own() {
    both(|f| {
        let mut world = World::new(4);
        let c = world.add_pod("c", 1);
        serve_everywhere(&mut world, f, 6, CLUSTER, &[(f.of(&c), 8080)]);
        let opens = |node: usize| opening(f, node, node as u32);
        assert_lands(&world.arrive(0, opens(0)), "c");
        let mut ports = vec![40000];
        for node in [2, 3] {
            // Told to begin anew before the first one has been answered and after; the client sends its segment again. The
            // third node may roll what the second one has rolled.
            assert_dropped(&world.arrive(node, opens(node)), DropReason::SourcePortCollision);
            let mut attempts = (0..3).map(|_| world.arrive(node, opens(node)));
            let there =
                attempts.find(|journey| journey.landed == Landed::Pod("c".into())).expect("a free port");
            ports.push(ends(&there.packet).1);
            let back = world.send(&c, tcp(f.of(&c), 8080, f.outside(), 40000, SYN_ACK));
            assert_eq!(back.landed, Landed::Outside(0), "{:?}", back.steps);
        }
        for (node, port) in [0, 2, 3].into_iter().zip(ports) {
            for (sent, answered) in [(SYN_ACK, ACK), (ACK, ACK)] {
                let back = world.send(&c, tcp(f.of(&c), 8080, f.outside(), port, sent));
                assert_eq!(back.landed, Landed::Outside(node), "{:?}", back.steps);
                assert_eq!(ends(&back.packet), (f.node(node), NODE_PORT, f.outside(), 40000));
                verify_checksums(&back.packet).unwrap();
                let there = world.arrive(node, tcp(f.outside(), 40000, f.node(node), NODE_PORT, answered));
                assert_eq!(ends(&there.packet), (f.outside(), port, f.of(&c), 8080));
            }
        }
    });
}

#[test]
fn a_port_that_is_moved_at_the_back_ends_node_is_not_one_of_another_connection() {
    both(|f| {
        let mut world = World::new(3);
        let c = world.add_pod("c", 1);
        serve_everywhere(&mut world, f, 6, CLUSTER, &[(f.of(&c), 8080)]);
        let mut settings = world.nodes[1].settings.get();
        (settings.port_range_first, settings.port_range_last) = (20_000, 20_001);
        world.nodes[1].settings.set(settings);
        let asks =
            |node: usize, port| world.arrive(node, tcp(f.outside(), port, f.node(node), NODE_PORT, SYN));
        // One of the two ports is a client's own, whose connection came in at another node.
        assert_lands(&asks(0, 20_000), "c");
        let back = world.send(&c, tcp(f.of(&c), 8080, f.outside(), 20_000, SYN_ACK));
        assert_eq!(back.landed, Landed::Outside(0), "{:?}", back.steps);
        // A client meets itself: once directly, once by the tunnel.
        assert_lands(&asks(1, 40_000), "c");
        let there = (0..10).map(|_| asks(0, 40_000)).find(|it| it.landed == Landed::Pod("c".into()));
        assert_eq!(ends(&there.expect("the port that is left").packet).1, 20_001);
    });
}

#[test]
fn a_segment_that_opens_a_connection_once_more_may_come_by_another_node() {
    both(|f| {
        let mut world = World::new(3);
        let c = world.add_pod("c", 1);
        let balancer = f.pick("198.51.100.9", "2001:db8:f::9");
        let service = world.new_service();
        for node in 0..3 {
            let frontend = Frontend { service, backends: 1, flags: flags::EXTERNAL, ..Frontend::default() };
            world.set_frontend(node, (balancer, 80, 6), frontend, &[(f.of(&c), 8080)]);
        }
        for node in [0, 2] {
            assert_lands(&world.arrive(node, tcp(f.outside(), 40000, balancer, 80, SYN)), "c");
        }
        let back = world.send(&c, tcp(f.of(&c), 8080, f.outside(), 40000, SYN_ACK));
        assert_eq!(back.landed, Landed::Outside(0), "{:?}", back.steps);
        assert_lands(&world.arrive(2, tcp(f.outside(), 40000, balancer, 80, ACK)), "c");
    });
}

#[test]
fn a_pod_that_asks_an_address_of_another_node_that_is_not_known_as_one_may_meet_its_neighbour() {
    both(|f| {
        let (mut world, a, b, _) = shop();
        let unlisted = f.pick("203.0.113.60", "2001:db8:f::60");
        let service = world.new_service();
        let frontend = Frontend { service, backends: 1, flags: CLUSTER, ..Frontend::default() };
        world.set_frontend(1, (unlisted, NODE_PORT, 6), frontend, &[(f.of(&b), 8080)]);
        for (asked, answered) in [(SYN, SYN_ACK), (ACK, ACK)] {
            let out = world.send(&a, tcp(f.of(&a), 40000, unlisted, NODE_PORT, asked));
            let there = world.arrive(1, out.packet);
            assert_lands(&there, "b");
            assert_eq!(ends(&there.packet), (f.of(&a), 40000, f.of(&b), 8080));
            let back = world.send(&b, tcp(f.of(&b), 8080, f.of(&a), 40000, answered));
            assert_lands(&back, "a");
            assert_eq!(ends(&back.packet), (unlisted, NODE_PORT, f.of(&a), 40000));
        }
    });
}

#[test]
fn a_pod_behind_the_tunnel_has_its_policy() {
    both(|f| {
        let (mut world, _, _, c) = shop();
        serve_everywhere(&mut world, f, 6, CLUSTER, &[(f.of(&c), 8080)]);
        world.set_policy(&c, true, |_| Decision::Deny);
        let denied = world.arrive(0, tcp(f.outside(), 40000, f.node(0), NODE_PORT, SYN));
        assert_dropped(&denied, DropReason::PolicyIngress);
    });
}

#[test]
fn only_nodes_of_the_cluster_send_through_the_tunnel() {
    both(|f| {
        let (world, _, b, c) = shop();
        let frame = |to: &Pod| tcp(f.outside(), 40000, f.of(to), 8080, SYN);
        assert_dropped(&world.arrive_by_tunnel(0, f.outside(), frame(&b)), DropReason::TunnelSource);
        assert_dropped(&world.arrive_by_tunnel(0, f.node(0), frame(&b)), DropReason::TunnelSource);
        assert_dropped(&world.arrive_by_tunnel(0, f.of(&c), frame(&b)), DropReason::TunnelSource);
        assert_lands(&world.arrive_by_tunnel(0, f.node(1), frame(&b)), "b");
        let elsewhere = world.arrive_by_tunnel(0, f.node(1), frame(&c));
        assert_dropped(&elsewhere, DropReason::NoTunnel);
        let forged = tcp(f.of(&b), 1, f.of(&b), 8080, SYN);
        assert_dropped(&world.arrive_by_tunnel(0, f.node(1), forged), DropReason::SourceSpoofed);
        let stray = tcp(f.outside(), 41000, f.of(&b), 8080, ACK);
        assert_dropped(&world.arrive_by_tunnel(0, f.node(1), stray), DropReason::NoFlow);
    });
}

#[test]
fn what_does_not_fit_into_the_tunnel_and_may_not_be_fragmented_is_answered_with_its_mtu() {
    both(|f| {
        let (mut world, _, _, c) = shop();
        serve_everywhere(&mut world, f, 17, CLUSTER, &[(f.of(&c), 8080)]);
        let (headers, overhead) = if f == Family::V4 { (28, 50) } else { (48, 70) };
        let of = |bytes: usize| {
            let packet =
                PacketBuilder::ip(f.outside(), f.node(0)).udp(40000, NODE_PORT).payload_len(bytes - headers);
            if f == Family::V4 { packet.dont_fragment().build() } else { packet.build() }
        };
        assert_lands(&world.arrive(0, of(1500 - overhead)), "c");
        let told = world.arrive(0, of(1500 - overhead + 1));
        assert_eq!(told.landed, Landed::Outside(0), "{:?}", told.steps);
        assert_eq!(world.nodes[0].dropped(DropReason::TooBig), 1);
        let mtu = if f == Family::V4 { 14 + 20 + 6 } else { 14 + 40 + 4 };
        let said = if f == Family::V4 {
            u32::from(u16::from_be_bytes([told.packet[mtu], told.packet[mtu + 1]]))
        } else {
            u32::from_be_bytes(told.packet[mtu..mtu + 4].try_into().unwrap())
        };
        assert_eq!(said as usize, 1500 - overhead);
        let large =
            PacketBuilder::ip(f.outside(), f.node(0)).udp(40000, NODE_PORT).payload_len(1500 - headers);
        if f == Family::V4 {
            assert_lands(&world.arrive(0, large.build()), "c");
        }
    });
}

#[test]
fn an_error_from_a_back_end_behind_the_tunnel_reaches_the_client_in_its_own_words() {
    both(|f| {
        let (mut world, _, _, c) = shop();
        serve_everywhere(&mut world, f, 17, CLUSTER, &[(f.of(&c), 8080)]);
        let there = world.arrive(0, udp(f.outside(), 40000, f.node(0), NODE_PORT));
        assert_lands(&there, "c");
        let error = PacketBuilder::ip(f.of(&c), f.outside()).port_unreachable(&there.packet[14..]).build();
        let told = world.send(&c, error);
        assert_eq!(told.landed, Landed::Outside(0), "{:?}", told.steps);
        verify_checksums(&told.packet).unwrap();
        let quote = if f == Family::V4 { 14 + 20 + 8 } else { 14 + 40 + 8 };
        let mut quoted = there.packet[..14].to_vec();
        quoted.extend(&told.packet[quote..]);
        assert_eq!(ends(&quoted), (f.outside(), 40000, f.node(0), NODE_PORT));
    });
}

#[test]
fn without_a_tunnel_a_back_end_elsewhere_is_out_of_reach_for_the_outside() {
    both(|f| {
        let (mut world, _, _, c) = shop();
        serve_everywhere(&mut world, f, 6, CLUSTER, &[(f.of(&c), 8080)]);
        let settings = world.nodes[0].settings.get();
        world.nodes[0].settings.set(tortie_abi::settings::Settings { tunnel_ifindex: 0, ..settings });
        let lost = world.arrive(0, tcp(f.outside(), 40000, f.node(0), NODE_PORT, SYN));
        assert_dropped(&lost, DropReason::NoTunnel);
    });
}

#[test]
fn a_tag_that_only_says_how_urgent_a_frame_is_changes_nothing() {
    const PRIORITY: u16 = 0xa000;
    both(|f| {
        let (mut world, a, b, c) = shop();
        serve_everywhere(&mut world, f, 6, CLUSTER, &[(f.of(&c), 8080)]);
        let of = |from, to, port, vlan| {
            let ends = PacketBuilder::ip(from, to).mac(SRC_MAC, DST_MAC).vlan(vlan).tcp(40000, port);
            ends.flags(SYN).build()
        };
        let forged = |vlan| of(f.of(&a), f.of(&b), 8080, vlan);
        assert_lands(&world.arrive(0, of(f.outside(), f.node(0), NODE_PORT, PRIORITY)), "c");
        assert_dropped(&world.arrive(0, forged(PRIORITY)), DropReason::SourceSpoofed);
        // What the kernel gives to a VLAN's device is not the interface's own.
        let tagged = |outer: u16, inner| {
            let mut frame = forged(inner);
            frame.splice(12..12, [[0x81, 0x00], outer.to_be_bytes()].concat());
            frame
        };
        for frame in [forged(7), forged(PRIORITY | 7), tagged(PRIORITY, 7), tagged(7, PRIORITY)] {
            let passed = world.arrive(0, frame);
            assert_eq!(passed.landed, Landed::Host(0), "{:?}", passed.steps);
        }
        assert_dropped(&world.arrive(0, tagged(PRIORITY, PRIORITY)), DropReason::VlanTag);
    });
}

#[test]
fn one_port_asks_a_pod_itself_and_then_a_node_port_and_both_connections_are_their_own() {
    both(|f| {
        let (mut world, _, _, c) = shop();
        serve_everywhere(&mut world, f, 6, CLUSTER, &[(f.of(&c), 8080)]);
        let itself = |flags| world.arrive(1, tcp(f.outside(), 40000, f.of(&c), 8080, flags));
        let answers = |to, flags| world.send(&c, tcp(f.of(&c), 8080, f.outside(), to, flags));
        assert_lands(&itself(SYN), "c");
        assert_eq!(answers(40000, SYN_ACK).landed, Landed::Outside(1));
        assert_lands(&itself(ACK), "c");
        assert_dropped(&world.arrive(0, opening(f, 0, 77)), DropReason::SourcePortCollision);
        let again = world.arrive(0, opening(f, 0, 77));
        assert_lands(&again, "c");
        let moved = ends(&again.packet).1;
        assert_ne!(moved, 40000);
        let back = answers(moved, SYN_ACK);
        assert_eq!(back.landed, Landed::Outside(0), "{:?}", back.steps);
        assert_eq!(ends(&back.packet), (f.node(0), NODE_PORT, f.outside(), 40000));
        let back = answers(40000, ACK);
        assert_eq!(back.landed, Landed::Outside(1), "{:?}", back.steps);
        assert_eq!(ends(&back.packet), (f.of(&c), 8080, f.outside(), 40000));
    });
}

#[test]
fn one_port_that_asks_a_node_port_and_then_the_pod_itself_is_refused_there() {
    both(|f| {
        let (mut world, _, _, c) = shop();
        serve_everywhere(&mut world, f, 6, CLUSTER, &[(f.of(&c), 8080)]);
        let asks = |flags| world.arrive(0, tcp(f.outside(), 40000, f.node(0), NODE_PORT, flags));
        let answers = |flags| world.send(&c, tcp(f.of(&c), 8080, f.outside(), 40000, flags));
        let opening = |sequence| {
            let ends = PacketBuilder::ip(f.outside(), f.of(&c)).mac(SRC_MAC, DST_MAC).tcp(40000, 8080);
            world.arrive(1, ends.flags(SYN).seq(sequence).build())
        };
        for (sent, answered) in [(SYN, SYN_ACK), (ACK, ACK)] {
            assert_lands(&asks(sent), "c");
            let refused = opening(77);
            assert_eq!(refused.steps, [(1, Hook::FromHostDevice, Verdict::Answer)]);
            assert_eq!(ends(&refused.packet), (f.of(&c), 8080, f.outside(), 40000));
            let back = answers(answered);
            assert_eq!(back.landed, Landed::Outside(0), "{:?}", back.steps);
        }
        assert_eq!(world.nodes[1].dropped(DropReason::SourcePortCollision), 2);
        // Once the first one is over, it is the pod's own again.
        assert_lands(&asks(FIN_ACK), "c");
        assert_eq!(answers(FIN_ACK).landed, Landed::Outside(0));
        assert_lands(&opening(78), "c");
        assert_eq!(answers(SYN_ACK).landed, Landed::Outside(1));
    });
}
