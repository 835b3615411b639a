//! `xtask lint`: the checks that need no privileges and run no test; `xtask test` begins with them.
//!
//! Owns: the list of checks and their commands. Does not: count or time them (`test`).

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail, ensure};

use crate::suites::PROFILE;
use crate::{deps_check, run};

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
    if fetch.output()?.status.success() {
        return offline_advisories(&run::workspace()?.join("deny.toml"));
    }
    match offline_advisories(&withdrawn_only()?)? {
        Outcome::Passed => {
            let reason = "the advisory database cannot be fetched from here; no dependency is withdrawn";
            Ok(Outcome::Skipped { reason: reason.to_owned(), required: false })
        }
        other => Ok(other),
    }
}

fn offline_advisories(config: &Path) -> Result<Outcome> {
    let Some(mut command) = cargo_deny()? else { bail!("cargo-deny disappeared") };
    command.args(["--offline", "--log-level", "error", "--config"]).arg(config).args(["check", "advisories"]);
    passes(command)
}

/// deny.toml with a database of one advisory that concerns nobody: what remains of the check are withdrawn versions,
/// which the registry's own index tells. Without any database cargo-deny looks for nothing.
fn withdrawn_only() -> Result<PathBuf> {
    const NOBODY: &str = "```toml\n[advisory]\nid = \"RUSTSEC-2000-0001\"\npackage = \"none-of-ours\"\n\
        date = \"2000-01-01\"\n\n[versions]\npatched = []\n```\n\n# No advisory\n\nKeeps a place.\n";
    let root = run::workspace()?.join("target/lint");
    // The name cargo-deny gives to RustSec's own.
    let database = root.join("advisory-db-3157b0e258782691");
    if !database.join(".git/HEAD").is_file() {
        let directory = database.join("crates/none-of-ours");
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join("RUSTSEC-2000-0001.md"), NOBODY)?;
        for arguments in
            [&["init", "--quiet"][..], &["add", "--all"], &["commit", "--quiet", "--message", "empty"]]
        {
            let mut git = Command::new("git");
            git.arg("-C").arg(&database).args(["-c", "user.name=lint", "-c", "user.email=lint@localhost"]);
            ensure!(git.args(arguments).status()?.success(), "git {arguments:?} in {}", database.display());
        }
    }
    let rules = std::fs::read_to_string(run::workspace()?.join("deny.toml"))?;
    let place =
        format!("[advisories]\ndb-path = {:?}\nmaximum-db-staleness = \"P99Y\"", root.display().to_string());
    let config = root.join("deny.toml");
    std::fs::write(&config, rules.replace("[advisories]", &place))?;
    Ok(config)
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
    // The profile is that of the tests, which use the same build scripts and procedural macros.
    let mut command = run::cargo(["clippy", "--profile", PROFILE, "--all-targets", "--keep-going"])?;
    command.args(["--", "-D", "warnings"]);
    passes(command)
}

fn documentation() -> Result<Outcome> {
    let mut command = run::cargo(["doc", "--profile", PROFILE, "--no-deps", "--keep-going"])?;
    command.arg("--document-private-items");
    // A link to a private item serves those who read the source, and resolves here.
    command.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links");
    passes(command)
}
