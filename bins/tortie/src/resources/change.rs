//! `create`, `apply`, `replace`, `validate`.
//!
//! Owns: what each allows and says. Does not: write files (control/store does).
//! Invariant: everything is validated before anything is written.

use clap::Args;
use ipnet::IpNet;
use tortie_store::kind;
use tortie_store::objects::{Done, Look, ObjectsError, Selection, Session, What};
use tortie_store::resource::{Key, Resource};

use super::input::{self, Given};
use super::{DryRun, Files, Scope, called, dangling, open, printer};
use crate::args::Global;
use crate::exit::{Failure, Outcome};
use crate::output;

/// Flags of `create`.
#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    change: Change,
    /// What exists already is left as it is, and is no failure.
    #[arg(long)]
    skip_exists: bool,
}

/// Flags of `apply`.
#[derive(Debug, Args)]
pub struct Apply {
    #[command(flatten)]
    change: Change,
    /// Fields that others have written become ours.
    #[arg(long, visible_alias = "force")]
    force_conflicts: bool,
}

/// Flags of `replace`.
#[derive(Debug, Args)]
pub struct Replace {
    #[command(flatten)]
    change: Change,
}

/// What the three have in common.
#[derive(Debug, Args)]
struct Change {
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
enum Mode {
    /// Nothing.
    Create { skip_exists: bool },
    /// Something or nothing.
    Apply { force: bool },
    /// Something.
    Replace,
}

/// Runs `create`.
pub fn create(create: Create, global: &Global) -> Outcome {
    run(create.change, Mode::Create { skip_exists: create.skip_exists }, global)
}

/// Runs `apply`.
pub fn apply(apply: Apply, global: &Global) -> Outcome {
    run(apply.change, Mode::Apply { force: apply.force_conflicts }, global)
}

/// Runs `replace`.
pub fn replace(replace: Replace, global: &Global) -> Outcome {
    run(replace.change, Mode::Replace, global)
}

fn run(mut change: Change, mode: Mode, global: &Global) -> Outcome {
    let dry = change.dry_run.dry();
    let objects = open::objects(global, dry)?;
    change.scope.resolve(&objects)?;
    let given = input::read(&change.files, &change.scope)?;
    let mut session = objects.begin(dry).map_err(open::failure)?;
    let mut outcome = Told::default();
    for Given { resource, path, line } in given {
        let at = format!("{}:{line}", path.display());
        let (name, kind) = (called(resource.kind, &resource.key), resource.kind);
        let done = match mode {
            Mode::Create { .. } => session.create(resource),
            Mode::Apply { force } => session.apply(resource, force),
            Mode::Replace => session.replace(resource),
        };
        match done {
            Ok(Done { what, resource }) => {
                outcome.lines.push(format!("{name} {}{}", said(mode, what), change.dry_run.suffix()));
                outcome.resources.push(Resource { kind, ..resource });
                outcome.places.push(at);
            }
            Err(error) if mode == (Mode::Create { skip_exists: true }) && error.is_existing() => {
                outcome.lines.push(format!("{name} skipped: it exists{}", change.dry_run.suffix()));
            }
            Err(error) => outcome.failures.push(refusal(&at, &name, error)),
        }
    }
    outcome.warn(&session);
    outcome.finish(session, global)
}

const fn said(mode: Mode, what: What) -> &'static str {
    match (mode, what) {
        (Mode::Replace, _) => "replaced",
        (_, What::Created) => "created",
        (_, What::Changed) => "configured",
        (_, What::Unchanged) => "unchanged",
    }
}

/// With what to do about it.
fn refusal(at: &str, name: &str, error: ObjectsError) -> Failure {
    let fix = match &error {
        error if error.is_existing() => "; use apply or replace",
        ObjectsError::Missing { .. } => "; use apply or create",
        ObjectsError::Cluster(cluster)
            if cluster.is_conflict() && cluster.to_string().contains("pply failed") =>
        {
            "; use --force-conflicts to take the fields over"
        }
        ObjectsError::Cluster(cluster) if cluster.is_conflict() => "; get it again, and change that",
        _ => "",
    };
    // A cluster's own words do not always name the object.
    let words = error.to_string();
    let subject = if matches!(error, ObjectsError::Cluster(_)) { format!("{name}: ") } else { String::new() };
    open::failure(error).with_words(format!("{at}: {subject}{words}{fix}"))
}

/// What became of everything that was given.
#[derive(Default)]
struct Told {
    lines: Vec<String>,
    resources: Vec<Resource>,
    places: Vec<String>,
    failures: Vec<Failure>,
}

impl Told {
    /// Of what is valid and does not fit to what is there.
    fn warn(&self, session: &Session<'_>) {
        for (place, resource) in self.places.iter().zip(&self.resources) {
            for warning in dangling::warnings(resource, session) {
                output::tell(format_args!("warning: {place}: {warning}"));
            }
        }
    }

    /// A directory changes as a whole or not at all; of a cluster it is said what was done and what was not.
    fn finish(self, session: Session<'_>, global: &Global) -> Outcome {
        let atomic = session.is_atomic();
        let (done, failed) = (self.lines.len(), self.failures.len());
        let Some(all) = Failure::of_all(self.failures) else {
            session.commit().map_err(open::failure)?;
            return printer::changed(global, &self.lines, &self.resources);
        };
        if atomic {
            return Err(all.and_then_words("nothing has been changed"));
        }
        let _ = printer::changed(global, &self.lines, &self.resources)?;
        Err(all.and_then_words(&format!("{done} of {} objects are done, {failed} are not", done + failed)))
    }
}

/// Checks files and says of each object that it is valid.
pub fn validate(validate: &Validate, global: &Global) -> Outcome {
    let given = input::read(&validate.files, &validate.scope)?;
    let lines: Vec<String> =
        given.iter().map(|it| format!("{} valid", called(it.resource.kind, &it.resource.key))).collect();
    let values: Vec<Resource> = given.into_iter().map(|it| it.resource).collect();
    printer::changed(global, &lines, &values)
}

impl<L: Look> dangling::World for L {
    /// What cannot be asked is not warned of.
    fn has(&self, key: &Key) -> bool {
        let Some(kind) = kind::of(&key.group, &key.kind) else { return true };
        self.find(kind, key).map_or(true, |found| found.is_some())
    }

    fn pools(&self) -> Vec<IpNet> {
        let Some(kind) = kind::named("ippools") else { return Vec::new() };
        let pools = self.list(kind, &Selection::default()).unwrap_or_default();
        pools.iter().filter_map(|pool| dangling::range(&pool.value)).collect()
    }
}
