//! Services that clients outside are led to by a consistent-hash table: any node leads a flow to its back end, also in the
//! middle.

use crate::{ACK, FIN_ACK, Family, SYN, SYN_ACK, assert_dropped, assert_lands, both, ends, tcp, udp};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use tortie_abi::policy::Verdict as Decision;
use tortie_abi::service::{Frontend, MAGLEV_PIECE, flags as service};
use tortie_abi::settings::flags;
use tortie_abi::{DropReason, Tick};
use tortie_datapath::kernel::Table;
use tortie_sim::world::{Journey, Landed, Pod, World};
use tortie_testkit::packet::verify_checksums;
use tortie_wire::tcp::TcpFlags;

const PORT: u16 = 443;

fn balancer(f: Family) -> IpAddr {
    f.pick("198.51.100.9", "2001:db8:f::9")
}

/// Of a table, which has more than one piece.
const PLACES: u32 = MAGLEV_PIECE + 5;

/// Three nodes with a pod each: `a`, `b`, `c`.
fn three() -> (World, [Pod; 3]) {
    let mut world = World::new(3);
    let pods = [("a", 0), ("b", 1), ("c", 2)].map(|(name, node)| world.add_pod(name, node));
    (world, pods)
}

/// A load balancer's address with a table of these back ends in turn.
fn serve(f: Family, world: &mut World, protocol: u8, backends: &[&Pod]) -> u32 {
    let service = world.new_service();
    let at: Vec<_> = backends.iter().map(|pod| (f.of(pod), 8080)).collect();
    let places: Vec<_> = at.iter().copied().cycle().take(PLACES as usize).collect();
    let frontend = Frontend {
        service,
        backends: at.len() as u32,
        flags: service::EXTERNAL,
        maglev_slots: PLACES,
        ..Frontend::default()
    };
    for node in 0..3 {
        world.set_frontend(node, (balancer(f), PORT, protocol), frontend, &at);
    }
    world.set_maglev(service, &places);
    service
}

fn request(f: Family, flags: TcpFlags) -> Vec<u8> {
    tcp(f.outside(), 40000, balancer(f), PORT, flags)
}

fn answer(f: Family, pod: &Pod, flags: TcpFlags) -> Vec<u8> {
    tcp(f.of(pod), 8080, f.outside(), 40000, flags)
}

/// A request reaches the back end with the client's address.
#[track_caller]
fn assert_reaches(f: Family, journey: &Journey, name: &str, pod: &Pod) {
    assert_lands(journey, name);
    assert_eq!(ends(&journey.packet), (f.outside(), 40000, f.of(pod), 8080));
}

/// An answer leaves through this node, under the front end's address.
#[track_caller]
fn assert_leaves(f: Family, journey: &Journey, node: usize) {
    assert_eq!(journey.landed, Landed::Outside(node), "{:?}", journey.steps);
    assert_eq!(ends(&journey.packet), (balancer(f), PORT, f.outside(), 40000));
    verify_checksums(&journey.packet).unwrap();
}

/// A TCP connection through a node, up to the client's acknowledgement.
#[track_caller]
fn connect(f: Family, world: &World, node: usize, name: &str, pod: &Pod) {
    assert_reaches(f, &world.arrive(node, request(f, SYN)), name, pod);
    assert_leaves(f, &world.send(pod, answer(f, pod, SYN_ACK)), node);
    assert_reaches(f, &world.arrive(node, request(f, ACK)), name, pod);
}

/// Requests through a node reach the back end, and its answers leave through another (or the same).
#[track_caller]
fn talk(f: Family, world: &World, (node, back): (usize, usize), name: &str, pod: &Pod) {
    for _ in 0..3 {
        assert_reaches(f, &world.arrive(node, request(f, ACK)), name, pod);
        assert_leaves(f, &world.send(pod, answer(f, pod, ACK)), back);
    }
}

fn set_direct(world: &World) {
    for node in &world.nodes {
        let mut settings = node.settings.get();
        settings.flags |= flags::DIRECT_RETURN;
        node.settings.set(settings);
    }
}

fn established(world: &World, node: usize) -> usize {
    world.nodes[node].v4.entries(Table::Main).len() + world.nodes[node].v6.entries(Table::Main).len()
}

#[test]
fn every_node_leads_a_flow_to_the_same_back_end_and_flows_are_spread() {
    both(|f| {
        let (mut world, [a, b, c]) = three();
        serve(f, &mut world, 6, &[&a, &b, &c]);
        let mut met = BTreeMap::new();
        for port in 1000..1300 {
            let to = |node| {
                let journey = world.arrive(node, tcp(f.outside(), port, balancer(f), PORT, SYN));
                verify_checksums(&journey.packet).unwrap();
                ends(&journey.packet).2
            };
            let first = to(0);
            assert_eq!([to(1), to(2)], [first; 2], "client port {port}");
            *met.entry(first).or_insert(0) += 1;
        }
        assert_eq!(met.keys().copied().collect::<BTreeSet<_>>(), [f.of(&a), f.of(&b), f.of(&c)].into());
        assert!(met.values().all(|share| (70..=130).contains(share)), "{met:?}");
    });
}

#[test]
fn a_connection_goes_on_through_another_node_and_back() {
    both(|f| {
        let (mut world, [_, _, c]) = three();
        serve(f, &mut world, 6, &[&c]);
        connect(f, &world, 0, "c", &c);
        talk(f, &world, (0, 0), "c", &c);
        talk(f, &world, (1, 1), "c", &c);
        talk(f, &world, (0, 0), "c", &c);
        talk(f, &world, (1, 1), "c", &c);
        assert_reaches(f, &world.arrive(1, request(f, FIN_ACK)), "c", &c);
        assert_leaves(f, &world.send(&c, answer(f, &c, FIN_ACK)), 1);
        assert_reaches(f, &world.arrive(1, request(f, ACK)), "c", &c);
        // The next connection of these ends begins anew, wherever it comes in.
        connect(f, &world, 0, "c", &c);
    });
}

#[test]
fn a_handshake_may_change_its_way_at_any_segment() {
    both(|f| {
        let (mut world, [_, _, c]) = three();
        serve(f, &mut world, 6, &[&c]);
        assert_reaches(f, &world.arrive(0, request(f, SYN)), "c", &c);
        assert_reaches(f, &world.arrive(1, request(f, SYN)), "c", &c);
        assert_leaves(f, &world.send(&c, answer(f, &c, SYN_ACK)), 1);
        talk(f, &world, (0, 0), "c", &c);
        talk(f, &world, (2, 2), "c", &c);
    });
}

#[test]
fn a_connection_goes_on_when_its_new_way_leads_straight_to_the_back_ends_node() {
    both(|f| {
        let (mut world, [_, _, c]) = three();
        serve(f, &mut world, 6, &[&c]);
        connect(f, &world, 0, "c", &c);
        talk(f, &world, (2, 2), "c", &c);
        // And when it leaves that way again, the answers need no detour.
        talk(f, &world, (1, 2), "c", &c);
        talk(f, &world, (2, 2), "c", &c);
        assert_eq!(world.nodes[2].dropped(DropReason::SourcePortCollision), 0);
    });
}

#[test]
fn a_connection_goes_on_through_a_node_without_its_back_end() {
    both(|f| {
        let (mut world, [_, _, c]) = three();
        serve(f, &mut world, 6, &[&c]);
        connect(f, &world, 2, "c", &c);
        talk(f, &world, (2, 2), "c", &c);
        // The node that has always answered goes on to do so.
        talk(f, &world, (0, 2), "c", &c);
        talk(f, &world, (1, 2), "c", &c);
        talk(f, &world, (2, 2), "c", &c);
    });
}

#[test]
fn answers_that_leave_directly_go_on_to_do_so() {
    both(|f| {
        let (mut world, [_, _, c]) = three();
        set_direct(&world);
        serve(f, &mut world, 6, &[&c]);
        connect(f, &world, 0, "c", &c);
        talk(f, &world, (0, 2), "c", &c);
        talk(f, &world, (1, 2), "c", &c);
        talk(f, &world, (2, 2), "c", &c);
        talk(f, &world, (0, 2), "c", &c);
        assert_reaches(f, &world.arrive(1, request(f, FIN_ACK)), "c", &c);
        assert_leaves(f, &world.send(&c, answer(f, &c, FIN_ACK)), 2);
    });
}

#[test]
fn udp_answers_leave_directly_under_the_front_ends_address_from_the_first_one_on() {
    both(|f| {
        let (mut world, [_, _, c]) = three();
        set_direct(&world);
        serve(f, &mut world, 17, &[&c]);
        for node in [0, 0, 1, 2, 0] {
            assert_reaches(f, &world.arrive(node, udp(f.outside(), 40000, balancer(f), PORT)), "c", &c);
            assert_leaves(f, &world.send(&c, udp(f.of(&c), 8080, f.outside(), 40000)), 2);
        }
    });
}

#[test]
fn udp_changes_its_way_as_it_likes() {
    both(|f| {
        let (mut world, [_, _, c]) = three();
        serve(f, &mut world, 17, &[&c]);
        for (node, back) in [(0, 0), (1, 1), (0, 0), (2, 2), (1, 2), (2, 2)] {
            for _ in 0..2 {
                let there = world.arrive(node, udp(f.outside(), 40000, balancer(f), PORT));
                assert_reaches(f, &there, "c", &c);
                assert_leaves(f, &world.send(&c, udp(f.of(&c), 8080, f.outside(), 40000)), back);
            }
        }
    });
}

#[test]
fn a_connection_that_no_node_knows_gets_to_no_pod() {
    both(|f| {
        let (mut world, [_, _, c]) = three();
        serve(f, &mut world, 6, &[&c]);
        for node in 0..3 {
            assert_dropped(&world.arrive(node, request(f, ACK)), DropReason::NoFlow);
            let odd = world.arrive(node, tcp(f.outside(), 40001, balancer(f), PORT, SYN_ACK));
            assert_eq!(odd.landed, Landed::Outside(node), "an answer is no request: {:?}", odd.steps);
        }
        assert_eq!((0..3).map(|node| established(&world, node)).sum::<usize>(), 0);
    });
}

#[test]
fn a_flood_of_segments_out_of_nowhere_takes_no_room_from_established_flows() {
    both(|f| {
        let (mut world, [_, _, c]) = three();
        serve(f, &mut world, 6, &[&c]);
        for port in 1000..2000 {
            for _ in 0..3 {
                let journey = world.arrive(0, tcp(f.outside(), port, balancer(f), PORT, ACK));
                assert_dropped(&journey, DropReason::NoFlow);
            }
        }
        assert_eq!((0..3).map(|node| established(&world, node)).sum::<usize>(), 0);
    });
}

#[test]
fn a_reset_ends_what_was_taken_up() {
    both(|f| {
        let (mut world, [_, _, c]) = three();
        serve(f, &mut world, 6, &[&c]);
        connect(f, &world, 0, "c", &c);
        talk(f, &world, (1, 1), "c", &c);
        assert_reaches(f, &world.arrive(1, request(f, TcpFlags::RST)), "c", &c);
        connect(f, &world, 1, "c", &c);
    });
}

#[test]
fn policy_goes_on_to_judge_a_connection_that_has_changed_its_way() {
    both(|f| {
        let (mut world, [_, _, c]) = three();
        serve(f, &mut world, 6, &[&c]);
        world.set_policy(&c, true, |_| Decision::Allow);
        connect(f, &world, 0, "c", &c);
        talk(f, &world, (2, 2), "c", &c);
        world.set_policy(&c, true, |_| Decision::Deny);
        assert_dropped(&world.arrive(2, request(f, ACK)), DropReason::PolicyIngress);
        world.set_policy(&c, true, |_| Decision::Allow);
        talk(f, &world, (2, 2), "c", &c);
        talk(f, &world, (1, 2), "c", &c);
        world.set_policy(&c, true, |_| Decision::Deny);
        assert_dropped(&world.arrive(1, request(f, ACK)), DropReason::PolicyIngress);
    });
}

#[test]
fn another_connection_with_the_same_ends_is_not_taken_for_one_that_has_moved() {
    both(|f| {
        let (mut world, [_, _, c]) = three();
        serve(f, &mut world, 6, &[&c]);
        // The same client and port at another front end of the same back end, at the back end's node.
        let other = f.pick("198.51.100.10", "2001:db8:f::a");
        let second = world.new_service();
        let frontend =
            Frontend { service: second, backends: 1, flags: service::EXTERNAL, ..Frontend::default() };
        world.set_frontend(2, (other, PORT, 6), frontend, &[(f.of(&c), 8080)]);
        assert_lands(&world.arrive(2, tcp(f.outside(), 40000, other, PORT, SYN)), "c");
        world.send(&c, answer(f, &c, SYN_ACK));
        assert_dropped(&world.arrive(2, request(f, ACK)), DropReason::SourcePortCollision);
        let back = world.send(&c, answer(f, &c, ACK));
        assert_eq!(ends(&back.packet), (other, PORT, f.outside(), 40000), "it goes on as it was");
    });
}

#[test]
fn with_session_affinity_the_client_decides_and_not_its_port() {
    both(|f| {
        let (mut world, [a, b, c]) = three();
        let service = serve(f, &mut world, 6, &[&a, &b, &c]);
        let at = [&a, &b, &c].map(|pod| (f.of(pod), 8080));
        let frontend = Frontend {
            service,
            backends: 3,
            affinity: Tick::ticks_of_millis(10_000),
            flags: service::EXTERNAL,
            maglev_slots: PLACES,
            ..Frontend::default()
        };
        (0..3).for_each(|node| world.set_frontend(node, (balancer(f), PORT, 6), frontend, &at));
        let mut met = BTreeSet::new();
        for port in 1000..1050 {
            for node in 0..3 {
                let journey = world.arrive(node, tcp(f.outside(), port, balancer(f), PORT, SYN));
                met.insert(ends(&journey.packet).2);
            }
        }
        assert_eq!(met.len(), 1);
    });
}

#[test]
fn traffic_policy_local_does_not_count_for_clients_that_are_led_by_hash() {
    both(|f| {
        let (mut world, [_, _, c]) = three();
        let service = serve(f, &mut world, 6, &[&c]);
        let flags = service::EXTERNAL | service::EXTERNAL_LOCAL;
        let frontend = Frontend { service, backends: 1, flags, maglev_slots: PLACES, ..Frontend::default() };
        world.set_frontend(0, (balancer(f), PORT, 6), frontend, &[(f.of(&c), 8080)]);
        connect(f, &world, 0, "c", &c);
    });
}

#[test]
fn pods_are_led_at_random() {
    both(|f| {
        let (mut world, [a, b, c]) = three();
        serve(f, &mut world, 6, &[&b, &c]);
        let mut met = BTreeSet::new();
        for _ in 0..30 {
            // Refused before it becomes a flow, so that each is chosen anew.
            world.nodes[0].v4.half_open.replace(tortie_sim::table::Lru::new(16));
            world.nodes[0].v6.half_open.replace(tortie_sim::table::Lru::new(16));
            let journey = world.send(&a, tcp(f.of(&a), 40000, balancer(f), PORT, SYN));
            met.insert(ends(&journey.packet).2);
        }
        assert_eq!(met, [f.of(&b), f.of(&c)].into());
    });
}
