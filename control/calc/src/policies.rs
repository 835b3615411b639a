//! NetworkPolicies and the endpoints of this node that they apply to.
//!
//! Owns: which policies are in use here, and their compiled rules. Does not: know interfaces or addresses.
//! Invariant: a policy needs sets only while it applies to an endpoint here; whatever can change the rules of an
//! endpoint puts it into [`Policies::take_dirty`].

use crate::index::{Index, QueryId};
use crate::query::Query;
use crate::rules::{self, Compiled, words};
use crate::sets::{Need, PortName, Sets};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tortie_intent::List;
use tortie_model::policy::{NetworkPolicy, Rule};
use tortie_model::workload::{NamedPort, Workload};
use tortie_model::{PolicyId, WorkloadId};
use tortie_policy::form::{Action, Direction, Origin};

#[derive(Debug)]
struct State {
    policy: NetworkPolicy,
    applies: QueryId,
    in_use: Option<InUse>,
}

#[derive(Debug, Default)]
struct InUse {
    ingress: Option<Vec<Compiled>>,
    egress: Option<Vec<Compiled>>,
    needs: Vec<Need>,
}

/// What determines a list: endpoints with equal keys share it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ListKey {
    direction: Direction,
    policies: Vec<PolicyId>,
    /// The endpoint's own named ports that these policies ask for.
    ports: BTreeSet<(PortName, u16)>,
}

/// All policies.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    /// Pods attached here.
    endpoints: Index,
    policies: BTreeMap<PolicyId, State>,
    by_query: BTreeMap<QueryId, PolicyId>,
    by_group: BTreeMap<QueryId, BTreeSet<PolicyId>>,
    dirty: BTreeSet<PolicyId>,
    dirty_endpoints: BTreeSet<WorkloadId>,
    lists_made: u64,
}

impl Policies {
    /// Evaluations of selectors on endpoints, and lists made, so far.
    pub(crate) fn work(&self) -> (u64, u64) {
        (self.endpoints.evaluations(), self.lists_made)
    }

    /// How many policies there are.
    pub(crate) fn count(&self) -> usize {
        self.policies.len()
    }

    /// A policy is as given from now on.
    pub(crate) fn set(&mut self, id: PolicyId, policy: Option<NetworkPolicy>, sets: &mut Sets) {
        if self.policies.get(&id).map(|state| &state.policy) == policy.as_ref() {
            return;
        }
        if let Some(old) = self.policies.remove(&id) {
            self.by_query.remove(&old.applies);
            let applied_to = self.endpoints.remove(old.applies);
            self.dirty_endpoints.extend(applied_to);
            self.stop_using(&id, old.in_use, sets);
        }
        if let Some(policy) = policy {
            let applies = self.endpoints.add(Query::within(&id.namespace, &policy.pods));
            self.by_query.insert(applies, id.clone());
            self.dirty_endpoints.extend(self.endpoints.matched(applies).cloned());
            self.dirty.insert(id.clone());
            self.policies.insert(id, State { policy, applies, in_use: None });
        }
    }

    /// A pod attached here is as given from now on; `None`: it is not attached, or its object is not known.
    pub(crate) fn set_endpoint(&mut self, id: &WorkloadId, workload: Option<Arc<Workload>>) {
        let turn = self.endpoints.update(id, workload);
        let turned = turn.gained.iter().chain(&turn.lost).filter_map(|query| self.by_query.get(query));
        self.dirty.extend(turned.cloned());
        self.dirty_endpoints.insert(id.clone());
    }

    /// Compiles the policies that came into use and lets go of those that went out of use.
    pub(crate) fn refresh(&mut self, sets: &mut Sets) {
        for id in std::mem::take(&mut self.dirty) {
            let Some(state) = self.policies.get_mut(&id) else { continue };
            let used = self.endpoints.matched(state.applies).next().is_some();
            match (used, state.in_use.is_some()) {
                (true, false) => {
                    let in_use = in_use(&id, &state.policy, sets);
                    for need in &in_use.needs {
                        if let Need::Group(group) = need {
                            self.by_group.entry(*group).or_default().insert(id.clone());
                        }
                    }
                    state.in_use = Some(in_use);
                }
                (false, true) => {
                    let old = state.in_use.take();
                    self.stop_using(&id, old, sets);
                }
                _ => {}
            }
        }
        for group in sets.take_renumbered() {
            let users = self.by_group.get(&group).into_iter().flatten();
            let states = users.filter_map(|id| self.policies.get(id));
            let endpoints = states.flat_map(|state| self.endpoints.matched(state.applies));
            self.dirty_endpoints.extend(endpoints.cloned());
        }
    }

    /// Endpoints whose rules may have changed.
    pub(crate) fn take_dirty(&mut self) -> BTreeSet<WorkloadId> {
        std::mem::take(&mut self.dirty_endpoints)
    }

    /// What determines an endpoint's list; `None`: no policy applies.
    pub(crate) fn key(&self, id: &WorkloadId, own: &[NamedPort], direction: Direction) -> Option<ListKey> {
        let all = self.endpoints.matches(id).filter_map(|query| self.by_query.get(&query));
        let applying: BTreeSet<&PolicyId> = all.filter(|id| self.rules(id, direction).is_some()).collect();
        if applying.is_empty() {
            return None;
        }
        let mut ports = BTreeSet::new();
        if direction == Direction::Ingress {
            let compiled = applying.iter().filter_map(|id| self.rules(id, direction)).flatten();
            for name in compiled.flat_map(Compiled::own_names) {
                let numbers = own.iter().filter(|port| name.names(port)).map(|port| port.port);
                ports.extend(numbers.map(|number| (name.clone(), number)));
            }
        }
        Some(ListKey { direction, policies: applying.into_iter().cloned().collect(), ports })
    }

    /// The list of a key: the union of its policies' rules, in the order of their names.
    pub(crate) fn list(&mut self, key: &ListKey, sets: &Sets) -> List {
        self.lists_made = self.lists_made.wrapping_add(1);
        let own: Vec<NamedPort> = key
            .ports
            .iter()
            .map(|(name, port)| NamedPort { name: name.name.clone(), transport: name.transport, port: *port })
            .collect();
        let compiled = key.policies.iter().filter_map(|id| self.rules(id, key.direction)).flatten();
        let rules = compiled.flat_map(|rule| match key.direction {
            Direction::Ingress => rule.ingress(&own),
            Direction::Egress => rule.egress(sets),
        });
        let policies = key.policies.iter().map(name_of).collect();
        List { direction: key.direction, policies, rules: rules.collect(), default: Action::Deny }
    }

    fn rules(&self, id: &PolicyId, direction: Direction) -> Option<&Vec<Compiled>> {
        let in_use = self.policies.get(id)?.in_use.as_ref()?;
        match direction {
            Direction::Ingress => in_use.ingress.as_ref(),
            Direction::Egress => in_use.egress.as_ref(),
        }
    }

    fn stop_using(&mut self, id: &PolicyId, old: Option<InUse>, sets: &mut Sets) {
        for need in old.into_iter().flat_map(|old| old.needs) {
            if let Need::Group(group) = need
                && let Some(users) = self.by_group.get_mut(&group)
            {
                users.remove(id);
                if users.is_empty() {
                    self.by_group.remove(&group);
                }
            }
            sets.release(need);
        }
    }
}

/// As people are told of it.
fn name_of(id: &PolicyId) -> String {
    format!("NetworkPolicy {id}")
}

fn in_use(id: &PolicyId, policy: &NetworkPolicy, sets: &mut Sets) -> InUse {
    let mut needs = Vec::new();
    let mut compile = |rules: &Vec<Rule>, direction| -> Vec<Compiled> {
        let numbered = (0..).zip(rules);
        numbered
            .map(|(number, rule)| {
                let matches = words::matches(rule);
                let origin = Origin { tier: "default".into(), policy: name_of(id), rule: number, matches };
                let origin = Arc::new(origin);
                rules::compile(rule, direction, &id.namespace, origin, sets, &mut needs)
            })
            .collect()
    };
    let ingress = policy.ingress.as_ref().map(|rules| compile(rules, Direction::Ingress));
    let egress = policy.egress.as_ref().map(|rules| compile(rules, Direction::Egress));
    InUse { ingress, egress, needs }
}
