//! Resources from `-f`.
//!
//! Owns: files, directories and standard input; reports of what is wrong in them.
//! Does not: write. Invariant: what is returned has been validated, all of it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context as _, anyhow};
use tortie_store::dir::counts;
use tortie_store::fault::{Fault, Wrong};
use tortie_store::input::{self, Item};
use tortie_store::kind::KINDS;
use tortie_store::resource::{Key, Resource};
use tortie_store::strict::closest;
use tortie_store::{Effect, Rejection, wire};

use super::{Files, Scope};
use crate::exit::Failure;
use crate::output;

/// A resource and where it was read.
#[derive(Debug)]
pub struct Given {
    pub resource: Resource,
    pub path: PathBuf,
    pub line: u64,
}

/// Reads and validates everything that is named, or says all that is wrong.
pub fn read(files: &Files, scope: &Scope) -> Result<Vec<Given>, Failure> {
    let (given, rejections) = read_all(files, scope)?;
    let refused: Vec<String> =
        rejections.iter().filter(|it| it.effect != Effect::NotEnforced).map(Rejection::to_string).collect();
    if !refused.is_empty() {
        return Err(Failure::bad_input(anyhow!(refused.join("\ntortie: "))));
    }
    for note in rejections {
        output::tell(format_args!("warning: {note}"));
    }
    some(given, files)
}

/// Nothing in what was given is a mistake, such as a command before the pipe that has failed.
fn some(given: Vec<Given>, files: &Files) -> Result<Vec<Given>, Failure> {
    if given.is_empty() {
        let names: Vec<_> = files.files.iter().map(|path| name_of(path).display().to_string()).collect();
        let message = format!("{}: there is no object in it; give some", names.join(", "));
        return Err(Failure::bad_input(anyhow!(message)));
    }
    Ok(given)
}

fn name_of(path: &Path) -> &Path {
    if path == Path::new("-") { Path::new("stdin") } else { path }
}

/// Reads everything, whether valid or not; to remove an object it is enough to know its name.
pub fn read_names(files: &Files, scope: &Scope) -> Result<Vec<Given>, Failure> {
    let mut all = Vec::new();
    for (path, bytes) in texts(files)? {
        for Item { line, resource, .. } in input::read(&bytes, scope.namespace()) {
            let refuse = |resource: Option<&Resource>, fault| {
                let rejection = input::rejection(&path, line, resource, fault, Effect::Absent);
                Failure::bad_input(anyhow!(rejection.to_string()))
            };
            let resource = resource.map_err(|fault| refuse(None, fault))?;
            if let Some(fault) = check_namespace(&resource, scope) {
                return Err(refuse(Some(&resource), fault));
            }
            all.push(Given { resource, path: path.clone(), line });
        }
    }
    some(all, files)
}

fn read_all(files: &Files, scope: &Scope) -> Result<(Vec<Given>, Vec<Rejection>), Failure> {
    let mut given: Vec<Given> = Vec::new();
    let mut rejections = Vec::new();
    let mut first: BTreeMap<Key, String> = BTreeMap::new();
    for (path, bytes) in texts(files)? {
        for Item { line, resource, .. } in input::read(&bytes, scope.namespace()) {
            let mut reject = |resource: Option<&Resource>, fault, effect| {
                rejections.push(input::rejection(&path, line, resource, fault, effect));
            };
            let resource = match resource {
                Ok(resource) => resource,
                Err(fault) => {
                    reject(None, fault, Effect::Absent);
                    continue;
                }
            };
            check_known(&resource).into_iter().for_each(|it| reject(Some(&resource), it, Effect::Absent));
            check_namespace(&resource, scope)
                .into_iter()
                .for_each(|it| reject(Some(&resource), it, Effect::Absent));
            match wire::read(&resource) {
                Ok(read) => {
                    read.notes.into_iter().for_each(|it| reject(Some(&resource), it, Effect::NotEnforced))
                }
                Err(faults) => faults.into_iter().for_each(|it| reject(Some(&resource), it, Effect::Absent)),
            }
            let place = format!("{}:{line}", path.display());
            if let Some(other) = first.insert(resource.key.clone(), place) {
                reject(Some(&resource), given_twice(&other), Effect::Absent);
            }
            given.push(Given { resource: with_namespace(resource), path: path.clone(), line });
        }
    }
    Ok((given, rejections))
}

/// One object, two places.
pub fn given_twice(other: &str) -> Fault {
    Fault { field: String::new(), problem: format!("is also given in {other}"), fix: "give it once".into() }
}

/// An agent keeps a kind it does not know and says so; nobody should write one by mistake.
fn check_known(resource: &Resource) -> Option<Fault> {
    if resource.kind.is_some() {
        return None;
    }
    let Key { group, kind, .. } = &resource.key;
    let names: Vec<&str> = KINDS.iter().filter(|it| it.group == *group).map(|it| it.kind).collect();
    let fix = match closest(kind, &names) {
        Some(like) => format!("did you mean {like}?"),
        None => "leave it out, and use kubectl for it".into(),
    };
    let of = if group.is_empty() { "v1" } else { group };
    Some(Fault {
        field: String::new(),
        problem: format!("kind {kind} of {of} is none of this program's"),
        fix,
    })
}

fn check_namespace(resource: &Resource, scope: &Scope) -> Option<Fault> {
    let asked = scope.asked()?;
    let own = resource.key.namespace.as_str();
    let wrong =
        Wrong::Conflict { why: "is not the namespace given with -n", fix: "leave out -n, or the field" };
    (!own.is_empty() && own != asked).then(|| Fault::new("metadata.namespace", &wrong))
}

/// Written with its namespace, so that the file means the same wherever it is.
fn with_namespace(mut resource: Resource) -> Resource {
    let namespace = resource.key.namespace.clone();
    if !namespace.is_empty()
        && let Some(metadata) = resource.value.get_mut("metadata").and_then(|it| it.as_object_mut())
    {
        metadata.insert("namespace".into(), namespace.into());
    }
    resource
}

fn texts(files: &Files) -> Result<Vec<(PathBuf, Vec<u8>)>, Failure> {
    if files.files.is_empty() {
        return Err(Failure::bad_input(anyhow!("no resources are given; use -f FILE, -f DIR or -f -")));
    }
    let mut texts = Vec::new();
    for path in &files.files {
        if path == Path::new("-") {
            let mut bytes = Vec::new();
            io::stdin().read_to_end(&mut bytes).context("reading standard input").map_err(Failure::from)?;
            texts.push((name_of(path).to_owned(), bytes));
        } else if path.is_dir() {
            let before = texts.len();
            directory(path, files.recursive, &mut texts)?;
            if texts.len() == before {
                let message =
                    format!("{}: no .yaml, .yml or .json file; give another directory", path.display());
                return Err(Failure::bad_input(anyhow!(message)));
            }
        } else {
            texts.push((path.clone(), bytes_of(path)?));
        }
    }
    Ok(texts)
}

fn directory(path: &Path, recursive: bool, texts: &mut Vec<(PathBuf, Vec<u8>)>) -> Result<(), Failure> {
    let entries = fs::read_dir(path).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
    let mut entries = entries.map_err(|error| unreadable(path, error))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if recursive && !hidden {
                directory(&path, true, texts)?;
            }
        } else if counts(&entry.file_name()) {
            texts.push((path.clone(), bytes_of(&path)?));
        }
    }
    Ok(())
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| unreadable(path, error))
}

fn unreadable(path: &Path, error: io::Error) -> Failure {
    let refused = error.kind() == io::ErrorKind::PermissionDenied;
    let error = anyhow!("{}: cannot be read: {error}; check the path", path.display());
    if refused { Failure::not_allowed(error) } else { Failure::bad_input(error) }
}
