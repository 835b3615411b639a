//! `loadBalancerSourceRanges`: a load balancer's address is open to some clients alone.

use crate::{Family, SYN, assert_dropped, assert_lands, both, shop, tcp, udp};
use std::net::IpAddr;
use tortie_abi::DropReason;
use tortie_abi::service::{Frontend, flags};
use tortie_sim::world::{Landed, Pod, World};

const PORT: u16 = 80;

fn external(f: Family) -> IpAddr {
    f.pick("198.51.100.9", "2001:db8:f::9")
}

/// A load balancer's address in front of `b`, open to nobody yet.
fn restricted(world: &mut World, f: Family, protocol: u8, backends: &[(IpAddr, u16)]) -> u32 {
    let frontend = Frontend {
        service: world.new_service(),
        backends: backends.len() as u32,
        local_backends: backends.len() as u32,
        flags: flags::EXTERNAL | flags::SOURCE_RANGES,
        ..Frontend::default()
    };
    world.set_frontend(0, (external(f), PORT, protocol), frontend, backends);
    frontend.service
}

fn bits(f: Family) -> u32 {
    if f == Family::V4 { 32 } else { 128 }
}

/// Clients outside, in a pod, on the node itself.
fn attempts(world: &World, f: Family, pod: &Pod, port: u16) -> [Landed; 3] {
    let to = external(f);
    [
        world.arrive(0, tcp(f.outside(), port, to, PORT, SYN)).landed,
        world.send(pod, tcp(f.of(pod), port, to, PORT, SYN)).landed,
        world.send_from_host(0, tcp(f.node(0), port, to, PORT, SYN)).landed,
    ]
}

#[test]
fn clients_outside_the_ranges_are_dropped_wherever_they_are() {
    both(|f| {
        let (mut world, a, b, _) = shop();
        restricted(&mut world, f, 6, &[(f.of(&b), 8080)]);
        let refused = Landed::Dropped(DropReason::SourceRange);
        assert_eq!(attempts(&world, f, &a, 40000), [refused.clone(), refused.clone(), refused]);
        assert_eq!(world.nodes[0].dropped(DropReason::SourceRange), 3);
    });
}

#[test]
fn a_range_opens_the_address_to_its_clients_and_to_no_others() {
    both(|f| {
        let (mut world, a, b, _) = shop();
        let service = restricted(&mut world, f, 6, &[(f.of(&b), 8080)]);
        let refused = Landed::Dropped(DropReason::SourceRange);
        let served = Landed::Pod("b".into());
        world.admit(service, f.outside(), bits(f) - 8);
        assert_eq!(attempts(&world, f, &a, 40001), [served.clone(), refused.clone(), refused.clone()]);
        world.admit(service, f.of(&a), bits(f));
        assert_eq!(attempts(&world, f, &a, 40002), [served.clone(), served.clone(), refused]);
        world.admit(service, f.node(0), bits(f));
        assert_eq!(attempts(&world, f, &a, 40003), [served.clone(), served.clone(), served]);
    });
}

#[test]
fn another_services_ranges_open_nothing() {
    both(|f| {
        let (mut world, _, b, _) = shop();
        let service = restricted(&mut world, f, 17, &[(f.of(&b), 5353)]);
        world.admit(service + 1, f.outside(), bits(f));
        let there = world.arrive(0, udp(f.outside(), 40000, external(f), PORT));
        assert_dropped(&there, DropReason::SourceRange);
        world.admit(service, f.outside(), bits(f));
        assert_lands(&world.arrive(0, udp(f.outside(), 40000, external(f), PORT)), "b");
    });
}

#[test]
fn who_is_not_admitted_does_not_learn_that_nobody_serves() {
    both(|f| {
        let (mut world, ..) = shop();
        let service = restricted(&mut world, f, 6, &[]);
        let lost = world.arrive(0, tcp(f.outside(), 40000, external(f), PORT, SYN));
        assert_dropped(&lost, DropReason::SourceRange);
        world.admit(service, f.outside(), bits(f));
        let told = world.arrive(0, tcp(f.outside(), 40001, external(f), PORT, SYN));
        assert_eq!(told.landed, Landed::Outside(0), "a reset");
    });
}
