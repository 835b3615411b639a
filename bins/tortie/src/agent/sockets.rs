//! Connect-time load balancing: our programs at the node's cgroup.
//!
//! Owns: which cgroup, and when. Does not: decide at a call; the programs read the mode from the settings.
//! Invariant: programs that are attached stay attached when the mode changes, since sockets that are open
//! are still to be told their peer's name.

use std::path::{Path, PathBuf};

use tortie_host::cgroup;
use tortie_model::settings::{ConnectTime, Settings};

use super::parts::Parts;

/// How it stands.
pub struct Sockets {
    cgroup: Option<PathBuf>,
    mode: ConnectTime,
    error: Option<String>,
    /// The mode and the cgroup that the settings named when the programs were last put there.
    attached: Option<(ConnectTime, Option<PathBuf>)>,
}

impl Sockets {
    /// Nothing tried yet.
    pub fn new() -> Self {
        Self { cgroup: None, mode: ConnectTime::Disabled, error: None, attached: None }
    }

    /// Somebody may have changed it: the next [`Sockets::attach`] looks.
    pub fn invalidate(&mut self) {
        self.attached = None;
    }

    /// Puts the programs at the cgroup that the command line (`given`), else the settings, else the mount says. Costs
    /// nothing when they were put there for the same settings.
    pub fn attach(&mut self, given: Option<&Path>, settings: &Settings, parts: &Parts) {
        let wanted = (settings.connect_time, settings.cgroup_path.clone());
        if self.attached.as_ref() == Some(&wanted) {
            return;
        }
        self.mode = settings.connect_time;
        let found = cgroup::find(given.or(settings.cgroup_path.as_deref())).map_err(|e| e.to_string());
        let result = found.and_then(|dir| {
            let create = settings.connect_time != ConnectTime::Disabled;
            let written = parts.sockets.attach(&dir, parts.datapath.programs(), create);
            self.cgroup = Some(dir);
            written.map_err(|e| e.to_string())
        });
        let error = match result {
            Ok(0) => None,
            Ok(written) => {
                let cgroup = self.cgroup.as_deref().unwrap_or(Path::new("")).display();
                tracing::info!(%cgroup, written, "socket programs");
                None
            }
            // Without a cgroup nothing is missed by who does not want it.
            Err(_) if settings.connect_time == ConnectTime::Disabled => None,
            Err(error) => Some(format!("connect-time load balancing: {error}")),
        };
        if error.is_some() && error != self.error {
            tracing::error!(error, "Services are translated packet by packet");
        }
        self.attached = error.is_none().then_some(wanted);
        self.error = error;
    }

    /// Why it is not in force, if it should be.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// The cgroup.
    pub fn cgroup(&self) -> Option<&Path> {
        self.cgroup.as_deref()
    }

    /// The mode, by its name in FelixConfiguration.
    pub const fn mode(&self) -> &'static str {
        match self.mode {
            ConnectTime::Tcp => "TCP",
            ConnectTime::Enabled => "Enabled",
            ConnectTime::Disabled => "Disabled",
        }
    }
}
