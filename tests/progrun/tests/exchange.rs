//! While programs are exchanged for another object's, packets that the old ones have begun come to the new ones. Needs root.

use std::net::IpAddr;

use tortie_abi::{DropReason, Hook};
use tortie_testkit::netns::Netns;
use tortie_testkit::packet::PacketBuilder;
use tortie_tests_progrun::kernel::Kernel;
use tortie_tests_progrun::objects;
use tortie_tests_progrun::step::Shot;
use tortie_tests_progrun::world::{World, address, ifindex_of, pod};
use tortie_wire::tcp::TcpFlags;

/// A world in which nothing is the tunnel, and one in which the data interface is.
const WORLDS: [u32; 2] = [1 << 5, 0];

/// The first packet of a connection, at a hook.
fn opening(hook: Hook, slot: u32, from: IpAddr, to: IpAddr) -> Shot {
    let bytes = PacketBuilder::ip(from, to).tcp(40_000, 80).flags(TcpFlags::SYN).build();
    Shot { hook, slot, mark: 0, aggregate: false, bytes }
}

#[test]
fn a_packet_that_another_object_has_begun_ends_and_is_counted_where_it_is() {
    let netns = Netns::new();
    for index in 100..=106 {
        netns.ip(&format!("link add tt{index} index {index} type veth peer name tp{index}"));
    }
    let object = objects::build("test-io", 0).expect("the object");
    netns.run(move || {
        let mut kernel = Kernel::load(&object).expect("a kernel");
        kernel.exchange(&object).expect("an exchange");
        for number in WORLDS {
            let world = World::new(number);
            for v6 in [false, true] {
                let (node, outside) = (address([192, 168, 0, 1], v6), address([198, 51, 100, 7], v6));
                let (one, two) = (pod(1, v6, false), pod(2, v6, false));
                let shots = match number {
                    0 => vec![opening(Hook::FromTunnel, 0, outside, one)],
                    _ => vec![
                        opening(Hook::FromHostDevice, 0, outside, one),
                        opening(Hook::ToHostDevice, 0, node, one),
                        opening(Hook::FromWorkload, 1, one, two),
                        opening(Hook::ToWorkload, 1, outside, one),
                    ],
                };
                for shot in shots {
                    kernel.enter(&world).expect("entering");
                    let flows = kernel.flows(v6).expect("flows");
                    assert!(kernel.ends(&shot).expect("a run"), "{shot:?}");
                    let counted: Vec<_> = kernel.counters().expect("counters").into_keys().collect();
                    let here =
                        (ifindex_of(shot.hook, shot.slot), shot.hook as u16, DropReason::Internal as u16);
                    assert_eq!(counted, [here], "{shot:?}");
                    assert_eq!(kernel.flows(v6).expect("flows"), flows, "nor is a flow begun: {shot:?}");
                }
            }
        }
    });
}
