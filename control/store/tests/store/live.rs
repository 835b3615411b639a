//! The directory as people and programs change it.

use crate::suite::{Listener, changed, id, rejected, resolved};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tortie_model::{Object, ObjectId};
use tortie_store::{Effect, Event, dir};

struct World {
    directory: TempDir,
    listener: Listener,
}

impl World {
    /// A directory with these files, opened, and everything said.
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let options = dir::Options { node: "node1".into(), ..dir::Options::default() };
        let store = dir::open(directory.path(), options).unwrap();
        let mut listener = Listener::new(store);
        listener.catch_up();
        Self { directory, listener }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn said(&mut self) -> Vec<(String, bool)> {
        names(&self.listener.catch_up())
    }
}

fn names(events: &[Event]) -> Vec<(String, bool)> {
    let name = |object: &&Object| match id(object) {
        (ObjectId::Namespace(name), there) => (name.to_string(), there),
        (other, there) => (format!("{other:?}"), there),
    };
    changed(events).iter().map(name).collect()
}

fn namespace(name: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n")
}

fn labelled(name: &str, label: &str) -> String {
    format!("{}  labels: {{l: {label}}}\n", namespace(name))
}

fn is(name: &str) -> (String, bool) {
    (name.to_owned(), true)
}

fn gone(name: &str) -> (String, bool) {
    (name.to_owned(), false)
}

#[test]
fn a_closed_file_is_in_force_within_milliseconds() {
    let mut world = World::new(&[]);
    let mut times = Vec::new();
    for round in 0..40 {
        let start = Instant::now();
        world.write("a.yaml", &labelled("a", &format!("v{round}")));
        world.listener.next_unasked();
        times.push(start.elapsed());
    }
    times.sort();
    let median = times[times.len() / 2];
    assert!(median < Duration::from_millis(20), "median {median:?}, all {times:?}");
}

#[test]
fn a_file_that_is_still_being_written_does_not_count_yet() {
    let mut world = World::new(&[("a.yaml", &namespace("a"))]);
    let mut file = File::create(world.path("a.yaml")).unwrap();
    assert_eq!(world.said(), [], "it is empty now");
    file.write_all(namespace("b").as_bytes()).unwrap();
    assert_eq!(world.said(), []);
    file.write_all(b"  labels: {l: v}\n---\n").unwrap();
    drop(file);
    assert_eq!(world.said(), [gone("a"), is("b")].map(|x| x).to_vec());
}

#[test]
fn a_writer_that_never_closes_is_believed_after_a_while() {
    let mut world = World::new(&[]);
    let mut file = File::create(world.path("a.yaml")).unwrap();
    file.write_all(namespace("a").as_bytes()).unwrap();
    let start = Instant::now();
    assert_eq!(names(&world.listener.next_unasked()), [is("a")]);
    assert!(start.elapsed() > Duration::from_millis(800), "{:?}", start.elapsed());
    drop(file);
}

#[test]
fn renaming_a_file_changes_nothing() {
    let mut world = World::new(&[("a.yaml", &namespace("a"))]);
    fs::rename(world.path("a.yaml"), world.path("b.yaml")).unwrap();
    assert_eq!(world.listener.catch_up(), []);
    fs::rename(world.path("b.yaml"), world.path("b.txt")).unwrap();
    assert_eq!(world.said(), [gone("a")]);
    fs::rename(world.path("b.txt"), world.path("c.yml")).unwrap();
    assert_eq!(world.said(), [is("a")]);
}

#[test]
fn directories_come_and_go_with_what_is_in_them() {
    let mut world = World::new(&[("deep/er/a.yaml", &namespace("a"))]);
    let elsewhere = tempfile::tempdir_in(world.directory.path().parent().unwrap()).unwrap();
    fs::create_dir(elsewhere.path().join("in")).unwrap();
    fs::write(
        elsewhere.path().join("in/b.json"),
        r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"b"}}"#,
    )
    .unwrap();
    fs::rename(elsewhere.path().join("in"), world.path("in")).unwrap();
    assert_eq!(names(&world.listener.next_unasked()), [is("b")]);
    world.write("in/c.yaml", &namespace("c"));
    assert_eq!(names(&world.listener.next_unasked()), [is("c")]);
    fs::rename(world.path("in"), world.path("renamed")).unwrap();
    assert_eq!(world.said(), []);
    world.write("renamed/c.yaml", &labelled("c", "new"));
    assert_eq!(names(&world.listener.next_unasked()), [is("c")], "still watched under its new name");
    fs::rename(world.path("renamed"), elsewhere.path().join("out")).unwrap();
    assert_eq!(world.said(), [gone("b"), gone("c")]);
    fs::remove_dir_all(world.path("deep")).unwrap();
    assert_eq!(world.said(), [gone("a")]);
}

#[test]
fn copies_of_editors_and_hidden_files_do_not_count() {
    let mut world = World::new(&[]);
    for name in
        [".a.yaml", ".a.yaml.swp", "a.yaml~", "#a.yaml#", ".#a.yaml", "4913", "a.yaml.tmp", "a", ".d/a.yaml"]
    {
        let path = world.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, namespace("a")).unwrap();
    }
    assert_eq!(world.listener.catch_up(), []);
}

#[test]
fn an_editor_that_replaces_the_file_changes_it_once() {
    let mut world = World::new(&[("a.yaml", &namespace("a"))]);
    world.write(".a.yaml.new", &labelled("a", "new"));
    fs::rename(world.path("a.yaml"), world.path("a.yaml~")).unwrap();
    fs::rename(world.path(".a.yaml.new"), world.path("a.yaml")).unwrap();
    assert_eq!(world.said().last(), Some(&is("a")));
}

#[test]
fn a_mounted_config_map_is_followed() {
    let mut world = World::new(&[("..1/a.yaml", &namespace("a"))]);
    symlink("..1", world.path("..data")).unwrap();
    symlink("..data/a.yaml", world.path("a.yaml")).unwrap();
    assert_eq!(world.said(), [is("a")]);
    fs::create_dir(world.path("..2")).unwrap();
    world.write("..2/a.yaml", &labelled("a", "new"));
    symlink("..2", world.path("..data_tmp")).unwrap();
    fs::rename(world.path("..data_tmp"), world.path("..data")).unwrap();
    assert_eq!(names(&world.listener.next_unasked()), [is("a")]);
}

#[test]
fn of_two_files_with_one_object_the_first_stays_and_both_are_named() {
    let mut world = World::new(&[("a.yaml", &labelled("x", "first"))]);
    world.write("b.yaml", &format!("# a comment\n---\n{}", labelled("x", "second")));
    let events = world.listener.catch_up();
    assert_eq!(changed(&events), [] as [&Object; 0]);
    let [rejection] = rejected(&events)[..] else { panic!("{events:?}") };
    let (a, b) = (world.path("a.yaml"), world.path("b.yaml"));
    let (a, b) = (a.display(), b.display());
    assert_eq!(
        rejection.to_string(),
        format!("{b}:3: Namespace x: is also in {a}:1, which had it first; keep it in one file")
    );
    let said = rejection.clone();
    fs::remove_file(world.path("a.yaml")).unwrap();
    let events = world.listener.catch_up();
    let [Object::Namespace(change)] = changed(&events)[..] else { panic!("{events:?}") };
    assert_eq!(change.value.as_ref().unwrap().labels.get("l").unwrap(), "second");
    assert_eq!(resolved(&events), [&said]);
}

#[test]
fn an_object_twice_in_one_file_is_the_first() {
    let text = format!("{}---\n{}", labelled("x", "first"), labelled("x", "second"));
    let mut world = World::new(&[]);
    world.write("a.yaml", &text);
    let events = world.listener.catch_up();
    let [Object::Namespace(change)] = changed(&events)[..] else { panic!("{events:?}") };
    assert_eq!(change.value.as_ref().unwrap().labels.get("l").unwrap(), "first");
    let path = world.path("a.yaml");
    let expected =
        format!("{}:7: Namespace x: is already in this file, at line 1; keep one of them", path.display());
    assert_eq!(rejected(&events)[0].to_string(), expected);
}

#[test]
fn the_first_of_two_in_one_file_counts_even_if_it_is_refused() {
    let text = format!("{}---\n{}", labelled("x", "{}"), labelled("x", "second"));
    let mut world = World::new(&[]);
    world.write("a.yaml", &text);
    let events = world.listener.catch_up();
    assert_eq!((names(&events), rejected(&events).len()), (vec![], 2));
}

#[test]
fn a_broken_document_disturbs_no_other() {
    let two = format!("{}---\n{}", labelled("a", "one"), labelled("b", "one"));
    let mut world = World::new(&[("two.yaml", &two)]);
    let broken = format!("{}---\nkind: [\n", labelled("a", "two"));
    world.write("two.yaml", &broken);
    let events = world.listener.catch_up();
    assert_eq!(names(&events), [is("a")], "b stays as it was");
    assert_eq!(rejected(&events)[0].effect, Effect::KeepsLast);
    world.write("two.yaml", &labelled("a", "two"));
    let events = world.listener.catch_up();
    assert_eq!((names(&events), resolved(&events).len()), (vec![gone("b")], 1));
}

#[test]
fn a_broken_file_that_is_deleted_takes_its_objects_with_it() {
    let mut world = World::new(&[("a.yaml", &namespace("a"))]);
    world.write("a.yaml", "apiVersion: v1\nkind: {");
    let events = world.listener.catch_up();
    assert_eq!((names(&events), rejected(&events).len()), (vec![], 1));
    fs::remove_file(world.path("a.yaml")).unwrap();
    assert_eq!(world.said(), [gone("a")]);
}

#[test]
fn what_a_broken_file_held_stays_in_force_over_a_restart() {
    let (root, memory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let last_good = Some(memory.path().join("store"));
    let start = || {
        let options = dir::Options { last_good: last_good.clone(), ..dir::Options::default() };
        let mut listener = Listener::new(dir::open(root.path(), options).unwrap());
        let events = listener.catch_up();
        (listener, events)
    };
    let file = root.path().join("a.yaml");
    fs::write(&file, format!("{}---\n{}", labelled("a", "one"), labelled("b", "one"))).unwrap();
    drop(start());
    fs::write(&file, format!("{}---\nkind: [", labelled("a", "two"))).unwrap();
    let (mut listener, events) = start();
    assert_eq!(names(&events)[1..], [is("a"), is("b")]);
    assert_eq!(rejected(&events)[0].effect, Effect::KeepsLast);
    let Object::Namespace(a) = changed(&events)[1] else { panic!("{events:?}") };
    assert_eq!(
        a.value.as_ref().unwrap().labels.get("l").unwrap(),
        "two",
        "what can be read is what is there now"
    );
    fs::remove_file(&file).unwrap();
    assert_eq!(names(&listener.catch_up()), [gone("a"), gone("b")]);
    drop(listener);
    fs::write(&file, "kind: [").unwrap();
    assert_eq!(names(&start().1).len(), 1, "only the settings: what was deleted is forgotten");
}

#[test]
fn a_directory_that_vanishes_leaves_everything_in_force() {
    let mut world = World::new(&[("a.yaml", &namespace("a"))]);
    let aside = world.directory.path().with_extension("aside");
    fs::rename(world.directory.path(), &aside).unwrap();
    let events = world.listener.catch_up();
    assert_eq!(changed(&events), [] as [&Object; 0]);
    assert_eq!(rejected(&events)[0].effect, Effect::KeepsLast);
    fs::write(aside.join("b.yaml"), namespace("b")).unwrap();
    fs::rename(&aside, world.directory.path()).unwrap();
    let events = world.listener.catch_up();
    assert_eq!((names(&events), resolved(&events).len()), (vec![is("b")], 1));
}

#[test]
fn directories_that_are_nested_too_deep_are_reported() {
    let mut world = World::new(&[]);
    let deep = world.path(&vec!["d"; 33].join("/"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("a.yaml"), namespace("a")).unwrap();
    let events = world.listener.catch_up();
    let expected = format!(
        "{}: cannot be read or watched: directories are nested too deep; move it up; what is in it does not count",
        deep.display()
    );
    assert_eq!((names(&events), rejected(&events)[0].to_string()), (vec![], expected));
}

#[test]
fn lists_are_taken_apart() {
    let mut world = World::new(&[]);
    let item = |name| format!("- {{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}\n");
    world.write("a.yaml", &format!("apiVersion: v1\nkind: List\nitems:\n{}{}", item("a"), item("b")));
    assert_eq!(world.said(), [is("a"), is("b")]);
}

#[test]
fn a_thousand_files_are_one_batch_at_the_start() {
    let files: Vec<_> =
        (0..1000).map(|n| (format!("{}/{n}.yaml", n % 7), namespace(&format!("n{n}")))).collect();
    let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let world = World::new(&files);
    assert_eq!(world.listener.batches.len(), 1);
    assert_eq!(changed(&world.listener.batches[0].events).len(), 1001);
}

#[test]
fn an_absent_directory_says_what_to_do() {
    let error = dir::open("/nowhere/at/all".as_ref(), dir::Options::default()).err().unwrap();
    assert_eq!(
        error.to_string(),
        "store directory /nowhere/at/all: No such file or directory (os error 2); create it, or give another \
         with --store dir:PATH"
    );
}
