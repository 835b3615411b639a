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

/// A container port that is reachable at the pod's node too (`hostPort`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Only at this address of the node; the unspecified one: at all of its family; `None`: at all.
    pub address: Option<IpAddr>,
    /// Number at the node.
    pub host_port: u16,
    /// Protocol.
    pub transport: Transport,
    /// Number in the pod.
    pub port: u16,
}

/// The ports that a pod wants at its node. Few pods have some, so they are kept apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPorts {
    /// When the pod was made, in seconds since 1970; 0: it does not say.
    pub created: i64,
    /// The ports.
    pub ports: Vec<HostPort>,
}

/// A pod. A pod that has ended (Succeeded, Failed) is no workload: the store removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Which pod of its name it is, where the store says so.
    pub uid: Option<PodUid>,
    /// The node it runs on; `None`: not scheduled yet.
    pub node: Option<NodeName>,
    /// Its addresses, the first of each family first; empty until known.
    pub addresses: Vec<IpAddr>,
    /// Its kubelet reports all of them. Others may be written by whoever may change the pod.
    pub reported: bool,
    /// Its labels.
    pub labels: Labels,
    /// Its service account's name.
    pub service_account: String,
    /// Named ports of its containers.
    pub ports: Vec<NamedPort>,
    /// Ports that its node has for it.
    pub host_ports: Option<Box<HostPorts>>,
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
    /// The pod that the runtime attached, where it said so.
    pub uid: Option<PodUid>,
}

/// Which one it is of the pods that have had a name one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodUid(u128);

impl PodUid {
    /// A UUID, or the hash by which the kubelet knows a pod of its own; `None`: of a form that nobody gives.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.replace('-', "");
        (digits.len() == 32).then(|| u128::from_str_radix(&digits, 16).ok())?.map(Self)
    }
}
