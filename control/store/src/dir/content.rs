//! One file's content: the objects it gives, and what is wrong with it.
//!
//! Owns: the rule of the last good version within a file. Does not: read files or know others.
//! Invariant: a fault without a name may be of any object; so all objects that were there before stay.

use crate::fault::Fault;
use crate::input::{self, DEFAULT_NAMESPACE, Item};
use crate::rejection::{Effect, Rejection};
use crate::resource::{Key, Resource};
use crate::wire::{self, Noun};
use litemap::LiteMap;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// An object in force from this file.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What it means.
    pub noun: Arc<Noun>,
    /// Line of its document.
    pub line: u64,
    /// A version of it was good; else it is what holds meanwhile.
    pub good: bool,
}

/// What a file gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    /// Objects in force; of most files there is one.
    pub entries: LiteMap<Arc<Key>, Entry>,
    /// What is not.
    pub rejections: Vec<Arc<Rejection>>,
}

impl Content {
    /// Whether everything in the file is in force, or at least kept.
    pub fn is_good(&self) -> bool {
        self.rejections.iter().all(|rejection| rejection.effect == Effect::NotEnforced)
    }
}

struct Reader<'a> {
    path: &'a Path,
    previous: &'a Content,
    entries: BTreeMap<Arc<Key>, Entry>,
    rejections: Vec<Arc<Rejection>>,
    /// Objects met so far, refused ones too, and their lines.
    met: BTreeMap<Arc<Key>, u64>,
}

/// Reads a file's bytes, after `previous`. Reading the same bytes again changes nothing.
pub fn read(path: &Path, bytes: &[u8], previous: &Content) -> Content {
    let mut reader = Reader::new(path, previous);
    let mut unnamed = Vec::new();
    for Item { line, document: _, member: _, resource } in input::read(bytes, DEFAULT_NAMESPACE) {
        match resource {
            Ok(resource) => reader.resource(line, &resource),
            Err(fault) => unnamed.push((line, fault)),
        }
    }
    reader.finish(unnamed)
}

/// A file that cannot be read: all that was there stays.
pub fn unreadable(path: &Path, error: &std::io::Error, previous: &Content) -> Content {
    let problem = format!("cannot be read: {error}");
    let fix = "let the agent's user read it, or remove it".into();
    let fault = Fault { field: String::new(), problem, fix };
    Reader::new(path, previous).finish(vec![(0, fault)])
}

impl<'a> Reader<'a> {
    fn new(path: &'a Path, previous: &'a Content) -> Self {
        Self { path, previous, entries: BTreeMap::new(), rejections: Vec::new(), met: BTreeMap::new() }
    }

    fn resource(&mut self, line: u64, resource: &Resource) {
        if let Some(first) = self.met.get(&resource.key) {
            let problem = format!("is already in this file, at line {first}");
            let fault = Fault { field: String::new(), problem, fix: "keep one of them".into() };
            return self.reject(line, Some(resource), fault, Effect::KeepsLast);
        }
        let key = Arc::new(resource.key.clone());
        self.met.insert(key.clone(), line);
        match wire::read(resource) {
            Ok(reading) => {
                for note in reading.notes {
                    self.reject(line, Some(resource), note, Effect::NotEnforced);
                }
                let entry = Entry { noun: Arc::new(reading.noun), line, good: true };
                self.entries.insert(key, entry);
            }
            Err(faults) => self.refused(line, resource, key, faults),
        }
    }

    fn refused(&mut self, line: u64, resource: &Resource, key: Arc<Key>, faults: Vec<Fault>) {
        let last = self.previous.entries.get(&key).filter(|last| last.good);
        let meanwhile = || Some(Entry { noun: Arc::new(wire::meanwhile(resource)?), line, good: false });
        let entry = last.map(|last| Entry { line, ..last.clone() }).or_else(meanwhile);
        let effect = match &entry {
            Some(entry) if entry.good => Effect::KeepsLast,
            Some(_) => Effect::Isolates,
            None => Effect::Absent,
        };
        if let Some(entry) = entry {
            self.entries.insert(key, entry);
        }
        for fault in faults {
            self.reject(line, Some(resource), fault, effect);
        }
    }

    fn reject(&mut self, line: u64, resource: Option<&Resource>, fault: Fault, effect: Effect) {
        let rejection = input::rejection(self.path, line, resource, fault, effect);
        self.rejections.push(Arc::new(rejection));
    }

    fn finish(mut self, unnamed: Vec<(u64, Fault)>) -> Content {
        let mut effect = Effect::Absent;
        if !unnamed.is_empty() {
            for (key, entry) in &self.previous.entries {
                self.entries.entry(key.clone()).or_insert_with(|| {
                    effect = Effect::KeepsLast;
                    entry.clone()
                });
            }
        }
        for (line, fault) in unnamed {
            self.reject(line, None, fault, effect);
        }
        // Not collected, which would make room for four.
        let mut entries = LiteMap::with_capacity(self.entries.len());
        entries.extend(self.entries);
        Content { entries, rejections: self.rejections }
    }
}
