//! Programs at the node's cgroup: attached, replaced, found again; and what the kernel offers them.
//!
//! Owns: `<bpffs>/links/cgroup-<program>`. Does not: choose the cgroup, or say what the programs do.
//! Invariant: a link is updated and never taken off first; programs of others at the same cgroup stay.

use crate::bpf::{self, CgroupPlace, Link, Program, ProgramDef, ProgramKind};
use crate::links::Attached;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The programs with their `enum bpf_attach_type`. Those that tell a peer come before those that choose one, so
/// that no socket is led to a back end whose name cannot be told yet.
pub const PROGRAMS: [(&str, u32); 9] = [
    ("getpeername4", 29),
    ("getpeername6", 30),
    ("recvmsg4", 19),
    ("recvmsg6", 20),
    ("sock_release", 34),
    ("connect4", CONNECT4),
    ("connect6", 11),
    ("sendmsg4", 14),
    ("sendmsg6", 15),
];

const CONNECT4: u32 = 10;
/// `bpf_set_retval`, since Linux 5.18.
pub const SET_RETVAL: i32 = 187;

/// What the kernel offers to such programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Everything.
    Full,
    /// A call can only be refused as "operation not permitted".
    WithoutErrors,
    /// Nothing (`CONFIG_CGROUP_BPF` is not set, or it is not permitted).
    None,
}

/// Tries it, once.
pub fn support() -> Support {
    static FOUND: OnceLock<Support> = OnceLock::new();
    *FOUND.get_or_init(|| {
        // r1 = -111; call bpf_set_retval; r0 = 1; exit
        let set_error = [[0xb7, 1, 0, 0, 0x91, 0xff, 0xff, 0xff], [0x85, 0, 0, 0, 187, 0, 0, 0]];
        let allow = [[0xb7, 0, 0, 0, 1, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
        if loads(&[set_error, allow].concat().concat()) {
            Support::Full
        } else if loads(&allow.concat()) {
            Support::WithoutErrors
        } else {
            Support::None
        }
    })
}

fn loads(insns: &[u8]) -> bool {
    let def = ProgramDef {
        expected_attach_type: CONNECT4,
        ..ProgramDef::new("tortie_probe", ProgramKind::CgroupSockAddr, insns)
    };
    Program::load(&def).is_ok()
}

/// A program could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The kernel cannot have it.
    #[error("{0}: this kernel takes no such program; it needs CONFIG_CGROUP_BPF")]
    Unsupported(&'static str),
    /// The cgroup's directory.
    #[error("cgroup {}: {source}; is cgroup v2 mounted there?", path.display())]
    Cgroup {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("{program} at cgroup {}: {operation}: {source}{}", cgroup.display(), hint(source))]
    Kernel {
        /// Program.
        program: &'static str,
        /// Where.
        cgroup: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// The directory of links.
    #[error("{}: {source}; is a BPF file system mounted there, and is this root?", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM) => " (another program may be attached there, or above, for itself alone)",
        _ => "",
    }
}

/// One of our programs at a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Program.
    pub program: &'static str,
    /// The cgroup's number; 0: it is gone, or somebody took the program off.
    pub cgroup_id: u64,
    /// Program.
    pub program_id: u32,
}

/// The programs that we have at a cgroup.
#[derive(Debug)]
pub struct SocketHooks {
    dir: PathBuf,
}

impl SocketHooks {
    /// Links below `bpffs`.
    pub fn open(bpffs: &Path) -> Result<Self, SocketError> {
        let dir = bpffs.join("links");
        std::fs::create_dir_all(&dir)
            .map_err(|source| SocketError::Directory { path: dir.clone(), source })?;
        Ok(Self { dir })
    }

    fn path(&self, program: &str) -> PathBuf {
        self.dir.join(format!("cgroup-{program}"))
    }

    /// Puts every program at `cgroup`, in place of ours that may be there or at another cgroup; gives how many
    /// were written. Without `create`, only those that are attached already are kept up to date.
    pub fn attach(
        &self,
        cgroup: &Path,
        programs: &BTreeMap<String, Program>,
        create: bool,
    ) -> Result<usize, SocketError> {
        let failed = |source| SocketError::Cgroup { path: cgroup.to_owned(), source };
        let directory = File::open(cgroup).map_err(failed)?;
        let id = directory.metadata().map_err(failed)?.ino();
        let mut written = 0;
        for (name, attach_type) in PROGRAMS {
            let program = programs.get(name).ok_or(SocketError::Unsupported(name))?;
            let place = CgroupPlace { id, attach_type };
            let attached = self.attach_one(name, place, &directory, program, create).map_err(
                |(operation, source)| SocketError::Kernel {
                    program: name,
                    cgroup: cgroup.to_owned(),
                    operation,
                    source,
                },
            )?;
            written += usize::from(attached != Attached::Unchanged);
        }
        Ok(written)
    }

    fn attach_one(
        &self,
        name: &str,
        place: CgroupPlace,
        cgroup: &File,
        program: &Program,
        create: bool,
    ) -> Result<Attached, (&'static str, io::Error)> {
        let path = self.path(name);
        let old = match bpf::get_link(&path) {
            Ok(link) => Some(link),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(("opening the pinned link", error)),
        };
        if let Some(link) = &old {
            let info = link.info().map_err(|e| ("asking for the link", e))?;
            if info.cgroup == Some(place) {
                let wanted = program.info().map_err(|e| ("asking for the program", e))?.id;
                if info.program_id == wanted {
                    return Ok(Attached::Unchanged);
                }
                link.update(program.as_fd(), None).map_err(|e| ("replacing the program", e))?;
                return Ok(Attached::Replaced);
            }
        } else if !create {
            return Ok(Attached::Unchanged);
        }
        let link =
            Link::cgroup(program.as_fd(), cgroup.as_fd(), place.attach_type).map_err(|e| ("attaching", e))?;
        if old.is_none() {
            // Dropping an unpinned link would detach it: nothing half done stays behind.
            bpf::pin(&link, &path).map_err(|e| ("pinning the link", e))?;
            return Ok(Attached::Created);
        }
        // The old one is at another cgroup, or its cgroup is gone: it goes after the new one has come.
        let aside = self.path(&format!("{name}_new"));
        match std::fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(("removing an unfinished pin", error));
            }
            _ => {}
        }
        bpf::pin(&link, &aside).map_err(|e| ("pinning the link", e))?;
        std::fs::rename(&aside, &path).map_err(|e| ("renaming the pin", e))?;
        Ok(Attached::Replaced)
    }

    /// Takes all our programs off.
    pub fn detach(&self) -> Result<(), SocketError> {
        // In reverse: no peer is chosen any more when the names go.
        for (name, _) in PROGRAMS.iter().rev() {
            let path = self.path(name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(SocketError::Directory { path, source }),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Every pinned link, in the order of [`PROGRAMS`].
    pub fn list(&self) -> Vec<Found> {
        let found = |(program, _): &(&'static str, u32)| {
            let info = bpf::get_link(&self.path(program)).and_then(|link| link.info()).ok()?;
            let cgroup_id = info.cgroup.map_or(0, |place| place.id);
            Some(Found { program, cgroup_id, program_id: info.program_id })
        };
        PROGRAMS.iter().filter_map(found).collect()
    }
}
