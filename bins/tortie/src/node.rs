//! `node status`: what calicoctl's verb of that name tells: is the agent running, and which nodes are reached how.
//!
//! Owns: the screen. Does not: judge the node; `status` does.
//! Invariant: says that there is no BGP before anybody looks for it.

use std::io;

use clap::Subcommand;
use serde::Serialize;
use tortie_observe::routes;

use crate::args::Global;
use crate::ask;
use crate::exit::{Answer, Outcome};
use crate::inspect;
use crate::output::{self, columns};

/// Verbs of this node.
#[derive(Debug, Subcommand)]
pub enum Node {
    /// Whether the agent runs here, and how the other nodes' pods are reached.
    Status,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    node: String,
    health: String,
    version: String,
    bgp: bool,
    items: Vec<Peer>,
}

/// Another node, as its pods are reached.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Peer {
    node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<String>,
    prefixes: Vec<String>,
}

/// Runs the verb.
pub fn run(node: Node, global: &Global) -> Outcome {
    match node {
        Node::Status => status(global),
    }
}

fn status(global: &Global) -> Outcome {
    let judged = crate::status::of_this_node(global).map_err(|error| {
        let why = ask::unreachable(&global.run_dir, &error);
        let words = match error.kind() {
            io::ErrorKind::PermissionDenied => why,
            io::ErrorKind::WouldBlock => format!("Tortie agent does not answer. {why}"),
            _ => format!("Tortie agent is not running. {why}"),
        };
        ask::classed(&error, words)
    })?;
    let healthy = judged.is_healthy();
    let status = Status {
        node: judged.node,
        health: judged.health,
        version: judged.version.unwrap_or_default(),
        bgp: false,
        items: peers(&inspect::route_rows(global)?),
    };
    output::print(global.output, &status, |_| screen(&status))?;
    Ok(if healthy { Answer::Yes } else { Answer::No })
}

/// One for each node and address of it.
fn peers(rows: &[routes::Row]) -> Vec<Peer> {
    let mut peers: Vec<Peer> = Vec::new();
    for row in rows.iter().filter(|row| row.kind == "remote-pod") {
        let node = row.node.clone().unwrap_or_else(|| "unknown".to_owned());
        let address = row.next_hop.map(|address| address.to_string());
        match peers.iter_mut().find(|peer| peer.node == node && peer.address == address) {
            Some(peer) => peer.prefixes.push(row.prefix.clone()),
            None => {
                let (interface, prefixes) = (row.interface.clone(), vec![row.prefix.clone()]);
                peers.push(Peer { node, address, interface, prefixes });
            }
        }
    }
    peers.sort_by(|a, b| (&a.node, &a.address).cmp(&(&b.node, &b.address)));
    peers
}

fn screen(status: &Status) -> String {
    let more = if status.health == "healthy" { "" } else { "; `tortie status` says why" };
    let Status { node, version, health, .. } = status;
    let mut text = format!("Tortie agent is running: {node}, v{version}, {health}{more}.\n");
    text.push_str(
        "\nBGP status\nThere is no BGP here: nodes learn each other's pod prefixes from the store.\n\n",
    );
    if status.items.is_empty() {
        text.push_str("No other node has pods that are known here.\n");
        return text;
    }
    let row = |peer: &Peer| {
        vec![
            peer.address.clone().unwrap_or_else(|| "unknown".to_owned()),
            peer.node.clone(),
            peer.interface.clone().unwrap_or_default(),
            peer.prefixes.join(", "),
        ]
    };
    let rows: Vec<Vec<String>> = status.items.iter().map(row).collect();
    text.push_str(&columns(&["PEER ADDRESS", "NODE", "INTERFACE", "PREFIXES"], &rows));
    text
}
