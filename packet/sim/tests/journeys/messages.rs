//! Connect-time load balancing of UDP: messages that each have an address of their own.

use crate::sockets::{ANY, UDP, at, edit, mapped, mode};
use crate::{Family, both, shop};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use tortie_abi::service::Frontend;
use tortie_abi::settings::flags;
use tortie_abi::{DropReason, Tick};
use tortie_sim::socket::{Errno, Socket};
use tortie_sim::world::World;

/// How long a UDP flow lives without packets.
const IDLE_SECONDS: u64 = 60;
const ON: u32 = flags::CONNECT_TCP | flags::CONNECT_UDP;

fn backend(f: Family, n: u16) -> (IpAddr, u16) {
    (f.pick("10.244.2.10", "fd00:244:2::a"), 5300 + n)
}

/// A world in mode Enabled with a Service of so many back ends; its id.
fn world(f: Family, backends: u16) -> (World, u32) {
    let (mut world, ..) = shop();
    mode(&world, ON);
    let node = &world.nodes[0];
    let mut settings = node.settings.get();
    settings.udp = Tick::ticks_of_millis(IDLE_SECONDS * 1000);
    node.settings.set(settings);
    let service = world.new_service();
    serve(&world, f, service, backends);
    (world, service)
}

fn serve(world: &World, f: Family, service: u32, backends: u16) {
    let list: Vec<_> = (0..backends).map(|n| backend(f, n)).collect();
    let frontend = Frontend { service, backends: backends.into(), ..Frontend::default() };
    world.set_frontend(0, (f.vip(), 80, UDP), frontend, &list);
}

fn vip(f: Family) -> SocketAddr {
    at(f.vip(), 80)
}

#[test]
fn messages_of_one_socket_keep_their_back_end_and_answers_come_from_the_service() {
    both(|f| {
        let (world, _) = world(f, 4);
        let mut chosen = BTreeSet::new();
        for _ in 0..40 {
            let socket = Socket::new(&world.nodes[0], ANY, UDP);
            let goes = socket.send(vip(f)).expect("served");
            for _ in 0..20 {
                world.nodes[0].advance_millis(IDLE_SECONDS * 900);
                assert_eq!(socket.send(vip(f)), Ok(goes));
                assert_eq!(socket.receive(goes), vip(f));
            }
            chosen.insert(goes);
        }
        assert_eq!(chosen.len(), 4, "each socket chooses for itself");
    });
}

#[test]
fn an_ipv6_socket_talks_to_an_ipv4_service_in_its_clothes() {
    let (world, _) = world(Family::V4, 1);
    let socket = Socket::new(&world.nodes[0], ANY, UDP);
    let goes = socket.send(mapped(vip(Family::V4))).expect("served");
    assert_eq!(goes, SocketAddr::from(backend(Family::V4, 0)), "the kernel makes an IPv4 message of it");
    assert_eq!(socket.receive(mapped(goes)), mapped(vip(Family::V4)));
}

#[test]
fn a_socket_that_was_silent_for_as_long_as_a_flow_lives_chooses_again() {
    both(|f| {
        let (world, _) = world(f, 4);
        let socket = Socket::new(&world.nodes[0], ANY, UDP);
        let seen: BTreeSet<_> = (0..60)
            .map(|_| {
                world.nodes[0].advance_millis(IDLE_SECONDS * 1100);
                socket.send(vip(f)).expect("served")
            })
            .collect();
        assert_eq!(seen.len(), 4);
    });
}

#[test]
fn a_back_end_that_vanishes_is_replaced_at_the_next_message() {
    both(|f| {
        let (world, service) = world(f, 2);
        let socket = loop {
            let socket = Socket::new(&world.nodes[0], ANY, UDP);
            if socket.send(vip(f)) == Ok(backend(f, 1).into()) {
                break socket;
            }
        };
        serve(&world, f, service, 1);
        assert_eq!(socket.send(vip(f)), Ok(backend(f, 1).into()), "it terminates, and is a member yet");
        world.set_member(0, service, backend(f, 1), None);
        assert_eq!(socket.send(vip(f)), Ok(backend(f, 0).into()));
        assert_eq!(socket.receive(backend(f, 0).into()), vip(f));
        assert_eq!(socket.receive(backend(f, 1).into()), vip(f), "an answer that comes late is still one");
    });
}

#[test]
fn a_service_in_the_place_of_another_has_no_part_in_what_that_one_chose() {
    both(|f| {
        let (mut world, _) = world(f, 1);
        let service = world.new_service();
        let socket = Socket::new(&world.nodes[0], ANY, UDP);
        socket.send(vip(f)).expect("served");
        let frontend = Frontend { service, backends: 1, ..Frontend::default() };
        world.set_frontend(0, (f.vip(), 80, UDP), frontend, &[backend(f, 9)]);
        assert_eq!(socket.send(vip(f)), Ok(backend(f, 9).into()));
    });
}

#[test]
fn one_socket_talks_to_several_services_and_to_others_at_once() {
    both(|f| {
        let (mut world, _) = world(f, 1);
        let other = at(f.pick("10.96.0.11", "fd00:96::11"), 80);
        world.add_service(other.ip(), other.port(), UDP, &[backend(f, 7)]);
        let outside = at(f.outside(), 80);
        let socket = Socket::new(&world.nodes[0], ANY, UDP);
        for _ in 0..3 {
            assert_eq!(socket.send(vip(f)), Ok(backend(f, 0).into()));
            assert_eq!(socket.send(other), Ok(backend(f, 7).into()));
            assert_eq!(socket.send(outside), Ok(outside));
        }
        assert_eq!(socket.receive(backend(f, 0).into()), vip(f));
        assert_eq!(socket.receive(backend(f, 7).into()), other);
        assert_eq!(socket.receive(outside), outside);
        let stranger = Socket::new(&world.nodes[0], ANY, UDP);
        assert_eq!(
            stranger.receive(backend(f, 0).into()),
            backend(f, 0).into(),
            "no name of another socket's"
        );
    });
}

#[test]
fn two_services_with_one_back_end_are_told_by_the_one_that_was_sent_to_last() {
    both(|f| {
        let (mut world, _) = world(f, 1);
        let other = at(f.pick("10.96.0.11", "fd00:96::11"), 80);
        world.add_service(other.ip(), other.port(), UDP, &[backend(f, 0)]);
        let socket = Socket::new(&world.nodes[0], ANY, UDP);
        for to in [vip(f), other, vip(f), other] {
            let goes = socket.send(to).expect("served");
            assert_eq!(socket.receive(goes), to);
        }
    });
}

#[test]
fn a_connected_socket_is_left_to_the_packet_programs_whatever_it_sends_to() {
    both(|f| {
        let (world, _) = world(f, 1);
        let socket = Socket::new(&world.nodes[0], ANY, UDP);
        assert_eq!(socket.connect(vip(f)), Ok(vip(f)));
        assert_eq!(socket.send(vip(f)), Ok(vip(f)));
        assert_eq!(socket.peer(), Ok(vip(f)));
    });
}

#[test]
fn a_service_without_endpoints_refuses_the_message_and_one_for_others_forbids_it() {
    both(|f| {
        let (world, _) = world(f, 0);
        let socket = Socket::new(&world.nodes[0], ANY, UDP);
        assert_eq!(socket.send(vip(f)), Err(Errno::Refused));
        assert_eq!(world.nodes[0].dropped(DropReason::NoBackend), 1);
        edit(&world.nodes[0], f, UDP, |frontend| {
            frontend.backends = 1;
            frontend.flags |= tortie_abi::service::flags::INTERNAL_LOCAL;
        });
        assert_eq!(socket.send(vip(f)), Err(Errno::NotPermitted));
    });
}

#[test]
fn switched_off_it_leaves_new_sockets_alone_and_open_ones_keep_their_back_end() {
    both(|f| {
        let (world, _) = world(f, 1);
        let old = Socket::new(&world.nodes[0], ANY, UDP);
        let goes = old.send(vip(f)).expect("served");
        for bits in [flags::CONNECT_TCP, 0] {
            mode(&world, bits);
            assert_eq!(old.send(vip(f)), Ok(goes));
            assert_eq!(old.receive(goes), vip(f));
            assert_eq!(Socket::new(&world.nodes[0], ANY, UDP).send(vip(f)), Ok(vip(f)));
        }
    });
}

#[test]
fn a_flood_of_sockets_forgets_the_least_recently_used_and_no_more() {
    both(|f| {
        let (world, _) = world(f, 1);
        let busy = Socket::new(&world.nodes[0], ANY, UDP);
        let goes = busy.send(vip(f)).expect("served");
        for _ in 0..2 * tortie_abi::maps::MESSAGE_ENTRIES {
            Socket::new(&world.nodes[0], ANY, UDP).send(vip(f)).expect("served");
            busy.send(vip(f)).expect("served");
            assert_eq!(busy.receive(goes), vip(f));
        }
    });
}
