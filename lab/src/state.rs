//! Where a laboratory keeps what it must remember between two commands.
//!
//! Owns: the layout of its directory, `lab.json`, and the lock that orders commands.
//! Does not: interpret the cluster's objects.
//! Invariant: whoever changes a laboratory holds its lock; the kernel drops the lock of a killed command.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ipnet::IpNet;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::error::{Result, silent};
use crate::files;
use crate::names::LabName;
use crate::plan::Plan;

/// What `lab.json` says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The laboratory's name.
    pub name: String,
    /// False while `lab up` is at work, or was killed at it.
    pub complete: bool,
    /// Nodes, addresses, families.
    #[serde(flatten)]
    pub plan: Plan,
    /// The cgroup v2 directory below which the nodes' cgroups are.
    pub cgroup_root: PathBuf,
    /// The programs of the control plane; none where the objects are in a directory.
    #[serde(default)]
    pub components: BTreeMap<String, PathBuf>,
    /// The laboratory whose control plane this one uses, if not its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lender: Option<LabName>,
    /// How many pods without a preference have been scheduled.
    #[serde(default)]
    pub scheduled: u64,
    /// What `lab route` has set: prefix to node.
    #[serde(default)]
    pub routes: BTreeMap<IpNet, String>,
}

/// The directories and files of one laboratory.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Everything below here is the laboratory's.
    pub root: PathBuf,
}

impl Paths {
    /// Of the laboratory of that name.
    pub fn of(name: &LabName) -> Self {
        Self { root: base().join(name.to_string()) }
    }

    /// The directory store.
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// The BPF file system of this laboratory alone; unmounting it unpins everything.
    pub fn bpffs(&self) -> PathBuf {
        self.root.join("bpf")
    }

    /// Where a node pins.
    pub fn node_bpffs(&self, node: &str) -> PathBuf {
        self.bpffs().join(node)
    }

    /// A node's own directory.
    pub fn node(&self, node: &str) -> PathBuf {
        self.root.join("nodes").join(node)
    }

    /// Run directory of a node's agent.
    pub fn run_dir(&self, node: &str) -> PathBuf {
        self.node(node).join("run")
    }

    /// Logs of nodes, servers and `image: host` containers.
    pub fn log(&self, what: &str) -> PathBuf {
        self.root.join("logs").join(format!("{what}.log"))
    }

    /// Record of a long-lived process.
    pub fn process(&self, what: &str) -> PathBuf {
        self.root.join("processes").join(format!("{what}.json"))
    }

    /// What was attached for a pod.
    pub fn attachments(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// Control socket of the machine's pod server. `machine` is a node, or `outside`.
    pub fn server_socket(&self, machine: &str) -> PathBuf {
        self.root.join("sockets").join(machine)
    }

    /// `lab.json`.
    pub fn state(&self) -> PathBuf {
        self.root.join("lab.json")
    }
}

/// Where all laboratories are kept: `TORTIE_LAB_DIR`, else /run/tortie-lab.
pub fn base() -> PathBuf {
    env::var_os("TORTIE_LAB_DIR").map_or_else(|| PathBuf::from("/run/tortie-lab"), PathBuf::from)
}

/// The laboratories there are, complete or not, sorted.
pub fn names() -> Result<Vec<String>> {
    let base = base();
    let entries = match fs::read_dir(&base) {
        Err(absent) if absent.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| base.display().to_string())?,
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

/// Reads `lab.json`.
pub fn load(name: &LabName) -> Result<State> {
    let found = files::read_json(&Paths::of(name).state())?;
    found.ok_or_else(|| silent!("there is no laboratory {name}: start it with `tortie lab up --name {name}`"))
}

/// Holds off every other command that changes this laboratory.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _held: Flock<File>,
}

impl Lock {
    /// Waits for the lock.
    pub fn take(name: &LabName) -> Result<Self> {
        let path = base().join(format!(".{name}.lock"));
        loop {
            fs::create_dir_all(base()).with_context(|| base().display().to_string())?;
            let file = match File::options().create(true).append(true).open(&path) {
                // The last laboratory took the directory along.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file.with_context(|| path.display().to_string())?,
            };
            let held = lock(file).with_context(|| format!("locking {}", path.display()))?;
            if is_still_there(&held, &path) {
                return Ok(Self { path, _held: held });
            }
        }
    }

    /// Releases the lock and removes its file, and the directory of all laboratories when it was the last.
    pub fn remove(self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_dir(base());
    }
}

fn lock(mut file: File) -> nix::Result<Flock<File>> {
    loop {
        match Flock::lock(file, FlockArg::LockExclusive) {
            Err((again, Errno::EINTR)) => file = again,
            Err((_, errno)) => return Err(errno),
            Ok(held) => return Ok(held),
        }
    }
}

/// The file may have been removed by `lab down` between our opening and our locking it.
fn is_still_there(held: &File, path: &Path) -> bool {
    match (held.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(named)) => held.ino() == named.ino() && held.dev() == named.dev(),
        _ => false,
    }
}
