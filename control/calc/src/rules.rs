//! From the rules a person wrote to the rules of the normalised form.
//!
//! Owns: what a NetworkPolicy rule means. Does not: know which endpoints it applies to.
//! Invariant: every rule that comes out allows, and carries the number of the user's rule it came from; equal
//! input gives equal rules in equal order.

mod ports;
pub(crate) mod words;

use crate::index::QueryId;
use crate::query::Query;
use crate::sets::{Need, PortName, Sets};
use ports::Ports;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tortie_intent::SetId;
use tortie_model::NamespaceName;
use tortie_model::policy::{self, Peer};
use tortie_model::workload::NamedPort;
use tortie_policy::form::{Action, Clause, Direction, Origin, PortRange, Protocol, Rule};

/// One rule of a person, with the sets it needs.
#[derive(Debug)]
pub(crate) struct Compiled {
    origin: Arc<Origin>,
    /// Which remotes, whatever the port.
    remotes: Vec<Vec<Clause>>,
    ports: Ports,
    /// Egress: for each port name, the remotes that have it.
    named: BTreeMap<PortName, Vec<Named>>,
}

/// Remotes that have a named port: the pods of a group, within further clauses.
#[derive(Debug)]
struct Named {
    group: QueryId,
    within: Vec<Clause>,
}

/// Compiles a rule; what it needs of sets is added to `needs`.
pub(crate) fn compile(
    rule: &policy::Rule,
    direction: Direction,
    namespace: &NamespaceName,
    origin: Arc<Origin>,
    sets: &mut Sets,
    needs: &mut Vec<Need>,
) -> Compiled {
    let ports = Ports::of(&rule.ports);
    let remotes = if ports.only_named() && direction == Direction::Egress {
        Vec::new()
    } else {
        remotes(rule, namespace, sets, needs)
    };
    let names = if direction == Direction::Egress { ports.names() } else { BTreeSet::new() };
    let named = names
        .into_iter()
        .map(|name| {
            let of_name = named(rule, &name, namespace, sets, needs);
            (name, of_name)
        })
        .collect();
    Compiled { origin, remotes, ports, named }
}

impl Compiled {
    /// Names of the local endpoint's ports that the rule asks for.
    pub(crate) fn own_names(&self) -> impl Iterator<Item = PortName> {
        self.ports.names().into_iter()
    }

    /// The rule for an endpoint that has these ports.
    pub(crate) fn ingress(&self, own: &[NamedPort]) -> Vec<Rule> {
        let mut rules = Vec::new();
        for (protocol, ports) in self.ports.with_own(own) {
            rules
                .extend(self.remotes.iter().map(|remote| self.rule(protocol, ports.clone(), remote.clone())));
        }
        rules
    }

    /// The rule for any endpoint, with the port numbers that pods have now.
    pub(crate) fn egress(&self, sets: &Sets) -> Vec<Rule> {
        let mut rules = self.ingress(&[]);
        for (name, remotes) in &self.named {
            let mut by_number: BTreeMap<(u16, &[Clause]), BTreeSet<SetId>> = BTreeMap::new();
            for remote in remotes {
                for (number, set) in sets.of_group(remote.group) {
                    by_number.entry((number, &remote.within)).or_default().insert(set);
                }
            }
            for ((number, within), members) in by_number {
                let remote = [one_of(members)].into_iter().chain(within.iter().cloned()).collect();
                let ports = vec![PortRange { first: number, last: number }];
                rules.push(self.rule(Protocol::Is(name.transport.number()), ports, remote));
            }
        }
        rules
    }

    fn rule(&self, protocol: Protocol, destination_ports: Vec<PortRange>, remote: Vec<Clause>) -> Rule {
        Rule {
            action: Action::Allow,
            family: None,
            protocol,
            remote,
            destination_ports,
            not_destination_ports: Vec::new(),
            source_ports: Vec::new(),
            not_source_ports: Vec::new(),
            icmp: None,
            origin: self.origin.clone(),
        }
    }
}

/// Conjunctions of which one must hold. Peers that are one set each share a clause; a block with exceptions
/// needs two clauses of its own.
fn remotes(
    rule: &policy::Rule,
    namespace: &NamespaceName,
    sets: &mut Sets,
    needs: &mut Vec<Need>,
) -> Vec<Vec<Clause>> {
    if rule.peers.is_empty() {
        return vec![Vec::new()];
    }
    let mut single = BTreeSet::new();
    let mut blocks = BTreeSet::new();
    for peer in &rule.peers {
        match peer {
            Peer::Pods { namespaces, pods } => {
                let group = sets.need_pods(query(namespace, namespaces.as_ref(), pods), None);
                needs.push(Need::Group(group));
                single.extend(sets.of_group(group).map(|(_, set)| set));
            }
            Peer::Block { .. } => {
                let clauses = block(peer, sets, needs);
                match clauses.as_slice() {
                    [only] if !only.negated => single.extend(only.sets.iter().copied()),
                    _ => _ = blocks.insert(clauses),
                }
            }
        }
    }
    let shared = if single.is_empty() { None } else { Some(vec![one_of(single)]) };
    shared.into_iter().chain(blocks).collect()
}

/// Remotes of an egress rule that have a named port. A block means the pods inside it: nobody else has names
/// for ports.
fn named(
    rule: &policy::Rule,
    name: &PortName,
    namespace: &NamespaceName,
    sets: &mut Sets,
    needs: &mut Vec<Need>,
) -> Vec<Named> {
    let of = |query: Query, within: Vec<Clause>, sets: &mut Sets, needs: &mut Vec<Need>| {
        let group = sets.need_pods(query, Some(name.clone()));
        needs.push(Need::Group(group));
        Named { group, within }
    };
    if rule.peers.is_empty() {
        return vec![of(Query::everyone(), Vec::new(), sets, needs)];
    }
    let mut all = Vec::new();
    for peer in &rule.peers {
        let (query, within) = match peer {
            Peer::Pods { namespaces, pods } => (query(namespace, namespaces.as_ref(), pods), Vec::new()),
            Peer::Block { .. } => (Query::everyone(), block(peer, sets, needs)),
        };
        all.push(of(query, within, sets, needs));
    }
    all
}

fn query(
    own: &NamespaceName,
    namespaces: Option<&tortie_model::selector::Selector>,
    pods: &tortie_model::selector::Selector,
) -> Query {
    match namespaces {
        None => Query::within(own, pods),
        Some(namespaces) => Query::across(namespaces, pods),
    }
}

/// Clauses of an `ipBlock`; none for another peer.
fn block(peer: &Peer, sets: &mut Sets, needs: &mut Vec<Need>) -> Vec<Clause> {
    let Peer::Block { cidr, except } = peer else { return Vec::new() };
    let mut clause = |nets: BTreeSet<_>, negated| {
        let set = sets.need_nets(nets);
        needs.push(Need::Nets(set));
        Clause { sets: vec![set], negated }
    };
    let mut clauses = vec![clause(BTreeSet::from([cidr.trunc()]), false)];
    if !except.is_empty() {
        clauses.push(clause(except.iter().map(|net| net.trunc()).collect(), true));
    }
    clauses
}

fn one_of(sets: BTreeSet<SetId>) -> Clause {
    Clause { sets: sets.into_iter().collect(), negated: false }
}
