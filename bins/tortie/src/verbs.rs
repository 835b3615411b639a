//! The verbs.
//!
//! Owns: their list, and which file runs which.
//! Does not: do their work.
//! Invariant: one line in the enum and one in `run` for each verb.

use clap::Subcommand;

use crate::args::Global;
use crate::exit::{Answer, Outcome};
use crate::lab;

/// What can be asked of `tortie`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// A cluster on this machine: nodes and pods as network namespaces, real agents, real CNI calls.
    Lab(Box<lab::Lab>),
    /// The CNI plugin: called by container runtimes, with the environment and standard input of CNI.
    Cni,
}

/// Runs one verb.
pub fn run(verb: Verb, global: &Global) -> Outcome {
    match verb {
        Verb::Lab(verb) => lab::run(*verb, global),
        // It has answered on stdout already, errors too.
        Verb::Cni => Ok(if tortie::cni::main() { Answer::Yes } else { Answer::No }),
    }
}
