//! Random lists, set members and packets, crowded so that they meet.

use crate::classes::Classes;
use crate::evaluate::{Members, Packet};
use crate::form::{
    Action, Clause, Direction, Family, Icmp, List, Member, Origin, PortRange, Protocol, Rule, SetId,
};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Choices: from bytes while there are any, then from a generator seeded by them.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    bytes: &'a [u8],
    state: u64,
}

impl<'a> Source<'a> {
    /// Choices made by a fuzzer.
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        let seed = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self { bytes, ..Source::seeded(seed) }
    }

    /// A choice below `bound`, which is not 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        if let Some((byte, rest)) = self.bytes.split_first().filter(|_| bound <= 256) {
            self.bytes = rest;
            return u32::from(*byte) % bound;
        }
        // splitmix64
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) >> 33) as u32 % bound
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u32) as usize]
    }
}

impl Source<'static> {
    /// Choices made by a generator.
    pub fn seeded(seed: u64) -> Self {
        Self { bytes: &[], state: seed }
    }
}

const PROTOCOLS: [u8; 11] = [6, 6, 17, 132, 1, 58, 33, 136, 47, 0, 255];
const PORTS: [u16; 14] = [0, 1, 22, 23, 79, 80, 81, 443, 444, 1023, 1024, 8080, 65534, 65535];
const ICMP: [u8; 6] = [0, 1, 3, 8, 128, 255];
const SETS: u32 = 6;

/// A list, members of its sets, and packets to try.
#[derive(Clone, Debug)]
pub struct World {
    /// The list.
    pub list: List,
    /// Members.
    pub members: Members,
    /// Remote addresses and packets.
    pub packets: Vec<(IpAddr, Packet)>,
}

impl World {
    /// A world of up to 12 rules, 6 sets and 64 packets.
    pub fn new(source: &mut Source<'_>) -> Self {
        let mut members = Members::default();
        for set in 0..SETS {
            let some = (0..source.below(5)).map(|_| member(source)).collect();
            members.sets.insert(SetId(set), some);
        }
        let rules = (0..source.below(13)).map(|index| rule(source, index)).collect();
        let list = List {
            direction: source.pick(&[Direction::Ingress, Direction::Egress]),
            policies: Vec::new(),
            rules,
            default: source.pick(&[Action::Deny, Action::Allow]),
        };
        let packets = (0..64).map(|_| packet(source)).collect();
        Self { list, members, packets }
    }

    /// Some member comes and some member goes.
    pub fn change_members(&mut self, source: &mut Source<'_>, classes: &mut Classes) {
        let set = SetId(source.below(SETS));
        let members = self.members.sets.entry(set).or_default();
        let remove: Vec<Member> = members.drain(..members.len().min(source.below(3) as usize)).collect();
        let add: Vec<Member> = (0..source.below(3)).map(|_| member(source)).collect();
        members.extend(&add);
        let remove: Vec<Member> = remove.into_iter().filter(|gone| !members.contains(gone)).collect();
        classes.update(set, &add, &remove);
    }
}

fn address(source: &mut Source<'_>) -> IpAddr {
    let low = source.below(12);
    match source.one_in(3) {
        true => IpAddr::V6(Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(low))),
        false => IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 | low)),
    }
}

fn member(source: &mut Source<'_>) -> Member {
    let address = address(source);
    let lengths: &[u8] =
        if address.is_ipv4() { &[32, 32, 31, 30, 29, 28, 8, 0] } else { &[128, 128, 127, 126, 64, 0] };
    IpNet::new(address, source.pick(lengths)).expect("the lengths fit the family").trunc()
}

fn rule(source: &mut Source<'_>, index: u32) -> Rule {
    let asks_icmp = source.one_in(5);
    Rule {
        action: source.pick(&[Action::Allow, Action::Deny]),
        family: source.one_in(6).then(|| source.pick(&[Family::V4, Family::V6])),
        protocol: match source.below(4) {
            0 => Protocol::Any,
            1 => Protocol::Not(source.pick(&PROTOCOLS)),
            _ => Protocol::Is(source.pick(&PROTOCOLS)),
        },
        remote: (0..source.below(3)).map(|_| clause(source)).collect(),
        destination_ports: ranges(source, 2),
        not_destination_ports: ranges(source, 4),
        source_ports: ranges(source, 5),
        not_source_ports: ranges(source, 6),
        icmp: asks_icmp.then(|| Icmp {
            icmp_type: source.pick(&ICMP),
            code: source.one_in(2).then(|| source.pick(&ICMP)),
            negated: source.one_in(3),
        }),
        origin: Arc::new(Origin {
            tier: "default".into(),
            policy: "NetworkPolicy test/random".into(),
            rule: index,
            ..Origin::default()
        }),
    }
}

fn clause(source: &mut Source<'_>) -> Clause {
    let sets = (0..=source.below(2)).map(|_| SetId(source.below(SETS))).collect();
    Clause { sets, negated: source.one_in(3) }
}

/// Up to three ranges, one time in `n`.
fn ranges(source: &mut Source<'_>, n: u32) -> Vec<PortRange> {
    let count = if source.one_in(n) { 1 + source.below(3) } else { 0 };
    let range = |source: &mut Source<'_>| {
        let (a, b) = (source.pick(&PORTS), source.pick(&PORTS));
        if source.one_in(2) {
            PortRange { first: a, last: a }
        } else {
            PortRange { first: a.min(b), last: a.max(b) }
        }
    };
    (0..count).map(|_| range(source)).collect()
}

fn packet(source: &mut Source<'_>) -> (IpAddr, Packet) {
    let remote = address(source);
    let protocol = source.pick(&PROTOCOLS);
    let (ports, icmp) = ([6, 17, 33, 132, 136].contains(&protocol), [1, 58].contains(&protocol));
    let mut port = || if ports { source.pick(&PORTS) } else { 0 };
    let (source_port, destination_port) = (port(), port());
    let mut icmp_field = || if icmp { source.pick(&ICMP) } else { 0 };
    let (icmp_type, icmp_code) = (icmp_field(), icmp_field());
    let family = if remote.is_ipv4() { Family::V4 } else { Family::V6 };
    (remote, Packet { family, protocol, source_port, destination_port, icmp_type, icmp_code })
}
