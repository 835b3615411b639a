//! `lab apply` and `lab delete`.
//!
//! Owns: telling what became of each object, as kubectl does.
//! Does not: interpret objects.
//! Invariant: what did not go well is on stderr, and in the exit code.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use ipnet::IpNet;
use tortie_lab::{Applied, Change, Key, Lab, Object};

use tortie_store::input::DEFAULT_NAMESPACE;
use tortie_store::resource::{self, Resource};

use super::{Delete, input};
use crate::exit::{Answer, Failure, Outcome};
use crate::output;
use crate::resources::dangling;

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
    let given: Vec<Key> = objects.iter().map(Object::key).collect();
    let applied = lab.apply(objects)?;
    warn(lab, &given)?;
    report(&applied, told)
}

/// What is valid and does not fit to what is there.
fn warn(lab: &Lab, given: &[Key]) -> Result<(), Failure> {
    if !given.iter().any(|key| key.kind == "EndpointSlice") {
        return Ok(());
    }
    let there = lab.objects()?;
    let world = There(&there);
    let slices =
        there.iter().filter(|object| object.kind() == "EndpointSlice" && given.contains(&object.key()));
    for slice in slices {
        let resource = Resource::new(slice.value().clone(), DEFAULT_NAMESPACE).map_err(Failure::bad_input)?;
        for warning in dangling::warnings(&resource, &world) {
            output::tell(format_args!("warning: {warning}"));
        }
    }
    Ok(())
}

/// What the laboratory's store holds. Pods get their addresses from its own pools.
struct There<'a>(&'a [Object]);

impl dangling::World for There<'_> {
    fn has(&self, key: &resource::Key) -> bool {
        let of = |object: &&Object| Resource::new(object.value().clone(), DEFAULT_NAMESPACE).map(|it| it.key);
        self.0
            .iter()
            .filter(|object| object.kind() == key.kind)
            .any(|object| of(&object).is_ok_and(|it| it == *key))
    }

    fn pools(&self) -> Vec<IpNet> {
        Vec::new()
    }
}

/// Deletes what the files name.
pub fn delete(mut lab: Lab, arguments: &Delete) -> Outcome {
    let keys: Vec<Key> = input::names(&arguments.files.files)?.iter().map(Object::key).collect();
    let grace = arguments.grace_period.map(Duration::from_secs);
    match lab.delete(&keys, grace) {
        Ok(applied) => report(&applied, true),
        Err(tortie_lab::Error::No(missing)) if arguments.ignore_not_found => {
            output::tell(format_args!("tortie: {missing:#}"));
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
        output::tell(format_args!("tortie: {complaint}"));
    }
    Ok(if applied.complaints.is_empty() { Answer::Yes } else { Answer::No })
}
