//! `serviceLoopPrevention`: addresses that Services may have and none has.

use crate::{ACK, Family, SYN, assert_dropped, assert_lands, both, ends, shop, tcp, udp};
use std::net::IpAddr;
use tortie_abi::route::{Kind, Route};
use tortie_abi::settings::flags;
use tortie_abi::{DropReason, Target};
use tortie_sim::world::{Landed, Pod, World};

/// Two nodes that know the Services' range and treat it so.
fn world(f: Family, mode: u32) -> (World, Pod, Pod) {
    let (mut world, a, b, _) = shop();
    for node in &world.nodes {
        let mut settings = node.settings.get();
        settings.flags |= mode;
        node.settings.set(settings);
        let route = Route { target: Target::HOST, kind: Kind::Services as u8, flags: 0, _zero: 0 };
        match f.vip() {
            IpAddr::V4(vip) => node.v4.set_route(vip.into(), 16, route),
            IpAddr::V6(vip) => node.v6.set_route(vip.into(), 112, route),
        }
    }
    world.add_service(f.vip(), 80, 6, &[(f.of(&b), 8080)]);
    (world, a, b)
}

/// In the range, and no Service's.
fn nobody(f: Family) -> IpAddr {
    f.pick("10.96.0.99", "fd00:96::99")
}

#[test]
fn what_no_service_has_is_dropped_from_pods_and_from_outside_in_the_middle_of_a_connection_too() {
    both(|f| {
        let (world, a, _) = world(f, flags::DROP_TO_SERVICES);
        for to in [(nobody(f), 80), (f.vip(), 81)] {
            let from_pod = world.send(&a, tcp(f.of(&a), 40000, to.0, to.1, SYN));
            assert_dropped(&from_pod, DropReason::NoService);
            for flags in [SYN, ACK] {
                let from_outside = world.arrive(0, tcp(f.outside(), 40000, to.0, to.1, flags));
                assert_dropped(&from_outside, DropReason::NoService);
            }
        }
        assert_lands(&world.send(&a, tcp(f.of(&a), 40000, f.vip(), 80, SYN)), "b");
    });
}

#[test]
fn who_is_rejected_is_told_that_the_port_is_unreachable() {
    both(|f| {
        let (world, a, _) = world(f, flags::REJECT_TO_SERVICES);
        for frame in [tcp(f.of(&a), 40000, nobody(f), 80, SYN), udp(f.of(&a), 40000, nobody(f), 53)] {
            let told = world.send(&a, frame);
            assert_lands(&told, "a");
            let quoted = &told.packet[told.packet.len().min(14 + quote_offset(f))..];
            let ends = ends(&[&told.packet[..14], quoted].concat());
            assert_eq!((ends.0, ends.2), (f.of(&a), nobody(f)), "in the sender's own words");
        }
        let told = world.arrive(0, udp(f.outside(), 40000, nobody(f), 53));
        assert_eq!(told.landed, Landed::Outside(0), "{:?}", told.steps);
        assert_eq!(world.nodes[0].dropped(DropReason::NoService), 3);
        assert_lands(&world.send(&a, tcp(f.of(&a), 40000, f.vip(), 80, SYN)), "b");
    });
}

/// Where the quoted packet begins behind the Ethernet header.
fn quote_offset(f: Family) -> usize {
    if f == Family::V4 { 28 } else { 48 }
}

#[test]
fn switched_off_such_packets_go_where_others_go_and_are_masqueraded_like_them() {
    both(|f| {
        let (world, a, _) = world(f, 0);
        world.set_nat_outgoing(&a);
        let away = world.send(&a, tcp(f.of(&a), 40000, nobody(f), 80, SYN));
        assert_eq!(away.landed, Landed::Outside(0), "{:?}", away.steps);
        assert_eq!(ends(&away.packet).0, f.node(0));
        let away = world.arrive(0, tcp(f.outside(), 40000, nobody(f), 80, SYN));
        assert_eq!(away.landed, Landed::Outside(0), "{:?}", away.steps);
    });
}
