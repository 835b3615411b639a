//! `patch` and `label`.
//!
//! Owns: how fields are changed. Does not: know which are allowed (control/store does).
//! Invariant: an object that would be invalid is not written.

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use json_patch::Patch as JsonPatch;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use tortie_store::kind::Kind;
use tortie_store::kube::Patch as Sent;
use tortie_store::objects::{Done, Dry, Look as _, What};
use tortie_store::resource::{Key, Resource};
use tortie_store::text;
use tortie_store::{Effect, Origin, Rejection, check, wire};

use super::{DryRun, Scope, called, key_of, kind_and_name, kind_named, not_found, open, printer};
use crate::args::Global;
use crate::exit::{Failure, Outcome};
use crate::output;

/// Flags of `patch`.
#[derive(Debug, Args)]
pub struct Patch {
    /// KIND NAME, or KIND/NAME
    #[arg(value_name = "KIND NAME", required = true)]
    object: Vec<String>,
    /// The patch, in YAML or JSON.
    #[arg(short = 'p', long, value_name = "P", required_unless_present = "patch_file")]
    patch: Option<String>,
    /// A file with the patch.
    #[arg(long, value_name = "FILE", conflicts_with = "patch")]
    patch_file: Option<PathBuf>,
    /// merge: fields take new values, null removes; json: a list of operations (RFC 6902).
    #[arg(long = "type", value_enum, default_value_t = PatchType::Merge)]
    patch_type: PatchType,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    dry_run: DryRun,
}

/// Forms of patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PatchType {
    /// RFC 7386.
    Merge,
    /// RFC 6902.
    Json,
    /// Kubernetes' own kinds in a cluster: lists are merged by their keys, and the server is asked what comes of it, for
    /// a dry run too. Other kinds, and in a directory: the same as merge.
    Strategic,
}

/// Flags of `label`.
#[derive(Debug, Args)]
pub struct Label {
    /// KIND NAME KEY=VALUE… KEY-…, or KIND/NAME …
    #[arg(value_name = "KIND NAME KEY=VALUE|KEY-", required = true)]
    words: Vec<String>,
    /// A label that has another value may be changed.
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    dry_run: DryRun,
}

/// Runs `patch`.
pub fn patch(patch: Patch, global: &Global) -> Outcome {
    let (kind, name) = one_object(&patch.object)?;
    let (origin, document) = match (&patch.patch, &patch.patch_file) {
        (_, Some(path)) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::bad_input(anyhow!("{}: {error}; check the path", path.display()))
            })?;
            (Origin::File { path: path.clone(), line: 1 }, text)
        }
        (text, None) => (Origin::Argument("--patch".into()), text.clone().unwrap_or_default()),
    };
    let document = parse(&document).map_err(|why| Failure::bad_input(anyhow!("{origin}: {why}")))?;
    let send = match patch.patch_type {
        PatchType::Json => Sent::Json(document.clone()),
        // The server takes no other form for them.
        PatchType::Strategic if !kind.is_custom() => Sent::Strategic(document.clone()),
        PatchType::Merge | PatchType::Strategic => Sent::Merge(document.clone()),
    };
    let apply = |value: &mut Value| {
        match patch.patch_type {
            PatchType::Json => apply_operations(value, document)?,
            PatchType::Merge | PatchType::Strategic if document.is_object() => {
                json_patch::merge(value, &document)
            }
            PatchType::Merge | PatchType::Strategic => {
                return Err("found no fields; write {\"spec\": {…}}".to_owned());
            }
        }
        Ok(send)
    };
    let target = Target { kind, name, origin, scope: patch.scope };
    modify(target, &patch.dry_run, global, apply, |what| match what {
        What::Unchanged => "patched (no change)",
        _ => "patched",
    })
}

fn apply_operations(value: &mut Value, document: Value) -> Result<(), String> {
    let example = "[{\"op\": \"replace\", \"path\": \"/spec/cidr\", \"value\": \"10.0.0.0/16\"}]";
    let operations: JsonPatch = serde_json::from_value(document)
        .map_err(|error| format!("is no list of operations: {error}; write it like {example}"))?;
    json_patch::patch(value, &operations)
        .map_err(|error| format!("{error}; correct the path, or use --type merge"))
}

fn parse(document: &str) -> Result<Value, String> {
    match text::split(document).as_slice() {
        [] => Ok(Value::Null),
        [span] => text::parse(document, span).map_err(|malformed| malformed.to_string()),
        several => Err(format!("{} documents are no patch; give one", several.len())),
    }
}

/// Runs `label`.
pub fn label(label: Label, global: &Global) -> Outcome {
    let (kind, name, changes) = label_words(&label.words)?;
    let (set, removed) = label_changes(changes)?;
    let apply = |value: &mut Value| {
        let metadata = value.get_mut("metadata").and_then(Value::as_object_mut).ok_or("has no metadata")?;
        let labels = metadata.entry("labels").or_insert_with(|| Map::new().into());
        let labels = labels.as_object_mut().ok_or("metadata.labels is no mapping; correct it first")?;
        for (key, wanted) in &set {
            if let Some(old) = labels.get(*key).filter(|old| *old != wanted && !label.overwrite) {
                return Err(format!("label {key} already has the value {old}; use --overwrite"));
            }
            labels.insert((*key).into(), (*wanted).into());
        }
        removed.iter().for_each(|key| _ = labels.remove(*key));
        if labels.is_empty() {
            metadata.remove("labels");
        }
        let set = set.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value)));
        let removed = removed.iter().map(|key| ((*key).to_owned(), Value::Null));
        let labels: Map<String, Value> = set.chain(removed).collect();
        Ok(Sent::Merge(json!({"metadata": {"labels": labels}})))
    };
    let origin = Origin::Argument(format!("label {name}"));
    let target = Target { kind, name, origin, scope: label.scope };
    modify(target, &label.dry_run, global, apply, |what| match what {
        What::Unchanged => "not labeled",
        _ if set.is_empty() => "unlabeled",
        _ => "labeled",
    })
}

fn label_words(words: &[String]) -> Result<(&'static Kind, String, &[String]), Failure> {
    let count = if words.first().is_some_and(|word| word.contains('/')) { 1 } else { 2 };
    let (object, changes) = words.split_at_checked(count).unwrap_or((words, &[]));
    let (kind, name) = one_object(object)?;
    if changes.is_empty() {
        return Err(Failure::bad_input(anyhow!("no label is given; write KEY=VALUE, or KEY- to remove it")));
    }
    Ok((kind, name, changes))
}

type LabelChanges<'w> = (Vec<(&'w str, &'w str)>, Vec<&'w str>);

fn label_changes(words: &[String]) -> Result<LabelChanges<'_>, Failure> {
    let mut set = Vec::new();
    let mut removed = Vec::new();
    let mut keys = BTreeSet::new();
    for word in words {
        let bad = |why: String| Failure::bad_input(anyhow!("label {word:?}: {why}"));
        let wrong = |wrong: tortie_store::fault::Wrong| bad(format!("{wrong}; {}", wrong.fix()));
        let key = match (word.split_once('='), word.strip_suffix('-')) {
            (Some((key, value)), _) => {
                check::label_value(value).map_err(wrong)?;
                set.push((key, value));
                key
            }
            (None, Some(key)) => {
                removed.push(key);
                key
            }
            (None, None) => return Err(bad("is no change; write KEY=VALUE, or KEY- to remove it".into())),
        };
        check::label_key(key).map_err(wrong)?;
        if !keys.insert(key) {
            return Err(bad(format!("{key} is given twice; set it once, or remove it")));
        }
    }
    Ok((set, removed))
}

fn one_object(words: &[String]) -> Result<(&'static Kind, String), Failure> {
    match words {
        [word] => kind_and_name(word),
        [kind, name] if !kind.contains('/') => Ok((kind_named(kind)?, name.clone())),
        _ => {
            Err(Failure::bad_input(anyhow!("one object is changed at a time; write KIND NAME or KIND/NAME")))
        }
    }
}

struct Target {
    kind: &'static Kind,
    name: String,
    origin: Origin,
    scope: Scope,
}

/// `apply` changes the object as it is here, to see whether that is valid, and says what is to be sent for it.
fn modify(
    target: Target,
    dry_run: &DryRun,
    global: &Global,
    apply: impl FnOnce(&mut Value) -> Result<Sent, String>,
    say: impl FnOnce(What) -> &'static str,
) -> Outcome {
    let Target { kind, name, origin, mut scope } = target;
    let objects = open::objects(global, dry_run.dry())?.for_parts();
    scope.resolve(&objects)?;
    let key = key_of(kind, &name, &scope);
    let mut session = objects.begin(dry_run.dry()).map_err(open::failure)?;
    let Some(before) = session.find(kind, &key).map_err(open::failure)? else {
        return Err(Failure::no(anyhow!(not_found(kind, &key.name))));
    };
    let mut value = before.value.clone();
    let sent = apply(&mut value)
        .map_err(|why| Failure::bad_input(anyhow!("{origin}: {}: {why}", key.object_name())))?;
    let resource = match sent {
        Sent::Strategic(_) if !session.is_atomic() => asked(global, kind, &before, &sent)?,
        _ => Resource::new(value, &key.namespace)
            .map_err(|invalid| Failure::bad_input(anyhow!("{origin}: {}: {invalid}", key.object_name())))?,
    };
    if resource.key != key {
        let message = format!(
            "{origin}: {}: kind, name and namespace cannot change; make a new object",
            key.object_name()
        );
        return Err(Failure::bad_input(anyhow!(message)));
    }
    let notes = wire::read(&resource).map_err(|faults| refused(&origin, &key, faults))?.notes;
    for note in notes {
        output::tell(format_args!("warning: {}", rejection(&origin, &key, note)));
    }
    let Done { what, resource } = session.modify(kind, &before, resource, &sent).map_err(open::failure)?;
    session.commit().map_err(open::failure)?;
    let line = format!("{} {}{}", called(Some(kind), &key), say(what), dry_run.suffix());
    printer::changed(global, &[line], &[resource])
}

/// What the API server would make of an object: it alone knows by which keys lists are merged.
fn asked(global: &Global, kind: &'static Kind, before: &Resource, sent: &Sent) -> Result<Resource, Failure> {
    let objects = open::objects(global, Dry::Server)?.for_parts();
    let mut session = objects.begin(Dry::Server).map_err(open::failure)?;
    Ok(session.modify(kind, before, before.clone(), sent).map_err(open::failure)?.resource)
}

fn refused(origin: &Origin, key: &Key, faults: Vec<tortie_store::fault::Fault>) -> Failure {
    let lines: Vec<String> =
        faults.into_iter().map(|fault| rejection(origin, key, fault).to_string()).collect();
    Failure::bad_input(anyhow!(lines.join("\ntortie: ")))
}

fn rejection(origin: &Origin, key: &Key, fault: tortie_store::fault::Fault) -> Rejection {
    let field = (!fault.field.is_empty()).then_some(fault.field);
    Rejection {
        origin: origin.clone(),
        object: Some(key.object_name()),
        field,
        problem: fault.problem,
        fix: fault.fix,
        effect: Effect::Absent,
    }
}
