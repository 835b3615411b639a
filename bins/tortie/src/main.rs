//! `tortie`: the one binary.
//!
//! Owns: argument parsing, logging set-up, exit codes, and handing each verb to its own file.
//! Does not: hold rules or loop over domain objects; the crates under control/, inspect/ and lab/ do.
//! Invariant: data goes to stdout, everything else to stderr; every failure ends in one of the codes of
//! [`exit::Failure`].
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

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

fn main() -> ExitCode {
    let cli = match args::Cli::read(args::effective_argv()) {
        Ok(cli) => cli,
        Err(refused) => return exit::usage(&refused),
    };
    logging::start(&cli.global);
    exit::report(verbs::run(cli.verb, &cli.global))
}
