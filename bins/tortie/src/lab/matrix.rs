//! `lab matrix`.
//!
//! Owns: reading probes, and showing their results as a grid.
//! Does not: connect.
//! Invariant: items come out in the order they came in, with every field they had.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde::Deserialize;
use serde_json::{Map, Value};
use tortie_lab::{Endpoint, Family, Lab, Probe, ProbeResult, Protocol, Verdict};
use tortie_store::spelling;

use super::{MatrixArgs, input};
use crate::exit::{Answer, Failure, Outcome};
use crate::output::{self, Colour, Format, Items, paint};

type Fields = Map<String, Value>;

/// What a probe is made from. Other fields of an item are carried along.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    from: Endpoint,
    to: Endpoint,
    #[serde(default)]
    protocol: Option<String>,
    port: Option<u16>,
    source_port: Option<u16>,
    family: Option<Family>,
    timeout: Option<String>,
    #[serde(default)]
    bytes: u64,
}

/// The keys that an item may have, but for those that it must have.
const OPTIONAL: [&str; 7] = ["protocol", "port", "sourcePort", "family", "timeout", "bytes", "expect"];

/// Makes all attempts. Exit 1 when an item says `expect` and something else came out, and when one could not be made.
pub fn matrix(lab: &Lab, arguments: &MatrixArgs, format: Format) -> Outcome {
    let (fields, probes) = match &arguments.file {
        Some(path) => read(path, arguments)?,
        None => {
            let probes = lab.every_pod_to_every_pod(arguments.family, arguments.timeout)?;
            (probes.iter().map(describe).collect(), probes)
        }
    };
    let results = lab.matrix(&probes)?;
    let items: Vec<Fields> = fields
        .into_iter()
        .zip(&results)
        .map(|(mut item, result)| {
            if let Ok(Value::Object(found)) = serde_json::to_value(result) {
                item.extend(found);
            }
            item
        })
        .collect();
    let surprises = items.iter().filter(|item| is_surprise(item)).count();
    let failed: Vec<&ProbeResult> = items
        .iter()
        .zip(&results)
        .filter(|(item, result)| result.result == Verdict::Error && !item.contains_key("expect"))
        .map(|(_, result)| result)
        .collect();
    if let [first, ..] = failed[..] {
        let (count, of) = (failed.len(), items.len());
        let detail = first.detail.as_deref().unwrap_or_default();
        output::tell(format_args!("tortie: {count} of {of} could not be made, such as: {detail}"));
    }
    let all_made = failed.is_empty();
    let list = Items { items };
    output::print(format, &list, |wide| if wide { table(&list.items) } else { grid(&probes, &results) })?;
    if surprises > 0 {
        output::tell(format_args!("tortie: {surprises} of {} are not as expected", list.items.len()));
        return Ok(Answer::No);
    }
    Ok(if all_made { Answer::Yes } else { Answer::No })
}

fn read(path: &std::path::Path, arguments: &MatrixArgs) -> Result<(Vec<Fields>, Vec<Probe>), Failure> {
    let origin = path.display();
    let text = if path.as_os_str() == "-" {
        input::stdin()?
    } else {
        fs::read_to_string(path).with_context(|| origin.to_string()).map_err(Failure::bad_input)?
    };
    let wrong = |error: String| Failure::BadInput(anyhow!("{origin}: {error}"));
    let input: Items<Fields> = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let probes = input.items.iter().enumerate().map(|(index, item)| {
        probe(item, arguments).map_err(|error| wrong(format!("items[{index}]: {error:#}")))
    });
    let probes = probes.collect::<Result<Vec<Probe>, Failure>>()?;
    Ok((input.items, probes))
}

/// What is carried along begins otherwise: a misspelling has the right first letter.
fn misspelt(key: &str) -> Option<&'static str> {
    let meant = spelling::closest(key, &OPTIONAL)?;
    let first = |word: &str| word.chars().next().map(|letter| letter.to_ascii_lowercase());
    (meant != key && first(meant) == first(key)).then_some(meant)
}

fn probe(item: &Fields, arguments: &MatrixArgs) -> anyhow::Result<Probe> {
    if let Some((key, meant)) = item.keys().find_map(|key| Some((key, misspelt(key)?))) {
        return Err(anyhow!("{key}: a probe has no such field; did you mean {meant}?"));
    }
    let item = Item::deserialize(Value::Object(item.clone()))?;
    let protocol: Option<Protocol> = item.protocol.as_deref().map(str::parse).transpose()?;
    let timeout = item
        .timeout
        .as_deref()
        .map(input::duration)
        .transpose()
        .map_err(|text| anyhow!("timeout: {text}"))?;
    Ok(Probe {
        protocol: protocol.unwrap_or_default(),
        port: item.port,
        family: item.family.or(arguments.family),
        source_port: item.source_port,
        timeout: timeout.unwrap_or(arguments.timeout).min(Duration::from_secs(600)),
        bytes: item.bytes,
        ..Probe::new(item.from, item.to)
    })
}

fn describe(probe: &Probe) -> Fields {
    let mut item = Map::new();
    item.insert("from".into(), probe.from.to_string().into());
    item.insert("to".into(), probe.to.to_string().into());
    item.insert("protocol".into(), probe.protocol.as_str().into());
    if let Some(port) = probe.port {
        item.insert("port".into(), port.into());
    }
    item
}

/// `expect` is a result, or `blocked` for any that is no connection. What could not be tried is not blocked.
fn is_surprise(item: &Fields) -> bool {
    let text = |field: &str| item.get(field).and_then(Value::as_str);
    match (text("expect"), text("result")) {
        (None, _) => false,
        (Some("blocked"), result) => [Some("connected"), Some("error")].contains(&result),
        (expected, result) => expected != result,
    }
}

fn table(items: &[Fields]) -> String {
    let header =
        ["FROM", "TO", "PROTOCOL", "PORT", "RESULT", "SERVER", "NODE", "CLIENTSEEN", "MICROS", "DETAIL"];
    let fields = [
        "from",
        "to",
        "protocol",
        "port",
        "result",
        "server",
        "node",
        "clientSeen",
        "connectMicros",
        "detail",
    ];
    let cell = |item: &Fields, field: &str| match item.get(field) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    let rows: Vec<Vec<String>> =
        items.iter().map(|item| fields.iter().map(|field| cell(item, field)).collect()).collect();
    output::columns(&header, &rows)
}

/// Who may talk to whom: a row for each source, a column for each destination, a mark for all ports together.
pub fn grid(probes: &[Probe], results: &[ProbeResult]) -> String {
    let mut cells: BTreeMap<(String, String), Cell> = BTreeMap::new();
    let (mut sources, mut targets): (Vec<String>, Vec<String>) = Default::default();
    for (probe, result) in probes.iter().zip(results) {
        let (from, to) = (short(&probe.from), short(&probe.to));
        for (list, name) in [(&mut sources, &from), (&mut targets, &to)] {
            if !list.contains(name) {
                list.push(name.clone());
            }
        }
        let cell = cells.entry((from, to)).or_default();
        cell.connected += usize::from(result.is_connected());
        cell.failed += usize::from(result.result == Verdict::Error);
        cell.all += 1;
    }
    let label = sources.iter().map(|name| name.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for (depth, target) in targets.iter().enumerate() {
        text.push_str(&format!("{:label$} {} {target}\n", "", "│ ".repeat(depth) + "┌"));
    }
    for from in &sources {
        let marks: Vec<String> =
            targets.iter().map(|to| mark(cells.get(&(from.clone(), to.clone())))).collect();
        text.push_str(&format!("{from:label$} {}\n", marks.join(" ")));
    }
    let connected = results.iter().filter(|result| result.is_connected()).count();
    let not_made = if cells.values().any(|cell| cell.failed > 0) { "  ! could not be made" } else { "" };
    let all = results.len();
    text.push_str(&format!("\n{connected} of {all} connected   ● all ports  ◐ some  · none{not_made}\n"));
    text
}

/// Attempts from one end to another.
#[derive(Debug, Default)]
struct Cell {
    connected: usize,
    failed: usize,
    all: usize,
}

fn mark(cell: Option<&Cell>) -> String {
    match cell {
        None => " ".to_owned(),
        Some(Cell { failed: 1.., .. }) => paint(Colour::Yellow, "!"),
        Some(Cell { connected, all, .. }) if connected == all => paint(Colour::Green, "●"),
        Some(Cell { connected: 0, .. }) => paint(Colour::Red, "·"),
        Some(_) => paint(Colour::Yellow, "◐"),
    }
}

fn short(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Pod(namespace, name) => format!("{namespace}/{name}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_looks_like_a_misspelt_one_is_refused_and_others_are_carried_along() {
        for (key, meant) in
            [("prot", "port"), ("protocoll", "protocol"), ("Family", "family"), ("sourceport", "sourcePort")]
        {
            assert_eq!(misspelt(key), Some(meant), "{key}");
        }
        // Also what a matrix itself has answered.
        for key in OPTIONAL.iter().chain(&["from", "to", "name", "note", "host", "id", "why", "result"]) {
            assert_eq!(misspelt(key), None, "{key}");
        }
        for key in ["server", "node", "clientSeen", "serverAddress", "connectMicros", "detail"] {
            assert_eq!(misspelt(key), None, "{key}");
        }
    }

    #[test]
    fn what_could_not_be_tried_is_neither_blocked_nor_shown_as_closed() {
        let item = |expect: &str, result: &str| {
            let mut item = Fields::new();
            item.extend([("expect".into(), expect.into()), ("result".into(), result.into())]);
            item
        };
        assert!(!is_surprise(&item("blocked", "timeout")) && !is_surprise(&item("error", "error")));
        assert!(is_surprise(&item("blocked", "error")) && is_surprise(&item("blocked", "connected")));
        let end = |text: &str| text.parse::<Endpoint>().unwrap();
        let probes = [Probe::new(end("pod:default/a"), end("pod:default/b"))];
        let results = [ProbeResult::failed(Verdict::Error, "there is no pod default/b")];
        let shown = grid(&probes, &results);
        assert!(shown.contains("default/a !") && shown.contains("! could not be made"), "{shown}");
    }
}
