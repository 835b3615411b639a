//! What must outlive the agent besides the kernel's own state: the names behind the numbers.
//!
//! Services are the many of it, and are told as changes. Invariant: it is written before the kernel learns a number from it, so that a crash at any moment
//! leaves every number in the kernel with its name.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Saved {
    /// Policy generations up to this one may have been used.
    pub generation_ceiling: u32,
    /// Workloads and their slots.
    pub endpoints: Vec<SavedEndpoint>,
    /// Endpoint slots that are free now, with their last incarnation.
    pub free_endpoints: Vec<(u16, u16)>,
    /// Other nodes and their slots.
    pub next_hops: Vec<SavedNextHop>,
    /// Next-hop slots that are free now, with their last incarnation.
    pub free_next_hops: Vec<(u16, u16)>,
    /// Service ports, which have a file of their own.
    #[serde(skip)]
    pub services: SavedServices,
    /// Rules and their ids.
    pub rules: Vec<SavedRule>,
    /// The rule id given out last.
    pub last_rule: u32,
    /// Policy programs.
    pub programs: Vec<SavedProgram>,
}

/// A workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavedEndpoint {
    /// Index into `endpoint`.
    pub slot: u16,
    /// Which use of it.
    pub incarnation: u16,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// CNI container id.
    pub container_id: String,
    /// Host side of its veth.
    pub interface: String,
}

/// A next hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavedNextHop {
    /// Index into `next_hop`.
    pub slot: u16,
    /// Which use of it.
    pub incarnation: u16,
    /// The node's address.
    pub address: IpAddr,
}

/// All Service ports and their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedServices {
    /// Ids up to this one may have been used.
    pub last: u32,
    /// By id.
    pub named: BTreeMap<u32, SavedService>,
}

impl SavedServices {
    /// One more change.
    pub fn apply(&mut self, change: SavedChange) {
        match change {
            SavedChange::Given(service) => {
                self.last = self.last.max(service.id);
                self.named.insert(service.id, service);
            }
            SavedChange::Gone { gone } => {
                self.last = self.last.max(gone);
                self.named.remove(&gone);
            }
            SavedChange::Used { used } => self.last = self.last.max(used),
        }
    }

    /// What makes all of it out of nothing.
    pub fn changes(self) -> impl Iterator<Item = SavedChange> {
        let used = SavedChange::Used { used: self.last };
        std::iter::once(used).chain(self.named.into_values().map(SavedChange::Given))
    }
}

/// A change of [`SavedServices`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SavedChange {
    /// A Service port has an id.
    Given(SavedService),
    /// A Service port has none any more.
    Gone {
        /// Which it was.
        gone: u32,
    },
    /// Ids up to one may have been used.
    Used {
        /// That one.
        used: u32,
    },
}

/// A Service port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavedService {
    /// `Frontend::service`.
    pub id: u32,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Port name.
    pub port: String,
    /// `TCP`, `UDP`, `SCTP`.
    pub protocol: String,
}

/// A policy rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavedRule {
    /// Index into `rule_counter`.
    pub id: u32,
    /// `ingress`, `egress`.
    pub direction: String,
    /// Tier.
    pub tier: String,
    /// Kind and name of the policy.
    pub policy: String,
    /// Which rule of it.
    pub rule: u32,
    /// `allow`, `deny`.
    pub action: String,
    /// What it asks for; a file of an older version does not say.
    #[serde(default)]
    pub matches: SavedMatches,
}

/// What a rule asks for, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SavedMatches {
    /// One of these on the other side; empty: everybody.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<String>,
    /// One of these ports; empty: every protocol and port.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
}

/// A policy program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavedProgram {
    /// Index into `policy`.
    pub slot: u32,
    /// Its name in the kernel.
    pub name: String,
    /// `ingress`, `egress`.
    pub direction: String,
    /// Its rules' ids, in order.
    pub rules: Vec<u32>,
    /// What happens when none matches: `allow`, `deny`.
    pub default: String,
    /// Whose list it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
}

/// Replaces what is saved; whether it was something else.
pub(crate) fn put<T: PartialEq>(place: &mut T, value: T) -> bool {
    let changed = *place != value;
    *place = value;
    changed
}
