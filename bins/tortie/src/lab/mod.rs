//! `tortie lab …`: a cluster on one machine.
//!
//! Owns: the flags of the laboratory's verbs and how their answers are printed.
//! Does not: build anything; `tortie-lab` does.
//! Invariant: names, fields and exit codes are those of design/cli.md.

use clap::{Args, Subcommand};

use crate::args::Global;
use crate::exit::{Answer, Outcome};
use crate::output;

/// Flags of `tortie lab`.
#[derive(Debug, Args)]
pub struct Lab {
    /// Which laboratory.
    #[arg(long, default_value = "lab", global = true, value_name = "N")]
    name: String,
    #[command(subcommand)]
    verb: LabVerb,
}

#[derive(Debug, Subcommand)]
enum LabVerb {
    /// The laboratories on this machine.
    List,
}

/// Runs one of the laboratory's verbs.
pub fn run(lab: Lab, global: &Global) -> Outcome {
    match lab.verb {
        LabVerb::List => {
            let items = output::Items { items: tortie_lab::names().map_err(|e| anyhow::anyhow!(e))? };
            output::print(global.output, &items, |_| items.items.join("\n")).map_err(anyhow::Error::from)?;
            Ok(Answer::Yes)
        }
    }
}
