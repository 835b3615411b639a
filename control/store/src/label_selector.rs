//! Label selectors as people type them: `app=web,tier!=db,zone in (a,b),!old`.
//!
//! Owns: kubectl's grammar. Does not: match.
//! Invariant: keys and values are valid labels.

use crate::check;
use crate::fault::Wrong;
use std::collections::BTreeSet;
use thiserror::Error;
use tortie_model::selector::{Operator, Requirement, Selector};

/// Why a text is no selector.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidLabelSelector {
    /// A key or value.
    #[error("in {requirement:?}: {wrong}; {}", wrong.fix())]
    Label {
        /// The requirement it is in.
        requirement: String,
        /// Why.
        wrong: Wrong,
    },
    /// A list that does not end, or something after its end.
    #[error(
        "{requirement:?} is no requirement; write key, !key, key=value, key!=value, key in (a,b) or key notin (a,b)"
    )]
    Requirement {
        /// What was typed.
        requirement: String,
    },
}

/// Reads a selector; the empty text selects everything.
pub fn parse(text: &str) -> Result<Selector, InvalidLabelSelector> {
    let parts = split(text).into_iter().map(str::trim);
    let parts: Vec<&str> = if text.trim().is_empty() { Vec::new() } else { parts.collect() };
    let match_expressions = parts.into_iter().map(requirement).collect::<Result<_, _>>()?;
    Ok(Selector { match_expressions, ..Selector::default() })
}

/// Splits at commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut inside = false;
    text.split(move |c| {
        inside = c == '(' || (inside && c != ')');
        c == ',' && !inside
    })
    .collect()
}

fn requirement(text: &str) -> Result<Requirement, InvalidLabelSelector> {
    let malformed = || InvalidLabelSelector::Requirement { requirement: text.to_owned() };
    let one = |value: &str| BTreeSet::from([value.trim().to_owned()]);
    let (key, operator) = if let Some((key, list)) = text.split_once('(') {
        let values = list.trim_end().strip_suffix(')').ok_or_else(malformed)?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        match key.trim_end().rsplit_once(char::is_whitespace) {
            Some((key, "in")) => (key, Operator::In(values)),
            Some((key, "notin")) => (key, Operator::NotIn(values)),
            _ => return Err(malformed()),
        }
    } else if let Some((key, value)) = text.split_once("!=") {
        (key, Operator::NotIn(one(value)))
    } else if let Some((key, value)) = text.split_once('=') {
        (key, Operator::In(one(value.strip_prefix('=').unwrap_or(value))))
    } else if let Some(key) = text.strip_prefix('!') {
        (key, Operator::DoesNotExist)
    } else {
        (text, Operator::Exists)
    };
    let key = key.trim();
    let labelled = |wrong| InvalidLabelSelector::Label { requirement: text.to_owned(), wrong };
    check::label_key(key).map_err(labelled)?;
    if let Operator::In(values) | Operator::NotIn(values) = &operator {
        values.iter().try_for_each(|value| check::label_value(value)).map_err(labelled)?;
    }
    Ok(Requirement { key: key.to_owned(), operator })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tortie_model::namespace::Labels;

    fn selects(text: &str, labels: &[(&str, &str)]) -> bool {
        let labels: Labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        parse(text).unwrap().matches(&labels)
    }

    #[test]
    fn every_form_selects_what_kubectl_selects() {
        let web = [("app", "web"), ("zone", "a")];
        for yes in [
            "",
            "app",
            "app=web",
            "app==web",
            "app!=db",
            "x!=y",
            "!x",
            "zone in (a, b)",
            "zone notin (b),app = web",
            "x notin (y)",
        ] {
            assert!(selects(yes, &web), "{yes}");
        }
        for no in ["x", "app=db", "app!=web", "!app", "zone in (b)", "zone notin (a,b)", "app=web,x", "app="]
        {
            assert!(!selects(no, &web), "{no}");
        }
    }

    #[test]
    fn what_is_no_selector_says_how_to_write_one() {
        for text in ["a in (b", "a of (b)", "in (b)", "a in (b) c"] {
            let expected = format!(
                "{text:?} is no requirement; write key, !key, key=value, key!=value, key in (a,b) or key notin (a,b)"
            );
            assert_eq!(parse(text).unwrap_err().to_string(), expected);
        }
        let message = parse("app=web,=x").unwrap_err().to_string();
        assert!(message.starts_with("in \"=x\": \"\" is no label key; use [prefix/]name"), "{message}");
        let message = parse("a=b c").unwrap_err().to_string();
        assert!(message.starts_with("in \"a=b c\": \"b c\" is no label value; use at most 63"), "{message}");
        assert!(parse("a,").is_err());
    }
}
