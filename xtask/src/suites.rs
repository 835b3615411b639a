//! The privileged suites: which packages they are and how they are called.
//!
//! Owns: the command line and environment of each. Does not: contain a test.

use std::process::{Command, Stdio};

use anyhow::Result;

use crate::run;

/// With overflow checks and debug assertions; optimised only where tests need it: `[profile.checked]`.
pub const PROFILE: &str = "checked";

/// Packages whose tests need root; everything else is tested without.
pub const PRIVILEGED: [&str; 5] =
    ["tortie-tests-verifier", "tortie-tests-kernels", "tortie-tests-progrun", "tortie-tests-e2e", KUBERNETES];

/// Needs the components of a real Kubernetes as well.
pub const KUBERNETES: &str = "tortie-tests-kubernetes";

/// Packets of the differential in `make test`.
const PACKETS: u64 = 100_000;

/// `cargo test` of one privileged package.
fn test(package: &str) -> Result<Command> {
    let mut command = run::cargo(["test", "--profile", PROFILE, "--no-fail-fast", "--package", package])?;
    set_environment(&mut command)?;
    Ok(command)
}

/// What tests find in their environment.
pub fn set_environment(command: &mut Command) -> Result<()> {
    command.env("TORTIE_DIFF_PACKETS", PACKETS.to_string());
    command.env("TORTIE_BIN", run::target_dir()?.join(PROFILE).join("tortie"));
    Ok(())
}

/// Finds or builds etcd, the API server, the controller manager and kubectl; says on stderr what it builds.
pub fn components() -> Result<Command> {
    let mut command = Command::new(run::workspace()?.join("scripts/kubernetes.sh"));
    // Where they are is for scripts.
    command.stdout(Stdio::null());
    Ok(command)
}

/// The same of helm, which renders the chart; from another place than the components of the control plane, if need be.
pub fn helm() -> Result<Command> {
    let mut command = components()?;
    command.arg("helm");
    Ok(command)
}

/// `xtask verify`
pub fn verify() -> Result<()> {
    run::succeed(&mut test("tortie-tests-verifier")?)
}

/// `xtask budgets`
pub fn budgets() -> Result<()> {
    run::succeed(test("tortie-tests-verifier")?.env("TORTIE_UPDATE_BUDGETS", "1"))
}

/// `xtask diff`
pub fn diff(packets: u64) -> Result<()> {
    let mut command = test("tortie-tests-progrun")?;
    run::succeed(command.env("TORTIE_DIFF_PACKETS", packets.to_string()).args(["--", "--nocapture"]))
}
