//! Any bytes as a label selector: nothing panics, and a selector that is written out reads as the same one.

use tortie_model::namespace::Labels;
use tortie_model::selector::{Operator, Requirement, Selector};
use tortie_store::label_selector;

/// Checks one input.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let selector = match label_selector::parse(text) {
        Ok(selector) => selector,
        Err(invalid) => return assert!(invalid.to_string().contains("; "), "{invalid} says no way out"),
    };
    let written: Vec<String> = selector.match_expressions.iter().map(write).collect();
    assert_eq!(label_selector::parse(&written.join(",")).as_ref(), Ok(&selector), "{written:?}");
    for requirement in &selector.match_expressions {
        let labels: Labels = wanted(requirement).into_iter().collect();
        let alone = Selector { match_expressions: vec![requirement.clone()], ..Selector::default() };
        assert!(alone.matches(&labels), "{requirement:?} does not select {labels:?}");
    }
}

fn write(requirement: &Requirement) -> String {
    let Requirement { key, operator } = requirement;
    let list =
        |values: &std::collections::BTreeSet<String>| values.iter().cloned().collect::<Vec<_>>().join(",");
    match operator {
        Operator::In(values) => format!("{key} in ({})", list(values)),
        Operator::NotIn(values) => format!("{key} notin ({})", list(values)),
        Operator::Exists => key.clone(),
        Operator::DoesNotExist => format!("!{key}"),
    }
}

fn wanted(requirement: &Requirement) -> Option<(String, String)> {
    match &requirement.operator {
        Operator::In(values) => values.first().map(|value| (requirement.key.clone(), value.clone())),
        Operator::Exists => Some((requirement.key.clone(), String::new())),
        Operator::NotIn(_) | Operator::DoesNotExist => None,
    }
}
