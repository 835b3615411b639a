//! The reference evaluator: what a list means.
//!
//! Owns: the meaning of every condition. Does not: care about speed. Invariant: this file decides; the
//! compiler is wrong wherever it differs.

use crate::form::{Action, Clause, Family, Icmp, List, Member, PortRange, Protocol, Rule, SetId};
use std::collections::BTreeMap;
use std::net::IpAddr;
use tortie_abi::policy::PolicyIo;

/// Protocols with ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
pub const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];
/// ICMP and ICMPv6.
pub const WITH_ICMP: [u8; 2] = [1, 58];

/// What a list asks about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Address family.
    pub family: Family,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port; 0 without ports.
    pub source_port: u16,
    /// Destination port, after service translation; 0 without ports.
    pub destination_port: u16,
    /// ICMP type, else 0.
    pub icmp_type: u8,
    /// ICMP code, else 0.
    pub icmp_code: u8,
}

impl Packet {
    /// The packet that a policy program is called for; `None` when the family is neither 4 nor 6.
    pub fn from_io(io: &PolicyIo) -> Option<Self> {
        let family = match io.family {
            4 => Family::V4,
            6 => Family::V6,
            _ => return None,
        };
        Some(Self {
            family,
            protocol: io.protocol,
            source_port: io.source_port,
            destination_port: io.destination_port,
            icmp_type: io.icmp_type,
            icmp_code: io.icmp_code,
        })
    }

    fn has_ports(&self) -> bool {
        WITH_PORTS.contains(&self.protocol)
    }
}

/// What a list decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What happens to the packet.
    pub action: Action,
    /// Index of the rule that decided; `None`: the end of the list.
    pub rule: Option<usize>,
}

/// Evaluates `list`; `in_set` says which sets the packet's remote address is in.
pub fn evaluate(list: &List, in_set: &impl Fn(SetId) -> bool, packet: &Packet) -> Decision {
    for (index, rule) in list.rules.iter().enumerate() {
        if matches(rule, in_set, packet) {
            return Decision { action: rule.action, rule: Some(index) };
        }
    }
    Decision { action: list.default, rule: None }
}

/// Whether every condition of `rule` holds.
pub fn matches(rule: &Rule, in_set: &impl Fn(SetId) -> bool, packet: &Packet) -> bool {
    rule.family.is_none_or(|family| family == packet.family)
        && protocol_matches(rule.protocol, packet.protocol)
        && rule.remote.iter().all(|clause| clause_matches(clause, in_set))
        && ports_match(&rule.destination_ports, &rule.not_destination_ports, packet, packet.destination_port)
        && ports_match(&rule.source_ports, &rule.not_source_ports, packet, packet.source_port)
        && rule.icmp.is_none_or(|icmp| icmp_matches(icmp, packet))
}

fn protocol_matches(wanted: Protocol, protocol: u8) -> bool {
    match wanted {
        Protocol::Any => true,
        Protocol::Is(is) => protocol == is,
        Protocol::Not(not) => protocol != not,
    }
}

fn clause_matches(clause: &Clause, in_set: &impl Fn(SetId) -> bool) -> bool {
    clause.sets.iter().any(|set| in_set(*set)) != clause.negated
}

/// A packet without ports is in no list of ports: it never fits a non-empty `wanted`, and `unwanted`
/// never holds it back.
fn ports_match(wanted: &[PortRange], unwanted: &[PortRange], packet: &Packet, port: u16) -> bool {
    let within = |ranges: &[PortRange]| {
        packet.has_ports() && ranges.iter().any(|range| range.first <= port && port <= range.last)
    };
    (wanted.is_empty() || within(wanted)) && !within(unwanted)
}

fn icmp_matches(icmp: Icmp, packet: &Packet) -> bool {
    let same = icmp.icmp_type == packet.icmp_type && icmp.code.is_none_or(|code| code == packet.icmp_code);
    WITH_ICMP.contains(&packet.protocol) && same != icmp.negated
}

/// Sets by their members, with the obvious way to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// The members of each set.
    pub sets: BTreeMap<SetId, Vec<Member>>,
}

impl Members {
    /// Whether any member of `set` contains `address`.
    pub fn contains(&self, set: SetId, address: IpAddr) -> bool {
        self.sets.get(&set).is_some_and(|members| members.iter().any(|member| member.contains(&address)))
    }

    /// The sets that `address` is in, sorted.
    pub fn of(&self, address: IpAddr) -> Vec<SetId> {
        self.sets.keys().copied().filter(|set| self.contains(*set, address)).collect()
    }
}

#[cfg(test)]
#[path = "evaluate_tests.rs"]
mod tests;
