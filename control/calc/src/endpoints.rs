//! The workloads attached to this node, with their rules.
//!
//! Owns: what was said of each endpoint, and its hold on lists. Does not: make rules.
//! Invariant: an endpoint without a Pod object has unknown rules, never open ones.

use crate::lists::Lists;
use crate::outbox::{Outbox, Phase};
use crate::pods::{Pod, Pods};
use crate::policies::{ListKey, Policies};
use crate::sets::Sets;
use std::collections::{BTreeMap, BTreeSet};
use tortie_intent::{Endpoint, Intent, ListId, Rules};
use tortie_model::{NodeName, WorkloadId};
use tortie_policy::form::Direction;

/// All endpoints.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    said: BTreeMap<WorkloadId, Endpoint>,
}

/// What an endpoint is made from.
pub(crate) struct Sources<'a> {
    pub(crate) here: &'a NodeName,
    pub(crate) pods: &'a Pods,
    pub(crate) policies: &'a mut Policies,
    pub(crate) sets: &'a Sets,
    pub(crate) lists: &'a mut Lists,
}

impl Endpoints {
    /// Ends a flush for the endpoints that may have changed.
    pub(crate) fn finish(&mut self, dirty: BTreeSet<WorkloadId>, mut sources: Sources<'_>, out: &mut Outbox) {
        let mut known = BTreeMap::new();
        for id in dirty {
            let now = sources.pods.get(&id).and_then(|pod| sources.endpoint(&id, pod, &mut known));
            if self.said.get(&id) == now.as_ref() {
                continue;
            }
            lists(now.as_ref()).for_each(|list| sources.lists.take(list));
            let old = match &now {
                Some(endpoint) => self.said.insert(id.clone(), endpoint.clone()),
                None => self.said.remove(&id),
            };
            lists(old.as_ref()).for_each(|list| sources.lists.release(list));
            let phase = if now.is_some() { Phase::Endpoint } else { Phase::EndpointRemove };
            out.push(phase, Intent::Endpoint(id, now));
        }
    }
}

fn lists(endpoint: Option<&Endpoint>) -> impl Iterator<Item = ListId> {
    let rules = endpoint.into_iter().flat_map(|endpoint| [endpoint.ingress, endpoint.egress]);
    rules.filter_map(|rules| match rules {
        Rules::List(id) => Some(id),
        Rules::Unknown | Rules::AllowAll => None,
    })
}

impl Sources<'_> {
    fn endpoint(
        &mut self,
        id: &WorkloadId,
        pod: &Pod,
        known: &mut BTreeMap<ListKey, ListId>,
    ) -> Option<Endpoint> {
        let attachment = pod.attachment.as_deref()?;
        let mut rules = |direction| match pod.attached_workload(self.here) {
            None => Rules::Unknown,
            Some(workload) => match self.policies.key(id, &workload.ports, direction) {
                None => Rules::AllowAll,
                Some(key) => {
                    let list = known.get(&key).copied().unwrap_or_else(|| {
                        let list = self.policies.list(&key, self.sets);
                        self.lists.id(list)
                    });
                    known.insert(key, list);
                    Rules::List(list)
                }
            },
        };
        let (ingress, egress) = (rules(Direction::Ingress), rules(Direction::Egress));
        Some(Endpoint {
            interface: attachment.interface.clone(),
            mac: attachment.mac,
            host_mac: attachment.host_mac,
            addresses: attachment.addresses.clone(),
            container_id: attachment.container_id.clone(),
            ingress,
            egress,
        })
    }
}
