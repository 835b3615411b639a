//! Names for the numbers, from the agent's file in the run directory and the interfaces of this node.

use crate::agent::node_names::NodeNames;
use crate::agent::state_files;
use std::collections::BTreeMap;
use std::path::Path;
use tortie_observe::Snapshot;
use tortie_observe::names::{EndpointName, Matches, Names, ProgramName, RuleName, ServiceName};
use tortie_reconcile::{
    Saved, SavedEndpoint, SavedMatches, SavedNextHop, SavedProgram, SavedRule, SavedService,
};

/// Reads what is known; what is not stays a number.
pub fn load(run_dir: &Path, snapshot: &Snapshot) -> Names {
    let interfaces = snapshot
        .endpoints
        .values()
        .map(|e| e.ifindex)
        .chain(snapshot.next_hops.values().map(|n| n.ifindex))
        .chain(snapshot.counters.iter().map(|(k, _)| k.ifindex))
        .filter_map(|ifindex| Some((ifindex, interface_name(ifindex)?)))
        .collect();
    from_saved(saved(run_dir), &nodes(run_dir), interfaces)
}

/// What the agent has saved: the names behind slots and ids.
pub(crate) fn saved(run_dir: &Path) -> Saved {
    state_files::names(run_dir)
}

/// What the agent has saved: nodes by address.
pub(crate) fn nodes(run_dir: &Path) -> NodeNames {
    NodeNames::read(run_dir)
}

fn interface_name(ifindex: u32) -> Option<String> {
    // nix takes the null pointer of a failure for a success, and gives an empty name.
    nix::net::if_::if_indextoname(ifindex).ok()?.into_string().ok().filter(|name| !name.is_empty())
}

/// Whether this node has an interface of that name.
pub(crate) fn is_interface(name: &str) -> bool {
    nix::net::if_::if_nametoindex(name).is_ok()
}

pub(crate) fn from_saved(saved: Saved, nodes: &NodeNames, interfaces: BTreeMap<u32, String>) -> Names {
    let endpoint = |SavedEndpoint { slot, namespace, name, interface, .. }| {
        (u32::from(slot), EndpointName { namespace, name, interface })
    };
    let next_hop = |SavedNextHop { slot, address, .. }| (u32::from(slot), address);
    let service =
        |SavedService { id, namespace, name, port, .. }| (id, ServiceName { namespace, name, port });
    let rule = |SavedRule { id, direction, tier, policy, rule, action, matches }| {
        let SavedMatches { peers, ports } = matches;
        (id, RuleName { tier, policy, rule, direction, action, matches: Matches { peers, ports } })
    };
    let program = |SavedProgram { slot, rules, default, policies, .. }| {
        (slot, ProgramName { rules, default, policies })
    };
    Names {
        node: nodes.node.clone(),
        endpoints: saved.endpoints.into_iter().map(endpoint).collect(),
        next_hops: saved.next_hops.into_iter().map(next_hop).collect(),
        nodes: nodes.addresses.clone(),
        services: saved.services.named.into_values().map(service).collect(),
        rules: saved.rules.into_iter().map(rule).collect(),
        programs: saved.programs.into_iter().map(program).collect(),
        interfaces,
        ..Names::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_gone_has_no_name() {
        assert_eq!(interface_name(1).as_deref(), Some("lo"));
        assert_eq!((interface_name(0), interface_name(u32::MAX)), (None, None));
        assert!(is_interface("lo") && !is_interface("nope") && !is_interface(""));
    }
}
