//! Owns: the records of endpoints as files, and the lock of each. Does not: define what is in a record
//! (`agent_api` does). Invariant: a record appears and disappears whole; two commands for one pod run one
//! after the other.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::env::Pod;
use super::error::CniError;
use crate::agent_api::{self, EndpointRecord};
use crate::replace::replace_json;

/// The plugin's own files: locks, and what is known of address plugins.
pub fn plugin_dir(run_dir: &Path) -> PathBuf {
    run_dir.join("cni")
}

/// The right to change one pod's attachment; given back when dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: Flock<File>,
}

impl Lock {
    /// Waits for the lock of a pod.
    pub fn take(run_dir: &Path, pod: &Pod) -> Result<Self, CniError> {
        let dir = plugin_dir(run_dir);
        let path = dir.join(format!("{}_{}.lock", pod.namespace, pod.name));
        let failed = || CniError::io(format!("locking {}", path.display()));
        fs::create_dir_all(&dir).map_err(CniError::io(format!("creating {}", dir.display())))?;
        loop {
            let file =
                OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed())?;
            let file =
                Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| failed()(errno.into()))?;
            // Whoever had it removed it: then this is the lock of a file that nobody else finds.
            if is_same_file(&file, &path) {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While still held, so that nobody can have taken it in between.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!("removing {}: {error}", self.path.display());
        }
    }
}

fn is_same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(named)) => (held.dev(), held.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn path_of(run_dir: &Path, pod: &Pod) -> PathBuf {
    agent_api::endpoints_dir(run_dir).join(EndpointRecord::file_name(&pod.namespace, &pod.name))
}

/// The record of a pod. One that cannot be read is as good as none: the next ADD replaces it.
pub fn read(run_dir: &Path, pod: &Pod) -> Option<EndpointRecord> {
    match EndpointRecord::read(&path_of(run_dir, pod)) {
        Ok(record) => record,
        Err(error) => {
            tracing::warn!("{error}");
            None
        }
    }
}

/// Every record that can be read.
pub fn read_all(run_dir: &Path) -> Result<Vec<EndpointRecord>, CniError> {
    let dir = agent_api::endpoints_dir(run_dir);
    let all = EndpointRecord::read_all(run_dir).map_err(CniError::io(dir.display().to_string()))?;
    let readable =
        all.into_iter().filter_map(|record| record.map_err(|error| tracing::warn!("{error}")).ok());
    Ok(readable.collect())
}

/// Writes the record of a pod.
pub fn write(run_dir: &Path, record: &EndpointRecord) -> Result<(), CniError> {
    let path = path_of(run_dir, &pod_of(record));
    replace_json(&path, record).map_err(CniError::io(format!("writing {}", path.display())))
}

/// Removes the record of a pod, if there is one.
pub fn remove(run_dir: &Path, pod: &Pod) -> Result<(), CniError> {
    let path = path_of(run_dir, pod);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(CniError::io(format!("removing {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}

/// Whose record it is.
pub fn pod_of(record: &EndpointRecord) -> Pod {
    Pod { namespace: record.namespace.clone(), name: record.name.clone() }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_lock_is_held_by_one_at_a_time_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let pod = Pod { namespace: "shop".into(), name: "front".into() };
        let (inside, rounds) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let lock = Lock::take(dir.path(), &pod).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two hold the lock");
                        rounds.fetch_add(1, Ordering::SeqCst);
                        // Long enough for the others to come while it is held.
                        thread::sleep(Duration::from_micros(200));
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert_eq!(rounds.load(Ordering::SeqCst), 400);
        assert_eq!(fs::read_dir(plugin_dir(dir.path())).unwrap().count(), 0);
    }
}
