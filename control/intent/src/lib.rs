//! The contract between the calculation and the data planes: values, and the order they come in.
//!
//! Owns: [`Intent`] and its parts. Does not: know BPF, nftables or the datastore.
//!
//! Order guarantees, held after every single intent:
//! 1. a set exists before a list names it, a list before an endpoint names it;
//! 2. an endpoint stops naming a list before the list goes, a list a set likewise;
//! 3. members are added to a set before the list that needs it, when both change for one reason;
//! 4. [`Intent::InSync`] comes once, after everything the datastore held at the start. Before it, no
//!    data plane removes anything that was in force before the agent started;
//! 5. a [`Route::LocalPod`] comes after its endpoint and goes before it;
//! 6. a front end belongs to at most one [`ServicePortId`];
//! 7. members leave a set before new lists and endpoints of the same batch: what can fail does not delay a
//!    revocation. This holds because no clause over a set of pods is negated or denies; of such a set the members
//!    would have to leave after the lists.
#![forbid(unsafe_code)]

use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use tortie_model::settings::Settings;
use tortie_model::workload::Transport;
use tortie_model::{NodeName, ServiceId, WorkloadId};
pub use tortie_policy::form::{List, Member, SetId};

/// Identity of a rule list. Equal lists share one id; stable while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListId(pub u32);

/// One thing to be made true. `None` removes.
#[derive(Clone, Debug, PartialEq)]
pub enum Intent {
    /// A new, empty set; or an unused one goes.
    Set(SetId, SetChange),
    /// A rule list.
    List(ListId, Option<Arc<List>>),
    /// A workload on this node.
    Endpoint(WorkloadId, Option<Endpoint>),
    /// Whose addresses these are.
    Route(IpNet, Option<Route>),
    /// One port of a Service, with all its front ends and back ends.
    Service(ServicePortId, Option<ServicePort>),
    /// The settings in force.
    Settings(Box<Settings>),
    /// Everything known at the start has been said.
    InSync,
}

/// A change of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetChange {
    /// It exists now, with no members.
    Create,
    /// Members come and go; both lists sorted, without overlap.
    Update {
        /// New members.
        add: Vec<Member>,
        /// Members that leave.
        remove: Vec<Member>,
    },
    /// It is gone.
    Remove,
}

/// A workload on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Host side of its veth.
    pub interface: String,
    /// Pod side's MAC address.
    pub mac: [u8; 6],
    /// Host side's MAC address.
    pub host_mac: [u8; 6],
    /// Its addresses, the first of each family first.
    pub addresses: Vec<IpAddr>,
    /// Which incarnation of the pod this is (CNI container id).
    pub container_id: String,
    /// Rules for traffic to it.
    pub ingress: Rules,
    /// Rules for traffic from it.
    pub egress: Rules,
}

/// Which rules apply to one direction of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rules {
    /// Its policy cannot be known (the Pod object is missing): everything is denied.
    Unknown,
    /// No policy selects it: everything is allowed.
    AllowAll,
    /// These.
    List(ListId),
}

/// Whose an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// A pod on this node.
    LocalPod(WorkloadId),
    /// Pods on another node, reached by its address of the same family; `None`: unknown address.
    RemotePod {
        /// Which node.
        node: NodeName,
        /// The node's address.
        next_hop: Option<IpAddr>,
    },
    /// An address of this node.
    Host,
    /// An address of another node.
    RemoteHost {
        /// Which node.
        node: NodeName,
    },
    /// Inside a pool.
    Pool {
        /// Masquerade what leaves the pools.
        nat_outgoing: bool,
    },
    /// Drop.
    Blackhole,
}

/// Identity of one port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePortId {
    /// The Service.
    pub service: ServiceId,
    /// Port name; empty for the only port.
    pub port: String,
    /// Protocol.
    pub transport: Transport,
}

/// Where clients reach a Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frontend {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
}

/// Why a back end is or is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BackendState {
    /// Ready: takes new connections.
    Ready,
    /// Terminating but still serving: takes new connections only while nothing is ready.
    ServingTerminating,
    /// Not used.
    NotReady,
}

/// One back end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backend {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// On this node.
    pub local: bool,
    /// Its node.
    pub node: Option<NodeName>,
    /// Whether it is used.
    pub state: BackendState,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Where clients reach it, sorted.
    pub frontends: BTreeSet<Frontend>,
    /// All known back ends of both families, sorted; [`ServicePort::used`] says which are used.
    pub backends: BTreeSet<Backend>,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// What people see: `ClusterIP`, `NodePort`, `LoadBalancer`.
    pub service_type: tortie_model::service::ServiceType,
}

impl ServicePort {
    /// The back ends in use, in their order: the ready ones, or while there is none, those that
    /// terminate but still serve.
    pub fn used(&self, v6: bool) -> impl Iterator<Item = &Backend> {
        let of_family = move |b: &&Backend| b.address.is_ipv6() == v6;
        let any_ready = self.backends.iter().filter(of_family).any(|b| b.state == BackendState::Ready);
        let wanted = if any_ready { BackendState::Ready } else { BackendState::ServingTerminating };
        self.backends.iter().filter(of_family).filter(move |b| b.state == wanted)
    }
}
