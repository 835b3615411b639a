//! `migrate check`: what a cluster or a directory uses of Calico and kube-proxy, and what becomes of it here.
//!
//! Owns: the flags, the order and the form of findings. Does not: change anything.
//! Invariant: 0 only when nothing would be lost without a word; what could not be asked blocks.

mod cluster;
mod finding;
mod objects;

pub use objects::is_tier_of_calico;

use std::collections::BTreeMap;

use clap::Subcommand;
use serde::Serialize;
use tortie_store::kind::{KINDS, Kind, Role};
use tortie_store::objects::{Dry, Look as _, Selection, View};
use tortie_store::resource::Resource;

use crate::args::Global;
use crate::exit::{Answer, Outcome};
use crate::output::{self, Colour, columns, paint};
use crate::resources::open;
use finding::{Finding, Verdict};

/// Moving a cluster here.
#[derive(Debug, Subcommand)]
pub enum Migrate {
    /// List what is used, what is supported, what differs and what blocks. Exit 1 when something blocks.
    Check,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    /// What runs there now.
    found: Vec<String>,
    items: Vec<Finding>,
}

/// Objects by group and kind.
type Used = BTreeMap<(&'static str, &'static str), Vec<Resource>>;

fn of<'u>(used: &'u Used, group: &'static str, kind: &'static str) -> &'u [Resource] {
    used.get(&(group, kind)).map(Vec::as_slice).unwrap_or_default()
}

/// Runs the verb.
pub fn run(migrate: Migrate, global: &Global) -> Outcome {
    match migrate {
        Migrate::Check => check(global),
    }
}

fn check(global: &Global) -> Outcome {
    let objects = open::objects(global, Dry::Not)?;
    let view = objects.view().map_err(open::failure)?;
    // Who is not known may read nothing, and where nobody answers there is nothing to read: that is said once, and not of
    // each kind.
    if let Err(error) = view.list(&KINDS[0], &Selection::default())
        && (error.is_unauthorized() || error.is_no_answer())
    {
        return Err(open::failure(error));
    }
    let report = examine(&view);
    output::print(global.output, &report, |wide| screen(&report, wide))?;
    let blocked = report.items.iter().any(|it| it.verdict == Verdict::Blocks);
    Ok(if blocked { Answer::No } else { Answer::Yes })
}

fn examine(view: &View<'_>) -> Report {
    let mut report = Report::default();
    for rejection in view.rejections() {
        let place = rejection.origin.to_string();
        report.items.push(Finding::blocks(&place, &rejection.problem, &rejection.fix));
    }
    let mut used = Used::new();
    for kind in KINDS.iter().chain(cluster::KINDS) {
        match all_of(view, kind) {
            Ok(found) => _ = used.insert((kind.group, kind.kind), found),
            Err(finding) => report.items.push(finding),
        }
    }
    if report.items.is_empty() && used.values().all(Vec::is_empty) {
        let fix = "is it the right place? --store dir:PATH or kube[:KUBECONFIG]";
        report.items.push(Finding::blocks("the store", "holds no object at all", fix));
    }
    report.found = cluster::found(&used);
    report.items.extend(cluster::findings(&used));
    let told = report.items.iter().map(|it| it.object.clone()).collect();
    for kind in &KINDS {
        report.items.extend(objects::findings(kind, of(&used, kind.group, kind.kind), &told));
    }
    report.items.sort_by(|a, b| (a.verdict, &a.object).cmp(&(b.verdict, &b.object)));
    report
}

/// A kind that the cluster does not serve is not used.
fn all_of(view: &View<'_>, kind: &'static Kind) -> Result<Vec<Resource>, Finding> {
    match view.list(kind, &Selection::default()) {
        Ok(found) => Ok(found),
        Err(error) if error.is_not_served() || error.is_missing() => Ok(Vec::new()),
        Err(error) if kind.role == Role::Kept && kind.group == "operator.tigera.io" => {
            Err(Finding::differs(kind.plural, &error.to_string(), "ask somebody who may read it"))
        }
        Err(error) => {
            let fix = match error.is_unavailable() {
                true => {
                    "see why with `kubectl get apiservice`, and run this again when whoever serves it answers"
                }
                false => "run this as somebody who may",
            };
            Err(Finding::blocks(kind.plural, &format!("cannot be read: {error}"), fix))
        }
    }
}

fn screen(report: &Report, wide: bool) -> String {
    let mut text = String::new();
    for line in &report.found {
        text.push_str(&format!("{line}\n"));
    }
    let count = |verdict| report.items.iter().filter(|it| it.verdict == verdict).count();
    for (verdict, heading, colour) in [
        (Verdict::Blocks, "BLOCKS: settle these first", Colour::Red),
        (Verdict::Differs, "DIFFERS: read these before", Colour::Yellow),
        (Verdict::Supported, "SUPPORTED", Colour::Green),
    ] {
        let rows: Vec<Vec<String>> =
            report.items.iter().filter(|it| it.verdict == verdict).map(|it| row(it, wide)).collect();
        if !rows.is_empty() {
            text.push_str(&format!(
                "\n{}\n{}",
                paint(colour, heading),
                columns(&["OBJECT", "WHAT", "TO DO"], &rows)
            ));
        }
    }
    text.push_str(&match (count(Verdict::Blocks), count(Verdict::Differs)) {
        (0, 0) => "\nnothing blocks, nothing differs\n".to_owned(),
        (0, differs) => format!("\nnothing blocks; {differs} to read\n"),
        (blocks, differs) => format!("\n{blocks} to settle first, {differs} to read\n"),
    });
    text
}

fn row(finding: &Finding, _wide: bool) -> Vec<String> {
    vec![finding.object.clone(), finding.what.clone(), finding.fix.clone()]
}

#[cfg(test)]
mod tests;
