//! Names in a BPF file system.

use super::sys::{Command, Object, bpf, bpf_fd};
use super::{Link, Map, Program};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// Gives an object a name that keeps it alive. `EEXIST` when the name is taken.
pub fn pin(object: &impl AsFd, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attributes =
        Object { path: path.as_ptr() as u64, fd: object.as_fd().as_raw_fd() as u32, flags: 0 };
    // SAFETY: the path is a live C string.
    unsafe { bpf(Command::ObjPin, &mut attributes)? };
    Ok(())
}

fn get(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attributes = Object { path: path.as_ptr() as u64, ..Default::default() };
    // SAFETY: the path is a live C string.
    unsafe { bpf_fd(Command::ObjGet, &mut attributes) }
}

/// Opens a pinned map. `ENOENT` when there is no such name.
pub fn get_map(path: &Path) -> io::Result<Map> {
    Map::from_fd(get(path)?)
}

/// Opens a pinned program.
pub fn get_program(path: &Path) -> io::Result<Program> {
    Program::from_fd(get(path)?)
}

/// Opens a pinned link.
pub fn get_link(path: &Path) -> io::Result<Link> {
    Link::from_fd(get(path)?)
}
