//! Owns: everything that can go wrong in the plugin, and the number CNI gives it (SPEC.md, "Error").
//! Does not: print. Invariant: every error says which object, and what to do where that is not evident.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::version::{NEWEST, Version};
use crate::agent_api::ErrorCode;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// The configuration speaks a version that we, or the address plugin, do not.
    #[error("cniVersion {requested:?} is not supported by {who}; it supports {}", supported.join(", "))]
    IncompatibleVersion {
        /// Who does not speak it.
        who: String,
        /// What the configuration says.
        requested: String,
        /// What it could say.
        supported: Vec<String>,
    },
    /// The version asked for has no such command.
    #[error("CNI_COMMAND {command} needs cniVersion {minimum} or later, the configuration says {requested}")]
    CommandTooNew {
        /// The command.
        command: &'static str,
        /// Since when it exists.
        minimum: Version,
        /// What the configuration says.
        requested: Version,
    },
    /// The configuration has a field that makes no sense here.
    #[error("{field}: {why}")]
    UnsupportedField {
        /// The field.
        field: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// The pod's network namespace is not there.
    #[error("the network namespace {} does not exist: the container is gone", path.display())]
    UnknownContainer {
        /// CNI_NETNS.
        path: PathBuf,
    },
    /// A variable of the environment is missing or wrong.
    #[error("{variable}: {problem}")]
    Env {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A file or a process failed us.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, with the object.
        doing: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// The kernel refused a change of links, addresses or routes.
    #[error("{doing}: {source}")]
    Netlink {
        /// What was being done, with the object.
        doing: String,
        /// What the kernel says.
        source: rtnetlink::Error,
    },
    /// Input that is not the JSON it should be.
    #[error("{what}: {source}")]
    Decode {
        /// Which input.
        what: String,
        /// Where it stops making sense.
        source: serde_json::Error,
    },
    /// A field of the network configuration is missing or wrong.
    #[error("network configuration, {field}: {problem}")]
    Config {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Programs and policy of the pod are not in force in time.
    #[error(
        "pod {pod}: not protected within {seconds} s, so it does not get a network: {reason}; see `tortie status`"
    )]
    NotProtected {
        /// namespace/name
        pod: String,
        /// The time-out in force.
        seconds: f64,
        /// What the agent said last, or why it could not be asked.
        reason: String,
    },
    /// The prefixes of this node's pods are not known.
    #[error(
        "this node's pod {lacking} is not known: {} has none; is the agent running, and does the Node have spec.podCIDRs?",
        file.display()
    )]
    NoPodCidr {
        /// What is missing.
        lacking: &'static str,
        /// Where the agent writes it.
        file: PathBuf,
    },
    /// The agent says no.
    #[error("pod {pod}: the agent refuses it ({code:?}): {reason}")]
    AgentRefused {
        /// namespace/name
        pod: String,
        /// The agent's code.
        code: ErrorCode,
        /// The agent's words.
        reason: String,
    },
    /// STATUS: ADD would fail now.
    #[error("{reason}")]
    NotAvailable {
        /// What is missing, and how to get it.
        reason: String,
    },
    /// The address plugin failed.
    #[error("address plugin {plugin}, {command}: {message}")]
    Delegate {
        /// Its type.
        plugin: String,
        /// What it was asked.
        command: &'static str,
        /// Its own code.
        code: u32,
        /// Its own words.
        message: String,
        /// More of its own words.
        details: Option<String>,
    },
    /// The address plugin gave out an address that another pod of this node has.
    #[error(
        "address {address} is in use by the pod behind interface {interface}; do two networks share a range?"
    )]
    AddressInUse {
        /// The address.
        address: IpAddr,
        /// The other pod's veth.
        interface: String,
    },
    /// CHECK: something is not as ADD left it.
    #[error("pod {pod}: {difference}")]
    NotAsAdded {
        /// namespace/name
        pod: String,
        /// What differs.
        difference: String,
    },
    /// GC: some attachments could not be removed; the others were.
    #[error("{} attachments could not be removed; the first: {}", .0.len(), .0.first().map_or("", String::as_str))]
    Garbage(Vec<String>),
}

/// The plugin's own codes start at 100.
const AGENT_REFUSED: u32 = 101;
const NOT_AS_ADDED: u32 = 102;
const GARBAGE: u32 = 103;
const ADDRESS_IN_USE: u32 = 104;

impl CniError {
    /// The number the runtime sees.
    pub fn code(&self) -> u32 {
        match self {
            Self::IncompatibleVersion { .. } | Self::CommandTooNew { .. } => 1,
            Self::UnsupportedField { .. } => 2,
            Self::UnknownContainer { .. } => 3,
            Self::Env { .. } => 4,
            Self::Io { .. } | Self::Netlink { .. } => 5,
            Self::Decode { .. } => 6,
            Self::Config { .. } => 7,
            Self::NotProtected { .. } | Self::NoPodCidr { .. } => 11,
            Self::NotAvailable { .. } => 50,
            Self::Delegate { code, .. } => *code,
            Self::AgentRefused { .. } => AGENT_REFUSED,
            Self::NotAsAdded { .. } => NOT_AS_ADDED,
            Self::Garbage(_) => GARBAGE,
            Self::AddressInUse { .. } => ADDRESS_IN_USE,
        }
    }

    /// What goes to stdout. `version`: the configuration's, when that far was come.
    pub fn to_json(&self, version: Option<Version>) -> Value {
        let details = match self {
            Self::Delegate { details, .. } => details.clone(),
            Self::Garbage(errors) => Some(errors.join("\n")),
            _ => None,
        };
        let mut json = json!({
            "cniVersion": version.unwrap_or(NEWEST).as_str(),
            "code": self.code(),
            "msg": self.to_string(),
        });
        if let (Some(details), Some(object)) = (details, json.as_object_mut()) {
            object.insert("details".to_owned(), details.into());
        }
        json
    }

    /// A file or process that failed.
    pub(super) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
