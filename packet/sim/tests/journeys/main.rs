//! Packet journeys: what users of a cluster see, as sentences, for both families.

mod affinity;
mod away;
mod direct;
mod host;
mod icmp;
mod maglev;
mod malformed;
mod masquerade;
mod messages;
mod outside;
mod pods;
mod policy;
mod remote;
mod sctp;
mod service_ranges;
mod services;
mod sockets;
mod source_ranges;
mod sweep;
mod tcp;
mod untranslated;
mod vanished;
mod ways;

use std::net::IpAddr;
use tortie_sim::world::{Journey, Landed, Pod, World};
use tortie_testkit::packet::{DST_MAC, PacketBuilder, SRC_MAC, verify_checksums};
use tortie_wire::tcp::TcpFlags;

const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;
const SYN_ACK: TcpFlags = TcpFlags(TcpFlags::SYN.0 | TcpFlags::ACK.0);
const FIN_ACK: TcpFlags = TcpFlags(TcpFlags::FIN.0 | TcpFlags::ACK.0);

/// Runs a test for IPv4 and for IPv6.
fn both(test: impl Fn(Family)) {
    test(Family::V4);
    test(Family::V6);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn of(self, pod: &Pod) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(pod.v4),
            Self::V6 => IpAddr::V6(pod.v6),
        }
    }

    fn pick(self, v4: &str, v6: &str) -> IpAddr {
        match self {
            Self::V4 => v4.parse().unwrap(),
            Self::V6 => v6.parse().unwrap(),
        }
    }

    fn node(self, index: usize) -> IpAddr {
        let (v4, v6) = World::node_addresses(index);
        match self {
            Self::V4 => IpAddr::V4(v4),
            Self::V6 => IpAddr::V6(v6),
        }
    }

    fn outside(self) -> IpAddr {
        self.pick("192.0.2.7", "2001:db8:1::7")
    }

    fn vip(self) -> IpAddr {
        self.pick("10.96.0.10", "fd00:96::10")
    }
}

/// Two nodes: `a` and `b` on the first, `c` on the second.
fn shop() -> (World, Pod, Pod, Pod) {
    let mut world = World::new(2);
    let a = world.add_pod("a", 0);
    let b = world.add_pod("b", 0);
    let c = world.add_pod("c", 1);
    (world, a, b, c)
}

fn tcp(from: IpAddr, from_port: u16, to: IpAddr, to_port: u16, flags: TcpFlags) -> Vec<u8> {
    PacketBuilder::ip(from, to).mac(SRC_MAC, DST_MAC).tcp(from_port, to_port).flags(flags).build()
}

fn udp(from: IpAddr, from_port: u16, to: IpAddr, to_port: u16) -> Vec<u8> {
    PacketBuilder::ip(from, to).mac(SRC_MAC, DST_MAC).udp(from_port, to_port).payload(b"hello").build()
}

fn assert_lands(journey: &Journey, pod: &str) {
    assert_eq!(journey.landed, Landed::Pod(pod.to_owned()), "{:?}", journey.steps);
    verify_checksums(&journey.packet).unwrap();
}

#[track_caller]
fn assert_dropped(journey: &Journey, reason: tortie_abi::DropReason) {
    assert_eq!(journey.landed, Landed::Dropped(reason), "{:?}", journey.steps);
}

/// Source and destination of a frame with ports.
fn ends(frame: &[u8]) -> (IpAddr, u16, IpAddr, u16) {
    let parsed = tortie_wire_ends(frame).expect("a packet with ports");
    (parsed.0, parsed.1, parsed.2, parsed.3)
}

fn tortie_wire_ends(frame: &[u8]) -> Option<(IpAddr, u16, IpAddr, u16)> {
    let (source, header) = match frame.get(12..14)? {
        [0x08, 0x00] => {
            let b: [u8; 4] = frame.get(26..30)?.try_into().ok()?;
            (IpAddr::from(b), usize::from(frame[14] & 15) * 4)
        }
        _ => {
            let b: [u8; 16] = frame.get(22..38)?.try_into().ok()?;
            (IpAddr::from(b), 40)
        }
    };
    let ports = frame.get(14 + header..14 + header + 4)?;
    let destination = tortie_sim::world::destination(frame)?;
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Some((source, port(0), destination, port(2)))
}
