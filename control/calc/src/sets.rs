//! Sets of addresses: the pods of a query, the pods of a query that have a named port, fixed prefixes.
//!
//! Owns: set ids, members and who still needs a set. Does not: know policies.
//! Invariant: equal content has one id; a set exists while somebody refers to it; a member is in a set while at
//! least one pod brings it there.

mod changes;
mod group;
mod nets;

use crate::index::{Index, QueryId, Turn};
use crate::outbox::Outbox;
use crate::query::Query;
use changes::Changes;
use group::{Group, MemberSet};
use ipnet::IpNet;
use nets::Nets;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use tortie_intent::SetId;
use tortie_model::namespace::Labels;
use tortie_model::workload::{NamedPort, Transport, Workload};
use tortie_model::{NamespaceName, WorkloadId};

/// A port by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PortName {
    pub(crate) transport: Transport,
    pub(crate) name: String,
}

impl PortName {
    /// Whether it is the name of this port.
    pub(crate) fn names(&self, port: &NamedPort) -> bool {
        port.transport == self.transport && port.name == self.name
    }
}

/// What a pod brings into sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ports: Vec<NamedPort>,
}

/// Which pods, and through which of their ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct GroupKey {
    query: Query,
    port: Option<PortName>,
}

/// Somebody's need of a set or of a family of sets. Given back with [`Sets::release`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// Pods.
    Group(QueryId),
    /// Prefixes.
    Nets(SetId),
}

/// All sets.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    pods: Index,
    facts: BTreeMap<WorkloadId, Facts>,
    groups: BTreeMap<QueryId, Group>,
    by_key: BTreeMap<GroupKey, QueryId>,
    nets: Nets,
    ids: Ids,
    idle: BTreeSet<Need>,
    changes: Changes,
    /// Groups whose port numbers changed.
    renumbered: BTreeSet<QueryId>,
    /// Groups with a port number that lost its last pod.
    emptied: BTreeSet<QueryId>,
}

/// Hands out ids, each once.
#[derive(Debug, Default)]
struct Ids(u32);

impl Ids {
    fn next(&mut self) -> SetId {
        self.0 = self.0.wrapping_add(1);
        SetId(self.0)
    }
}

impl Sets {
    /// Evaluations of queries on pods so far.
    pub(crate) fn evaluations(&self) -> u64 {
        self.pods.evaluations()
    }

    /// A pod is as given from now on; `None`: it is no pod with addresses.
    pub(crate) fn update_pod(&mut self, pod: &WorkloadId, now: Option<(Arc<Workload>, Facts)>) {
        let (workload, facts) = now.unzip();
        let old = self.facts.remove(pod).unwrap_or_default();
        let new = facts.unwrap_or_default();
        let turn = self.pods.update(pod, workload.clone());
        if old != new {
            let kept: Vec<QueryId> =
                self.pods.matches(pod).filter(|query| !turn.gained.contains(query)).collect();
            kept.into_iter().for_each(|query| self.replace(query, Some(&old), Some(&new)));
        }
        self.turn(&turn, &old, &new);
        if workload.is_some() {
            self.facts.insert(pod.clone(), new);
        }
    }

    /// What a pod brings; `None`: it is no pod with addresses.
    pub(crate) fn facts_of(&self, pod: &WorkloadId) -> Option<&Facts> {
        self.facts.get(pod)
    }

    /// A namespace has these labels from now on.
    pub(crate) fn update_namespace(&mut self, name: &NamespaceName, labels: Option<Labels>) {
        for (pod, turn) in self.pods.update_namespace(name, labels) {
            let facts = self.facts.get(&pod).cloned().unwrap_or_default();
            self.turn(&turn, &facts, &facts);
        }
    }

    /// The pods of a query; with a port, those that have it.
    pub(crate) fn need_pods(&mut self, query: Query, port: Option<PortName>) -> QueryId {
        let key = GroupKey { query, port };
        let id = match self.by_key.get(&key) {
            Some(id) => *id,
            None => self.new_group(key),
        };
        if let Some(group) = self.groups.get_mut(&id) {
            group.users = group.users.saturating_add(1);
        }
        self.idle.remove(&Need::Group(id));
        id
    }

    /// These prefixes.
    pub(crate) fn need_nets(&mut self, nets: BTreeSet<IpNet>) -> SetId {
        let (id, new) = self.nets.need(nets, &mut self.ids);
        if let Some(members) = new {
            self.changes.create(id, members);
        }
        self.idle.remove(&Need::Nets(id));
        id
    }

    /// One user less. The set goes at the end of the flush unless somebody needs it again.
    pub(crate) fn release(&mut self, need: Need) {
        let left = match need {
            Need::Group(id) => self.groups.get_mut(&id).map(|group| {
                group.users = group.users.saturating_sub(1);
                group.users
            }),
            Need::Nets(id) => self.nets.release(id),
        };
        if left == Some(0) {
            self.idle.insert(need);
        }
    }

    /// The sets of a group by port number; 0 stands for every port of a group without port name.
    pub(crate) fn of_group(&self, group: QueryId) -> impl Iterator<Item = (u16, SetId)> {
        self.groups.get(&group).into_iter().flat_map(Group::inhabited)
    }

    /// Groups that gained or lost a port number since this was last asked.
    pub(crate) fn take_renumbered(&mut self) -> BTreeSet<QueryId> {
        std::mem::take(&mut self.renumbered)
    }

    /// Ends a flush: says what changed and removes what nobody needs.
    pub(crate) fn finish(&mut self, out: &mut Outbox) {
        for need in std::mem::take(&mut self.idle) {
            match need {
                Need::Group(id) => self.drop_group(id),
                Need::Nets(id) => {
                    self.nets.remove(id);
                    self.changes.drop_set(id);
                }
            }
        }
        for id in std::mem::take(&mut self.emptied) {
            let swept = self.groups.get_mut(&id).map(Group::sweep).unwrap_or_default();
            swept.into_iter().for_each(|set| self.changes.drop_set(set));
        }
        std::mem::take(&mut self.changes).say(out);
    }

    fn new_group(&mut self, key: GroupKey) -> QueryId {
        let id = self.pods.add(key.query.clone());
        let plain = key.port.is_none();
        self.groups.insert(id, Group::new(key.clone()));
        self.by_key.insert(key, id);
        if plain {
            self.set(id, 0);
        }
        let pods: Vec<WorkloadId> = self.pods.matched(id).cloned().collect();
        for pod in pods {
            let facts = self.facts.get(&pod).cloned();
            self.replace(id, None, facts.as_ref());
        }
        self.renumbered.remove(&id);
        id
    }

    fn drop_group(&mut self, id: QueryId) {
        self.pods.remove(id);
        if let Some(group) = self.groups.remove(&id) {
            self.by_key.remove(&group.key);
            group.sets.into_values().for_each(|set| self.changes.drop_set(set.id));
        }
    }

    fn turn(&mut self, turn: &Turn, old: &Facts, new: &Facts) {
        turn.lost.iter().for_each(|query| self.replace(*query, Some(old), None));
        turn.gained.iter().for_each(|query| self.replace(*query, None, Some(new)));
    }

    /// One pod's part of a group changes.
    fn replace(&mut self, id: QueryId, old: Option<&Facts>, new: Option<&Facts>) {
        let Some(group) = self.groups.get(&id) else { return };
        let (old, new) = (group.part(old), group.part(new));
        for (port, member) in new {
            let Some(set) = self.set(id, port) else { continue };
            if set.members.is_empty() && port != 0 {
                self.renumbered.insert(id);
            }
            let Some(set) = self.set(id, port) else { continue };
            if set.bring(member) {
                let id = set.id;
                self.changes.add(id, member);
            }
        }
        for (port, member) in old {
            let Some(set) = self.set(id, port) else { continue };
            if set.take(member) {
                let (set_id, empty) = (set.id, set.members.is_empty());
                self.changes.remove(set_id, member);
                if empty && port != 0 {
                    self.renumbered.insert(id);
                    self.emptied.insert(id);
                }
            }
        }
    }

    /// The set of a port number, made when it is first asked for.
    fn set(&mut self, id: QueryId, port: u16) -> Option<&mut MemberSet> {
        let group = self.groups.get_mut(&id)?;
        Some(group.sets.entry(port).or_insert_with(|| {
            let set = MemberSet::new(self.ids.next());
            self.changes.create(set.id, []);
            set
        }))
    }
}
