//! Direct server return: a back end on another node answers the client outside without the node that was asked.

use crate::sweep::fates_on;
use crate::{
    ACK, DST_MAC, FIN_ACK, Family, SRC_MAC, SYN, SYN_ACK, assert_dropped, assert_lands, both, ends, shop,
    tcp, udp,
};
use std::net::IpAddr;
use tortie_abi::policy::Verdict as Decision;
use tortie_abi::service::{Frontend, flags as service};
use tortie_abi::settings::flags;
use tortie_abi::{DropReason, Hook};
use tortie_datapath::hook::sweep::Fate;
use tortie_datapath::{V4, V6, Verdict};
use tortie_sim::world::{Landed, Pod, UPLINK, World};
use tortie_testkit::packet::{PacketBuilder, verify_checksums};

const PORT: u16 = 443;

fn balancer(f: Family) -> IpAddr {
    f.pick("198.51.100.9", "2001:db8:f::9")
}

fn set_direct(world: &World, on: bool) {
    for node in &world.nodes {
        let mut settings = node.settings.get();
        settings.flags &= !flags::DIRECT_RETURN;
        settings.flags |= if on { flags::DIRECT_RETURN } else { 0 };
        node.settings.set(settings);
    }
}

/// A load balancer's address on every node, with the back end `c` on the second.
fn serve(f: Family, protocol: u8) -> (World, Pod) {
    let (mut world, _, _, c) = shop();
    let service = world.new_service();
    let frontend = Frontend { service, backends: 1, flags: service::EXTERNAL, ..Frontend::default() };
    for node in 0..2 {
        world.set_frontend(node, (balancer(f), PORT, protocol), frontend, &[(f.of(&c), 8080)]);
    }
    set_direct(&world, true);
    (world, c)
}

/// The answer leaves the node of the back end itself, under the front end's address.
#[track_caller]
fn assert_direct(world: &World, f: Family, c: &Pod, reply: Vec<u8>) {
    let back = world.send(c, reply);
    assert_eq!(back.landed, Landed::Outside(1), "{:?}", back.steps);
    assert_eq!(back.steps.last().unwrap().2, Verdict::Routed { ifindex: UPLINK });
    assert_eq!(ends(&back.packet), (balancer(f), PORT, f.outside(), 40000));
    verify_checksums(&back.packet).unwrap();
}

/// The answer passes the node that was asked.
#[track_caller]
fn assert_through_tunnel(world: &World, f: Family, c: &Pod, reply: Vec<u8>) {
    let back = world.send(c, reply);
    assert_eq!(back.landed, Landed::Outside(0), "{:?}", back.steps);
    assert_eq!(ends(&back.packet), (balancer(f), PORT, f.outside(), 40000));
    verify_checksums(&back.packet).unwrap();
}

/// A TCP connection up to the client's acknowledgement.
fn connect(world: &World, f: Family, c: &Pod) {
    let from = |flags| tcp(f.outside(), 40000, balancer(f), PORT, flags);
    assert_lands(&world.arrive(0, from(SYN)), "c");
    assert_through_tunnel(world, f, c, tcp(f.of(c), 8080, f.outside(), 40000, SYN_ACK));
    assert_lands(&world.arrive(0, from(ACK)), "c");
}

#[test]
fn once_the_handshake_is_over_the_back_ends_node_answers_the_client_itself() {
    both(|f| {
        let (world, c) = serve(f, 6);
        connect(&world, f, &c);
        for _ in 0..3 {
            assert_direct(&world, f, &c, tcp(f.of(&c), 8080, f.outside(), 40000, ACK));
            let there = world.arrive(0, tcp(f.outside(), 40000, balancer(f), PORT, ACK));
            assert_lands(&there, "c");
            assert_eq!(
                ends(&there.packet),
                (f.outside(), 40000, f.of(&c), 8080),
                "the client's address is kept"
            );
        }
        assert_direct(&world, f, &c, tcp(f.of(&c), 8080, f.outside(), 40000, FIN_ACK));
        assert_lands(&world.arrive(0, tcp(f.outside(), 40000, balancer(f), PORT, FIN_ACK)), "c");
        // The next connection of these ends begins anew.
        connect(&world, f, &c);
    });
}

#[test]
fn a_udp_answer_is_direct_from_the_first_one_on() {
    both(|f| {
        let (world, c) = serve(f, 17);
        for _ in 0..3 {
            let there = world.arrive(0, udp(f.outside(), 40000, balancer(f), PORT));
            assert_lands(&there, "c");
            assert_eq!(ends(&there.packet), (f.outside(), 40000, f.of(&c), 8080));
            assert_direct(&world, f, &c, udp(f.of(&c), 8080, f.outside(), 40000));
        }
    });
}

#[test]
fn a_back_end_on_the_nodes_own_network_answers_directly_too() {
    both(|f| {
        let (mut world, ..) = shop();
        let service = world.new_service();
        let frontend = Frontend { service, backends: 1, flags: service::EXTERNAL, ..Frontend::default() };
        for node in 0..2 {
            world.set_frontend(node, (balancer(f), PORT, 17), frontend, &[(f.node(1), 8080)]);
        }
        set_direct(&world, true);
        let there = world.arrive(0, udp(f.outside(), 40000, balancer(f), PORT));
        assert_eq!(there.landed, Landed::Host(1), "{:?}", there.steps);
        let back = world.send_from_host(1, udp(f.node(1), 8080, f.outside(), 40000));
        assert_eq!(back.landed, Landed::Outside(1), "{:?}", back.steps);
        assert_eq!(ends(&back.packet), (balancer(f), PORT, f.outside(), 40000));
        verify_checksums(&back.packet).unwrap();
    });
}

#[test]
fn the_note_is_taken_off_before_the_pod_sees_the_packet_and_does_not_touch_its_checksum() {
    both(|f| {
        let (world, _) = serve(f, 6);
        let sent = tcp(f.outside(), 40000, balancer(f), PORT, SYN);
        let mut padded = sent.clone();
        padded.extend([0xee; 30]);
        for frame in [sent.clone(), padded] {
            let there = world.arrive(0, frame);
            assert_lands(&there, "c");
            assert_eq!(there.packet.len(), sent.len());
        }
    });
}

#[test]
fn clients_that_have_opted_out_are_answered_through_the_node_that_they_asked() {
    both(|f| {
        let (world, c) = serve(f, 17);
        let (length4, length6) = (24, 48);
        let of = |address: IpAddr| match address {
            IpAddr::V4(a) => _ = world.nodes[0].v4.opt_out.borrow_mut().insert(&a.octets(), length4, 1),
            IpAddr::V6(a) => _ = world.nodes[0].v6.opt_out.borrow_mut().insert(&a.octets(), length6, 1),
        };
        of(f.outside());
        assert_lands(&world.arrive(0, udp(f.outside(), 40000, balancer(f), PORT)), "c");
        assert_through_tunnel(&world, f, &c, udp(f.of(&c), 8080, f.outside(), 40000));
    });
}

#[test]
fn a_flow_goes_on_as_it_began_when_the_mode_changes() {
    both(|f| {
        let (world, c) = serve(f, 6);
        connect(&world, f, &c);
        assert_direct(&world, f, &c, tcp(f.of(&c), 8080, f.outside(), 40000, ACK));
        set_direct(&world, false);
        assert_direct(&world, f, &c, tcp(f.of(&c), 8080, f.outside(), 40000, ACK));
        assert_lands(&world.arrive(0, tcp(f.outside(), 40000, balancer(f), PORT, ACK)), "c");
        let (world, c) = serve(f, 6);
        set_direct(&world, false);
        connect(&world, f, &c);
        set_direct(&world, true);
        for _ in 0..2 {
            assert_through_tunnel(&world, f, &c, tcp(f.of(&c), 8080, f.outside(), 40000, ACK));
            assert_lands(&world.arrive(0, tcp(f.outside(), 40000, balancer(f), PORT, ACK)), "c");
        }
    });
}

#[test]
fn a_first_packet_without_room_for_the_note_is_answered_through_the_tunnel() {
    both(|f| {
        let (world, c) = serve(f, 17);
        let (headers, overhead) = if f == Family::V4 { (28, 50) } else { (48, 70) };
        let full = PacketBuilder::ip(f.outside(), balancer(f)).udp(40000, PORT);
        let full = full.payload_len(1500 - overhead - headers).build();
        assert_lands(&world.arrive(0, full), "c");
        assert_through_tunnel(&world, f, &c, udp(f.of(&c), 8080, f.outside(), 40000));
    });
}

#[test]
fn a_node_without_a_way_to_the_client_answers_through_the_tunnel() {
    both(|f| {
        let (world, c) = serve(f, 17);
        world.nodes[1].way_out.set(0);
        for _ in 0..2 {
            assert_lands(&world.arrive(0, udp(f.outside(), 40000, balancer(f), PORT)), "c");
            assert_through_tunnel(&world, f, &c, udp(f.of(&c), 8080, f.outside(), 40000));
        }
    });
}

#[test]
fn errors_find_their_flow_from_either_side() {
    both(|f| {
        let (world, c) = serve(f, 17);
        let there = world.arrive(0, udp(f.outside(), 40000, balancer(f), PORT));
        assert_lands(&there, "c");
        let reply = world.send(&c, udp(f.of(&c), 8080, f.outside(), 40000));
        // A router on the answer's way knows the front end alone, whose address leads to the node that was asked.
        let router = f.pick("192.0.2.1", "2001:db8:1::1");
        let told = PacketBuilder::ip(router, balancer(f)).too_big(1280, &reply.packet[14..]).build();
        let told = world.arrive(0, told);
        assert_lands(&told, "c");
        let quote = if f == Family::V4 { 14 + 20 + 8 } else { 14 + 40 + 8 };
        let quoted = |frame: &[u8]| {
            let mut quoted = there.packet[..14].to_vec();
            quoted.extend(&frame[quote..]);
            ends(&quoted)
        };
        assert_eq!(quoted(&told.packet), (f.of(&c), 8080, f.outside(), 40000), "in the pod's own words");
        let error = PacketBuilder::ip(f.of(&c), f.outside()).port_unreachable(&there.packet[14..]).build();
        let told = world.send(&c, error);
        assert_eq!(told.landed, Landed::Outside(1), "{:?}", told.steps);
        verify_checksums(&told.packet).unwrap();
        assert_eq!(
            quoted(&told.packet),
            (f.outside(), 40000, balancer(f), PORT),
            "in the client's own words"
        );
    });
}

#[test]
fn policy_of_the_pod_is_asked_again_when_it_changes() {
    both(|f| {
        let (mut world, c) = serve(f, 6);
        connect(&world, f, &c);
        assert_direct(&world, f, &c, tcp(f.of(&c), 8080, f.outside(), 40000, ACK));
        world.set_policy(&c, true, |_| Decision::Deny);
        let reply = world.send(&c, tcp(f.of(&c), 8080, f.outside(), 40000, ACK));
        assert_eq!(reply.landed, Landed::Dropped(DropReason::PolicyIngress));
        let there = world.arrive(0, tcp(f.outside(), 40000, balancer(f), PORT, ACK));
        assert_eq!(there.landed, Landed::Dropped(DropReason::PolicyIngress));
        world.set_policy(&c, true, |_| Decision::Allow);
        assert_direct(&world, f, &c, tcp(f.of(&c), 8080, f.outside(), 40000, ACK));
    });
}

#[test]
fn both_nodes_forget_the_flow_when_it_is_idle() {
    both(|f| {
        let (world, c) = serve(f, 17);
        for _ in 0..2 {
            assert_lands(&world.arrive(0, udp(f.outside(), 40000, balancer(f), PORT)), "c");
            assert_direct(&world, f, &c, udp(f.of(&c), 8080, f.outside(), 40000));
        }
        for node in &world.nodes {
            let fates = || if f == Family::V4 { fates_on::<V4>(node) } else { fates_on::<V6>(node) };
            assert_eq!(fates(), [Fate::Keep; 2], "both sides count as heard, also where answers do not pass");
            node.advance_millis(61_000);
            assert_eq!(fates(), [Fate::Expired; 2]);
        }
    });
}

#[test]
fn what_is_told_without_a_note_or_by_a_stranger_changes_no_address() {
    both(|f| {
        let (world, c) = serve(f, 17);
        let inner = udp(f.outside(), 41000, f.of(&c), 8080);
        let there = world.arrive_by_tunnel(1, f.node(0), inner.clone());
        assert_eq!(there.steps[0].1, Hook::FromTunnel);
        assert_lands(&there, "c");
        let mut forged = inner;
        forged.extend([0x17; 20]);
        assert_lands(&world.arrive_by_tunnel(1, f.node(0), forged), "c");
        let back = world.send(&c, udp(f.of(&c), 8080, f.outside(), 41000));
        assert_ne!(back.landed, Landed::Outside(1), "{:?}", back.steps);
    });
}

/// Two ports of the load balancer's address on every one of three nodes, with the back end `c` on the second.
fn serve_two(f: Family, protocol: u8) -> (World, Pod) {
    let mut world = World::new(3);
    let c = world.add_pod("c", 1);
    let service = world.new_service();
    for node in 0..3 {
        let frontend = Frontend { service, backends: 1, flags: service::EXTERNAL, ..Frontend::default() };
        for port in [PORT, PORT + 1] {
            world.set_frontend(node, (balancer(f), port, protocol), frontend, &[(f.of(&c), 8080)]);
        }
    }
    set_direct(&world, true);
    (world, c)
}

#[test]
fn one_port_asks_two_nodes_for_one_back_end_and_is_answered_by_both() {
    both(|f| {
        let (world, c) = serve_two(f, 6);
        connect(&world, f, &c);
        assert_direct(&world, f, &c, tcp(f.of(&c), 8080, f.outside(), 40000, ACK));
        let opening = |sequence| {
            let ends = PacketBuilder::ip(f.outside(), balancer(f)).mac(SRC_MAC, DST_MAC).tcp(40000, PORT + 1);
            ends.flags(SYN).seq(sequence).build()
        };
        assert_dropped(&world.arrive(2, opening(77)), DropReason::SourcePortCollision);
        let again = world.arrive(2, opening(77));
        assert_lands(&again, "c");
        let port = ends(&again.packet).1;
        assert_ne!(port, 40000);
        for (answered, sent) in [(SYN_ACK, ACK), (ACK, ACK), (ACK, ACK)] {
            let back = world.send(&c, tcp(f.of(&c), 8080, f.outside(), port, answered));
            assert_eq!(back.landed, Landed::Outside(2), "by the node that moved the port: {:?}", back.steps);
            assert_eq!(ends(&back.packet), (balancer(f), PORT + 1, f.outside(), 40000));
            assert_lands(&world.arrive(2, tcp(f.outside(), 40000, balancer(f), PORT + 1, sent)), "c");
        }
        assert_direct(&world, f, &c, tcp(f.of(&c), 8080, f.outside(), 40000, ACK));
    });
}

#[test]
fn one_port_asks_the_back_ends_node_before_another_and_is_answered_by_both() {
    both(|f| {
        let (world, c) = serve_two(f, 6);
        let asks = |node, port, flags| world.arrive(node, tcp(f.outside(), 40000, balancer(f), port, flags));
        let answers = |to, flags| world.send(&c, tcp(f.of(&c), 8080, f.outside(), to, flags));
        assert_lands(&asks(1, PORT, SYN), "c");
        let there = asks(0, PORT + 1, SYN);
        assert_lands(&there, "c");
        let moved = ends(&there.packet).1;
        assert_ne!(moved, 40000);
        for (answered, sent) in [(SYN_ACK, ACK), (ACK, ACK), (ACK, ACK)] {
            for (node, port, to) in [(1, PORT, 40000), (0, PORT + 1, moved)] {
                let back = answers(to, answered);
                assert_eq!(back.landed, Landed::Outside(node), "{:?}", back.steps);
                assert_eq!(ends(&back.packet), (balancer(f), port, f.outside(), 40000));
                verify_checksums(&back.packet).unwrap();
                let there = asks(node, port, sent);
                assert_lands(&there, "c");
                assert_eq!(ends(&there.packet), (f.outside(), to, f.of(&c), 8080));
            }
        }
    });
}

#[test]
fn datagrams_are_answered_under_the_front_end_that_was_noted_last() {
    both(|f| {
        let (world, c) = serve_two(f, 17);
        let asks = |from, node, port| {
            assert_lands(&world.arrive(node, udp(f.outside(), from, balancer(f), port)), "c");
        };
        let assert_answered = |from, port| {
            for _ in 0..2 {
                let back = world.send(&c, udp(f.of(&c), 8080, f.outside(), from));
                assert_eq!(back.landed, Landed::Outside(1), "{:?}", back.steps);
                assert_eq!(ends(&back.packet), (balancer(f), port, f.outside(), from));
                verify_checksums(&back.packet).unwrap();
            }
        };
        asks(40000, 0, PORT);
        assert_answered(40000, PORT);
        asks(40000, 2, PORT + 1);
        assert_answered(40000, PORT + 1);
        // No answer between the two.
        asks(40001, 0, PORT);
        asks(40001, 2, PORT + 1);
        assert_answered(40001, PORT + 1);
    });
}
