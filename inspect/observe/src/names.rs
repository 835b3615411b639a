//! The names behind the numbers in maps.

use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Host side of its veth.
    pub interface: String,
}

/// A Service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Port name, empty for the only one.
    pub port: String,
}

/// What a rule asks for, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Matches {
    /// One of these on the other side; absent: everybody.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<String>,
    /// One of these ports; absent: every protocol and port.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
}

/// A policy rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleName {
    /// Tier.
    pub tier: String,
    /// Kind and name of the policy.
    pub policy: String,
    /// Which rule of it, from 0.
    pub rule: u32,
    /// `ingress` or `egress`.
    pub direction: String,
    /// `allow` or `deny`.
    pub action: String,
    /// What it asks for.
    pub matches: Matches,
}

/// The rules of a policy program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramName {
    /// Rule ids, in order.
    pub rules: Vec<u32>,
    /// What happens when none matches.
    pub default: String,
    /// Whose rules these are, and who has none but isolates.
    pub policies: Vec<String>,
}

/// Everything that has a name on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// This node.
    pub node: String,
    /// By endpoint slot.
    pub endpoints: BTreeMap<u32, EndpointName>,
    /// Other nodes' addresses, by next-hop slot.
    pub next_hops: BTreeMap<u32, IpAddr>,
    /// Other nodes by address.
    pub nodes: BTreeMap<IpAddr, String>,
    /// By Service id.
    pub services: BTreeMap<u32, ServiceName>,
    /// By rule id.
    pub rules: BTreeMap<u32, RuleName>,
    /// By policy slot.
    pub programs: BTreeMap<u32, ProgramName>,
    /// By interface index.
    pub interfaces: BTreeMap<u32, String>,
    /// The kernel's number of the node's own network namespace (its cookie), where it is known.
    pub netns: Option<u64>,
    /// Pods, `namespace/name`, by that number of theirs.
    pub pods_by_netns: BTreeMap<u64, String>,
}

impl Names {
    /// An interface's name, or its number when it is gone; what happens at a socket is at none.
    pub fn interface(&self, ifindex: u32) -> String {
        match self.interfaces.get(&ifindex) {
            Some(name) => name.clone(),
            None if ifindex == 0 => "-".to_owned(),
            None => format!("ifindex {ifindex}"),
        }
    }

    /// A rule as people write it: `NetworkPolicy shop/deny-all rule 0`.
    pub fn rule(&self, id: u32) -> Option<String> {
        self.rules.get(&id).map(|r| format!("{} {} rule {}", r.policy, r.direction, r.rule))
    }

    /// The node that a next-hop slot leads to.
    pub fn node_of_hop(&self, slot: u32) -> Option<String> {
        let address = self.next_hops.get(&slot)?;
        Some(self.nodes.get(address).cloned().unwrap_or_else(|| address.to_string()))
    }
}
