//! Settings of the node itself: a file in the form of `felix.cfg`, and variables.
//!
//! Owns: reading both. Does not: read the process's environment; the caller does.
//! Invariant: a value that is wrong is left out and reported; the rest counts.

use super::parameter::{self, InvalidSetting};
use super::{Layer, names};
use crate::fault::{Fault, Wrong};
use crate::rejection::{Effect, Origin, Rejection};
use serde_json::Value;
use std::path::Path;

const PREFIX: &str = "FELIX_";

/// Reads variables; those that do not start with `FELIX_` are ignored.
pub fn environment(variables: &[(String, String)]) -> (Layer, Vec<Rejection>) {
    let mut layer = Layer::default();
    let mut rejections = Vec::new();
    for (name, value) in variables {
        let Some(parameter) = name.get(..PREFIX.len()).filter(|start| start.eq_ignore_ascii_case(PREFIX))
        else {
            continue;
        };
        let parameter = name.get(parameter.len()..).unwrap_or_default();
        one(parameter, value, &Origin::Variable(name.clone()), &mut layer, &mut rejections);
    }
    (layer, rejections)
}

/// Reads the text of a file: `Name = value` lines under `[global]` or no heading.
pub fn file(path: &Path, text: &str) -> (Layer, Vec<Rejection>) {
    let mut layer = Layer::default();
    let mut rejections = Vec::new();
    let mut counts = true;
    for (line, number) in text.lines().map(str::trim).zip(1..) {
        let origin = Origin::File { path: path.to_owned(), line: number };
        if let Some(section) = line.strip_prefix('[') {
            counts = section.trim_end_matches(']').trim().eq_ignore_ascii_case("global");
        } else if counts && !line.is_empty() && !line.starts_with(['#', ';']) {
            match line.split_once('=') {
                Some((name, value)) => one(name.trim(), value.trim(), &origin, &mut layer, &mut rejections),
                None => {
                    let wrong = Wrong::NotA {
                        value: line.into(),
                        what: "setting",
                        example: "InterfacePrefix = cali",
                    };
                    rejections.push(rejection(&origin, Fault::new("", &wrong), Effect::Absent));
                }
            }
        }
    }
    (layer, rejections)
}

fn one(name: &str, value: &str, origin: &Origin, layer: &mut Layer, rejections: &mut Vec<Rejection>) {
    let Some(field) = names::field(name) else {
        if !names::is_local(name) {
            let like = names::closest(name).map(str::to_owned);
            let fault = Fault::new(name, &Wrong::UnknownField { like });
            rejections.push(rejection(origin, fault, Effect::NotEnforced));
        }
        return;
    };
    if value.is_empty() || value.eq_ignore_ascii_case("none") && field != "logSeverityScreen" {
        return;
    }
    match parameter::read(field, &Value::String(value.to_owned())) {
        Ok(Some(setting)) => layer.settings.push(setting),
        Ok(None) => {
            let problem = "this version does not act on it".into();
            let fault = Fault { field: field.into(), problem, fix: "do not rely on it".into() };
            rejections.push(rejection(origin, fault, Effect::NotEnforced));
        }
        Err(InvalidSetting { part, wrong }) => {
            let field = if part.is_empty() { field.to_owned() } else { format!("{field}.{part}") };
            rejections.push(rejection(origin, Fault::new(field, &wrong), Effect::Absent));
        }
    }
}

fn rejection(origin: &Origin, fault: Fault, effect: Effect) -> Rejection {
    let Fault { field, problem, fix } = fault;
    let field = (!field.is_empty()).then_some(field);
    Rejection { origin: origin.clone(), object: None, field, problem, fix, effect }
}
