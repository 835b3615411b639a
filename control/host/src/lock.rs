//! One agent for a node.
//!
//! Owns: two advisory locks, one in the run directory and one keyed on the BPF directory: neither two
//! agents of one node nor two nodes that share pins by mistake can run at once.
//! Invariant: the kernel releases the locks when the process ends, however it ends.

use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// The node is taken, or cannot be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another agent runs.
    #[error("another agent{} holds {}; stop it first", pid.map(|p| format!(" (process {p})")).unwrap_or_default(), path.display())]
    Taken {
        /// The lock.
        path: PathBuf,
        /// Who.
        pid: Option<u32>,
    },
    /// The file cannot be made.
    #[error("{} cannot be taken; its directory must exist, be writable and have room", path.display())]
    File {
        /// The lock.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Held while the agent runs, and while what it left is removed.
#[derive(Debug)]
pub struct NodeLock {
    _run_dir: Option<Flock<File>>,
    _pins: Flock<File>,
}

impl NodeLock {
    /// Takes both locks or none.
    pub fn take(run_dir: &Path, bpffs: &Path) -> Result<Self, LockError> {
        let run_dir = lock(&run_dir.join("agent.lock"))?;
        Ok(Self { _run_dir: Some(run_dir), _pins: lock(&of_pins(bpffs))? })
    }

    /// The same for who removes: no agent holds a run directory that is not there, but one may hold the pins.
    pub fn take_to_remove(run_dir: &Path, bpffs: &Path) -> Result<Self, LockError> {
        let run_dir = run_dir.is_dir().then(|| lock(&run_dir.join("agent.lock"))).transpose()?;
        Ok(Self { _run_dir: run_dir, _pins: lock(&of_pins(bpffs))? })
    }
}

fn of_pins(bpffs: &Path) -> PathBuf {
    // However the path is spelled: `//`, `/.` and a slash at its end say nothing.
    let plain: PathBuf = bpffs.components().collect();
    shared_dir().join(format!("tortie-{:016x}.lock", hash(&plain)))
}

/// A BPF file system holds no plain files, so the lock for its directory is elsewhere.
fn shared_dir() -> PathBuf {
    let run = PathBuf::from("/run/lock");
    if run.is_dir() { run } else { std::env::temp_dir() }
}

/// FNV-1a: the same in every version and process.
fn hash(path: &Path) -> u64 {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

fn lock(path: &Path) -> Result<Flock<File>, LockError> {
    let failed = |source| LockError::File { path: path.to_owned(), source };
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            write_pid(&mut lock).map_err(failed)?;
            Ok(lock)
        }
        Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
            let mut text = String::new();
            // Only for the message: an unreadable number is left out.
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            Err(LockError::Taken { path: path.to_owned(), pid })
        }
        Err((_, error)) => Err(failed(error.into())),
    }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_is_refused_and_told_who_the_first_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let bpffs = dir.path().join("bpf");
        let first = NodeLock::take(dir.path(), &bpffs).expect("free");
        let error = NodeLock::take(dir.path(), &bpffs).expect_err("taken");
        assert!(
            matches!(error, LockError::Taken { pid: Some(pid), .. } if pid == std::process::id()),
            "{error}"
        );
        let other_run_dir = tempfile::tempdir().expect("a directory");
        NodeLock::take(other_run_dir.path(), &bpffs).expect_err("the pins are taken");
        drop(first);
        NodeLock::take(dir.path(), &bpffs).expect("free again");
    }

    #[test]
    fn who_removes_needs_no_run_directory_and_is_refused_by_whoever_holds_the_pins() {
        let dir = tempfile::tempdir().expect("a directory");
        let (bpffs, gone) = (dir.path().join("bpf"), dir.path().join("gone"));
        let agent = NodeLock::take(dir.path(), &bpffs).expect("free");
        let error = NodeLock::take_to_remove(&gone, &bpffs).expect_err("the pins are taken");
        assert!(matches!(error, LockError::Taken { .. }), "{error}");
        drop(agent);
        let remover = NodeLock::take_to_remove(&gone, &bpffs).expect("free");
        NodeLock::take(dir.path(), &bpffs).expect_err("an agent waits for who removes");
        drop(remover);
        assert!(!gone.exists());
    }

    #[test]
    fn one_directory_has_one_lock_however_it_is_spelled() {
        let plain = of_pins(Path::new("/sys/fs/bpf/tortie"));
        for spelled in ["/sys/fs/bpf/tortie/", "/sys//fs/bpf/./tortie"] {
            assert_eq!(of_pins(Path::new(spelled)), plain);
        }
    }

    #[test]
    fn a_lock_that_cannot_be_made_says_its_cause_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = NodeLock::take(&dir.path().join("missing"), dir.path()).expect_err("no such directory");
        let cause = std::error::Error::source(&error).expect("a cause").to_string();
        assert!(error.to_string().contains("agent.lock") && !error.to_string().contains(&cause), "{error}");
    }
}
