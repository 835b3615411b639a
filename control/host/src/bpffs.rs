//! The BPF file system that pins live in.

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{FsType, statfs};
use std::io;
use std::path::{Path, PathBuf};

/// `BPF_FS_MAGIC`
const MAGIC: i64 = 0xcafe_4a11;
/// Where a BPF file system is mounted when there is none.
const USUAL: &str = "/sys/fs/bpf";

/// There is no BPF file system to use.
#[derive(Debug, thiserror::Error)]
pub enum BpffsError {
    /// The directory is on another file system.
    #[error("{} is not on a BPF file system; run `mount -t bpf bpf {USUAL}` and use a directory below it", .0.display())]
    Elsewhere(PathBuf),
    /// Mounting failed.
    #[error("mounting a BPF file system at {USUAL}: {0}; run as root, or mount it beforehand")]
    Mount(#[source] io::Error),
    /// The directory cannot be made.
    #[error("{}: {source}; run as root", path.display())]
    Create {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Whether a path, or its nearest parent that exists, is on a BPF file system.
pub fn is_bpffs(path: &Path) -> bool {
    let existing = path.ancestors().find(|path| path.exists());
    existing.and_then(|path| statfs(path).ok()).is_some_and(|fs| fs.filesystem_type() == FsType(MAGIC as _))
}

/// Makes the directory, and the BPF file system where there is none at the usual place.
pub fn ensure(dir: &Path) -> Result<(), BpffsError> {
    if !is_bpffs(dir) && dir.starts_with(USUAL) && !is_bpffs(Path::new(USUAL)) {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("bpf"), USUAL, Some("bpf"), flags, Some("mode=0700"))
            .map_err(|error| BpffsError::Mount(error.into()))?;
    }
    if !is_bpffs(dir) {
        return Err(BpffsError::Elsewhere(dir.to_owned()));
    }
    std::fs::create_dir_all(dir).map_err(|source| BpffsError::Create { path: dir.to_owned(), source })
}
