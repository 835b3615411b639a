//! `xtask lint`: the checks that need no privileges and run no test; `xtask test` begins with them.
//!
//! Owns: the list of checks and their commands. Does not: count or time them (`test`).

use std::env;
use std::process::Command;

use anyhow::{Result, bail};

use crate::suites::PROFILE;
use crate::{deps_check, run, scan_object};

/// How a check ended, short of an error.
pub enum Outcome {
    /// It passed.
    Passed,
    /// It could not be made; why, and whether that is a failure where everything must run.
    Skipped { reason: String, required: bool },
}

/// A check: its name and how to make it.
pub type Check = (&'static str, fn() -> Result<Outcome>);

/// The cheap ones first; each needs only what is left by those before it.
pub const CHECKS: [Check; 6] = [
    ("formatting", formatting),
    ("who may use whom", dependencies),
    ("licences, sources, duplicates", licences),
    ("advisories", advisories),
    ("clippy", clippy),
    ("documentation", documentation),
];

/// Built and looked at before the suites.
pub const BUILD: [Check; 2] = [("build", build), ("no panics in the BPF object", scan)];

/// Runs the checks, stopping at the first that fails.
pub fn main() -> Result<()> {
    for (name, check) in CHECKS {
        eprintln!("==> {name}");
        if let Outcome::Skipped { reason, .. } = check()? {
            eprintln!("skipped: {reason}");
        }
    }
    Ok(())
}

fn passes(mut command: Command) -> Result<Outcome> {
    run::succeed(&mut command).map(|()| Outcome::Passed)
}

fn formatting() -> Result<Outcome> {
    passes(run::cargo(["fmt", "--all", "--check"])?)
}

fn dependencies() -> Result<Outcome> {
    deps_check::main().map(|()| Outcome::Passed)
}

fn licences() -> Result<Outcome> {
    match cargo_deny()? {
        Some(mut command) => {
            // Duplicates are warnings with whole dependency trees; deny.toml decides what is an error.
            command.args(["--log-level", "error", "check", "licenses", "bans", "sources"]);
            passes(command)
        }
        None => Ok(without_cargo_deny()),
    }
}

fn advisories() -> Result<Outcome> {
    let Some(mut fetch) = cargo_deny()? else { return Ok(without_cargo_deny()) };
    fetch.args(["--log-level", "off", "fetch", "db"]);
    if !fetch.output()?.status.success() {
        let reason = "the advisory database cannot be fetched from here".to_owned();
        return Ok(Outcome::Skipped { reason, required: false });
    }
    match cargo_deny()? {
        Some(mut command) => {
            command.args(["--log-level", "error", "check", "--disable-fetch", "advisories"]);
            passes(command)
        }
        None => bail!("cargo-deny disappeared"),
    }
}

/// `cargo deny` of the version the bootstrap script installs, else the one on the path.
fn cargo_deny() -> Result<Option<Command>> {
    let pinned = crate::bpf_object::tool("cargo-deny", "CARGO_DENY_VERSION");
    let on_path =
        env::var_os("PATH").into_iter().flat_map(|path| env::split_paths(&path).collect::<Vec<_>>());
    let found =
        pinned.into_iter().chain(on_path.map(|dir| dir.join("cargo-deny"))).find(|path| path.is_file());
    let Some(program) = found else { return Ok(None) };
    let mut command = Command::new(program);
    command.current_dir(run::workspace()?);
    Ok(Some(command))
}

fn without_cargo_deny() -> Outcome {
    Outcome::Skipped { reason: "no cargo-deny; fix: scripts/bootstrap.sh --lint".to_owned(), required: true }
}

fn clippy() -> Result<Outcome> {
    // Without --workspace: the default members, which are all but packet/bpf (another target).
    passes(run::cargo(["clippy", "--all-targets", "--keep-going", "--", "-D", "warnings"])?)
}

fn documentation() -> Result<Outcome> {
    let mut command = run::cargo(["doc", "--no-deps", "--keep-going", "--document-private-items"])?;
    // A link to a private item serves those who read the source, and resolves here.
    command.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links");
    passes(command)
}

fn build() -> Result<Outcome> {
    passes(run::cargo(["build", "--profile", PROFILE, "--package", "tortie"])?)
}

fn scan() -> Result<Outcome> {
    scan_object::main(None).map(|()| Outcome::Passed)
}
