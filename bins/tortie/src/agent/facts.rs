//! What the main loop tells the observing thread.
//!
//! Owns: taking stock of a [`Node`]. Does not: judge; `observe` does.
//! Invariant: labels made here are from lists of this file, or kinds of resources.

use std::collections::BTreeMap;

use tortie_host::bpf::Program;
use tortie_host::links::{Direction, Mechanism};
use tortie_reconcile::Dirty;
use tortie_store::kind::KINDS;
use tortie_store::{Effect, Rejection};

use super::devices::{Devices, HostInterface};
use super::node::Node;
use super::observe::{Facts, Rejected};
use super::parts::Parts;

/// The start of what a dirty thing is called, and the area it belongs to.
const AREAS: [(&str, &str); 18] = [
    ("the datastore", "store"),
    ("the kernel", "kernel"),
    ("settings", "settings"),
    ("policy", "policy"),
    ("unused policy", "policy"),
    ("class_", "policy"),
    ("endpoint", "endpoint"),
    ("interface", "interface"),
    ("next", "route"),
    ("route", "route"),
    ("host route", "route"),
    ("way", "route"),
    ("frontend", "service"),
    ("backend", "service"),
    ("member", "service"),
    ("maglev", "service"),
    ("source_range", "service"),
    ("", "other"),
];

fn area(dirty: &Dirty) -> &'static str {
    AREAS.iter().find(|(start, _)| dirty.object.starts_with(start)).map_or("other", |(_, area)| *area)
}

/// How things are now.
pub fn gather(node: &Node) -> Facts {
    let dirty = node.dirty();
    let mut areas: BTreeMap<&'static str, usize> = AREAS.iter().map(|(_, area)| (*area, 0)).collect();
    for one in &dirty {
        *areas.entry(area(one)).or_default() += 1;
    }
    let refused = dirty.iter().find(|one| one.attempts > 0 && area(one) != "interface");
    let attach = match node.parts.links.mechanism() {
        Mechanism::Tcx => "tcx",
        Mechanism::Clsact => "clsact",
    };
    Facts {
        kernel: Some((node.kernel_release.clone(), attach)),
        in_sync: node.reconciler.in_sync(),
        revision: node.revision.0,
        generation: node.reconciler.generation(),
        census: node.calc.census(),
        refused: refused.map(|one| format!("{}: {}", one.object, one.reason)),
        bare_interfaces: bare_interfaces(node, &dirty),
        dirty: areas,
        links: links(node),
        rejected: rejected(node),
        conflicts: node.calc.conflicts().len(),
        endpoints: node.reconciler.endpoint_counts(),
        local_policies: node.local_policies,
        policy_programs: node.reconciler.program_count(),
        packet_programs: node.packet_programs,
    }
}

fn bare_interfaces(node: &Node, dirty: &[Dirty]) -> Vec<String> {
    let data = node.devices.errors().iter().map(|(name, error)| format!("{name}: {error}"));
    let guarded = dirty.iter().filter(|one| one.attempts > 0 && area(one) == "interface");
    data.chain(guarded.map(|one| format!("{}: {}", one.object, one.reason))).collect()
}

fn links(node: &Node) -> BTreeMap<(&'static str, &'static str), usize> {
    let workloads = node.reconciler.hooked().len();
    let mut counts: BTreeMap<_, _> =
        Direction::ALL.iter().map(|direction| ((Devices::WORKLOAD, direction.name()), workloads)).collect();
    for HostInterface { device, directions } in node.devices.guarded() {
        for direction in directions {
            *counts.entry((node.devices.kind(&device.name), direction.name())).or_default() += 1;
        }
    }
    counts
}

/// How many packet programs there are, and their memory. They are the same for as long as the agent runs.
pub fn packet_programs(parts: &Parts) -> (usize, u64) {
    let memory = |program: &Program| program.memlock_bytes().unwrap_or(0);
    let programs = parts.datapath.programs();
    (programs.len(), programs.values().map(memory).sum())
}

fn rejected(node: &Node) -> BTreeMap<Rejected, usize> {
    let mut counts = BTreeMap::new();
    for rejection in &node.rejections {
        *counts.entry(label(rejection)).or_default() += 1;
    }
    counts
}

/// Kinds are those of resources this version knows; what names no object is a setting or no resource at all.
fn label(rejection: &Rejection) -> Rejected {
    let effect = match rejection.effect {
        Effect::KeepsLast => "keeps-last",
        Effect::Absent => "absent",
        Effect::Isolates => "isolates",
        Effect::NotEnforced => "not-enforced",
    };
    let kind = match &rejection.object {
        Some(object) if KINDS.iter().any(|known| known.kind == object.kind) => object.kind.clone(),
        Some(_) => "unknown".to_owned(),
        None => "none".to_owned(),
    };
    (kind, effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_can_be_dirty_has_an_area() {
        let of = |object: &str| area(&Dirty::waiting(object));
        for (object, expected) in [
            ("the datastore's first complete state", "store"),
            ("endpoint slot 3", "endpoint"),
            ("endpoint shop/front", "endpoint"),
            ("class_net6 ::/0", "policy"),
            ("next hop 10.0.0.1", "route"),
            ("next_hop 4", "route"),
            ("host route 10.65.0.0/24", "route"),
            ("way to node 10.0.0.1", "route"),
            ("backend6: 9 more", "service"),
            ("something new", "other"),
        ] {
            assert_eq!(of(object), expected, "{object}");
        }
    }
}
