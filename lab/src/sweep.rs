//! Taking a laboratory away, whatever state it is in.
//!
//! Owns: ending its processes, unmounting, removing namespaces, cgroups and files.
//! Does not: trust `lab.json`; what has the laboratory's prefix is found again without it.
//! Invariant: it goes on after an error, reports all of them, and running it again finishes the work.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use rustix::process::{Pid, Signal, kill_process};

use crate::error::{Result, no};
use crate::lab::cgroup_roots;
use crate::names::{ANY_PREFIX, LabName};
use crate::netns;
use crate::state::{self, Lock, Paths};

/// Processes that were killed are gone within milliseconds, save for one that the kernel holds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Removes a laboratory. One that is not there is fine.
pub fn down(name: &LabName) -> Result<()> {
    let lock = Lock::take(name)?;
    let mut errors = Vec::new();
    let others = state::names()?;
    sweep(&name.prefix(), &others, &mut errors);
    let root = Paths::of(name).root;
    unmount_below(&root, &mut errors);
    if let Err(error) = fs::remove_dir_all(&root)
        && error.kind() != io::ErrorKind::NotFound
    {
        errors.push(format!("{}: {error}", root.display()));
    }
    if !errors.is_empty() {
        return Err(no!("laboratory {name}: {}", errors.join("; ")));
    }
    forget_shared();
    lock.remove();
    Ok(())
}

/// Removes every laboratory of this machine, also such as have lost their files. Returns their names.
pub fn down_all() -> Result<Vec<String>> {
    let mut errors = Vec::new();
    let names = state::names()?;
    for name in &names {
        match name.parse::<LabName>() {
            Ok(name) => errors.extend(down(&name).err().map(|error| error.to_string())),
            Err(_) => errors.push(format!("{}: not a laboratory", state::base().join(name).display())),
        }
    }
    sweep(ANY_PREFIX, &[], &mut errors);
    if !errors.is_empty() {
        return Err(no!("{}", errors.join("; ")));
    }
    forget_shared();
    let _ = fs::remove_dir(state::base());
    Ok(names)
}

/// With the last laboratory goes what all of them shared.
fn forget_shared() {
    let marker = state::base().join(".made-netns-directory");
    if state::names().is_ok_and(|names| names.is_empty()) && marker.exists() {
        netns::forget_directory();
        let _ = fs::remove_file(marker);
    }
}

/// Ends and removes everything whose name starts with `prefix`, but not what a laboratory with a longer name
/// owns (`tl-a-b-node1` belongs to `a-b`, not to `a`).
fn sweep(prefix: &str, others: &[String], errors: &mut Vec<String>) {
    let foreign: Vec<String> = others
        .iter()
        .map(|other| format!("{ANY_PREFIX}{other}-"))
        .filter(|other| other.len() > prefix.len() && other.starts_with(prefix))
        .collect();
    let ours = |name: &str| name.starts_with(prefix) && !foreign.iter().any(|other| name.starts_with(other));
    let namespaces: Vec<String> = netns::list(prefix).into_iter().filter(|name| ours(name)).collect();
    let cgroups: Vec<_> = cgroup_roots()
        .into_iter()
        .flat_map(|root| fs::read_dir(root).into_iter().flatten().flatten())
        .filter(|entry| ours(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    for cgroup in &cgroups {
        if let Err(error) = fs::write(cgroup.join("cgroup.kill"), "1")
            && error.kind() != io::ErrorKind::NotFound
        {
            errors.push(format!("{}: {error}", cgroup.display()));
        }
    }
    end_processes_inside(&namespaces, errors);
    for cgroup in &cgroups {
        if let Err(error) = remove_cgroup(cgroup) {
            errors.push(format!("{}: {error}", cgroup.display()));
        }
    }
    for namespace in &namespaces {
        errors.extend(netns::delete(namespace).err().map(|error| error.to_string()));
    }
}

/// Kills whatever else runs inside: a person's shell would keep the namespace, its links and its programs.
fn end_processes_inside(namespaces: &[String], errors: &mut Vec<String>) {
    let inodes: BTreeSet<u64> = namespaces
        .iter()
        .filter_map(|name| fs::metadata(netns::path(name)).ok())
        .map(|meta| meta.ino())
        .collect();
    let inside = || -> Vec<Pid> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| Some((entry.path(), entry.file_name().to_str()?.parse::<i32>().ok()?)))
            .filter(|(path, _)| {
                fs::metadata(path.join("ns/net")).is_ok_and(|meta| inodes.contains(&meta.ino()))
            })
            .filter_map(|(_, pid)| Pid::from_raw(pid))
            .collect()
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = inside();
        if left.is_empty() {
            return;
        }
        for pid in &left {
            let _ = kill_process(*pid, Signal::KILL);
        }
        if Instant::now() > deadline {
            return errors.push(format!("processes that do not end: {left:?}"));
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Removes a cgroup and those below. It stays busy until the last killed process is gone.
fn remove_cgroup(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)?.flatten().filter(|entry| entry.path().is_dir()) {
        remove_cgroup(&entry.path())?;
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(2));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => return other,
        }
    }
}

fn unmount_below(root: &Path, errors: &mut Vec<String>) {
    let points = netns::mount_points().unwrap_or_default();
    for point in points.iter().rev().filter(|point| point.starts_with(root)) {
        if let Err(error) = umount2(point, MntFlags::MNT_DETACH) {
            errors.push(format!("unmounting {}: {error}", point.display()));
        }
    }
}
