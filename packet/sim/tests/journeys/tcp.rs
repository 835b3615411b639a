//! The life of TCP flows, and what a flood cannot do to them.

use crate::{ACK, FIN_ACK, Family, SYN, SYN_ACK, assert_dropped, assert_lands, both, shop, tcp};
use tortie_abi::flow::State as Life;
use tortie_abi::policy::Verdict as Decision;
use tortie_abi::{DropReason, maps};
use tortie_datapath::kernel::Table;
use tortie_sim::table::Hash;
use tortie_sim::world::{Landed, Pod, World};
use tortie_testkit::packet::PacketBuilder;
use tortie_wire::tcp::TcpFlags;

fn lives(world: &World, f: Family) -> Vec<Life> {
    let node = &world.nodes[0];
    let states: Vec<u8> = match f {
        Family::V4 => node.v4.entries(Table::Main).values().map(|e| e.core.state).collect(),
        Family::V6 => node.v6.entries(Table::Main).values().map(|e| e.core.state).collect(),
    };
    states.into_iter().map(|s| Life::from_byte(s).unwrap()).collect()
}

fn open(world: &World, f: Family, a: &Pod, b: &Pod, port: u16) {
    assert_lands(&world.send(a, tcp(f.of(a), port, f.of(b), 80, SYN)), "b");
    assert_lands(&world.send(b, tcp(f.of(b), 80, f.of(a), port, SYN_ACK)), "a");
    assert_lands(&world.send(a, tcp(f.of(a), port, f.of(b), 80, ACK)), "b");
}

#[test]
fn a_flow_enters_the_main_table_when_the_other_side_answers() {
    both(|f| {
        let (world, a, b, _) = shop();
        assert_lands(&world.send(&a, tcp(f.of(&a), 1, f.of(&b), 80, SYN)), "b");
        assert_eq!(lives(&world, f), []);
        assert_lands(&world.send(&b, tcp(f.of(&b), 80, f.of(&a), 1, SYN_ACK)), "a");
        assert_eq!(lives(&world, f), [Life::SynReceived; 2]);
        assert_lands(&world.send(&a, tcp(f.of(&a), 1, f.of(&b), 80, ACK)), "b");
        assert_eq!(lives(&world, f), [Life::Established; 2]);
        assert_eq!(half_open(&world), 0);
    });
}

#[test]
fn fin_from_both_sides_closes_and_the_same_ports_open_again() {
    both(|f| {
        let (world, a, b, _) = shop();
        open(&world, f, &a, &b, 40000);
        assert_lands(&world.send(&a, tcp(f.of(&a), 40000, f.of(&b), 80, FIN_ACK)), "b");
        assert_eq!(lives(&world, f), [Life::Closing; 2]);
        assert_lands(&world.send(&b, tcp(f.of(&b), 80, f.of(&a), 40000, FIN_ACK)), "a");
        assert_eq!(lives(&world, f), [Life::Closed; 2]);
        assert_lands(&world.send(&a, tcp(f.of(&a), 40000, f.of(&b), 80, ACK)), "b");
        assert_eq!(lives(&world, f), [Life::Closed; 2]);
        open(&world, f, &a, &b, 40000);
        assert_eq!(lives(&world, f), [Life::Established; 2]);
    });
}

fn half_open(world: &World) -> usize {
    world.nodes[0].v4.half_open.borrow().len() + world.nodes[0].v6.half_open.borrow().len()
}

/// A connection is opened, and reset by the client.
fn over(f: Family) -> (World, [Pod; 3]) {
    let (world, a, b, c) = shop();
    open(&world, f, &a, &b, 40000);
    let _ = world.send(&a, tcp(f.of(&a), 40000, f.of(&b), 80, TcpFlags::RST));
    assert_eq!(lives(&world, f), [Life::Reset; 2]);
    (world, [a, b, c])
}

#[test]
fn the_next_connection_between_the_same_ends_takes_the_place_of_one_that_is_over() {
    both(|f| {
        let (world, [a, b, _]) = over(f);
        let (to_b, to_a) = ((f.of(&a), 40000, f.of(&b), 80), (f.of(&b), 80, f.of(&a), 40000));
        let send = |from: &Pod, (source, sport, destination, dport), flags| {
            let lands = if from.slot == a.slot { "b" } else { "a" };
            assert_lands(&world.send(from, tcp(source, sport, destination, dport, flags)), lands);
            assert_eq!(half_open(&world), 0);
            lives(&world, f)
        };
        assert_eq!(send(&a, to_b, SYN), [Life::SynSent; 2]);
        assert_eq!(send(&a, to_b, SYN), [Life::SynSent; 2], "sent once more");
        assert_eq!(send(&b, to_a, SYN_ACK), [Life::SynReceived; 2]);
        assert_eq!(send(&a, to_b, ACK), [Life::Established; 2]);
        let packets = |entries: Vec<u64>| entries.iter().sum::<u64>();
        let counted = match f {
            Family::V4 => {
                world.nodes[0].v4.entries(Table::Main).values().map(|e| e.counters.packets).collect()
            }
            Family::V6 => {
                world.nodes[0].v6.entries(Table::Main).values().map(|e| e.counters.packets).collect()
            }
        };
        assert_eq!(packets(counted), 4, "of this connection alone");
    });
}

#[test]
fn a_port_that_refuses_ends_what_took_the_place_of_a_connection() {
    both(|f| {
        let (world, [a, b, _]) = over(f);
        assert_lands(&world.send(&a, tcp(f.of(&a), 40000, f.of(&b), 80, SYN)), "b");
        let refusal = PacketBuilder::ip(f.of(&b), f.of(&a)).tcp(80, 40000);
        let refusal = refusal.flags(TcpFlags::RST.union(TcpFlags::ACK)).seq(0).build();
        assert_lands(&world.send(&b, refusal), "a");
        assert_eq!(lives(&world, f), [Life::Reset; 2]);
    });
}

#[test]
fn a_connection_that_is_denied_does_not_take_the_place_of_one_that_is_over() {
    both(|f| {
        let (mut world, [a, b, _]) = over(f);
        world.set_policy(&b, true, |_| Decision::Deny);
        let denied = world.send(&a, tcp(f.of(&a), 40000, f.of(&b), 80, SYN));
        assert_dropped(&denied, DropReason::PolicyIngress);
        assert_eq!((lives(&world, f), half_open(&world)), (vec![Life::Reset; 2], 0));
    });
}

#[test]
fn a_connection_that_is_translated_takes_no_place_of_one_that_was_not() {
    both(|f| {
        let (mut world, [a, b, c]) = over(f);
        world.add_service(f.of(&b), 80, 6, &[(f.of(&c), 8080)]);
        assert_lands(&world.send(&a, tcp(f.of(&a), 40000, f.of(&b), 80, SYN)), "c");
        assert_eq!((lives(&world, f), half_open(&world)), (vec![], 2));
        assert_lands(&world.send(&c, tcp(f.of(&c), 8080, f.of(&a), 40000, SYN_ACK)), "a");
        assert_eq!((lives(&world, f), half_open(&world)), (vec![Life::SynReceived; 2], 0));
    });
}

#[test]
fn a_reset_with_a_wild_sequence_number_ends_nothing() {
    both(|f| {
        let (world, a, b, _) = shop();
        open(&world, f, &a, &b, 40000);
        let wild = PacketBuilder::ip(f.of(&a), f.of(&b))
            .tcp(40000, 80)
            .flags(TcpFlags::RST)
            .seq(0x7000_0000)
            .build();
        let _ = world.send(&a, wild);
        assert_eq!(lives(&world, f), [Life::Established; 2]);
        let _ = world.send(&a, tcp(f.of(&a), 40000, f.of(&b), 80, TcpFlags::RST));
        assert_eq!(lives(&world, f), [Life::Reset; 2]);
    });
}

#[test]
fn a_segment_of_no_known_connection_is_answered_with_a_reset() {
    both(|f| {
        let (world, a, b, _) = shop();
        let journey = world.send(&a, tcp(f.of(&a), 40000, f.of(&b), 80, ACK));
        assert_lands(&journey, "a");
        assert_eq!(world.nodes[0].dropped(DropReason::NoFlow), 1);
        let arriving = world.arrive(0, tcp(f.outside(), 40000, f.of(&b), 80, ACK));
        assert_eq!(arriving.landed, Landed::Outside(0), "so is a client outside: {:?}", arriving.steps);
        assert_eq!(world.nodes[0].dropped(DropReason::NoFlow), 2);
    });
}

#[test]
fn a_connection_to_a_removed_pod_is_reset() {
    both(|f| {
        let (world, a, b, _) = shop();
        open(&world, f, &a, &b, 40000);
        world.edit(&b, |e| *e = zerocopy::FromZeros::new_zeroed());
        assert_lands(&world.send(&a, tcp(f.of(&a), 40000, f.of(&b), 80, ACK)), "a");
        assert_eq!(lives(&world, f), []);
    });
}

#[test]
fn a_flood_of_half_open_flows_cannot_evict_an_established_one() {
    both(|f| {
        let (world, a, b, c) = shop();
        open(&world, f, &a, &b, 40000);
        let flood = maps::HALF_OPEN4.max_entries * 2;
        for n in 0..flood {
            let (port, to_port) = ((n % 60000) as u16 + 1000, (n / 60000) as u16 + 1000);
            let journey = world.send(&a, tcp(f.of(&a), port, f.of(&c), to_port, SYN));
            assert_eq!(journey.landed, Landed::Pod("c".into()));
        }
        assert_eq!(lives(&world, f), [Life::Established; 2]);
        assert_lands(&world.send(&b, tcp(f.of(&b), 80, f.of(&a), 40000, ACK)), "a");
    });
}

#[test]
fn a_full_table_refuses_new_flows_and_keeps_old_ones() {
    both(|f| {
        let (world, a, b, _) = shop();
        *world.nodes[0].v4.flow.borrow_mut() = Hash::new(1);
        *world.nodes[0].v6.flow.borrow_mut() = Hash::new(1);
        open(&world, f, &a, &b, 40000);
        assert_lands(&world.send(&a, tcp(f.of(&a), 40001, f.of(&b), 80, SYN)), "b");
        let refused = world.send(&b, tcp(f.of(&b), 80, f.of(&a), 40001, SYN_ACK));
        assert_dropped(&refused, DropReason::FlowTableFull);
        assert_lands(&world.send(&a, tcp(f.of(&a), 40000, f.of(&b), 80, ACK)), "b");
    });
}

#[test]
fn counters_count_each_direction_once() {
    both(|f| {
        let (world, a, b, _) = shop();
        open(&world, f, &a, &b, 40000);
        let packets: Vec<u64> = match f {
            Family::V4 => {
                world.nodes[0].v4.entries(Table::Main).values().map(|e| e.counters.packets).collect()
            }
            Family::V6 => {
                world.nodes[0].v6.entries(Table::Main).values().map(|e| e.counters.packets).collect()
            }
        };
        let mut sorted = packets;
        sorted.sort_unstable();
        assert_eq!(sorted, [1, 2]);
    });
}
