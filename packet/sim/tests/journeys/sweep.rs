//! Expiry: which entries a sweep removes.

use crate::{ACK, SYN, SYN_ACK, assert_lands, both, shop, tcp, udp};
use tortie_datapath::hook::sweep::Fate;
use tortie_datapath::kernel::Table;
use tortie_datapath::{V4, V6};
use tortie_sim::node::{HasTables, Node};
use tortie_sim::run::{doubt, fate, remove};
use tortie_sim::world::World;
use zerocopy::FromBytes;

fn fates(world: &World) -> Vec<Fate> {
    fates_on::<V4>(&world.nodes[0])
}

/// What a sweep would do now with each entry of a node's main table.
pub fn fates_on<F: HasTables>(node: &Node) -> Vec<Fate> {
    fates_in::<F>(node, Table::Main)
}

fn fates_in<F: HasTables>(node: &Node, table: Table) -> Vec<Fate> {
    let entries = F::tables(node).entries(table).into_iter();
    entries.map(|(k, e)| fate::<F>(node, table, &F::FlowKey::read_from_bytes(&k).unwrap(), &e)).collect()
}

/// Routes have changed: a sweep has been there since.
pub fn doubt_on(node: &Node) {
    doubt_in::<V4>(node);
    doubt_in::<V6>(node);
}

fn doubt_in<F: HasTables>(node: &Node) {
    for table in [Table::Main, Table::HalfOpen] {
        for key in F::tables(node).entries(table).into_keys() {
            doubt::<F>(node, table, &F::FlowKey::read_from_bytes(&key).unwrap());
        }
    }
}

fn established() -> (World, tortie_sim::world::Pod, tortie_sim::world::Pod) {
    let (world, a, b, _) = shop();
    assert_lands(&world.send(&a, tcp(a.v4.into(), 1, b.v4.into(), 80, SYN)), "b");
    assert_lands(&world.send(&b, tcp(b.v4.into(), 80, a.v4.into(), 1, SYN_ACK)), "a");
    assert_lands(&world.send(&a, tcp(a.v4.into(), 1, b.v4.into(), 80, ACK)), "b");
    (world, a, b)
}

#[test]
fn an_idle_flow_expires_and_one_busy_direction_keeps_both() {
    let (world, a, b) = established();
    world.nodes[0].advance_millis(3_500_000);
    assert_eq!(fates(&world), [Fate::Keep; 2]);
    assert_lands(&world.send(&a, tcp(a.v4.into(), 1, b.v4.into(), 80, ACK)), "b");
    world.nodes[0].advance_millis(200_000);
    assert_eq!(fates(&world), [Fate::Keep; 2], "the reply side alone is idle");
    world.nodes[0].advance_millis(3_600_000);
    assert_eq!(fates(&world), [Fate::Expired; 2]);
}

#[test]
fn a_flow_to_a_removed_endpoint_is_stale_once_its_peer_has_had_time_to_hear_of_it() {
    let (world, _, b) = established();
    world.edit(&b, |e| *e = zerocopy::FromZeros::new_zeroed());
    assert_eq!(fates(&world), [Fate::Keep; 2], "the next segment is answered with a reset");
    world.nodes[0].advance_millis(301_000);
    assert!(fates(&world).contains(&Fate::Stale));
}

#[test]
fn a_udp_flow_to_a_removed_endpoint_is_stale_at_once() {
    let (world, a, b, _) = shop();
    assert_lands(&world.send(&a, udp(a.v4.into(), 1, b.v4.into(), 53)), "b");
    assert_lands(&world.send(&b, udp(b.v4.into(), 53, a.v4.into(), 1)), "a");
    world.edit(&b, |e| *e = zerocopy::FromZeros::new_zeroed());
    assert!(fates(&world).contains(&Fate::Stale));
}

#[test]
fn an_entry_without_its_other_direction_goes_when_it_is_idle() {
    let (world, _, _) = established();
    let key = world.nodes[0].v4.entries(Table::Main).into_keys().next().unwrap();
    remove::<V4>(&world.nodes[0], Table::Main, &FromBytes::read_from_bytes(&key).unwrap());
    assert_eq!(fates(&world), [Fate::Keep], "it may only be young");
    world.nodes[0].advance_millis(3_700_000);
    assert_eq!(fates(&world), [Fate::Orphaned]);
}

#[test]
fn a_udp_flow_that_began_without_a_service_ends_when_there_is_one() {
    both(|f| {
        let (mut world, a, b, _) = shop();
        let external = f.pick("198.51.100.9", "2001:db8:f::9");
        let fates = |world: &World| {
            let node = &world.nodes[0];
            [fates_in::<V4>(node, Table::HalfOpen), fates_in::<V6>(node, Table::HalfOpen)].concat()
        };
        // To an address that is a Service's later, to a port of a node, and to that port of somebody outside.
        for (port, to, to_port) in [(1, external, 53), (2, f.node(1), 30_053), (3, f.outside(), 30_053)] {
            world.send(&a, udp(f.of(&a), port, to, to_port));
        }
        assert!(!fates(&world).contains(&Fate::Stale));
        world.add_service(external, 53, 17, &[(f.of(&b), 5353)]);
        assert_eq!(fates(&world).iter().filter(|fate| **fate == Fate::Stale).count(), 1);
        world.add_service(f.pick("0.0.0.0", "::"), 30_053, 17, &[(f.of(&b), 5353)]);
        assert_eq!(fates(&world).iter().filter(|fate| **fate == Fate::Stale).count(), 2);
        // Flows through the Service go on.
        assert_lands(&world.send(&a, udp(f.of(&a), 4, external, 53)), "b");
        assert_eq!(fates(&world).iter().filter(|fate| **fate == Fate::Stale).count(), 2);
    });
}
