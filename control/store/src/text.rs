//! Text to documents to values.
//!
//! Owns: where documents begin and end, limits, and what a YAML error says. Does not: know objects.
//! Invariant: the spans of a text's documents and what is between them are the text, byte for byte.

use crate::json;
use serde_json::Value;
use serde_saphyr::Options;
use std::fmt;
use std::ops::Range;

/// Files larger than this are refused.
pub const MAX_FILE_BYTES: usize = 16 << 20;
/// Documents nested deeper than this are refused.
pub const MAX_DEPTH: usize = 64;
/// Values (fields, items, scalars) in one document.
pub const MAX_VALUES: usize = 250_000;
/// Documents of one file, items of lists included.
pub const MAX_DOCUMENTS: usize = 20_000;

/// Where a document lies in its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Bytes, from after its `---` line (or the start) to before the next one.
    pub bytes: Range<usize>,
    /// Line of its first byte, counted from 1.
    pub line: u64,
}

/// Why a text is no documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Line, counted from 1; 0: the whole text.
    pub line: u64,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub fix: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}; {}", self.line, self.problem, self.fix)
    }
}

/// The text of a file, if it can be one.
pub fn decode(bytes: &[u8]) -> Result<&str, Malformed> {
    if bytes.len() > MAX_FILE_BYTES {
        let problem = format!("{} bytes are more than the {MAX_FILE_BYTES} a file may have", bytes.len());
        return Err(Malformed { line: 0, problem, fix: "split the file" });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + before.iter().filter(|b| **b == b'\n').count() as u64;
        Malformed { line, problem: "is not UTF-8 text".into(), fix: "save the file as UTF-8" }
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Splits a text at lines that start with `---` or `...`, which cannot be part of a document, and between objects in
/// JSON that follow each other.
pub fn split(text: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut start = 0;
    let mut start_line = 1;
    let mut offset = 0;
    for (line, full) in (1..).zip(text.split_inclusive('\n')) {
        let next = offset + full.len();
        if let Some(rest) = marker(full) {
            spans.push(Span { bytes: start..offset, line: start_line });
            // What follows the marker on its line belongs to the document.
            let inline = !rest.trim().is_empty() && !rest.trim_start().starts_with('#');
            (start, start_line) = if inline { (next - rest.len(), line) } else { (next, line + 1) };
        }
        offset = next;
    }
    spans.push(Span { bytes: start..text.len(), line: start_line });
    spans.retain(|span| !is_blank(text.get(span.bytes.clone()).unwrap_or_default()));
    spans.into_iter().flat_map(|span| apart(text, span)).collect()
}

/// The objects in JSON of one span, each with the blanks after it; anything else is one document.
fn apart(text: &str, span: Span) -> Vec<Span> {
    let document = text.get(span.bytes.clone()).unwrap_or_default();
    if !(document.trim_start().starts_with('{') && json::may_follow(document)) {
        return vec![span];
    }
    let (mut spans, mut start, mut line) = (Vec::new(), 0, span.line);
    for end in json::ends(document) {
        let Some((one, rest)) = document.get(start..).and_then(|it| it.split_at_checked(end - start)) else {
            return vec![span];
        };
        let blank = rest.len() - rest.trim_start().len();
        let end = end + blank;
        spans.push(Span { bytes: span.bytes.start + start..span.bytes.start + end, line });
        let lines = |text: &str| text.bytes().filter(|byte| *byte == b'\n').count() as u64;
        line += lines(one) + lines(rest.get(..blank).unwrap_or_default());
        start = end;
    }
    if start == document.len() { spans } else { vec![span] }
}

fn marker(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("---").or_else(|| line.strip_prefix("..."))?;
    (rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n'])).then_some(rest)
}

/// Nothing but comments, directives and blank lines.
fn is_blank(text: &str) -> bool {
    text.lines().all(|line| {
        let line_start = line.trim_start();
        line_start.is_empty() || line_start.starts_with('#') || line.starts_with('%')
    })
}

/// Reads one document.
pub fn parse(text: &str, span: &Span) -> Result<Value, Malformed> {
    let document = text.get(span.bytes.clone()).unwrap_or_default();
    if let Some(value) = json::read(document) {
        return Ok(value);
    }
    parse_yaml(document).map(whole).map_err(|error| {
        let line = error.location().map_or(0, |at| at.line()).max(1) + span.line - 1;
        let text = error.without_snippet().render_with_formatter(&serde_saphyr::UserMessageFormatter);
        let first = text.lines().next().unwrap_or_default();
        // The parser counts lines from the start of the document; ours are the file's.
        let problem = first.rsplit_once(" at line ").map_or(first, |(problem, _)| problem).to_owned();
        Malformed { line, problem, fix: "correct the YAML" }
    })
}

/// A number without a fraction is whole however it is written, as JSON has it: `8e1`, `80.0`.
fn whole(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => {
            let text = number.as_f64().filter(|it| it.fract() == 0.0).map(|it| format!("{it:.0}"));
            text.and_then(|it| it.parse::<i64>().ok()).map_or(Value::Number(number), Value::from)
        }
        Value::Array(items) => items.into_iter().map(whole).collect(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, whole(value))).collect(),
        other => other,
    }
}

pub(crate) fn parse_yaml(document: &str) -> Result<Value, serde_saphyr::Error> {
    serde_saphyr::from_str_with_options(document, options())
}

/// Writes a value as a document that [`parse`] reads as the same value.
pub fn write(value: &Value) -> Result<String, Malformed> {
    serde_saphyr::to_string(value).map_err(|error| {
        let problem = format!("cannot be written as YAML: {error}");
        Malformed { line: 0, problem, fix: "write the value as JSON" }
    })
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_VALUES,
            max_events: 3 * MAX_VALUES,
            max_documents: 1,
        },
        strict_booleans: true,
        strict_indentation: false,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}
