//! From what the cluster is to what this node's data plane must do: incremental, pure, synchronous.
//!
//! Owns: who is selected, which addresses sets have, which rules lists have, whose addresses are whose, which
//! back ends a Service has. Does not: do I/O, read time, spawn, know any kernel.
//! Invariant: what was said, folded together, depends on the objects alone and not on the order or the batches
//! they came in (ids apart, which are of one process); the guarantees of `tortie_intent` hold after every intent.
#![forbid(unsafe_code)]

mod claims;
mod conflicts;
mod endpoints;
mod index;
mod lists;
mod origins;
mod outbox;
mod pods;
mod policies;
mod pools;
mod prefixes;
mod query;
mod routes;
mod rules;
mod services;
mod sets;
mod wide;

pub use conflicts::{Conflict, Conflicts, Contested};
pub use services::{HealthCheck, KnownEndpoint, KnownService};

use endpoints::{Endpoints, Sources};
use foldhash::fast::RandomState;
use indexmap::IndexMap;
use ipnet::IpNet;
use lists::Lists;
use outbox::{Outbox, Phase};
use pods::Pods;
use policies::Policies;
use pools::Pools;
use routes::Routes;
use services::{Hosted, Services};
use sets::{Facts, Sets};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use tortie_intent::Intent;
use tortie_model::service::EndpointSlice;
use tortie_model::settings::Settings;
use tortie_model::workload::Workload;
use tortie_model::{NodeName, Object, ObjectId, ServiceId, WorkloadId};

/// The label of a Node that says where it is.
const ZONE: &str = "topology.kubernetes.io/zone";

/// How much was done since the start; tests hold it against bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Evaluations of a selector on a pod.
    pub evaluations: u64,
    /// Rule lists made from policies.
    pub lists: u64,
    /// Services joined with their slices.
    pub services: u64,
}

/// How many objects are known, as of the last flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Nodes.
    pub nodes: usize,
    /// Pods of all nodes.
    pub workloads: usize,
    /// Policies.
    pub policies: usize,
    /// Services.
    pub services: usize,
}

/// The calculation of one node.
#[derive(Debug)]
pub struct Calc {
    here: NodeName,
    /// In the order of their first change since the last flush.
    pending: IndexMap<ObjectId, Object, RandomState>,
    sync: Sync,
    settings: Option<Box<Settings>>,
    pods: Pods,
    sets: Sets,
    policies: Policies,
    lists: Lists,
    endpoints: Endpoints,
    routes: Routes,
    pools: Pools,
    services: Services,
    conflicts: Conflicts,
}

/// Whether everything the datastore held at the start has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sync {
    Not,
    Unsaid,
    Said,
}

impl Calc {
    /// For the node of this name, knowing nothing.
    pub fn new(node: NodeName) -> Self {
        Self {
            pending: IndexMap::default(),
            sync: Sync::Not,
            settings: None,
            pods: Pods::default(),
            sets: Sets::default(),
            policies: Policies::default(),
            lists: Lists::default(),
            endpoints: Endpoints::default(),
            routes: Routes::new(node.clone()),
            pools: Pools::default(),
            services: Services::new(node.clone()),
            conflicts: Conflicts::new(),
            here: node,
        }
    }

    /// Takes in a change. Of several changes of one object between two flushes the last one counts.
    pub fn apply(&mut self, object: &Object) {
        self.pending.insert(id_of(object), object.clone());
    }

    /// The datastore has said everything it held at the start.
    pub fn in_sync(&mut self) {
        if self.sync == Sync::Not {
            self.sync = Sync::Unsaid;
        }
    }

    /// Says what changed since the last flush. Before [`Calc::in_sync`] it says nothing: half of the policies
    /// would be an opening, and half of the pods a removal.
    pub fn flush(&mut self, out: &mut impl FnMut(Intent)) {
        if self.sync == Sync::Not {
            return;
        }
        let mut outbox = Outbox::default();
        for (_, object) in std::mem::take(&mut self.pending) {
            self.take_in(object, &mut outbox);
        }
        for id in self.pods.take_dirty() {
            self.refresh_pod(&id);
        }
        self.routes.settle(&mut self.conflicts);
        for id in self.routes.take_doubtful() {
            let member = self.member(&id);
            if self.sets.facts_of(&id) != member.as_ref().map(|(_, facts)| facts) {
                self.sets.update_pod(&id, member);
            }
        }
        self.policies.refresh(&mut self.sets);
        let dirty = self.policies.take_dirty();
        self.finish_endpoints(dirty, &mut outbox);
        self.lists.finish(&mut outbox);
        self.sets.finish(&mut outbox);
        self.routes.finish(&mut outbox, &mut self.conflicts);
        self.pools.finish(&self.pods, &self.routes, &self.here, &mut self.conflicts);
        self.services.finish(&mut outbox, &mut self.conflicts);
        if self.sync == Sync::Unsaid {
            self.sync = Sync::Said;
            outbox.push(Phase::InSync, Intent::InSync);
        }
        outbox.emit(out);
    }

    /// What cannot all be true, as of the last flush.
    pub fn conflicts(&self) -> &Conflicts {
        &self.conflicts
    }

    /// Every endpoint of every Service port, used or not.
    pub fn known_endpoints(&self) -> Vec<KnownEndpoint> {
        self.services.known()
    }

    /// Every Service, with or without front ends.
    pub fn known_services(&self) -> Vec<KnownService> {
        self.services.known_services()
    }

    /// What load balancers may ask of this node, when that has changed since it was last asked.
    pub fn take_health_checks(&mut self) -> Option<&BTreeMap<ServiceId, HealthCheck>> {
        self.services.take_health()
    }

    /// How many objects are known, as of the last flush.
    pub fn census(&self) -> Census {
        Census {
            nodes: self.routes.node_count(),
            workloads: self.pods.workload_count(),
            policies: self.policies.count(),
            services: self.services.count(),
        }
    }

    /// What the flushes so far have cost.
    pub fn work(&self) -> Work {
        let (evaluations, lists) = self.policies.work();
        let evaluations = evaluations.wrapping_add(self.sets.evaluations());
        Work { evaluations, lists, services: self.services.joins() }
    }

    fn take_in(&mut self, object: Object, outbox: &mut Outbox) {
        match object {
            Object::Namespace(change) => {
                self.sets.update_namespace(&change.key, change.value.map(|namespace| namespace.labels));
            }
            Object::Node(change) => {
                if change.key == self.here {
                    let zone = change.value.as_ref().and_then(|node| node.labels.get(ZONE).cloned());
                    let addresses = change.value.as_ref().map(|node| node.addresses.clone());
                    self.services.set_place(zone.map(Into::into), addresses.unwrap_or_default());
                }
                self.routes.set_node(&change.key, change.value.map(Arc::unwrap_or_clone));
            }
            Object::Workload(change) => self.pods.set_workload(change.key, change.value),
            Object::Attachment(change) => self.pods.set_attachment(change.key, change.value),
            Object::Service(change) => self.services.set_service(change.key, change.value),
            Object::Slice(change) => {
                let of_server =
                    change.value.as_ref().filter(|slice| services::is_of_the_api_server(&slice.service));
                let addresses =
                    |slice: &Arc<EndpointSlice>| slice.endpoints.iter().map(|it| it.address).collect();
                self.routes.set_servers(&change.key, of_server.map(addresses));
                self.services.set_slice(change.key, change.value);
            }
            Object::NetworkPolicy(change) => {
                let policy = change.value.map(Arc::unwrap_or_clone);
                self.policies.set(change.key, policy, &mut self.sets);
            }
            Object::Pool(change) => self.routes.set_pool(change.key, change.value),
            Object::Ranges(change) => self.routes.set_ranges(change.key, change.value.unwrap_or_default()),
            Object::OwnAddresses(addresses) => {
                self.services.set_own(addresses.iter().map(IpNet::addr).collect());
                self.routes.set_own(addresses);
            }
            Object::Settings(settings) => {
                if self.settings.as_ref() != Some(&settings) {
                    outbox.push(Phase::Settings, Intent::Settings(settings.clone()));
                    self.settings = Some(settings);
                }
            }
        }
    }

    fn refresh_pod(&mut self, id: &WorkloadId) {
        let pod = self.pods.get(id);
        self.routes.set_pod(id, pod);
        let member = self.member(id);
        let attached: Option<Arc<_>> = pod.and_then(|pod| pod.attached_workload(&self.here)).cloned();
        self.sets.update_pod(id, member);
        self.policies.set_endpoint(id, attached);
        self.services.set_hosted(id, pod.and_then(|pod| Hosted::of(pod, &self.here)));
        self.pools.touch(id);
    }

    /// What a pod brings into sets: nothing for an address that is another's.
    fn member(&self, id: &WorkloadId) -> Option<(Arc<Workload>, Facts)> {
        let pod = self.pods.get(id)?;
        let workload = pod.networked()?.clone();
        let said = pod.attached_workload(&self.here).is_none().then_some(&*workload);
        let held = |address: &&IpAddr| self.routes.is_held(id, said, **address);
        let addresses = pod.addresses(&self.here).iter().filter(held).copied().collect();
        let ports = workload.ports.clone();
        Some((workload, Facts { addresses, ports }))
    }

    fn finish_endpoints(&mut self, dirty: BTreeSet<WorkloadId>, outbox: &mut Outbox) {
        let sources = Sources {
            here: &self.here,
            pods: &self.pods,
            policies: &mut self.policies,
            sets: &self.sets,
            lists: &mut self.lists,
        };
        self.endpoints.finish(dirty, sources, outbox);
    }
}

fn id_of(object: &Object) -> ObjectId {
    match object {
        Object::Namespace(change) => ObjectId::Namespace(change.key.clone()),
        Object::Node(change) => ObjectId::Node(change.key.clone()),
        Object::Workload(change) => ObjectId::Workload(change.key.clone()),
        Object::Attachment(change) => ObjectId::Attachment(change.key.clone()),
        Object::Service(change) => ObjectId::Service(change.key.clone()),
        Object::Slice(change) => ObjectId::Slice(change.key.clone()),
        Object::NetworkPolicy(change) => ObjectId::NetworkPolicy(change.key.clone()),
        Object::Pool(change) => ObjectId::Pool(change.key.clone()),
        Object::Ranges(change) => ObjectId::Ranges(change.key.clone()),
        Object::OwnAddresses(_) => ObjectId::OwnAddresses,
        Object::Settings(_) => ObjectId::Settings,
    }
}
