//! One file's content: the objects it gives, and what is wrong with it.
//!
//! Owns: the rule of the last good version within a file. Does not: read files or know others.
//! Invariant: an object of a fault that cannot be named may be any; so all that were there before stay.

use crate::fault::Fault;
use crate::rejection::{Effect, Origin, Rejection};
use crate::resource::{self, Key, Resource};
use crate::text::{self, MAX_DOCUMENTS, Malformed, Span};
use crate::wire::{self, Noun};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Namespace of objects that name none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// An object in force from this file.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What it means.
    pub noun: Arc<Noun>,
    /// Line of its document.
    pub line: u64,
}

/// What a file gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    /// Objects in force.
    pub entries: BTreeMap<Key, Entry>,
    /// What is not.
    pub rejections: Vec<Arc<Rejection>>,
}

struct Reader<'a> {
    path: &'a Path,
    previous: &'a Content,
    content: Content,
    /// Something of the file cannot be named.
    unnamed: bool,
}

/// Reads a file's bytes, after `previous`.
pub fn read(path: &Path, bytes: &[u8], previous: &Content) -> Content {
    let mut reader = Reader { path, previous, content: Content::default(), unnamed: false };
    match text::decode(bytes) {
        Ok(text) => reader.text(text),
        Err(malformed) => reader.malformed(malformed),
    }
    reader.finish()
}

/// A file that cannot be read: all that was there stays.
pub fn unreadable(path: &Path, error: &std::io::Error, previous: &Content) -> Content {
    let mut reader = Reader { path, previous, content: Content::default(), unnamed: false };
    let problem = format!("cannot be read: {error}");
    reader.malformed(Malformed { line: 0, problem, fix: "let the agent's user read it, or remove it" });
    reader.finish()
}

impl Reader<'_> {
    fn text(&mut self, text: &str) {
        let spans = text::split(text);
        if spans.len() > MAX_DOCUMENTS {
            let problem =
                format!("{} documents are more than the {MAX_DOCUMENTS} a file may have", spans.len());
            return self.malformed(Malformed { line: 0, problem, fix: "split the file" });
        }
        for span in &spans {
            match text::parse(text, span) {
                Ok(value) => self.document(span, value),
                Err(malformed) => self.malformed(malformed),
            }
        }
    }

    fn document(&mut self, span: &Span, value: Value) {
        let members = match resource::members(value) {
            Ok(members) => members,
            Err(invalid) => return self.nameless(span.line, invalid.into()),
        };
        for member in members {
            match Resource::new(member, DEFAULT_NAMESPACE) {
                Ok(resource) => self.resource(span.line, &resource),
                Err(invalid) => self.nameless(span.line, invalid.into()),
            }
        }
    }

    fn resource(&mut self, line: u64, resource: &Resource) {
        if let Some(first) = self.content.entries.get(&resource.key) {
            let problem = format!("is already in this file, at line {}", first.line);
            let fault = Fault { field: String::new(), problem, fix: "keep one of them".into() };
            return self.reject(line, Some(&resource.key), fault, Effect::KeepsLast);
        }
        match wire::read(resource) {
            Ok(reading) => {
                for note in reading.notes {
                    self.reject(line, Some(&resource.key), note, Effect::NotEnforced);
                }
                let entry = Entry { noun: Arc::new(reading.noun), line };
                self.content.entries.insert(resource.key.clone(), entry);
            }
            Err(faults) => {
                let last = self.previous.entries.get(&resource.key);
                let effect = if last.is_some() { Effect::KeepsLast } else { Effect::Absent };
                for fault in faults {
                    self.reject(line, Some(&resource.key), fault, effect);
                }
                if let Some(last) = last {
                    self.content.entries.insert(resource.key.clone(), Entry { line, ..last.clone() });
                }
            }
        }
    }

    fn nameless(&mut self, line: u64, fault: Fault) {
        self.unnamed = true;
        self.reject(line, None, fault, self.effect());
    }

    fn malformed(&mut self, malformed: Malformed) {
        self.unnamed = true;
        let Malformed { line, problem, fix } = malformed;
        let fault = Fault { field: String::new(), problem, fix: fix.into() };
        self.reject(line, None, fault, self.effect());
    }

    fn effect(&self) -> Effect {
        if self.previous.entries.is_empty() { Effect::Absent } else { Effect::KeepsLast }
    }

    fn reject(&mut self, line: u64, key: Option<&Key>, fault: Fault, effect: Effect) {
        let Fault { field, problem, fix } = fault;
        let origin = Origin::File { path: PathBuf::from(self.path), line };
        let object = key.map(Key::object_name);
        let field = (!field.is_empty()).then_some(field);
        self.content.rejections.push(Arc::new(Rejection { origin, object, field, problem, fix, effect }));
    }

    fn finish(mut self) -> Content {
        if self.unnamed {
            for (key, entry) in &self.previous.entries {
                self.content.entries.entry(key.clone()).or_insert_with(|| entry.clone());
            }
        }
        self.content
    }
}
