//! What the agent says about itself, as `status` understands it.
//!
//! Invariant: every field may be absent, so that an older or newer agent is understood as far as it goes.

use serde::{Deserialize, Serialize};
use tortie_abi::maps::{self, MapKind, MapSpec, Writer};

use crate::migrate::is_tier_of_calico;

/// How a node is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// `healthy`, `degraded`, `starting`; `agent-unreachable` when the kernel alone was asked.
    pub health: String,
    /// Sentences: why it is not `healthy`.
    pub reasons: Vec<String>,
    /// This node's name.
    pub node: String,
    /// The agent's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The kernel's release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// `tcx`, `clsact`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attach: Option<String>,
    /// Where pins are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bpffs: Option<String>,
    /// Since the agent began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_seconds: Option<u64>,
    /// What the store has said up to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// The last policy generation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The agent's memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_bytes: Option<u64>,
    /// Pods of this node.
    pub endpoints: u64,
    /// Programs on interfaces.
    pub interfaces: Vec<Interface>,
    /// Connect-time load balancing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_time: Option<ConnectTime>,
    /// The packet programs.
    pub programs: Vec<Program>,
    /// The maps.
    pub maps: Vec<MapFill>,
    /// What is not in force yet, and why.
    pub dirty: Vec<Dirty>,
    /// Anything else the agent complains about.
    pub warnings: Vec<String>,
    /// What somebody wrote that is not in force.
    pub rejected: Vec<Rejected>,
    /// What cannot all be true.
    pub conflicts: Vec<Conflict>,
    /// How the store can be reached, where it is somewhere else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<Store>,
    /// Files of the CNI plugin that cannot be read.
    pub bad_records: Vec<String>,
    /// The last sweep of the flow tables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sweep: Option<Sweep>,
}

impl Status {
    /// Everything that somebody wrote is in force.
    pub fn is_healthy(&self) -> bool {
        self.health == "healthy"
    }
}

/// A store that is somewhere else: the API server.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Store {
    /// Its address.
    pub server: String,
    /// It answers.
    pub connected: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Since when it answers, or does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_seconds: Option<u64>,
    /// What is in force is what was known before the agent began.
    pub from_cache: bool,
    /// Kinds that have not been read yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waiting_for: Vec<String>,
    /// Kinds that were lost sight of and are not followed again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<String>,
    /// Why what was known before the agent began is not in force: file and damage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Why what is in force is not remembered for a start without the server: file and cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unwritten: Option<String>,
    /// Why Calico's kinds are read in the storage form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
}

/// A program on an interface.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Interface {
    /// Interface.
    pub interface: String,
    /// `ingress`, `egress`: the interface's own direction.
    pub direction: String,
    /// `data`, `workload`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The pod behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The link is in force.
    pub attached: bool,
    /// Kernel-wide id.
    pub program_id: u32,
    /// Its name in the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// With `ingress`: somebody's XDP program, which comes before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xdp: Option<Xdp>,
}

/// An XDP program.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Xdp {
    /// Its name in the kernel.
    pub program: String,
    /// Kernel-wide id.
    pub program_id: u32,
}

/// Connect-time load balancing.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectTime {
    /// `TCP`, `Enabled`, `Disabled`; absent when the agent was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The cgroup's directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Programs there.
    pub programs: Vec<SocketProgram>,
}

/// A program at a cgroup.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SocketProgram {
    /// Its name.
    pub program: String,
    /// Kernel-wide id.
    pub program_id: u32,
    /// The link is in force.
    pub attached: bool,
}

/// A packet program.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Program {
    /// Name.
    pub name: String,
    /// Kernel-wide id.
    pub id: u32,
    /// Hash of its instructions.
    pub tag: String,
    /// Instructions the verifier walked through.
    pub verified_instructions: u64,
    /// Instructions it has.
    pub instructions: u64,
    /// Memory.
    pub memory_bytes: u64,
    /// When.
    pub loaded_seconds_after_boot: f64,
}

/// How full a map is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MapFill {
    /// Name.
    pub name: String,
    /// Version of its layout.
    pub version: u32,
    /// Entries; absent for arrays, which are always full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
    /// The most it holds.
    pub max_entries: u64,
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

impl MapFill {
    /// Per cent used; `None` for arrays.
    pub fn percent(&self) -> Option<u64> {
        self.entries?.saturating_mul(100).checked_div(self.max_entries)
    }

    /// A map whose entries the programs write and nobody removes: it fills, and then forgets the least recently used.
    pub fn fills_up(&self) -> bool {
        let forgets = |spec: &&MapSpec| spec.kind == MapKind::LruHash && spec.writer == Writer::Kernel;
        maps::ALL.iter().filter(forgets).any(|spec| spec.name == self.name)
    }
}

/// Something that is not in force yet.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Dirty {
    /// Which.
    pub object: String,
    /// Why; empty: it has not been tried yet.
    pub reason: String,
    /// Failures in a row.
    pub attempts: u32,
}

impl Dirty {
    /// Which and why, in a line.
    pub fn sentence(&self) -> String {
        let reason = if self.reason.is_empty() { "not tried yet" } else { &self.reason };
        let tries = if self.attempts > 1 { format!(" ({} tries)", self.attempts) } else { String::new() };
        format!("{}: {reason}{tries}", self.object)
    }
}

/// Something written that is not in force.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rejected {
    /// Where it was read.
    pub origin: String,
    /// The file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Kind, namespace and name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Path of the field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub fix: String,
    /// `keepsLast`, `absent`, `isolates`, `notEnforced`.
    pub effect: String,
    /// The same in words.
    pub meaning: String,
}

impl Rejected {
    /// There is nothing wrong with it: this version does not act on it.
    pub fn is_kept(&self) -> bool {
        self.effect == "notEnforced"
    }

    /// The API server does not let its objects be read, or not as they should be.
    pub fn is_of_a_kind(&self) -> bool {
        self.origin == "API server" && self.object.is_none()
    }

    /// A setting that this version does not know changes nothing; a policy that is not enforced does.
    pub fn is_a_note(&self) -> bool {
        self.is_kept() && !self.object.as_deref().is_some_and(is_relied_on)
    }
}

/// Whether somebody relies on an object's being enforced. Staged policies enforce nothing anywhere.
fn is_relied_on(object: &str) -> bool {
    match object.split_once(' ').unwrap_or((object, "")) {
        ("HostEndpoint", _) => true,
        ("Tier", name) => !is_tier_of_calico(name),
        (kind, _) => kind.ends_with("Policy") && !kind.starts_with("Staged"),
    }
}

/// Objects that do not fit together.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Conflict {
    /// What is claimed twice, or missing.
    pub contested: String,
    /// By whom, who has it, and what to do.
    pub detail: String,
}

/// A sweep of the flow tables.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sweep {
    /// Sweeps since the agent began.
    pub sweeps: u64,
    /// How often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_seconds: Option<u64>,
    /// Time in the kernel.
    pub busy_micros: u64,
    /// IPv4.
    pub ipv4: Swept,
    /// IPv6.
    pub ipv6: Swept,
}

/// What a sweep did to one family's tables.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Swept {
    /// Entries looked at.
    pub seen: u64,
    /// Removed: their time was over.
    pub expired: u64,
    /// Removed: their pod or node is gone.
    pub stale: u64,
    /// Removed: half of a pair.
    pub orphaned: u64,
}
