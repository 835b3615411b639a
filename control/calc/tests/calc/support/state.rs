//! What a data plane ends up with, free of ids: two runs that should agree give equal values.

use super::checker::Folded;
use std::collections::{BTreeMap, BTreeSet};
use tortie_calc::Conflicts;
use tortie_intent::{Endpoint, List, Member, Route, Rules, ServicePort, ServicePortId};
use tortie_model::WorkloadId;
use tortie_model::settings::Settings;
use tortie_policy::form::{PortRange, Protocol};

type Clauses = BTreeSet<(bool, BTreeSet<BTreeSet<Member>>)>;
type Rule = ((String, u32), Protocol, Vec<PortRange>, Clauses);

/// Rules of one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RulesState {
    Unknown,
    AllowAll,
    List(BTreeSet<Rule>),
}

/// Everything.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub endpoints: BTreeMap<WorkloadId, (Endpoint, RulesState, RulesState)>,
    pub routes: BTreeMap<ipnet::IpNet, Route>,
    pub services: BTreeMap<ServicePortId, ServicePort>,
    pub settings: Option<Settings>,
    pub in_sync: bool,
    pub conflicts: Conflicts,
    pub sets: BTreeSet<BTreeSet<Member>>,
}

impl State {
    pub fn of(folded: &Folded, conflicts: &Conflicts) -> Self {
        let endpoints = folded.endpoints.iter().map(|(id, endpoint)| {
            let rules = |rules| match rules {
                Rules::Unknown => RulesState::Unknown,
                Rules::AllowAll => RulesState::AllowAll,
                Rules::List(list) => RulesState::List(rules_of(folded, &folded.lists[&list])),
            };
            let (ingress, egress) = (rules(endpoint.ingress), rules(endpoint.egress));
            let bare = Endpoint { ingress: Rules::Unknown, egress: Rules::Unknown, ..endpoint.clone() };
            (id.clone(), (bare, ingress, egress))
        });
        Self {
            endpoints: endpoints.collect(),
            routes: folded.routes.clone(),
            services: folded.services.clone(),
            settings: folded.settings.clone(),
            in_sync: folded.in_sync,
            conflicts: conflicts.clone(),
            sets: folded.sets.values().cloned().collect(),
        }
    }
}

fn rules_of(folded: &Folded, list: &List) -> BTreeSet<Rule> {
    let rules = list.rules.iter().map(|rule| {
        let clauses = rule
            .remote
            .iter()
            .map(|clause| (clause.negated, clause.sets.iter().map(|set| folded.sets[set].clone()).collect()));
        let origin = (rule.origin.policy.clone(), rule.origin.rule);
        (origin, rule.protocol, rule.destination_ports.clone(), clauses.collect())
    });
    let all: BTreeSet<Rule> = rules.collect();
    assert!(list.rules.is_sorted_by_key(|rule| (rule.origin.policy.clone(), rule.origin.rule)));
    all
}
