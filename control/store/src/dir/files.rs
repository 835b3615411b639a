//! The directory as it is written, without an agent.
//!
//! Owns: [`Directory`] and [`Snapshot`]: every object with the place it stands at. Does not: change files.
//! Invariant: an object in several files is the one of the first file, in the order of paths.

use super::edit::Edit;
use super::tree::Stamp;
use super::watch::{MAX_DEPTH, counts};
use crate::input::{self, DEFAULT_NAMESPACE, Item};
use crate::rejection::{Effect, Rejection};
use crate::resource::{Key, Resource};
use nix::fcntl::{Flock, FlockArg};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;

type Cached = (Stamp, Arc<[Item]>);

/// A directory of YAML.
pub struct Directory {
    root: PathBuf,
    /// Files as they were read last.
    cache: Mutex<BTreeMap<PathBuf, Cached>>,
}

/// Where an object stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// File.
    pub file: PathBuf,
    /// Line of its document.
    pub line: u64,
    /// Which document of the file.
    pub document: usize,
    /// Which item, if the document is a list.
    pub member: Option<usize>,
}

/// An object as written.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The object.
    pub resource: Resource,
    /// Where it stands.
    pub place: Place,
}

/// Everything in the directory at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Objects.
    pub objects: BTreeMap<Key, Stored>,
    /// What cannot be told: broken files and documents, second copies of objects.
    pub rejections: Vec<Rejection>,
}

/// Why the directory cannot be used.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// Something cannot be read.
    #[error("{}: cannot be read: {cause}; check --store and the permissions", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// Something cannot be written. Nothing has been changed.
    #[error("{}: cannot be written: {cause}; nothing has been changed", path.display())]
    Write {
        /// What.
        path: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// A file is not what it was when the edit began. Nothing has been changed.
    #[error("{}: was changed by somebody else meanwhile; nothing has been changed, try again", path.display())]
    Conflict {
        /// Which.
        path: PathBuf,
    },
}

impl Directory {
    /// A directory that exists.
    pub fn new(root: &Path) -> Result<Self, DirectoryError> {
        let read = |cause| DirectoryError::Read { path: root.to_owned(), cause };
        fs::read_dir(root).map_err(read)?;
        Ok(Self { root: root.to_owned(), cache: Mutex::default() })
    }

    /// Its path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Everything in it now.
    pub fn snapshot(&self) -> Result<Snapshot, DirectoryError> {
        let mut paths = Vec::new();
        list(&self.root, 0, &mut paths)?;
        let mut snapshot = Snapshot::default();
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fresh = BTreeMap::new();
        for path in paths {
            match read_file(&path, cache.remove(&path)) {
                Ok(Some((stamp, items))) => {
                    snapshot.add(&path, &items);
                    fresh.extend(stamp.map(|stamp| (path, (stamp, items))));
                }
                Ok(None) => {}
                Err(cause) => return Err(DirectoryError::Read { path, cause }),
            }
        }
        *cache = fresh;
        Ok(snapshot)
    }

    /// Begins a change. Waits until no other one is under way; an agent is not disturbed.
    pub fn edit(&self) -> Result<Edit<'_>, DirectoryError> {
        let path = self.root.join(".lock");
        let write = |cause| DirectoryError::Write { path: path.clone(), cause };
        let file =
            fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(write)?;
        let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| write(errno.into()))?;
        Ok(Edit::new(self, lock, self.snapshot()?))
    }
}

impl Snapshot {
    fn add(&mut self, path: &Path, items: &[Item]) {
        for Item { line, document, member, resource } in items {
            let place = Place { file: path.to_owned(), line: *line, document: *document, member: *member };
            match resource {
                Ok(resource) => self.add_object(place, resource),
                Err(fault) => {
                    let rejection = input::rejection(path, *line, None, fault.clone(), Effect::Absent);
                    self.rejections.push(rejection);
                }
            }
        }
    }

    fn add_object(&mut self, place: Place, resource: &Resource) {
        if let Some(first) = self.objects.get(&resource.key) {
            let problem = format!("is also in {}:{}", first.place.file.display(), first.place.line);
            let fault = crate::fault::Fault { field: String::new(), problem, fix: "keep one of them".into() };
            let rejection =
                input::rejection(&place.file, place.line, Some(resource), fault, Effect::KeepsLast);
            self.rejections.push(rejection);
            return;
        }
        self.objects.insert(resource.key.clone(), Stored { resource: resource.clone(), place });
    }
}

fn list(directory: &Path, depth: usize, paths: &mut Vec<PathBuf>) -> Result<(), DirectoryError> {
    let read = |cause| DirectoryError::Read { path: directory.to_owned(), cause };
    let mut entries: Vec<_> =
        fs::read_dir(directory).and_then(|entries| entries.collect::<io::Result<_>>()).map_err(read)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let is_directory = entry.file_type().map_err(read)?.is_dir();
        if is_directory && !name.as_encoded_bytes().starts_with(b".") {
            if depth < MAX_DEPTH {
                list(&entry.path(), depth + 1, paths)?;
            }
        } else if !is_directory && counts(&name) {
            paths.push(entry.path());
        }
    }
    Ok(())
}

type Read = (Option<Stamp>, Arc<[Item]>);

fn read_file(path: &Path, cached: Option<Cached>) -> io::Result<Option<Read>> {
    if let (Some((stamp, items)), Ok(metadata)) = (cached, fs::metadata(path))
        && stamp == Stamp::of(&metadata)
    {
        return Ok(Some((Some(stamp), items)));
    }
    let Some(read) = super::tree::read(path)? else { return Ok(None) };
    Ok(Some((read.stamp, input::read(&read.bytes, DEFAULT_NAMESPACE).into())))
}
