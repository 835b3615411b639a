//! ClusterIP Services.

use crate::{ACK, FIN_ACK, Family, SYN, SYN_ACK, assert_dropped, assert_lands, both, ends, shop, tcp, udp};
use std::net::IpAddr;
use tortie_abi::DropReason;
use tortie_sim::world::{Landed, World};
use tortie_testkit::packet::{PacketBuilder, verify_checksums};
use tortie_wire::tcp::TcpFlags;

#[test]
fn a_client_talks_to_the_service_and_never_sees_the_back_end() {
    both(|f| {
        let (mut world, a, _, c) = shop();
        world.add_service(f.vip(), 80, 6, &[(f.of(&c), 8080)]);
        let there = world.send(&a, tcp(f.of(&a), 40000, f.vip(), 80, SYN));
        assert_lands(&there, "c");
        assert_eq!(ends(&there.packet), (f.of(&a), 40000, f.of(&c), 8080));
        let back = world.send(&c, tcp(f.of(&c), 8080, f.of(&a), 40000, SYN_ACK));
        assert_lands(&back, "a");
        assert_eq!(ends(&back.packet), (f.vip(), 80, f.of(&a), 40000));
        let again = world.send(&a, tcp(f.of(&a), 40000, f.vip(), 80, ACK));
        assert_lands(&again, "c");
        assert_eq!(ends(&again.packet), (f.of(&a), 40000, f.of(&c), 8080));
    });
}

#[test]
fn a_udp_service_without_checksum_keeps_none() {
    let (mut world, a, b, _) = shop();
    let f = Family::V4;
    world.add_service(f.vip(), 53, 17, &[(f.of(&b), 5353)]);
    let frame = PacketBuilder::ip(f.of(&a), f.vip()).udp(9999, 53).no_udp_checksum().build();
    let journey = world.send(&a, frame);
    assert_lands(&journey, "b");
    assert_eq!(journey.packet[40..42], [0, 0]);
}

#[test]
fn a_retransmitted_syn_keeps_its_back_end() {
    both(|f| {
        let (mut world, a, b, c) = shop();
        world.add_service(f.vip(), 80, 6, &[(f.of(&b), 80), (f.of(&c), 80)]);
        let first = world.send(&a, tcp(f.of(&a), 40000, f.vip(), 80, SYN)).landed;
        for _ in 0..20 {
            assert_eq!(world.send(&a, tcp(f.of(&a), 40000, f.vip(), 80, SYN)).landed, first);
        }
    });
}

#[test]
fn back_ends_are_chosen_evenly() {
    both(|f| {
        let (mut world, a, b, c) = shop();
        world.add_service(f.vip(), 80, 17, &[(f.of(&b), 80), (f.of(&c), 80)]);
        let to_b = (0..1000_u16)
            .filter(|p| {
                world.send(&a, udp(f.of(&a), 20000 + p, f.vip(), 80)).landed == Landed::Pod("b".into())
            })
            .count();
        assert!((400..600).contains(&to_b), "{to_b} of 1000");
    });
}

#[test]
fn a_pod_behind_a_service_reaches_itself_through_it() {
    both(|f| {
        let (mut world, a, _, _) = shop();
        world.add_service(f.vip(), 80, 6, &[(f.of(&a), 8080)]);
        let there = world.send(&a, tcp(f.of(&a), 40000, f.vip(), 80, SYN));
        assert_lands(&there, "a");
        assert_eq!(ends(&there.packet), (f.node(0), 40000, f.of(&a), 8080));
        let back = world.send(&a, tcp(f.of(&a), 8080, f.node(0), 40000, SYN_ACK));
        assert_lands(&back, "a");
        assert_eq!(ends(&back.packet), (f.vip(), 80, f.of(&a), 40000));
    });
}

#[test]
fn a_service_without_endpoints_resets_tcp_and_refuses_udp_at_once() {
    both(|f| {
        let (mut world, a, _, _) = shop();
        world.add_service(f.vip(), 80, 6, &[]);
        world.add_service(f.vip(), 53, 17, &[]);
        let reset = world.send(&a, tcp(f.of(&a), 40000, f.vip(), 80, SYN));
        assert_lands(&reset, "a");
        assert_eq!(ends(&reset.packet), (f.vip(), 80, f.of(&a), 40000));
        let flags = reset.packet[if f == Family::V4 { 14 + 20 + 13 } else { 14 + 40 + 13 }];
        assert_eq!(flags, TcpFlags::RST.0 | TcpFlags::ACK.0);
        let refused = world.send(&a, udp(f.of(&a), 9999, f.vip(), 53));
        assert_lands(&refused, "a");
        assert_eq!(world.nodes[0].dropped(DropReason::NoBackend), 2, "both are counted");
    });
}

#[test]
fn two_flows_that_collide_behind_the_service_get_different_ports() {
    both(|f| {
        let (mut world, a, b, _) = shop();
        let other = f.pick("10.96.0.11", "fd00:96::11");
        world.add_service(f.vip(), 80, 6, &[(f.of(&b), 80)]);
        world.add_service(other, 80, 6, &[(f.of(&b), 80)]);
        let one = world.send(&a, tcp(f.of(&a), 40000, f.vip(), 80, SYN));
        assert_eq!(ends(&one.packet), (f.of(&a), 40000, f.of(&b), 80));
        let two = world.send(&a, tcp(f.of(&a), 40000, other, 80, SYN));
        assert_lands(&two, "b");
        let moved = ends(&two.packet).1;
        assert!((20000..30000).contains(&moved), "{moved}");
        let back = world.send(&b, tcp(f.of(&b), 80, f.of(&a), moved, SYN_ACK));
        assert_lands(&back, "a");
        assert_eq!(ends(&back.packet), (other, 80, f.of(&a), 40000));
        let again = world.send(&a, tcp(f.of(&a), 40000, other, 80, ACK));
        assert_eq!(ends(&again.packet), (f.of(&a), moved, f.of(&b), 80));
    });
}

#[test]
fn one_source_port_reaches_a_back_end_through_its_service_and_directly() {
    both(|f| {
        for is_tcp in [true, false] {
            for is_over in [false, true] {
                let (mut world, a, b, _) = shop();
                let packet = |from: (IpAddr, u16), to: (IpAddr, u16), flags| match is_tcp {
                    true => tcp(from.0, from.1, to.0, to.1, flags),
                    false => udp(from.0, from.1, to.0, to.1),
                };
                let (client, vip, server) = ((f.of(&a), 40000), (f.vip(), 80), (f.of(&b), 80));
                world.add_service(vip.0, vip.1, if is_tcp { 6 } else { 17 }, &[server]);
                world.send(&a, packet(client, vip, SYN));
                let answer = world.send(&b, packet(server, client, SYN_ACK));
                assert_eq!(ends(&answer.packet), (vip.0, vip.1, client.0, client.1));
                if is_over {
                    world.send(&a, packet(client, vip, FIN_ACK));
                    world.send(&b, packet(server, client, FIN_ACK));
                }
                let direct = world.send(&a, packet(client, server, SYN));
                assert_lands(&direct, "b");
                let moved = ends(&direct.packet).1;
                assert!((20000..30000).contains(&moved), "{moved}");
                let answer = world.send(&b, packet(server, (client.0, moved), SYN_ACK));
                assert_lands(&answer, "a");
                assert_eq!(ends(&answer.packet), (server.0, server.1, client.0, client.1));
                let again = world.send(&a, packet(client, server, ACK));
                assert_eq!(ends(&again.packet), (client.0, moved, server.0, server.1));
                let first = world.send(&b, packet(server, client, ACK));
                assert_eq!(ends(&first.packet), (vip.0, vip.1, client.0, client.1), "the first flow goes on");
            }
        }
    });
}

#[test]
fn a_half_open_flow_through_a_service_keeps_its_answer_from_a_direct_one() {
    both(|f| {
        let (mut world, a, b, _) = shop();
        world.add_service(f.vip(), 80, 6, &[(f.of(&b), 80)]);
        world.send(&a, tcp(f.of(&a), 40000, f.vip(), 80, SYN));
        let direct = world.send(&a, tcp(f.of(&a), 40000, f.of(&b), 80, SYN));
        assert_ne!(ends(&direct.packet).1, 40000);
        let answer = world.send(&b, tcp(f.of(&b), 80, f.of(&a), 40000, SYN_ACK));
        assert_eq!(ends(&answer.packet), (f.vip(), 80, f.of(&a), 40000));
    });
}

#[test]
fn fragments_of_a_service_flow_follow_their_first_one() {
    both(|f| {
        let mut world = World::new(1);
        let a = world.add_pod("a", 0);
        let b = world.add_pod("b", 0);
        world.add_service(f.vip(), 53, 17, &[(f.of(&b), 53)]);
        let mut whole = PacketBuilder::ip(f.of(&a), f.vip()).udp(9999, 53).payload_len(2000);
        if f == Family::V4 {
            whole = whole.id(7);
        }
        let fragments = whole.build_fragments(1400);
        assert!(fragments.len() > 1);
        for fragment in &fragments {
            let journey = world.send(&a, fragment.clone());
            assert_eq!(journey.landed, Landed::Pod("b".into()));
            assert_eq!(tortie_sim::world::destination(&journey.packet), Some(f.of(&b)));
        }
        let orphan = whole.clone().build_fragments(1400).pop().unwrap();
        let (fresh, sender) = (World::new(1), a);
        let mut fresh = fresh;
        fresh.add_pod("a", 0);
        assert_dropped(&fresh.send(&sender, orphan), DropReason::FragmentWithoutFirst);
    });
}

#[test]
fn the_first_fragment_of_a_liar_says_nothing_about_the_fragments_of_whose_name_it_has() {
    both(|f| {
        let (mut world, a, b, _) = shop();
        let server = world.add_pod("server", 0);
        let whole = PacketBuilder::ip(f.of(&a), f.of(&server)).udp(1000, 2000).payload_len(2000);
        let fragments = whole.build_fragments(1400);
        assert_dropped(&world.send(&b, fragments[0].clone()), DropReason::SourceSpoofed);
        assert_dropped(&world.send(&a, fragments[1].clone()), DropReason::FragmentWithoutFirst);
    });
}

#[test]
fn an_echo_to_a_pod_keeps_right_checksums() {
    both(|f| {
        let (world, a, _, c) = shop();
        let journey = world.send(&a, PacketBuilder::ip(f.of(&a), f.of(&c)).echo_request(7, 1).build());
        assert_lands(&journey, "c");
        let back = world.send(&c, PacketBuilder::ip(f.of(&c), f.of(&a)).echo_reply(7, 1).build());
        assert_lands(&back, "a");
        verify_checksums(&back.packet).unwrap();
    });
}

/// Pearson's statistic of what should be equal shares.
fn chi_square(counts: &[u32], total: u32) -> f64 {
    let expected = f64::from(total) / counts.len() as f64;
    counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum()
}

#[test]
fn a_hundred_thousand_connections_are_shared_out_as_chance_would() {
    // For so many back ends: what one in a thousand fair experiments exceeds.
    for (count, limit) in [(3_u16, 13.82), (10, 27.88), (100, 148.23)] {
        both(|f| {
            let (mut world, _, b, _) = shop();
            let backends: Vec<_> = (0..count).map(|n| (f.of(&b), 8000 + n)).collect();
            world.add_service(f.vip(), 80, 17, &backends);
            let mut counts = vec![0; usize::from(count)];
            for n in 0..100_000_u32 {
                let (high, port) = ((n >> 15) as u16, 1024 + (n & 0x7fff) as u16);
                let client = f.pick(&format!("192.0.2.{}", high + 1), &format!("2001:db8:1::{:x}", high + 1));
                let there = world.arrive(0, udp(client, port, f.vip(), 80));
                counts[usize::from(ends(&there.packet).3 - 8000)] += 1;
            }
            let statistic = chi_square(&counts, 100_000);
            assert!(statistic < limit, "{count} back ends: {statistic:.1} is above {limit}: {counts:?}");
        });
    }
}
