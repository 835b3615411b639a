//! The drops of the demo, with their reasons.
//!
//! Owns: asking every node, as a person would with `tortie counters list` and `tortie drops`.
//! Does not: read maps.
//! Invariant: what is printed is what the verbs print.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::Stdio;

use anyhow::Context as _;
use serde_json::Value;
use tortie_lab::{Error, Lab, Where};

use super::tell::{Story, say};
use crate::output::columns;

/// Packets that were dropped on the nodes, by reason, and expects that policy is among the reasons.
pub fn show(lab: &Lab, story: &mut Story) -> tortie_lab::Result<()> {
    let mut by_reason: BTreeMap<(String, String), u64> = BTreeMap::new();
    for node in &lab.state.plan.nodes {
        for item in ask(lab, &node.name, &["counters", "list"])? {
            let reason = item.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned();
            let packets = item.get("packets").and_then(Value::as_u64).unwrap_or_default();
            *by_reason.entry((node.name.clone(), reason)).or_default() += packets;
        }
    }
    let rows: Vec<Vec<String>> = by_reason
        .iter()
        .filter(|(_, packets)| **packets > 0)
        .map(|((node, reason), packets)| vec![node.clone(), reason.clone(), packets.to_string()])
        .collect();
    for line in columns(&["NODE", "REASON", "PACKETS"], &rows).lines() {
        say(&format!("   {line}"));
    }
    let denied: u64 = by_reason
        .iter()
        .filter(|((_, reason), _)| reason.to_lowercase().contains("policy"))
        .map(|(_, packets)| packets)
        .sum();
    story.expect(denied > 0, format!("{denied} packets were dropped by policy, and say so"));
    Ok(())
}

/// The items that a verb prints on a node.
fn ask(lab: &Lab, node: &str, verb: &[&str]) -> tortie_lab::Result<Vec<Value>> {
    let mut command = vec![lab.binary.clone().into_os_string()];
    command.extend(verb.iter().chain(&["-o", "json"]).map(OsString::from));
    let place = lab.place(&Where::Node(node.to_owned()))?;
    let child = place.spawn(&command, [Stdio::null(), Stdio::piped(), Stdio::piped()])?;
    let output = child.wait_with_output().context("waiting for tortie")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::No(anyhow::anyhow!("tortie {} on {node}: {said}", verb.join(" "))));
    }
    let list: Value = serde_json::from_slice(&output.stdout).context("the answer of tortie is not JSON")?;
    Ok(list.get("items").and_then(Value::as_array).cloned().unwrap_or_default())
}
