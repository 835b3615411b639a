//! Services for the node's own processes: out of a data interface or through loopback.

use crate::{ACK, Family, SYN, SYN_ACK, assert_lands, both, ends, shop, tcp, udp};
use std::net::IpAddr;
use tortie_abi::DropReason;
use tortie_abi::service::{Frontend, flags};
use tortie_sim::world::{Landed, World};
use tortie_testkit::packet::{PacketBuilder, verify_checksums};

const NODE_PORT: u16 = 30_080;

/// A port of every node, with these back ends, on every node.
fn node_port(world: &mut World, f: Family, protocol: u8, backends: &[(IpAddr, u16)]) {
    let frontend = Frontend {
        service: world.new_service(),
        backends: backends.len() as u32,
        flags: flags::EXTERNAL | flags::NODE_PORT,
        ..Frontend::default()
    };
    for node in 0..world.nodes.len() {
        world.set_frontend(node, (f.pick("0.0.0.0", "::"), NODE_PORT, protocol), frontend, backends);
    }
}

#[test]
fn a_process_of_the_node_reaches_a_pod_of_it_through_a_service() {
    both(|f| {
        let (mut world, _, b, _) = shop();
        world.add_service(f.vip(), 80, 6, &[(f.of(&b), 8080)]);
        let there = world.send_from_host(0, tcp(f.node(0), 40000, f.vip(), 80, SYN));
        assert_lands(&there, "b");
        assert_eq!(ends(&there.packet), (f.node(0), 40000, f.of(&b), 8080));
        let back = world.send(&b, tcp(f.of(&b), 8080, f.node(0), 40000, SYN_ACK));
        assert_eq!(back.landed, Landed::Host(0), "{:?}", back.steps);
        assert_eq!(ends(&back.packet), (f.vip(), 80, f.node(0), 40000));
        let again = world.send_from_host(0, tcp(f.node(0), 40000, f.vip(), 80, ACK));
        assert_lands(&again, "b");
    });
}

#[test]
fn what_the_stack_sends_keeps_its_time_to_live() {
    both(|f| {
        let (mut world, _, b, _) = shop();
        world.add_service(f.vip(), 53, 17, &[(f.of(&b), 5353)]);
        let packet = PacketBuilder::ip(f.node(0), f.vip()).ttl(1).udp(40000, 53).build();
        let there = world.send_from_host(0, packet);
        assert_lands(&there, "b");
        let time_to_live = there.packet[if f == Family::V4 { 14 + 8 } else { 14 + 7 }];
        assert_eq!(time_to_live, 1, "it is the node's own: nobody has routed it");
    });
}

#[test]
fn a_process_of_the_node_reaches_a_pod_elsewhere_through_a_service() {
    both(|f| {
        let (mut world, _, _, c) = shop();
        world.add_service(f.vip(), 53, 17, &[(f.of(&c), 5353)]);
        for _ in 0..2 {
            let there = world.send_from_host(0, udp(f.node(0), 40000, f.vip(), 53));
            assert_lands(&there, "c");
            assert_eq!(ends(&there.packet), (f.node(0), 40000, f.of(&c), 5353));
            let back = world.send(&c, udp(f.of(&c), 5353, f.node(0), 40000));
            assert_eq!(back.landed, Landed::Host(0), "{:?}", back.steps);
            assert_eq!(ends(&back.packet), (f.vip(), 53, f.node(0), 40000));
            verify_checksums(&back.packet).unwrap();
        }
    });
}

#[test]
fn a_process_of_the_node_reaches_another_one_of_it_through_a_service() {
    both(|f| {
        let (mut world, ..) = shop();
        world.add_service(f.vip(), 443, 6, &[(f.node(0), 6443)]);
        let there = world.send_from_host(0, tcp(f.node(0), 40000, f.vip(), 443, SYN));
        assert_eq!(there.landed, Landed::Host(0), "{:?}", there.steps);
        assert_eq!(ends(&there.packet), (f.node(0), 40000, f.node(0), 6443));
        let back = world.send_from_host(0, tcp(f.node(0), 6443, f.node(0), 40000, SYN_ACK));
        assert_eq!(back.landed, Landed::Host(0), "{:?}", back.steps);
        assert_eq!(ends(&back.packet), (f.vip(), 443, f.node(0), 40000));
        verify_checksums(&back.packet).unwrap();
    });
}

#[test]
fn a_process_of_the_node_uses_the_ports_of_its_own_and_of_other_nodes() {
    both(|f| {
        let (mut world, _, b, c) = shop();
        node_port(&mut world, f, 6, &[(f.of(&b), 8080), (f.of(&c), 8080)]);
        for node in [0, 1] {
            let landed: Vec<Landed> = (0..40)
                .map(|n| {
                    world.send_from_host(0, tcp(f.node(0), 40000 + n, f.node(node), NODE_PORT, SYN)).landed
                })
                .collect();
            assert!(landed.contains(&Landed::Pod("b".into())), "{landed:?}");
            assert!(landed.contains(&Landed::Pod("c".into())), "{landed:?}");
        }
    });
}

#[test]
fn a_service_without_endpoints_refuses_the_nodes_processes_too() {
    both(|f| {
        let (mut world, ..) = shop();
        world.add_service(f.vip(), 80, 6, &[]);
        world.add_service(f.vip(), 53, 17, &[]);
        let reset = world.send_from_host(0, tcp(f.node(0), 40000, f.vip(), 80, SYN));
        assert_eq!(reset.landed, Landed::Host(0), "{:?}", reset.steps);
        assert_eq!(ends(&reset.packet), (f.vip(), 80, f.node(0), 40000));
        let refused = world.send_from_host(0, udp(f.node(0), 40000, f.vip(), 53));
        assert_eq!(refused.landed, Landed::Host(0), "{:?}", refused.steps);
        assert_eq!(world.nodes[0].dropped(DropReason::NoBackend), 2);
    });
}

#[test]
fn a_denying_pod_is_open_to_its_node_through_a_service() {
    both(|f| {
        let (mut world, _, b, _) = shop();
        world.set_policy(&b, true, |_| tortie_abi::policy::Verdict::Deny);
        world.add_service(f.vip(), 80, 6, &[(f.of(&b), 8080)]);
        assert_lands(&world.send_from_host(0, tcp(f.node(0), 40000, f.vip(), 80, SYN)), "b");
    });
}

#[test]
fn what_the_node_sends_to_others_is_left_as_it_is_and_leaves_no_flow() {
    both(|f| {
        let (mut world, _, b, _) = shop();
        world.add_service(f.vip(), 80, 6, &[(f.of(&b), 8080)]);
        let frames = [
            tcp(f.node(0), 40000, f.outside(), 443, SYN),
            tcp(f.node(0), 40000, f.outside(), 443, ACK),
            udp(f.node(0), 40000, f.outside(), 53),
            PacketBuilder::ip(f.node(0), f.outside()).echo_request(7, 1).build(),
            // Forwarded by the stack, not its own.
            tcp(f.of(&b), 40000, f.outside(), 443, ACK),
        ];
        for frame in frames {
            let journey = world.send_from_host(0, frame.clone());
            assert_eq!((journey.landed, journey.packet), (Landed::Outside(0), frame));
        }
        assert!(world.nodes[0].v4.half_open.borrow().sorted().is_empty());
        assert!(world.nodes[0].v6.half_open.borrow().sorted().is_empty());
    });
}
