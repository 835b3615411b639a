//! The verbs.
//!
//! Owns: their list, and which file runs which.
//! Does not: do their work.
//! Invariant: one line in the enum and one in `run` for each verb.

use clap::Subcommand;

use crate::agent;
use crate::args::Global;
use crate::bench;
use crate::check;
use crate::drops;
use crate::exit::{Answer, Outcome};
use crate::inspect::{self, Query};
use crate::install;
use crate::lab;
use crate::migrate;
use crate::node;
use crate::resources::{self, Resources};
use crate::status;
use crate::version;

/// What can be asked of `tortie`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// The node agent: what the datastore says, in force in this node's kernel.
    Agent(agent::Agent),
    /// A cluster on this machine: nodes and pods as network namespaces, real agents, real CNI calls.
    Lab(Box<lab::Lab>),
    /// The pods of this node: addresses, interface, programs and policy in force.
    #[command(subcommand)]
    Endpoints(Query<inspect::EndpointFilter>),
    /// Whose addresses are where.
    #[command(subcommand)]
    Routes(Query<inspect::RouteFilter>),
    /// Services: front ends and the back ends in use.
    #[command(subcommand)]
    Services(Query<inspect::EndpointFilter>),
    /// Policy rules in force for each pod, in order, with their hits.
    #[command(subcommand, after_help = inspect::HITS)]
    Policy(Query<inspect::PolicyFilter>),
    /// The flow table.
    #[command(subcommand, after_help = inspect::LED)]
    Conntrack(Query<inspect::ConntrackFilter>),
    /// Dropped packets by interface, hook and reason.
    #[command(subcommand)]
    Counters(Query<inspect::CounterFilter>),
    /// One screen: is everything in force on this node, or on every node, and if not, what and why.
    Status(status::Arguments),
    /// Dropped packets: counters by reason and interface, and the latest with the rule that decided.
    Drops(drops::Drops),
    /// Is this kernel and node fit? Every feature: needed by what, found or not, what happens without.
    Check,
    /// The measurements, each figure beside its target.
    Bench(bench::Measurement),
    #[command(flatten)]
    Resources(Resources),
    /// Versions of this program, of the agent on this node and of the cluster.
    Version(version::Version),
    /// This node, as calicoctl speaks of it.
    #[command(subcommand)]
    Node(node::Node),
    /// Moving a cluster from Calico.
    #[command(subcommand)]
    Migrate(migrate::Migrate),
    /// Put on this node what it needs besides the agent: CNI plugin, conflist, BPF file system, sysctls.
    #[command(subcommand)]
    Install(install::Install),
    /// Take the CNI plugin and its conflist off this node again, and the data plane when asked to.
    Uninstall(install::Uninstall),
    /// The CNI plugin: called by container runtimes, with the environment and standard input of CNI.
    Cni,
}

/// Runs one verb.
pub fn run(verb: Verb, global: &Global) -> Outcome {
    match verb {
        Verb::Agent(verb) => agent::run(verb, global),
        Verb::Lab(verb) => lab::run(*verb, global),
        Verb::Endpoints(query) => inspect::endpoints(query, global),
        Verb::Routes(query) => inspect::routes(query, global),
        Verb::Services(query) => inspect::services(query, global),
        Verb::Policy(query) => inspect::policy(query, global),
        Verb::Conntrack(query) => inspect::conntrack(query, global),
        Verb::Counters(query) => inspect::counters(query, global),
        Verb::Status(arguments) => status::run(&arguments, global),
        Verb::Drops(drops) => drops::run(drops, global),
        Verb::Check => check::run(global),
        Verb::Bench(bench) => bench::run(bench, global),
        Verb::Resources(verb) => resources::run(verb, global),
        Verb::Version(version) => version::run(&version, global),
        Verb::Node(node) => node::run(node, global),
        Verb::Migrate(migrate) => migrate::run(migrate, global),
        Verb::Install(what) => install::install(what, global),
        Verb::Uninstall(flags) => install::uninstall(&flags, global),
        // It has answered on stdout already, errors too.
        Verb::Cni => Ok(if tortie::cni::main() { Answer::Yes } else { Answer::No }),
    }
}
