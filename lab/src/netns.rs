//! Named network namespaces, as `ip netns` keeps them.
//!
//! Owns: /run/netns entries, and running code inside a namespace.
//! Does not: know what a namespace is for.
//! Invariant: the calling thread's namespaces never change; entering happens on threads of their own.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::Context as _;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::error::Result;

const DIRECTORY: &str = "/run/netns";
const NO_TEXT: Option<&str> = None;

/// Where the namespace of that name is, or would be.
pub fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Makes the directory a mount point of its own, as iproute2 does. Without it the next `ip netns add` would
/// bind the directory over itself and hide our mounts for ever. Returns whether it had to.
pub fn prepare_directory() -> Result<bool> {
    fs::create_dir_all(DIRECTORY).context(DIRECTORY)?;
    if is_mount_point(Path::new(DIRECTORY))? {
        return Ok(false);
    }
    mount(Some(DIRECTORY), DIRECTORY, NO_TEXT, MsFlags::MS_BIND | MsFlags::MS_REC, NO_TEXT)
        .with_context(|| format!("binding {DIRECTORY}"))?;
    mount(NO_TEXT, DIRECTORY, NO_TEXT, MsFlags::MS_SHARED | MsFlags::MS_REC, NO_TEXT)
        .with_context(|| format!("sharing {DIRECTORY}"))?;
    Ok(true)
}

/// Undoes [`prepare_directory`]; with namespaces of others inside, the kernel refuses and that is right.
pub fn forget_directory() {
    let empty = fs::read_dir(DIRECTORY).is_ok_and(|mut entries| entries.next().is_none());
    if empty && umount2(DIRECTORY, MntFlags::empty()).is_ok() {
        let _ = fs::remove_dir(DIRECTORY);
    }
}

/// Creates a named namespace with its loopback down.
pub fn create(name: &str) -> Result<()> {
    let path = path(name);
    File::options().write(true).create_new(true).open(&path).with_context(|| path.display().to_string())?;
    let bound = path.clone();
    let result = on_thread(move || -> anyhow::Result<()> {
        unshare(CloneFlags::CLONE_NEWNET).context("unsharing the network namespace")?;
        mount(Some("/proc/thread-self/ns/net"), &bound, NO_TEXT, MsFlags::MS_BIND, NO_TEXT)
            .with_context(|| format!("binding {}", bound.display()))
    });
    if result.is_err() {
        let _ = fs::remove_file(&path);
    }
    Ok(result?)
}

/// Deletes a named namespace; absent is fine. It lives on while a process or a socket is inside.
pub fn delete(name: &str) -> Result<()> {
    let path = path(name);
    while umount2(&path, MntFlags::MNT_DETACH).is_ok() {}
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(anyhow::Error::from(error).context(path.display().to_string()).into())
        }
        _ => Ok(()),
    }
}

/// The names of all namespaces that start with `prefix`, sorted.
pub fn list(prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    names
}

/// Runs `work` inside the namespace at `path`, on a thread of its own.
pub fn run_in<T: Send>(path: &Path, work: impl FnOnce() -> anyhow::Result<T> + Send) -> Result<T> {
    let namespace = File::open(path).with_context(|| format!("namespace {}", path.display()))?;
    Ok(on_thread(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {}", path.display()))?;
        work()
    })?)
}

/// Whether something is mounted exactly there.
pub fn is_mount_point(path: &Path) -> Result<bool> {
    Ok(mount_points()?.iter().any(|point| point == path))
}

/// Every mount point this process sees, in the order of mounting.
pub fn mount_points() -> Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
    Ok(table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|path| PathBuf::from(unescape(path)))
        .collect())
}

/// The kernel writes spaces and the like as octal in its mount table.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}

pub(crate) fn on_thread<T: Send>(work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
