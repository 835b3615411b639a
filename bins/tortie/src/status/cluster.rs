//! `status --cluster`: every node on one screen.
//!
//! Owns: asking all nodes at once, the table, and the exit code. Does not: judge a node; its own `status` does.
//! Invariant: a node that cannot be asked is a line with the reason, and keeps no other from being shown.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde::Serialize;

use super::answer::{Dirty, Status};
use super::nodes::{Ask, Node};
use super::{Arguments, NO_AGENT, NOT_IN_FORCE, nodes, text};
use crate::args::Global;
use crate::exit::{Answer, Failure, Outcome};
use crate::output::{self, Colour, Items, columns, paint};

/// Nodes that are asked at the same time.
const AT_ONCE: usize = 16;

/// How a node is.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Row {
    Answered(Box<Status>),
    Silent(Silent),
}

/// A node that has said nothing about itself.
#[derive(Debug, Serialize)]
struct Silent {
    health: &'static str,
    reasons: Vec<String>,
    node: String,
}

impl Row {
    fn new(node: &str, answer: Result<Status, String>) -> Self {
        match answer {
            Ok(mut status) => {
                if status.node.is_empty() {
                    node.clone_into(&mut status.node);
                }
                Self::Answered(Box::new(status))
            }
            Err(why) => Self::Silent(Silent { health: NO_AGENT, reasons: vec![why], node: node.to_owned() }),
        }
    }

    fn parts(&self) -> (&str, &str, &[String]) {
        match self {
            Self::Answered(status) => (&status.node, &status.health, &status.reasons),
            Self::Silent(silent) => (&silent.node, silent.health, &silent.reasons),
        }
    }

    /// Why it is not as desired. There is no room for the list of what is not in force: each is a reason, in place of
    /// their number.
    fn why(&self) -> Vec<String> {
        let Self::Answered(status) = self else { return self.parts().2.to_vec() };
        let named = status.dirty.iter().map(Dirty::sentence);
        let is_number = |reason: &str| NOT_IN_FORCE.iter().any(|words| reason.ends_with(words));
        let others = status.reasons.iter().filter(|it| status.dirty.is_empty() || !is_number(it));
        named.chain(others.cloned()).collect()
    }

    fn is_healthy(&self) -> bool {
        matches!(self, Self::Answered(status) if status.is_healthy())
    }

    fn is_silent(&self) -> bool {
        self.parts().1 == NO_AGENT
    }
}

/// Runs the verb: 0 all are healthy; 3 an agent cannot be reached; else 1.
pub fn run(arguments: &Arguments, global: &Global) -> Outcome {
    let (nodes, ask) = match &arguments.lab {
        Some(name) => nodes::of_lab(name)?,
        None => nodes::of_cluster(global, &arguments.namespace)?,
    };
    let list = Items { items: all(&nodes, &ask, arguments) };
    output::print(global.output, &list, |wide| screen(&list.items, &ask, wide))?;
    let silent: Vec<&str> =
        list.items.iter().filter(|row| row.is_silent()).map(|row| row.parts().0).collect();
    if !silent.is_empty() {
        let (count, of) = (silent.len(), list.items.len());
        let which = silent.join(", ");
        return Err(Failure::unreachable(anyhow::anyhow!(
            "{count} of {of} agents cannot be reached: {which}. What was in force there stays in force."
        )));
    }
    let healthy = !list.items.is_empty() && list.items.iter().all(Row::is_healthy);
    Ok(if healthy { Answer::Yes } else { Answer::No })
}

/// Asks them, a few at a time; the answers are in the order of the nodes.
fn all(nodes: &[Node], ask: &Ask, arguments: &Arguments) -> Vec<Row> {
    let next = AtomicUsize::new(0);
    let rows = Mutex::new(Vec::with_capacity(nodes.len()));
    let work = || {
        while let Some((at, node)) = take(nodes, &next) {
            let row = Row::new(&node.name, ask.one(node, arguments.timeout));
            rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((at, row));
        }
    };
    thread::scope(|scope| (0..AT_ONCE.min(nodes.len())).for_each(|_| drop(scope.spawn(work))));
    let mut rows = rows.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    rows.sort_by_key(|(at, _)| *at);
    rows.into_iter().map(|(_, row)| row).collect()
}

fn take<'n>(nodes: &'n [Node], next: &AtomicUsize) -> Option<(usize, &'n Node)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    Some((at, nodes.get(at)?))
}

fn screen(rows: &[Row], ask: &Ask, wide: bool) -> String {
    let well = rows.iter().filter(|row| row.is_healthy()).count();
    let mut text = match (rows.len(), well) {
        (0, _) => return "there are no nodes\n".to_owned(),
        (all, well) if all == well => {
            format!("{} {all} of {all} nodes: everything is in force\n", paint(Colour::Green, "● healthy"))
        }
        (all, well) => format!("{} {well} of {all} nodes are healthy\n", paint(Colour::Red, "● not healthy")),
    };
    let header = ["NODE", "HEALTH", "VERSION", "PODS", "UP", "KERNEL", "ATTACH", "REVISION", "MEMORY", "WHY"];
    let lines: Vec<_> = rows.iter().map(|row| line(row, wide)).collect();
    text.push('\n');
    text.push_str(&columns(&header, &lines));
    if let Some(row) = rows.iter().find(|row| !row.is_healthy() && !row.is_silent()) {
        text.push_str(&format!("\nmore of a node: {}\n", ask.more(row.parts().0)));
    }
    text
}

fn line(row: &Row, wide: bool) -> Vec<String> {
    let (node, health, _) = row.parts();
    let (colour, word) = match health {
        "healthy" => (Colour::Green, health),
        "starting" => (Colour::Yellow, health),
        NO_AGENT => (Colour::Red, "no answer"),
        _ => (Colour::Red, health),
    };
    let mut cells = vec![node.to_owned(), paint(colour, word)];
    let told = match row {
        Row::Answered(status) => facts(status, wide),
        Row::Silent(_) => <[String; 7]>::default(),
    };
    cells.extend(told);
    let why = match row.why().as_slice() {
        [] => String::new(),
        all if wide => all.join("; "),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first}, and {} more", rest.len()),
    };
    cells.push(why);
    cells
}

fn facts(status: &Status, wide: bool) -> [String; 7] {
    let told = |value: Option<String>| value.unwrap_or_default();
    let broad = |value: Option<String>| value.filter(|_| wide).unwrap_or_default();
    [
        told(status.version.clone()),
        status.endpoints.to_string(),
        told(status.uptime_seconds.map(text::duration)),
        broad(status.kernel.clone()),
        broad(status.attach.clone()),
        broad(status.revision.map(|revision| revision.to_string())),
        broad(status.rss_bytes.map(text::size)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_a_line_with_the_first_reason_and_a_silent_one_says_nothing_else() {
        let status = Status {
            node: "n1".into(),
            health: "degraded".into(),
            reasons: vec!["1 object is rejected".into(), "b".into(), "c".into()],
            version: Some("0.1.0".into()),
            endpoints: 3,
            kernel: Some("6.18".into()),
            ..Status::default()
        };
        let degraded = Row::new("n1", Ok(status));
        let silent = Row::new("n2", Err("no pod".into()));
        let cells = |row: &Row, wide| line(row, wide).join("|");
        assert_eq!(cells(&degraded, false), "n1|degraded|0.1.0|3||||||1 object is rejected, and 2 more");
        assert_eq!(cells(&degraded, true), "n1|degraded|0.1.0|3||6.18||||1 object is rejected; b; c");
        assert_eq!(cells(&silent, true), "n2|no answer||||||||no pod");
        let dirty =
            |object: &str, reason: &str| Dirty { object: object.into(), reason: reason.into(), attempts: 1 };
        let status = Status {
            health: "degraded".into(),
            reasons: vec!["2 things are not in force yet".into(), "1 object is rejected".into()],
            dirty: vec![dirty("way to node n3 (10.0.0.3)", "no route"), dirty("host route fd00::/64", "")],
            ..Status::default()
        };
        let dirty = Row::new("n1", Ok(status));
        let why = |wide| line(&dirty, wide).pop().unwrap();
        assert_eq!(why(false), "way to node n3 (10.0.0.3): no route, and 2 more");
        let all =
            "way to node n3 (10.0.0.3): no route; host route fd00::/64: not tried yet; 1 object is rejected";
        assert_eq!(why(true), all);
        assert!(silent.is_silent() && !degraded.is_silent() && !degraded.is_healthy());
    }
}
