//! `policy list`: the rules in force for each endpoint and direction, in order, with their hits.

use crate::names::{Matches, ProgramName, RuleName};
use crate::{Names, Snapshot};
use serde::Serialize;
use tortie_abi::counter::{Counter, CounterKey};
use tortie_abi::endpoint::{Endpoint, NO_PROGRAM};
use tortie_abi::{DropReason, Hook};

/// One rule of one endpoint and direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// `namespace/name`.
    pub endpoint: String,
    /// `ingress` or `egress`.
    pub direction: &'static str,
    /// Tier.
    pub tier: String,
    /// Kind and name of the policy, or why there is none.
    pub policy: String,
    /// At the end of the list: the policies that it is of, also those without a rule in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// Which rule of it, from 0; absent at the end of the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<u32>,
    /// `allow` or `deny`.
    pub action: String,
    /// What it asks for; absent where there is no rule of a policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<Matches>,
    /// New flows that it decided, over all endpoints that share the rule; at the end of a list the endpoint's own packets, denied
    /// by whichever list it has had since its interface came. Absent where nothing counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// Their first packets' bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Generation in force.
    pub generation: u32,
}

/// All rules, by endpoint, direction and order.
pub fn rows(snapshot: &Snapshot, names: &Names) -> Vec<Row> {
    let mut rows = Vec::new();
    for (slot, endpoint) in &snapshot.endpoints {
        let name = names
            .endpoints
            .get(slot)
            .map_or_else(|| format!("slot-{slot}"), |n| format!("{}/{}", n.namespace, n.name));
        rows.extend(direction(&name, "ingress", endpoint, snapshot, names));
        rows.extend(direction(&name, "egress", endpoint, snapshot, names));
    }
    rows.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
    rows
}

fn direction(
    endpoint: &str,
    direction: &'static str,
    record: &Endpoint,
    snapshot: &Snapshot,
    names: &Names,
) -> Vec<Row> {
    let (program, generation) = if direction == "ingress" {
        (record.ingress_program, record.ingress_generation)
    } else {
        (record.egress_program, record.egress_generation)
    };
    let row = |tier: &str, policy: &str, rule, action: &str, counter: Option<Counter>| Row {
        endpoint: endpoint.to_owned(),
        direction,
        tier: tier.to_owned(),
        policy: policy.to_owned(),
        policies: Vec::new(),
        rule,
        action: action.to_owned(),
        matches: None,
        packets: counter.map(|it| it.packets),
        bytes: counter.map(|it| it.bytes),
        generation,
    };
    if generation == 0 {
        return vec![row("", "not in force yet", None, "deny", None)];
    }
    if program == NO_PROGRAM {
        return vec![row("", "no policy selects it", None, "allow", None)];
    }
    let Some(list) = names.programs.get(&program) else {
        return vec![row("", "unknown program", None, "deny", None)];
    };
    let counter = |id: &u32| Some(snapshot.rule_counters.get(id).copied().unwrap_or_default());
    let mut rows: Vec<Row> = Vec::new();
    let mut last = 0;
    // Several compiled rules may stand for one that the user wrote.
    for id in list.rules.iter().filter(|id| std::mem::replace(&mut last, **id) != **id) {
        match names.rules.get(id) {
            Some(RuleName { tier, policy, rule, action, matches, .. }) => {
                let matches = Some(matches.clone());
                rows.push(Row { matches, ..row(tier, policy, Some(*rule), action, counter(id)) });
            }
            None => rows.push(row("", "unknown rule", None, "", counter(id))),
        }
    }
    let denied = if direction == "egress" { denied_at_the_end(list, record, snapshot, names) } else { None };
    let policies = list.policies.clone();
    rows.push(Row { policies, ..row("default", "end of the list", None, &list.default, denied) });
    rows
}

/// What an endpoint's egress lists denied so far, where none of this one's rules can have: drops are counted by interface, and by its own
/// interface only a pod's egress. What ingress denies is counted where the packet came from.
fn denied_at_the_end(
    list: &ProgramName,
    record: &Endpoint,
    snapshot: &Snapshot,
    names: &Names,
) -> Option<Counter> {
    let allows = |id: &u32| names.rules.get(id).is_some_and(|rule| rule.action == "allow");
    if list.default != "deny" || !list.rules.iter().all(allows) {
        return None;
    }
    let (hook, reason) = (Hook::FromWorkload as u16, DropReason::PolicyEgress as u16);
    let key = CounterKey { ifindex: record.ifindex, hook, reason };
    Some(snapshot.counters.iter().find(|(it, _)| *it == key).map(|(_, counter)| *counter).unwrap_or_default())
}
