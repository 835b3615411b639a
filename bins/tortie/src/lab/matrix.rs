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
use tortie_lab::{Endpoint, Family, Lab, Probe, ProbeResult, Protocol};

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

/// Makes all attempts. Exit 1 when an item says `expect` and something else came out.
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
    let list = Items { items };
    output::print(format, &list, |wide| if wide { table(&list.items) } else { grid(&probes, &results) })?;
    if surprises > 0 {
        output::tell(format_args!("tortie: {surprises} of {} are not as expected", list.items.len()));
        return Ok(Answer::No);
    }
    Ok(Answer::Yes)
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

fn probe(item: &Fields, arguments: &MatrixArgs) -> anyhow::Result<Probe> {
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

/// `expect` is a result, or `blocked` for anything but connected.
fn is_surprise(item: &Fields) -> bool {
    let text = |field: &str| item.get(field).and_then(Value::as_str);
    match (text("expect"), text("result")) {
        (None, _) => false,
        (Some("blocked"), result) => result == Some("connected"),
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
    let mut cells: BTreeMap<(String, String), (usize, usize)> = BTreeMap::new();
    let (mut sources, mut targets): (Vec<String>, Vec<String>) = Default::default();
    for (probe, result) in probes.iter().zip(results) {
        let (from, to) = (short(&probe.from), short(&probe.to));
        for (list, name) in [(&mut sources, &from), (&mut targets, &to)] {
            if !list.contains(name) {
                list.push(name.clone());
            }
        }
        let cell = cells.entry((from, to)).or_default();
        cell.0 += usize::from(result.is_connected());
        cell.1 += 1;
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
    text.push_str(&format!("\n{connected} of {} connected   ● all ports  ◐ some  · none\n", results.len()));
    text
}

fn mark(cell: Option<&(usize, usize)>) -> String {
    match cell {
        None => " ".to_owned(),
        Some((connected, all)) if connected == all => paint(Colour::Green, "●"),
        Some((0, _)) => paint(Colour::Red, "·"),
        Some(_) => paint(Colour::Yellow, "◐"),
    }
}

fn short(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Pod(namespace, name) => format!("{namespace}/{name}"),
        other => other.to_string(),
    }
}
