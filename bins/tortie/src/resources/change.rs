//! `create`, `apply`, `replace`, `validate`.
//!
//! Owns: what each allows and says. Does not: write files (control/store does).
//! Invariant: everything is checked before anything is written.

use anyhow::anyhow;
use clap::Args;
use ipnet::IpNet;
use serde_json::Value;
use tortie_store::dir::{Edit, Outcome as Edited};
use tortie_store::resource::{Key, Resource};

use super::dangling;
use super::input::{self, Given};
use super::{DryRun, Files, Scope, called, directory, not_found, printer, unusable};
use crate::args::Global;
use crate::exit::{Answer, Failure, Outcome};

/// Flags of `create`, `apply` and `replace`.
#[derive(Debug, Args)]
pub struct Change {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    dry_run: DryRun,
}

/// Flags of `validate`.
#[derive(Debug, Args)]
pub struct Validate {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    scope: Scope,
}

/// What may be there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Create,
    /// Something or nothing.
    Apply,
    /// Something.
    Replace,
}

/// Runs `create`, `apply` or `replace`.
pub fn run(change: Change, mode: Mode, global: &Global) -> Outcome {
    let given = input::read(&change.files, &change.scope)?;
    let directory = directory(global)?;
    let mut edit = directory.edit().map_err(unusable)?;
    check_presence(&edit, mode, &given)?;
    let mut lines = Vec::new();
    let mut values = Vec::new();
    let places: Vec<String> = given.iter().map(|it| format!("{}:{}", it.path.display(), it.line)).collect();
    for Given { resource, .. } in given {
        let (name, kind) = (called(resource.kind, &resource.key), resource.kind);
        let resource = keeping_status(&edit, resource);
        values.push(Resource { key: resource.key.clone(), kind, value: resource.value.clone() });
        let said = match (edit.put(resource), mode) {
            (_, Mode::Replace) => "replaced",
            (Edited::Created, _) => "created",
            (Edited::Changed, _) => "configured",
            (Edited::Unchanged, _) => "unchanged",
        };
        lines.push(format!("{name} {said}{}", change.dry_run.suffix()));
    }
    for (place, resource) in places.iter().zip(&values) {
        for warning in dangling::warnings(resource, &edit) {
            eprintln!("warning: {place}: {warning}");
        }
    }
    if !change.dry_run.is_on() {
        edit.commit().map_err(unusable)?;
    }
    printer::changed(global, &lines, &values)
}

/// Checks files and says of each object that it is valid.
pub fn validate(validate: &Validate, global: &Global) -> Outcome {
    let given = input::read(&validate.files, &validate.scope)?;
    let lines: Vec<String> =
        given.iter().map(|it| format!("{} valid", called(it.resource.kind, &it.resource.key))).collect();
    let values: Vec<Resource> = given.into_iter().map(|it| it.resource).collect();
    printer::changed(global, &lines, &values)
}

fn check_presence(edit: &Edit<'_>, mode: Mode, given: &[Given]) -> Result<(), Failure> {
    let wrong = |it: &&Given| match mode {
        Mode::Create => edit.get(&it.resource.key).is_some(),
        Mode::Replace => edit.get(&it.resource.key).is_none(),
        Mode::Apply => false,
    };
    let message = |it: &Given| {
        let at = format!("{}:{}", it.path.display(), it.line);
        let kind = it.resource.kind;
        let name = &it.resource.key.name;
        match (mode, kind) {
            (Mode::Replace, Some(kind)) => format!("{at}: {}; use apply or create", not_found(kind, name)),
            _ => format!("{at}: {} already exists; use apply or replace", called(kind, &it.resource.key)),
        }
    };
    let messages: Vec<String> = given.iter().filter(wrong).map(message).collect();
    match messages.is_empty() {
        true => Ok(Answer::Yes),
        false => Err(Failure::no(anyhow!("{}; nothing has been changed", messages.join("\ntortie: ")))),
    }
    .map(|_| ())
}

impl dangling::World for Edit<'_> {
    fn has(&self, key: &Key) -> bool {
        self.get(key).is_some()
    }

    fn pools(&self) -> Vec<IpNet> {
        let known = self.snapshot().objects.keys().chain(self.wanted());
        let pools = known.filter(|key| key.kind == "IPPool").filter_map(|key| self.get(key));
        pools.filter_map(dangling::range).collect()
    }
}

/// What a cluster says of an object stays when a file is silent about it.
fn keeping_status(edit: &Edit<'_>, mut resource: Resource) -> Resource {
    const SYSTEM: [&str; 5] = ["creationTimestamp", "uid", "resourceVersion", "generation", "managedFields"];
    let Some(before) = edit.get(&resource.key) else { return resource };
    let Some(after) = resource.value.as_object_mut() else { return resource };
    if let Some(status) = before.get("status") {
        after.entry("status").or_insert_with(|| status.clone());
    }
    let metadata = (before.get("metadata").and_then(Value::as_object), after.get_mut("metadata"));
    if let (Some(before), Some(Value::Object(after))) = metadata {
        for name in SYSTEM {
            if let Some(value) = before.get(name) {
                after.entry(name).or_insert_with(|| value.clone());
            }
        }
    }
    resource
}
