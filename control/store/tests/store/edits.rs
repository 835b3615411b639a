//! Whatever is done to the directory, what was said adds up to what a fresh start says.

use crate::suite::{Listener, changed, id};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tortie_model::Object;
use tortie_store::{Event, dir};

const FILES: usize = 4;

/// Something done to one of the files. Each file has objects of its own, so that no two have the same.
#[derive(Clone, Debug)]
enum Edit {
    /// These objects, with these values.
    Write(usize, Vec<(u8, u8)>),
    /// Written beside it and renamed into place.
    Replace(usize, Vec<(u8, u8)>),
    /// These objects, the first of them refused.
    Invalid(usize, Vec<(u8, u8)>),
    /// No YAML from here on.
    Break(usize, Vec<(u8, u8)>),
    /// Gone.
    Delete(usize),
    /// Into a subdirectory, or back.
    Move(usize),
    /// A reader that is not asked may have seen only some of it.
    Rescan,
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let file = 0..FILES;
    let objects =
        prop::collection::btree_map(0..4u8, 0..3u8, 0..4).prop_map(|map| map.into_iter().collect::<Vec<_>>());
    let with = (file.clone(), objects);
    let edit = prop_oneof![
        4 => with.clone().prop_map(|(f, o)| Edit::Write(f, o)),
        2 => with.clone().prop_map(|(f, o)| Edit::Replace(f, o)),
        2 => with.clone().prop_map(|(f, o)| Edit::Invalid(f, o)),
        2 => with.prop_map(|(f, o)| Edit::Break(f, o)),
        1 => file.clone().prop_map(Edit::Delete),
        1 => file.prop_map(Edit::Move),
        2 => Just(Edit::Rescan),
    ];
    prop::collection::vec(edit, 1..25)
}

fn text(file: usize, objects: &[(u8, u8)]) -> String {
    let document = |(object, value): &(u8, u8)| {
        format!(
            "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: f{file}-o{object}\n  labels: {{v: v{value}}}\n"
        )
    };
    objects.iter().map(document).collect()
}

fn perform(root: &Path, edit: &Edit) {
    let (flat, deep) =
        (|f: &usize| root.join(format!("{f}.yaml")), |f: &usize| root.join(format!("d/{f}.yaml")));
    let place = |f: &usize| if deep(f).exists() { deep(f) } else { flat(f) };
    match edit {
        Edit::Write(f, objects) => fs::write(place(f), text(*f, objects)).unwrap(),
        Edit::Replace(f, objects) => {
            fs::write(root.join(".new"), text(*f, objects)).unwrap();
            fs::rename(root.join(".new"), place(f)).unwrap();
        }
        Edit::Invalid(f, objects) => {
            fs::write(place(f), text(*f, objects).replacen("labels", "lables", 1)).unwrap();
        }
        Edit::Break(f, objects) => fs::write(place(f), text(*f, objects) + "---\nkind: [").unwrap(),
        Edit::Delete(f) => _ = fs::remove_file(place(f)),
        Edit::Move(f) => {
            fs::create_dir_all(root.join("d")).unwrap();
            let (from, to) = if deep(f).exists() { (deep(f), flat(f)) } else { (flat(f), deep(f)) };
            // There may be no file.
            let _ = fs::rename(from, to);
        }
        Edit::Rescan => {}
    }
}

fn fold(state: &mut BTreeMap<String, Object>, events: &[Event]) {
    for object in changed(events) {
        match id(object) {
            (id, true) => _ = state.insert(format!("{id:?}"), object.clone()),
            (id, false) => assert!(state.remove(&format!("{id:?}")).is_some(), "{id:?} was never said"),
        }
    }
}

fn open(root: &Path) -> Listener {
    Listener::new(dir::open(root, dir::Options::default()).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn what_was_said_is_what_a_fresh_start_says(edits in edits()) {
        let root = tempfile::tempdir().unwrap();
        let mut listener = open(root.path());
        let mut state = BTreeMap::new();
        for edit in &edits {
            perform(root.path(), edit);
            if matches!(edit, Edit::Rescan) {
                fold(&mut state, &listener.catch_up());
            }
        }
        // What is broken keeps a past that a fresh start does not have.
        for file in 0..FILES {
            perform(root.path(), &Edit::Write(file, vec![(file as u8, 1)]));
        }
        let events = listener.catch_up();
        fold(&mut state, &events);
        let mut fresh = BTreeMap::new();
        fold(&mut fresh, &open(root.path()).catch_up());
        prop_assert_eq!(&state, &fresh);
        let mut reports = 0i64;
        for event in listener.batches.iter().flat_map(|batch| &batch.events) {
            match event {
                Event::Rejected(_) => reports += 1,
                Event::Resolved(_) => reports -= 1,
                Event::Changed(_) | Event::InSync => {}
            }
        }
        prop_assert_eq!(reports, 0, "every report has been taken back");
    }

    #[test]
    fn no_text_disturbs_the_reader(text in "\\PC*|([ -]|kind|apiVersion|metadata|name|: |\n|---|v1|Pod|[{}\\[\\]&*!|>'\"%@`#,])*") {
        let content = dir::content::read(Path::new("f.yaml"), text.as_bytes(), &dir::content::Content::default());
        let again = dir::content::read(Path::new("f.yaml"), text.as_bytes(), &content);
        prop_assert_eq!(content, again);
    }
}
