//! Services and their endpoints.

use crate::id::{NodeName, ServiceId};
use crate::workload::Transport;
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;

/// Where traffic of a kind may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// Any node's endpoints.
    #[default]
    Cluster,
    /// Only endpoints on the same node.
    Local,
}

/// `spec.type`; ExternalName Services have no address: [`Service::default`] stands for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceType {
    /// Cluster addresses only.
    #[default]
    ClusterIp,
    /// And a port on every node.
    NodePort,
    /// And addresses outside.
    LoadBalancer,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Name; empty for the only port.
    pub name: String,
    /// Protocol.
    pub transport: Transport,
    /// Number at the Service's addresses.
    pub port: u16,
    /// Number at every node; 0: none.
    pub node_port: u16,
}

/// A Service. One that this data plane does not serve (headless, another proxy's, a name of another host, without
/// an address yet) has no address and no port: [`Service::default`]. It is known all the same, so that its
/// EndpointSlices are not taken for orphans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// When it was made, in seconds since 1970; 0: it does not say.
    pub created: i64,
    /// `spec.type`.
    pub service_type: ServiceType,
    /// Cluster addresses, at most two.
    pub cluster_ips: Vec<IpAddr>,
    /// External addresses (`spec.externalIPs`).
    pub external_ips: Vec<IpAddr>,
    /// A load balancer's addresses whose packets reach the nodes unchanged (`ipMode: VIP`).
    pub ingress_ips: Vec<IpAddr>,
    /// Who may use `ingress_ips`; empty: everybody.
    pub source_ranges: Vec<IpNet>,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// `sessionAffinity: ClientIP` time-out in seconds.
    pub affinity_seconds: Option<u32>,
    /// Traffic from inside the cluster.
    pub internal_traffic_policy: TrafficPolicy,
    /// Traffic from outside.
    pub external_traffic_policy: TrafficPolicy,
    /// `spec.healthCheckNodePort` of a load balancer that sends clients only to nodes with endpoints.
    pub health_check_port: Option<u16>,
    /// Clients outside are led by a consistent-hash table (annotation `external-traffic-strategy: maglev`).
    pub maglev: bool,
    /// Its addresses are not translated (annotation `natExcludeService`).
    pub untranslated: bool,
    /// Endpoints count as ready whatever they say.
    pub publish_not_ready: bool,
}

/// A named port of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// Matches [`ServicePort::name`].
    pub name: String,
    /// Protocol.
    pub transport: Transport,
    /// Number at the endpoints.
    pub port: u16,
}

/// One endpoint of a slice: every address of it is a back end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address.
    pub address: IpAddr,
    /// Its node.
    pub node: Option<NodeName>,
    /// Takes new connections.
    pub ready: bool,
    /// Can still serve, whatever `ready` says.
    pub serving: bool,
    /// Is being shut down.
    pub terminating: bool,
    /// Where from traffic should go to it (`hints`).
    pub hints: Option<Arc<Hints>>,
}

impl Endpoint {
    /// Nodes that traffic from should go to it; empty: the hints name none.
    pub fn for_nodes(&self) -> &[NodeName] {
        self.hints.as_ref().map_or(&[], |hints| &hints.for_nodes)
    }

    /// Zones that traffic from should go to it; empty: the hints name none.
    pub fn for_zones(&self) -> &[Arc<str>] {
        self.hints.as_ref().map_or(&[], |hints| &hints.for_zones)
    }
}

/// The topology hints of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hints {
    /// `forNodes`.
    pub for_nodes: Vec<NodeName>,
    /// `forZones`.
    pub for_zones: Vec<Arc<str>>,
}

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// The Service it belongs to (label `kubernetes.io/service-name`).
    pub service: ServiceId,
    /// Ports that all its endpoints have.
    pub ports: Vec<SlicePort>,
    /// Endpoints.
    pub endpoints: Vec<Endpoint>,
}
