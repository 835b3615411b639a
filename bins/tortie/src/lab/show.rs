//! `lab list`, `lab status` and `lab logs`.
//!
//! Owns: how a laboratory looks to a person.
//! Does not: ask agents for anything but whether they live.
//! Invariant: a laboratory that was interrupted while being built is shown as such.

use std::fs;

use anyhow::Context as _;
use tortie_lab::{Lab, LabName, Summary};

use crate::exit::{Answer, Outcome};
use crate::output::{self, Colour, Format, Items, columns, paint};

/// The laboratories on this machine.
pub fn list(format: Format) -> Outcome {
    let items = tortie_lab::summaries()?;
    let list = Items { items };
    output::print(format, &list, |_| {
        let rows = list.items.iter().map(|lab| {
            vec![
                lab.name.clone(),
                if lab.complete { "up".to_owned() } else { "interrupted".to_owned() },
                lab.nodes.len().to_string(),
                lab.nodes
                    .iter()
                    .filter(|node| node.agent.as_ref().is_some_and(|agent| agent.alive))
                    .count()
                    .to_string(),
                lab.pods.len().to_string(),
            ]
        });
        columns(&["NAME", "STATE", "NODES", "AGENTS", "PODS"], &rows.collect::<Vec<_>>())
    })?;
    Ok(Answer::Yes)
}

/// One laboratory. Exit 1 when an agent does not run.
pub fn status(name: &LabName, format: Format) -> Outcome {
    let summary = Lab::open(name)?.summary()?;
    output::print(format, &summary, |_| text(&summary))?;
    let healthy = summary.nodes.iter().all(|node| node.agent.as_ref().is_none_or(|agent| agent.alive));
    Ok(if healthy { Answer::Yes } else { Answer::No })
}

fn text(lab: &Summary) -> String {
    let mut text = String::new();
    let nodes = lab.nodes.iter().map(|node| {
        let agent = match &node.agent {
            None => String::new(),
            Some(agent) if agent.alive => paint(Colour::Green, "running"),
            Some(_) => paint(Colour::Red, "not running"),
        };
        vec![
            node.name.clone(),
            node.dataplane.clone(),
            agent,
            node.addresses.join(","),
            node.pod_cidrs.join(","),
        ]
    });
    text += &columns(&["NODE", "DATAPLANE", "AGENT", "ADDRESSES", "PODS"], &nodes.collect::<Vec<_>>());
    let clients = lab.clients.iter().map(|client| vec![client.name.clone(), client.addresses.join(",")]);
    text += "\n";
    text += &columns(&["OUTSIDE", "ADDRESSES"], &clients.collect::<Vec<_>>());
    if !lab.pods.is_empty() {
        let pods = lab.pods.iter().map(|pod| {
            let ready = if pod.ready { paint(Colour::Green, "yes") } else { paint(Colour::Red, "no") };
            vec![
                pod.namespace.clone(),
                pod.name.clone(),
                pod.node.clone(),
                ready,
                pod.addresses.join(","),
                pod.ports.join(","),
            ]
        });
        text += "\n";
        text +=
            &columns(&["NAMESPACE", "POD", "NODE", "READY", "ADDRESSES", "PORTS"], &pods.collect::<Vec<_>>());
    }
    if !lab.services.is_empty() {
        let services = lab.services.iter().map(|service| {
            vec![
                service.namespace.clone(),
                service.name.clone(),
                service.kind.clone(),
                service.addresses.join(","),
                service.ports.join(","),
            ]
        });
        text += "\n";
        text +=
            &columns(&["NAMESPACE", "SERVICE", "TYPE", "ADDRESSES", "PORTS"], &services.collect::<Vec<_>>());
    }
    for (prefix, node) in &lab.routes {
        text += &format!("\nthe router sends {prefix} to {node}\n");
    }
    text
}

/// What agents and servers have logged.
pub fn logs(lab: &Lab, node: Option<&str>) -> Outcome {
    let directory = lab.paths.root.join("logs");
    let mut names: Vec<String> = fs::read_dir(&directory)
        .with_context(|| directory.display().to_string())?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    if let Some(node) = node {
        lab.state.plan.node(node)?;
        names.retain(|name| *name == format!("{node}.log") || *name == format!("server-{node}.log"));
    }
    for name in names {
        let text = fs::read_to_string(directory.join(&name)).with_context(|| name.clone())?;
        if !text.is_empty() {
            output::write(&format!("{}\n{text}", paint(Colour::Bold, &format!("==> {name} <=="))))?;
        }
    }
    Ok(Answer::Yes)
}
