//! `natOutgoing`: pods leave the cluster under their node's address.

use crate::sweep::fates_on;
use crate::{ACK, Family, SYN, SYN_ACK, assert_lands, both, ends, shop, tcp, udp};
use std::net::IpAddr;
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

#[test]
fn a_pod_leaves_the_cluster_under_its_nodes_address_and_gets_the_answers() {
    both(|f| {
        let (world, a, _) = world();
        let out = world.send(&a, tcp(f.of(&a), 40000, f.outside(), 443, SYN));
        assert_eq!(out.steps[0].2, Verdict::Routed { ifindex: UPLINK });
        verify_checksums(&out.packet).unwrap();
        let (source, port, destination, to) = ends(&out.packet);
        assert_eq!((source, destination, to), (f.node(0), f.outside(), 443));
        assert!((20_000..30_000).contains(&port), "{port} is no port of a socket of the node");
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
fn a_port_is_found_when_most_are_taken() {
    both(|f| {
        let (world, a, _) = world();
        let mut settings = world.nodes[0].settings.get();
        (settings.port_range_first, settings.port_range_last) = (20_000, 20_199);
        world.nodes[0].settings.set(settings);
        let out = |port| world.send(&a, udp(f.of(&a), port, f.outside(), 53)).landed == Landed::Outside(0);
        let lost = (0..100).filter(|n| !out(1000 + n)).count();
        assert_eq!(lost, 0, "of 200 there were at least 100 left");
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
