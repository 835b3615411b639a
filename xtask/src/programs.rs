//! The test programs of the workspace, compiled once.
//!
//! Owns: with which features they are compiled, and where they are. Does not: run one.
//! Invariant: everything is compiled together. Cargo gives a dependency the features of the packages it is asked for, so
//! that it would compile many of them again for each suite that is asked for by itself.

use std::io::BufReader;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use cargo_metadata::{Artifact, Message};

use crate::run;
use crate::suites::PROFILE;

/// A test program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The package whose tests it holds.
    pub package: String,
    /// Its name: that of a library, of a binary or of a file in `tests/`.
    pub name: String,
    /// Where it runs: the package's own directory, as with cargo.
    pub directory: PathBuf,
    /// The file.
    pub path: PathBuf,
}

/// Compiles the binary and every test, and says what there is to run, in the order of packages.
pub fn compile() -> Result<Vec<Program>> {
    let mut command = test()?;
    command.args(["--no-run", "--message-format", "json-render-diagnostics"]);
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut programs = Vec::new();
    for message in Message::parse_stream(BufReader::new(child.stdout.take().context("no output")?)) {
        if let Message::CompilerArtifact(artifact) = message? {
            programs.extend(program(artifact)?);
        }
    }
    ensure!(child.wait()?.success(), "{} failed", run::describe(&command));
    programs.sort_by(|a, b| (&a.package, &a.name).cmp(&(&b.package, &b.name)));
    Ok(programs)
}

/// Runs the examples in the documentation.
pub fn examples() -> Result<Command> {
    let mut command = test()?;
    command.args(["--doc", "--no-fail-fast"]);
    Ok(command)
}

/// `cargo test` of everything but packet/bpf, which is of another target.
fn test() -> Result<Command> {
    run::cargo(["test", "--profile", PROFILE, "--workspace", "--exclude", "tortie-bpf"])
}

/// `None`: not a test.
fn program(artifact: Artifact) -> Result<Option<Program>> {
    let Some(path) = artifact.executable.filter(|_| artifact.profile.test) else { return Ok(None) };
    let directory = artifact.manifest_path.parent().context("a manifest without a directory")?;
    // `path+file:///…/control/store#tortie-store@0.1.0`, or `…/xtask#0.1.0` where the directory has the package's name.
    let (place, version) = artifact.package_id.repr.rsplit_once('#').context("an id without a version")?;
    let package = match version.split_once('@') {
        Some((name, _)) => name,
        None => place.rsplit('/').next().unwrap_or(place),
    };
    Ok(Some(Program {
        package: package.to_owned(),
        name: artifact.target.name,
        directory: directory.into(),
        path: path.into(),
    }))
}

impl Program {
    /// Ready to run.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.current_dir(&self.directory);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(id: &str, is_test: bool) -> Artifact {
        serde_json::from_value(serde_json::json!({
            "package_id": id, "manifest_path": "/w/tests/e2e/Cargo.toml", "features": [], "filenames": [],
            "target": {"name": "journeys", "kind": ["test"], "crate_types": ["bin"], "src_path": "/w/main.rs",
                "required-features": [], "edition": "2024", "doctest": false, "test": true, "doc": false},
            "profile": {"opt_level": "0", "debuginfo": 0, "debug_assertions": true, "overflow_checks": true,
                "test": is_test},
            "executable": "/w/target/checked/deps/journeys-0", "fresh": true,
        }))
        .unwrap()
    }

    #[test]
    fn a_test_program_is_known_by_its_package_and_runs_in_its_directory() {
        for (id, package) in [
            ("path+file:///w/tests/e2e#tortie-tests-e2e@0.1.0", "tortie-tests-e2e"),
            ("path+file:///w/xtask#0.1.0", "xtask"),
        ] {
            let found = program(artifact(id, true)).unwrap().unwrap();
            assert_eq!((found.package.as_str(), found.name.as_str()), (package, "journeys"));
            assert_eq!(found.command().get_current_dir(), Some("/w/tests/e2e".as_ref()));
            assert_eq!(program(artifact(id, false)).unwrap(), None, "a binary is no test");
        }
    }
}
