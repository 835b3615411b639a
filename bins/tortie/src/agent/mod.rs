//! `tortie agent`: the node agent.
//!
//! Owns: its flags, and putting store, calculation, reconciler and kernel together.
//! Does not: decide anything about policy, services or routes.
//! Invariant: whatever ends the agent, the data plane goes on working; the next start takes it over.

mod attachments;
mod chosen_sizes;
mod conflicts;
pub(crate) mod devices;
mod drops;
mod events;
mod facts;
mod goals;
mod growth;
mod host_routes;
mod intake;
mod link_check;
mod node;
pub(crate) mod node_names;
mod observe;
mod own_addresses;
mod parts;
mod pods;
mod server;
mod sockets;
pub(crate) mod state_files;
mod status;
mod traces;
mod uplinks;
mod waiters;
mod ways;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tortie_host::lock::LockError;
use tortie_model::NodeName;

use crate::args::{Global, StoreAddress};
use crate::exit::{Answer, Failure, Outcome};

/// An agent that looks less often than once a day might as well not look.
const MOST_SECONDS: u64 = 86_400;

/// Flags of `tortie agent`.
#[derive(Debug, Clone, Args)]
pub struct Agent {
    /// This node's name, as its Node object has it.
    #[arg(long, env = "TORTIE_NODE", value_name = "NAME")]
    node: String,
    /// Further settings, in the form of Calico's felix.cfg; they win over the datastore. Looked at again once a second.
    #[arg(long, env = "TORTIE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where what is in force is remembered, for a start with a broken file or without an API server; on a disk that
    /// outlives a reboot if pods are to have their network before the API server is back. Default: RUN_DIR/store.
    #[arg(long, env = "TORTIE_CACHE", value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Compare kernel and desired state this often.
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=MOST_SECONDS))]
    resync_seconds: u64,
    /// Look for flows that are over this often.
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=MOST_SECONDS))]
    sweep_seconds: u64,
    /// Send a trace of each change, from the datastore's event to the kernel's maps, to this OpenTelemetry collector
    /// (OTLP over HTTP), such as http://127.0.0.1:4318/v1/traces. Without it there are none.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", value_name = "URL")]
    traces_endpoint: Option<String>,
}

/// What the agent was started with.
#[derive(Debug, Clone)]
pub struct Options {
    node: NodeName,
    run_dir: PathBuf,
    bpffs: PathBuf,
    cgroup: Option<PathBuf>,
    resync: Duration,
    sweep: Duration,
}

/// Runs until it is asked to stop.
pub fn run(agent: Agent, global: &Global) -> Outcome {
    let node = node_name(&agent.node)?;
    let file = config_text(agent.config.as_deref())?;
    let store = open_store(&agent, global)?;
    let options = Options {
        node,
        run_dir: global.run_dir.clone(),
        bpffs: global.bpffs.clone(),
        cgroup: global.cgroup.clone(),
        resync: Duration::from_secs(agent.resync_seconds),
        sweep: Duration::from_secs(agent.sweep_seconds),
    };
    std::fs::create_dir_all(&options.run_dir).map_err(|e| {
        Failure::not_allowed(anyhow::anyhow!(
            "run directory {}: {e}; run the agent as root, or give another directory with --run-dir",
            options.run_dir.display()
        ))
    })?;
    tortie_host::bpffs::ensure(&options.bpffs).map_err(Failure::not_allowed)?;
    let _lock =
        tortie_host::lock::NodeLock::take(&options.run_dir, &options.bpffs).map_err(|error| match error {
            LockError::Taken { .. } => Failure::no(error),
            LockError::File { .. } => Failure::not_allowed(error),
        })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::not_allowed(anyhow::anyhow!("starting the runtime: {e}")))?;
    let settings = local_settings(file);
    crate::logging::set_level(&settings.log_level);
    let socket = tortie::agent_api::socket_path(&options.run_dir);
    let vitals = observe::Vitals::new(options.node.as_str(), socket, options.sweep);
    let mut observer =
        observe::Observer::start(vitals, &options.bpffs, &settings).map_err(Failure::not_allowed)?;
    // An empty variable is one that is not set.
    if let Some(endpoint) = agent.traces_endpoint.as_deref().filter(|url| !url.is_empty()) {
        let traces = traces::Traces::start(endpoint, &agent.node, observer.runtime.clone());
        observer.traces = Some(traces.map_err(Failure::bad_input)?);
    }
    observer.vitals.set_store(store.handle());
    let local = tokio::task::LocalSet::new();
    match local.block_on(&runtime, events::run(options, store, observer))? {
        events::End::Stopped => Ok(Answer::Yes),
        events::End::Again => Err(again()),
    }
}

/// This process starts again, with its arguments and under its number: for whoever watches it, it goes on. Returns only if
/// that fails.
fn again() -> Failure {
    use std::os::unix::process::CommandExt as _;
    // By its name, as long as that is this version.
    const SELF: &str = "/proc/self/exe";
    let identity = |path: &Path| std::fs::metadata(path).map(|it| (it.dev(), it.ino())).ok();
    let named = std::env::current_exe().ok().filter(|path| identity(path) == identity(Path::new(SELF)));
    let mut arguments = std::env::args_os();
    let mut command = std::process::Command::new(named.as_deref().unwrap_or(Path::new(SELF)));
    command.arg0(arguments.next().unwrap_or_default()).args(arguments);
    Failure::not_allowed(anyhow::anyhow!("starting again: {}", command.exec()))
}

/// A name that a Node can have: under another one the agent would take over the node's maps for a node without pods.
fn node_name(text: &str) -> Result<NodeName, Failure> {
    match tortie_store::check::subdomain(text) {
        Ok(()) => Ok(NodeName::new(text)),
        Err(wrong) => Err(Failure::bad_input(anyhow::anyhow!(
            "--node (TORTIE_NODE): {wrong}; give the name of this node's Node object"
        ))),
    }
}

/// The file of settings. Who names one relies on it; should it go later, the last good settings stay.
fn config_text(path: Option<&Path>) -> Result<Option<(&Path, String)>, Failure> {
    let Some(path) = path else { return Ok(None) };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((path, text))),
        Err(error) => Err(Failure::bad_input(anyhow::anyhow!(
            "--config {}: {error}; correct the path, or leave out --config and TORTIE_CONFIG",
            path.display()
        ))),
    }
}

/// What file and environment say, before the store has said anything: health must answer while it is waited for.
/// What is wrong with them the store reports.
fn local_settings(file: Option<(&Path, String)>) -> tortie_model::settings::Settings {
    use tortie_store::settings::{Layers, local};
    let environment: Vec<_> = std::env::vars().collect();
    let layers = Layers {
        environment: local::environment(&environment).0,
        file: file.map(|(path, text)| local::file(path, &text).0).unwrap_or_default(),
        ..Layers::default()
    };
    layers.merge()
}

fn open_store(agent: &Agent, global: &Global) -> Result<tortie_store::Store, Failure> {
    let cache = Some(agent.cache.clone().unwrap_or_else(|| global.run_dir.join("store")));
    match &global.store {
        Some(StoreAddress::Dir(root)) => {
            let options = tortie_store::dir::Options {
                node: agent.node.clone(),
                config_file: agent.config.clone(),
                last_good: cache,
                environment: std::env::vars().collect(),
            };
            tortie_store::dir::open(root, options).map_err(Failure::unreachable)
        }
        Some(StoreAddress::Kube(kubeconfig)) => {
            let options = tortie_store::kube::Options {
                access: tortie_store::kube::Access::new(kubeconfig.clone()),
                node: agent.node.clone(),
                config_file: agent.config.clone(),
                environment: std::env::vars().collect(),
                cache,
                writes: true,
            };
            tortie_store::kube::open(options).map_err(Failure::unreachable)
        }
        None => Err(Failure::bad_input(anyhow::anyhow!(
            "no store; use --store dir:PATH, --store kube[:KUBECONFIG] or TORTIE_STORE"
        ))),
    }
}
