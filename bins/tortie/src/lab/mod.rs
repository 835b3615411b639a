//! `tortie lab …`: a cluster on one machine.
//!
//! Owns: the flags of the laboratory's verbs.
//! Does not: build anything; `tortie-lab` does.
//! Invariant: names, fields and exit codes are those of design/cli.md.

mod demo;
mod faults;
pub(crate) mod input;
mod matrix;
mod objects;
mod probe;
mod run;
mod show;
mod up;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use ipnet::IpNet;
use tortie_lab::{Endpoint, Families, Family, LabName, Protocol};

use crate::args::Global;
use crate::exit::{Failure, Outcome};

/// Flags of `tortie lab`.
#[derive(Debug, Args)]
pub struct Lab {
    /// Which laboratory; `lab` when absent (`demo` for the demo).
    #[arg(long, global = true, value_name = "N")]
    name: Option<LabName>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build a cluster and wait until it is ready; with --store kube around a real API server and kubectl.
    Up(Up),
    /// Create or change objects: Kubernetes and Calico YAML.
    Apply(Files),
    /// Remove objects.
    Delete(Delete),
    /// Return when everything applied so far is enforced on every node.
    Wait {
        /// How long to wait.
        #[arg(long, default_value = "30s", value_parser = input::duration)]
        timeout: Duration,
    },
    /// One attempt from one endpoint to another. Exit 0 when connected, 1 when not.
    Probe(ProbeArgs),
    /// Many attempts at once; without -f all pods to all pods on all their ports.
    Matrix(MatrixArgs),
    /// Run a program of this machine in a pod, on a node or on an outside machine.
    Exec(Exec),
    /// What is on the wire (needs tcpdump); ends with Ctrl-C.
    Capture(Capture),
    /// Point the router's next hop for a prefix at a node, or move it there.
    Route {
        /// Such as 203.0.113.7/32.
        prefix: IpNet,
        /// Such as node2.
        node: String,
    },
    /// Stop a node's agent, start it again, and wait until it has everything in force.
    RestartAgent { node: String },
    /// Kill a node's agent with SIGKILL.
    KillAgent { node: String },
    /// Stop a node's agent.
    StopAgent { node: String },
    /// Start a node's agent.
    StartAgent { node: String },
    /// The laboratories on this machine.
    List,
    /// Nodes, agents, pods and Services of a laboratory.
    Status,
    /// What agents and servers have logged.
    Logs {
        /// A node; all when absent.
        node: Option<String>,
    },
    /// Remove a laboratory; nothing of it is left, also after a crash.
    Down {
        /// Every laboratory on this machine.
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
    /// A shop with policies, an open connection that is cut, an agent that is killed: under a minute. With
    /// --store kube the API server is killed, too.
    Demo {
        /// Leave the laboratory up at the end.
        #[arg(long)]
        keep: bool,
    },
    /// A conversation that stays open, and what became of it.
    #[command(hide = true, subcommand)]
    Stream(Stream),
    /// Send the first packet of many TCP connections that nobody completes.
    #[command(hide = true)]
    Flood {
        #[command(flatten)]
        probe: ProbeArgs,
        /// How many.
        #[arg(long, default_value_t = 100_000)]
        count: u64,
    },
    /// Serves in the pods of one node.
    #[command(hide = true)]
    Server { socket: PathBuf },
    /// Plays scheduler and kubelet beside a real API server.
    #[command(hide = true)]
    Kubelet,
}

/// Flags of `lab up`.
#[derive(Debug, Args)]
struct Up {
    /// How many nodes.
    #[arg(long, default_value_t = 3)]
    nodes: u8,
    /// Address families of pods, Services and nodes.
    #[arg(long, value_enum, default_value_t = FamiliesArg::Dual)]
    families: FamiliesArg,
    /// How pods' packets travel between nodes; this version takes none alone.
    #[arg(long, value_enum, default_value_t = Overlay::None)]
    overlay: Overlay,
    /// One for all nodes or, with commas, one for each: bpf, standard, or plain (host routing without any data
    /// plane, the baseline of measurements).
    #[arg(long, value_delimiter = ',', default_value = "bpf", value_enum)]
    dataplane: Vec<DataplaneArg>,
    /// MTU of the underlay and of the pods.
    #[arg(long, default_value_t = 1500)]
    mtu: u32,
    /// Objects to apply at once.
    #[arg(short = 'f', long = "filename", value_name = "WORLD.yaml")]
    files: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FamiliesArg {
    Dual,
    Ipv4,
    Ipv6,
}

impl From<FamiliesArg> for Families {
    fn from(argument: FamiliesArg) -> Self {
        match argument {
            FamiliesArg::Dual => Self::Dual,
            FamiliesArg::Ipv4 => Self::Ipv4,
            FamiliesArg::Ipv6 => Self::Ipv6,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Overlay {
    None,
    Vxlan,
    Ipip,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DataplaneArg {
    Bpf,
    Standard,
    Plain,
}

/// Files with objects.
#[derive(Debug, Args)]
struct Files {
    /// A file, a directory, or - for stdin. May be repeated.
    #[arg(short = 'f', long = "filename", required = true, value_name = "FILE|DIR|-")]
    files: Vec<PathBuf>,
}

/// Flags of `lab delete`.
#[derive(Debug, Args)]
struct Delete {
    #[command(flatten)]
    files: Files,
    /// Overrides the pods' own grace period.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=86_400))]
    grace_period: Option<u64>,
    /// Objects that are not there are fine.
    #[arg(long)]
    ignore_not_found: bool,
}

/// Flags that probes share.
#[derive(Debug, Args)]
struct ProbeArgs {
    /// pod:NS/NAME, node:NAME or client:NAME.
    #[arg(long, value_name = "E")]
    from: Endpoint,
    /// pod:NS/NAME, svc:NS/NAME, node:NAME, client:NAME or an address.
    #[arg(long, value_name = "E")]
    to: Endpoint,
    /// tcp, udp, sctp or icmp.
    #[arg(long, default_value = "tcp")]
    protocol: Protocol,
    /// The destination's first port of that protocol when absent.
    #[arg(long)]
    port: Option<u16>,
    /// Which port to send from.
    #[arg(long)]
    source_port: Option<u16>,
    /// ipv4 or ipv6; ipv4 where there is both.
    #[arg(long)]
    family: Option<Family>,
    /// For connecting, asking and receiving together.
    #[arg(long, default_value = "1s", value_parser = input::duration)]
    timeout: Duration,
    /// How much to send each way after the greeting, checked byte by byte.
    #[arg(long, default_value_t = 0)]
    bytes: u64,
}

/// Flags of `lab matrix`.
#[derive(Debug, Args)]
struct MatrixArgs {
    /// {"items":[{from,to,protocol,port}]}, or - for stdin.
    #[arg(short = 'f', long = "filename", value_name = "PROBES.json|-")]
    file: Option<PathBuf>,
    /// ipv4 or ipv6; ipv4 where there is both.
    #[arg(long)]
    family: Option<Family>,
    /// For each attempt.
    #[arg(long, default_value = "1s", value_parser = input::duration)]
    timeout: Duration,
}

/// Flags of `lab exec`.
#[derive(Debug, Args)]
#[command(
    override_usage = "tortie lab exec [-n NS] POD -- CMD…\n       tortie lab exec --node NODE -- CMD…\n       tortie lab exec --client C -- CMD…"
)]
struct Exec {
    /// The pod's namespace.
    #[arg(short = 'n', long, default_value = "default", value_name = "NS")]
    namespace: String,
    /// A pod: NAME or NS/NAME.
    #[arg(required_unless_present_any = ["node", "client"], conflicts_with_all = ["node", "client"])]
    pod: Option<String>,
    /// A node.
    #[arg(long, conflicts_with = "client")]
    node: Option<String>,
    /// A machine outside the cluster.
    #[arg(long)]
    client: Option<String>,
    /// The program and its arguments; `tortie` means this binary.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Flags of `lab capture`.
#[derive(Debug, Args)]
struct Capture {
    /// On every interface of a node.
    #[arg(long)]
    node: Option<String>,
    /// In a pod: NAME or NS/NAME.
    #[arg(long, conflicts_with_all = ["node", "client"])]
    pod: Option<String>,
    /// On a machine outside the cluster.
    #[arg(long, conflicts_with = "node")]
    client: Option<String>,
    /// The pod's namespace.
    #[arg(short = 'n', long, default_value = "default", value_name = "NS")]
    namespace: String,
    /// Write packets to this file instead of printing them.
    #[arg(short = 'w', long, value_name = "FILE.pcap")]
    write: Option<PathBuf>,
    /// End after that many packets.
    #[arg(short = 'c', long)]
    count: Option<u64>,
    /// tcpdump's filter, such as: tcp port 80.
    #[arg(last = true)]
    filter: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Stream {
    /// Open a TCP conversation; it goes on until it is stopped.
    Start {
        /// How to call it.
        #[arg(long, default_value = "stream")]
        id: String,
        /// Time between two records.
        #[arg(long, default_value = "1ms", value_parser = input::duration)]
        interval: Duration,
        #[command(flatten)]
        probe: ProbeArgs,
    },
    /// How it is going.
    Report {
        #[arg(long, default_value = "stream")]
        id: String,
    },
    /// End it and say how it went. Exit 1 when anything was lost.
    Stop {
        #[arg(long, default_value = "stream")]
        id: String,
    },
}

/// Runs one of the laboratory's verbs.
pub fn run(lab: Lab, global: &Global) -> Outcome {
    let usual = if matches!(lab.verb, Verb::Demo { .. }) { "demo" } else { "lab" };
    let name = lab.name.map_or_else(|| usual.parse(), Ok)?;
    let format = global.output;
    let open = || tortie_lab::Lab::open(&name).map_err(Failure::from);
    match lab.verb {
        Verb::Up(arguments) => up::up(&name, &arguments, global),
        Verb::Apply(files) => objects::apply(open()?, &files.files),
        Verb::Delete(arguments) => objects::delete(open()?, &arguments),
        Verb::Wait { timeout } => faults::wait(&open()?, timeout),
        Verb::Probe(arguments) => probe::one(&open()?, arguments, format),
        Verb::Matrix(arguments) => matrix::matrix(&open()?, &arguments, format),
        Verb::Exec(arguments) => run::exec(&open()?, arguments),
        Verb::Capture(arguments) => run::capture(&open()?, arguments),
        Verb::Route { prefix, node } => faults::route(open()?, prefix, &node),
        Verb::RestartAgent { node } => faults::restart(&open()?, &node),
        Verb::KillAgent { node } => faults::kill(&open()?, &node),
        Verb::StopAgent { node } => faults::stop(&open()?, &node),
        Verb::StartAgent { node } => faults::start(&open()?, &node),
        Verb::List => show::list(format),
        Verb::Status => show::status(&name, format),
        Verb::Logs { node } => show::logs(&open()?, node.as_deref()),
        Verb::Down { all } => up::down(&name, all),
        Verb::Demo { keep } => demo::demo(&name, keep, up::store(global)?),
        Verb::Stream(verb) => probe::stream(&open()?, verb, format),
        Verb::Flood { probe, count } => probe::flood(&open()?, probe, count),
        Verb::Kubelet => Ok(tortie_lab::kubelet::run(&name).map(|()| crate::exit::Answer::Yes)?),
        Verb::Server { socket } => Ok(tortie_lab::server::run(&socket).map(|()| crate::exit::Answer::Yes)?),
    }
}
