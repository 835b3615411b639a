//! Services joined with their EndpointSlices.
//!
//! Owns: front ends, back ends and the conflicts between Services. Does not: choose back ends.
//! Invariant: a front end belongs to one Service port at any moment; the cost of a change is that of its Service.

mod backends;
mod frontends;
mod health;
mod host_ports;
mod known;

pub use health::HealthCheck;
pub(crate) use host_ports::Hosted;
pub use known::KnownEndpoint;

use crate::claims::Claims;
use crate::conflicts::{Conflict, Conflicts, Contested};
use crate::outbox::{Outbox, Phase};
use backends::{Backends, Place};
use frontends::{frontends, source_ranges};
use litemap::LiteMap;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use tortie_intent::{Frontend, Intent, ServicePort, ServicePortId};
use tortie_model::service::{EndpointSlice, Service, TrafficPolicy};
use tortie_model::workload::Transport;
use tortie_model::{NodeName, ObjectId, ServiceId, SliceId, WorkloadId};

type FrontendKey = (Frontend, Transport);

/// What decides between several who claim one front end: a Service has it before a pod, then who is older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    is_pod: bool,
    created: i64,
}

/// All Services.
#[derive(Debug)]
pub(crate) struct Services {
    here: Place,
    services: BTreeMap<ServiceId, Arc<Service>>,
    slices: BTreeMap<ServiceId, LiteMap<SliceId, Arc<EndpointSlice>>>,
    service_of: BTreeMap<SliceId, ServiceId>,
    /// Pods with ports at this node.
    hosted: BTreeMap<WorkloadId, Hosted>,
    dirty: BTreeSet<ServiceId>,
    /// As if nobody else claimed their front ends.
    wanted: BTreeMap<Arc<ServicePortId>, Arc<ServicePort>>,
    /// Every address of the node is claimed by itself as well: whoever wants just that one meets who wants all.
    claims: Claims<FrontendKey, Arc<ServicePortId>, Rank>,
    said: BTreeMap<Arc<ServicePortId>, Arc<ServicePort>>,
    health: BTreeMap<ServiceId, HealthCheck>,
    health_changed: bool,
    joins: u64,
}

impl Services {
    /// As the node `here` sees them.
    pub(crate) fn new(here: NodeName) -> Self {
        Self {
            here: Place { node: here, zone: None, addresses: Vec::new(), own: Vec::new() },
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            service_of: BTreeMap::new(),
            hosted: BTreeMap::new(),
            dirty: BTreeSet::new(),
            wanted: BTreeMap::new(),
            claims: Claims::default(),
            said: BTreeMap::new(),
            health: BTreeMap::new(),
            health_changed: false,
            joins: 0,
        }
    }

    /// What load balancers may ask of this node, when that has changed since it was last asked.
    pub(crate) fn take_health(&mut self) -> Option<&BTreeMap<ServiceId, HealthCheck>> {
        std::mem::take(&mut self.health_changed).then_some(&self.health)
    }

    /// How many Services there are.
    pub(crate) fn count(&self) -> usize {
        self.services.len()
    }

    /// Joins of a Service with its slices so far.
    pub(crate) fn joins(&self) -> u64 {
        self.joins
    }

    /// This node is in this zone and has these addresses from now on; topology hints and source ranges of all
    /// Services are read in that light.
    pub(crate) fn set_place(&mut self, zone: Option<Arc<str>>, addresses: Vec<IpAddr>) {
        let here = Place { zone, addresses, own: self.here.own.clone(), node: self.here.node.clone() };
        if self.here != here {
            self.here = here;
            self.dirty.extend(self.services.keys().cloned());
            self.dirty.extend(self.hosted.keys().map(ServiceId::of_pod));
        }
    }

    /// This node's interfaces have these addresses from now on: ports of the node are there too.
    pub(crate) fn set_own(&mut self, addresses: Vec<IpAddr>) {
        if self.here.own == addresses {
            return;
        }
        self.here.own = addresses;
        let at_node = |service: &Arc<Service>| service.ports.iter().any(|port| port.node_port != 0);
        let services = self.services.iter().filter(|(_, service)| at_node(service));
        self.dirty.extend(services.map(|(id, _)| id.clone()));
        self.dirty.extend(self.hosted.keys().map(ServiceId::of_pod));
    }

    /// A Service is as given from now on.
    pub(crate) fn set_service(&mut self, id: ServiceId, service: Option<Arc<Service>>) {
        if self.services.get(&id) == service.as_ref() {
            return;
        }
        match service {
            Some(service) => _ = self.services.insert(id.clone(), service),
            None => _ = self.services.remove(&id),
        }
        self.dirty.insert(id);
    }

    /// A pod has these ports at this node from now on.
    pub(crate) fn set_hosted(&mut self, pod: &WorkloadId, hosted: Option<Hosted>) {
        if self.hosted.get(pod) == hosted.as_ref() {
            return;
        }
        match hosted {
            Some(hosted) => _ = self.hosted.insert(pod.clone(), hosted),
            None => _ = self.hosted.remove(pod),
        }
        self.dirty.insert(ServiceId::of_pod(pod));
    }

    /// A slice is as given from now on, whether its Service is known or not.
    pub(crate) fn set_slice(&mut self, id: SliceId, slice: Option<Arc<EndpointSlice>>) {
        let old = self.service_of.get(&id).cloned();
        let same = old.as_ref().and_then(|service| self.slices.get(service)?.get(&id)) == slice.as_ref();
        if same {
            return;
        }
        if let Some(old) = old {
            self.service_of.remove(&id);
            if let Some(slices) = self.slices.get_mut(&old) {
                slices.remove(&id);
                if slices.is_empty() {
                    self.slices.remove(&old);
                }
            }
            self.dirty.insert(old);
        }
        if let Some(slice) = slice {
            self.dirty.insert(slice.service.clone());
            self.service_of.insert(id.clone(), slice.service.clone());
            let slices = self.slices.entry(slice.service.clone());
            // Most Services have one, or one of each family.
            slices.or_insert_with(|| LiteMap::with_capacity(1)).insert(id, slice);
        }
    }

    /// Ends a flush: says what changed and reports conflicts.
    pub(crate) fn finish(&mut self, out: &mut Outbox, conflicts: &mut Conflicts) {
        let mut ports = BTreeSet::new();
        let mut contested = BTreeSet::new();
        for service in std::mem::take(&mut self.dirty) {
            self.join(&service, &mut ports, &mut contested, conflicts);
        }
        for key in &contested {
            ports.extend(self.claims.of(key).map(|(id, _)| id.clone()));
            self.report(key, conflicts);
        }
        let changed: BTreeMap<Arc<ServicePortId>, Option<Arc<ServicePort>>> = ports
            .into_iter()
            .map(|id| (id.clone(), self.held(&id)))
            .filter(|(id, now)| self.said.get(id) != now.as_ref())
            .collect();
        for (id, without) in self.releases(&changed) {
            self.say(id, without, Phase::ServiceRelease, out);
        }
        for (id, now) in changed {
            let phase = if now.is_some() { Phase::Service } else { Phase::ServiceRemove };
            self.say(id, now, phase, out);
        }
    }

    fn say(&mut self, id: Arc<ServicePortId>, now: Option<Arc<ServicePort>>, phase: Phase, out: &mut Outbox) {
        if self.said.get(&id) == now.as_ref() {
            return;
        }
        match &now {
            Some(port) => _ = self.said.insert(id.clone(), port.clone()),
            None => _ = self.said.remove(&id),
        }
        out.push(phase, Intent::Service(id, now));
    }

    /// Makes one Service's ports anew.
    fn join(
        &mut self,
        service: &ServiceId,
        ports: &mut BTreeSet<Arc<ServicePortId>>,
        contested: &mut BTreeSet<FrontendKey>,
        conflicts: &mut Conflicts,
    ) {
        self.joins = self.joins.wrapping_add(1);
        let mut backends = Backends::new(&self.here);
        let pod = service.pod();
        let is_pod = pod.is_some();
        let hosted = pod.as_ref().and_then(|pod| self.hosted.get(pod));
        let (made, created) = match (self.services.get(service), hosted) {
            (Some(value), _) => {
                (make(service, value, self.slices.get(service), &mut backends), value.created)
            }
            (None, Some(hosted)) => (hosted.ports(service, &self.here), hosted.created()),
            (None, None) => (BTreeMap::new(), 0),
        };
        let rank = Rank { is_pod, created };
        if let Some(pod) = &pod {
            host_ports::report(pod, hosted, &self.here, conflicts);
        }
        let health = self.services.get(service).and_then(|value| health::of(value, &made));
        backends.report(service, conflicts);
        self.set_health(service, health);
        self.report_orphans(service, conflicts);
        let old: Vec<Arc<ServicePortId>> = self.ports_of(service).cloned().collect();
        for id in old.iter().filter(|id| !made.contains_key(&***id)) {
            contested.extend(self.claims.set(id, BTreeMap::new()));
            self.wanted.remove(id);
            ports.insert(id.clone());
        }
        for (id, mut port) in made {
            // One name for all who know it.
            let known = old.iter().find(|known| ***known == id).cloned();
            let id = known.unwrap_or_else(|| Arc::new(id));
            if port.backends.is_empty()
                && is_of_the_api_server(service)
                && let Some(last) = self.wanted.get(&id)
            {
                port.backends.clone_from(&last.backends);
            }
            let keys = self.here.claimed(&port).map(|frontend| ((frontend, id.transport), rank)).collect();
            contested.extend(self.claims.set(&id, keys));
            self.wanted.insert(id.clone(), Arc::new(port));
            ports.insert(id);
        }
    }

    fn set_health(&mut self, service: &ServiceId, health: Option<HealthCheck>) {
        if self.health.get(service).copied() == health {
            return;
        }
        match health {
            Some(health) => _ = self.health.insert(service.clone(), health),
            None => _ = self.health.remove(service),
        }
        self.health_changed = true;
    }

    /// Slices may come before their Service: said while it lasts.
    fn report_orphans(&self, service: &ServiceId, conflicts: &mut Conflicts) {
        let key = Contested::NoService(service.clone());
        match self.slices.get(service) {
            Some(slices) if !self.services.contains_key(service) => {
                let losers = slices.keys().cloned().map(ObjectId::Slice).collect();
                conflicts.insert(key, Conflict { winner: None, losers });
            }
            _ => _ = conflicts.remove(&key),
        }
    }

    fn ports_of(&self, service: &ServiceId) -> impl Iterator<Item = &Arc<ServicePortId>> {
        let first =
            ServicePortId { service: service.clone(), port: String::new(), transport: Transport::Tcp };
        self.wanted.range(first..).map(|(id, _)| id).take_while(move |id| id.service == *service)
    }

    /// Of those of one rank, the first by name has it.
    fn winner(&self, key: &FrontendKey) -> Option<&Arc<ServicePortId>> {
        self.claims.of(key).min_by_key(|(id, rank)| (**rank, *id)).map(|(id, _)| id)
    }

    /// A port with the front ends that are its own.
    fn held(&self, id: &Arc<ServicePortId>) -> Option<Arc<ServicePort>> {
        let wanted = self.wanted.get(id)?;
        let held = |frontend: &Frontend| self.winner(&(*frontend, id.transport)) == Some(id);
        if wanted.frontends.keys().all(held) {
            return Some(Arc::clone(wanted));
        }
        let mut port = ServicePort::clone(wanted);
        port.frontends.retain(|frontend, _| held(frontend));
        Some(Arc::new(port))
    }

    /// Ports that lose a front end to another one, as they are without it: said before the other takes it.
    fn releases(
        &self,
        changed: &BTreeMap<Arc<ServicePortId>, Option<Arc<ServicePort>>>,
    ) -> Vec<(Arc<ServicePortId>, Option<Arc<ServicePort>>)> {
        let mut taken: BTreeMap<FrontendKey, &Arc<ServicePortId>> = BTreeMap::new();
        // At a start nobody has anything to lose.
        for (id, port) in changed.iter().filter(|_| !self.said.is_empty()) {
            let frontends = port.iter().flat_map(|port| port.frontends.keys());
            taken.extend(frontends.map(|frontend| ((*frontend, id.transport), id)));
        }
        let mut releases = Vec::new();
        for (id, now) in changed {
            let Some(said) = self.said.get(id) else { continue };
            let lost = |f: &Frontend| taken.get(&(*f, id.transport)).is_some_and(|taker| *taker != id);
            if said.frontends.keys().any(lost) {
                let frontends =
                    said.frontends.iter().filter(|(f, _)| !lost(f)).map(|(f, scope)| (*f, *scope)).collect();
                let without =
                    now.as_ref().map(|_| Arc::new(ServicePort { frontends, ..ServicePort::clone(said) }));
                releases.push((id.clone(), without));
            }
        }
        releases
    }

    fn report(&self, key: &FrontendKey, conflicts: &mut Conflicts) {
        let winner = self.winner(key);
        let name = |id: &Arc<ServicePortId>| match id.service.pod() {
            Some(pod) => ObjectId::Workload(pod),
            None => ObjectId::Service(id.service.clone()),
        };
        // Who wants every address of the node is reported with that, unless somebody wants just this one.
        let wants = |(id, _): (&Arc<ServicePortId>, _)| {
            self.wanted.get(id).is_some_and(|port| port.frontends.contains_key(&key.0))
        };
        let is_wanted = self.claims.of(key).any(wants);
        let others = self.claims.of(key).map(|(id, _)| id).filter(|id| Some(*id) != winner);
        let losers: Vec<ObjectId> = others.map(name).collect();
        let winner = winner.map(name);
        let contested = Contested::Frontend(key.0, key.1);
        match losers.is_empty() || !is_wanted {
            true => _ = conflicts.remove(&contested),
            false => _ = conflicts.insert(contested, Conflict { winner, losers }),
        }
    }
}

/// Whoever reaches the API server through its Service could never hear of a new back end if the last one went: it stays
/// until there is another.
fn is_of_the_api_server(service: &ServiceId) -> bool {
    service.namespace.as_str() == "default" && &*service.name == "kubernetes"
}

fn make(
    id: &ServiceId,
    service: &Service,
    slices: Option<&LiteMap<SliceId, Arc<EndpointSlice>>>,
    backends: &mut Backends<'_>,
) -> BTreeMap<ServicePortId, ServicePort> {
    let mut made: BTreeMap<ServicePortId, ServicePort> = BTreeMap::new();
    for port in &service.ports {
        let id = ServicePortId { service: id.clone(), port: port.name.clone(), transport: port.transport };
        let made = made.entry(id).or_insert_with(|| ServicePort {
            frontends: LiteMap::new(),
            backends: backends.of(service, port, slices.into_iter().flatten()),
            internal_local: service.internal_traffic_policy == TrafficPolicy::Local,
            external_local: service.external_traffic_policy == TrafficPolicy::Local,
            source_ranges: source_ranges(service, &backends.here().addresses),
            affinity_seconds: service.affinity_seconds,
            maglev: service.maglev,
            untranslated: service.untranslated,
            service_type: service.service_type,
        });
        made.frontends.extend(frontends(service, port));
    }
    made
}
