//! Objects in a text.
//!
//! Owns: going from a file's bytes to resources, with where each stands. Does not: judge their fields.
//! Invariant: everything in the text is an item: an object, or what is wrong at that place.

use crate::fault::Fault;
use crate::rejection::{Effect, Origin, Rejection};
use crate::resource::{self, Resource};
use crate::text::{self, MAX_DOCUMENTS, Malformed, Span};
use std::path::Path;

/// Namespace of objects that name none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// One thing in a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Line, counted from 1; 0: the text as a whole.
    pub line: u64,
    /// Which document, counted from 0, as [`text::split`] gives them.
    pub document: usize,
    /// Which item of a list, counted from 0.
    pub member: Option<usize>,
    /// The object, or what is wrong.
    pub resource: Result<Resource, Fault>,
}

/// Reads everything in a text; objects without a namespace are in `namespace`.
pub fn read(bytes: &[u8], namespace: &str) -> Vec<Item> {
    let text = match text::decode(bytes) {
        Ok(text) => text,
        Err(malformed) => return vec![broken(malformed, 0)],
    };
    let spans = text::split(text);
    if spans.len() > MAX_DOCUMENTS {
        let problem = format!("{} documents are more than the {MAX_DOCUMENTS} a file may have", spans.len());
        return vec![broken(Malformed { line: 0, problem, fix: "split the file" }, 0)];
    }
    let documents = spans.iter().enumerate();
    documents.flat_map(|(document, span)| read_document(text, document, span, namespace)).collect()
}

fn read_document(text: &str, document: usize, span: &Span, namespace: &str) -> Vec<Item> {
    let item = |member, resource| Item { line: span.line, document, member, resource };
    let value = match text::parse(text, span) {
        Ok(value) => value,
        Err(malformed) => return vec![broken(malformed, document)],
    };
    let is_list = resource::is_list(&value);
    match resource::members(value) {
        Ok(members) => members
            .into_iter()
            .enumerate()
            .map(|(index, it)| {
                item(is_list.then_some(index), Resource::new(it, namespace).map_err(Fault::from))
            })
            .collect(),
        Err(invalid) => vec![item(None, Err(invalid.into()))],
    }
}

fn broken(malformed: Malformed, document: usize) -> Item {
    let Malformed { line, problem, fix } = malformed;
    let fault = Fault { field: String::new(), problem, fix: fix.into() };
    Item { line, document, member: None, resource: Err(fault) }
}

/// A fault of a text at `path`, as a report.
pub fn rejection(
    path: &Path,
    line: u64,
    resource: Option<&Resource>,
    fault: Fault,
    effect: Effect,
) -> Rejection {
    let Fault { field, problem, fix } = fault;
    Rejection {
        origin: Origin::File { path: path.to_owned(), line },
        object: resource.map(|resource| resource.key.object_name()),
        field: (!field.is_empty()).then_some(field),
        problem,
        fix,
        effect,
    }
}
