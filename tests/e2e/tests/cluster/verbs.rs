//! Verbs of `tortie`, run on a node.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use tortie_lab::Lab;
use tortie_tests_e2e::{TestLab, binary, tortie_lab};

/// A laboratory of so many nodes, with these objects in it.
pub fn cluster(nodes: usize, world: &str) -> TestLab {
    let mut test = crate::cluster(nodes);
    test.apply(world);
    test
}

/// Runs `tortie ARGUMENTS` on a node.
pub fn on_node(lab: &Lab, node: &str, arguments: &[&str]) -> Output {
    let binary = binary();
    let mut all = vec!["exec", "--node", node, "--", binary.to_str().expect("a path")];
    all.extend(arguments);
    tortie_lab(&lab.name, &all)
}

/// The items of `tortie ARGUMENTS -o json` on a node.
pub fn items(lab: &Lab, node: &str, arguments: &[&str]) -> Vec<Value> {
    let output = on_node(lab, node, &[arguments, &["-o", "json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    answer["items"].as_array().expect("items").clone()
}

/// Exit code of `tortie status` and what it printed.
pub fn status(lab: &Lab, node: &str) -> (Option<i32>, Value) {
    let output = on_node(lab, node, &["status", "-o", "json"]);
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&output)));
    (output.status.code(), answer)
}

/// What a command wrote, for messages.
pub fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    format!("{}: {} {}", output.status, text(&output.stdout), text(&output.stderr))
}

/// No path in a program leads to a panic that a person sees.
pub fn assert_no_panic(output: &Output) {
    let words = said(output);
    assert!(!words.contains("panicked") && output.status.code().is_some_and(|code| code != 101), "{words}");
}

/// A file beside the test, gone with `directory`.
pub fn written(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).expect("writing");
    path
}
