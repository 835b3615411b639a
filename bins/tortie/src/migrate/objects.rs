//! What becomes of resources.
//!
//! Owns: which of our own store's words about an object block a move. Does not: know what is supported: the store
//! reads every object as it would for an agent. Invariant: an object that nobody enforces here is never "supported".

use std::collections::BTreeSet;

use tortie_store::fault::Fault;
use tortie_store::kind::{Kind, Role};
use tortie_store::resource::Resource;
use tortie_store::wire;

use super::finding::Finding;

/// Kept kinds that carry no traffic rule: nothing opens or closes without them.
const HARMLESS: [&str; 11] = [
    "ServiceAccount",
    "ConfigMap",
    "WorkloadEndpoint",
    "ClusterInformation",
    "CalicoNodeStatus",
    "KubeControllersConfiguration",
    "IPAMConfiguration",
    "IPReservation",
    "StagedNetworkPolicy",
    "StagedGlobalNetworkPolicy",
    "StagedKubernetesNetworkPolicy",
];

/// Settings without which a cluster is less protected or not connected.
const NEEDED: [&str; 6] =
    ["wireguardEnabled", "wireguardEnabledV6", "ipipMode", "vxlanMode", "ipipEnabled", "vxlanEnabled"];

/// Of all objects of a kind. Those `told` of already are not enforced as they are written.
pub fn findings(kind: &Kind, objects: &[Resource], told: &BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut supported = 0_usize;
    for resource in objects.iter().filter(|it| !is_automatic(it)) {
        let name = resource.key.object_name().to_string();
        match (wire::read(resource), kind.role) {
            (Err(faults), _) => findings.extend(faults.iter().map(|fault| refused(&name, fault))),
            (Ok(_), Role::Kept | Role::BgpConfiguration) => findings.extend(kept(kind, &name, resource)),
            (Ok(read), _) => {
                supported += usize::from(read.notes.is_empty() && !told.contains(&name));
                findings.extend(read.notes.iter().map(|note| noted(&name, resource, note)));
            }
        }
    }
    if supported > 0 {
        let object = format!("{supported} of {}", kind.plural);
        findings.push(Finding::supported(&object, "enforced as they are written"));
    }
    findings
}

/// What Calico makes by itself for every cluster and says the same everywhere.
fn is_automatic(resource: &Resource) -> bool {
    let name = resource.key.name.as_str();
    match resource.key.kind.as_str() {
        "Profile" => {
            name == "projectcalico-default-allow" || name.starts_with("kns.") || name.starts_with("ksa.")
        }
        "Tier" => is_tier_of_calico(name),
        // Its copies of Kubernetes' own policies and nodes.
        "NetworkPolicy" => name.starts_with("knp.default.") && resource.key.group == "projectcalico.org",
        "Node" => resource.key.group == "projectcalico.org",
        _ => false,
    }
}

/// Tiers that there are in every cluster with Calico, whether somebody uses them or not.
pub fn is_tier_of_calico(name: &str) -> bool {
    matches!(
        name,
        "default" | "adminnetworkpolicy" | "baselineadminnetworkpolicy" | "kube-admin" | "kube-baseline"
    )
}

fn refused(name: &str, fault: &Fault) -> Finding {
    let field = if fault.field.is_empty() { String::new() } else { format!("{}: ", fault.field) };
    Finding::blocks(name, &format!("{field}{}", fault.problem), &fault.fix)
}

fn kept(kind: &Kind, name: &str, resource: &Resource) -> Option<Finding> {
    match kind.kind {
        "ServiceAccount" | "ConfigMap" | "ClusterInformation" | "WorkloadEndpoint" | "CalicoNodeStatus" => {
            None
        }
        staged if staged.starts_with("Staged") => {
            Some(Finding::differs(name, "staged policies are not evaluated", "nothing: they enforce nothing"))
        }
        "BGPPeer" | "BGPFilter" => Some(Finding::blocks(
            name,
            "Tortie speaks no BGP: routes to its nodes' pods are not announced to this peer",
            "route the pod CIDRs to the nodes by other means, or keep a BGP speaker of your own",
        )),
        "BGPConfiguration" => Some(Finding::differs(
            name,
            "Tortie speaks no BGP: nodes learn each other's pod CIDRs from Node objects",
            "nothing, where nodes reach each other directly; else see docs/migrate.md",
        )),
        "IPAMConfiguration" | "IPReservation" | "KubeControllersConfiguration" => Some(Finding::differs(
            name,
            "pods get their addresses from the CNI configuration's address plugin (host-local over the Node's podCIDRs)",
            "see docs/migrate.md, \"Addresses\"",
        )),
        "GlobalNetworkSet" | "NetworkSet" => Some(Finding::differs(
            name,
            "no policy that this version enforces selects it",
            "nothing by itself",
        )),
        _ if HARMLESS.contains(&kind.kind) => None,
        _ => {
            let rules = ["ingress", "egress", "types"];
            let spec = resource.value.get("spec");
            let has = rules.iter().any(|part| spec.is_some_and(|spec| spec.get(part).is_some()));
            let what = if has {
                "its rules are not enforced by this version"
            } else {
                "not enforced by this version"
            };
            let fix = "write it as a NetworkPolicy of Kubernetes where that is possible, or wait for a version that enforces it";
            Some(Finding::blocks(name, what, fix))
        }
    }
}

fn noted(name: &str, resource: &Resource, note: &Fault) -> Finding {
    let field = note.field.rsplit('.').next().unwrap_or_default();
    let value = resource.value.pointer(&format!("/spec/{field}"));
    let off = value.is_some_and(|value| value == false || value == "Never" || value == "Disabled");
    let what = match note.field.as_str() {
        "" => note.problem.clone(),
        field => format!("{field}: {}", note.problem),
    };
    if NEEDED.contains(&field) && !off {
        return Finding::blocks(name, &what, &note.fix);
    }
    Finding::differs(name, &what, &note.fix)
}
