//! `lab apply` and `lab delete`.
//!
//! Owns: telling what became of each object, as kubectl does.
//! Does not: interpret objects.
//! Invariant: what did not go well is on stderr, and in the exit code.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use tortie_lab::{Applied, Change, Key, Lab, Object};

use super::{Delete, input};
use crate::exit::{Answer, Failure, Outcome};
use crate::output;

/// Applies files.
pub fn apply(mut lab: Lab, files: &[PathBuf]) -> Outcome {
    let objects = input::objects(files)?;
    if objects.is_empty() {
        return Err(Failure::BadInput(anyhow!("no objects in {files:?}")));
    }
    apply_all(&mut lab, objects, true)
}

/// Applies objects; `told` prints a line for each.
pub fn apply_all(lab: &mut Lab, objects: Vec<Object>, told: bool) -> Outcome {
    let applied = lab.apply(objects)?;
    report(&applied, told)
}

/// Deletes what the files name.
pub fn delete(mut lab: Lab, arguments: &Delete) -> Outcome {
    let keys: Vec<Key> = input::names(&arguments.files.files)?.iter().map(Object::key).collect();
    let grace = arguments.grace_period.map(Duration::from_secs);
    match lab.delete(&keys, grace) {
        Ok(applied) => report(&applied, true),
        Err(tortie_lab::Error::No(missing)) if arguments.ignore_not_found => {
            eprintln!("tortie: {missing:#}");
            Ok(Answer::Yes)
        }
        Err(error) => Err(error.into()),
    }
}

fn report(applied: &Applied, told: bool) -> Outcome {
    if told {
        let mut lines = String::new();
        for (key, change) in &applied.objects {
            let what = match change {
                Change::Created => "created",
                Change::Configured => "configured",
                Change::Unchanged => "unchanged",
                Change::Deleted => "deleted",
            };
            lines.push_str(&format!("{key} {what}\n"));
        }
        output::write(&lines)?;
    }
    for complaint in &applied.complaints {
        eprintln!("tortie: {complaint}");
    }
    Ok(if applied.complaints.is_empty() { Answer::Yes } else { Answer::No })
}
