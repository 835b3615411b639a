//! Addresses of this node's pods that are no addresses for pods.
//!
//! Owns: what is reported. Does not: judge, [`crate::origins`] does.
//! Invariant: an address is reported exactly while its pod is of this node, and it is not given to pods, or there are pools of
//! its family and none of them has it. Each node speaks of its own pods, so that a cluster says each thing once.

use crate::conflicts::{Conflict, Conflicts, Contested};
use crate::pods::{Pod, Pods};
use crate::routes::Routes;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use tortie_model::{NodeName, ObjectId, WorkloadId};

/// What was said of pods.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    /// The versions of pools and prefixes that it was said of.
    version: (u64, u64),
    dirty: BTreeSet<WorkloadId>,
    reported: BTreeMap<WorkloadId, BTreeSet<Contested>>,
}

impl Pools {
    /// A pod has changed.
    pub(crate) fn touch(&mut self, pod: &WorkloadId) {
        self.dirty.insert(pod.clone());
    }

    /// Ends a flush: reports what is no address for a pod, and takes back what is one.
    pub(crate) fn finish(
        &mut self,
        pods: &Pods,
        routes: &Routes,
        here: &NodeName,
        conflicts: &mut Conflicts,
    ) {
        let mut dirty = std::mem::take(&mut self.dirty);
        let version = routes.judgement();
        if self.version != version {
            self.version = version;
            dirty.extend(pods.ids().cloned());
        }
        dirty.iter().for_each(|id| self.report(id, pods, routes, here, conflicts));
    }

    fn report(
        &mut self,
        id: &WorkloadId,
        pods: &Pods,
        routes: &Routes,
        here: &NodeName,
        conflicts: &mut Conflicts,
    ) {
        let pod = pods.get(id).filter(|pod| pod.is_of(here));
        let found: BTreeMap<Contested, Conflict> = pod
            .into_iter()
            .flat_map(|pod| pod.addresses(here).iter().map(move |address| (pod, *address)))
            .filter_map(|(pod, address)| wrong(id, pod, address, routes, here))
            .collect();
        let keys: BTreeSet<Contested> = found.keys().cloned().collect();
        let before = match keys.is_empty() {
            true => self.reported.remove(id),
            false => self.reported.insert(id.clone(), keys.clone()),
        };
        for key in before.unwrap_or_default().difference(&keys) {
            conflicts.remove(key);
        }
        conflicts.extend(found);
    }
}

/// What is wrong with an address of a pod of this node. What the plugin gave a pod is as good as its kubelet's word.
fn wrong(
    id: &WorkloadId,
    pod: &Pod,
    address: IpAddr,
    routes: &Routes,
    here: &NodeName,
) -> Option<(Contested, Conflict)> {
    let attached = pod.attached_workload(here).is_some();
    let reported = attached || pod.networked().is_some_and(|workload| workload.reported);
    let losers = vec![ObjectId::Workload(id.clone())];
    match routes.judge(here, reported, address) {
        Err(unfounded) => {
            let conflict = Conflict { winner: unfounded.holder, losers };
            Some((Contested::NotGiven(id.clone(), address), conflict))
        }
        Ok(()) if routes.origins().is_in_pool(address) == Some(false) => {
            Some((Contested::NoPool(id.clone(), address), Conflict { winner: None, losers }))
        }
        Ok(()) => None,
    }
}
