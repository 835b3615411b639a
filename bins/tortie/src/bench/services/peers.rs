//! The others: kube-proxy, in its two modes, as a process of a node whose pods the kernel routes.
//!
//! Owns: finding it and what it needs, and its command line.
//! Does not: measure.
//! Invariant: a peer that cannot be had says why; one that was started ends with its value, or with the laboratory.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::Context as _;
use tortie_lab::{Lab, Where};

use crate::exit::Failure;

/// What translates Services on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Nftables,
    Iptables,
}

impl Mode {
    pub const ALL: [Self; 2] = [Self::Nftables, Self::Iptables];

    pub const fn flag(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
        }
    }

    /// The program that it calls.
    const fn needs(self) -> &'static str {
        match self {
            Self::Nftables => "nft",
            Self::Iptables => "iptables",
        }
    }
}

/// Where kube-proxy is, or why this mode of it cannot be had. Looked for beside the laboratory's other components, then
/// on the path.
pub fn find(lab: &Lab, mode: Mode) -> Result<PathBuf, String> {
    let beside = lab.state.components.values().next().and_then(|path| path.parent());
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = || beside.map(Path::to_owned).into_iter().chain(env::split_paths(&path));
    let find = |name: &str| directories().map(|directory| directory.join(name)).find(|path| path.is_file());
    let name = format!("kube-proxy-{}", mode.flag());
    let needs = mode.needs();
    find(needs).ok_or_else(|| format!("{name}: it needs the program {needs}, which is not installed"))?;
    find("kube-proxy")
        .ok_or_else(|| format!("{name}: no kube-proxy; scripts/kubernetes.sh kube-proxy builds it"))
}

/// A kube-proxy that runs.
pub struct KubeProxy(Child);

impl KubeProxy {
    pub fn start(lab: &Lab, program: &Path, mode: Mode, node: &str) -> Result<Self, Failure> {
        let place = lab.place(&Where::Node(node.to_owned()))?;
        let flags = [
            format!("--kubeconfig={}", lab.admin_kubeconfig().display()),
            format!("--hostname-override={node}"),
            format!("--proxy-mode={}", mode.flag()),
            // The limits of connection tracking are the machine's.
            "--conntrack-max-per-core=0".to_owned(),
            "--conntrack-tcp-timeout-established=0s".to_owned(),
            "--conntrack-tcp-timeout-close-wait=0s".to_owned(),
        ];
        let argv: Vec<OsString> =
            [program.as_os_str().to_owned()].into_iter().chain(flags.map(OsString::from)).collect();
        let path = lab.paths.log(&format!("kube-proxy-{}", mode.flag()));
        let log = File::create(&path).with_context(|| path.display().to_string())?;
        let output = || Ok::<_, Failure>(Stdio::from(log.try_clone().context("kube-proxy's log")?));
        Ok(Self(place.spawn(&argv, [Stdio::null(), output()?, output()?])?))
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.0.id() as i32
    }
}

impl Drop for KubeProxy {
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        if let Err(error) = ended {
            tracing::warn!(%error, "kube-proxy could not be ended");
        }
    }
}
