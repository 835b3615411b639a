//! What cannot all be true, and who won.
//!
//! Owns: the values `status` shows. Does not: decide. Invariant: an entry is there exactly while the conflict is.

use ipnet::IpNet;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use tortie_intent::Frontend;
use tortie_model::workload::Transport;
use tortie_model::{NodeName, ObjectId, RangesId, ServiceId, WorkloadId};

/// What is contested.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contested {
    /// An address of a pod or node, or a prefix of pods.
    Prefix(IpNet),
    /// A front end of a Service.
    Frontend(Frontend, Transport),
    /// An address that no back end may have: loopback, link-local, multicast or unspecified.
    Backend(ServiceId, IpAddr),
    /// A Service that EndpointSlices name and that does not exist.
    NoService(ServiceId),
    /// An address of a pod of this node outside every pool of its family.
    NoPool(WorkloadId, IpAddr),
    /// An address of a pod of this node that is not given to pods.
    NotGiven(WorkloadId, IpAddr),
    /// A prefix for pods that its Node may not have.
    PodPrefix(NodeName, IpNet),
    /// A range of Services that has in it what is no Service's.
    Range(RangesId, IpNet),
    /// A `hostIP` of a pod that is no address of its node.
    HostAddress(WorkloadId, IpAddr),
    /// This node, which no Node is of, where there are Nodes.
    NoNode(NodeName),
    /// A node without an address, or without one of a family that its pods have.
    NoNodeAddress(NodeName),
}

/// Who wanted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Who has it; `None`: nobody may, or there is no such thing.
    pub winner: Option<ObjectId>,
    /// Who does not, sorted.
    pub losers: Vec<ObjectId>,
}

/// All conflicts.
pub type Conflicts = BTreeMap<Contested, Conflict>;

impl fmt::Display for Contested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(net) if net.prefix_len() == net.max_prefix_len() => {
                write!(f, "address {}", net.addr())
            }
            Self::Prefix(net) => write!(f, "prefix {net}"),
            Self::Frontend(frontend, transport) => {
                write!(f, "front end {} port {}/{}", frontend.address, frontend.port, transport.name())
            }
            Self::Backend(service, address) => write!(f, "back end {address} of Service {service}"),
            Self::NoService(service) => write!(f, "Service {service}"),
            Self::NoPool(pod, address) | Self::NotGiven(pod, address) => {
                write!(f, "address {address} of Pod {pod}")
            }
            Self::PodPrefix(node, prefix) => write!(f, "podCIDR {prefix} of Node {node}"),
            Self::Range(ranges, net) => write!(f, "range {net} of {ranges}"),
            Self::HostAddress(pod, address) => write!(f, "hostIP {address} of Pod {pod}"),
            Self::NoNode(node) | Self::NoNodeAddress(node) => write!(f, "Node {node}"),
        }
    }
}

impl Contested {
    /// The reason of the Event that its losers get; `None`: there is nothing to have one, or it is too short-lived, since
    /// whoever made the slices takes them away when the Service has gone.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Prefix(_) => Some("AddressTaken"),
            Self::Frontend(..) => Some("FrontendTaken"),
            Self::Backend(..) => Some("EndpointRefused"),
            Self::NoService(_) | Self::NoNode(_) => None,
            Self::NoPool(..) | Self::NotGiven(..) => Some("OutsidePools"),
            Self::PodPrefix(..) => Some("PodCIDRRefused"),
            Self::Range(..) => Some("RangeTooWide"),
            Self::HostAddress(..) => Some("NoSuchHostIP"),
            Self::NoNodeAddress(_) => Some("NoNodeAddress"),
        }
    }

    /// Other nodes do not see it: it is about a pod of this one, its ports there, or how it is attached.
    pub fn is_of_this_node(&self, conflict: &Conflict) -> bool {
        let here = |id: &ObjectId| match id {
            ObjectId::Attachment(_) => true,
            ObjectId::Workload(_) => {
                let of_pods = matches!(self, Self::NoPool(..) | Self::NotGiven(..) | Self::HostAddress(..));
                of_pods || matches!(self, Self::Frontend(..))
            }
            ObjectId::OwnAddresses => matches!(self, Self::PodPrefix(..)),
            _ => false,
        };
        conflict.winner.iter().chain(&conflict.losers).any(here)
    }

    /// What is wrong, and what to do.
    pub fn explain(&self, conflict: &Conflict) -> String {
        let losers = names(&conflict.losers);
        match (self, &conflict.winner) {
            (Self::NoService(_), _) => {
                format!(
                    "is not known, but {losers} would serve it; create the Service, correct it if it is rejected, or remove \
                     the slice"
                )
            }
            (Self::NoPool(..), _) => {
                "is outside every IPPool; extend a pool to it, or give the pod an address \
                                      of a pool (addresses outside the pools count as outside the cluster)"
                    .into()
            }
            (Self::NotGiven(..), Some(winner)) => format!(
                "is of {}: no other node has a route to it or counts it as the pod's in policies; give the pod an address of \
                 its Node's podCIDRs or of an IPPool",
                name(winner)
            ),
            (Self::NotGiven(..), None) => {
                "is outside every IPPool and its Node's podCIDRs, or there is no pool and only an annotation says it: no \
                 other node has a route to it or counts it as the pod's in policies; give the pod an address of a pool or of \
                 the podCIDRs"
                    .into()
            }
            (Self::PodPrefix(..), Some(ObjectId::Node(holder))) if conflict.losers.contains(&ObjectId::Node(holder.clone())) => {
                "is refused: its own InternalIP is in it; give the Node a prefix apart from the nodes' addresses (other nodes \
                 have no route to its pods)"
                    .into()
            }
            (Self::PodPrefix(..), Some(winner @ ObjectId::Node(_))) => format!(
                "is refused: it meets an address or a prefix of the older {}; give the Node a prefix apart from the nodes' \
                 addresses and the other Nodes' prefixes (there is no route to its pods)",
                name(winner)
            ),
            (Self::PodPrefix(..), Some(winner)) => format!(
                "is refused: an address of {} is in it; give the Node a prefix apart from the nodes' addresses (there is no \
                 route to its pods)",
                name(winner)
            ),
            (Self::PodPrefix(..), None) => {
                "is refused: it is every address there is; give the Node a prefix of its own (there is no route to its pods)"
                    .into()
            }
            (Self::Range(..), None) => {
                "is every address there is: what pods, and clients through this node, send to anything outside is dropped \
                 (no-service), unless serviceLoopPrevention is Disabled; give the ranges that Services have their addresses from"
                    .into()
            }
            (Self::Range(..), Some(winner)) => format!(
                "has addresses of {} in it: packets to whatever else is in it and is no Service's are dropped (no-service), \
                 unless serviceLoopPrevention is Disabled; give ranges apart from those of pods and nodes",
                name(winner)
            ),
            (Self::HostAddress(..), _) => {
                "is no address of this node, and its ports there are not served; give one of the Node's addresses, or none"
                    .into()
            }
            (Self::NoNode(_), _) => {
                "does not exist, and is this one: other nodes have no route to its pods, and their policies do not mean \
                 them; restart its kubelet, which makes it, or take the node out of the cluster"
                    .into()
            }
            (Self::NoNodeAddress(_), _) => {
                "has no InternalIP, or none of a family of its podCIDRs; give its kubelet --node-ip \
                                      (other nodes cannot reach its pods)"
                    .into()
            }
            (_, Some(winner)) => format!("held by {}, also claimed by {losers}", name(winner)),
            (_, None) => format!(
                "refused: no pod can have this address (endpoints[].addresses of {losers}); remove it there, the other \
                 endpoints are in force"
            ),
        }
    }
}

/// So many names are said.
const NAMES: usize = 8;

fn names(ids: &[ObjectId]) -> String {
    let mut said: Vec<String> = ids.iter().take(NAMES).map(name).collect();
    let more = ids.len().saturating_sub(NAMES);
    said.extend((more > 0).then(|| format!("{more} more")));
    said.join(", ")
}

/// Kind and name of an object.
fn name(id: &ObjectId) -> String {
    match id {
        ObjectId::Namespace(id) => format!("Namespace {id}"),
        ObjectId::Node(id) => format!("Node {id}"),
        ObjectId::Workload(id) => format!("Pod {id}"),
        ObjectId::Attachment(id) => format!("attached Pod {id}"),
        ObjectId::Service(id) => format!("Service {id}"),
        ObjectId::Slice(id) => format!("EndpointSlice {id}"),
        ObjectId::NetworkPolicy(id) => format!("NetworkPolicy {id}"),
        ObjectId::Pool(id) => format!("IPPool {id}"),
        ObjectId::Ranges(id) => id.to_string(),
        ObjectId::OwnAddresses => "interfaces of this node".into(),
        ObjectId::Settings => "settings".into(),
    }
}
