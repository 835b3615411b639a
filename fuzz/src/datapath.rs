//! Any bytes as packets through two nodes: nothing panics, what arrives has right checksums and its sender's
//! address, nothing that ingress policy denies reaches a pod unless it answers what the pod sent, and every
//! flow has both its directions. The ingress policy of every pod allows even ports.

use std::collections::BTreeSet;
use std::net::IpAddr;
use tortie_abi::policy::Verdict as Decision;
use tortie_datapath::kernel::Table;
use tortie_datapath::{Family, V4, V6};
use tortie_sim::node::HasTables;
use tortie_sim::run::examine;
use tortie_sim::world::{Journey, Landed, Pod, World};
use tortie_testkit::packet::{PacketBuilder, verify_checksums};
use tortie_wire::tcp::TcpFlags;
use zerocopy::{FromBytes, IntoBytes};

const PODS: [(&str, usize); 3] = [("a", 0), ("b", 0), ("c", 1)];
const FLAGS: [u8; 8] = [0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x14, 0x02];
const SERVICE_PORTS: [u16; 2] = [80, 81];

/// Checks one input: six bytes a step.
pub fn check(bytes: &[u8]) {
    let mut run = Run::new();
    for step in bytes.chunks_exact(6).take(200) {
        run.step(step.try_into().unwrap_or_default());
    }
    flows_have_both_directions::<V4>(&run.world);
    flows_have_both_directions::<V6>(&run.world);
}

struct Run {
    world: World,
    pods: Vec<Pod>,
    /// Who has spoken from which port: there they may get an answer that policy would not let in by itself.
    spoken: BTreeSet<(IpAddr, u16)>,
}

impl Run {
    fn new() -> Self {
        let mut world = World::new(2);
        let pods: Vec<Pod> = PODS.iter().map(|(name, node)| world.add_pod(name, *node)).collect();
        for pod in &pods {
            world.set_policy(pod, true, |io| match io.destination_port % 2 {
                0 => Decision::Allow,
                _ => Decision::Deny,
            });
        }
        for port in SERVICE_PORTS {
            for protocol in [6, 17] {
                for v6 in [false, true] {
                    let all: Vec<_> = pods.iter().map(|p| (address(p, v6), port)).collect();
                    world.add_service(vip(v6), port, protocol, &all);
                }
            }
        }
        Self { world, pods, spoken: BTreeSet::new() }
    }

    fn step(&mut self, [what, ends, ports, flags, at, with]: [u8; 6]) {
        for node in &self.world.nodes {
            node.advance_millis(u64::from(with));
        }
        let from = self.pods[usize::from(ends & 3) % 3].clone();
        let v6 = what & 1 != 0;
        let to = match (ends >> 2) & 3 {
            3 => vip(v6),
            other => address(&self.pods[usize::from(other)], v6),
        };
        let (high, low) = (40_000 + u16::from(ports >> 2), u16::from(ports & 3) + 80);
        let request = what & 2 == 0;
        let (source_port, port) = if request { (high, low) } else { (low, high) };
        let packet = PacketBuilder::ip(address(&from, v6), to).payload(&[with; 9]);
        let packet = match (what >> 2) & 1 {
            0 => packet
                .tcp(source_port, port)
                .flags(TcpFlags(FLAGS[usize::from(flags & 7)]))
                .seq(u32::from(at) << 8),
            _ => packet.udp(source_port, port),
        };
        let mut frame = packet.build();
        self.spoken.insert((address(&from, v6), source_port));
        let mutated = what & 0x80 != 0;
        if mutated {
            let at = 14 + usize::from(at) % (frame.len() - 14);
            frame[at] ^= with;
        }
        let journey = self.world.send(&from, frame);
        if !mutated {
            self.judge(&journey, &from, v6);
        }
    }

    fn judge(&self, journey: &Journey, from: &Pod, v6: bool) {
        let Landed::Pod(name) = &journey.landed else { return };
        verify_checksums(&journey.packet).expect("what arrives has right checksums");
        let Some((source, destination, port)) = ends(&journey.packet) else { return };
        let at = PODS.iter().position(|(n, _)| n == name).map(|i| &self.pods[i]).expect("a pod of ours");
        assert_eq!(destination, address(at, v6), "delivered to its address");
        if journey.steps.last().is_some_and(|(_, _, v)| *v == tortie_datapath::Verdict::Answer) {
            return;
        }
        let itself = at.id == from.id && at.node == from.node;
        let answer = self.spoken.contains(&(destination, port));
        assert!(
            port % 2 == 0 || itself || answer,
            "policy denies port {port} of {name}: {:?}",
            journey.steps
        );
        assert!(
            source == address(from, v6) || source == vip(v6) || itself,
            "{name} sees a stranger: {source}"
        );
    }
}

fn flows_have_both_directions<F: HasTables>(world: &World) {
    for node in &world.nodes {
        let entries = F::tables(node).entries(Table::Main);
        for (key, entry) in &entries {
            let typed = <F as Family>::FlowKey::read_from_bytes(key).expect("a key");
            let (_, partner) = examine::<F>(node, Table::Main, &typed, entry);
            let there = entries.contains_key(partner.as_bytes());
            assert!(there, "{typed:?} has lost {partner:?}");
        }
    }
}

fn address(pod: &Pod, v6: bool) -> IpAddr {
    if v6 { IpAddr::V6(pod.v6) } else { IpAddr::V4(pod.v4) }
}

fn vip(v6: bool) -> IpAddr {
    if v6 { "fd00:96::1".parse().expect("an address") } else { IpAddr::from([10, 96, 0, 1]) }
}

/// Source, destination and destination port of a frame without options.
fn ends(frame: &[u8]) -> Option<(IpAddr, IpAddr, u16)> {
    let v4 = frame.get(12..14)? == [8, 0];
    let (source, header): (IpAddr, usize) = if v4 {
        (<[u8; 4]>::try_from(frame.get(26..30)?).ok()?.into(), 20)
    } else {
        (<[u8; 16]>::try_from(frame.get(22..38)?).ok()?.into(), 40)
    };
    let port = frame.get(14 + header + 2..14 + header + 4)?;
    Some((source, tortie_sim::world::destination(frame)?, u16::from_be_bytes(port.try_into().ok()?)))
}
