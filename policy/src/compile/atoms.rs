//! Rules as atoms: one address condition, one service condition, one residual condition each.
//!
//! Owns: how a rule is cut. Does not: know classes or columns. Invariant: a rule matches exactly when one
//! of its atoms does; atoms of one rule stand together and in the order of the rules.

use super::spans::{EVERYTHING, Span, allowed, without};
use crate::evaluate::{WITH_ICMP, WITH_PORTS};
use crate::form::{Clause, Family, Icmp, Protocol, Rule};

/// Every ICMP type.
const EVERY_TYPE: Span = (0, 255);

/// Protocol numbers as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Protocols([u64; 4]);

impl Protocols {
    /// Those for which `wanted` holds.
    pub fn of(wanted: impl Fn(u8) -> bool) -> Self {
        let word = |index: usize| {
            (0..64u8).filter(|bit| wanted((index as u8) << 6 | *bit)).fold(0, |word, bit| word | 1u64 << bit)
        };
        Self(std::array::from_fn(word))
    }

    /// Whether `protocol` is one of them.
    pub fn has(self, protocol: u8) -> bool {
        self.0.get(usize::from(protocol >> 6)).is_some_and(|word| word >> (protocol & 63) & 1 == 1)
    }

    fn only(self, others: &[u8]) -> Self {
        Self::of(|protocol| self.has(protocol) && others.contains(&protocol))
    }

    fn except(self, others: &[u8]) -> Self {
        Self::of(|protocol| self.has(protocol) && !others.contains(&protocol))
    }

    fn is_empty(self) -> bool {
        self.0 == [0; 4]
    }
}

/// The part of a condition that columns express.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    /// Protocols.
    pub protocols: Protocols,
    /// Destination ports; asked of protocols with ports only.
    pub ports: Vec<Span>,
    /// ICMP types; asked of ICMP and ICMPv6 only.
    pub types: Vec<Span>,
}

/// What neither row nor column expresses: all inclusive spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Residual {
    /// Source port.
    pub source_port: Span,
    /// ICMP code.
    pub code: (u8, u8),
    /// 4, 6, or both.
    pub family: (u8, u8),
}

impl Residual {
    /// Always holds.
    pub const NONE: Self = Self { source_port: EVERYTHING, code: (0, 255), family: (0, 255) };
}

/// One alternative of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Atom {
    /// Index of the rule in its list.
    pub rule: usize,
    /// The part that columns express.
    pub service: Service,
    /// The rest.
    pub residual: Residual,
}

/// Cuts a rule. A rule that can match nothing gives no atom.
pub fn lower(index: usize, rule: &Rule) -> Vec<Atom> {
    let ports = allowed(&rule.destination_ports, &rule.not_destination_ports);
    let sources = allowed(&rule.source_ports, &rule.not_source_ports);
    let protocols = protocols(rule, ports.is_empty());
    let family = rule.family.map_or((0, 255), |family| match family {
        Family::V4 => (4, 4),
        Family::V6 => (6, 6),
    });
    let free = Residual { family, ..Residual::NONE };
    let atom = |protocols: Protocols, types: &[Span], residual: Residual| Atom {
        rule: index,
        service: service(protocols, &ports, types),
        residual,
    };
    let mut atoms = Vec::new();
    let unported = if sources == [EVERYTHING] {
        protocols
    } else {
        let ported = protocols.only(&WITH_PORTS);
        atoms.extend(
            sources.iter().map(|&span| atom(ported, &[EVERY_TYPE], Residual { source_port: span, ..free })),
        );
        protocols.except(&WITH_PORTS)
    };
    for (types, code) in icmp_pieces(rule.icmp) {
        atoms.push(atom(unported, &types, Residual { code, ..free }));
    }
    atoms.retain(|atom| !atom.service.protocols.is_empty());
    atoms
}

fn protocols(rule: &Rule, no_port_left: bool) -> Protocols {
    let wanted = Protocols::of(|protocol| match rule.protocol {
        Protocol::Any => true,
        Protocol::Is(is) => protocol == is,
        Protocol::Not(not) => protocol != not,
    });
    let asks_ports = !rule.destination_ports.is_empty() || !rule.source_ports.is_empty();
    let wanted = if asks_ports { wanted.only(&WITH_PORTS) } else { wanted };
    let wanted = if no_port_left { wanted.except(&WITH_PORTS) } else { wanted };
    if rule.icmp.is_some() { wanted.only(&WITH_ICMP) } else { wanted }
}

/// Conditions that are not asked are put in one form, so that equal services compare equal.
fn service(protocols: Protocols, ports: &[Span], types: &[Span]) -> Service {
    let ported = WITH_PORTS.iter().any(|protocol| protocols.has(*protocol));
    let icmp = WITH_ICMP.iter().any(|protocol| protocols.has(*protocol));
    Service {
        protocols,
        ports: if ported { ports.to_vec() } else { vec![EVERYTHING] },
        types: if icmp { types.to_vec() } else { vec![EVERY_TYPE] },
    }
}

/// Types, and the codes of each of those types, of which one must fit.
fn icmp_pieces(icmp: Option<Icmp>) -> Vec<(Vec<Span>, (u8, u8))> {
    let Some(Icmp { icmp_type, code, negated }) = icmp else { return vec![(vec![EVERY_TYPE], (0, 255))] };
    let this = (u16::from(icmp_type), u16::from(icmp_type));
    let code_span = code.map_or((0, 255), |code| (code, code));
    if !negated {
        return vec![(vec![this], code_span)];
    }
    let mut pieces = vec![(without(&[EVERY_TYPE], this), (0, 255))];
    if let Some(below) = code.and_then(|code| code.checked_sub(1)) {
        pieces.push((vec![this], (0, below)));
    }
    if let Some(above) = code.and_then(|code| code.checked_add(1)) {
        pieces.push((vec![this], (above, 255)));
    }
    pieces
}

/// An address condition in one form, so that equal conditions compare equal.
pub fn canonical(remote: &[Clause]) -> Vec<Clause> {
    let mut clauses: Vec<Clause> = remote.to_vec();
    for clause in &mut clauses {
        clause.sets.sort_unstable();
        clause.sets.dedup();
    }
    clauses.sort_unstable();
    clauses.dedup();
    clauses
}
