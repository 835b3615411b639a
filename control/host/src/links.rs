//! Programs on interfaces: attached, replaced, found again.
//!
//! Owns: `<bpffs>/links/<interface>-<ingress|egress>` (TCX) and, where the kernel has no TCX or nobody may wait, our
//! filter on the interface's clsact qdisc. Does not: know which program belongs where.
//! Invariant: a hook that carries one of our programs always carries one: it is replaced in one step and
//! never taken off first. A link is its interface's by the index; a pin that is called otherwise gets a new name.

use crate::bpf::{self, Attach, Link, LinkInfo, Program};
use crate::clsact;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Direction of packets, seen from the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Packets that arrive on it.
    Ingress,
    /// Packets that leave through it.
    Egress,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// `ingress`, `egress`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    const fn tcx(self) -> Attach {
        match self {
            Self::Ingress => Attach::Ingress,
            Self::Egress => Attach::Egress,
        }
    }
}

/// How programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// TCX links (kernel 6.6 and newer).
    Tcx,
    /// Filters on a clsact qdisc.
    Clsact,
}

/// The loopback interface is in every network namespace, with this index.
const LOOPBACK: u32 = 1;

/// What this kernel offers.
pub fn best_mechanism() -> Mechanism {
    match bpf::tcx_programs(LOOPBACK, Attach::Ingress) {
        Ok(_) => Mechanism::Tcx,
        Err(_) => Mechanism::Clsact,
    }
}

/// A program could not be attached or found.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The interface is gone; nothing is left to do for it.
    #[error("interface {0} is gone")]
    Gone(String),
    /// The kernel refused.
    #[error("interface {interface}, {direction}: {operation}: {source}")]
    Kernel {
        /// Interface.
        interface: String,
        /// Direction.
        direction: &'static str,
        /// What was tried.
        operation: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// The interfaces of this node.
    #[error("asking for the interfaces: {0}")]
    Interfaces(io::Error),
    /// The directory of links.
    #[error("{}: {source}; is a BPF file system mounted there, and is this root?", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What [`Links::attach`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// It was there.
    Unchanged,
    /// Another program of ours was replaced.
    Replaced,
    /// Nothing of ours was there.
    Created,
}

/// One of our programs on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Interface, by the name it had when the program was attached.
    pub interface: String,
    /// Direction.
    pub direction: Direction,
    /// The interface's index; 0: it is gone, or somebody took the program off.
    pub ifindex: u32,
    /// Program.
    pub program_id: u32,
}

/// The programs that we have on interfaces.
#[derive(Debug)]
pub struct Links {
    dir: PathBuf,
    mechanism: Mechanism,
    /// What carries a filter until its link is made.
    fresh: RefCell<BTreeMap<(String, Direction), Fresh>>,
}

#[derive(Clone, Copy, Debug)]
struct Fresh {
    ifindex: u32,
    since: Instant,
}

fn gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO))
}

impl Links {
    /// Links below `bpffs`.
    pub fn open(bpffs: &Path, mechanism: Mechanism) -> Result<Self, LinkError> {
        let dir = bpffs.join("links");
        std::fs::create_dir_all(&dir).map_err(|source| LinkError::Directory { path: dir.clone(), source })?;
        Ok(Self { dir, mechanism, fresh: RefCell::default() })
    }

    /// How programs are attached.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    fn path(&self, interface: &str, direction: Direction) -> PathBuf {
        // A BPF file system takes no dots; interfaces have no colons.
        self.dir.join(format!("{}-{}", interface.replace('.', ":"), direction.name()))
    }

    /// The id of our program on an interface; `None`: none.
    pub fn current(&self, interface: &str, ifindex: u32, direction: Direction) -> io::Result<Option<u32>> {
        if self.mechanism == Mechanism::Clsact {
            return clsact::current(ifindex, direction);
        }
        match bpf::get_link(&self.path(interface, direction)) {
            Ok(link) => {
                let info = link.info()?;
                Ok(is_at(&info, ifindex, direction).then_some(info.program_id))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a program on an interface, in place of ours that may be there.
    pub fn attach(
        &self,
        interface: &str,
        ifindex: u32,
        direction: Direction,
        program: &Program,
    ) -> Result<Attached, LinkError> {
        let result = match self.mechanism {
            Mechanism::Tcx => self.attach_tcx(interface, ifindex, direction, program),
            Mechanism::Clsact => self.attach_clsact(interface, ifindex, direction, program),
        };
        result.map_err(|(operation, source)| self.error(interface, direction, operation, source))
    }

    /// Puts programs in the place of those of their name, wherever these are attached: an interface's old program and
    /// the new ones that it calls do not have to agree about more than their maps' layout, but better not for long.
    pub fn replace(&self, programs: &BTreeMap<String, Program>) -> Result<(), LinkError> {
        for Found { interface, direction, ifindex, program_id } in self.attached()? {
            // The kernel keeps 15 bytes of a name, by which these differ. Others belong to one pod each.
            let Ok(info) = Program::by_id(program_id).and_then(|program| program.info()) else { continue };
            let named = |name: &str| name.get(..name.len().min(15)) == Some(info.name.as_str());
            if let Some((_, program)) = programs.iter().find(|(name, _)| named(name)) {
                self.attach(&interface, ifindex, direction, program)?;
            }
        }
        Ok(())
    }

    /// [`Links::attach`] for an interface that somebody waits for. A TCX link takes a grace period of RCU in which
    /// nobody can change the network (`tcx_entry_sync`, under RTNL), and as long again when the interface goes; a
    /// filter takes neither. It guards as well until [`Links::make_links`] puts a link in its place.
    pub fn attach_at_once(
        &self,
        interface: &str,
        ifindex: u32,
        direction: Direction,
        program: &Program,
    ) -> Result<Attached, LinkError> {
        if self.mechanism == Mechanism::Clsact
            || matches!(self.current(interface, ifindex, direction), Ok(Some(_)))
        {
            return self.attach(interface, ifindex, direction, program);
        }
        match clsact::attach(ifindex, direction, program) {
            Ok(attached) => {
                let fresh = Fresh { ifindex, since: Instant::now() };
                self.fresh.borrow_mut().insert((interface.to_owned(), direction), fresh);
                Ok(attached)
            }
            Err(error) if gone(&error) => Err(LinkError::Gone(interface.to_owned())),
            // A kernel with TCX may have been built without filters.
            Err(_) => self.attach(interface, ifindex, direction, program),
        }
    }

    /// Puts links in the place of the filters of the interface that has waited longest, at least for `age`; gives its
    /// name. Where that fails the filters stay, and it is tried again after `age`.
    pub fn make_links(&self, age: Duration) -> Result<Option<String>, LinkError> {
        let oldest = |fresh: &BTreeMap<(String, Direction), Fresh>| {
            let ((interface, _), oldest) = fresh.iter().min_by_key(|(_, fresh)| fresh.since)?;
            (oldest.since.elapsed() >= age).then(|| interface.clone())
        };
        let Some(interface) = oldest(&self.fresh.borrow()) else { return Ok(None) };
        for direction in Direction::ALL {
            let key = (interface.clone(), direction);
            let Some(Fresh { ifindex, .. }) = self.fresh.borrow_mut().remove(&key) else { continue };
            let made = clsact::current(ifindex, direction).and_then(|id| id.map(Program::by_id).transpose());
            let made = match made {
                Ok(Some(program)) => self.attach(&interface, ifindex, direction, &program).map(drop),
                // Somebody took the filter off: that is seen, and put back, elsewhere.
                Ok(None) => Ok(()),
                Err(error) => Err(self.error(&interface, direction, "asking for the filter", error)),
            };
            match made {
                Ok(()) | Err(LinkError::Gone(_)) => {}
                Err(error) => {
                    self.fresh.borrow_mut().insert(key, Fresh { ifindex, since: Instant::now() });
                    return Err(error);
                }
            }
        }
        Ok(Some(interface))
    }

    fn error(
        &self,
        interface: &str,
        direction: Direction,
        operation: &'static str,
        source: io::Error,
    ) -> LinkError {
        if gone(&source) {
            return LinkError::Gone(interface.to_owned());
        }
        LinkError::Kernel { interface: interface.to_owned(), direction: direction.name(), operation, source }
    }

    fn attach_tcx(
        &self,
        interface: &str,
        ifindex: u32,
        direction: Direction,
        program: &Program,
    ) -> Result<Attached, (&'static str, io::Error)> {
        let path = self.path(interface, direction);
        match bpf::get_link(&path) {
            Ok(link) => {
                let info = link.info().map_err(|e| ("asking for the link", e))?;
                if is_at(&info, ifindex, direction) {
                    return replace(&link, &info, program);
                }
                self.make_way(&path, info.ifindex, direction).map_err(|e| ("removing a stale link", e))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(&self.dir).map_err(|e| ("making the directory of links", e))?;
            }
            Err(error) => return Err(("opening the pinned link", error)),
        }
        if let Some(named) = self.by_index(ifindex, direction) {
            std::fs::rename(named, &path).map_err(|e| ("renaming the pinned link", e))?;
            let link = bpf::get_link(&path).map_err(|e| ("opening the pinned link", e))?;
            let info = link.info().map_err(|e| ("asking for the link", e))?;
            return replace(&link, &info, program);
        }
        let link = Link::tcx(program.as_fd(), ifindex, direction.tcx()).map_err(|e| ("attaching", e))?;
        // Dropping an unpinned link would detach it: nothing half done stays behind.
        bpf::pin(&link, &path).map_err(|e| ("pinning the link", e))?;
        // Of the time before the link, or before `bpfAttachType` was changed. The link's program decides already.
        clsact::detach(ifindex, direction).map_err(|e| ("removing the filter", e))?;
        Ok(Attached::Created)
    }

    /// Frees a name. The link of an interface that had it before goes on under one that nobody looks for; one that
    /// belongs to none, since that is gone or somebody took the program off, goes.
    fn make_way(&self, path: &Path, ifindex: u32, direction: Direction) -> io::Result<()> {
        match ifindex {
            0 => std::fs::remove_file(path),
            _ => std::fs::rename(path, self.path(&format!(".{ifindex}"), direction)),
        }
    }

    /// The pin of an interface that had another name when its link was made.
    fn by_index(&self, ifindex: u32, direction: Direction) -> Option<PathBuf> {
        let pinned = self.pinned().ok()?;
        let it = pinned.iter().find(|it| it.ifindex == ifindex && it.direction == direction)?;
        Some(self.path(&it.interface, direction))
    }

    fn attach_clsact(
        &self,
        interface: &str,
        ifindex: u32,
        direction: Direction,
        program: &Program,
    ) -> Result<Attached, (&'static str, io::Error)> {
        let attached = clsact::attach(ifindex, direction, program).map_err(|e| ("adding the filter", e))?;
        // Of the time before `bpfAttachType` was changed: it would decide before the filter.
        self.unlink(interface, direction).map_err(|e| ("removing a link", e))?;
        Ok(attached)
    }

    /// Takes the link off, if there is one.
    fn unlink(&self, interface: &str, direction: Direction) -> io::Result<()> {
        let path = self.path(interface, direction);
        if let Ok(link) = bpf::get_link(&path) {
            // Removing the pin alone would do it some time later. The link of an interface that is gone has been taken off.
            let _ = link.detach();
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Takes our program off an interface.
    pub fn detach(&self, interface: &str, ifindex: u32, direction: Direction) -> Result<(), LinkError> {
        let key = (interface.to_owned(), direction);
        let filtered = self.fresh.borrow().get(&key).is_some_and(|fresh| fresh.ifindex == ifindex);
        let filter = match filtered || self.mechanism == Mechanism::Clsact {
            true => clsact::detach(ifindex, direction),
            false => Ok(()),
        };
        if filtered {
            self.fresh.borrow_mut().remove(&key);
        }
        let result = filter.and(self.unlink(interface, direction));
        match result.map_err(|source| self.error(interface, direction, "detaching", source)) {
            Err(LinkError::Gone(_)) => Ok(()),
            other => other,
        }
    }

    /// Every pinned link, and the filters of interfaces that have no links, or none yet.
    pub fn list(&self) -> Result<Vec<Found>, LinkError> {
        let mut found = match self.mechanism {
            Mechanism::Clsact => [self.pinned()?, self.attached()?].concat(),
            Mechanism::Tcx => self.attached()?,
        };
        found.sort_by(|a, b| (&a.interface, a.direction).cmp(&(&b.interface, b.direction)));
        Ok(found)
    }

    /// What is attached in the way of today; what is attached in the other one has yet to be replaced.
    pub fn attached(&self) -> Result<Vec<Found>, LinkError> {
        match self.mechanism {
            Mechanism::Clsact => all_filters().map_err(LinkError::Interfaces),
            Mechanism::Tcx => Ok([self.pinned()?, self.first_filters()].concat()),
        }
    }

    /// The filters that interfaces have until their links are made.
    fn first_filters(&self) -> Vec<Found> {
        let mut found = Vec::new();
        self.fresh.borrow_mut().retain(|(name, direction), fresh| {
            match filter(name, fresh.ifindex, *direction) {
                Ok(Some(filter)) => {
                    found.push(filter);
                    true
                }
                // The interface has taken its filter along: short-lived pods must not pile up here.
                Err(error) => !gone(&error),
                Ok(None) => true,
            }
        });
        found
    }

    fn pinned(&self) -> Result<Vec<Found>, LinkError> {
        let failed = |source| LinkError::Directory { path: self.dir.clone(), source };
        let mut found = Vec::new();
        let entries = match std::fs::read_dir(&self.dir) {
            // Somebody removed all of them.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().replace(':', ".");
            let Some((interface, direction)) = parse_name(&name) else { continue };
            let Ok(info) = bpf::get_link(&entry.path()).and_then(|link| link.info()) else { continue };
            found.push(Found {
                interface: interface.to_owned(),
                direction,
                ifindex: info.ifindex,
                program_id: info.program_id,
            });
        }
        Ok(found)
    }

    /// Removes links whose interface is gone; returns their interfaces' names.
    pub fn remove_stale(&self) -> Result<Vec<String>, LinkError> {
        let mut removed = Vec::new();
        for link in self.pinned()?.into_iter().filter(|link| link.ifindex == 0) {
            self.detach(&link.interface, 0, link.direction)?;
            removed.push(link.interface);
        }
        removed.sort();
        removed.dedup();
        Ok(removed)
    }
}

fn is_at(info: &LinkInfo, ifindex: u32, direction: Direction) -> bool {
    info.ifindex == ifindex && info.attach == Some(direction.tcx())
}

/// Puts a program in the place of the one that a link has.
fn replace(link: &Link, info: &LinkInfo, program: &Program) -> Result<Attached, (&'static str, io::Error)> {
    let id = program.info().map_err(|e| ("asking for the program", e))?.id;
    if info.program_id == id {
        return Ok(Attached::Unchanged);
    }
    link.update(program.as_fd(), None).map_err(|e| ("replacing the program", e))?;
    Ok(Attached::Replaced)
}

/// The programs that run before ours at a hook, in their order: all others on it where ours is a filter, which runs behind links.
pub fn ahead_of(ours: Option<u32>, ifindex: u32, direction: Direction) -> Vec<u32> {
    // Without TCX there are none; nor on an interface that is gone.
    let mut programs = bpf::tcx_programs(ifindex, direction.tcx()).unwrap_or_default();
    if let Some(at) = programs.iter().position(|program| Some(*program) == ours) {
        programs.truncate(at);
    }
    programs
}

/// Our filter on an interface.
fn filter(interface: &str, ifindex: u32, direction: Direction) -> io::Result<Option<Found>> {
    let found = |program_id| Found { interface: interface.to_owned(), direction, ifindex, program_id };
    Ok(clsact::current(ifindex, direction)?.map(found))
}

/// Our filters on all interfaces of this network namespace, whoever made them.
pub fn all_filters() -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for interface in &nix::net::if_::if_nameindex()? {
        let (name, ifindex) = (interface.name().to_string_lossy(), interface.index());
        found.extend(
            Direction::ALL.into_iter().filter_map(|direction| filter(&name, ifindex, direction).ok()?),
        );
    }
    Ok(found)
}

fn parse_name(name: &str) -> Option<(&str, Direction)> {
    let (interface, direction) = name.rsplit_once('-')?;
    Some((interface, Direction::ALL.into_iter().find(|d| d.name() == direction)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_names_interface_and_direction() {
        assert_eq!(parse_name("cali-x-ingress"), Some(("cali-x", Direction::Ingress)));
        assert_eq!(parse_name("eth0.100-egress"), Some(("eth0.100", Direction::Egress)));
        assert_eq!(parse_name("eth0"), None);
        assert_eq!(parse_name("eth0-sideways"), None);
    }
}
