//! Pods of this node whose addresses are in no pool.
//!
//! Owns: the pools' ranges and what is reported. Does not: make routes.
//! Invariant: an address is reported exactly while its pod is of this node, there are pools of its family and none
//! of them has it. Each node speaks of its own pods, so that a cluster says each thing once.

use crate::conflicts::{Conflict, Conflicts, Contested};
use crate::pods::Pods;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use tortie_model::pool::Pool;
use tortie_model::{NodeName, ObjectId, WorkloadId};

/// All pools, and what was said of pods.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    ranges: BTreeMap<Arc<str>, IpNet>,
    changed: bool,
    dirty: BTreeSet<WorkloadId>,
    reported: BTreeMap<WorkloadId, BTreeSet<IpAddr>>,
}

impl Pools {
    /// A pool is as given from now on. A disabled one gives no new addresses; those it gave are still its own.
    pub(crate) fn set(&mut self, name: &Arc<str>, pool: Option<&Pool>) {
        let range = pool.map(|pool| pool.cidr.trunc());
        let before = match range {
            Some(range) => self.ranges.insert(name.clone(), range),
            None => self.ranges.remove(name),
        };
        self.changed |= before != range;
    }

    /// A pod has changed.
    pub(crate) fn touch(&mut self, pod: &WorkloadId) {
        self.dirty.insert(pod.clone());
    }

    /// Ends a flush: reports what is in no pool, and takes back what is in one.
    pub(crate) fn finish(&mut self, pods: &Pods, here: &NodeName, conflicts: &mut Conflicts) {
        let dirty = std::mem::take(&mut self.dirty);
        if std::mem::take(&mut self.changed) {
            let gone = dirty.into_iter().filter(|id| pods.get(id).is_none());
            let all: BTreeSet<WorkloadId> = pods.ids().cloned().chain(gone).collect();
            all.iter().for_each(|id| self.report(id, pods, here, conflicts));
        } else {
            dirty.iter().for_each(|id| self.report(id, pods, here, conflicts));
        }
    }

    fn report(&mut self, id: &WorkloadId, pods: &Pods, here: &NodeName, conflicts: &mut Conflicts) {
        let pod = pods.get(id).filter(|pod| pod.is_of(here));
        let addresses = pod.map(|pod| pod.addresses(here)).unwrap_or_default();
        let outside: BTreeSet<IpAddr> = addresses.iter().copied().filter(|a| self.is_outside(*a)).collect();
        let before = match outside.is_empty() {
            true => self.reported.remove(id),
            false => self.reported.insert(id.clone(), outside.clone()),
        };
        for address in before.unwrap_or_default().difference(&outside) {
            conflicts.remove(&Contested::NoPool(id.clone(), *address));
        }
        for address in outside {
            let losers = vec![ObjectId::Workload(id.clone())];
            conflicts.insert(Contested::NoPool(id.clone(), address), Conflict { winner: None, losers });
        }
    }

    fn is_outside(&self, address: IpAddr) -> bool {
        let mut of_family = self.ranges.values().filter(|range| range.addr().is_ipv6() == address.is_ipv6());
        let first = of_family.next();
        first.is_some_and(|range| {
            !range.contains(&address) && !of_family.any(|range| range.contains(&address))
        })
    }
}
