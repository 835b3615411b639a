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
pub use known::{KnownEndpoint, KnownService};

use crate::claims::Claims;
use crate::conflicts::{Conflict, Conflicts, Contested};
use crate::outbox::{Outbox, Phase};
use backends::{Backends, Place};
use foldhash::{HashMap, HashSet};
use frontends::{frontends, source_ranges};
use litemap::LiteMap;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use tortie_intent::{Frontend, Intent, Scope, ServicePort, ServicePortId};
use tortie_model::service::{EndpointSlice, Service, TrafficPolicy};
use tortie_model::workload::Transport;
use tortie_model::{NodeName, ObjectId, ServiceId, SliceId, WorkloadId};

type FrontendKey = (Frontend, Transport);

/// What decides between several who claim one front end: who has the address as its ClusterIP, which the API server gives to
/// one Service alone, while anybody may write any address elsewhere; a Service before a pod; then who is older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    is_unallocated: bool,
    is_pod: bool,
    created: i64,
}

/// One port of a Service.
#[derive(Debug)]
struct Port {
    id: Arc<ServicePortId>,
    /// As if nobody else claimed its front ends; `None`: there is no such port any more.
    wanted: Option<Arc<ServicePort>>,
    claimed: Box<[FrontendKey]>,
    said: Option<Arc<ServicePort>>,
}

/// What is known of one Service, or of the ports of one pod at this node.
#[derive(Debug, Default)]
struct Record {
    service: Option<Arc<Service>>,
    slices: LiteMap<SliceId, Arc<EndpointSlice>>,
    /// Sorted by their names.
    ports: Vec<Port>,
}

impl Record {
    fn is_empty(&self) -> bool {
        self.service.is_none() && self.slices.is_empty() && self.ports.is_empty()
    }

    /// The port of this name, which is made where there is none.
    fn port(&mut self, id: ServicePortId) -> &mut Port {
        let place = self.ports.binary_search_by(|port| (*port.id).cmp(&id)).unwrap_or_else(|place| {
            // Most Services have one.
            self.ports.reserve_exact(1);
            let id = Arc::new(id);
            self.ports.insert(place, Port { id, wanted: None, claimed: Box::default(), said: None });
            place
        });
        &mut self.ports[place]
    }
}

/// A port that is to be said anew.
struct Saying {
    id: Arc<ServicePortId>,
    before: Option<Arc<ServicePort>>,
    now: Option<Arc<ServicePort>>,
}

/// All Services.
#[derive(Debug)]
pub(crate) struct Services {
    here: Place,
    records: HashMap<ServiceId, Record>,
    count: usize,
    service_of: HashMap<SliceId, ServiceId>,
    /// Pods with ports at this node.
    hosted: BTreeMap<WorkloadId, Hosted>,
    dirty: HashSet<ServiceId>,
    /// Every address of the node is claimed by itself as well: whoever wants just that one meets who wants all.
    claims: Claims<FrontendKey, Arc<ServicePortId>, Rank>,
    health: BTreeMap<ServiceId, HealthCheck>,
    health_changed: bool,
    joins: u64,
}

impl Services {
    /// As the node `here` sees them.
    pub(crate) fn new(here: NodeName) -> Self {
        Self {
            here: Place { node: here, zone: None, addresses: Vec::new(), own: Vec::new() },
            records: HashMap::default(),
            count: 0,
            service_of: HashMap::default(),
            hosted: BTreeMap::new(),
            dirty: HashSet::default(),
            claims: Claims::default(),
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
        self.count
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
            self.dirty.extend(self.records.keys().cloned());
            self.dirty.extend(self.hosted.keys().map(ServiceId::of_pod));
        }
    }

    /// This node's interfaces have these addresses from now on: ports of the node are there too.
    pub(crate) fn set_own(&mut self, addresses: Vec<IpAddr>) {
        if self.here.own == addresses {
            return;
        }
        self.here.own = addresses;
        let at_node = |record: &Record| {
            record.service.iter().flat_map(|service| &service.ports).any(|port| port.node_port != 0)
        };
        let services = self.records.iter().filter(|(_, record)| at_node(record));
        self.dirty.extend(services.map(|(id, _)| id.clone()));
        self.dirty.extend(self.hosted.keys().map(ServiceId::of_pod));
    }

    /// A Service is as given from now on.
    pub(crate) fn set_service(&mut self, id: ServiceId, service: Option<Arc<Service>>) {
        let record = self.records.entry(id.clone()).or_default();
        if record.service != service {
            self.count += usize::from(service.is_some());
            self.count -= usize::from(record.service.is_some());
            record.service = service;
            self.dirty.insert(id);
        } else if record.is_empty() {
            self.records.remove(&id);
        }
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
        let service = slice.as_ref().map(|slice| slice.service.clone());
        let before = match &service {
            Some(service) => self.service_of.insert(id.clone(), service.clone()),
            None => self.service_of.remove(&id),
        };
        if let Some(before) = before.filter(|before| Some(before) != service.as_ref())
            && let Some(record) = self.records.get_mut(&before)
        {
            record.slices.remove(&id);
            self.dirty.insert(before);
        }
        if let Some((service, slice)) = service.zip(slice) {
            let slices = &mut self.records.entry(service.clone()).or_default().slices;
            if slices.get(&id) != Some(&slice) {
                if slices.is_empty() {
                    // Most Services have one, or one of each family.
                    *slices = LiteMap::with_capacity(1);
                }
                slices.insert(id, slice);
                self.dirty.insert(service);
            }
        }
    }

    /// Ends a flush: says what changed and reports conflicts.
    pub(crate) fn finish(&mut self, out: &mut Outbox, conflicts: &mut Conflicts) {
        let mut contested = BTreeSet::new();
        // What is said does not depend on the order in which it was heard.
        let mut affected: BTreeSet<ServiceId> = std::mem::take(&mut self.dirty).into_iter().collect();
        for service in &affected {
            self.join(service, &mut contested, conflicts);
        }
        for key in &contested {
            affected.extend(self.claims.of(key).map(|(id, _)| id.service.clone()));
            self.report(key, conflicts);
        }
        let (mut sayings, mut leaving) = (Vec::with_capacity(affected.len()), Vec::new());
        for service in affected {
            let Some(record) = self.records.get(&service) else { continue };
            let saying =
                |port: &Port| Saying { id: port.id.clone(), before: port.said.clone(), now: self.held(port) };
            sayings.extend(record.ports.iter().map(saying).filter(|saying| saying.before != saying.now));
            if record.service.is_none() || record.ports.iter().any(|port| port.wanted.is_none()) {
                leaving.push(service);
            }
        }
        for (id, without) in releases(&sayings) {
            self.say(&id, without, Phase::ServiceRelease, out);
        }
        for Saying { id, now, .. } in sayings {
            let phase = if now.is_some() { Phase::Service } else { Phase::ServiceRemove };
            self.say(&id, now, phase, out);
        }
        for service in leaving {
            self.forget(service);
        }
    }

    fn say(
        &mut self,
        id: &Arc<ServicePortId>,
        now: Option<Arc<ServicePort>>,
        phase: Phase,
        out: &mut Outbox,
    ) {
        let ports = self.records.get_mut(&id.service).into_iter().flat_map(|record| &mut record.ports);
        if let Some(port) = ports.into_iter().find(|port| port.id == *id)
            && port.said != now
        {
            port.said.clone_from(&now);
            out.push(phase, Intent::Service(id.clone(), now));
        }
    }

    /// Nothing is kept of what is gone.
    fn forget(&mut self, service: ServiceId) {
        if let Entry::Occupied(mut record) = self.records.entry(service) {
            record.get_mut().ports.retain(|port| port.wanted.is_some() || port.said.is_some());
            if record.get().is_empty() {
                record.remove();
            }
        }
    }

    /// Makes one Service's ports anew. Where others claim what it claims or has claimed, that is `contested`.
    fn join(
        &mut self,
        service: &ServiceId,
        contested: &mut BTreeSet<FrontendKey>,
        conflicts: &mut Conflicts,
    ) {
        self.joins = self.joins.wrapping_add(1);
        let mut backends = Backends::new(&self.here);
        let pod = service.pod();
        let is_pod = pod.is_some();
        let hosted = pod.as_ref().and_then(|pod| self.hosted.get(pod));
        let record = self.records.entry(service.clone()).or_default();
        let (made, created) = match (&record.service, hosted) {
            (Some(value), _) => (make(service, value, &record.slices, &mut backends), value.created),
            (None, Some(hosted)) => (hosted.ports(service, &self.here), hosted.created()),
            (None, None) => (BTreeMap::new(), 0),
        };
        let rank =
            |scope: Option<&Scope>| Rank { is_unallocated: scope != Some(&Scope::Cluster), is_pod, created };
        if let Some(pod) = &pod {
            host_ports::report(pod, hosted, &self.here, conflicts);
        }
        let health = record.service.as_ref().and_then(|value| health::of(value, &made));
        backends.report(service, conflicts);
        report_orphans(service, record, conflicts);
        let mut claim = |port: &mut Port, keys: BTreeMap<FrontendKey, Rank>| {
            for key in self.claims.set(&port.id, &mut port.claimed, keys) {
                if self.claims.of(&key).any(|(id, _)| *id != port.id) {
                    contested.insert(key);
                }
            }
        };
        for port in record.ports.iter_mut().filter(|port| !made.contains_key(&*port.id)) {
            claim(port, BTreeMap::new());
            port.wanted = None;
        }
        for (id, mut wanted) in made {
            let port = record.port(id);
            if wanted.backends.is_empty()
                && is_of_the_api_server(service)
                && let Some(last) = &port.wanted
            {
                wanted.backends.clone_from(&last.backends);
            }
            let key = |at| ((at, port.id.transport), rank(wanted.frontends.get(&at)));
            let keys = self.here.claimed(&wanted).map(key).collect();
            claim(port, keys);
            port.wanted = Some(Arc::new(wanted));
        }
        self.set_health(service, health);
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

    /// Of those of one rank, the first by name has it.
    fn winner(&self, key: &FrontendKey) -> Option<&Arc<ServicePortId>> {
        self.claims.of(key).min_by_key(|(id, rank)| (**rank, *id)).map(|(id, _)| id)
    }

    /// A port with the front ends that are its own.
    fn held(&self, port: &Port) -> Option<Arc<ServicePort>> {
        let wanted = port.wanted.as_ref()?;
        let held = |frontend: &Frontend| self.winner(&(*frontend, port.id.transport)) == Some(&port.id);
        if wanted.frontends.keys().all(held) {
            return Some(Arc::clone(wanted));
        }
        let mut without = ServicePort::clone(wanted);
        without.frontends.retain(|frontend, _| held(frontend));
        Some(Arc::new(without))
    }

    /// What a port wants.
    fn wanted(&self, id: &Arc<ServicePortId>) -> Option<&Arc<ServicePort>> {
        self.records.get(&id.service)?.ports.iter().find(|port| port.id == *id)?.wanted.as_ref()
    }

    fn report(&self, key: &FrontendKey, conflicts: &mut Conflicts) {
        let winner = self.winner(key);
        let name = |id: &Arc<ServicePortId>| match id.service.pod() {
            Some(pod) => ObjectId::Workload(pod),
            None => ObjectId::Service(id.service.clone()),
        };
        // Who wants every address of the node is reported with that, unless somebody wants just this one.
        let wants = |(id, _): (&Arc<ServicePortId>, _)| {
            self.wanted(id).is_some_and(|port| port.frontends.contains_key(&key.0))
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

/// Slices may come before their Service: said while it lasts.
fn report_orphans(service: &ServiceId, record: &Record, conflicts: &mut Conflicts) {
    let key = Contested::NoService(service.clone());
    if record.service.is_some() || record.slices.is_empty() {
        conflicts.remove(&key);
    } else {
        let losers = record.slices.keys().cloned().map(ObjectId::Slice).collect();
        conflicts.insert(key, Conflict { winner: None, losers });
    }
}

/// Ports that lose a front end to another one, as they are without it: said before the other takes it.
fn releases(sayings: &[Saying]) -> Vec<(Arc<ServicePortId>, Option<Arc<ServicePort>>)> {
    let had = || sayings.iter().filter_map(|saying| Some((saying, saying.before.as_ref()?)));
    if had().next().is_none() {
        return Vec::new();
    }
    let mut taken: BTreeMap<FrontendKey, &Arc<ServicePortId>> = BTreeMap::new();
    for Saying { id, now, .. } in sayings {
        let frontends = now.iter().flat_map(|port| port.frontends.keys());
        taken.extend(frontends.map(|frontend| ((*frontend, id.transport), id)));
    }
    let mut releases = Vec::new();
    for (Saying { id, now, .. }, said) in had() {
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

/// Whoever reaches the API server through its Service could never hear of a new back end if the last one went: it stays
/// until there is another.
pub(crate) fn is_of_the_api_server(service: &ServiceId) -> bool {
    service.namespace.as_str() == "default" && &*service.name == "kubernetes"
}

fn make(
    id: &ServiceId,
    service: &Service,
    slices: &LiteMap<SliceId, Arc<EndpointSlice>>,
    backends: &mut Backends<'_>,
) -> BTreeMap<ServicePortId, ServicePort> {
    let mut made: BTreeMap<ServicePortId, ServicePort> = BTreeMap::new();
    for port in &service.ports {
        let id = ServicePortId { service: id.clone(), port: port.name.clone(), transport: port.transport };
        let made = made.entry(id).or_insert_with(|| ServicePort {
            frontends: LiteMap::new(),
            backends: backends.of(service, port, slices.iter()),
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
