//! A node that is away for a moment: nothing leads to it, and what flows name is still there.

use crate::{ACK, Family, SYN, SYN_ACK, assert_lands, both, ends, shop, tcp};
use std::net::IpAddr;
use tortie_abi::DropReason;
use tortie_abi::service::{Frontend, flags};
use tortie_sim::world::{Landed, Pod, World};

const NODE_PORT: u16 = 30_080;

/// `a` has a connection with `c` and sends on it; `c` answers.
fn talk(world: &World, f: Family, (a, c): (&Pod, &Pod)) {
    assert_lands(&world.send(a, tcp(f.of(a), 40000, f.of(c), 8080, ACK)), "c");
    assert_lands(&world.send(c, tcp(f.of(c), 8080, f.of(a), 40000, ACK)), "a");
}

#[test]
fn a_connection_with_a_pod_there_goes_on_and_a_new_one_finds_no_way() {
    both(|f| {
        let (world, a, _, c) = shop();
        world.send(&a, tcp(f.of(&a), 40000, f.of(&c), 8080, SYN));
        world.send(&c, tcp(f.of(&c), 8080, f.of(&a), 40000, SYN_ACK));
        talk(&world, f, (&a, &c));
        world.miss(0, 1);
        talk(&world, f, (&a, &c));
        let new = world.send(&a, tcp(f.of(&a), 40001, f.of(&c), 8080, SYN));
        assert_eq!(new.landed, Landed::Outside(0), "the host's own stack knows no more: {:?}", new.steps);
        world.meet(0, 1);
        talk(&world, f, (&a, &c));
    });
}

/// A client outside has asked the first node, and `c` answers through the tunnel.
fn through_the_tunnel(f: Family, test: impl Fn(&World, &dyn Fn(), &dyn Fn() -> Landed)) {
    let (mut world, _, _, c) = shop();
    let at: IpAddr = f.pick("0.0.0.0", "::");
    let service = world.new_service();
    let frontend = Frontend { service, backends: 1, flags: flags::EXTERNAL, ..Frontend::default() };
    world.set_frontend(0, (at, NODE_PORT, 6), frontend, &[(f.of(&c), 8080)]);
    let send = |flags| world.arrive(0, tcp(f.outside(), 40000, f.node(0), NODE_PORT, flags));
    let answer = |flags| world.send(&c, tcp(f.of(&c), 8080, f.outside(), 40000, flags));
    assert_lands(&send(SYN), "c");
    let answered = answer(SYN_ACK);
    assert_eq!(answered.landed, Landed::Outside(0), "{:?}", answered.steps);
    assert_eq!(ends(&answered.packet).0, f.node(0));
    test(&world, &|| assert_lands(&send(ACK), "c"), &|| answer(ACK).landed);
}

#[test]
fn one_of_a_client_outside_goes_on_through_the_tunnel_when_the_node_is_back() {
    both(|f| {
        through_the_tunnel(f, |world, send, answer| {
            world.miss(0, 1);
            send();
            // Of a node nobody knows nothing is believed; the server sends it again.
            assert_eq!(answer(), Landed::Dropped(DropReason::TunnelSource));
            world.meet(0, 1);
            assert_eq!(answer(), Landed::Outside(0));
            send();
        });
        through_the_tunnel(f, |world, send, answer| {
            world.miss(1, 0);
            assert_eq!(answer(), Landed::Outside(0), "the answers name who has asked");
            world.meet(1, 0);
            send();
        });
    });
}
