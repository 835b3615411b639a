//! Which back end a client gets: session affinity, traffic policies, back ends that leave.

use crate::sweep::fates_on;
use crate::{ACK, Family, SYN, SYN_ACK, assert_dropped, assert_lands, both, shop, tcp, udp};
use std::net::IpAddr;
use tortie_abi::service::{Frontend, Member, flags};
use tortie_abi::{DropReason, Tick};
use tortie_datapath::hook::sweep::Fate;
use tortie_datapath::{V4, V6};
use tortie_sim::world::{Landed, Pod, World};

const SECONDS: u32 = 10;

/// A Service of this node with affinity and these back ends; its id.
fn sticky(world: &mut World, f: Family, protocol: u8, backends: &[(IpAddr, u16)]) -> u32 {
    let service = world.new_service();
    let frontend = Frontend {
        service,
        backends: backends.len() as u32,
        affinity: Tick::ticks_of_millis(u64::from(SECONDS) * 1000),
        ..Frontend::default()
    };
    world.set_frontend(0, (f.vip(), 80, protocol), frontend, backends);
    service
}

fn open(world: &World, f: Family, from: &Pod, port: u16) -> Landed {
    world.send(from, tcp(f.of(from), port, f.vip(), 80, SYN)).landed
}

#[test]
fn a_client_with_affinity_meets_the_same_back_end_and_others_their_own() {
    both(|f| {
        let (mut world, a, b, c) = shop();
        let d = world.add_pod("d", 0);
        sticky(&mut world, f, 6, &[(f.of(&b), 80), (f.of(&c), 80)]);
        let first = open(&world, f, &a, 40000);
        assert!((1..50).all(|n| open(&world, f, &a, 40000 + n) == first));
        let of_d = open(&world, f, &d, 40000);
        assert!((1..50).all(|n| open(&world, f, &d, 40000 + n) == of_d));
    });
}

#[test]
fn each_new_connection_prolongs_affinity_and_silence_ends_it() {
    both(|f| {
        let (mut world, a, b, c) = shop();
        sticky(&mut world, f, 6, &[(f.of(&b), 80), (f.of(&c), 80)]);
        let first = open(&world, f, &a, 40000);
        for n in 1..20 {
            world.nodes[0].advance_millis(u64::from(SECONDS) * 900);
            assert_eq!(open(&world, f, &a, 40000 + n), first);
        }
        let later: Vec<Landed> = (0..40)
            .map(|n| {
                world.nodes[0].advance_millis(u64::from(SECONDS) * 1000 + 100);
                open(&world, f, &a, 41000 + n)
            })
            .collect();
        assert!(later.contains(&Landed::Pod("b".into())) && later.contains(&Landed::Pod("c".into())));
    });
}

#[test]
fn a_back_end_that_joins_changes_nobodys_affinity_and_one_that_leaves_ends_its_clients() {
    both(|f| {
        let (mut world, a, b, c) = shop();
        let service = sticky(&mut world, f, 6, &[(f.of(&b), 80)]);
        assert_eq!(open(&world, f, &a, 40000), Landed::Pod("b".into()));
        let frontend = Frontend { service, backends: 2, affinity: 600, ..Frontend::default() };
        // The newcomer takes the first place; the other one moves.
        world.set_frontend(0, (f.vip(), 80, 6), frontend, &[(f.of(&c), 80), (f.of(&b), 80)]);
        assert!((1..50).all(|n| open(&world, f, &a, 40000 + n) == Landed::Pod("b".into())));
        world.set_frontend(0, (f.vip(), 80, 6), Frontend { backends: 1, ..frontend }, &[(f.of(&c), 80)]);
        world.set_member(0, service, (f.of(&b), 80), None);
        assert_eq!(open(&world, f, &a, 41000), Landed::Pod("c".into()));
    });
}

#[test]
fn a_back_end_that_terminates_while_others_are_ready_gets_no_new_connection() {
    both(|f| {
        let (mut world, a, b, c) = shop();
        let service = sticky(&mut world, f, 6, &[(f.of(&b), 80)]);
        assert_eq!(open(&world, f, &a, 40000), Landed::Pod("b".into()));
        let frontend = Frontend { service, backends: 1, affinity: 600, ..Frontend::default() };
        world.set_frontend(0, (f.vip(), 80, 6), frontend, &[(f.of(&c), 80)]);
        world.set_member(0, service, (f.of(&b), 80), Some(Member::NOT_CHOSEN));
        assert_eq!(open(&world, f, &a, 40001), Landed::Pod("c".into()));
        let old = world.send(&a, tcp(f.of(&a), 40000, f.vip(), 80, SYN));
        assert_lands(&old, "b");
    });
}

#[test]
fn internal_traffic_policy_local_stays_on_the_node_or_is_dropped() {
    both(|f| {
        let (mut world, a, b, c) = shop();
        let service = world.new_service();
        let frontend = Frontend {
            service,
            backends: 2,
            local_backends: 1,
            flags: flags::INTERNAL_LOCAL,
            ..Frontend::default()
        };
        world.set_frontend(0, (f.vip(), 80, 6), frontend, &[(f.of(&b), 80), (f.of(&c), 80)]);
        assert!((0..50).all(|n| open(&world, f, &a, 40000 + n) == Landed::Pod("b".into())));
        let none = Frontend { local_backends: 0, ..frontend };
        world.set_frontend(0, (f.vip(), 80, 6), none, &[(f.of(&b), 80), (f.of(&c), 80)]);
        let lost = world.send(&a, tcp(f.of(&a), 41000, f.vip(), 80, SYN));
        assert_dropped(&lost, DropReason::NoBackend);
    });
}

#[test]
fn traffic_of_policy_cluster_leaves_alone_what_is_for_node_local_traffic_only() {
    both(|f| {
        let (mut world, a, b, c) = shop();
        let service = world.new_service();
        let frontend = Frontend { service, first: 1, backends: 1, local_backends: 1, ..Frontend::default() };
        let backends = [(f.of(&b), 80), (f.of(&c), 80)];
        world.set_frontend(0, (f.vip(), 80, 6), frontend, &backends);
        assert!((0..50).all(|n| open(&world, f, &a, 40000 + n) == Landed::Pod("c".into())));
        let local = Frontend { flags: flags::INTERNAL_LOCAL, ..frontend };
        world.set_frontend(0, (f.vip(), 80, 6), local, &backends);
        assert!((0..50).all(|n| open(&world, f, &a, 42000 + n) == Landed::Pod("b".into())));
    });
}

fn of_family(f: Family, world: &World) -> Vec<Fate> {
    match f {
        Family::V4 => fates_on::<V4>(&world.nodes[0]),
        Family::V6 => fates_on::<V6>(&world.nodes[0]),
    }
}

#[test]
fn a_udp_flow_ends_when_its_back_end_leaves_and_lives_while_it_terminates() {
    both(|f| {
        let (mut world, a, b, _) = shop();
        let service = sticky(&mut world, f, 17, &[(f.of(&b), 53)]);
        assert_lands(&world.send(&a, udp(f.of(&a), 5000, f.vip(), 80)), "b");
        assert_lands(&world.send(&b, udp(f.of(&b), 53, f.of(&a), 5000)), "a");
        assert_eq!(of_family(f, &world), [Fate::Keep, Fate::Keep]);
        world.set_member(0, service, (f.of(&b), 53), Some(Member::NOT_CHOSEN));
        assert_eq!(of_family(f, &world), [Fate::Keep, Fate::Keep]);
        world.set_member(0, service, (f.of(&b), 53), None);
        assert!(of_family(f, &world).contains(&Fate::Stale));
    });
}

#[test]
fn a_tcp_flow_outlives_its_back_ends_place_in_the_service() {
    both(|f| {
        let (mut world, a, b, _) = shop();
        let service = sticky(&mut world, f, 6, &[(f.of(&b), 80)]);
        assert_eq!(open(&world, f, &a, 40000), Landed::Pod("b".into()));
        assert_lands(&world.send(&b, tcp(f.of(&b), 80, f.of(&a), 40000, SYN_ACK)), "a");
        world.set_member(0, service, (f.of(&b), 80), None);
        assert_eq!(of_family(f, &world), [Fate::Keep, Fate::Keep]);
        assert_lands(&world.send(&a, tcp(f.of(&a), 40000, f.vip(), 80, ACK)), "b");
    });
}
