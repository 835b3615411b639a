//! Objects in few words.

use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;
use tortie_model::namespace::{Labels, Namespace};
use tortie_model::node::Node;
use tortie_model::policy::{NetworkPolicy, Peer, Port, PortMatch, Rule};
use tortie_model::pool::Pool;
use tortie_model::selector::{Operator, Requirement, Selector};
use tortie_model::service::{
    Endpoint, EndpointSlice, Service, ServicePort, ServiceType, SlicePort, TrafficPolicy,
};
use tortie_model::workload::{Attachment, HostPort, HostPorts, NamedPort, Transport, Workload};
use tortie_model::{
    Change, NamespaceName, Object, ObjectId, PolicyId, RangesId, ServiceId, SliceId, WorkloadId,
};

pub const TCP: Transport = Transport::Tcp;
pub const UDP: Transport = Transport::Udp;
pub const SCTP: Transport = Transport::Sctp;

/// `app=web,tier=front`.
pub fn labels(text: &str) -> Labels {
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (k.into(), v.into())).collect()
}

fn split(id: &str) -> (&str, &str) {
    id.split_once('/').expect("namespace/name")
}

pub fn pod_id(id: &str) -> WorkloadId {
    WorkloadId::new(split(id).0, split(id).1)
}

pub fn service_id(id: &str) -> ServiceId {
    ServiceId::new(split(id).0, split(id).1)
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub fn net(text: &str) -> IpNet {
    text.parse().unwrap_or_else(|_| IpNet::from(ip(text)))
}

pub fn ips(text: &str) -> Vec<IpAddr> {
    text.split_whitespace().map(ip).collect()
}

/// Addresses with the lengths of their prefixes.
pub fn nets(text: &str) -> Vec<IpNet> {
    text.split_whitespace().map(|net| net.parse().expect("a prefix")).collect()
}

pub fn namespace(name: &str, text: &str) -> Object {
    let value = Some(Namespace { labels: labels(text) });
    Object::Namespace(Change { key: NamespaceName::from(name), value })
}

pub fn node(name: &str, addresses: &str, cidrs: &str) -> Object {
    let pod_cidrs = cidrs.split_whitespace().map(net).collect();
    let value =
        Node { labels: Labels::new(), addresses: ips(addresses), pod_cidrs, created: 0, leaving: false };
    Object::Node(Change { key: name.into(), value: Some(Arc::new(value)) })
}

/// The Node, made so many seconds after the epoch.
pub fn made(node: Object, created: i64) -> Object {
    let Object::Node(Change { key, value: Some(value) }) = node else { panic!("no Node: {node:?}") };
    let value = Node { created, ..Arc::unwrap_or_clone(value) };
    Object::Node(Change { key, value: Some(Arc::new(value)) })
}

pub fn pool(name: &str, cidr: &str, nat_outgoing: bool) -> Object {
    let value = Some(Pool { cidr: net(cidr), nat_outgoing, for_pods: true, disabled: false });
    Object::Pool(Change { key: name.into(), value })
}

/// A ServiceCIDR.
pub fn service_cidr(name: &str, cidrs: &str) -> Object {
    let value = Some(cidrs.split_whitespace().map(net).collect());
    Object::Ranges(Change { key: RangesId::ServiceCidr(name.into()), value })
}

/// A pod, to be finished.
#[derive(Clone, Debug)]
pub struct PodBuilder(pub WorkloadId, pub Workload);

/// On node `n1`.
pub fn pod(id: &str, addresses: &str) -> PodBuilder {
    let workload = Workload {
        uid: None,
        node: Some("n1".into()),
        addresses: ips(addresses),
        reported: true,
        labels: Labels::new(),
        service_account: "default".into(),
        ports: Vec::new(),
        host_ports: None,
        host_network: false,
    };
    PodBuilder(pod_id(id), workload)
}

impl PodBuilder {
    pub fn labels(mut self, text: &str) -> Self {
        self.1.labels = labels(text);
        self
    }

    pub fn on(mut self, node: &str) -> Self {
        self.1.node = Some(node.into());
        self
    }

    pub fn port(mut self, name: &str, transport: Transport, port: u16) -> Self {
        self.1.ports.push(NamedPort { name: name.into(), transport, port });
        self
    }

    /// A port at its node: `8080`, or `192.0.2.1:8080`, or `[::]:8080`.
    pub fn host_port(mut self, at: &str, transport: Transport, port: u16) -> Self {
        let (address, host_port) = match at.parse::<std::net::SocketAddr>() {
            Ok(at) => (Some(at.ip()), at.port()),
            Err(_) => (None, at.parse().expect("a port")),
        };
        let none = || Box::new(HostPorts { created: 0, ports: Vec::new() });
        let ports = &mut self.1.host_ports.get_or_insert_with(none).ports;
        ports.push(HostPort { address, host_port, transport, port });
        self
    }

    /// Made at that time.
    pub fn created(mut self, at: i64) -> Self {
        self.1.host_ports.as_mut().expect("with ports at its node").created = at;
        self
    }

    /// Its addresses are an annotation's, and not its kubelet's.
    pub fn unreported(mut self) -> Self {
        self.1.reported = false;
        self
    }

    pub fn host_network(mut self) -> Self {
        self.1.host_network = true;
        self
    }

    pub fn object(self) -> Object {
        Object::Workload(Change { key: self.0, value: Some(Arc::new(self.1)) })
    }

    /// How it is attached, with its own addresses.
    pub fn attachment(&self) -> Object {
        let addresses: Vec<String> = self.1.addresses.iter().map(IpAddr::to_string).collect();
        attachment(&self.0.to_string(), &addresses.join(" "))
    }

    /// The Pod and its attachment.
    pub fn local(self) -> [Object; 2] {
        [self.attachment(), self.object()]
    }
}

pub fn attachment(id: &str, addresses: &str) -> Object {
    let value = Attachment {
        interface: format!("cali-{}", split(id).1),
        mac: [2, 0, 0, 0, 0, 1],
        host_mac: [0xee; 6],
        addresses: ips(addresses),
        container_id: "c1".into(),
        uid: None,
    };
    Object::Attachment(Change { key: pod_id(id), value: Some(Arc::new(value)) })
}

/// `app=web` as a selector; a word without `=` is a label that must exist, with `!` before it one that must not.
pub fn selector(text: &str) -> Selector {
    let mut selector = Selector::default();
    for word in text.split(',').filter(|word| !word.is_empty()) {
        let requirement = |key: &str, operator| Requirement { key: key.into(), operator };
        match (word.strip_prefix('!'), word.split_once("!="), word.split_once('=')) {
            (_, Some((key, value)), _) => {
                let values = Operator::NotIn(value.split('|').map(String::from).collect());
                selector.match_expressions.push(requirement(key, values));
            }
            (Some(key), _, _) => {
                selector.match_expressions.push(requirement(key, Operator::DoesNotExist));
            }
            (_, _, Some((key, value))) if value.contains('|') => {
                let values = Operator::In(value.split('|').map(String::from).collect());
                selector.match_expressions.push(requirement(key, values));
            }
            (_, _, Some((key, value))) => {
                selector.match_labels.insert(key.into(), value.into());
            }
            _ => selector.match_expressions.push(requirement(word, Operator::Exists)),
        }
    }
    selector
}

pub fn pods(text: &str) -> Peer {
    Peer::Pods { namespaces: None, pods: selector(text) }
}

pub fn pods_of(namespaces: &str, text: &str) -> Peer {
    Peer::Pods { namespaces: Some(selector(namespaces)), pods: selector(text) }
}

pub fn block(cidr: &str, except: &str) -> Peer {
    Peer::Block { cidr: net(cidr), except: except.split_whitespace().map(net).collect() }
}

pub fn any_port(transport: Transport) -> PortMatch {
    PortMatch { transport, port: Port::Any }
}

pub fn port(transport: Transport, number: u16) -> PortMatch {
    ports(transport, number, number)
}

pub fn ports(transport: Transport, first: u16, last: u16) -> PortMatch {
    PortMatch { transport, port: Port::Range { first, last } }
}

pub fn named(transport: Transport, name: &str) -> PortMatch {
    PortMatch { transport, port: Port::Named(name.into()) }
}

pub fn rule(peers: Vec<Peer>, ports: Vec<PortMatch>) -> Rule {
    Rule { peers, ports }
}

pub fn policy(id: &str, pods: &str, ingress: Option<Vec<Rule>>, egress: Option<Vec<Rule>>) -> Object {
    let value = NetworkPolicy { pods: selector(pods), ingress, egress };
    let key = PolicyId::new(split(id).0, split(id).1);
    Object::NetworkPolicy(Change { key, value: Some(Arc::new(value)) })
}

pub fn ingress(id: &str, pods: &str, rules: Vec<Rule>) -> Object {
    policy(id, pods, Some(rules), None)
}

pub fn egress(id: &str, pods: &str, rules: Vec<Rule>) -> Object {
    policy(id, pods, None, Some(rules))
}

/// Ports as (name, protocol, number).
pub fn service_value(cluster_ips: &str, ports: &[(&str, Transport, u16)]) -> Service {
    let ports = ports.iter().map(|(name, transport, port)| ServicePort {
        name: (*name).into(),
        transport: *transport,
        port: *port,
        node_port: 0,
    });
    Service {
        created: 0,
        service_type: ServiceType::ClusterIp,
        cluster_ips: ips(cluster_ips),
        external_ips: Vec::new(),
        ingress_ips: Vec::new(),
        source_ranges: Vec::new(),
        ports: ports.collect(),
        affinity_seconds: None,
        internal_traffic_policy: TrafficPolicy::Cluster,
        external_traffic_policy: TrafficPolicy::Cluster,
        health_check_port: None,
        maglev: false,
        untranslated: false,
        publish_not_ready: false,
    }
}

pub fn service(id: &str, cluster_ips: &str, ports: &[(&str, Transport, u16)]) -> Object {
    let value = Some(Arc::new(service_value(cluster_ips, ports)));
    Object::Service(Change { key: service_id(id), value })
}

/// An endpoint on `n1` in the state that three letters say: `r`eady, `s`erving, `t`erminating.
pub fn endpoint(address: &str, state: &str) -> Endpoint {
    Endpoint {
        address: ip(address),
        node: Some("n1".into()),
        ready: state.contains('r'),
        serving: state.contains('s'),
        terminating: state.contains('t'),
        hints: None,
    }
}

pub fn slice(id: &str, of: &str, ports: &[(&str, Transport, u16)], endpoints: Vec<Endpoint>) -> Object {
    let ports = ports.iter().map(|(name, transport, port)| SlicePort {
        name: (*name).into(),
        transport: *transport,
        port: *port,
    });
    let value = EndpointSlice { service: service_id(of), ports: ports.collect(), endpoints };
    Object::Slice(Change { key: SliceId::new(split(id).0, split(id).1), value: Some(Arc::new(value)) })
}

pub fn id_of(object: &Object) -> ObjectId {
    match object {
        Object::Namespace(c) => ObjectId::Namespace(c.key.clone()),
        Object::Node(c) => ObjectId::Node(c.key.clone()),
        Object::Workload(c) => ObjectId::Workload(c.key.clone()),
        Object::Attachment(c) => ObjectId::Attachment(c.key.clone()),
        Object::Service(c) => ObjectId::Service(c.key.clone()),
        Object::Slice(c) => ObjectId::Slice(c.key.clone()),
        Object::NetworkPolicy(c) => ObjectId::NetworkPolicy(c.key.clone()),
        Object::Pool(c) => ObjectId::Pool(c.key.clone()),
        Object::Ranges(c) => ObjectId::Ranges(c.key.clone()),
        Object::OwnAddresses(_) => ObjectId::OwnAddresses,
        Object::Settings(_) => ObjectId::Settings,
    }
}

/// The change that removes an object; `None` for settings, which are never gone.
pub fn gone(object: &Object) -> Option<Object> {
    Some(match object {
        Object::Namespace(c) => Object::Namespace(Change { key: c.key.clone(), value: None }),
        Object::Node(c) => Object::Node(Change { key: c.key.clone(), value: None }),
        Object::Workload(c) => Object::Workload(Change { key: c.key.clone(), value: None }),
        Object::Attachment(c) => Object::Attachment(Change { key: c.key.clone(), value: None }),
        Object::Service(c) => Object::Service(Change { key: c.key.clone(), value: None }),
        Object::Slice(c) => Object::Slice(Change { key: c.key.clone(), value: None }),
        Object::NetworkPolicy(c) => Object::NetworkPolicy(Change { key: c.key.clone(), value: None }),
        Object::Pool(c) => Object::Pool(Change { key: c.key.clone(), value: None }),
        Object::Ranges(c) => Object::Ranges(Change { key: c.key.clone(), value: None }),
        Object::OwnAddresses(_) => Object::OwnAddresses(Vec::new()),
        Object::Settings(_) => return None,
    })
}
