//! `delete`.
//!
//! Owns: what goes with what. Does not: write files (control/store does).
//! Invariant: what is not there is said, and does not keep the rest from going.

use anyhow::anyhow;
use clap::Args;
use tortie_store::dir::Edit;
use tortie_store::kind::Kind;
use tortie_store::label_selector;
use tortie_store::resource::Key;

use super::{
    DryRun, Files, Scope, called, directory, input, key_of, kind_named, named_objects, not_found, unusable,
};
use crate::args::Global;
use crate::exit::{Answer, Failure, Outcome};
use crate::output;

/// Flags of `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// KIND NAME…, or KIND/NAME…
    #[arg(value_name = "KIND [NAME]")]
    objects: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    dry_run: DryRun,
    /// Those with these labels.
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// All of that kind in the namespace.
    #[arg(long)]
    all: bool,
    /// What is not there is no failure.
    #[arg(long)]
    ignore_not_found: bool,
}

struct Target {
    key: Key,
    kind: Option<&'static Kind>,
}

/// Runs `delete`.
pub fn run(delete: Delete, global: &Global) -> Outcome {
    let directory = directory(global)?;
    let mut edit = directory.edit().map_err(unusable)?;
    let targets = targets(&delete, &edit)?;
    let mut lines = Vec::new();
    let mut missing = Vec::new();
    for Target { key, kind } in targets {
        if edit.delete(&key) {
            lines.push(format!("{} deleted{}", called(kind, &key), delete.dry_run.suffix()));
            lines.extend(
                with_it(&mut edit, &key).map(|name| format!("{name} deleted{}", delete.dry_run.suffix())),
            );
        } else if !delete.ignore_not_found {
            missing.push(
                kind.map_or_else(|| called(None, &key) + " not found", |kind| not_found(kind, &key.name)),
            );
        }
    }
    if !delete.dry_run.is_on() {
        edit.commit().map_err(unusable)?;
    }
    output::write(&lines.join("\n")).map_err(anyhow::Error::from)?;
    match missing.as_slice() {
        [] => Ok(Answer::Yes),
        missing => Err(Failure::no(anyhow!(missing.join("\ntortie: ")))),
    }
}

/// A namespace goes with everything in it.
fn with_it(edit: &mut Edit<'_>, gone: &Key) -> std::vec::IntoIter<String> {
    if gone.kind != "Namespace" || !gone.group.is_empty() {
        return Vec::new().into_iter();
    }
    let inside = edit.snapshot().objects.values().filter(|it| it.resource.key.namespace == gone.name);
    let inside: Vec<_> = inside.map(|it| (it.resource.key.clone(), it.resource.kind)).collect();
    let gone = inside.into_iter().filter(|(key, _)| edit.delete(key));
    gone.map(|(key, kind)| called(kind, &key)).collect::<Vec<_>>().into_iter()
}

fn targets(delete: &Delete, edit: &Edit<'_>) -> Result<Vec<Target>, Failure> {
    let mut targets = Vec::new();
    if !delete.files.files.is_empty() {
        for given in input::read_names(&delete.files, &delete.scope)? {
            targets.push(Target { key: given.resource.key, kind: given.resource.kind });
        }
    }
    if delete.selector.is_some() || delete.all {
        targets.extend(selected(delete, edit)?);
    } else {
        let named = named_objects(&delete.objects)?;
        if named.is_empty() && targets.is_empty() {
            let message = "nothing is named; use KIND NAME, KIND -l SELECTOR, KIND --all or -f FILE";
            return Err(Failure::bad_input(anyhow!(message)));
        }
        targets.extend(
            named
                .into_iter()
                .map(|(kind, name)| Target { key: key_of(kind, &name, &delete.scope), kind: Some(kind) }),
        );
    }
    Ok(targets)
}

fn selected(delete: &Delete, edit: &Edit<'_>) -> Result<Vec<Target>, Failure> {
    let [kind] = delete.objects.as_slice() else {
        return Err(Failure::bad_input(anyhow!("give one KIND and no names with -l or --all")));
    };
    let kind = kind_named(kind)?;
    let selector = label_selector::parse(delete.selector.as_deref().unwrap_or_default())
        .map_err(|error| Failure::bad_input(anyhow!("--selector: {error}")))?;
    let like = key_of(kind, "", &delete.scope);
    let chosen = edit.snapshot().objects.values().filter(|it| {
        let key = &it.resource.key;
        let labels = it.resource.labels().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        (&key.group, &key.kind, &key.namespace) == (&like.group, &like.kind, &like.namespace)
            && selector.matches(&labels)
    });
    Ok(chosen.map(|it| Target { key: it.resource.key.clone(), kind: Some(kind) }).collect())
}
