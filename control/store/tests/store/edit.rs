//! Writing the directory.

use std::fs;
use std::path::Path;
use tempfile::TempDir;
use tortie_store::dir::{Directory, DirectoryError, Outcome};
use tortie_store::input;
use tortie_store::resource::{Key, Resource};

const THREE: &str = "# The shop.\n---\n# front\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}   # inline\n---\n\
    apiVersion: v1\nkind: Namespace\nmetadata:\n  name: b\n---\n# last\napiVersion: v1\nkind: Namespace\n\
    metadata:\n  name: c\n";

fn resource(yaml: &str) -> Resource {
    input::read(yaml.as_bytes(), "default").remove(0).resource.unwrap()
}

fn namespace(name: &str, label: &str) -> Resource {
    resource(&format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{l: {label}}}}}}}"
    ))
}

fn key(name: &str) -> Key {
    Key { group: String::new(), kind: "Namespace".into(), namespace: String::new(), name: name.into() }
}

fn world(files: &[(&str, &str)]) -> (TempDir, Directory) {
    let temporary = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(temporary.path().join(name), text).unwrap();
    }
    let directory = Directory::new(temporary.path()).unwrap();
    (temporary, directory)
}

fn names(root: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != ".lock")
        .collect();
    names.sort();
    names
}

#[test]
fn a_new_object_gets_a_file_of_its_own_by_layout() {
    let (root, directory) = world(&[]);
    let mut edit = directory.edit().unwrap();
    assert_eq!(edit.put(namespace("a", "x")), Outcome::Created);
    let policy = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny}, spec: {podSelector: {}}}";
    assert_eq!(edit.put(resource(policy)), Outcome::Created);
    edit.commit().unwrap();
    let text = fs::read_to_string(root.path().join("_cluster/namespace/a.yaml")).unwrap();
    assert_eq!(text, "apiVersion: v1\nkind: Namespace\nmetadata:\n  labels:\n    l: x\n  name: a\n");
    assert!(root.path().join("default/networkpolicy.networking.k8s.io/deny.yaml").exists());
    let snapshot = directory.snapshot().unwrap();
    assert_eq!((snapshot.objects.len(), snapshot.rejections.len()), (2, 0));
}

#[test]
fn a_changed_document_leaves_its_neighbours_byte_for_byte() {
    let (root, directory) = world(&[("three.yaml", THREE)]);
    let mut edit = directory.edit().unwrap();
    assert_eq!(edit.put(namespace("b", "new")), Outcome::Changed);
    edit.commit().unwrap();
    let text = fs::read_to_string(root.path().join("three.yaml")).unwrap();
    let b = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: b\n";
    let new = "apiVersion: v1\nkind: Namespace\nmetadata:\n  labels:\n    l: new\n  name: b\n";
    assert_eq!(text, THREE.replace(b, new));
}

#[test]
fn leading_comments_of_a_changed_document_stay() {
    let (root, directory) = world(&[("three.yaml", THREE)]);
    let mut edit = directory.edit().unwrap();
    edit.put(namespace("c", "new"));
    edit.commit().unwrap();
    let text = fs::read_to_string(root.path().join("three.yaml")).unwrap();
    assert!(
        text.ends_with(
            "---\n# last\napiVersion: v1\nkind: Namespace\nmetadata:\n  labels:\n    l: new\n  name: c\n"
        ),
        "{text}"
    );
}

#[test]
fn each_document_can_be_taken_out() {
    for gone in [vec!["a"], vec!["b"], vec!["c"], vec!["a", "b"], vec!["b", "c"], vec!["a", "c"]] {
        let (_root, directory) = world(&[("three.yaml", THREE)]);
        let mut edit = directory.edit().unwrap();
        gone.iter().for_each(|name| assert!(edit.delete(&key(name))));
        edit.commit().unwrap();
        let snapshot = directory.snapshot().unwrap();
        let left: Vec<_> = snapshot.objects.keys().map(|key| key.name.as_str()).collect();
        let expected: Vec<_> = ["a", "b", "c"].into_iter().filter(|name| !gone.contains(name)).collect();
        assert_eq!((left, snapshot.rejections.len()), (expected, 0), "without {gone:?}");
    }
}

#[test]
fn a_file_without_objects_goes() {
    let (root, directory) = world(&[("three.yaml", THREE)]);
    let mut edit = directory.edit().unwrap();
    for name in ["a", "b", "c"] {
        assert!(edit.delete(&key(name)));
    }
    assert!(!edit.delete(&key("d")));
    edit.commit().unwrap();
    assert_eq!(names(root.path()), [] as [&str; 0]);
}

#[test]
fn an_item_of_a_list_is_changed_in_the_list() {
    let list = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "b"}}]}"#;
    let (root, directory) = world(&[("list.json", list)]);
    let mut edit = directory.edit().unwrap();
    edit.delete(&key("a"));
    edit.put(namespace("b", "new"));
    edit.commit().unwrap();
    let text = fs::read_to_string(root.path().join("list.json")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["items"].as_array().unwrap().len(), 1);
    assert_eq!(value["items"][0]["metadata"]["labels"]["l"], "new");
}

#[test]
fn what_is_already_so_is_not_written() {
    let (root, directory) =
        world(&[("a.yaml", "{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {l: x}}}")]);
    let before = fs::metadata(root.path().join("a.yaml")).unwrap().modified().unwrap();
    let mut edit = directory.edit().unwrap();
    assert_eq!(edit.put(namespace("a", "x")), Outcome::Unchanged);
    edit.commit().unwrap();
    assert_eq!(fs::metadata(root.path().join("a.yaml")).unwrap().modified().unwrap(), before);
}

#[test]
fn somebody_elses_change_meanwhile_is_not_overwritten() {
    let (root, directory) = world(&[("three.yaml", THREE)]);
    let mut edit = directory.edit().unwrap();
    edit.put(namespace("b", "mine"));
    edit.put(namespace("z", "mine"));
    let theirs = THREE.replace("name: b", "name: bb");
    fs::write(root.path().join("three.yaml"), &theirs).unwrap();
    let error = edit.commit().unwrap_err();
    assert!(matches!(error, DirectoryError::Conflict { .. }), "{error}");
    assert_eq!(fs::read_to_string(root.path().join("three.yaml")).unwrap(), theirs);
    assert_eq!(names(root.path()), ["three.yaml"], "nothing else was written either");
}

#[test]
fn one_refusal_leaves_everything_as_it_was() {
    let (root, directory) = world(&[("three.yaml", THREE)]);
    // Where the new object's directory should be there is a file.
    fs::write(root.path().join("_cluster"), "").unwrap();
    let mut edit = directory.edit().unwrap();
    edit.put(namespace("b", "new"));
    edit.put(namespace("z", "new"));
    let error = edit.commit().unwrap_err();
    assert!(error.to_string().ends_with("nothing has been changed"), "{error}");
    assert_eq!(fs::read_to_string(root.path().join("three.yaml")).unwrap(), THREE);
    assert_eq!(names(root.path()), ["_cluster", "three.yaml"]);
}

#[test]
fn values_that_look_like_something_else_survive_being_written() {
    let (_root, directory) = world(&[]);
    let tricky = [
        "yes",
        "no",
        "on",
        "1e3",
        "0x1F",
        "010",
        "null",
        "~",
        "true",
        "1.0",
        "-",
        "a: b",
        "# c",
        "- d",
        "'",
        "\"",
        "{",
        "[",
        "*a",
        "&a",
        "!t",
        "%",
        "@",
        "`",
        "",
        " x ",
        "é",
        "line\nbreak",
        "tab\t",
        "2001-01-01",
        ".inf",
        "=",
        "<<",
    ];
    let annotations: serde_json::Map<_, _> =
        tricky.iter().enumerate().map(|(n, text)| (format!("k{n}"), (*text).into())).collect();
    let value = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "annotations": annotations}});
    let mut edit = directory.edit().unwrap();
    edit.put(Resource::new(value.clone(), "default").unwrap());
    edit.commit().unwrap();
    assert_eq!(directory.snapshot().unwrap().objects[&key("a")].resource.value, value);
}

#[test]
fn two_editors_wait_for_each_other() {
    let (root, directory) = world(&[]);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let root = root.path();
            scope.spawn(move || {
                let directory = Directory::new(root).unwrap();
                for n in 0..10 {
                    let mut edit = directory.edit().unwrap();
                    let seen = edit.snapshot().objects.len();
                    edit.put(namespace(&format!("n{thread}-{n}"), &format!("s{seen}")));
                    edit.commit().unwrap();
                }
            });
        }
    });
    let snapshot = directory.snapshot().unwrap();
    let mut seen: Vec<_> = snapshot
        .objects
        .values()
        .flat_map(|it| it.resource.labels().map(|(_, v)| v.to_owned()).collect::<Vec<_>>())
        .collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 40, "each saw a state of its own");
}
