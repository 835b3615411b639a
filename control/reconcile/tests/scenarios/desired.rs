//! Desired states, and the intents that lead from one to another in the order the contract promises.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tortie_intent::{
    Backend, BackendState, Endpoint, Frontend, Intent, List, ListId, Route, Rules, Scope, ServicePort,
    ServicePortId, SetChange, SetId,
};
use tortie_model::ServiceId;
use tortie_model::WorkloadId;
use tortie_model::workload::Transport;
use tortie_policy::form::{Action, Clause, Direction, Origin, PortRange, Protocol, Rule};

#[derive(Clone, Default)]
pub struct Desired {
    pub sets: BTreeMap<u32, BTreeSet<&'static str>>,
    /// By number: the set that may come in, and the port.
    pub lists: BTreeMap<u32, (u32, u16)>,
    /// By name: address, incarnation, ingress list.
    pub endpoints: BTreeMap<&'static str, (&'static str, &'static str, Option<u32>)>,
    pub routes: BTreeMap<&'static str, Route>,
    /// By name: back ends.
    pub services: BTreeMap<&'static str, Vec<&'static str>>,
}

pub fn workload(name: &str) -> WorkloadId {
    WorkloadId::new("shop", name)
}

fn service(name: &str) -> ServicePortId {
    ServicePortId { service: ServiceId::new("shop", name), port: String::new(), transport: Transport::Tcp }
}

/// A rule of a policy that lets in whom all of `remote` say, on one TCP port.
pub fn rule(policy: &str, number: u32, remote: Vec<Clause>, port: u16) -> Rule {
    Rule {
        action: Action::Allow,
        family: None,
        protocol: Protocol::Is(6),
        remote,
        destination_ports: vec![PortRange { first: port, last: port }],
        not_destination_ports: Vec::new(),
        source_ports: Vec::new(),
        not_source_ports: Vec::new(),
        icmp: None,
        origin: Arc::new(Origin {
            tier: "default".into(),
            policy: format!("NetworkPolicy shop/{policy}"),
            rule: number,
            ..Origin::default()
        }),
    }
}

fn list(set: SetId, port: u16) -> List {
    let remote = vec![Clause { sets: vec![set], negated: false }];
    let rules = vec![rule(&port.to_string(), 0, remote, port)];
    let policies = vec![format!("NetworkPolicy shop/{port}")];
    List { direction: Direction::Ingress, policies, rules, default: Action::Deny }
}

/// A workload that no policy selects.
pub fn endpoint(name: &str, address: &str) -> Endpoint {
    Endpoint {
        interface: format!("cali{name}"),
        mac: [2, 0, 0, 0, 0, 1],
        host_mac: [0xee; 6],
        addresses: vec![address.parse().unwrap()],
        container_id: "c1".to_owned(),
        ingress: Rules::AllowAll,
        egress: Rules::AllowAll,
    }
}

impl Desired {
    /// From `before` to `self`. Ids of sets and lists are those of one process: `shift` moves them.
    pub fn since(&self, before: &Self, shift: u32) -> Vec<Intent> {
        let mut intents = Vec::new();
        for (id, members) in &self.sets {
            let old = before.sets.get(id);
            if old.is_none() {
                intents.push(Intent::Set(SetId(id + shift), SetChange::Create));
            }
            let old = old.cloned().unwrap_or_default();
            let parse = |set: Vec<&&str>| set.iter().map(|m| m.parse().unwrap()).collect::<Vec<_>>();
            let add = parse(members.difference(&old).collect());
            let remove = parse(old.difference(members).collect());
            if !add.is_empty() || !remove.is_empty() {
                intents.push(Intent::Set(SetId(id + shift), SetChange::Update { add, remove }));
            }
        }
        for (id, (set, port)) in &self.lists {
            if before.lists.get(id) != Some(&(*set, *port)) {
                let list = Arc::new(list(SetId(set + shift), *port));
                intents.push(Intent::List(ListId(id + shift), Some(list)));
            }
        }
        self.endpoints_since(before, shift, &mut intents);
        let gone = |new: bool| !new;
        intents.extend(
            before
                .lists
                .keys()
                .filter(|id| gone(self.lists.contains_key(id)))
                .map(|id| Intent::List(ListId(id + shift), None)),
        );
        intents.extend(
            before
                .sets
                .keys()
                .filter(|id| gone(self.sets.contains_key(id)))
                .map(|id| Intent::Set(SetId(id + shift), SetChange::Remove)),
        );
        self.routes_and_services_since(before, &mut intents);
        intents
    }

    fn endpoints_since(&self, before: &Self, shift: u32, intents: &mut Vec<Intent>) {
        for (name, wanted) in &self.endpoints {
            if before.endpoints.get(name) != Some(wanted) {
                let (address, incarnation, ingress) = wanted;
                let value = Endpoint {
                    container_id: (*incarnation).to_owned(),
                    ingress: ingress.map_or(Rules::AllowAll, |id| Rules::List(ListId(id + shift))),
                    ..endpoint(name, address)
                };
                intents.push(Intent::Endpoint(workload(name), Some(value)));
            }
        }
        let gone = before.endpoints.keys().filter(|name| !self.endpoints.contains_key(*name));
        intents.extend(gone.map(|name| Intent::Endpoint(workload(name), None)));
    }

    fn routes_and_services_since(&self, before: &Self, intents: &mut Vec<Intent>) {
        for (net, route) in &self.routes {
            if before.routes.get(net) != Some(route) {
                intents.push(Intent::Route(net.parse().unwrap(), Some(route.clone())));
            }
        }
        let gone = before.routes.keys().filter(|net| !self.routes.contains_key(*net));
        intents.extend(gone.map(|net| Intent::Route(net.parse().unwrap(), None)));
        for (name, backends) in &self.services {
            if before.services.get(name) != Some(backends) {
                intents
                    .push(Intent::Service(service(name).into(), Some(service_port(name, backends).into())));
            }
        }
        let gone = before.services.keys().filter(|name| !self.services.contains_key(*name));
        intents.extend(gone.map(|name| Intent::Service(service(name).into(), None)));
    }
}

fn service_port(name: &str, backends: &[&str]) -> ServicePort {
    let backend = |address: &&str| Backend {
        address: address.parse().unwrap(),
        port: 80,
        local: address.ends_with(".2"),
        node: None,
        state: BackendState::Ready,
        near: true,
    };
    let vip = format!("10.96.0.{}", name.len());
    // The clients that a load balancer serves change with the back ends.
    let balancer = format!("203.0.113.{}", name.len());
    let clients = format!("192.0.2.{}/32", backends.len());
    ServicePort {
        frontends: [
            (Frontend { address: vip.parse().unwrap(), port: 80 }, Scope::Cluster),
            (Frontend { address: balancer.parse().unwrap(), port: 80 }, Scope::LoadBalancer),
        ]
        .into_iter()
        .collect(),
        backends: backends.iter().map(backend).collect(),
        internal_local: false,
        external_local: false,
        source_ranges: [clients.parse().unwrap()].into(),
        // Which comes and goes with the back ends.
        affinity_seconds: (backends.len() == 2).then_some(600),
        maglev: name != "s",
        untranslated: false,
        service_type: tortie_model::service::ServiceType::ClusterIp,
    }
}
