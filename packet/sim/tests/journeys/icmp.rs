//! ICMP errors: made by the node, and about flows.

use crate::{Family, SYN, assert_dropped, assert_lands, both, ends, shop, udp};
use std::net::Ipv6Addr;
use tortie_abi::DropReason;
use tortie_abi::endpoint::Endpoint;
use tortie_abi::policy::Verdict as Decision;
use tortie_abi::settings::flags;
use tortie_sim::world::{Landed, World, destination};
use tortie_testkit::packet::{PacketBuilder, neighbour_solicitation, router_advertisement};
use tortie_wire::{Ip6, Mac};
use zerocopy::FromZeros as _;

/// Router and neighbour solicitations, neighbour advertisements.
const ND: [u8; 3] = [133, 135, 136];
/// Multicast listener messages.
const MLD: [u8; 4] = [130, 131, 132, 143];

fn link_message(kind: u8, hop_limit: u8, from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    PacketBuilder::ipv6(from, to).ttl(hop_limit).icmp(kind, 0, 0).payload(b"anything").build()
}

fn v6(address: &str) -> Ipv6Addr {
    address.parse().unwrap()
}

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
fn a_buffer_whose_pieces_are_too_big_for_the_next_hop_is_answered_with_its_mtu() {
    // As the simulator cuts them.
    const SEGMENT: u32 = 500;
    both(|f| {
        let (world, a, _, c) = shop();
        let header = if f == Family::V4 { 20 } else { 40 };
        for (protocol, transport) in [(6, 20), (17, 8)] {
            let whole = PacketBuilder::ip(f.of(&a), f.of(&c));
            let whole = if f == Family::V4 { whole.dont_fragment() } else { whole };
            let whole = match protocol {
                6 => whole.tcp(40000, 80).flags(SYN),
                _ => whole.udp(1, 2),
            };
            let whole = whole.payload_len(1400).build();
            let fits = header + transport + SEGMENT;
            for (mtu, passes) in [(fits, true), (fits - 1, false)] {
                for hop in world.nodes[0].next_hop.borrow_mut().values_mut() {
                    hop.mtu_bytes = mtu;
                }
                let journey = world.send_aggregate(&a, whole.clone());
                assert_lands(&journey, if passes { "c" } else { "a" });
            }
        }
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
fn a_pod_has_no_say_about_what_others_have_with_each_other() {
    both(|f| {
        let (mut world, a, b, c) = shop();
        let service = f.pick("10.96.0.9", "fd00:96::9");
        world.add_service(service, 53, 17, &[(f.of(&c), 5353)]);
        let mut packets = Vec::new();
        for to in [(f.of(&c), 5354), (service, 53), (f.outside(), 53)] {
            let there = world.send(&a, udp(f.of(&a), 9999, to.0, to.1));
            assert!(!matches!(there.landed, Landed::Dropped(_)), "{to:?}");
            // As the client has sent it, and as its server gets it.
            packets.extend([udp(f.of(&a), 9999, to.0, to.1), there.packet]);
        }
        let back = world.send(&c, udp(f.of(&c), 5354, f.of(&a), 9999));
        assert_lands(&back, "a");
        packets.push(back.packet);
        for packet in packets {
            for to in [f.of(&a), f.of(&c)] {
                for error in [
                    PacketBuilder::ip(f.of(&b), to).port_unreachable(&packet[14..]),
                    PacketBuilder::ip(f.of(&b), to).too_big(1280, &packet[14..]),
                ] {
                    assert_dropped(&world.send(&b, error.build()), DropReason::IcmpUnrelated);
                }
            }
        }
        let own = world.send(&a, udp(f.of(&a), 9999, f.of(&b), 7));
        let error = PacketBuilder::ip(f.of(&b), f.of(&a)).port_unreachable(&own.packet[14..]);
        assert_lands(&world.send(&b, error.build()), "a");
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

#[test]
fn messages_of_the_link_that_have_come_by_a_router_meet_policy() {
    let (mut world, a, b, c) = shop();
    world.set_policy(&a, true, |_| Decision::Deny);
    let outside = v6("2001:db8:1::7");
    let deny = |journey| assert_dropped(&journey, DropReason::PolicyIngress);
    for kind in ND.into_iter().chain(MLD) {
        for hop_limit in [2, 64] {
            deny(world.arrive(0, link_message(kind, hop_limit, outside, a.v6)));
        }
        // The node of the sender is a router, too.
        for hop_limit in [64, 255] {
            for pod in [&b, &c] {
                deny(world.send(pod, link_message(kind, hop_limit, pod.v6, a.v6)));
            }
        }
    }
    for from_router in [134, 137] {
        deny(world.arrive(0, link_message(from_router, 64, outside, a.v6)));
    }
}

#[test]
fn a_pod_that_nobody_knows_yet_speaks_up_under_an_address_of_the_link() {
    let (world, a, b, _) = shop();
    world.edit(&a, |e| *e = Endpoint::new_zeroed());
    let asks = |from| world.send(&a, link_message(133, 255, from, v6("ff02::2"))).landed;
    assert!(!matches!(asks(v6("fe80::a")), Landed::Dropped(_)));
    for of_others in [a.v6, b.v6, v6("2001:db8:1::7")] {
        assert_eq!(asks(of_others), Landed::Dropped(DropReason::EndpointNotReady));
    }
}

#[test]
fn a_pods_messages_to_its_link_have_a_source_of_its_own_or_of_the_link() {
    let (world, a, b, c) = shop();
    let mut settings = world.nodes[0].settings.get();
    settings.flags |= flags::DROP_TO_HOST;
    world.nodes[0].settings.set(settings);
    let (link_local, nobody) = (Ip6::link_local_of(a.mac()).into(), v6("::"));
    let invented = [v6("fe80::a"), Ip6::link_local_of(b.mac()).into()];
    let to = [World::node_addresses(0).1, v6("ff02::1"), v6("fe80::1")];
    let landed = |kind, hop_limit, from, to| world.send(&a, link_message(kind, hop_limit, from, to)).landed;
    for to in to {
        let others = [b.v6, c.v6, World::node_addresses(0).1, v6("2001:db8:1::7")];
        for from in others.into_iter().chain(invented) {
            for kind in ND.into_iter().chain(MLD) {
                for hop_limit in [1, 3, 255] {
                    let spoofed = Landed::Dropped(DropReason::SourceSpoofed);
                    assert_eq!(landed(kind, hop_limit, from, to), spoofed, "{kind} from {from} to {to}");
                }
            }
        }
        for from in [a.v6, link_local, nobody] {
            for kind in ND {
                assert!(!matches!(landed(kind, 255, from, to), Landed::Dropped(_)), "{kind} from {from}");
                assert!(matches!(landed(kind, 3, from, to), Landed::Dropped(_)), "{kind} from {from}");
            }
        }
        for from in [link_local, nobody] {
            for kind in MLD {
                assert!(!matches!(landed(kind, 1, from, to), Landed::Dropped(_)), "{kind} from {from}");
                assert!(matches!(landed(kind, 3, from, to), Landed::Dropped(_)), "{kind} from {from}");
            }
        }
    }
}
