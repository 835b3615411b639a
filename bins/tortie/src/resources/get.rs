//! `get`.
//!
//! Owns: which objects are meant. Does not: lay out tables (`columns` does).
//! Invariant: objects are shown as they are written, in the order namespace, name.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::anyhow;
use clap::Args;
use serde_json::Value;
use tortie_store::kind::{CALICO, KINDS, Kind};
use tortie_store::label_selector;
use tortie_store::objects::{Dry, Look as _, Selection, View};
use tortie_store::resource::Resource;

use super::{Scope, columns, key_of, kinds_named, named_objects, not_found, open, printer};
use crate::args::Global;
use crate::exit::{Answer, Failure, Outcome};
use crate::output::{self, Format};

/// Flags of `get`.
#[derive(Debug, Args)]
pub struct Get {
    /// KIND[,KIND…] [NAME…], KIND/NAME…, all, or calico: every kind of Calico
    #[arg(value_name = "KIND [NAME]", required = true)]
    objects: Vec<String>,
    #[command(flatten)]
    scope: Scope,
    /// In every namespace.
    #[arg(short = 'A', long, visible_short_alias = 'a', conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Those with these labels: app=web,tier!=db,zone in (a,b).
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// A column of labels.
    #[arg(long)]
    show_labels: bool,
}

/// Runs `get`.
pub fn run(mut get: Get, global: &Global) -> Outcome {
    let objects = open::objects(global, Dry::Not)?;
    get.scope.resolve(&objects)?;
    let view = objects.view().map_err(open::failure)?;
    for rejection in view.rejections() {
        output::tell(format_args!("warning: {rejection}"));
    }
    match wanted(&get)? {
        Wanted::Named(named) => {
            let (found, missing) = by_name(&get, &view, &named)?;
            if !found.is_empty() {
                let _ = show(&get, global, &found, named.len() == 1)?;
            }
            match missing.is_empty() {
                true => Ok(Answer::Yes),
                false => Err(Failure::no(anyhow!(missing.join("\ntortie: ")))),
            }
        }
        Wanted::Kinds(kinds) => {
            let chosen = of_kinds(&view, &kinds, &selection(&get)?)?;
            if chosen.is_empty() && matches!(global.output, Format::Table | Format::Wide) {
                output::tell(nothing(&get, &kinds));
                return Ok(Answer::Yes);
            }
            show(&get, global, &chosen, false)
        }
    }
}

fn show(get: &Get, global: &Global, chosen: &[Resource], is_one: bool) -> Outcome {
    match (global.output, chosen) {
        (Format::Table | Format::Wide, chosen) => tables(get, global, chosen),
        (format, [one]) if is_one => print(format, &shown(one)),
        (format, chosen) => {
            let values: Vec<Value> = chosen.iter().map(shown).collect();
            print(format, &printer::list(values.iter()))
        }
    }
}

fn print(format: Format, value: &impl serde::Serialize) -> Outcome {
    output::print(format, value, |_| String::new()).map_err(anyhow::Error::from)?;
    Ok(Answer::Yes)
}

fn nothing(get: &Get, kinds: &[&'static Kind]) -> String {
    match !get.all_namespaces && kinds.iter().any(|kind| kind.namespaced) {
        true => format!("No resources found in {} namespace.", get.scope.namespace()),
        false => "No resources found".into(),
    }
}

/// With the namespace it is in, where the file leaves that out.
fn shown(resource: &Resource) -> Value {
    let mut value = resource.value.clone();
    if !resource.key.namespace.is_empty()
        && let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.insert("namespace".into(), resource.key.namespace.clone().into());
    }
    value
}

enum Wanted {
    Named(Vec<(&'static Kind, String)>),
    Kinds(Vec<&'static Kind>),
}

fn wanted(get: &Get) -> Result<Wanted, Failure> {
    match get.objects.as_slice() {
        [all] if all == "all" => Ok(Wanted::Kinds(KINDS.iter().collect())),
        [calico] if calico == "calico" => {
            Ok(Wanted::Kinds(KINDS.iter().filter(|kind| kind.group == CALICO).collect()))
        }
        [kinds] if !kinds.contains('/') => kinds_named(kinds).map(Wanted::Kinds),
        _ if get.all_namespaces => {
            let message = "a name is of one namespace; use -n NS, or leave out the name";
            Err(Failure::bad_input(anyhow!(message)))
        }
        _ if get.selector.is_some() => {
            let message = "names and -l cannot be combined; leave out one of them";
            Err(Failure::bad_input(anyhow!(message)))
        }
        words => named_objects(words).map(Wanted::Named),
    }
}

fn selection(get: &Get) -> Result<Selection, Failure> {
    let labels_text = get.selector.clone().unwrap_or_default();
    let labels = label_selector::parse(&labels_text)
        .map_err(|error| Failure::bad_input(anyhow!("--selector: {error}")))?;
    let namespace = (!get.all_namespaces).then(|| get.scope.namespace().to_owned());
    Ok(Selection { namespace, labels, labels_text })
}

/// Of several kinds, those that a cluster does not serve are left out.
fn of_kinds(
    view: &View<'_>,
    kinds: &[&'static Kind],
    selection: &Selection,
) -> Result<Vec<Resource>, Failure> {
    let mut found = Vec::new();
    for kind in kinds {
        match view.list(kind, selection) {
            Ok(more) => found.extend(more),
            Err(error) if kinds.len() > 1 && error.is_not_served() => {}
            Err(error) => return Err(open::failure(error)),
        }
    }
    Ok(found)
}

/// What is there, and what is to be said of the rest.
fn by_name(
    get: &Get,
    view: &View<'_>,
    named: &[(&'static Kind, String)],
) -> Result<(Vec<Resource>, Vec<String>), Failure> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for (kind, name) in named {
        match view.find(kind, &key_of(kind, name, &get.scope)).map_err(open::failure)? {
            Some(resource) => found.push(resource),
            None => missing.push(not_found(kind, name)),
        }
    }
    Ok((found, missing))
}

fn tables(get: &Get, global: &Global, chosen: &[Resource]) -> Outcome {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let look = columns::Look {
        wide: global.output == Format::Wide,
        namespaces: get.all_namespaces,
        labels: get.show_labels,
        now: i64::try_from(now).unwrap_or(i64::MAX),
    };
    let mut parts: Vec<Vec<&Resource>> = Vec::new();
    for resource in chosen {
        match parts.last_mut() {
            Some(part) if part.first().is_some_and(|first| first.kind == resource.kind) => {
                part.push(resource)
            }
            _ => parts.push(vec![resource]),
        }
    }
    let several = parts.len() > 1;
    let texts: Vec<String> = parts.iter().map(|part| columns::table(part, &look, several)).collect();
    output::write(&texts.join("\n\n")).map_err(anyhow::Error::from)?;
    Ok(Answer::Yes)
}
