//! What was in force, on disk, for a start without an API server.
//!
//! Owns: a journal of the last good version of each object, and the cluster it is of. Does not: judge objects.
//! Invariant: what is recalled is [`Memory::Whole`] only when it is everything that was in force at some moment.

use super::journal::{self, Entry, Scan};
use super::writer::Journal;
use crate::resource::Key;
use serde_json::Value;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Lines that may be superseded before the journal is written anew.
const SLACK: usize = 10_000;
/// Lines that are written together.
const GROUP: usize = 128;
/// When what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// The journal's name in its directory.
pub(super) const FILE: &str = "kube.journal";

/// How good what is remembered is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    /// Nothing is.
    None,
    /// Everything that was in force, as it was lately.
    Whole,
    /// What was recalled was in force; what is missing may have been. Says why.
    Part(String),
}

/// The journal; without a directory nothing is remembered.
#[derive(Default)]
pub(super) struct Cache {
    path: Option<PathBuf>,
    stage: Stage,
    /// Lines that are not in the journal yet, with the names of what they are about.
    pending: Vec<(String, String)>,
    trouble: Option<Trouble>,
    cluster: Option<String>,
    complete: bool,
    lines: usize,
    live: usize,
}

/// What there is to write on.
#[derive(Default)]
enum Stage {
    /// Nothing, until the next start.
    #[default]
    Closed,
    /// What was found at the start.
    Found(Scan),
    Open(Journal),
}

/// What is in force cannot be remembered.
struct Trouble {
    why: String,
    /// When that is tried again; `None`: not before the next start.
    again: Option<Instant>,
}

impl Cache {
    /// In a directory, made if need be.
    pub fn new(directory: Option<&Path>) -> Self {
        Self { path: directory.map(|directory| directory.join(FILE)), ..Self::default() }
    }

    /// The cluster it is of.
    pub fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// Why what is in force is not remembered for a start without an API server: file and cause.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_ref().map(|trouble| trouble.why.as_str())
    }

    /// When to flush again, though nothing may have changed.
    pub fn again(&self) -> Option<Instant> {
        self.trouble.as_ref()?.again
    }

    /// Reads what is remembered, and goes on writing behind it. `take` says whether it understood an object.
    pub fn recall(&mut self, take: impl FnMut(Value) -> bool) -> Memory {
        let Some(path) = self.path.clone() else { return Memory::None };
        let scan = match read(&path, take) {
            Ok(scan) => scan,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Scan::default(),
            Err(error) => Scan::of_fault(error.to_string()),
        };
        self.cluster.clone_from(&scan.cluster);
        (self.complete, self.lines, self.live) = (scan.complete, scan.lines, scan.live());
        let incomplete = || "it ends before the API server had said everything".to_owned();
        let memory = match &scan.fault {
            Some(fault) => Memory::Part(format!("{}: {fault}", path.display())),
            None if self.live == 0 => Memory::None,
            None if scan.complete => Memory::Whole,
            None => Memory::Part(format!("{}: {}", path.display(), incomplete())),
        };
        self.stage = Stage::Found(scan);
        self.flush();
        memory
    }

    /// The cluster, once known.
    pub fn set_cluster(&mut self, uid: &str) {
        if self.cluster.as_deref() != Some(uid) {
            self.cluster = Some(uid.to_owned());
            self.write(String::new(), &Entry::Cluster(uid));
        }
    }

    /// Everything that is in force has been said.
    pub fn set_complete(&mut self) {
        if !std::mem::replace(&mut self.complete, true) {
            self.write("=".to_owned(), &Entry::Complete);
        }
    }

    /// An object is in force as it is now.
    pub fn put(&mut self, key: &Key, is_new: bool, object: &Value) {
        self.live += usize::from(is_new);
        let name = name(key);
        let line = object.to_string();
        self.write(name.clone(), &Entry::Is(&name, &line));
    }

    /// An object is gone.
    pub fn remove(&mut self, key: &Key) {
        self.live = self.live.saturating_sub(1);
        let name = name(key);
        self.write(name.clone(), &Entry::Gone(&name));
    }

    /// Everything said so far is to be there for the next agent.
    pub fn flush(&mut self) {
        let now = Instant::now();
        if self.trouble.as_ref().is_some_and(|trouble| trouble.again.is_none_or(|again| again > now)) {
            return;
        }
        match self.write_out() {
            Err(error) => self.lose(&error),
            Ok(()) => {
                if self.trouble.take().is_some() {
                    tracing::info!("what is in force is remembered for a start without an API server");
                }
                if self.lines > 2 * self.live + SLACK {
                    self.rewrite();
                }
            }
        }
    }

    fn write(&mut self, name: String, entry: &Entry<'_>) {
        if matches!(self.stage, Stage::Closed) {
            return;
        }
        self.lines += 1;
        self.pending.push((name, entry.line()));
        if self.pending.len() >= GROUP {
            self.flush();
        }
    }

    fn write_out(&mut self) -> io::Result<()> {
        if let (Stage::Found(scan), Some(path)) = (&self.stage, &self.path) {
            self.stage = Stage::Open(Journal::begin(path, scan)?);
        }
        if let Stage::Open(journal) = &mut self.stage
            && !self.pending.is_empty()
        {
            journal.append(self.pending.iter().map(|(_, line)| line.as_str()))?;
            self.pending.clear();
        }
        Ok(())
    }

    /// A change is not in the journal: without it the rest is not to be relied on. It is kept here until there is room.
    fn lose(&mut self, error: &io::Error) {
        let is_kept = match &self.stage {
            Stage::Open(journal) => journal.disown().is_ok(),
            // What is there may be all that is known of some objects, and nobody takes it for whole.
            Stage::Found(scan) => scan.fault.is_some() || scan.length == 0,
            Stage::Closed => false,
        };
        if !is_kept {
            return self.abandon(error);
        }
        squeeze(&mut self.pending);
        self.say(error, Some(Instant::now() + RETRY));
    }

    /// Nothing more is written before the next start, which is to take nothing of the journal for whole.
    fn abandon(&mut self, error: &io::Error) {
        let stage = std::mem::take(&mut self.stage);
        self.pending = Vec::new();
        let disowned = match (&stage, &self.path) {
            (Stage::Open(journal), _) if journal.disown().is_ok() => Ok(()),
            (_, Some(path)) => fs::remove_file(path).or_else(|_| File::create(path).map(drop)),
            (_, None) => Ok(()),
        };
        if let Err(error) = disowned {
            tracing::error!(
                path = ?self.path, %error,
                "a start without an API server would bring back what was in force before: remove the file"
            );
        }
        self.say(error, None);
    }

    fn say(&mut self, error: &io::Error, again: Option<Instant>) {
        let path = self.path.as_deref().unwrap_or(Path::new(FILE)).display();
        let why = format!("{path}: {error}");
        if self.trouble.is_none() {
            tracing::warn!(why, "what is in force cannot be remembered for a start without an API server");
        }
        self.trouble = Some(Trouble { why, again });
    }

    /// Only what counts, in a new file.
    fn rewrite(&mut self) {
        let Some(path) = self.path.clone() else { return };
        let scan = match journal::scan(&path) {
            Ok(Scan { fault: Some(fault), .. }) => return self.abandon(&io::Error::other(fault)),
            Err(error) => return self.abandon(&error),
            Ok(scan) => scan,
        };
        match Journal::anew(&path, &scan) {
            Ok(journal) => {
                self.stage = Stage::Open(journal);
                (self.live, self.lines) = (scan.live(), scan.live());
            }
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "the journal cannot be written anew, and grows");
                // Not at once again.
                self.lines = self.live;
            }
        }
    }
}

/// Of each name the last line alone.
fn squeeze(lines: &mut Vec<(String, String)>) {
    let mut later = HashSet::new();
    let mut counts: Vec<bool> = lines.iter().rev().map(|(name, _)| later.insert(name.as_str())).collect();
    lines.retain(|_| counts.pop().unwrap_or(true));
}

/// What counts, and why that is not everything.
fn read(path: &Path, take: impl FnMut(Value) -> bool) -> io::Result<Scan> {
    let mut scan = journal::scan(path)?;
    let refused = journal::objects(path, &mut scan, take)?;
    if let [first, others @ ..] = refused.as_slice() {
        scan.fault.get_or_insert_with(|| format!("{first} and {} others cannot be read", others.len()));
    }
    scan.complete &= scan.fault.is_none();
    Ok(scan)
}

/// None of these can have a bar or a tab.
fn name(key: &Key) -> String {
    format!("{}|{}|{}|{}", key.group, key.kind, key.namespace, key.name)
}

#[cfg(test)]
mod tests;
