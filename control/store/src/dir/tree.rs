//! All files of the directory together.
//!
//! Owns: which file an object is taken from. Does not: watch.
//! Invariant: an object in several files is taken from the one that had it first; the others are reported.

use super::content::{self, Content};
use super::last_good::LastGood;
use crate::rejection::{Effect, Origin, Rejection};
use crate::resource::Key;
use crate::state::State;
use litemap::LiteMap;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A file's timestamps are too coarse to tell two writes within this time apart.
const RACY: Duration = Duration::from_millis(50);

/// Files and their objects.
#[derive(Debug, Default)]
pub struct Tree {
    /// Hashed, because the order of paths is dear: they are compared part by part.
    files: HashMap<Arc<Path>, File>,
    /// Files that have an object, in the order they came to have it.
    claims: BTreeMap<Arc<Key>, Vec<Arc<Path>>>,
    duplicates: BTreeMap<Arc<Key>, Vec<Arc<Rejection>>>,
    /// Files with something to report.
    faulty: BTreeSet<Arc<Path>>,
    /// Objects to look at when the batch is closed.
    touched: BTreeSet<Arc<Key>>,
    last_good: LastGood,
}

/// What was found where a file is or was.
#[derive(Debug)]
pub enum Reading {
    /// No file.
    Gone,
    /// A file.
    There {
        /// What it gives.
        file: File,
        /// Its bytes and their age, when everything in it is in force.
        good: Option<(Vec<u8>, SystemTime)>,
    },
}

/// A file that is in force.
#[derive(Debug)]
pub struct File {
    stamp: Option<Stamp>,
    content: Content,
}

/// Tells whether a file may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of a file's metadata.
    pub fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether it was taken so soon after a write that a later write may look the same.
    fn is_racy(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let changed = Duration::new(self.changed.0.unsigned_abs(), self.changed.1.unsigned_abs() as u32);
        now.saturating_sub(changed) < RACY
    }
}

impl Tree {
    /// Whether a walk that found `stamp` at `path` should load it.
    pub fn differs(&self, path: &Path, stamp: Stamp) -> bool {
        self.files.get(path).is_none_or(|file| file.stamp != Some(stamp))
    }

    /// Files that were loaded and are not in `found`.
    pub fn missing(&self, found: &HashSet<&Path>) -> Vec<PathBuf> {
        self.files.keys().filter(|path| !found.contains(&***path)).map(|path| path.to_path_buf()).collect()
    }

    /// An empty tree that remembers what was good before.
    pub fn new(last_good: LastGood) -> Self {
        Self { last_good, ..Self::default() }
    }

    /// What a file gives, as it is now. Changes nothing, so that many can be read at once.
    pub fn read(&self, path: &Path) -> Reading {
        let empty = Content::default();
        let previous = self.files.get(path).map(|file| &file.content);
        match read(path) {
            Ok(Some(Read { stamp, modified, bytes })) => {
                let content = content::read(path, &bytes, previous.unwrap_or(&empty));
                let content = match previous {
                    None if !content.is_good() => content::read(path, &bytes, &self.recalled(path)),
                    _ => content,
                };
                let good = content.is_good().then_some((bytes, modified));
                Reading::There { file: File { stamp, content }, good }
            }
            Ok(None) => Reading::Gone,
            Err(error) => {
                let recalled = previous.is_none().then(|| self.recalled(path));
                let previous = previous.or(recalled.as_ref()).unwrap_or(&empty);
                let content = content::unreadable(path, &error, previous);
                Reading::There { file: File { stamp: None, content }, good: None }
            }
        }
    }

    /// A file is as it was read; one that was not there is gone.
    pub fn apply(&mut self, path: &Path, reading: Reading) {
        match reading {
            Reading::Gone => self.remove(path),
            Reading::There { file, good } => {
                if let Some((bytes, modified)) = good {
                    self.last_good.keep(path, &bytes, modified);
                }
                self.put(path, file);
            }
        }
    }

    /// What a file gave before this process began.
    fn recalled(&self, path: &Path) -> Content {
        let bytes = self.last_good.recall(path);
        bytes.map(|bytes| content::read(path, &bytes, &Content::default())).unwrap_or_default()
    }

    fn put(&mut self, path: &Path, file: File) {
        let known = self.files.get_key_value(path);
        let before = known.map(|(_, file)| &file.content.entries);
        let known = known.map_or_else(|| Arc::from(path), |(known, _)| known.clone());
        let before: BTreeSet<Arc<Key>> = before.into_iter().flat_map(LiteMap::keys).cloned().collect();
        for key in before.iter().filter(|key| !file.content.entries.contains_key(*key)) {
            withdraw(&mut self.claims, key, path);
        }
        for key in file.content.entries.keys().filter(|key| !before.contains(*key)) {
            // Nearly always there is one.
            self.claims.entry(key.clone()).or_insert_with(|| Vec::with_capacity(1)).push(known.clone());
        }
        self.touched.extend(before);
        self.touched.extend(file.content.entries.keys().cloned());
        if file.content.rejections.is_empty() {
            self.faulty.remove(path);
        } else {
            self.faulty.insert(known.clone());
        }
        self.files.insert(known, file);
    }

    fn remove(&mut self, path: &Path) {
        self.last_good.forget(path);
        let Some(file) = self.files.remove(path) else { return };
        self.faulty.remove(path);
        for (key, _) in file.content.entries {
            withdraw(&mut self.claims, &key, path);
            self.touched.insert(key);
        }
    }

    /// Tells `state` of everything that was touched.
    pub fn settle(&mut self, state: &mut State) {
        for key in std::mem::take(&mut self.touched) {
            let claims = self.claims.get(&key).map(Vec::as_slice).unwrap_or_default();
            let entry = claims.first().and_then(|path| self.files.get(path)?.content.entries.get(&key));
            state.set(&key, entry.map(|entry| &*entry.noun));
            let duplicates = self.duplicates_of(&key, claims);
            if duplicates.is_empty() {
                self.duplicates.remove(&key);
            } else {
                self.duplicates.insert(key, duplicates);
            }
        }
    }

    fn duplicates_of(&self, key: &Key, claims: &[Arc<Path>]) -> Vec<Arc<Rejection>> {
        let [first, others @ ..] = claims else { return Vec::new() };
        let line = |path: &Arc<Path>| self.files.get(path)?.content.entries.get(key).map(|entry| entry.line);
        let report = |path: &Arc<Path>| {
            Arc::new(Rejection {
                origin: Origin::File { path: path.to_path_buf(), line: line(path).unwrap_or_default() },
                object: Some(key.object_name()),
                field: None,
                problem: format!(
                    "is also in {}, which had it first",
                    Origin::File { path: first.to_path_buf(), line: line(first).unwrap_or_default() }
                ),
                fix: "keep it in one file".into(),
                effect: Effect::KeepsLast,
            })
        };
        others.iter().map(report).collect()
    }

    /// Everything to report.
    pub fn rejections(&self) -> BTreeSet<Arc<Rejection>> {
        let of_files = self.faulty.iter().filter_map(|path| self.files.get(path));
        let of_files = of_files.flat_map(|file| &file.content.rejections);
        of_files.chain(self.duplicates.values().flatten()).cloned().collect()
    }
}

fn withdraw(claims: &mut BTreeMap<Arc<Key>, Vec<Arc<Path>>>, key: &Key, path: &Path) {
    if let Some(paths) = claims.get_mut(key) {
        paths.retain(|claimed| **claimed != *path);
        if paths.is_empty() {
            claims.remove(key);
        }
    }
}

/// A file as it was read.
#[derive(Debug)]
pub struct Read {
    /// `None`: cannot be relied on.
    pub stamp: Option<Stamp>,
    modified: SystemTime,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Reads a file; `None`: there is none.
pub fn read(path: &Path) -> io::Result<Option<Read>> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => metadata,
        Ok(_) => return Ok(None),
        Err(error) if is_absence(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let stamp = Stamp::of(&metadata);
    let stamp = (!stamp.is_racy()).then_some(stamp);
    match fs::read(path) {
        Ok(bytes) => Ok(Some(Read { stamp, modified: metadata.modified()?, bytes })),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether an error means that there is no such file.
pub fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
