//! Nodes with several interfaces: by which of them clients outside are answered.

use crate::outside::{CLUSTER, NODE_PORT, every, serve};
use crate::sweep::doubt_on;
use crate::{ACK, SYN, SYN_ACK, assert_dropped, assert_lands, both, ends, shop, tcp, udp};
use tortie_abi::DropReason;
use tortie_datapath::Verdict;
use tortie_sim::world::{Journey, UPLINK};
use tortie_testkit::packet::PacketBuilder;

/// A second interface.
const OTHER: u32 = 77;

#[track_caller]
fn assert_leaves_by(ifindex: u32, journey: &Journey) {
    assert_eq!(journey.steps.last().unwrap().2, Verdict::Routed { ifindex }, "{:?}", journey.steps);
}

#[test]
fn a_client_that_the_interface_of_its_request_does_not_lead_to_is_answered_the_nodes_own_way() {
    both(|f| {
        let (mut world, _, b, _) = shop();
        serve(&mut world, (every(f), NODE_PORT, 6), CLUSTER, 1, &[(f.of(&b), 8080)]);
        world.nodes[0].dead_end.set(UPLINK);
        for (port, way_out, by) in [(40000, OTHER, OTHER), (40001, 0, UPLINK)] {
            world.nodes[0].way_out.set(way_out);
            assert_lands(&world.arrive(0, tcp(f.outside(), port, f.node(0), NODE_PORT, SYN)), "b");
            let back = world.send(&b, tcp(f.of(&b), 8080, f.outside(), port, SYN_ACK));
            assert_eq!(back.steps.last().unwrap().2, Verdict::Routed { ifindex: by });
        }
    });
}

#[test]
fn an_answer_leaves_by_another_interface_once_its_own_leads_nowhere() {
    both(|f| {
        let (mut world, _, b, _) = shop();
        for protocol in [6, 17] {
            serve(&mut world, (every(f), NODE_PORT, protocol), CLUSTER, 1, &[(f.of(&b), 8080)]);
        }
        let node = &world.nodes[0];
        assert_lands(&world.arrive(0, tcp(f.outside(), 40000, f.node(0), NODE_PORT, SYN)), "b");
        assert_lands(&world.arrive(0, udp(f.outside(), 40000, f.node(0), NODE_PORT)), "b");
        let answers = || {
            let flags = if world.nodes[0].way_out.get() == OTHER { ACK } else { SYN_ACK };
            [
                world.send(&b, tcp(f.of(&b), 8080, f.outside(), 40000, flags)),
                world.send(&b, udp(f.of(&b), 8080, f.outside(), 40000)),
            ]
        };
        let all_leave_by = |ifindex| answers().iter().for_each(|answer| assert_leaves_by(ifindex, answer));
        all_leave_by(UPLINK);
        assert_lands(&world.arrive(0, tcp(f.outside(), 40000, f.node(0), NODE_PORT, ACK)), "b");

        node.dead_end.set(UPLINK);
        node.way_out.set(0);
        doubt_on(node);
        // No interface leads there: as before, until one does, which nobody has to say.
        all_leave_by(UPLINK);
        node.way_out.set(OTHER);
        all_leave_by(OTHER);
        let back = &answers()[0];
        assert_eq!(ends(&back.packet), (f.node(0), NODE_PORT, f.outside(), 40000));
        // Asked once: what leads there now is not known to have changed.
        node.dead_end.set(OTHER);
        node.way_out.set(UPLINK);
        answers().iter().for_each(|answer| assert_leaves_by(OTHER, answer));
        doubt_on(node);
        all_leave_by(UPLINK);
    });
}

#[test]
fn what_is_for_a_pod_that_nobody_has_does_not_go_back_to_the_network_it_came_from() {
    both(|f| {
        let (world, ..) = shop();
        let nobody = f.pick("10.244.1.250", "fd00:244:1::fa");
        let whole = PacketBuilder::ip(f.outside(), nobody).udp(9999, 53).payload_len(2000).build();
        let quoted = PacketBuilder::ip(nobody, f.outside()).udp(53, 9999).build();
        let packets = || {
            [
                tcp(f.outside(), 40000, nobody, 80, SYN),
                tcp(f.outside(), 40000, nobody, 80, ACK),
                udp(f.outside(), 40000, nobody, 53),
                PacketBuilder::ip(f.outside(), nobody)
                    .udp(9999, 53)
                    .fragment(1400, false)
                    .payload_len(600)
                    .build(),
                PacketBuilder::ip(f.outside(), nobody).port_unreachable(&quoted[14..]).build(),
                whole.clone(),
            ]
        };
        for packet in packets() {
            assert_dropped(&world.arrive(0, packet), DropReason::Blackhole);
        }
        // Another plugin's pod may have it: the host's routes say so.
        for way in [OTHER, 0] {
            world.nodes[0].way_out.set(way);
            for packet in packets() {
                let journey = world.arrive(0, packet);
                assert_eq!(journey.steps[0].2, Verdict::Pass, "{:?}", journey.steps);
            }
        }
    });
}
