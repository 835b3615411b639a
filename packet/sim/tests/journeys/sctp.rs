//! SCTP through Services: its checksum covers the whole packet, ports included.

use crate::{Family, assert_dropped, assert_lands, both, ends, shop};
use std::net::IpAddr;
use tortie_abi::service::{Frontend, flags};
use tortie_abi::{DropReason, Hook};
use tortie_datapath::Verdict;
use tortie_sim::world::{Landed, UPLINK, World};
use tortie_testkit::packet::{DST_MAC, PacketBuilder, SRC_MAC, verify_checksums};
use tortie_wire::sctp::{ChunkType, SctpHeader};

const SCTP: u8 = 132;
const NODE_PORT: u16 = 30_132;

/// What an association sends from its beginning to its end, one side after the other.
const CHUNKS: [ChunkType; 9] = [
    ChunkType::Init,
    ChunkType::InitAck,
    ChunkType::CookieEcho,
    ChunkType::CookieAck,
    ChunkType::Data,
    ChunkType::Sack,
    ChunkType::Shutdown,
    ChunkType::ShutdownAck,
    ChunkType::ShutdownComplete,
];

fn builder(from: (IpAddr, u16), to: (IpAddr, u16)) -> PacketBuilder {
    PacketBuilder::ip(from.0, to.0).mac(SRC_MAC, DST_MAC).sctp(from.1, to.1)
}

fn sctp(from: (IpAddr, u16), to: (IpAddr, u16)) -> Vec<u8> {
    builder(from, to).chunk(ChunkType::Data, b"hello").build()
}

fn node_port(world: &mut World, f: Family, local_backends: u32, backends: &[(IpAddr, u16)]) {
    let service = world.new_service();
    let flags = flags::EXTERNAL | flags::NODE_PORT;
    let count = backends.len() as u32;
    let frontend = Frontend { service, backends: count, local_backends, flags, ..Frontend::default() };
    world.set_frontend(0, (f.pick("0.0.0.0", "::"), NODE_PORT, SCTP), frontend, backends);
}

#[test]
fn a_whole_association_goes_through_a_service_whose_pods_have_another_port() {
    both(|f| {
        let (mut world, a, b, _) = shop();
        world.add_service(f.vip(), 132, SCTP, &[(f.of(&b), 36412)]);
        let (client, server, vip) = ((f.of(&a), 40000), (f.of(&b), 36412), (f.vip(), 132));
        for (turn, chunk) in CHUNKS.into_iter().enumerate() {
            for length in [0, 1, 4, 1400] {
                let value = vec![turn as u8; length];
                let (sender, way, to, seen) = match turn % 2 {
                    0 => (&a, (client, vip), "b", (client, server)),
                    _ => (&b, (server, client), "a", (vip, client)),
                };
                let there = world.send(sender, builder(way.0, way.1).chunk(chunk, &value).build());
                assert_lands(&there, to);
                let expected = (seen.0.0, seen.0.1, seen.1.0, seen.1.1);
                assert_eq!(ends(&there.packet), expected, "{chunk:?} of {length}");
            }
        }
    });
}

#[test]
fn a_client_outside_meets_a_pod_behind_an_sctp_node_port_here_and_on_another_node() {
    both(|f| {
        for far in [false, true] {
            let (mut world, _, b, c) = shop();
            let (pod, name, node) = if far { (&c, "c", 1) } else { (&b, "b", 0) };
            let (client, server) = ((f.outside(), 40000), (f.of(pod), 132));
            node_port(&mut world, f, u32::from(!far), &[server]);
            let there = world.arrive(0, sctp(client, (f.node(0), NODE_PORT)));
            assert_lands(&there, name);
            assert_eq!(there.steps.last().map(|step| step.0), Some(node));
            assert_eq!(ends(&there.packet), (client.0, client.1, server.0, server.1), "the client's own");
            let back = world.send(pod, sctp(server, client));
            assert_eq!(back.landed, Landed::Outside(0), "{:?}", back.steps);
            assert_eq!(back.steps.last().unwrap().2, Verdict::Routed { ifindex: UPLINK }, "the way it came");
            assert_eq!(ends(&back.packet), (f.node(0), NODE_PORT, client.0, client.1));
            verify_checksums(&back.packet).unwrap();
        }
    });
}

#[test]
fn a_checksum_that_the_device_is_yet_to_compute_is_left_to_it() {
    both(|f| {
        let (mut world, a, b, _) = shop();
        world.add_service(f.vip(), 132, SCTP, &[(f.of(&b), 36412)]);
        let mut frame = sctp((f.of(&a), 40000), (f.vip(), 132));
        let at = frame.len() - 24 + SctpHeader::CHECKSUM_OFFSET;
        frame[at..at + 4].fill(0);
        let there = world.send(&a, frame);
        assert_eq!(there.landed, Landed::Pod("b".into()), "{:?}", there.steps);
        assert_eq!(there.packet[at..at + 4], [0; 4]);
        assert_eq!(ends(&there.packet).3, 36412);
    });
}

#[test]
fn two_clients_of_one_address_and_port_do_not_meet_at_the_back_end() {
    both(|f| {
        let (mut world, a, b, _) = shop();
        let (server, client) = ((f.of(&b), 132), (f.of(&a), 40000));
        world.add_service(f.vip(), 1132, SCTP, &[server]);
        assert_lands(&world.send(&a, sctp(client, server)), "b");
        let there = world.send(&a, sctp(client, (f.vip(), 1132)));
        assert_lands(&there, "b");
        let (_, moved, ..) = ends(&there.packet);
        assert_ne!(moved, client.1, "the port is taken by the association without the Service");
        let back = world.send(&b, sctp(server, (client.0, moved)));
        assert_lands(&back, "a");
        assert_eq!(ends(&back.packet), (f.vip(), 1132, client.0, client.1));
    });
}

#[test]
fn pods_with_one_port_leave_the_cluster_under_their_nodes_address_and_do_not_meet() {
    both(|f| {
        let (world, a, b, _) = shop();
        let mut ports = Vec::new();
        for pod in [&a, &b] {
            world.set_nat_outgoing(pod);
            let out = world.send(pod, sctp((f.of(pod), 5000), (f.outside(), 132)));
            assert_eq!(out.steps.last().unwrap().2, Verdict::Routed { ifindex: UPLINK });
            verify_checksums(&out.packet).unwrap();
            let (source, port, ..) = ends(&out.packet);
            assert_eq!(source, f.node(0));
            ports.push(port);
        }
        assert_ne!(ports[0], ports[1]);
        for (name, port) in [("a", ports[0]), ("b", ports[1])] {
            assert_lands(&world.arrive(0, sctp((f.outside(), 132), (f.node(0), port))), name);
        }
    });
}

#[test]
fn pieces_of_a_packet_pass_a_service_only_with_their_own_port() {
    both(|f| {
        let (mut world, a, b, _) = shop();
        world.add_service(f.vip(), 132, SCTP, &[(f.of(&b), 132)]);
        world.add_service(f.vip(), 1132, SCTP, &[(f.of(&b), 132)]);
        let first = |port| {
            let whole = builder((f.of(&a), 40000), (f.vip(), port)).chunk(ChunkType::Data, &[7; 60]);
            whole.fragment(0, true).build()
        };
        let there = world.send(&a, first(132));
        assert_eq!(there.landed, Landed::Pod("b".into()), "{:?}", there.steps);
        assert_eq!(there.steps[0].1, Hook::FromWorkload);
        assert_dropped(&world.send(&a, first(1132)), DropReason::RewriteFailed);
    });
}
