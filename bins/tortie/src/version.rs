//! `version`: of this program, of the cluster, and of the agent on this node.
//!
//! Owns: what is asked and how it is shown. Does not: compare versions.
//! Invariant: what cannot be asked is said on stderr and does not keep the rest from being shown.

use std::io;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use tortie_store::input::DEFAULT_NAMESPACE;
use tortie_store::kind;
use tortie_store::objects::{Dry, Look as _, Objects};
use tortie_store::resource::Key;

use crate::args::Global;
use crate::ask;
use crate::exit::{self, Answer, Failure, Outcome};
use crate::inspect::names;
use crate::output;
use crate::resources::open;

/// Flags of `version`.
#[derive(Debug, Args)]
pub struct Version {
    /// Of this program alone.
    #[arg(long)]
    client: bool,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    client_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kubernetes_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_type: Option<String>,
}

/// Runs the verb. Exit 3 when the agent of this node, or the store that is meant, cannot be asked, 4 when it may not be; calicoctl, too,
/// fails then.
pub fn run(version: &Version, global: &Global) -> Outcome {
    let mut versions =
        Versions { client_version: format!("v{}", env!("CARGO_PKG_VERSION")), ..Versions::default() };
    let mut failure = None;
    if !version.client {
        match ask::agent(&global.run_dir, &json!({"verb": "status"})) {
            Ok(status) => {
                let text = |name: &str| status.get(name).and_then(Value::as_str).map(str::to_owned);
                (versions.agent_version, versions.node) =
                    (text("version").map(|it| format!("v{it}")), text("node"));
            }
            // No agent has ever been here; one that was stopped has left its names.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && names::nodes(&global.run_dir).node.is_empty() => {}
            Err(error) => failure = Some(ask::failure(&global.run_dir, &error)),
        }
        if let Err(of_cluster) = cluster(&mut versions, global) {
            failure.replace(of_cluster).iter().for_each(exit::say);
        }
    }
    output::print(global.output, &versions, |_| text(&versions))?;
    match failure {
        None => Ok(Answer::Yes),
        Some(failure) => Err(failure),
    }
}

fn cluster(versions: &mut Versions, global: &Global) -> Result<(), Failure> {
    let objects = open::objects(global, Dry::Not)?;
    if let Objects::Cluster(cluster) = &objects {
        let answer = cluster.version().map_err(|error| open::failure(error.into()))?;
        versions.kubernetes_version = Some(answer);
    }
    // Calico's own note of what the cluster is, where there is one.
    let Some(kind) = kind::named("clusterinformations") else { return Ok(()) };
    let key = Key {
        group: kind.group.into(),
        kind: kind.kind.into(),
        namespace: if kind.namespaced { DEFAULT_NAMESPACE.into() } else { String::new() },
        name: "default".into(),
    };
    let found = objects.view().and_then(|view| view.find(kind, &key));
    if let Ok(Some(found)) = found {
        let text = |path: &str| found.value.pointer(path).and_then(Value::as_str).map(str::to_owned);
        versions.cluster_version = text("/spec/calicoVersion");
        versions.cluster_type = text("/spec/clusterType");
    }
    Ok(())
}

fn text(versions: &Versions) -> String {
    let node = versions.node.as_deref().map(|node| format!(" (on {node})")).unwrap_or_default();
    let lines = [
        ("Client Version:", Some(versions.client_version.clone())),
        ("Agent Version:", versions.agent_version.as_ref().map(|version| format!("{version}{node}"))),
        ("Kubernetes Version:", versions.kubernetes_version.clone()),
        ("Cluster Version:", versions.cluster_version.clone()),
        ("Cluster Type:", versions.cluster_type.clone()),
    ];
    let line = |(name, value): (&str, Option<String>)| Some(format!("{name:<20}{}\n", value?));
    lines.into_iter().filter_map(line).collect()
}
