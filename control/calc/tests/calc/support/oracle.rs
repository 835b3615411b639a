//! What the documentation of NetworkPolicy says, asked pod by pod and policy by policy.
//!
//! Shares nothing with the calculation but the model: no index, no sets, no lists.

use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use tortie_model::namespace::Labels;
use tortie_model::node::Node;
use tortie_model::policy::{NetworkPolicy, Peer, Port, PortMatch, Rule};
use tortie_model::service::EndpointSlice;
use tortie_model::workload::{Attachment, Workload};
use tortie_model::{NamespaceName, NodeName, Object, PolicyId, RangesId, SliceId, WorkloadId};
use tortie_policy::form::Direction;

/// A cluster as its objects describe it.
#[derive(Debug)]
pub struct Cluster {
    here: NodeName,
    namespaces: BTreeMap<NamespaceName, Labels>,
    pods: BTreeMap<WorkloadId, Arc<Workload>>,
    attachments: BTreeMap<WorkloadId, Arc<Attachment>>,
    policies: BTreeMap<PolicyId, Arc<NetworkPolicy>>,
    nodes: BTreeMap<NodeName, Arc<Node>>,
    /// Of this node's interfaces, with their networks.
    own: Vec<IpNet>,
    pools: BTreeMap<Arc<str>, IpNet>,
    ranges: BTreeMap<RangesId, Vec<IpNet>>,
    slices: BTreeMap<SliceId, Arc<EndpointSlice>>,
}

impl Cluster {
    /// As node `here` sees it; of several values of one object the last one counts.
    pub fn of(here: &str, objects: &[Object]) -> Self {
        let mut cluster = Self {
            here: here.into(),
            namespaces: BTreeMap::new(),
            pods: BTreeMap::new(),
            attachments: BTreeMap::new(),
            policies: BTreeMap::new(),
            nodes: BTreeMap::new(),
            own: Vec::new(),
            pools: BTreeMap::new(),
            ranges: BTreeMap::new(),
            slices: BTreeMap::new(),
        };
        for object in objects {
            match object {
                Object::Namespace(c) => {
                    set(&mut cluster.namespaces, &c.key, c.value.clone().map(|v| v.labels));
                }
                Object::Workload(c) => set(&mut cluster.pods, &c.key, c.value.clone()),
                Object::Attachment(c) => set(&mut cluster.attachments, &c.key, c.value.clone()),
                Object::NetworkPolicy(c) => set(&mut cluster.policies, &c.key, c.value.clone()),
                Object::Node(c) => set(&mut cluster.nodes, &c.key, c.value.clone()),
                Object::OwnAddresses(addresses) => cluster.own = addresses.clone(),
                Object::Pool(c) => set(&mut cluster.pools, &c.key, c.value.as_ref().map(|pool| pool.cidr)),
                Object::Ranges(c) => set(&mut cluster.ranges, &c.key, c.value.clone()),
                Object::Slice(c) => set(&mut cluster.slices, &c.key, c.value.clone()),
                _ => {}
            }
        }
        cluster
    }

    /// Pods attached to this node.
    pub fn endpoints(&self) -> impl Iterator<Item = &WorkloadId> {
        self.attachments.keys()
    }

    /// The Pod object that belongs to what is attached.
    fn attached(&self, id: &WorkloadId) -> Option<&Workload> {
        let pod = self.pods.get(id).filter(|pod| self.attachments.contains_key(id) && !pod.host_network)?;
        pod.node.as_ref().is_none_or(|node| *node == self.here).then_some(pod)
    }

    /// The addresses by which it is known, without those that are another's.
    fn addresses(&self, id: &WorkloadId) -> Vec<IpAddr> {
        let pod = &self.pods[id];
        let mut addresses = match (self.attached(id), self.attachments.get(id)) {
            (Some(_), Some(attachment)) => attachment.addresses.clone(),
            _ => pod.addresses.clone(),
        };
        addresses.retain(|address| match (self.attached(id), &pod.node) {
            (Some(_), _) => self.is_first(id, *address),
            (None, None) => false,
            (None, Some(node)) if *node != self.here && !self.nodes.contains_key(node) => false,
            (None, Some(_)) => self.is_founded(pod, *address) && self.is_first(id, *address),
        });
        addresses
    }

    /// The prefixes of a Node without those that have an address of its own, of a Node that is as old or older, or of an
    /// interface here, without those that meet one of an older Node, and without the one of all.
    fn prefixes(&self, name: &NodeName) -> Vec<IpNet> {
        let mut by_age: Vec<_> = self.nodes.iter().collect();
        by_age.sort_by_key(|(other, node)| (node.created, *other));
        let mut of_older: Vec<IpNet> = Vec::new();
        for (other, node) in by_age {
            let mut its = self.apart_from_hosts(other, node);
            its.retain(|net| !of_older.iter().any(|older| older.contains(net) || net.contains(older)));
            if other == name {
                return its;
            }
            of_older.append(&mut its);
        }
        Vec::new()
    }

    fn apart_from_hosts(&self, name: &NodeName, node: &Node) -> Vec<IpNet> {
        let hosts = || self.nodes.iter().filter(|(other, it)| *other == name || it.created <= node.created);
        let has_host = |net: &IpNet| hosts().any(|(_, it)| it.addresses.iter().any(|a| net.contains(a)));
        let has_own = |net: &IpNet| {
            *name != self.here
                && self
                    .own
                    .iter()
                    .any(|own| net.contains(&own.addr()) && own.prefix_len() < own.max_prefix_len())
        };
        let is_its = |net: &&IpNet| net.prefix_len() > 0 && !has_host(net) && !has_own(net);
        node.pod_cidrs.iter().filter(is_its).copied().collect()
    }

    /// A pod may have the address: its Node's prefix has it, or a pool, or without any pool of the family its kubelet says so.
    fn is_founded(&self, pod: &Workload, address: IpAddr) -> bool {
        let in_prefix = |node: &NodeName| self.prefixes(node).iter().any(|net| net.contains(&address));
        if pod.node.as_ref().is_some_and(in_prefix) {
            return true;
        }
        let of_servers = |slice: &Arc<EndpointSlice>| {
            slice.service.to_string() == "default/kubernetes"
                && slice.endpoints.iter().any(|it| it.address == address)
        };
        if self.ranges.values().flatten().any(|net| net.contains(&address))
            || self.slices.values().any(of_servers)
        {
            return false;
        }
        let pools: Vec<_> =
            self.pools.values().filter(|net| net.addr().is_ipv6() == address.is_ipv6()).collect();
        match pools.is_empty() {
            true => pod.reported && !self.own.iter().any(|net| net.contains(&address)),
            false => pools.iter().any(|net| net.contains(&address)),
        }
    }

    /// Nobody comes before the pod where addresses are asked for: this node, what is attached here, other nodes, pods
    /// in the prefixes of their nodes, of which several may have it, other pods elsewhere, first those whose kubelets say so; by
    /// name among equals.
    fn is_first(&self, id: &WorkloadId, address: IpAddr) -> bool {
        let has =
            |name: &NodeName| self.nodes.get(name).is_some_and(|node| node.addresses.contains(&address));
        if has(&self.here) || self.own.iter().any(|net| net.addr() == address) {
            return false;
        }
        let attached =
            |(_, attachment): &(&WorkloadId, &Arc<Attachment>)| attachment.addresses.contains(&address);
        if let Some((first, _)) = self.attachments.iter().find(attached) {
            return first == id;
        }
        if self.nodes.keys().any(has) {
            return false;
        }
        let elsewhere = |pod: &&Workload| {
            let is_there = |node: &NodeName| *node != self.here && self.nodes.contains_key(node);
            let is_elsewhere = !pod.host_network && pod.node.as_ref().is_some_and(is_there);
            is_elsewhere && pod.addresses.contains(&address) && self.is_founded(pod, address)
        };
        let of_prefix = |pod: &Workload| {
            pod.node.as_ref().is_some_and(|node| self.prefixes(node).iter().any(|net| net.contains(&address)))
        };
        let mut claims: Vec<_> = self.pods.iter().filter(|(_, pod)| elsewhere(&&***pod)).collect();
        claims.sort_by_key(|(id, pod)| (!pod.reported, *id));
        match claims.iter().any(|(_, pod)| of_prefix(pod)) {
            true => claims.iter().any(|(who, pod)| *who == id && of_prefix(pod)),
            false => claims.first().is_none_or(|(first, _)| *first == id),
        }
    }

    /// "By default, a pod is non-isolated; … it is isolated if any NetworkPolicy both selects the pod and has
    /// the direction in its policyTypes; … the effects of those policies combine additively."
    pub fn admits(
        &self,
        id: &WorkloadId,
        direction: Direction,
        remote: IpAddr,
        protocol: u8,
        port: u16,
    ) -> bool {
        let Some(pod) = self.attached(id) else { return false };
        let selecting = self.policies.iter().filter(|(policy_id, policy)| {
            policy_id.namespace == id.namespace && policy.pods.matches(&pod.labels)
        });
        let rules = selecting.filter_map(|(policy_id, policy)| {
            let rules = match direction {
                Direction::Ingress => policy.ingress.as_ref(),
                Direction::Egress => policy.egress.as_ref(),
            };
            rules.map(|rules| (policy_id, rules))
        });
        let rules: Vec<_> = rules.collect();
        rules.is_empty()
            || rules.iter().any(|(policy_id, rules)| {
                rules.iter().any(|rule| match direction {
                    Direction::Ingress => {
                        let named = |n: &str, t| has_port(pod, n, t, port);
                        self.peer_fits(policy_id, rule, remote)
                            && ports_fit(&rule.ports, protocol, port, &named)
                    }
                    Direction::Egress => self.egress_fits(policy_id, rule, remote, protocol, port),
                })
            })
    }

    /// A named port is one of the destination pod, so it is asked of each pod that can be meant.
    fn egress_fits(&self, id: &PolicyId, rule: &Rule, remote: IpAddr, protocol: u8, port: u16) -> bool {
        let numbers_fit = ports_fit(&rule.ports, protocol, port, &|_, _| false);
        (numbers_fit && self.peer_fits(id, rule, remote))
            || self.pods_at(remote).any(|(pod_id, pod)| {
                let named = |n: &str, t| has_port(pod, n, t, port);
                let meant = rule.peers.is_empty()
                    || rule.peers.iter().any(|peer| match peer {
                        Peer::Pods { .. } => self.selects(id, peer, pod_id, pod),
                        Peer::Block { .. } => in_block(peer, remote),
                    });
                meant && ports_fit(&rule.ports, protocol, port, &named)
            })
    }

    fn peer_fits(&self, id: &PolicyId, rule: &Rule, remote: IpAddr) -> bool {
        rule.peers.is_empty()
            || rule.peers.iter().any(|peer| {
                in_block(peer, remote)
                    || self.pods_at(remote).any(|(pod_id, pod)| self.selects(id, peer, pod_id, pod))
            })
    }

    fn pods_at(&self, address: IpAddr) -> impl Iterator<Item = (&WorkloadId, &Arc<Workload>)> {
        let networked = self.pods.iter().filter(|(_, pod)| !pod.host_network);
        networked.filter(move |(id, _)| self.addresses(id).contains(&address))
    }

    fn selects(&self, policy: &PolicyId, peer: &Peer, id: &WorkloadId, pod: &Workload) -> bool {
        let Peer::Pods { namespaces, pods } = peer else { return false };
        let namespace_fits = match namespaces {
            None => id.namespace == policy.namespace,
            Some(selector) => self.namespaces.get(&id.namespace).is_some_and(|l| selector.matches(l)),
        };
        namespace_fits && pods.matches(&pod.labels)
    }
}

fn set<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, key: &K, value: Option<V>) {
    match value {
        Some(value) => _ = map.insert(key.clone(), value),
        None => _ = map.remove(key),
    }
}

fn in_block(peer: &Peer, address: IpAddr) -> bool {
    match peer {
        Peer::Pods { .. } => false,
        Peer::Block { cidr, except } => {
            cidr.contains(&address) && !except.iter().any(|net| net.contains(&address))
        }
    }
}

fn has_port(pod: &Workload, name: &str, protocol: u8, number: u16) -> bool {
    pod.ports.iter().any(|p| p.name == name && p.transport.number() == protocol && p.port == number)
}

fn ports_fit(ports: &[PortMatch], protocol: u8, number: u16, named: &dyn Fn(&str, u8) -> bool) -> bool {
    ports.is_empty()
        || ports.iter().filter(|port| port.transport.number() == protocol).any(|port| match &port.port {
            Port::Any => true,
            Port::Range { first, last } => (*first..=*last).contains(&number),
            Port::Named(name) => named(name, protocol),
        })
}
