//! The cgroup v2 directory of this node.
//!
//! Owns: finding it. Does not: mount it or make cgroups.
//! Invariant: what is given out is a directory of a cgroup v2 file system.

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use std::io;
use std::path::{Path, PathBuf};

/// There is no such directory.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// None is mounted.
    #[error("cgroup v2 is not mounted; mount -t cgroup2 none DIR, and give DIR as --cgroup or cgroupV2Path")]
    NotMounted,
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

/// The directory that is given, else where cgroup v2 is mounted.
pub fn find(given: Option<&Path>) -> Result<PathBuf, CgroupError> {
    let dir = match given {
        Some(dir) => dir.to_owned(),
        None => std::fs::read_to_string("/proc/self/mountinfo")
            .ok()
            .and_then(|text| mount(&text))
            .ok_or(CgroupError::NotMounted)?,
    };
    match statfs(&dir) {
        Ok(fs) if fs.filesystem_type() == CGROUP2_SUPER_MAGIC => Ok(dir),
        Ok(_) => Err(CgroupError::OtherFileSystem(dir)),
        Err(error) => Err(CgroupError::Directory { path: dir, source: error.into() }),
    }
}

/// The first cgroup v2 mount of a `mountinfo` (proc_pid_mountinfo(5): the mount point is the fifth field, the type
/// comes after a lone hyphen).
fn mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?;
        kind.starts_with("cgroup2 ").then(|| PathBuf::from(point))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_by_its_type_and_not_by_its_name() {
        let text = "24 1 0:22 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                    25 1 0:23 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount(text), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(mount("24 1 0:22 / /cgroup2 rw - tmpfs cgroup2 rw\n"), None);
    }

    #[test]
    fn a_directory_of_another_file_system_is_refused_with_the_way_out() {
        let error = find(Some(Path::new("/proc"))).expect_err("proc is no cgroup");
        assert!(error.to_string().contains("/proc: not cgroup v2"), "{error}");
        let error = find(Some(Path::new("/no/such/place"))).expect_err("nothing there");
        assert!(error.to_string().contains("--cgroup"), "{error}");
    }
}
