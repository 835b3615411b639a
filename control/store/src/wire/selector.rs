//! Label selectors of Kubernetes.
//!
//! Owns: their conversion and checks. Does not: match anything.
//! Invariant: as the API server takes them.

use crate::check;
use crate::fault::{Wrong, invalid};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use std::collections::BTreeSet;
use tortie_model::selector::{Operator, Requirement, Selector};

invalid! {
    /// Why a selector is refused; `at` is the selector's own path.
    InvalidSelector {
        /// A key of `matchLabels`.
        MatchLabelsKey { at: String, key: String } => "{at}.matchLabels[{key}]",
        /// A value of `matchLabels`.
        MatchLabelsValue { at: String, key: String } => "{at}.matchLabels[{key}]",
        /// A requirement's key.
        Key { at: String, index: usize } => "{at}.matchExpressions[{index}].key",
        /// A requirement's operator.
        Operator { at: String, index: usize } => "{at}.matchExpressions[{index}].operator",
        /// A requirement's values.
        Values { at: String, index: usize } => "{at}.matchExpressions[{index}].values",
        /// One of a requirement's values.
        Value { at: String, index: usize, value: usize } => "{at}.matchExpressions[{index}].values[{value}]",
    }
}

/// Converts the selector that is the field `at`.
pub fn read(at: &str, selector: LabelSelector) -> Result<Selector, InvalidSelector> {
    let LabelSelector { match_labels, match_expressions } = selector;
    let match_labels = match_labels.unwrap_or_default();
    for (key, value) in &match_labels {
        let (at, key_at) = (at.to_owned(), key.clone());
        check::label_key(key).map_err(|wrong| InvalidSelector::MatchLabelsKey {
            at: at.clone(),
            key: key_at.clone(),
            wrong,
        })?;
        check::label_value(value).map_err(|wrong| InvalidSelector::MatchLabelsValue {
            at,
            key: key_at,
            wrong,
        })?;
    }
    let requirements = match_expressions.unwrap_or_default().into_iter().enumerate();
    let match_expressions =
        requirements.map(|(index, it)| requirement(at, index, it)).collect::<Result<_, _>>()?;
    Ok(Selector { match_labels, match_expressions })
}

fn requirement(
    at: &str,
    index: usize,
    requirement: LabelSelectorRequirement,
) -> Result<Requirement, InvalidSelector> {
    let LabelSelectorRequirement { key, operator, values } = requirement;
    let at = || at.to_owned();
    check::label_key(&key).map_err(|wrong| InvalidSelector::Key { at: at(), index, wrong })?;
    let values = values.unwrap_or_default();
    for (value_index, value) in values.iter().enumerate() {
        check::label_value(value).map_err(|wrong| InvalidSelector::Value {
            at: at(),
            index,
            value: value_index,
            wrong,
        })?;
    }
    let operator = operator_of(&operator, values).map_err(|wrong| match wrong {
        Wrong::NotOneOf { .. } => InvalidSelector::Operator { at: at(), index, wrong },
        _ => InvalidSelector::Values { at: at(), index, wrong },
    })?;
    Ok(Requirement { key, operator })
}

fn operator_of(operator: &str, values: Vec<String>) -> Result<Operator, Wrong> {
    let none = values.is_empty();
    let values: BTreeSet<String> = values.into_iter().collect();
    match operator {
        "In" | "NotIn" if none => Err(Wrong::Missing { expected: "at least one value" }),
        "In" => Ok(Operator::In(values)),
        "NotIn" => Ok(Operator::NotIn(values)),
        "Exists" | "DoesNotExist" if !none => Err(Wrong::Conflict {
            why: "this operator takes no values",
            fix: "remove the values, or use In or NotIn",
        }),
        "Exists" => Ok(Operator::Exists),
        "DoesNotExist" => Ok(Operator::DoesNotExist),
        other => {
            Err(Wrong::NotOneOf { value: other.into(), allowed: &["In", "NotIn", "Exists", "DoesNotExist"] })
        }
    }
}
