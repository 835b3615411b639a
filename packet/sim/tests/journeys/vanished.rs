//! Connections to a pod that is gone: whoever speaks to it is told so.

use crate::{ACK, Family, SYN, SYN_ACK, assert_lands, both, ends, shop, tcp};
use std::net::IpAddr;
use tortie_abi::service::{Frontend, flags};
use tortie_abi::{DropReason, Target};
use tortie_sim::world::{Journey, Landed, Pod, World};
use tortie_testkit::packet::verify_checksums;

const NODE_PORT: u16 = 30_080;

/// Its slot is empty.
fn remove(world: &World, pod: &Pod) {
    world.edit(pod, |endpoint| *endpoint = zerocopy::FromZeros::new_zeroed());
}

/// Opens a connection: what the client sends lands in `server`, which answers.
fn open(
    world: &World,
    send: impl Fn(tortie_wire::tcp::TcpFlags) -> Journey,
    server: (&str, &Pod),
    f: Family,
    client: (IpAddr, u16),
) {
    let there = send(SYN);
    assert_lands(&there, server.0);
    let (_, _, _, port) = ends(&there.packet);
    let back = world.send(server.1, tcp(f.of(server.1), port, client.0, client.1, SYN_ACK));
    assert!(!matches!(back.landed, Landed::Dropped(_)), "{:?}", back.steps);
    assert_lands(&send(ACK), server.0);
}

/// A reset from whom the client believes to talk to.
#[track_caller]
fn assert_reset(journey: &Journey, landed: &Landed, from: (IpAddr, u16), to: (IpAddr, u16)) {
    assert_eq!(&journey.landed, landed, "{:?}", journey.steps);
    assert_eq!(ends(&journey.packet), (from.0, from.1, to.0, to.1));
    let header = if from.0.is_ipv4() { 14 + 20 } else { 14 + 40 };
    assert_ne!(journey.packet[header + 13] & 4, 0, "RST");
    verify_checksums(&journey.packet).unwrap();
}

#[test]
fn a_pod_is_told_by_the_service_that_its_back_end_here_is_gone() {
    both(|f| {
        let (mut world, a, b, _) = shop();
        world.add_service(f.vip(), 80, 6, &[(f.of(&b), 8080)]);
        let send = |flags| world.send(&a, tcp(f.of(&a), 40000, f.vip(), 80, flags));
        open(&world, send, ("b", &b), f, (f.of(&a), 40000));
        remove(&world, &b);
        assert_reset(&send(ACK), &Landed::Pod("a".into()), (f.vip(), 80), (f.of(&a), 40000));
    });
}

#[test]
fn a_pod_is_told_that_a_pod_on_another_node_is_gone_directly_and_through_a_service() {
    both(|f| {
        let (mut world, a, _, c) = shop();
        world.add_service(f.vip(), 80, 6, &[(f.of(&c), 8080)]);
        for (port, to) in [(40000, (f.of(&c), 8080)), (40001, (f.vip(), 80))] {
            let send = |flags| world.send(&a, tcp(f.of(&a), port, to.0, to.1, flags));
            open(&world, send, ("c", &c), f, (f.of(&a), port));
        }
        remove(&world, &c);
        for (port, to) in [(40000, (f.of(&c), 8080)), (40001, (f.vip(), 80))] {
            let told = world.send(&a, tcp(f.of(&a), port, to.0, to.1, ACK));
            assert_eq!(told.landed, Landed::Outside(1), "the other node answers: {:?}", told.steps);
            let told = world.arrive(0, told.packet);
            assert_reset(&told, &Landed::Pod("a".into()), to, (f.of(&a), port));
        }
    });
}

#[test]
fn another_pod_with_the_address_gets_nothing_of_it() {
    both(|f| {
        let (world, a, _, c) = shop();
        let send = |flags| world.send(&a, tcp(f.of(&a), 40000, f.of(&c), 8080, flags));
        open(&world, send, ("c", &c), f, (f.of(&a), 40000));
        world.edit(&c, |endpoint| endpoint.id = Target::endpoint(c.slot as u16, 2));
        assert_eq!(send(ACK).landed, Landed::Outside(1));
        assert_eq!(world.nodes[1].dropped(DropReason::NoFlow), 1);
        assert_eq!(send(ACK).landed, Landed::Outside(1), "nor when it is forgotten");
        assert_eq!(world.nodes[1].dropped(DropReason::NoFlow), 2);
    });
}

#[test]
fn a_client_outside_is_told_by_the_door_it_came_in_by_also_through_another_node() {
    both(|f| {
        for here in [true, false] {
            let (mut world, _, b, c) = shop();
            let (name, server) = if here { ("b", &b) } else { ("c", &c) };
            for door in [f.node(0), f.pick("198.51.100.9", "2001:db8:f::9")] {
                let at = if door == f.node(0) { f.pick("0.0.0.0", "::") } else { door };
                let frontend = Frontend {
                    service: world.new_service(),
                    backends: 1,
                    local_backends: u32::from(here),
                    flags: flags::EXTERNAL,
                    ..Frontend::default()
                };
                world.set_frontend(0, (at, NODE_PORT, 6), frontend, &[(f.of(server), 8080)]);
            }
            let doors = [(f.node(0), 40000), (f.pick("198.51.100.9", "2001:db8:f::9"), 40001)];
            for (door, port) in doors {
                let send = |flags| world.arrive(0, tcp(f.outside(), port, door, NODE_PORT, flags));
                open(&world, send, (name, server), f, (f.outside(), port));
            }
            remove(&world, server);
            for (door, port) in doors {
                let told = world.arrive(0, tcp(f.outside(), port, door, NODE_PORT, ACK));
                assert_reset(&told, &Landed::Outside(0), (door, NODE_PORT), (f.outside(), port));
            }
        }
    });
}

#[test]
fn a_process_of_the_node_is_told_that_a_pod_here_or_elsewhere_is_gone() {
    both(|f| {
        let (mut world, _, b, c) = shop();
        world.add_service(f.vip(), 80, 6, &[(f.of(&b), 8080)]);
        world.add_service(f.vip(), 81, 6, &[(f.of(&c), 8080)]);
        let here = |flags| world.send_from_host(0, tcp(f.node(0), 40000, f.vip(), 80, flags));
        let there = |flags| world.send_from_host(0, tcp(f.node(0), 40001, f.vip(), 81, flags));
        open(&world, here, ("b", &b), f, (f.node(0), 40000));
        open(&world, there, ("c", &c), f, (f.node(0), 40001));
        remove(&world, &b);
        remove(&world, &c);
        assert_reset(&here(ACK), &Landed::Host(0), (f.vip(), 80), (f.node(0), 40000));
        let told = there(ACK);
        assert_eq!(told.landed, Landed::Outside(1), "{:?}", told.steps);
        let told = world.arrive(0, told.packet);
        assert_reset(&told, &Landed::Host(0), (f.vip(), 81), (f.node(0), 40001));
    });
}
