//! The ports of a rule, merged by protocol.
//!
//! Owns: ranges and names. Does not: know remotes. Invariant: ranges are sorted and do not touch.

use crate::sets::PortName;
use std::collections::{BTreeMap, BTreeSet};
use tortie_model::policy::{Port, PortMatch};
use tortie_model::workload::{NamedPort, Transport};
use tortie_policy::form::{PortRange, Protocol};

#[derive(Debug, Default)]
struct OfTransport {
    any: bool,
    ranges: Vec<PortRange>,
    names: BTreeSet<PortName>,
}

/// Ports of a rule; without any: every protocol.
#[derive(Debug)]
pub(super) struct Ports {
    by_transport: BTreeMap<Transport, OfTransport>,
}

impl Ports {
    pub(super) fn of(ports: &[PortMatch]) -> Self {
        let mut by_transport: BTreeMap<Transport, OfTransport> = BTreeMap::new();
        for PortMatch { transport, port } in ports {
            let of = by_transport.entry(*transport).or_default();
            match port {
                Port::Any => of.any = true,
                Port::Range { first, last } => of.ranges.push(PortRange { first: *first, last: *last }),
                Port::Named(name) => {
                    of.names.insert(PortName { transport: *transport, name: name.clone() });
                }
            }
        }
        Self { by_transport }
    }

    /// Names that make a difference: not those of a protocol all of whose ports match.
    pub(super) fn names(&self) -> BTreeSet<PortName> {
        let some = self.by_transport.values().filter(|of| !of.any);
        some.flat_map(|of| of.names.iter().cloned()).collect()
    }

    /// Whether nothing but names is asked for.
    pub(super) fn only_named(&self) -> bool {
        let named = |of: &OfTransport| !of.any && of.ranges.is_empty();
        !self.by_transport.is_empty() && self.by_transport.values().all(named)
    }

    /// Conditions of which one must hold, names standing for the numbers in `own`.
    pub(super) fn with_own(&self, own: &[NamedPort]) -> Vec<(Protocol, Vec<PortRange>)> {
        if self.by_transport.is_empty() {
            return vec![(Protocol::Any, Vec::new())];
        }
        let mut all = Vec::new();
        for (transport, of) in &self.by_transport {
            let protocol = Protocol::Is(transport.number());
            if of.any {
                all.push((protocol, Vec::new()));
                continue;
            }
            let known = own.iter().filter(|port| of.names.iter().any(|name| name.names(port)));
            let known = known.map(|port| PortRange { first: port.port, last: port.port });
            let ranges = merged(of.ranges.iter().copied().chain(known).collect());
            if !ranges.is_empty() {
                all.push((protocol, ranges));
            }
        }
        all
    }
}

/// The same ports in the fewest ranges.
fn merged(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    ranges.sort_unstable();
    let mut out: Vec<PortRange> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.first <= last.last.saturating_add(1) => last.last = last.last.max(range.last),
            _ => out.push(range),
        }
    }
    out
}
