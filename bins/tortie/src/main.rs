//! `tortie`: the one binary.
//!
//! Owns: argument parsing, logging set-up, exit codes, and handing each verb to its own file.
//! Does not: hold rules or loop over domain objects; the crates under control/, inspect/ and lab/ do.
//! Invariant: data goes to stdout, everything else to stderr; every failure ends in one of the codes of
//! [`exit::Failure`].
#![forbid(unsafe_code)]

mod agent;
mod args;
mod ask;
mod bench;
mod check;
mod drops;
mod exit;
mod inspect;
mod install;
mod lab;
mod logging;
mod migrate;
mod node;
mod output;
mod resources;
mod status;
mod verbs;
mod version;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

fn main() -> ExitCode {
    let command = args::Cli::command().bin_name(args::called());
    let parsed = command.try_get_matches_from(args::effective_argv());
    let cli = match parsed.and_then(|matches| args::Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(refused) => return exit::usage(&refused),
    };
    logging::start(&cli.global);
    exit::report(verbs::run(cli.verb, &cli.global))
}
