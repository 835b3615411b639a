//! ICMP errors: made by the node, and about flows.

use crate::{Family, assert_dropped, assert_lands, both, ends, shop, udp};
use tortie_abi::DropReason;
use tortie_sim::world::{Landed, destination};
use tortie_testkit::packet::{PacketBuilder, neighbour_solicitation, router_advertisement};
use tortie_wire::Mac;

#[test]
fn a_packet_whose_time_is_up_is_answered_by_the_node() {
    both(|f| {
        let (world, a, b, _) = shop();
        let journey = world.send(&a, PacketBuilder::ip(f.of(&a), f.of(&b)).ttl(1).udp(1, 2).build());
        assert_lands(&journey, "a");
        assert_eq!(destination(&journey.packet), Some(f.of(&a)));
        assert_eq!(world.nodes[0].dropped(DropReason::TtlExceeded), 1);
    });
}

#[test]
fn a_packet_too_big_for_the_next_hop_is_answered_with_its_mtu() {
    both(|f| {
        let (world, a, _, c) = shop();
        for hop in world.nodes[0].next_hop.borrow_mut().values_mut() {
            hop.mtu_bytes = 1300;
        }
        let mut big = PacketBuilder::ip(f.of(&a), f.of(&c)).udp(1, 2).payload_len(1400);
        if f == Family::V4 {
            big = big.dont_fragment();
        }
        let journey = world.send(&a, big.build());
        assert_lands(&journey, "a");
        let at = if f == Family::V4 { 14 + 20 + 4 } else { 14 + 40 + 4 };
        assert_eq!(journey.packet[at..at + 4], 1300_u32.to_be_bytes());
        assert_lands(&world.send(&a, PacketBuilder::ip(f.of(&a), f.of(&c)).udp(1, 2).build()), "c");
    });
}

#[test]
fn an_error_about_a_service_flow_reaches_the_client_as_if_the_service_had_spoken() {
    both(|f| {
        let (mut world, a, b, _) = shop();
        world.add_service(f.vip(), 53, 17, &[(f.of(&b), 5353)]);
        let there = world.send(&a, udp(f.of(&a), 9999, f.vip(), 53));
        assert_lands(&there, "b");
        let quoted = &there.packet[14..];
        let error = PacketBuilder::ip(f.of(&b), f.of(&a)).port_unreachable(quoted).build();
        let back = world.send(&b, error);
        assert_lands(&back, "a");
        let inner_at = if f == Family::V4 { 14 + 20 + 8 } else { 14 + 40 + 8 };
        let mut inner = back.packet[..14].to_vec();
        inner.extend_from_slice(&back.packet[inner_at..]);
        assert_eq!(ends(&inner), (f.of(&a), 9999, f.vip(), 53));
        let source = if f == Family::V4 { &back.packet[26..30] } else { &back.packet[22..38] };
        let vip = match f.vip() {
            std::net::IpAddr::V4(v) => v.octets().to_vec(),
            std::net::IpAddr::V6(v) => v.octets().to_vec(),
        };
        assert_eq!(source, vip);
    });
}

#[test]
fn an_error_from_a_router_about_a_flow_reaches_the_pod_and_others_do_not() {
    both(|f| {
        let (world, a, _, _) = shop();
        let router = f.pick("10.240.0.254", "fd00:240::fe");
        let out = world.send(&a, udp(f.of(&a), 9999, f.outside(), 53));
        assert_eq!(out.landed, Landed::Outside(0));
        let about = |quoted: &[u8]| PacketBuilder::ip(router, f.of(&a)).too_big(1280, quoted).build();
        assert_lands(&world.arrive(0, about(&out.packet[14..])), "a");
        let stranger = udp(f.of(&a), 9998, f.outside(), 53);
        assert_dropped(&world.arrive(0, about(&stranger[14..])), DropReason::IcmpUnrelated);
    });
}

#[test]
fn an_echo_reply_alone_opens_nothing() {
    both(|f| {
        let (world, a, b, _) = shop();
        let journey = world.send(&a, PacketBuilder::ip(f.of(&a), f.of(&b)).echo_reply(1, 1).build());
        assert_dropped(&journey, DropReason::NoFlow);
    });
}

#[test]
fn neighbour_discovery_passes_and_a_pod_cannot_play_router() {
    let (world, a, _, _) = shop();
    let solicitation = neighbour_solicitation(Mac([2; 6]), a.v6, "fe80::1".parse().unwrap());
    assert!(!matches!(world.send(&a, solicitation).landed, Landed::Dropped(_)));
    let advertisement = router_advertisement(Mac([2; 6]), "fe80::2".parse().unwrap());
    assert_dropped(&world.send(&a, advertisement), DropReason::RouterImpersonation);
}
