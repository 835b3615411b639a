//! Owns: running the address plugin (SPEC.md, "Execution of Delegated Plugins"). Does not: choose addresses.
//! Invariant: the delegate sees our environment and configuration, but never a version it does not speak.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::config::Config;
use super::env::{Command, Env};
use super::error::CniError;
use super::result::{self, Addresses};
use super::version::{self, Version};
use super::{pod_cidr, records};
use crate::replace::replace_json;

/// The address plugin of a configuration.
pub struct Ipam<'a> {
    plugin: &'a str,
    program: PathBuf,
    config: &'a Config,
    /// What to speak with it.
    version: Version,
}

/// A plugin's answer to VERSION.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Versions {
    supported_versions: Vec<String>,
}

/// The same, kept, for as long as the program is the same file.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    program: PathBuf,
    bytes: u64,
    modified_nanos: u128,
    versions: Versions,
}

/// An error as plugins print it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Refusal {
    code: u32,
    msg: String,
    details: String,
}

impl<'a> Ipam<'a> {
    /// Finds the plugin, and the newest version that it and the configuration speak.
    pub fn find(config: &'a Config, env: &Env) -> Result<Self, CniError> {
        let plugin = config.ipam.as_str();
        let program = env.path.iter().map(|dir| dir.join(plugin)).find(|program| program.is_file());
        let Some(program) = program else {
            let dirs: Vec<_> = env.path.iter().map(|dir| dir.display().to_string()).collect();
            let reason = format!(
                "address plugin {plugin} is not in {}; install it or correct ipam.type",
                dirs.join(":")
            );
            return Err(CniError::NotAvailable { reason });
        };
        let versions = versions_of(&program, config, env)?;
        let spoken = |version: &Version| versions.supported_versions.iter().any(|v| v == version.as_str());
        let version = version::ALL.into_iter().rev().filter(|v| *v <= config.version).find(spoken);
        let version = version.ok_or_else(|| CniError::IncompatibleVersion {
            who: format!("address plugin {plugin}"),
            requested: config.version.to_string(),
            supported: versions.supported_versions.clone(),
        })?;
        Ok(Self { plugin, program, config, version })
    }

    /// Does the plugin know GC and STATUS?
    pub fn knows_gc_and_status(&self) -> bool {
        self.version >= Version::V1_1_0
    }

    /// Is it known which addresses may be given out?
    pub fn knows_where(&self) -> Result<(), CniError> {
        let mut ipam = self.config.raw.get("ipam").cloned().unwrap_or_default();
        pod_cidr::resolve(self.config, Command::Status, &mut ipam)
    }

    /// Gets addresses.
    pub fn add(&self, env: &Env) -> Result<Addresses, CniError> {
        let answer = self.call(env, Command::Add)?;
        Addresses::parse(self.plugin, &answer)
    }

    /// Gives addresses back. Doing it twice is no error.
    pub fn del(&self, env: &Env) -> Result<(), CniError> {
        self.call(env, Command::Del).map(drop)
    }

    /// Are they still given out? Plugins before 0.4.0 cannot tell.
    pub fn check(&self, env: &Env) -> Result<(), CniError> {
        if self.version < Version::V0_4_0 {
            return Ok(());
        }
        self.call(env, Command::Check).map(drop)
    }

    /// Passes GC on.
    pub fn gc(&self, env: &Env) -> Result<(), CniError> {
        self.call(env, Command::Gc).map(drop)
    }

    /// Passes STATUS on.
    pub fn status(&self, env: &Env) -> Result<(), CniError> {
        self.call(env, Command::Status).map(drop)
    }

    fn call(&self, env: &Env, command: Command) -> Result<Vec<u8>, CniError> {
        let mut config = self.config.raw.clone();
        if let Some(ipam) = config.get_mut("ipam") {
            pod_cidr::resolve(self.config, command, ipam)?;
        }
        if self.version != self.config.version {
            config.insert("cniVersion".to_owned(), self.version.as_str().into());
            result::downgrade_prev_result(&mut config, self.version);
        }
        let env = Env { command, ..env.clone() };
        execute(self.plugin, &self.program, &env, config)
    }
}

fn execute(plugin: &str, program: &Path, env: &Env, config: Map<String, Value>) -> Result<Vec<u8>, CniError> {
    let running = || CniError::io(format!("running address plugin {}", program.display()));
    let mut child = Process::new(program)
        .envs(env.to_vars())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(running())?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(Value::Object(config).to_string().as_bytes()) {
            // A plugin that fails early need not read; its answer says why.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(running()(error)),
            _ => {}
        }
    }
    let output = child.wait_with_output().map_err(running())?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let refusal: Refusal = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let silent = refusal.msg.is_empty();
    Err(CniError::Delegate {
        plugin: plugin.to_owned(),
        command: env.command.as_str(),
        // A plugin that died without an answer is an I/O failure.
        code: if refusal.code == 0 { 5 } else { refusal.code },
        message: if silent { format!("no answer, {}", output.status) } else { refusal.msg },
        details: (!refusal.details.is_empty()).then_some(refusal.details),
    })
}

/// What the program supports: asked once, then kept until the file changes, since it costs a process per call.
fn versions_of(program: &Path, config: &Config, env: &Env) -> Result<Versions, CniError> {
    let metadata = fs::metadata(program).map_err(CniError::io(program.display().to_string()))?;
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let (bytes, modified_nanos) = (metadata.len(), modified.unwrap_or_default().as_nanos());
    let path = records::plugin_dir(&config.run_dir).join(format!("{}.versions", config.ipam));
    let kept: Option<Kept> = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let is_same =
        |kept: &Kept| (kept.bytes, kept.modified_nanos) == (bytes, modified_nanos) && kept.program == program;
    if let Some(kept) = kept.filter(is_same) {
        return Ok(kept.versions);
    }
    let question = [("cniVersion".to_owned(), config.version.as_str().into())].into_iter().collect();
    let env = Env { command: Command::Version, ..env.clone() };
    let answer = execute(&config.ipam, program, &env, question)?;
    let versions: Versions = serde_json::from_slice(&answer).map_err(|source| CniError::Decode {
        what: format!("VERSION of address plugin {}", config.ipam),
        source,
    })?;
    let kept = Kept { program: program.to_owned(), bytes, modified_nanos, versions };
    // Only a short cut: without it the plugin is asked again next time.
    if let Err(error) = replace_json(&path, &kept) {
        tracing::debug!("writing {}: {error}", path.display());
    }
    Ok(kept.versions)
}
