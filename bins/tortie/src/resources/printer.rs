//! What the verbs print.
//!
//! Owns: one form for lists, single objects and answers. Does not: choose columns.
//! Invariant: what `-o yaml` prints can be given back with `-f -`.

use serde::Serialize;
use serde_json::Value;
use tortie_store::resource::Resource;

use crate::args::Global;
use crate::exit::{Answer, Outcome};
use crate::output::{self, Format};

/// A list as kubectl prints it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct List<'v> {
    api_version: &'static str,
    kind: &'static str,
    items: Vec<&'v Value>,
}

/// A list of objects.
pub fn list<'v>(values: impl Iterator<Item = &'v Value>) -> List<'v> {
    List { api_version: "v1", kind: "List", items: values.collect() }
}

/// Says what happened, or with `-o json` or `yaml` shows the objects as they are now.
pub fn changed(global: &Global, lines: &[String], resources: &[Resource]) -> Outcome {
    let text = |_wide: bool| lines.join("\n");
    let printed = match (global.output, resources) {
        (Format::Table | Format::Wide, _) => output::write(&text(false)),
        (format, [one]) => output::print(format, &one.value, text),
        (format, many) => output::print(format, &list(many.iter().map(|it| &it.value)), text),
    };
    printed.map_err(anyhow::Error::from)?;
    Ok(Answer::Yes)
}
