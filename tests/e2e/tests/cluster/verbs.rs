//! Verbs of `tortie`, run on a node.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use tortie_lab::Lab;
use tortie_tests_e2e::TestLab;
pub use tortie_tests_e2e::{on_node, said};

/// A laboratory of so many nodes, with these objects in it.
pub fn cluster(nodes: usize, world: &str) -> TestLab {
    let mut test = crate::cluster(nodes);
    test.apply(world);
    test
}

/// Exit code of `tortie status` and what it printed.
pub fn status(lab: &Lab, node: &str) -> (Option<i32>, Value) {
    let output = on_node(lab, node, &["status", "-o", "json"]);
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&output)));
    (output.status.code(), answer)
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
