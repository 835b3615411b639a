//! Long-lived processes of the laboratory, and commands run inside a node or pod.
//!
//! Owns: starting inside a network namespace, mount namespace and cgroup; records by which a process is found
//! again; ending it.
//! Does not: know agents or servers.
//! Invariant: a process is signalled only if its pid still belongs to the start time in its record.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::error::{Result, silent};
use crate::files;
use crate::netns::{on_thread, run_in};

/// Where a command runs.
#[derive(Debug, Clone)]
pub struct Place {
    /// Path of the network namespace.
    pub netns: PathBuf,
    /// Cgroup that the process is in from its first instruction.
    pub cgroup: PathBuf,
    /// Environment added to ours.
    pub env: BTreeMap<String, OsString>,
}

/// A process that outlives the command which started it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Its process id.
    pub pid: i32,
    /// Clock ticks since boot when it was started; tells it from a later process with the same id.
    pub start_ticks: u64,
    /// The boot in which it was started.
    pub boot: String,
}

impl Place {
    /// Runs `work` in this network namespace, on a thread of its own: a socket made there stays there.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> anyhow::Result<T> + Send) -> Result<T> {
        run_in(&self.netns, work)
    }

    /// Starts `argv` here. /sys shows this network namespace, as a real machine's would.
    pub fn spawn(&self, argv: &[OsString], stdio: [Stdio; 3]) -> Result<Child> {
        self.start(argv, stdio, own_sysfs)
    }

    fn start(
        &self,
        argv: &[OsString],
        stdio: [Stdio; 3],
        prepare: impl FnOnce() -> anyhow::Result<()> + Send,
    ) -> Result<Child> {
        let namespace =
            File::open(&self.netns).with_context(|| format!("namespace {}", self.netns.display()))?;
        let [stdin, stdout, stderr] = stdio;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "echo 0 >\"$0/cgroup.procs\" && exec \"$@\""])
            .arg(&self.cgroup)
            .args(argv)
            .envs(&self.env)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr);
        Ok(on_thread(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).context("entering the network namespace")?;
            prepare()?;
            command.spawn().context("starting /bin/sh")
        })?)
    }
}

/// Gives the calling thread a mount namespace whose /sys belongs to its network namespace. What is mounted
/// below /sys/fs (cgroups, BPF) stays visible.
fn own_sysfs() -> anyhow::Result<()> {
    const NO_TEXT: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).context("unsharing the mount namespace")?;
    mount(NO_TEXT, "/", NO_TEXT, MsFlags::MS_SLAVE | MsFlags::MS_REC, NO_TEXT)
        .context("mount --make-rslave /")?;
    let kept: Vec<(&str, File)> =
        ["/sys/fs/cgroup", "/sys/fs/bpf", "/sys/kernel/debug", "/sys/kernel/tracing"]
            .into_iter()
            .filter_map(|path| Some((path, File::open(path).ok()?)))
            .collect();
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), NO_TEXT).context("mounting /sys")?;
    for (path, old) in &kept {
        let source = format!("/proc/thread-self/fd/{}", old.as_raw_fd());
        mount(Some(source.as_str()), *path, NO_TEXT, MsFlags::MS_BIND | MsFlags::MS_REC, NO_TEXT)
            .with_context(|| format!("keeping {path}"))?;
    }
    Ok(())
}

impl Record {
    /// Starts a daemon whose output goes to the file `log`, and writes its record to `record`.
    pub fn start(place: &Place, argv: &[OsString], log: &Path, record: &Path) -> Result<Self> {
        Self::watch_over(place.spawn(argv, [Stdio::null(), output(log)?, output(log)?])?, record)
    }

    /// The same for a daemon that mounts for others to see: it stays in our mount namespace.
    pub fn start_sharing_mounts(place: &Place, argv: &[OsString], log: &Path, record: &Path) -> Result<Self> {
        Self::watch_over(place.start(argv, [Stdio::null(), output(log)?, output(log)?], || Ok(()))?, record)
    }

    fn watch_over(mut child: Child, record: &Path) -> Result<Self> {
        let started = Self::of(child.id())?;
        files::write_json(record, &started)?;
        // When this process outlives the daemon (a test does), somebody must collect its status.
        thread::Builder::new()
            .name("reaper".into())
            .spawn(move || child.wait())
            .context("starting a thread")?;
        Ok(started)
    }

    fn of(pid: u32) -> Result<Self> {
        let start_ticks = start_ticks(pid).with_context(|| format!("process {pid} ended at once"))?;
        Ok(Self { pid: i32::try_from(pid).context("pid")?, start_ticks, boot: boot_id()? })
    }

    /// Reads a record; `None` when there is none.
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Whether this very process still runs.
    pub fn is_alive(&self) -> bool {
        u32::try_from(self.pid).ok().and_then(start_ticks) == Some(self.start_ticks)
            && boot_id().is_ok_and(|boot| boot == self.boot)
    }

    /// Sends a signal and waits until the process is gone. Already gone is fine.
    pub fn end(&self, signal: Signal, patience: Duration) -> Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(()) };
        // The descriptor pins the identity before it is checked: nothing can take the pid over in between.
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
        if !self.is_alive() {
            return Ok(());
        }
        pidfd_send_signal(&process, signal).with_context(|| format!("signalling process {}", self.pid))?;
        let mut ready = [PollFd::new(&process, PollFlags::IN)];
        let limit = Timespec::try_from(patience).ok();
        match poll(&mut ready, limit.as_ref()) {
            Ok(0) => Err(silent!("process {} did not end within {patience:?}", self.pid)),
            _ => Ok(()),
        }
    }
}

fn output(log: &Path) -> Result<Stdio> {
    let file = File::options().append(true).create(true).open(log);
    Ok(file.with_context(|| log.display().to_string())?.into())
}

/// Field 22 of /proc/PID/stat; `None` when there is no such process, or only its unread exit status.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ');
    let state = fields.next()?;
    (state != "Z" && state != "X").then_some(())?;
    fields.nth(18)?.parse().ok()
}

fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(fs::read_to_string(path).context(path)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_an_earlier_boot_or_another_start_is_not_this_process() {
        let us = Record::of(std::process::id()).unwrap();
        assert!(us.is_alive());
        assert!(!Record { boot: "another".into(), ..us.clone() }.is_alive());
        assert!(!Record { start_ticks: us.start_ticks + 1, ..us }.is_alive());
    }

    #[test]
    fn ending_a_process_that_is_not_ours_any_more_touches_nothing() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let record = Record::of(child.id()).unwrap();
        let reused = Record { start_ticks: record.start_ticks + 1, ..record.clone() };
        reused.end(Signal::KILL, Duration::from_secs(1)).unwrap();
        assert!(record.is_alive());
        record.end(Signal::KILL, Duration::from_secs(5)).unwrap();
        assert!(!record.is_alive());
        child.wait().unwrap();
    }
}
