//! Packets and changes that keep the logic busy: conversations rather than noise, and noise now and then.

use crate::random::Random;
use crate::session::Outcome;
use crate::step::{Shot, Step};
use crate::world::{EMPTY_PROGRAM, EMPTY_SLOT, NOTED, PODS, SHARED, SHARED_ELSEWHERE, address, pod};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tortie_abi::Hook;
use tortie_abi::endpoint::NO_PROGRAM;
use tortie_datapath::{Family as _, V4, V6};
use tortie_testkit::packet::{Extension, PacketBuilder, arp_request, neighbour_solicitation};
use tortie_wire::tcp::TcpFlags;
use tortie_wire::{Ip6, Mac};
use zerocopy::IntoBytes as _;

/// One that was forwarded: what it was, and what became of it.
#[derive(Clone, Debug)]
struct Forwarded {
    sent: Shot,
    /// Frame after the hook.
    bytes: Vec<u8>,
    /// The pod it went to, or 0.
    to_slot: u32,
}

/// Makes the steps of one session, from a seed and from what became of the packets so far.
#[derive(Debug)]
pub struct Generator {
    random: Random,
    forwarded: Vec<Forwarded>,
    last: Option<Shot>,
}

const PORTS: [u16; 10] = [80, 8080, 5353, 53, 443, 132, 8085, 1, 6443, 4789];
const NODE_PORTS: [u16; 8] = [30_080, 30_080, 30_053, 30_081, 30_132, 30_082, 30_083, 80];
const CLIENT_PORTS: [u16; 4] = [1000, 1001, 1003, 2000];
const REMOTE: [[u8; 4]; 13] = [
    [10, 0, 0, 99],
    [10, 0, 1, 5],
    [10, 0, 1, 6],
    [10, 0, 2, 5],
    [10, 0, 9, 1],
    [192, 168, 0, 1],
    [192, 168, 0, 2],
    [203, 0, 113, 5],
    [203, 0, 113, 9],
    [198, 51, 100, 1],
    [203, 0, 113, 5],
    [10, 0, 1, 5],
    [192, 168, 0, 1],
];
/// The node's own address, another node's, a load balancer's.
const DOORS: [[u8; 4]; 9] = [
    [192, 168, 0, 1],
    [192, 168, 0, 1],
    [192, 168, 0, 1],
    [192, 168, 0, 2],
    [198, 51, 100, 9],
    [198, 51, 100, 10],
    [198, 51, 100, 11],
    [198, 51, 100, 11],
    [198, 51, 100, 12],
];
const ODD4: [&str; 7] =
    ["127.0.0.1", "224.0.0.5", "255.255.255.255", "0.0.0.0", "240.0.0.1", "169.254.1.1", "10.0.0.255"];
const ODD6: [&str; 7] = ["::1", "ff02::1", "fe80::1", "::", "::ffff:10.0.0.1", "ff0e::5", "fe80::2:1"];

/// In place of a slot: another node, by the tunnel.
const TUNNEL: u32 = u32::MAX - 1;
/// In place of a slot: the node's own stack.
const HOST: u32 = u32::MAX;

const SYN_ACK: TcpFlags = TcpFlags(TcpFlags::SYN.0 | TcpFlags::ACK.0);
const FIN_ACK: TcpFlags = TcpFlags(TcpFlags::FIN.0 | TcpFlags::ACK.0);
const RST_ACK: TcpFlags = TcpFlags(TcpFlags::RST.0 | TcpFlags::ACK.0);

impl Generator {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), forwarded: Vec::new(), last: None }
    }

    /// What became of the last step's packet.
    pub fn learn(&mut self, outcome: &Outcome) {
        let (Some(sent), Some(observed)) = (self.last.take(), outcome) else { return };
        let Some((bytes, _)) = &observed.packet else { return };
        let to_slot = match observed.verdict {
            (2 | 3, ifindex) => ifindex.saturating_sub(100),
            // The host itself.
            (1, _) if sent.hook == Hook::FromHostDevice => HOST,
            (1, _) if sent.hook == Hook::ToHostDevice && sent.slot == 1 => HOST,
            (7, _) => HOST,
            (8, _) => TUNNEL,
            (1, _) if sent.hook == Hook::ToWorkload => sent.slot,
            _ => 0,
        };
        if observed.verdict.0 == 5 {
            return;
        }
        self.forwarded.push(Forwarded { sent, bytes: bytes.clone(), to_slot });
        if self.forwarded.len() > 24 {
            let oldest = self.random.below(12);
            self.forwarded.swap_remove(oldest);
        }
    }

    /// The next step.
    pub fn step(&mut self) -> Step {
        if self.random.percent(9) {
            return self.change();
        }
        let mut shot = match self.random.below(100) {
            0..=31 => self.opening(),
            32..=34 => self.elsewhere().unwrap_or_else(|| self.opening()),
            35..=64 => self.answer().unwrap_or_else(|| self.opening()),
            65..=82 => self.again().unwrap_or_else(|| self.opening()),
            83..=91 => self.error().unwrap_or_else(|| self.opening()),
            92..=94 => self.fragment(),
            95..=96 => self.neighbour(),
            _ => self.noise(),
        };
        if self.random.percent(7) {
            self.mutate(&mut shot.bytes);
        }
        if self.random.percent(4) {
            shot.aggregate = true;
        }
        if self.random.percent(3) {
            shot.mark = self.random.pick(&[0x0100_0000, 0x0f00_0000, 0x55]);
        }
        self.last = Some(shot.clone());
        Step::Packet(shot)
    }

    fn change(&mut self) -> Step {
        let slot = self.random.pick(&PODS);
        let egress = self.random.percent(50);
        match self.random.below(18) {
            0..=4 => Step::Generation { slot, egress },
            5..=6 => {
                let program = self.random.pick(&[1, 2, 3, 4, EMPTY_PROGRAM, NO_PROGRAM, NO_PROGRAM]);
                Step::Program { slot, egress, program }
            }
            7 => Step::Ready { slot, ready: self.random.percent(70) },
            8 => Step::Replace { slot },
            9 if self.random.percent(40) => Step::Remove { slot },
            10 if self.random.percent(40) => Step::Unreachable { slot: self.random.pick(&[1, 2, 3, 4]) },
            11..=12 => Step::Sweep,
            13..=14 => Step::Leave {
                service: 1 + self.random.below(12) as u32,
                ordinal: self.random.below(3) as u32,
            },
            _ => Step::Wait(self.random.pick(&[1, 100, 1_000, 6_000, 21_000, 40_000, 200_000])),
        }
    }

    /// The first packet of something.
    fn opening(&mut self) -> Shot {
        let v6 = self.random.percent(50);
        let hook = self.hook();
        let slot = match hook {
            Hook::FromHostDevice | Hook::Socket => 0,
            Hook::ToHostDevice => u32::from(self.random.percent(40)),
            Hook::FromTunnel => {
                self.random.pick(&[0, 0, 0, 0, NOTED, NOTED, NOTED, SHARED, SHARED_ELSEWHERE, 1, 2])
            }
            _ if self.random.percent(2) => EMPTY_SLOT,
            _ => self.random.pick(&[1, 1, 1, 2, 2, 3, 4]),
        };
        let source = match hook {
            Hook::FromWorkload => pod(slot, v6, self.random.percent(10)),
            Hook::ToHostDevice if self.random.percent(90) => address([192, 168, 0, 1], v6),
            _ => self.remote(v6),
        };
        let destination = match hook {
            Hook::FromWorkload => self.destination(v6),
            Hook::ToWorkload if self.random.percent(90) => pod(slot, v6, false),
            Hook::ToHostDevice if slot == 1 => address([192, 168, 0, 1], v6),
            Hook::ToHostDevice if self.random.percent(60) => self.destination(v6),
            Hook::FromTunnel if self.random.percent(20) => address([192, 168, 0, 1], v6),
            Hook::FromHostDevice | Hook::ToHostDevice if self.random.percent(60) => {
                address(self.random.pick(&DOORS), v6)
            }
            _ => pod(self.random.pick(&PODS), v6, self.random.percent(10)),
        };
        let source = if self.random.percent(4) { self.any(v6) } else { source };
        let destination = if self.random.percent(4) { self.any(v6) } else { destination };
        let doors = DOORS.iter().any(|door| address(*door, v6) == destination);
        let builder = self.transport(PacketBuilder::ip(source, destination), v6, doors);
        let mut bytes = self.dressed(builder, v6).build();
        if hook == Hook::FromTunnel && slot == NOTED {
            self.note(&mut bytes, v6);
        }
        Shot { hook, slot, mark: 0, aggregate: false, bytes }
    }

    /// The front end that the other node was asked at.
    fn note(&mut self, bytes: &mut Vec<u8>, v6: bool) {
        let port = self.random.pick(&NODE_PORTS);
        match address(self.random.pick(&DOORS), v6) {
            IpAddr::V4(a) => bytes.extend(V4::note(a.into(), port.into()).as_bytes()),
            IpAddr::V6(a) => bytes.extend(V6::note(a.into(), port.into()).as_bytes()),
        }
    }

    fn hook(&mut self) -> Hook {
        self.random.pick(&[
            Hook::FromWorkload,
            Hook::FromWorkload,
            Hook::FromWorkload,
            Hook::ToWorkload,
            Hook::FromHostDevice,
            Hook::FromHostDevice,
            Hook::ToHostDevice,
            Hook::FromTunnel,
        ])
    }

    fn remote(&mut self, v6: bool) -> IpAddr {
        address(self.random.pick(&REMOTE), v6)
    }

    fn destination(&mut self, v6: bool) -> IpAddr {
        match self.random.below(10) {
            0..=3 => pod(self.random.pick(&PODS), v6, self.random.percent(10)),
            4..=7 => {
                let last = 1 + self.random.below(14) as u8;
                address([10, 96, 0, last], v6)
            }
            _ => self.remote(v6),
        }
    }

    fn any(&mut self, v6: bool) -> IpAddr {
        if self.random.percent(50) {
            return self.destination(v6);
        }
        let text = if v6 { self.random.pick(&ODD6) } else { self.random.pick(&ODD4) };
        text.parse().unwrap_or_else(|_| pod(1, v6, false))
    }

    fn transport(&mut self, builder: PacketBuilder, v6: bool, doors: bool) -> PacketBuilder {
        let from = if self.random.percent(90) { self.random.pick(&CLIENT_PORTS) } else { self.port() };
        let to = match self.random.below(20) {
            0 => self.port(),
            _ if doors => self.random.pick(&NODE_PORTS),
            _ => self.random.pick(&PORTS),
        };
        match self.random.below(100) {
            0..=49 => {
                let any = TcpFlags(self.random.bits() as u8);
                let syn = TcpFlags::SYN;
                let flags =
                    self.random.pick(&[syn, syn, syn, syn, syn, TcpFlags::ACK, RST_ACK, SYN_ACK, any]);
                let builder = builder.tcp(from, to).flags(flags).seq(self.random.bits() as u32 & 0xffff);
                if self.random.percent(30) { builder.tcp_options(&[2, 4, 5, 0xb4]) } else { builder }
            }
            50..=74 => {
                let builder = builder.udp(from, to);
                if !v6 && self.random.percent(15) { builder.no_udp_checksum() } else { builder }
            }
            75..=86 => builder.echo_request(from, 1),
            87..=88 => builder.echo_reply(from, 1),
            89..=94 => builder.sctp(from, self.random.pick(&[132, 133, 30_132])),
            95..=97 => {
                let (kind, code) = (self.random.bits() as u8, self.random.bits() as u8);
                builder.icmp(if v6 && self.random.percent(50) { kind & 15 | 0x80 } else { kind }, code, 0)
            }
            _ => builder.protocol(self.random.pick(&[47, 50, 4, 41, 253, 0, 59, 60, 44])),
        }
    }

    fn port(&mut self) -> u16 {
        self.random.bits() as u16
    }

    /// Payload, TTL, options, extension headers.
    fn dressed(&mut self, builder: PacketBuilder, v6: bool) -> PacketBuilder {
        let length = self.random.pick(&[0, 0, 1, 8, 9, 40, 100, 101, 700, 1480]);
        let ttl = self.random.pick(&[64, 64, 64, 64, 64, 64, 64, 64, 255, 2, 1, 0]);
        let builder = builder.payload_len(length).ttl(ttl);
        match self.random.below(30) {
            0 if v6 => builder.extension(Extension::HopByHop(0)),
            1 if v6 => builder.extension(Extension::Destination(1)).extension(Extension::Routing(0)),
            2 if v6 => builder.extension(Extension::Authentication(1)),
            3 if v6 => (0..8).fold(builder, |b, _| b.extension(Extension::Destination(0))),
            4 if v6 => builder.extension(Extension::Destination(self.random.bits() as u8)),
            0..=1 if !v6 => builder.options(&[1, 1, 1, 0]),
            2 if !v6 => builder.options(&[7; 40]),
            5..=9 if !v6 => builder.dont_fragment(),
            _ => builder,
        }
    }

    fn one_of_the_forwarded(&mut self) -> Option<Forwarded> {
        let bound = self.forwarded.len();
        (bound > 0).then(|| self.forwarded[self.random.below(bound)].clone())
    }

    /// The other side answers.
    fn answer(&mut self) -> Option<Shot> {
        let forwarded = self.one_of_the_forwarded()?;
        let ends = Ends::of(&forwarded.bytes)?;
        let (hook, slot) = self.where_to(forwarded.to_slot);
        let builder = PacketBuilder::ip(ends.destination, ends.source);
        let (from, to) = (ends.destination_port, ends.source_port);
        let builder = match ends.protocol {
            6 => {
                let flags =
                    self.random.pick(&[SYN_ACK, SYN_ACK, TcpFlags::ACK, FIN_ACK, TcpFlags::RST, RST_ACK]);
                let near = ends.sequence.wrapping_add(self.random.pick(&[0, 1, 1, 100, 0x20_0000]));
                builder.tcp(from, to).flags(flags).seq(self.random.bits() as u32 & 0xffff).ack(near)
            }
            17 => builder.udp(from, to),
            132 => builder.sctp(from, to),
            1 | 58 if self.random.percent(80) => builder.echo_reply(ends.source_port, 1),
            1 | 58 => builder.echo_request(ends.source_port, 2),
            other => builder.protocol(other),
        };
        let bytes = self.dressed(builder, ends.source.is_ipv6()).build();
        Some(Shot { hook, slot, mark: 0, aggregate: false, bytes })
    }

    /// The same side goes on.
    fn again(&mut self) -> Option<Shot> {
        let forwarded = self.one_of_the_forwarded()?;
        if self.random.percent(30) {
            return Some(forwarded.sent);
        }
        let ends = Ends::of(&forwarded.sent.bytes)?;
        let builder = PacketBuilder::ip(ends.source, ends.destination);
        let (from, to) = (ends.source_port, ends.destination_port);
        let builder = match ends.protocol {
            6 => {
                let flags = self.random.pick(&[
                    TcpFlags::ACK,
                    TcpFlags::ACK,
                    TcpFlags::SYN,
                    FIN_ACK,
                    FIN_ACK,
                    TcpFlags::RST,
                    RST_ACK,
                ]);
                let step = self.random.pick(&[0, 1, 1, 1, 500, 0x10_0001, u32::MAX]);
                builder.tcp(from, to).flags(flags).seq(ends.sequence.wrapping_add(step))
            }
            17 => builder.udp(from, to),
            132 => builder.sctp(from, to),
            1 | 58 => builder.echo_request(from, 3),
            other => builder.protocol(other),
        };
        let bytes = self.dressed(builder, ends.source.is_ipv6()).build();
        Some(Shot { bytes, ..forwarded.sent })
    }

    /// The same side goes on through another node: what came in here comes out of the tunnel, or the other way round.
    fn elsewhere(&mut self) -> Option<Shot> {
        let forwarded = self.one_of_the_forwarded()?;
        let ends = Ends::of(&forwarded.sent.bytes)?;
        let (hook, slot, to) = match forwarded.sent.hook {
            Hook::FromHostDevice => {
                let backend = Ends::of(&forwarded.bytes)?;
                let slot = self.random.pick(&[SHARED, SHARED_ELSEWHERE]);
                (Hook::FromTunnel, slot, (backend.destination, backend.destination_port))
            }
            Hook::FromTunnel if self.random.percent(50) => {
                let slot = self.random.pick(&[SHARED, SHARED_ELSEWHERE]);
                (Hook::FromTunnel, slot, (ends.destination, ends.destination_port))
            }
            Hook::FromTunnel => {
                let door = self.random.pick(&[[198, 51, 100, 11], [198, 51, 100, 11], [198, 51, 100, 12]]);
                let port = if ends.protocol == 17 { 30_053 } else { 80 };
                (Hook::FromHostDevice, 0, (address(door, ends.source.is_ipv6()), port))
            }
            _ => return None,
        };
        let builder = PacketBuilder::ip(ends.source, to.0);
        let builder = match ends.protocol {
            6 => {
                let ack = TcpFlags::ACK;
                let flags = self.random.pick(&[ack, ack, ack, ack, FIN_ACK, RST_ACK, TcpFlags::SYN]);
                let tcp = builder.tcp(ends.source_port, to.1).flags(flags);
                tcp.seq(ends.sequence.wrapping_add(1)).ack(self.random.bits() as u32 & 0xffff)
            }
            17 => builder.udp(ends.source_port, to.1),
            _ => return None,
        };
        let bytes = self.dressed(builder, ends.source.is_ipv6()).build();
        Some(Shot { hook, slot, mark: 0, aggregate: false, bytes })
    }

    /// Someone complains about a packet that was forwarded.
    fn error(&mut self) -> Option<Shot> {
        let forwarded = self.one_of_the_forwarded()?;
        let ends = Ends::of(&forwarded.bytes)?;
        let v6 = ends.source.is_ipv6();
        let speaker = if self.random.percent(60) { ends.destination } else { self.remote(v6) };
        let (hook, slot) = self.where_to(forwarded.to_slot);
        let mut quoted = forwarded.bytes.get(14..)?.to_vec();
        quoted.truncate(self.random.pick(&[1200, 96, 48, 28, 24, 20, 8]));
        let builder = PacketBuilder::ip(speaker, ends.source);
        let builder = match self.random.below(3) {
            0 => builder.port_unreachable(&quoted),
            1 => builder.too_big(1280, &quoted),
            _ => builder.time_exceeded(&quoted),
        };
        Some(Shot { hook, slot, mark: 0, aggregate: false, bytes: builder.build() })
    }

    /// Where the other side's packets are met.
    fn where_to(&mut self, slot: u32) -> (Hook, u32) {
        if slot == TUNNEL {
            (Hook::FromTunnel, u32::from(self.random.percent(5)))
        } else if slot == HOST {
            (Hook::ToHostDevice, u32::from(self.random.percent(30)))
        } else if slot == 0 || self.random.percent(3) {
            (Hook::FromHostDevice, 0)
        } else {
            (Hook::FromWorkload, slot)
        }
    }

    fn fragment(&mut self) -> Shot {
        let v6 = self.random.percent(50);
        let (slot, more) = (self.random.pick(&[1, 2]), self.random.percent(60));
        let offset = self.random.pick(&[0, 0, 8, 64, 1400]);
        let destination = self.destination(v6);
        let builder = PacketBuilder::ip(pod(slot, v6, false), destination);
        let builder = match self.random.below(4) {
            0 => builder.tcp(1000, 80),
            1 => builder.echo_request(7, 1),
            _ => builder.udp(1000, 53),
        };
        let bytes = builder.payload_len(64).fragment(offset, more).build();
        Shot { hook: Hook::FromWorkload, slot, mark: 0, aggregate: false, bytes }
    }

    /// Who has the gateway's address? Asked by a pod, in its own name or another's.
    fn neighbour(&mut self) -> Shot {
        let (v6, slot) = (self.random.percent(50), self.random.pick(&[1, 2, 3, EMPTY_SLOT]));
        let mac = Mac([2, 0, 0, 0, 1, slot as u8]);
        let asking = match self.random.below(4) {
            0 => pod(slot, v6, self.random.percent(30)),
            1 if v6 => Ipv6Addr::from(Ip6::link_local_of(mac)).into(),
            1 => Ipv4Addr::UNSPECIFIED.into(),
            _ => self.any(v6),
        };
        let bytes = match asking {
            IpAddr::V4(asking) => arp_request(mac, asking, Ipv4Addr::new(169, 254, 1, 1)),
            IpAddr::V6(asking) => {
                neighbour_solicitation(mac, asking, Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1))
            }
        };
        Shot { hook: Hook::FromWorkload, slot, mark: 0, aggregate: false, bytes }
    }

    fn noise(&mut self) -> Shot {
        let (hook, slot) = (self.hook(), self.random.pick(&[1, 2]));
        let mut bytes: Vec<u8> = (0..self.random.pick(&[14, 15, 34, 54, 60, 90])).map(|_| 0).collect();
        for byte in &mut bytes {
            *byte = self.random.bits() as u8;
        }
        let ethertype = self.random.pick(&[0x0800_u16, 0x86dd, 0x0806, 0x8100, 0x88cc, 0x0026]);
        bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
        if let Some(first) = bytes.get_mut(14)
            && self.random.percent(70)
        {
            *first = if ethertype == 0x0800 { 0x45 } else { 0x60 };
        }
        let slot = match hook {
            Hook::FromHostDevice => 0,
            Hook::ToHostDevice | Hook::FromTunnel => slot - 1,
            Hook::FromWorkload | Hook::ToWorkload | Hook::Socket => slot,
        };
        Shot { hook, slot, mark: 0, aggregate: false, bytes }
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        match self.random.below(4) {
            0 => {
                let length = self.random.below(bytes.len().max(1));
                bytes.truncate(length.max(14));
            }
            1 => bytes.extend((0..self.random.below(30)).map(|n| n as u8)),
            _ => {
                for _ in 0..=self.random.below(3) {
                    let bound = bytes.len().min(90);
                    let at = self.random.below(bound.max(1));
                    if let Some(byte) = bytes.get_mut(at).filter(|_| at >= 14) {
                        *byte ^= 1 << self.random.below(8);
                    }
                }
            }
        }
    }
}

/// Both ends of a frame without options.
#[derive(Clone, Copy, Debug)]
struct Ends {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
    sequence: u32,
}

impl Ends {
    fn of(frame: &[u8]) -> Option<Self> {
        let ip = frame.get(14..)?;
        let (source, destination, protocol, header): (IpAddr, IpAddr, u8, usize) = match frame.get(12..14)? {
            [0x08, 0x00] => {
                let word = |at: usize| <[u8; 4]>::try_from(ip.get(at..at + 4)?).ok();
                (word(12)?.into(), word(16)?.into(), *ip.get(9)?, usize::from(ip.first()? & 15) * 4)
            }
            [0x86, 0xdd] => {
                let address = |at: usize| <[u8; 16]>::try_from(ip.get(at..at + 16)?).ok();
                (address(8)?.into(), address(24)?.into(), *ip.get(6)?, 40)
            }
            _ => return None,
        };
        let transport = ip.get(header..)?;
        let half = |at: usize| Some(u16::from_be_bytes(transport.get(at..at + 2)?.try_into().ok()?));
        let (mut source_port, mut destination_port, mut sequence) = (0, 0, 0);
        match protocol {
            6 | 17 | 132 => {
                (source_port, destination_port) = (half(0)?, half(2)?);
                sequence = u32::from(half(4).unwrap_or(0)) << 16 | u32::from(half(6).unwrap_or(0));
            }
            1 | 58 => (source_port, destination_port) = (half(4)?, half(4)?),
            _ => {}
        }
        Some(Self { source, destination, protocol, source_port, destination_port, sequence })
    }
}
