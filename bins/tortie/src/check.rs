//! `check`: is this kernel and node fit?
//!
//! Owns: how the list of features is shown, and the exit code. Does not: probe (`tortie_host::features` does).
//! Invariant: 0 only when everything required was found; 4 when it could not be tried for lack of permission.

use std::fmt::Write as _;

use serde::Serialize;
use tortie_host::features::{self, Feature, Fitness, Found};

use crate::args::Global;
use crate::exit::{Answer, Failure, Outcome};
use crate::output::{self, Colour, paint};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answered {
    /// Absent: it could not be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    fit: Option<bool>,
    items: Vec<Item>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    name: &'static str,
    needed_by: &'static str,
    required: bool,
    /// `yes`, `no`, `unknown`.
    found: &'static str,
    detail: String,
    without: &'static str,
    fix: &'static str,
}

/// Runs the verb.
pub fn run(global: &Global) -> Outcome {
    let features = features::probe(&global.bpffs, global.cgroup.as_deref());
    let fitness = features::fitness(&features);
    let fit = match fitness {
        Fitness::Fit => Some(true),
        Fitness::Unfit => Some(false),
        Fitness::Unknown => None,
    };
    let permitted = !features.iter().any(|f| f.name == "permission" && !matches!(f.found, Found::Yes(_)));
    let fit = fit.filter(|_| permitted);
    let answer = Answered { fit, items: features.into_iter().map(Item::from).collect() };
    output::print(global.output, &answer, |wide| table(&answer, wide))?;
    match answer.fit {
        Some(true) => Ok(Answer::Yes),
        Some(false) => Ok(Answer::No),
        None if permitted => Err(Failure::not_allowed(anyhow::anyhow!(
            "not everything required could be tried on this node; the list says why"
        ))),
        None => {
            Err(Failure::not_allowed(anyhow::anyhow!("bpf(2) is not permitted; run `tortie check` as root")))
        }
    }
}

impl From<Feature> for Item {
    fn from(feature: Feature) -> Self {
        let Feature { name, needed_by, required, found, without, fix } = feature;
        let (found, detail) = match found {
            Found::Yes(detail) => ("yes", detail),
            Found::No(detail) => ("no", detail),
            Found::Unknown(detail) => ("unknown", detail),
        };
        Self { name, needed_by, required, found, detail, without, fix }
    }
}

fn table(answer: &Answered, wide: bool) -> String {
    let mut headers = vec!["", "FEATURE", "FOUND", "NEEDED BY"];
    if wide {
        headers.extend(["WITHOUT IT", "FIX"]);
    }
    let row = |item: &Item| {
        let mut cells =
            vec![mark(item), item.name.to_owned(), short(&item.detail), item.needed_by.to_owned()];
        if wide {
            cells.extend([item.without.to_owned(), item.fix.to_owned()]);
        }
        cells
    };
    let mut text = output::columns(&headers, &answer.items.iter().map(row).collect::<Vec<_>>());
    // What cannot be tried for one and the same reason is not explained line by line.
    for item in answer.items.iter().filter(|item| item.found == "no") {
        let _ = write!(
            text,
            "\n{} {}: {}\n    without: {}\n    fix:     {}\n",
            mark(item),
            paint(Colour::Bold, item.name),
            item.detail,
            item.without,
            item.fix
        );
    }
    let _ = write!(text, "\n{}\n", summary(answer));
    text
}

fn mark(item: &Item) -> String {
    match (item.found, item.required) {
        ("yes", _) => paint(Colour::Green, "✓"),
        ("no", true) => paint(Colour::Red, "✗"),
        ("no", false) => paint(Colour::Yellow, "–"),
        _ => paint(Colour::Yellow, "?"),
    }
}

/// A column is no place for a long message; the paragraph below the table has all of it.
fn short(detail: &str) -> String {
    const LONGEST: usize = 60;
    let line = detail.lines().next().unwrap_or_default();
    if line.chars().count() <= LONGEST {
        return line.to_owned();
    }
    line.chars().take(LONGEST - 1).chain(['…']).collect()
}

fn summary(answer: &Answered) -> String {
    let count = |found: &str, required: bool| {
        answer.items.iter().filter(|i| i.found == found && i.required == required).count()
    };
    let required = answer.items.iter().filter(|item| item.required).count();
    match answer.fit {
        Some(true) => {
            let optional = match count("no", false) {
                0 => "nothing else is missing".to_owned(),
                1 => "1 optional feature is missing".to_owned(),
                n => format!("{n} optional features are missing"),
            };
            format!("{}: all {required} required features found; {optional}.", paint(Colour::Green, "fit"))
        }
        Some(false) => format!(
            "{}: {} of {required} required features missing (✗).",
            paint(Colour::Red, "not fit"),
            count("no", true)
        ),
        None => format!(
            "{}: {} of {required} required features could not be tried (?).",
            paint(Colour::Yellow, "cannot tell"),
            count("unknown", true)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(found: Found, required: bool) -> Item {
        Item::from(Feature {
            name: "runs by user space",
            needed_by: "expiry of flows",
            required,
            found,
            without: "flows never end",
            fix: "Linux 5.8",
        })
    }

    fn shown(fit: Option<bool>, items: Vec<Item>) -> String {
        table(&Answered { fit, items }, false)
    }

    #[test]
    fn a_missing_feature_is_told_with_what_happens_without_it_and_the_fix() {
        let text = shown(Some(false), vec![item(Found::No("Invalid argument".into()), true)]);
        for part in
            ["✗", "runs by user space", "Invalid argument", "without: flows never end", "fix:     Linux 5.8"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(text.ends_with("not fit: 1 of 1 required features missing (✗).\n"), "{text}");
    }

    #[test]
    fn a_fit_node_gets_one_line_for_each_feature_and_no_advice() {
        let text = shown(Some(true), vec![item(Found::Yes("over map elements".into()), true)]);
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(!text.contains("without:"), "{text}");
    }

    #[test]
    fn what_could_not_be_tried_is_neither_found_nor_missing() {
        let text = shown(None, vec![item(Found::Unknown("not permitted".into()), true)]);
        assert!(text.contains('?') && !text.contains('✗') && !text.contains('✓'), "{text}");
    }
}
