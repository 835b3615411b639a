//! A NetworkPolicy rule in words, for `policy list`.
//!
//! Owns: the wording. Does not: decide anything.
//! Invariant: two rules that differ read differently.

use std::collections::BTreeSet;
use tortie_model::policy::{Peer, Port, PortMatch, Rule};
use tortie_model::selector::{Operator, Requirement, Selector};
use tortie_policy::form::Matches;

/// What the rule asks for.
pub(crate) fn matches(rule: &Rule) -> Matches {
    Matches { peers: rule.peers.iter().map(peer).collect(), ports: rule.ports.iter().map(port).collect() }
}

fn peer(peer: &Peer) -> String {
    match peer {
        Peer::Pods { namespaces: None, pods } => selected("pods", pods),
        Peer::Pods { namespaces: Some(namespaces), pods } => {
            format!("{} in {}", selected("pods", pods), selected("namespaces", namespaces))
        }
        Peer::Block { cidr, except } if except.is_empty() => cidr.to_string(),
        Peer::Block { cidr, except } => {
            let except: Vec<String> = except.iter().map(ToString::to_string).collect();
            format!("{cidr} except {}", except.join(", "))
        }
    }
}

fn selected(what: &str, selector: &Selector) -> String {
    let labels = selector.match_labels.iter().map(|(key, value)| format!("{key}={value}"));
    let words: Vec<String> = labels.chain(selector.match_expressions.iter().map(requirement)).collect();
    if words.is_empty() { format!("all {what}") } else { format!("{what} {}", words.join(",")) }
}

/// As `kubectl -l` takes it.
fn requirement(requirement: &Requirement) -> String {
    let key = &requirement.key;
    let list = |values: &BTreeSet<String>| values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
    match &requirement.operator {
        Operator::In(values) => format!("{key} in ({})", list(values)),
        Operator::NotIn(values) => format!("{key} notin ({})", list(values)),
        Operator::Exists => key.clone(),
        Operator::DoesNotExist => format!("!{key}"),
    }
}

fn port(port: &PortMatch) -> String {
    let protocol = port.transport.name();
    match &port.port {
        Port::Any => protocol.to_owned(),
        Port::Range { first, last } if first == last => format!("{protocol}/{first}"),
        Port::Range { first, last } => format!("{protocol}/{first}-{last}"),
        Port::Named(name) => format!("{protocol}/{name}"),
    }
}
