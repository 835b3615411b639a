//! Changing objects in the directory.
//!
//! Owns: where a new object goes, and how one is replaced in a file that holds others.
//! Does not: validate; callers do. Invariant: documents that are not changed stay as they are, byte for byte.
//!
//! New objects go to `<namespace, or _cluster>/<kind>/<name>.yaml`, one to a file. An object that already
//! stands in a file is changed there: its document is written anew, without its comments.

use super::atomic::{self, Change};
use super::files::{Directory, DirectoryError, Place, Snapshot, Stored};
use crate::resource::{self, Key, Resource};
use crate::text::{self, Span};
use nix::fcntl::Flock;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A change under way; nobody else changes the directory meanwhile. Dropping it changes nothing.
pub struct Edit<'d> {
    directory: &'d Directory,
    _lock: Flock<File>,
    snapshot: Snapshot,
    /// New values; `None`: to be removed.
    wanted: BTreeMap<Key, Option<Value>>,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is new.
    Created,
    /// It has changed.
    Changed,
    /// It was like that already.
    Unchanged,
}

impl<'d> Edit<'d> {
    pub(super) fn new(directory: &'d Directory, lock: Flock<File>, snapshot: Snapshot) -> Self {
        Self { directory, _lock: lock, snapshot, wanted: BTreeMap::new() }
    }

    /// What was there when the edit began.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// An object as it will be: what is there, with this edit's changes.
    pub fn get(&self, key: &Key) -> Option<&Value> {
        match self.wanted.get(key) {
            Some(wanted) => wanted.as_ref(),
            None => self.snapshot.objects.get(key).map(|stored| &stored.resource.value),
        }
    }

    /// The objects that this edit has touched so far.
    pub fn wanted(&self) -> impl Iterator<Item = &Key> {
        self.wanted.keys()
    }

    /// Makes an object what is given.
    pub fn put(&mut self, resource: Resource) -> Outcome {
        let outcome = match self.get(&resource.key) {
            None => Outcome::Created,
            Some(value) if *value == resource.value => return Outcome::Unchanged,
            Some(_) => Outcome::Changed,
        };
        self.wanted.insert(resource.key, Some(resource.value));
        outcome
    }

    /// Removes an object; whether it was there.
    pub fn delete(&mut self, key: &Key) -> bool {
        let was_there = self.get(key).is_some();
        self.wanted.insert(key.clone(), None);
        was_there
    }

    /// Writes everything, or nothing.
    pub fn commit(self) -> Result<(), DirectoryError> {
        let mut changes = Vec::new();
        let mut in_place: BTreeMap<&Path, Vec<(&Place, Option<&Value>)>> = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for (key, value) in &self.wanted {
            match (self.snapshot.objects.get(key), value) {
                (Some(stored), _) => {
                    let place = &stored.place;
                    in_place.entry(&place.file).or_default().push((place, value.as_ref()));
                }
                (None, Some(value)) => changes.push(self.new_file(key, value, &mut taken)?),
                (None, None) => {}
            }
        }
        for (path, edits) in in_place {
            changes.push(self.rewrite(path, edits)?);
        }
        atomic::commit(&changes).map_err(|(path, cause)| DirectoryError::Write { path, cause })?;
        self.tidy(&changes);
        Ok(())
    }

    /// Directories of the layout go with the last file in them.
    fn tidy(&self, changes: &[Change]) {
        for change in changes.iter().filter(|change| change.after.is_none()) {
            let of_layout =
                |key: &&Key| layout(self.directory.root(), key, 1).parent() == change.path.parent();
            if self.wanted.keys().any(|key| of_layout(&key)) {
                let above = change.path.ancestors().skip(1).take(2);
                // Refused while there is something left in it.
                above.for_each(|directory| _ = fs::remove_dir(directory));
            }
        }
    }

    fn new_file(
        &self,
        key: &Key,
        value: &Value,
        taken: &mut BTreeSet<PathBuf>,
    ) -> Result<Change, DirectoryError> {
        let occupied: BTreeSet<&Path> =
            self.snapshot.objects.values().map(|stored| stored.place.file.as_path()).collect();
        let mut path = layout(self.directory.root(), key, 1);
        let mut number = 1;
        while occupied.contains(path.as_path()) || taken.contains(&path) {
            number += 1;
            path = layout(self.directory.root(), key, number);
        }
        taken.insert(path.clone());
        let before = match fs::read(&path) {
            Ok(bytes) => Some(bytes),
            // What is in the way of the directory is found out, and said, when it is made.
            Err(error) if super::tree::is_absence(&error) => None,
            Err(cause) => return Err(DirectoryError::Read { path, cause }),
        };
        let after = Some(yaml(&path, value)?.into_bytes());
        Ok(Change { path, before, after })
    }

    fn rewrite(&self, path: &Path, edits: Vec<(&Place, Option<&Value>)>) -> Result<Change, DirectoryError> {
        let read = |cause| DirectoryError::Read { path: path.to_owned(), cause };
        // Through a link: the link stays, what it leads to changes.
        let target = fs::canonicalize(path).map_err(read)?;
        let bytes = fs::read(&target).map_err(read)?;
        let conflict = || DirectoryError::Conflict { path: path.to_owned() };
        let text = text::decode(&bytes).map_err(|_| conflict())?;
        let after = self.rewritten(path, text, edits)?.ok_or_else(conflict)?;
        let only_blank = text::split(&after).is_empty();
        let after = (!only_blank).then(|| after.into_bytes());
        Ok(Change { path: target, before: Some(bytes), after })
    }

    /// The text with some of its objects changed; `None`: it is not the text that the snapshot saw.
    fn rewritten(
        &self,
        path: &Path,
        text: &str,
        edits: Vec<(&Place, Option<&Value>)>,
    ) -> Result<Option<String>, DirectoryError> {
        let spans = text::split(text);
        let mut by_document: BTreeMap<usize, Vec<(&Place, Option<&Value>)>> = BTreeMap::new();
        for edit in edits {
            by_document.entry(edit.0.document).or_default().push(edit);
        }
        let mut result = text.to_owned();
        for (document, edits) in by_document.into_iter().rev() {
            let Some(span) = spans.get(document) else { return Ok(None) };
            let Some(value) = self.document_after(path, text, span, &edits) else { return Ok(None) };
            match value {
                Some(value) => {
                    result.replace_range(span.bytes.clone(), &document_text(path, text, span, &value)?)
                }
                None => remove_document(&mut result, &spans, document),
            }
        }
        Ok(Some(result))
    }

    /// A document's value after the edits; inner `None`: it goes. Outer `None`: it is not what was seen.
    fn document_after(
        &self,
        path: &Path,
        text: &str,
        span: &Span,
        edits: &[(&Place, Option<&Value>)],
    ) -> Option<Option<Value>> {
        let mut value = text::parse(text, span).ok()?;
        if let [(Place { member: None, .. }, wanted)] = edits {
            return self.seen(path, edits.first()?.0, &value).then(|| wanted.cloned());
        }
        resource::name_items(&mut value);
        let items = value.get_mut("items")?.as_array_mut()?;
        for (place, wanted) in edits {
            let item = items.get_mut(place.member?)?;
            if !self.seen(path, place, item) {
                return None;
            }
            // Gone ones are taken out below, so that the places of the others hold.
            *item = wanted.cloned().unwrap_or(Value::Null);
        }
        items.retain(|item| !item.is_null());
        let empty = items.is_empty();
        Some((!empty).then_some(value))
    }

    fn seen(&self, path: &Path, place: &Place, value: &Value) -> bool {
        let at = |stored: &&Stored| stored.place == *place && stored.place.file == path;
        self.snapshot.objects.values().find(at).is_some_and(|stored| stored.resource.value == *value)
    }
}

/// Where an object without a file goes.
fn layout(root: &Path, key: &Key, number: usize) -> PathBuf {
    let namespace = if key.namespace.is_empty() { "_cluster" } else { &key.namespace };
    let kind =
        crate::kind::of(&key.group, &key.kind).map_or_else(|| key.kind.to_lowercase(), |it| it.resource());
    // A name may be longer than a file's name; which one it is does not matter, for files are known by content.
    let name: String = key.name.chars().take(200).collect();
    let suffix = if number == 1 { String::new() } else { format!("-{number}") };
    root.join(namespace).join(kind).join(format!("{name}{suffix}.yaml"))
}

fn yaml(path: &Path, value: &Value) -> Result<String, DirectoryError> {
    text::write(value).map_err(|malformed| {
        let cause = io::Error::new(io::ErrorKind::InvalidData, malformed.problem);
        DirectoryError::Write { path: path.to_owned(), cause }
    })
}

/// The new text of a document: JSON where it was JSON, and its leading comments.
fn document_text(path: &Path, text: &str, span: &Span, value: &Value) -> Result<String, DirectoryError> {
    let before = text.get(span.bytes.clone()).unwrap_or_default();
    let comments: String = before
        .split_inclusive('\n')
        .take_while(|line| line.trim().is_empty() || line.starts_with('#'))
        .collect();
    let body = if before.trim_start().starts_with('{') {
        let pretty = serde_json::to_string_pretty(value)
            .map_err(|error| DirectoryError::Write { path: path.to_owned(), cause: error.into() })?;
        pretty + "\n"
    } else {
        yaml(path, value)?
    };
    // `--- {…}` on one line: what follows the marker has to stay apart from it.
    let inline = span.bytes.start > 0 && !text.get(..span.bytes.start).unwrap_or_default().ends_with('\n');
    Ok(if inline { format!("\n{comments}{body}") } else { format!("{comments}{body}") })
}

/// Takes a document out, with the marker before it. Works from the last document to the first: what comes
/// after it may have been changed already.
fn remove_document(text: &mut String, spans: &[Span], document: usize) {
    let Some(span) = spans.get(document) else { return };
    let before = document.checked_sub(1).and_then(|number| spans.get(number));
    let start = before.map_or(span.bytes.start, |before| before.bytes.end);
    text.replace_range(start..span.bytes.end, "");
}
