//! Lists of any length, made to measure: only the last rule matches the packet of interest.
//!
//! Owns: shapes of lists. Does not: measure. Invariant: [`Synthetic::last`] is decided by the last rule.

use crate::evaluate::{Members, Packet};
use crate::form::{
    Action, Clause, Direction, Family, List, Member, Origin, PortRange, Protocol, Rule, SetId,
};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// What the rules of a list differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A hundred peers, each with its ports: few rows, few columns.
    Services,
    /// A peer and a port for each rule: as many rows and columns as rules.
    Pairs,
    /// A port for each rule, any peer: one row.
    Ports,
    /// A hundred peers, each with its source ports: chains of residual conditions.
    SourcePorts,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Self; 4] = [Self::Services, Self::Pairs, Self::Ports, Self::SourcePorts];
}

const PEERS: u32 = 100;
const FIRST_PORT: u32 = 1000;
const TCP: u8 = 6;

/// A list and the members of its sets.
#[derive(Clone, Debug)]
pub struct Synthetic {
    /// What the rules differ in.
    pub shape: Shape,
    /// The list: every rule allows, the end denies.
    pub list: List,
    /// Its sets.
    pub members: Members,
}

impl Synthetic {
    /// A list of `size` rules, up to 60,000.
    pub fn new(shape: Shape, size: u32) -> Self {
        let rules = (0..size).map(|index| rule(shape, index)).collect();
        let peers = if shape == Shape::Pairs { size } else { PEERS };
        let sets = (0..peers).map(|set| (SetId(set), vec![Member::from(peer(set))])).collect();
        Self {
            shape,
            list: List { direction: Direction::Ingress, policies: Vec::new(), rules, default: Action::Deny },
            members: Members { sets },
        }
    }

    /// The packet that only rule `index` matches.
    pub fn hit(&self, index: u32) -> (IpAddr, Packet) {
        let (set, port, source_port) = choice(self.shape, index);
        (peer(set.unwrap_or(0)), packet(port, source_port.unwrap_or(40_000)))
    }

    /// The packet that only the last rule matches.
    pub fn last(&self) -> (IpAddr, Packet) {
        self.hit((self.list.rules.len() as u32).saturating_sub(1))
    }

    /// Packets for some rules and for none.
    pub fn probes(&self) -> Vec<(IpAddr, Packet)> {
        let size = self.list.rules.len() as u32;
        let some = (0..size).step_by((size as usize / 16).max(1)).map(|index| self.hit(index));
        let (remote, last) = self.last();
        let stranger = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let none = [
            (stranger, last),
            (remote, Packet { destination_port: 1, ..last }),
            (remote, Packet { protocol: 17, ..last }),
            (remote, Packet { source_port: 1, ..last }),
        ];
        some.chain([(remote, last)]).chain(none).collect()
    }
}

/// Set, destination port and source port of a rule.
fn choice(shape: Shape, index: u32) -> (Option<u32>, u16, Option<u16>) {
    let port = |number: u32| (FIRST_PORT + number) as u16;
    match shape {
        Shape::Services => (Some(index % PEERS), port(index / PEERS), None),
        Shape::Pairs => (Some(index), port(index), None),
        Shape::Ports => (None, port(index), None),
        Shape::SourcePorts => (Some(index % PEERS), port(0), Some(port(index / PEERS))),
    }
}

fn rule(shape: Shape, index: u32) -> Rule {
    let (set, port, source_port) = choice(shape, index);
    let only = |port: u16| PortRange { first: port, last: port };
    Rule {
        action: Action::Allow,
        family: None,
        protocol: Protocol::Is(TCP),
        remote: set.map(|set| Clause { sets: vec![SetId(set)], negated: false }).into_iter().collect(),
        destination_ports: vec![only(port)],
        not_destination_ports: Vec::new(),
        source_ports: source_port.map(only).into_iter().collect(),
        not_source_ports: Vec::new(),
        icmp: None,
        origin: Arc::new(Origin {
            tier: "default".into(),
            policy: "NetworkPolicy bench/synthetic".into(),
            rule: index,
            ..Origin::default()
        }),
    }
}

fn peer(set: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0001 + set))
}

fn packet(destination_port: u16, source_port: u16) -> Packet {
    Packet { family: Family::V4, protocol: TCP, source_port, destination_port, icmp_type: 0, icmp_code: 0 }
}
