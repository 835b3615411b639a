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
use litemap::LiteMap;
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
    Service(Arc<ServicePortId>, Option<Arc<ServicePort>>),
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
    /// Services have their addresses from here; this one is none of theirs.
    Services,
    /// This node's pods have their addresses from here; this one is none of theirs.
    Blackhole,
}

/// Identity of one port of a Service, or of a pod at its node ([`ServiceId::of_pod`]). Shared by all who know it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePortId {
    /// The Service.
    pub service: ServiceId,
    /// Port name; empty for the only port. Of a pod: the port at its node, with the address where it has only one.
    pub port: String,
    /// Protocol.
    pub transport: Transport,
}

/// Where clients reach a Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frontend {
    /// Address; the unspecified one of a family for every address of the node.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
}

/// What a front end is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The Service's own address.
    Cluster,
    /// A port of the node.
    NodePort,
    /// One of `spec.externalIPs`.
    External,
    /// A load balancer's address.
    LoadBalancer,
    /// A port of the node that is a pod's.
    HostPort,
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
    /// Topology hints leave it to this node; true for all where hints do not decide.
    pub near: bool,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Where clients reach it.
    pub frontends: LiteMap<Frontend, Scope>,
    /// All known back ends of both families, sorted, each once; [`ServicePort::chosen`] says which are used.
    pub backends: Box<[Backend]>,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// Clients that may use a load balancer's addresses; of a family without any, all may.
    pub source_ranges: BTreeSet<IpNet>,
    /// Session affinity's time-out in seconds.
    pub affinity_seconds: Option<u32>,
    /// Clients outside are led by a consistent-hash table, but for those of a node port.
    pub maglev: bool,
    /// None of its front ends is translated: packets go where their address leads by itself.
    pub untranslated: bool,
    /// What people see: `ClusterIP`, `NodePort`, `LoadBalancer`.
    pub service_type: tortie_model::service::ServiceType,
}

/// The back ends of one family that new connections may choose, in three groups without overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen<'a> {
    /// On this node, for traffic of policy `Local` alone.
    pub local_only: Vec<&'a Backend>,
    /// On this node, for all traffic.
    pub local: Vec<&'a Backend>,
    /// Elsewhere.
    pub remote: Vec<&'a Backend>,
}

impl ServicePort {
    /// The back ends in use. For all traffic: the ready ones that topology leaves, or while there is none, those
    /// that terminate but still serve. For node-local traffic: this node's ready ones, or else likewise.
    pub fn chosen(&self, v6: bool) -> Chosen<'_> {
        let all = || self.backends.iter().filter(|b| b.address.is_ipv6() == v6);
        let serving = |b: &Backend| b.state == BackendState::ServingTerminating;
        let ready = |b: &Backend| b.state == BackendState::Ready;
        let any_near = all().any(|b| ready(b) && b.near);
        let any_here = all().any(|b| ready(b) && b.local);
        let mut chosen = Chosen::default();
        for backend in all() {
            let everybody = if any_near { ready(backend) && backend.near } else { serving(backend) };
            let here = backend.local && if any_here { ready(backend) } else { serving(backend) };
            match (here, everybody) {
                (true, false) => chosen.local_only.push(backend),
                (true, true) => chosen.local.push(backend),
                (false, true) => chosen.remote.push(backend),
                (false, false) => {}
            }
        }
        chosen
    }

    /// The back ends of one family that clients outside may choose at every node alike: the ready ones wherever they and
    /// topology stand, or while there is none, those that terminate but still serve. In order of their addresses.
    pub fn everywhere(&self, v6: bool) -> impl Iterator<Item = &Backend> {
        let family = move |b: &&Backend| b.address.is_ipv6() == v6;
        let any_ready = self.backends.iter().filter(family).any(|b| b.state == BackendState::Ready);
        let state = if any_ready { BackendState::Ready } else { BackendState::ServingTerminating };
        self.backends.iter().filter(family).filter(move |b| b.state == state)
    }

    /// The back ends of one family that traffic of policy `Cluster` may choose.
    pub fn used(&self, v6: bool) -> impl Iterator<Item = &Backend> {
        let Chosen { local, remote, .. } = self.chosen(v6);
        local.into_iter().chain(remote)
    }
}
