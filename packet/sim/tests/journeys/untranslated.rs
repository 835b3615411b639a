//! Services' addresses that are not translated: they lead where they lead by themselves, as if nobody served there.

use crate::sockets::{ANY, UDP, at, edit, mode};
use crate::sweep::fates_on;
use crate::{Family, SYN, both, ends, shop, tcp, udp};
use tortie_abi::service::{Frontend, flags as service};
use tortie_abi::settings::flags;
use tortie_datapath::hook::sweep::Fate;
use tortie_datapath::{V4, V6, Verdict};
use tortie_sim::socket::Socket;
use tortie_sim::world::{Landed, World};

const TCP: u8 = 6;

/// A Service of both protocols on the first node, with a back end on the second, that is not translated.
fn excluded(f: Family) -> World {
    let (mut world, _, _, c) = shop();
    for protocol in [TCP, UDP] {
        world.add_service(f.vip(), 80, protocol, &[(f.of(&c), 8080)]);
        edit(&world.nodes[0], f, protocol, |frontend| frontend.flags |= service::UNTRANSLATED);
    }
    world
}

#[test]
fn a_pods_packets_to_such_an_address_reach_the_nodes_stack_as_they_are() {
    both(|f| {
        let world = excluded(f);
        let a = world.pods["a"].clone();
        for packet in [tcp(f.of(&a), 40000, f.vip(), 80, SYN), udp(f.of(&a), 40000, f.vip(), 80)] {
            let there = world.send(&a, packet);
            assert_eq!(there.steps[0].2, Verdict::Pass, "{:?}", there.steps);
            assert_eq!(ends(&there.packet), (f.of(&a), 40000, f.vip(), 80));
        }
    });
}

#[test]
fn sockets_keep_such_an_address_for_connections_and_messages() {
    both(|f| {
        let world = excluded(f);
        mode(&world, flags::CONNECT_TCP | flags::CONNECT_UDP);
        let vip = at(f.vip(), 80);
        assert_eq!(Socket::new(&world.nodes[0], ANY, TCP).connect(vip), Ok(vip));
        assert_eq!(Socket::new(&world.nodes[0], ANY, UDP).send(vip), Ok(vip));
    });
}

#[test]
fn without_back_ends_such_an_address_refuses_nobody() {
    both(|f| {
        let (mut world, a, ..) = shop();
        let service = world.new_service();
        let frontend = Frontend { service, flags: service::UNTRANSLATED, ..Frontend::default() };
        world.set_frontend(0, (f.vip(), 80, TCP), frontend, &[]);
        let there = world.send(&a, tcp(f.of(&a), 40000, f.vip(), 80, SYN));
        assert_eq!(ends(&there.packet), (f.of(&a), 40000, f.vip(), 80), "{:?}", there.steps);
    });
}

#[test]
fn clients_outside_are_left_to_the_nodes_stack() {
    both(|f| {
        let world = excluded(f);
        let there = world.arrive(0, tcp(f.outside(), 40000, f.vip(), 80, SYN));
        assert_eq!(there.steps[0].2, Verdict::Pass, "{:?}", there.steps);
        assert!(!matches!(there.landed, Landed::Pod(_)));
    });
}

#[test]
fn a_udp_flow_ends_when_its_service_is_excluded() {
    both(|f| {
        let (mut world, a, b, _) = shop();
        world.add_service(f.vip(), 80, UDP, &[(f.of(&b), 8080)]);
        world.send(&a, udp(f.of(&a), 40000, f.vip(), 80));
        world.send(&b, udp(f.of(&b), 8080, f.of(&a), 40000));
        let ends = || {
            [fates_on::<V4>(&world.nodes[0]), fates_on::<V6>(&world.nodes[0])].concat().contains(&Fate::Stale)
        };
        assert!(!ends());
        edit(&world.nodes[0], f, UDP, |frontend| frontend.flags |= service::UNTRANSLATED);
        assert!(ends());
    });
}
