//! Kubernetes NetworkPolicy.

use crate::selector::Selector;
use crate::workload::Transport;
use ipnet::IpNet;

/// Who is on the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Pods.
    Pods {
        /// `None`: only the policy's own namespace.
        namespaces: Option<Selector>,
        /// Which pods of them.
        pods: Selector,
    },
    /// Addresses.
    Block {
        /// The prefix.
        cidr: IpNet,
        /// Parts of it that are left out; inside `cidr`.
        except: Vec<IpNet>,
    },
}

/// A port of the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// Every port of the protocol.
    Any,
    /// `first..=last`.
    Range {
        /// Lowest.
        first: u16,
        /// Highest.
        last: u16,
    },
    /// A named container port of the destination pod.
    Named(String),
}

/// A protocol and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMatch {
    /// Protocol.
    pub transport: Transport,
    /// Port.
    pub port: Port,
}

/// One rule: a peer and a port must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// One of these; empty: everybody.
    pub peers: Vec<Peer>,
    /// One of these; empty: every protocol and port.
    pub ports: Vec<PortMatch>,
}

/// A policy: selected pods are isolated in each direction that is `Some`, except for the rules there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// Pods of its namespace that it applies to.
    pub pods: Selector,
    /// Ingress rules; `None`: says nothing about ingress.
    pub ingress: Option<Vec<Rule>>,
    /// Egress rules; `None`: says nothing about egress.
    pub egress: Option<Vec<Rule>>,
}
