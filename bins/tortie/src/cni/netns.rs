//! Owns: a pod's network namespace, and doing work inside it. Invariant: the calling thread never leaves its
//! own namespace.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use super::error::CniError;

/// A pod's network namespace.
#[derive(Debug)]
pub struct Netns {
    path: PathBuf,
    file: File,
}

impl Netns {
    /// Opens it; one that does not exist is an unknown container, our own and what is none are mistakes of the caller.
    pub fn open(path: &Path) -> Result<Self, CniError> {
        let file = File::open(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => CniError::UnknownContainer { path: path.to_owned() },
            _ => CniError::Io { doing: format!("opening network namespace {}", path.display()), source },
        })?;
        let netns = Self { path: path.to_owned(), file };
        netns.refuse_own()?;
        netns.run(|| Ok(()))?;
        Ok(netns)
    }

    fn refuse_own(&self) -> Result<(), CniError> {
        let own = File::open("/proc/thread-self/ns/net").and_then(|own| own.metadata());
        let own = own.map_err(CniError::io("opening our own network namespace"))?;
        let pod = self.file.metadata().map_err(CniError::io(self.path.display().to_string()))?;
        if (own.dev(), own.ino()) == (pod.dev(), pod.ino()) {
            let problem = format!("{} is the host's own network namespace", self.path.display());
            return Err(CniError::Env { variable: "CNI_NETNS", problem });
        }
        Ok(())
    }

    /// For netlink messages that move an interface there.
    pub fn raw_fd(&self) -> i32 {
        self.file.as_raw_fd()
    }

    /// Runs `work` on a thread of its own inside the namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T, CniError> + Send) -> Result<T, CniError> {
        let entered = || {
            setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| self.not_entered(errno))?;
            work()
        };
        thread::scope(|scope| match scope.spawn(entered).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    fn not_entered(&self, errno: Errno) -> CniError {
        let path = self.path.display();
        match errno {
            Errno::EINVAL => {
                CniError::Env { variable: "CNI_NETNS", problem: format!("{path} is no network namespace") }
            }
            _ => CniError::Io { doing: format!("entering network namespace {path}"), source: errno.into() },
        }
    }
}
