//! Printing answers.
//!
//! Owns: the formats of `-o` and writing to stdout.
//! Does not: know what is printed.
//! Invariant: a closed pipe (`| head`) ends the output quietly.

use std::io::{self, Write as _};

use clap::ValueEnum;
use serde::Serialize;

/// How an answer is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for a person.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// One JSON document; a list is `{"items": […]}`.
    Json,
    /// The same as YAML.
    Yaml,
}

/// A list as every JSON answer spells it.
#[derive(Debug, Serialize)]
#[allow(dead_code, reason = "verbs that print lists use it")]
pub struct Items<T> {
    pub items: Vec<T>,
}

/// Prints `value` as JSON or YAML, or the text `table(wide)` makes of it.
pub fn print<T: Serialize>(format: Format, value: &T, table: impl FnOnce(bool) -> String) -> io::Result<()> {
    match format {
        Format::Table => write(&table(false)),
        Format::Wide => write(&table(true)),
        Format::Json => write(&serde_json::to_string_pretty(value)?),
        Format::Yaml => write(&serde_saphyr::to_string(value).map_err(io::Error::other)?),
    }
}

/// Writes text to stdout, with one newline at its end.
pub fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    match write!(out, "{text}{newline}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
