//! What the laboratory's commands say to the pod servers, and what comes back.
//!
//! Owns: the requests and answers on a server's control socket, and the result of a probe.
//! Does not: open sockets.
//! Invariant: one request and one answer for each connection, each a line of JSON.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, bad};

/// A protocol that can be probed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// Echo request and reply.
    Icmp,
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            "icmp" => Ok(Self::Icmp),
            _ => Err(bad!("protocol {text:?}: expected tcp, udp, sctp or icmp")),
        }
    }
}

impl Protocol {
    /// As this laboratory spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
            Self::Icmp => "icmp",
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The server answered.
    Connected,
    /// Reset, or port unreachable.
    Refused,
    /// Silence.
    Timeout,
    /// Host or network unreachable.
    Unreachable,
    /// Something else; the detail says what.
    Error,
}

impl Verdict {
    /// As this laboratory spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Error => "error",
        }
    }
}

/// What one attempt found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeResult {
    /// How it ended.
    pub result: Verdict,
    /// Who answered: NAMESPACE/POD, or a machine's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The node of who answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Whom the server saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_seen: Option<String>,
    /// What the client's socket calls its peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_address: Option<String>,
    /// Until connected (TCP), or until the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_micros: Option<u64>,
    /// More words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl ProbeResult {
    /// A result without an answer.
    pub fn failed(result: Verdict, detail: impl Into<String>) -> Self {
        Self {
            result,
            server: None,
            node: None,
            client_seen: None,
            server_address: None,
            connect_micros: None,
            detail: Some(detail.into()),
        }
    }

    /// Whether the server answered.
    pub fn is_connected(&self) -> bool {
        self.result == Verdict::Connected
    }
}

/// What a pod server answers to everybody.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Greeting {
    /// NAMESPACE/POD.
    pub server: String,
    /// Its node.
    pub node: String,
    /// Whom it saw.
    pub client_seen: SocketAddr,
}

/// A pod, or a machine, that serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Served {
    /// NAMESPACE/POD.
    pub name: String,
    /// Its node.
    pub node: String,
    /// Its network namespace.
    pub netns: PathBuf,
    /// Tells a namespace from an earlier one of the same name.
    pub uid: String,
    /// Its addresses; answers over UDP leave from the one that was asked.
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<(Protocol, u16)>,
}

/// One attempt, with everything resolved.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Network namespace of the client.
    pub netns: PathBuf,
    /// Protocol.
    pub protocol: Protocol,
    /// Where to.
    pub to: IpAddr,
    /// Which port; nothing for ICMP.
    #[serde(default)]
    pub port: u16,
    /// From which port; any when absent.
    pub source_port: Option<u16>,
    /// How long to wait for everything.
    pub timeout_millis: u64,
    /// How much to send each way after the greeting.
    #[serde(default)]
    pub bytes: u64,
    /// UDP: the message has the address, and the socket has none.
    #[serde(default)]
    pub unconnected: bool,
}

/// A conversation that stays open.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamSpec {
    /// How the caller calls it.
    pub id: String,
    /// Who talks to whom. `bytes` is not used.
    pub attempt: Attempt,
    /// Time between two records.
    pub interval_micros: u64,
}

/// SYNs of many flows from one machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flood {
    /// Network namespace of the sender.
    pub netns: PathBuf,
    /// Where to.
    pub to: IpAddr,
    /// The first destination port; after 64,000 flows the next one is taken.
    pub port: u16,
    /// How many flows.
    pub count: u64,
}

/// How a conversation is going. A record is 32 bytes; both sides number theirs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamReport {
    /// How the caller calls it.
    pub id: String,
    /// False once the connection has ended.
    pub open: bool,
    /// Why it ended: `stopped`, `reset`, `closed`, or the system's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Who answers.
    pub server: String,
    /// Its node.
    pub node: String,
    /// Whom it saw.
    pub client_seen: String,
    /// Records the client sent.
    pub sent: u64,
    /// Records the client received, in order.
    pub received: u64,
    /// Records of the client that the server says it received, in order.
    pub acknowledged: u64,
    /// Records missing in what the client received, those missing in what the server received included.
    pub lost: u64,
    /// Records that came late, twice or damaged.
    pub disordered: u64,
    /// The longest time without a record at the client, the present silence included.
    pub longest_pause_micros: u64,
    /// Since the last record.
    pub silent_micros: u64,
    /// When the last record came, by the wall clock.
    pub last_record_unix_micros: u64,
    /// How long it has been open.
    pub age_micros: u64,
}

/// What can be asked of a server.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "camelCase")]
pub enum Request {
    /// Serve exactly these from now on; answers when their sockets listen.
    Serve {
        /// All that this server serves.
        served: Vec<Served>,
    },
    /// Make these attempts, all at once.
    Probe {
        /// In the order of the answer's results.
        attempts: Vec<Attempt>,
    },
    /// Open a conversation; answers when it is open.
    StreamStart {
        /// Which.
        spec: StreamSpec,
    },
    /// How is it going?
    StreamReport {
        /// Which.
        id: String,
    },
    /// Send SYNs; answers when all are sent.
    Flood {
        /// Which.
        flood: Flood,
    },
    /// End it and say how it went.
    StreamStop {
        /// Which.
        id: String,
    },
}

/// What a server answers.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Why it could not be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What did not go well although the rest was done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub complaints: Vec<String>,
    /// Results of `Probe`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<ProbeResult>,
    /// Packets that a flood sent.
    #[serde(default)]
    pub sent: u64,
    /// State of a conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamReport>,
}
