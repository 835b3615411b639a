//! What happens in the directory, from inotify.
//!
//! Owns: watches of all subdirectories, and which names count. Does not: read files.
//! Invariant: a watch is set before its directory is listed, so nothing between the two is missed.

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A file that is written but not closed is read when nothing has happened to it for this long.
const SETTLE: Duration = Duration::from_secs(1);
/// Directories nested deeper than this are not looked into.
pub(super) const MAX_DEPTH: usize = 32;

/// Watches a directory and everything below.
pub struct Watcher {
    root: PathBuf,
    inotify: Inotify,
    directories: HashMap<WatchDescriptor, PathBuf>,
    /// Files that somebody is writing, and since when they have been left alone.
    writing: HashMap<PathBuf, Instant>,
}

/// What to look at.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Files that may have changed.
    pub files: BTreeSet<PathBuf>,
    /// Anything may have changed: walk.
    pub everything: bool,
}

/// What a walk found.
#[derive(Debug, Default)]
pub struct Found {
    /// Files that count and are not being written, in the order of their names.
    pub files: Vec<PathBuf>,
    /// Files that are being written: neither read nor missing.
    pub busy: Vec<PathBuf>,
    /// Directories below the root that could not be read or watched, and why.
    pub faults: Vec<(PathBuf, io::Error)>,
}

impl Watcher {
    /// Watches nothing yet; [`Watcher::walk`] does.
    pub fn new(root: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        Ok(Self { root: root.to_owned(), inotify, directories: HashMap::new(), writing: HashMap::new() })
    }

    /// For polling.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Until when a file being written has to be looked at.
    pub fn next_settled(&self) -> Option<Instant> {
        self.writing.values().min().map(|since| *since + SETTLE)
    }

    /// Whether somebody has begun to write a file and has not closed it.
    pub fn is_being_written(&self, path: &Path) -> bool {
        self.writing.contains_key(path)
    }

    /// Everything that has happened up to now.
    pub fn drain(&mut self) -> io::Result<Seen> {
        let mut seen = Seen::default();
        loop {
            match self.inotify.read_events() {
                Ok(events) => events.iter().for_each(|event| self.note(event, &mut seen)),
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let now = Instant::now();
        let settled = self.writing.extract_if(|_, since| now.duration_since(*since) >= SETTLE);
        seen.files.extend(settled.map(|(path, _)| path));
        Ok(seen)
    }

    fn note(&mut self, event: &InotifyEvent, seen: &mut Seen) {
        use AddWatchFlags as F;
        if event.mask.intersects(F::IN_Q_OVERFLOW | F::IN_DELETE_SELF | F::IN_MOVE_SELF | F::IN_UNMOUNT) {
            seen.everything = true;
        }
        if event.mask.contains(F::IN_IGNORED) {
            self.directories.remove(&event.wd);
        }
        let (Some(directory), Some(name)) = (self.directories.get(&event.wd), &event.name) else { return };
        // A mounted ConfigMap changes by renaming a hidden directory that its files point into.
        if event.mask.contains(F::IN_ISDIR) || name.as_encoded_bytes().starts_with(b"..") {
            seen.everything = true;
            return;
        }
        if !counts(name) {
            return;
        }
        let path = directory.join(name);
        let half_done =
            event.mask.contains(F::IN_MODIFY) || event.mask.contains(F::IN_CREATE) && !is_link(&path);
        if half_done {
            seen.files.remove(&path);
            self.writing.insert(path, Instant::now());
        } else if event.mask.contains(F::IN_ATTRIB) && self.writing.contains_key(&path) {
            // Its mode or times; the writer goes on.
        } else {
            self.writing.remove(&path);
            seen.files.insert(path);
        }
    }

    /// Lists everything, and watches directories that are not yet watched. Fails if the root cannot be read.
    pub fn walk(&mut self) -> io::Result<Found> {
        let mut found = Found::default();
        let mut current = HashMap::new();
        let root = self.root.clone();
        self.directory(&root, 0, &mut found, &mut current)?;
        for stale in self.directories.keys().filter(|wd| !current.contains_key(*wd)) {
            // Fails when the directory is gone, and the watch with it.
            let _ = self.inotify.rm_watch(*stale);
        }
        self.directories = current;
        Ok(found)
    }

    fn directory(
        &mut self,
        path: &Path,
        depth: usize,
        found: &mut Found,
        current: &mut HashMap<WatchDescriptor, PathBuf>,
    ) -> io::Result<()> {
        let watch = self.inotify.add_watch(path, interest());
        match watch {
            Ok(descriptor) => _ = current.insert(descriptor, path.to_owned()),
            Err(Errno::ENOSPC) => found.faults.push((path.to_owned(), Errno::ENOSPC.into())),
            Err(errno) => return Err(errno.into()),
        }
        let mut names: Vec<_> = fs::read_dir(path)?.collect::<io::Result<_>>()?;
        names.sort_by_key(fs::DirEntry::file_name);
        for entry in names {
            if is_hidden(&entry.file_name()) {
                continue;
            }
            let (name, path) = (entry.file_name(), entry.path());
            let is_directory = entry.file_type()?.is_dir();
            if is_directory && depth >= MAX_DEPTH {
                found.faults.push((path, io::Error::other("directories are nested too deep")));
            } else if is_directory {
                if let Err(error) = self.directory(&path, depth + 1, found, current)
                    && error.kind() != io::ErrorKind::NotFound
                {
                    found.faults.push((path, error));
                }
            } else if !is_directory && counts(&name) {
                let list = if self.writing.contains_key(&path) { &mut found.busy } else { &mut found.files };
                list.push(path);
            }
        }
        Ok(())
    }
}

fn interest() -> AddWatchFlags {
    use AddWatchFlags as F;
    F::IN_CLOSE_WRITE
        | F::IN_MODIFY
        | F::IN_CREATE
        | F::IN_DELETE
        | F::IN_MOVED_FROM
        | F::IN_MOVED_TO
        | F::IN_ATTRIB
        | F::IN_DELETE_SELF
        | F::IN_MOVE_SELF
        | F::IN_ONLYDIR
}

/// A name of its own for a file that exists already: complete from the start.
fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink() || metadata.nlink() > 1)
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Whether a file of that name is read: YAML or JSON, not hidden, no editor's copy.
pub fn counts(name: &OsStr) -> bool {
    let extension = Path::new(name).extension().and_then(OsStr::to_str);
    let known =
        extension.is_some_and(|ext| ["yaml", "yml", "json"].iter().any(|k| ext.eq_ignore_ascii_case(k)));
    known && !is_hidden(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_were_lost_make_everything_suspect() {
        let root = tempfile::tempdir().unwrap();
        let mut watcher = Watcher::new(root.path()).unwrap();
        watcher.walk().unwrap();
        fs::write(root.path().join("a.yaml"), "").unwrap();
        let mut event = watcher.inotify.read_events().unwrap().remove(0);
        event.mask = AddWatchFlags::IN_Q_OVERFLOW;
        event.name = None;
        let mut seen = Seen::default();
        watcher.note(&event, &mut seen);
        assert!(seen.everything);
    }

    #[test]
    fn names_of_editors_copies_do_not_count() {
        for name in ["a.yaml", "a.yml", "a.json", "A.YAML"] {
            assert!(counts(OsStr::new(name)), "{name}");
        }
        for name in [".a.yaml", "a.yaml~", "a", "yaml", "a.yaml.swp", "#a.yaml#", "a.txt"] {
            assert!(!counts(OsStr::new(name)), "{name}");
        }
    }
}
