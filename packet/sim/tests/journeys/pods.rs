//! Pods among themselves, with their node and with the world outside.

use crate::{Family, SYN, SYN_ACK, assert_dropped, assert_lands, both, shop, tcp, udp};
use tortie_abi::settings::{TUNNEL_PORT, flags};
use tortie_abi::{DropReason, Hook};
use tortie_datapath::Verdict;
use tortie_sim::world::{Landed, UPLINK, World};
use tortie_testkit::packet::{PacketBuilder, arp_request};
use tortie_wire::Mac;

#[test]
fn the_first_packet_to_a_pod_on_the_same_node_goes_straight_into_it() {
    both(|f| {
        let (world, a, b, _) = shop();
        let journey = world.send(&a, tcp(f.of(&a), 40000, f.of(&b), 80, SYN));
        assert_lands(&journey, "b");
        let peer = Verdict::Peer { ifindex: b.ifindex() };
        assert_eq!(journey.steps, [(0, Hook::FromWorkload, peer)]);
        assert_eq!(journey.packet[..6], b.mac().0, "addressed to the pod");
    });
}

#[test]
fn a_pod_on_another_node_is_reached_through_its_neighbour_and_answers() {
    both(|f| {
        let (world, a, _, c) = shop();
        assert_lands(&world.send(&a, tcp(f.of(&a), 40000, f.of(&c), 80, SYN)), "c");
        assert_lands(&world.send(&c, tcp(f.of(&c), 80, f.of(&a), 40000, SYN_ACK)), "a");
    });
}

#[test]
fn forwarding_takes_one_from_the_time_to_live() {
    both(|f| {
        let (world, a, b, _) = shop();
        let frame = PacketBuilder::ip(f.of(&a), f.of(&b)).ttl(64).udp(1, 2).build();
        let journey = world.send(&a, frame);
        assert_lands(&journey, "b");
        let at = if f == Family::V4 { 14 + 8 } else { 14 + 7 };
        assert_eq!(journey.packet[at], 63);
    });
}

#[test]
fn a_pod_reaches_its_node_and_gets_answers() {
    both(|f| {
        let (world, a, _, _) = shop();
        let node = f.node(0);
        assert_eq!(world.send(&a, udp(f.of(&a), 5000, node, 53)).landed, Landed::Host(0));
        assert_lands(&world.send_from_host(0, udp(node, 53, f.of(&a), 5000)), "a");
    });
}

#[test]
fn a_host_process_reaches_a_pod_whatever_its_policy_and_the_pod_answers() {
    both(|f| {
        let (mut world, a, _, _) = shop();
        world.set_policy(&a, true, |_| tortie_abi::policy::Verdict::Deny);
        world.set_policy(&a, false, |_| tortie_abi::policy::Verdict::Deny);
        assert_lands(&world.send_from_host(0, tcp(f.node(0), 41000, f.of(&a), 80, SYN)), "a");
        let reply = world.send(&a, tcp(f.of(&a), 80, f.node(0), 41000, SYN_ACK));
        assert_eq!(reply.landed, Landed::Host(0));
    });
}

#[test]
fn a_pod_reaches_the_outside_and_the_outside_reaches_a_pod() {
    both(|f| {
        let (world, a, _, _) = shop();
        let out = f.outside();
        assert_eq!(world.send(&a, tcp(f.of(&a), 40000, out, 443, SYN)).landed, Landed::Outside(0));
        assert_lands(&world.arrive(0, tcp(out, 443, f.of(&a), 40000, SYN_ACK)), "a");
        assert_lands(&world.arrive(0, tcp(out, 50000, f.of(&a), 80, SYN)), "a");
        assert_eq!(world.send(&a, tcp(f.of(&a), 80, out, 50000, SYN_ACK)).landed, Landed::Outside(0));
    });
}

#[test]
fn a_spoofed_source_is_dropped_even_on_anothers_flow() {
    both(|f| {
        let (world, a, b, c) = shop();
        assert_lands(&world.send(&a, udp(f.of(&a), 40000, f.of(&c), 80)), "c");
        let spoofed = world.send(&b, udp(f.of(&a), 40000, f.of(&c), 80));
        assert_dropped(&spoofed, DropReason::SourceSpoofed);
    });
}

#[test]
fn a_source_inside_the_cluster_cannot_come_from_the_uplink() {
    both(|f| {
        let (world, a, b, _) = shop();
        assert_dropped(&world.arrive(0, udp(f.of(&a), 1, f.of(&b), 2)), DropReason::SourceSpoofed);
        assert_dropped(&world.arrive(0, udp(f.node(0), 1, f.of(&b), 2)), DropReason::SourceSpoofed);
    });
}

#[test]
fn nothing_is_forwarded_to_a_pod_that_is_not_ready() {
    both(|f| {
        let (world, a, b, _) = shop();
        world.edit(&b, |e| e.flags = 0);
        let journey = world.send(&a, udp(f.of(&a), 1, f.of(&b), 2));
        assert_dropped(&journey, DropReason::EndpointNotReady);
    });
}

#[test]
fn a_flow_to_a_removed_pod_does_not_reach_the_next_user_of_its_slot() {
    both(|f| {
        let (world, a, b, _) = shop();
        assert_lands(&world.send(&a, udp(f.of(&a), 1, f.of(&b), 2)), "b");
        world.edit(&b, |e| e.id = tortie_abi::Target::endpoint(b.slot as u16, 2));
        let journey = world.send(&a, udp(f.of(&a), 1, f.of(&b), 2));
        assert_dropped(&journey, DropReason::TargetGone);
    });
}

#[test]
fn arp_passes_and_packets_for_the_host_pass_untouched() {
    let (world, a, _, _) = shop();
    let arp = arp_request(Mac([2; 6]), a.v4, "169.254.1.1".parse().unwrap());
    assert_eq!(world.send(&a, arp).steps, [(0, Hook::FromWorkload, Verdict::Pass)]);
    both(|f| {
        let frame = tcp(f.outside(), 50000, f.node(0), 22, SYN);
        let journey = world.arrive(0, frame.clone());
        assert_eq!((journey.landed, journey.packet), (Landed::Host(0), frame));
    });
    assert_eq!(UPLINK, 2);
}

/// Changes the settings' flags of the first node.
fn set_flags(world: &World, change: impl FnOnce(u32) -> u32) {
    let mut settings = world.nodes[0].settings.get();
    settings.flags = change(settings.flags);
    world.nodes[0].settings.set(settings);
}

#[test]
fn a_pod_sends_no_packets_in_packets_unless_it_may() {
    both(|f| {
        let (world, a, _, _) = shop();
        world.set_nat_outgoing(&a);
        let vxlan = || udp(f.of(&a), 40000, f.node(1), TUNNEL_PORT);
        let ipip = || PacketBuilder::ip(f.of(&a), f.outside()).protocol(4).payload(&[0; 40]).build();
        for (frame, allow) in [(vxlan(), flags::ALLOW_VXLAN), (ipip(), flags::ALLOW_IPIP)] {
            assert_dropped(&world.send(&a, frame.clone()), DropReason::Encapsulated);
            set_flags(&world, |before| before | allow);
            let there = world.send(&a, frame);
            assert!(matches!(there.landed, Landed::Outside(0) | Landed::Host(1)), "{:?}", there.steps);
        }
    });
}

#[test]
fn what_is_no_tunnel_has_its_port_all_the_same() {
    both(|f| {
        let (mut world, a, b, c) = shop();
        let external = f.pick("198.51.100.9", "2001:db8:f::9");
        world.add_service(external, TUNNEL_PORT, 17, &[(f.of(&b), 5353)]);
        assert_lands(&world.send(&a, udp(f.of(&a), 40000, external, TUNNEL_PORT)), "b");
        assert_lands(&world.arrive(0, udp(f.outside(), TUNNEL_PORT, f.of(&b), 53)), "b");
        let back = world.send(&b, udp(f.of(&b), 53, f.outside(), TUNNEL_PORT));
        assert!(!matches!(back.landed, Landed::Dropped(_)), "a client's own port: {:?}", back.steps);
        world.add_service(f.vip(), 7000, 17, &[(f.node(1), TUNNEL_PORT)]);
        assert_dropped(&world.send(&a, udp(f.of(&a), 1, f.vip(), 7000)), DropReason::Encapsulated);
        assert_dropped(&world.send(&a, udp(f.of(&a), 2, f.of(&c), TUNNEL_PORT)), DropReason::Encapsulated);
    });
}

#[test]
fn a_pod_that_may_not_speak_to_its_node_does_not_by_addresses_of_the_link() {
    both(|f| {
        let (world, a, _, _) = shop();
        let addresses: &[&str] = match f {
            Family::V4 => &["224.0.0.251", "239.1.1.1", "255.255.255.255"],
            Family::V6 => &["ff02::fb", "ff05::2", "fe80::ecee:eeff:feee:eeee"],
        };
        for to in addresses.iter().map(|text| text.parse().unwrap()) {
            set_flags(&world, |before| before | flags::DROP_TO_HOST);
            assert_dropped(&world.send(&a, udp(f.of(&a), 40000, to, 8088)), DropReason::EndpointToHost);
            set_flags(&world, |before| before & !flags::DROP_TO_HOST);
            let there = world.send(&a, udp(f.of(&a), 40000, to, 8088));
            assert_eq!(there.steps[0].2, Verdict::Pass, "{to}");
        }
    });
}
