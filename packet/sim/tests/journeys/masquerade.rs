//! `natOutgoing`: pods leave the cluster under their node's address.

use crate::sweep::{doubt_on, fates_on};
use crate::{ACK, FIN_ACK, Family, SYN, SYN_ACK, assert_lands, both, ends, shop, tcp, udp};
use std::net::IpAddr;
use tortie_abi::DropReason;
use tortie_datapath::Verdict;
use tortie_datapath::hook::sweep::Fate;
use tortie_datapath::{V4, V6};
use tortie_sim::world::{Landed, Pod, UPLINK, World};
use tortie_testkit::packet::{PacketBuilder, verify_checksums};

fn world() -> (World, Pod, Pod) {
    let (world, a, b, _) = shop();
    world.set_nat_outgoing(&a);
    world.set_nat_outgoing(&b);
    (world, a, b)
}

/// The first port of a node with few.
const PORT: u16 = 20_000;

fn few_ports(count: u16) -> (World, Pod, Pod) {
    let (world, a, b) = world();
    let mut settings = world.nodes[0].settings.get();
    (settings.nat_range_first, settings.nat_range_last) = (PORT, PORT + count - 1);
    world.nodes[0].settings.set(settings);
    (world, a, b)
}

#[test]
fn a_pod_leaves_the_cluster_under_its_nodes_address_and_gets_the_answers() {
    both(|f| {
        let (world, a, _) = world();
        let out = world.send(&a, tcp(f.of(&a), 40000, f.outside(), 443, SYN));
        assert_eq!(out.steps[0].2, Verdict::Routed { ifindex: UPLINK });
        verify_checksums(&out.packet).unwrap();
        let (source, port, destination, to) = ends(&out.packet);
        assert_eq!((source, destination, to), (f.node(0), f.outside(), 443));
        assert!((1_024..30_000).contains(&port), "{port} is no port of a socket of the node");
        let back = world.arrive(0, tcp(f.outside(), 443, f.node(0), port, SYN_ACK));
        assert_lands(&back, "a");
        assert_eq!(ends(&back.packet), (f.outside(), 443, f.of(&a), 40000));
        let again = world.send(&a, tcp(f.of(&a), 40000, f.outside(), 443, ACK));
        assert_eq!(ends(&again.packet), (f.node(0), port, f.outside(), 443));
    });
}

#[test]
fn pods_with_one_port_and_one_destination_do_not_meet() {
    both(|f| {
        let (world, a, b) = world();
        let port = |pod: &Pod| ends(&world.send(pod, udp(f.of(pod), 5000, f.outside(), 53)).packet).1;
        let (of_a, of_b) = (port(&a), port(&b));
        assert_ne!(of_a, of_b);
        assert_lands(&world.arrive(0, udp(f.outside(), 53, f.node(0), of_a)), "a");
        assert_lands(&world.arrive(0, udp(f.outside(), 53, f.node(0), of_b)), "b");
    });
}

#[test]
fn every_port_is_found() {
    both(|f| {
        let (world, a, _) = few_ports(100);
        let out = |port| world.send(&a, udp(f.of(&a), port, f.outside(), 53)).landed;
        assert!((0..100).all(|n| out(1000 + n) == Landed::Outside(0)), "there is one for each");
        assert_eq!(out(1100), Landed::Dropped(DropReason::SourcePortCollision));
        // To somebody else they are free.
        let other = world.send(&a, udp(f.of(&a), 1100, f.outside(), 54));
        assert_eq!(other.landed, Landed::Outside(0));
    });
}

#[test]
fn a_flow_that_is_over_gives_its_port_up_when_no_other_is_left() {
    both(|f| {
        let (world, a, b) = few_ports(1);
        let to = (f.outside(), 443);
        let opens = |pod: &Pod| world.send(pod, tcp(f.of(pod), 40000, to.0, to.1, SYN)).landed;
        let answers = |flags| world.arrive(0, tcp(to.0, to.1, f.node(0), PORT, flags)).landed;
        let says = |pod: &Pod, flags| world.send(pod, tcp(f.of(pod), 40000, to.0, to.1, flags)).landed;
        let refused = Landed::Dropped(DropReason::SourcePortCollision);
        assert_eq!(opens(&a), Landed::Outside(0));
        assert_eq!(answers(SYN_ACK), Landed::Pod("a".into()));
        assert_eq!(says(&a, ACK), Landed::Outside(0));
        world.nodes[0].advance_millis(60_000);
        assert_eq!(opens(&b), refused, "a's connection is open");
        assert_eq!(says(&a, FIN_ACK), Landed::Outside(0));
        assert_eq!(answers(FIN_ACK), Landed::Pod("a".into()));
        assert_eq!(opens(&b), refused, "what is on its way may still come");
        world.nodes[0].advance_millis(11_000);
        assert_eq!(opens(&b), Landed::Outside(0));
        assert_eq!(answers(SYN_ACK), Landed::Pod("b".into()));
        let late = says(&a, ACK);
        assert_ne!(late, Landed::Outside(0), "a's flow is forgotten with both its directions");
    });
}

#[test]
fn a_question_that_is_answered_gives_its_port_up_and_a_conversation_does_not() {
    both(|f| {
        let (world, a, b) = few_ports(1);
        let asks = |pod: &Pod| world.send(pod, udp(f.of(pod), 5000, f.outside(), 53)).landed;
        let answers = || world.arrive(0, udp(f.outside(), 53, f.node(0), PORT)).landed;
        let refused = Landed::Dropped(DropReason::SourcePortCollision);
        assert_eq!(asks(&a), Landed::Outside(0));
        world.nodes[0].advance_millis(11_000);
        assert_eq!(asks(&b), refused, "a waits for its answer");
        assert_eq!(answers(), Landed::Pod("a".into()));
        world.nodes[0].advance_millis(11_000);
        assert_eq!(asks(&a), Landed::Outside(0));
        assert_eq!(asks(&b), refused, "a goes on");
        world.nodes[0].advance_millis(11_000);
        assert_eq!(asks(&b), Landed::Outside(0));
        assert_eq!((answers(), answers()), (Landed::Pod("b".into()), Landed::Pod("b".into())));
        world.nodes[0].advance_millis(11_000);
        assert_eq!(asks(&a), refused, "more than a question");
    });
}

#[test]
fn an_echo_goes_out_and_comes_back() {
    both(|f| {
        let (world, a, _) = world();
        let out = world.send(&a, PacketBuilder::ip(f.of(&a), f.outside()).echo_request(7, 1).build());
        verify_checksums(&out.packet).unwrap();
        let header = if f == Family::V4 { 14 + 20 } else { 14 + 40 };
        let id = u16::from_be_bytes([out.packet[header + 4], out.packet[header + 5]]);
        assert_ne!(id, 7);
        let back = world.arrive(0, PacketBuilder::ip(f.outside(), f.node(0)).echo_reply(id, 1).build());
        assert_lands(&back, "a");
        assert_eq!(back.packet[header + 4..header + 6], [0, 7]);
    });
}

#[test]
fn inside_the_cluster_and_through_services_pods_keep_their_addresses() {
    both(|f| {
        let (mut world, a, b) = world();
        world.add_service(f.vip(), 80, 6, &[(f.of(&b), 8080)]);
        let to_pod = world.send(&a, tcp(f.of(&a), 40000, f.of(&b), 80, SYN));
        assert_eq!(ends(&to_pod.packet).0, f.of(&a));
        let to_service = world.send(&a, tcp(f.of(&a), 40001, f.vip(), 80, SYN));
        assert_eq!(ends(&to_service.packet).0, f.of(&a));
        let to_node = world.send(&a, tcp(f.of(&a), 40002, f.node(0), 22, SYN));
        assert_eq!(ends(&to_node.packet).0, f.of(&a));
        let other_node = world.send(&a, tcp(f.of(&a), 40003, f.node(1), 22, SYN));
        assert_eq!(ends(&other_node.packet).0, f.node(0), "another node is outside the pools");
    });
}

#[test]
fn a_pool_without_it_and_a_node_without_a_way_leave_packets_to_the_stack() {
    both(|f| {
        let (world, a, _, _) = shop();
        let frame = tcp(f.of(&a), 40000, f.outside(), 443, SYN);
        assert_eq!(world.send(&a, frame.clone()).packet, frame);
        world.set_nat_outgoing(&a);
        world.nodes[0].way_out.set(0);
        let frame = tcp(f.of(&a), 40001, f.outside(), 443, SYN);
        assert_eq!(world.send(&a, frame.clone()).packet, frame);
    });
}

#[test]
fn an_error_about_a_masqueraded_packet_reaches_the_pod_in_its_own_words() {
    both(|f| {
        let (world, a, _) = world();
        let out = world.send(&a, udp(f.of(&a), 5000, f.outside(), 53));
        let router: IpAddr = f.pick("192.0.2.1", "2001:db8:1::1");
        let error = PacketBuilder::ip(router, f.node(0)).time_exceeded(&out.packet[14..]).build();
        let told = world.arrive(0, error);
        assert_lands(&told, "a");
        let quote = if f == Family::V4 { 14 + 20 + 8 } else { 14 + 40 + 8 };
        let mut quoted = out.packet[..14].to_vec();
        quoted.extend(&told.packet[quote..]);
        assert_eq!(ends(&quoted), (f.of(&a), 5000, f.outside(), 53));
    });
}

#[test]
fn a_masqueraded_udp_flow_is_not_taken_for_one_whose_back_end_has_left() {
    both(|f| {
        let (world, a, _) = world();
        let port = ends(&world.send(&a, udp(f.of(&a), 5000, f.outside(), 53)).packet).1;
        let back = world.arrive(0, udp(f.outside(), 53, f.node(0), port));
        assert_eq!(back.landed, Landed::Pod("a".into()));
        let found =
            if f == Family::V4 { fates_on::<V4>(&world.nodes[0]) } else { fates_on::<V6>(&world.nodes[0]) };
        assert_eq!(found, [Fate::Keep, Fate::Keep]);
    });
}

#[test]
fn a_masqueraded_flow_takes_another_way_once_its_own_leads_nowhere() {
    both(|f| {
        let (world, a, _) = world();
        let first = world.send(&a, udp(f.of(&a), 5000, f.outside(), 53));
        assert_eq!(first.steps.last().unwrap().2, Verdict::Routed { ifindex: UPLINK });
        world.nodes[0].dead_end.set(UPLINK);
        world.nodes[0].way_out.set(77);
        doubt_on(&world.nodes[0]);
        let second = world.send(&a, udp(f.of(&a), 5000, f.outside(), 53));
        assert_eq!(second.steps.last().unwrap().2, Verdict::Routed { ifindex: 77 });
        assert_eq!(ends(&second.packet), ends(&first.packet));
    });
}
