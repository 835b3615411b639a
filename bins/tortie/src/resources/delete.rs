//! `delete`.
//!
//! Owns: what goes with what. Does not: write files (control/store does).
//! Invariant: what is not there is said, and does not keep the rest from going.

use anyhow::anyhow;
use clap::Args;
use tortie_store::kind::Kind;
use tortie_store::kube::Delete as How;
use tortie_store::label_selector;
use tortie_store::objects::{Look as _, Selection, Session};
use tortie_store::resource::Key;

use super::{DryRun, Files, Scope, called, input, key_of, kinds_named, named_objects, open};
use crate::args::Global;
use crate::exit::{Answer, Failure, Outcome};
use crate::output;

/// Flags of `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// KIND[,KIND…] NAME…, or KIND/NAME…
    #[arg(value_name = "KIND [NAME]")]
    objects: Vec<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    dry_run: DryRun,
    /// Those with these labels; an empty selector is refused, for it would mean all.
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// All of these kinds in the namespace.
    #[arg(long)]
    all: bool,
    /// What is not there is no failure.
    #[arg(long, visible_alias = "skip-not-exists")]
    ignore_not_found: bool,
    /// How long a pod may take to end; the cluster's choice when absent.
    #[arg(long, value_name = "SECONDS")]
    grace_period: Option<u32>,
}

struct Target {
    key: Key,
    kind: Option<&'static Kind>,
}

/// Runs `delete`.
pub fn run(mut delete: Delete, global: &Global) -> Outcome {
    let dry = delete.dry_run.dry();
    let objects = open::objects(global, dry)?;
    delete.scope.resolve(&objects)?;
    let mut session = objects.begin(dry).map_err(open::failure)?;
    let how = How { grace_seconds: delete.grace_period, propagation: None };
    let suffix = delete.dry_run.suffix();
    let (mut lines, mut failures) = (Vec::new(), Vec::new());
    for Target { key, kind } in targets(&delete, &session)? {
        match session.delete(kind, &key, &how) {
            Ok(with_it) => {
                lines.push(format!("{} deleted{suffix}", called(kind, &key)));
                lines.extend(
                    with_it.iter().map(|(key, kind)| format!("{} deleted{suffix}", called(*kind, key))),
                );
            }
            Err(error) if delete.ignore_not_found && error.is_missing() => {}
            Err(error) => failures.push(open::failure(error)),
        }
    }
    session.commit().map_err(open::failure)?;
    output::write(&lines.join("\n")).map_err(anyhow::Error::from)?;
    match Failure::of_all(failures) {
        None => Ok(Answer::Yes),
        Some(failure) => Err(failure),
    }
}

fn targets(delete: &Delete, session: &Session<'_>) -> Result<Vec<Target>, Failure> {
    let mut targets = Vec::new();
    if !delete.files.files.is_empty() {
        for given in input::read_names(&delete.files, &delete.scope)? {
            targets.push(Target { key: given.resource.key, kind: given.resource.kind });
        }
    }
    if delete.selector.as_deref().is_some_and(|it| it.trim().is_empty()) && !delete.all {
        let message = "--selector: is empty, which would mean all; write KEY=VALUE, or use --all";
        return Err(Failure::bad_input(anyhow!(message)));
    }
    if delete.selector.is_some() || delete.all {
        targets.extend(selected(delete, session)?);
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

fn selected(delete: &Delete, session: &Session<'_>) -> Result<Vec<Target>, Failure> {
    let [kinds] = delete.objects.as_slice() else {
        return Err(Failure::bad_input(anyhow!("give KIND[,KIND…] and no names with -l or --all")));
    };
    let labels_text = delete.selector.clone().unwrap_or_default();
    let labels = label_selector::parse(&labels_text)
        .map_err(|error| Failure::bad_input(anyhow!("--selector: {error}")))?;
    let selection = Selection { namespace: Some(delete.scope.namespace().to_owned()), labels, labels_text };
    let mut targets = Vec::new();
    for kind in kinds_named(kinds)? {
        let chosen = session.list(kind, &selection).map_err(open::failure)?;
        targets.extend(chosen.into_iter().map(|it| Target { key: it.key, kind: Some(kind) }));
    }
    Ok(targets)
}
