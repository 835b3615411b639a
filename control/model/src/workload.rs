//! Workloads: pods with a network namespace of their own, and pods on the host's network.

use crate::id::NodeName;
use crate::namespace::Labels;
use std::net::IpAddr;

/// A transport protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Transport {
    /// IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// `TCP`, `UDP`, `SCTP`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

/// A named container port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamedPort {
    /// Name.
    pub name: String,
    /// Protocol.
    pub transport: Transport,
    /// Number.
    pub port: u16,
}

/// A pod. A pod that has ended (Succeeded, Failed) is no workload: the store removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The node it runs on; `None`: not scheduled yet.
    pub node: Option<NodeName>,
    /// Its addresses, the first of each family first; empty until known.
    pub addresses: Vec<IpAddr>,
    /// Its labels.
    pub labels: Labels,
    /// Its service account's name.
    pub service_account: String,
    /// Named ports of its containers.
    pub ports: Vec<NamedPort>,
    /// It lives in the host's network namespace: no endpoint, no pod policy.
    pub host_network: bool,
}

/// How a pod is attached to this node: what the CNI plugin made. It is known before the Pod's status
/// has addresses, and wins over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Host side of the veth.
    pub interface: String,
    /// Pod side's MAC address.
    pub mac: [u8; 6],
    /// Host side's MAC address.
    pub host_mac: [u8; 6],
    /// The pod's addresses, the first of each family first.
    pub addresses: Vec<IpAddr>,
    /// CNI container id: which incarnation of the pod this is.
    pub container_id: String,
}
