//! FelixConfiguration objects.
//!
//! Owns: reading one into a layer. Does not: merge layers.
//! Invariant: every field is a known one; a value out of range refuses the object.

use super::parameter::{self, InvalidSetting};
use super::{Layer, names};
use crate::check;
use crate::fault::{Fault, Wrong};
use crate::resource::Resource;
use crate::strict;
use crate::wire::{Noun, Reading, check_metadata};
use serde_json::{Map, Value};

/// Reads a FelixConfiguration.
pub fn read(resource: &Resource) -> Result<Reading, Vec<Fault>> {
    check_metadata(resource, check::subdomain)?;
    check_fields(&resource.value)?;
    let empty = Map::new();
    let spec = match resource.value.get("spec") {
        None | Some(Value::Null) => &empty,
        Some(Value::Object(spec)) => spec,
        Some(_) => {
            let wrong = Wrong::Missing { expected: "fields such as bpfLogLevel: Off" };
            return Err(vec![Fault::new("spec", &wrong)]);
        }
    };
    let (layer, unused) = read_spec(spec)?;
    let notes = notes(&resource.key.name, unused);
    Ok(Reading { noun: Noun::Settings(layer), notes })
}

fn check_fields(value: &Value) -> Result<(), Vec<Fault>> {
    const KNOWN: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
    let names = value.as_object().into_iter().flat_map(Map::keys);
    let unknown = names.filter(|name| !KNOWN.contains(&name.as_str()));
    let faults: Vec<Fault> = unknown.map(|name| unknown_field(name, name, &KNOWN)).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

fn unknown_field(path: &str, name: &str, known: &[&str]) -> Fault {
    let like = strict::closest(name, known).map(str::to_owned);
    Fault::new(path, &Wrong::UnknownField { like })
}

fn read_spec(spec: &Map<String, Value>) -> Result<(Layer, Vec<&'static str>), Vec<Fault>> {
    let mut layer = Layer::default();
    let mut unused = Vec::new();
    let mut faults = Vec::new();
    for (name, value) in spec.iter().filter(|(_, value)| !value.is_null()) {
        let path = format!("spec.{name}");
        let Some(known) = names::FIELDS.iter().find(|known| *known == name) else {
            faults.push(unknown_field(&path, name, names::FIELDS));
            continue;
        };
        // An empty text is Calico's way to say: as if it were not there.
        if value.as_str() == Some("") {
            continue;
        }
        match parameter::read(known, value) {
            Ok(Some(setting)) => layer.settings.push(setting),
            Ok(None) => unused.push(*known),
            Err(InvalidSetting { part, wrong }) if part.is_empty() => faults.push(Fault::new(path, &wrong)),
            Err(InvalidSetting { part, wrong }) => faults.push(Fault::new(format!("{path}.{part}"), &wrong)),
        }
    }
    if faults.is_empty() { Ok((layer, unused)) } else { Err(faults) }
}

fn notes(name: &str, unused: Vec<&'static str>) -> Vec<Fault> {
    if name != "default" && !name.starts_with("node.") {
        return vec![Fault {
            field: "metadata.name".into(),
            problem: "only default and node.<name> are read".into(),
            fix: "rename it".into(),
        }];
    }
    let note = |field| Fault {
        field: format!("spec.{field}"),
        problem: "this version does not act on it".into(),
        fix: "do not rely on it".into(),
    };
    unused.into_iter().map(note).collect()
}
