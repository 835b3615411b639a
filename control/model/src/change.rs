//! One change of one object.

use crate::id::{NamespaceName, NodeName, PolicyId, ServiceId, SliceId, WorkloadId};
use crate::ranges::RangesId;
use crate::{namespace, node, policy, pool, service, settings, workload};
use ipnet::IpNet;
use std::sync::Arc;

/// `value` is in force from now on; `None`: the object is gone.
#[derive(Clone, Debug, PartialEq)]
pub struct Change<K, V> {
    /// Which object.
    pub key: K,
    /// Its new value.
    pub value: Option<V>,
}

/// Identity of any object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectId {
    /// A namespace.
    Namespace(NamespaceName),
    /// A node.
    Node(NodeName),
    /// A pod.
    Workload(WorkloadId),
    /// A Service.
    Service(ServiceId),
    /// How a pod is attached to this node.
    Attachment(WorkloadId),
    /// An EndpointSlice.
    Slice(SliceId),
    /// A Kubernetes NetworkPolicy.
    NetworkPolicy(PolicyId),
    /// An IP pool, by name.
    Pool(Arc<str>),
    /// Ranges of Services.
    Ranges(RangesId),
    /// The addresses of this node's interfaces.
    OwnAddresses,
    /// The settings of this node, merged from `default`, `node.<name>`, file and environment.
    Settings,
}

/// Any object's change. What a store emits and `control/calc` consumes. Values that are large, or that a cluster has by the
/// thousand, are shared between the two.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A namespace.
    Namespace(Change<NamespaceName, namespace::Namespace>),
    /// A node.
    Node(Change<NodeName, Arc<node::Node>>),
    /// A pod.
    Workload(Change<WorkloadId, Arc<workload::Workload>>),
    /// How a pod is attached to this node; comes from the CNI plugin, not from the datastore.
    Attachment(Change<WorkloadId, Arc<workload::Attachment>>),
    /// A Service.
    Service(Change<ServiceId, Arc<service::Service>>),
    /// An EndpointSlice.
    Slice(Change<SliceId, Arc<service::EndpointSlice>>),
    /// A Kubernetes NetworkPolicy.
    NetworkPolicy(Change<PolicyId, Arc<policy::NetworkPolicy>>),
    /// An IP pool.
    Pool(Change<Arc<str>, pool::Pool>),
    /// Ranges that Services have their addresses from.
    Ranges(Change<RangesId, Vec<IpNet>>),
    /// The addresses of this node's interfaces with the lengths of their networks' prefixes, sorted; they come from the
    /// kernel, not from the datastore.
    OwnAddresses(Vec<IpNet>),
    /// The settings.
    Settings(Box<settings::Settings>),
}
