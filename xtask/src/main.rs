//! The project's own commands: `cargo run -p xtask -- help`. The Makefile calls them for people.
//!
//! Owns: what is checked, in which order, and how it is summed up. Does not: install anything
//! (`scripts/bootstrap.sh`). Invariant: exit status 0 means that everything asked for was done and passed.
#![forbid(unsafe_code)]

mod bpf_object;
mod build_bpf;
mod deadline;
mod deps_check;
mod fuzz;
mod lint;
mod privileges;
mod programs;
mod run;
mod scan_object;
mod suites;
mod summary;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Builds, checks and tests Tortie")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Builds the BPF object and prints where it is
    BuildBpf {
        /// Cargo features of tortie-bpf, comma separated
        #[arg(long, default_value = "")]
        features: String,
        /// Where to put it (default: target/tortie-bpf.o)
        #[arg(long)]
        output: Option<PathBuf>,
    },
    /// Looks for panics and formatting code in the BPF object, which must have none
    ScanObject {
        /// The object (default: the one of the current sources)
        object: Option<PathBuf>,
    },
    /// Who may use whom: compares every crate's dependencies with the rules
    DepsCheck,
    /// Loads every program in every variant and compares it with its budget (root)
    Verify,
    /// Writes the budget file anew from what the programs cost now (root)
    Budgets,
    /// The same packets through the native build and through the kernel (root)
    Diff {
        /// How many packets
        #[arg(long, default_value_t = 100_000)]
        packets: u64,
    },
    /// Runs the fuzz targets, or one of them
    Fuzz {
        /// The target; all of them in turn without it
        target: Option<String>,
        /// Seconds for each target
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Formatting, clippy, documentation, dependencies
    Lint,
    /// Everything: lint, build, scan, all suites; ends with a summary
    Test,
}

fn main() -> ExitCode {
    match run_task(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_task(task: Task) -> Result<()> {
    match task {
        Task::BuildBpf { features, output } => build_bpf::main(&features, output),
        Task::ScanObject { object } => scan_object::main(object),
        Task::DepsCheck => deps_check::main(),
        Task::Verify => suites::verify(),
        Task::Budgets => suites::budgets(),
        Task::Diff { packets } => suites::diff(packets),
        Task::Fuzz { target, seconds } => fuzz::main(target.as_deref(), seconds),
        Task::Lint => lint::main(),
        Task::Test => test::main(),
    }
}
