//! The cgroup v2 directory of this node.
//!
//! Owns: finding it. Does not: mount it or make cgroups.
//! Invariant: what is given out is a directory of a cgroup v2 file system.

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// There is no such directory.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// None is mounted.
    #[error("cgroup v2 is not mounted; mount -t cgroup2 none DIR, and give DIR as --cgroup or cgroupV2Path")]
    NotMounted,
    /// What is mounted is a container's part.
    #[error(
        "{}: shows this container's own cgroups alone; mount the node's (hostPath /sys/fs/cgroup), or give its directory \
         as --cgroup or cgroupV2Path",
        .0.display()
    )]
    OwnAlone(PathBuf),
    /// The directory is of another file system.
    #[error("{}: not cgroup v2; give a directory of a cgroup2 mount as --cgroup or cgroupV2Path", .0.display())]
    OtherFileSystem(PathBuf),
    /// The directory cannot be looked at.
    #[error("{}: {source}; give a directory of a cgroup2 mount as --cgroup or cgroupV2Path", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The directory that is given, else the highest that is mounted.
pub fn find(given: Option<&Path>) -> Result<PathBuf, CgroupError> {
    let mount = match given {
        Some(dir) => Mount { dir: dir.to_owned(), levels_up: 0 },
        None => std::fs::read_to_string("/proc/self/mountinfo")
            .ok()
            .and_then(|text| highest(&text))
            .ok_or(CgroupError::NotMounted)?,
    };
    let Mount { dir, levels_up } = mount;
    let failed = |source| CgroupError::Directory { path: dir.clone(), source };
    if statfs(&dir).map_err(|error| failed(error.into()))?.filesystem_type() != CGROUP2_SUPER_MAGIC {
        return Err(CgroupError::OtherFileSystem(dir));
    }
    let is_root = std::fs::metadata(&dir).map_err(failed)?.ino() == ROOT;
    if given.is_none() && levels_up == 0 && !is_root {
        return Err(CgroupError::OwnAlone(dir));
    }
    Ok(dir)
}

/// The number of the root of the hierarchy. A container that has a cgroup namespace sees another directory as root.
const ROOT: u64 = 1;

/// A mount of cgroup v2.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    dir: PathBuf,
    /// How far above the root of our cgroup namespace.
    levels_up: usize,
}

/// The cgroup v2 mount of a `mountinfo` that shows most (proc_pid_mountinfo(5): the fourth field is which directory of
/// the file system, seen from our cgroup namespace; the fifth the mount point; the type comes after a lone hyphen).
fn highest(mountinfo: &str) -> Option<Mount> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        // `/` is our own root, `/../..` one above it, anything else is somewhere in the tree.
        let ups = root.split('/').filter(|part| !part.is_empty());
        let is_above = ups.clone().all(|part| part == "..");
        let levels_up = ups.count();
        (kind.starts_with("cgroup2 ") && is_above).then(|| Mount { dir: PathBuf::from(point), levels_up })
    });
    // The first of several that show the same.
    mounts.reduce(|best, next| if next.levels_up > best.levels_up { next } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<(PathBuf, usize)> {
        highest(text).map(|mount| (mount.dir, mount.levels_up))
    }

    #[test]
    fn the_mount_is_found_by_its_type_and_not_by_its_name() {
        let text = "24 1 0:22 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                    25 1 0:23 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(found(text), Some(("/sys/fs/cgroup/unified".into(), 0)));
        assert_eq!(found("24 1 0:22 / /cgroup2 rw - tmpfs cgroup2 rw\n"), None);
    }

    #[test]
    fn a_container_prefers_the_nodes_cgroups_to_its_own() {
        let text = "30 1 0:23 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n\
                    31 1 0:23 /../../.. /host/sys/fs/cgroup ro - cgroup2 cgroup2 rw\n\
                    32 1 0:23 /../kubepods /other ro - cgroup2 cgroup2 rw\n";
        assert_eq!(found(text), Some(("/host/sys/fs/cgroup".into(), 3)));
        let part = "32 1 0:23 /kubepods/pod1 /part ro - cgroup2 cgroup2 rw\n";
        assert_eq!(found(part), None, "somewhere in the tree is not where all processes are");
    }

    #[test]
    fn a_directory_of_another_file_system_is_refused_with_the_way_out() {
        let error = find(Some(Path::new("/proc"))).expect_err("proc is no cgroup");
        assert!(error.to_string().contains("/proc: not cgroup v2"), "{error}");
        let error = find(Some(Path::new("/no/such/place"))).expect_err("nothing there");
        assert!(error.to_string().contains("--cgroup"), "{error}");
    }
}
