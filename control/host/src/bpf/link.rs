//! Links by descriptor.

use super::sys::{self, Command, bpf, bpf_fd, info_by_fd};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A TCX hook. Directions are the interface's: a pod's own veth peer sends into `Ingress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Attach {
    /// Packets that arrive on the interface.
    Ingress = 46,
    /// Packets that leave through it.
    Egress = 47,
}

const LINK_TYPE_CGROUP: u32 = 3;
const LINK_TYPE_TCX: u32 = 11;
/// `BPF_F_REPLACE`: [`Link::update`] names the program it expects.
const REPLACE: u32 = 4;
/// `BPF_F_BEFORE`: without another program that it is relative to, the head of the list.
const BEFORE: u32 = 8;

/// An attached program.
#[derive(Debug)]
pub struct Link {
    fd: OwnedFd,
}

/// What the kernel says about a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Kernel-wide id.
    pub id: u32,
    /// The program attached.
    pub program_id: u32,
    /// A TCX link's interface; 0 once the interface is gone.
    pub ifindex: u32,
    /// A TCX link's hook.
    pub attach: Option<Attach>,
    /// A cgroup link's place.
    pub cgroup: Option<CgroupPlace>,
}

/// Where a cgroup link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CgroupPlace {
    /// The cgroup: the inode number of its directory; 0 once it is gone.
    pub id: u64,
    /// `enum bpf_attach_type`.
    pub attach_type: u32,
}

impl Link {
    /// Attaches a program at the head of the hook's list of programs: one before it could end a packet's way through them.
    pub fn tcx(program: BorrowedFd<'_>, ifindex: u32, attach: Attach) -> io::Result<Self> {
        let mut attributes = sys::LinkCreate {
            prog_fd: program.as_raw_fd() as u32,
            target: ifindex,
            attach_type: attach as u32,
            flags: BEFORE,
            ..Default::default()
        };
        // SAFETY: no addresses inside.
        Ok(Self { fd: unsafe { bpf_fd(Command::LinkCreate, &mut attributes)? } })
    }

    /// Attaches a program to a cgroup, beside those that are there; `attach_type` is the one it was loaded for.
    pub fn cgroup(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<Self> {
        let mut attributes = sys::LinkCreate {
            prog_fd: program.as_raw_fd() as u32,
            target: cgroup.as_raw_fd() as u32,
            attach_type,
            ..Default::default()
        };
        // SAFETY: no addresses inside.
        Ok(Self { fd: unsafe { bpf_fd(Command::LinkCreate, &mut attributes)? } })
    }

    /// Takes an open descriptor; fails when it is not a link's.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        info_by_fd::<sys::LinkInfo>(fd.as_raw_fd())?;
        Ok(Self { fd })
    }

    /// What the kernel says about it.
    pub fn info(&self) -> io::Result<LinkInfo> {
        let i: sys::LinkInfo = info_by_fd(self.fd.as_raw_fd())?;
        let tcx = i.link_type == LINK_TYPE_TCX;
        let cgroup = (i.link_type == LINK_TYPE_CGROUP).then(|| {
            // `struct { __u64 cgroup_id; __u32 attach_type; }` in place of the interface.
            let ([a, b, c, d], [e, f, g, h]) = (i.ifindex.to_ne_bytes(), i.attach_type.to_ne_bytes());
            let [k, l, m, n, ..] = i.rest.first().copied().unwrap_or_default().to_ne_bytes();
            CgroupPlace {
                id: u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
                attach_type: u32::from_ne_bytes([k, l, m, n]),
            }
        });
        let attach = [Attach::Ingress, Attach::Egress].into_iter().find(|a| *a as u32 == i.attach_type);
        Ok(LinkInfo {
            id: i.id,
            program_id: i.prog_id,
            ifindex: if tcx { i.ifindex } else { 0 },
            attach: attach.filter(|_| tcx),
            cgroup,
        })
    }

    /// Swaps the program atomically. With `old`, only when that one is attached (else `EPERM`).
    pub fn update(&self, program: BorrowedFd<'_>, old: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut attributes = sys::LinkUpdate {
            link_fd: self.fd.as_raw_fd() as u32,
            prog_fd: program.as_raw_fd() as u32,
            flags: if old.is_some() { REPLACE } else { 0 },
            old_prog_fd: old.map_or(0, |fd| fd.as_raw_fd() as u32),
        };
        // SAFETY: no addresses inside.
        unsafe { bpf(Command::LinkUpdate, &mut attributes)? };
        Ok(())
    }

    /// Takes the program off the hook, whoever else holds the link.
    pub fn detach(&self) -> io::Result<()> {
        let mut attributes = sys::LinkDetach { link_fd: self.fd.as_raw_fd() as u32 };
        // SAFETY: no addresses inside.
        unsafe { bpf(Command::LinkDetach, &mut attributes)? };
        Ok(())
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Ids of the programs on a TCX hook, in the order they run. `EINVAL`: the kernel has no TCX.
pub fn tcx_programs(ifindex: u32, attach: Attach) -> io::Result<Vec<u32>> {
    let mut ids = vec![0u32; 64];
    let mut attributes = sys::ProgQuery {
        ifindex,
        attach_type: attach as u32,
        prog_ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        ..Default::default()
    };
    // SAFETY: `ids` has room for `count` ids and is borrowed mutably.
    unsafe { bpf(Command::ProgQuery, &mut attributes)? };
    ids.truncate(attributes.count as usize);
    Ok(ids)
}
