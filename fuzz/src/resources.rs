//! Any bytes as a file of resources: nothing panics, documents are parts of the text, a second reading after the
//! first says the same, and what is read can be written and read again.

use std::path::Path;
use tortie_store::dir::content::{self, Content};
use tortie_store::input::{self, DEFAULT_NAMESPACE};
use tortie_store::resource::Resource;
use tortie_store::settings::local;
use tortie_store::{Effect, text};

/// Checks one input.
pub fn check(bytes: &[u8]) {
    let path = Path::new("f.yaml");
    let first = content::read(path, bytes, &Content::default());
    let second = content::read(path, bytes, &first);
    assert_eq!(first, second, "nothing has changed");
    for rejection in first.rejections.iter().filter(|it| it.effect != Effect::NotEnforced) {
        assert!(!rejection.problem.is_empty() && !rejection.fix.is_empty(), "{rejection}");
    }
    for item in input::read(bytes, DEFAULT_NAMESPACE) {
        item.resource.iter().for_each(survives_being_written);
    }
    if let Ok(text) = text::decode(bytes) {
        documents_are_parts_of(text);
        local::file(path, text);
        local::environment(&[(format!("FELIX_{text}"), text.to_owned())]);
    }
}

fn documents_are_parts_of(text: &str) {
    let mut end = 0;
    for span in text::split(text) {
        assert!(span.bytes.start >= end && text.get(span.bytes.clone()).is_some(), "{span:?}");
        let before = text.get(..span.bytes.start).unwrap_or_default();
        assert_eq!(span.line, 1 + before.matches('\n').count() as u64);
        end = span.bytes.end;
    }
}

fn survives_being_written(resource: &Resource) {
    let Ok(written) = text::write(&resource.value) else { return };
    let again = input::read(written.as_bytes(), DEFAULT_NAMESPACE);
    let [item] = again.as_slice() else { panic!("{written:?} is {again:?}") };
    assert_eq!(item.resource.as_ref(), Ok(resource), "{written:?}");
}
