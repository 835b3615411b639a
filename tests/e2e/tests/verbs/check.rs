//! `check`: the exit code says whether the node is fit, also to somebody who may not find out.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

use serde_json::Value;
use tortie_tests_e2e::{binary, copy_of_binary, fresh_name};

fn check(mut command: Command) -> (Value, Option<i32>, String) {
    let output: Output = command.args(["check", "-o", "json"]).output().expect("running tortie");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    (json, output.status.code(), said)
}

fn found<'v>(answer: &'v Value, name: &str) -> &'v Value {
    let items = answer["items"].as_array().expect("items");
    items.iter().find(|item| item["name"] == name).unwrap_or_else(|| panic!("{name} in {answer}"))
}

#[test]
fn a_machine_that_runs_these_tests_is_fit() {
    let (answer, code, _) = check(Command::new(binary()));
    assert_eq!((code, &answer["fit"]), (Some(0), &true.into()), "{answer}");
    assert_eq!(found(&answer, "packet programs")["found"], "yes");
    for item in answer["items"].as_array().expect("items") {
        for field in ["name", "neededBy", "without", "fix"] {
            assert!(item[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {item}");
        }
    }
}

#[test]
fn a_place_for_pins_that_is_none_makes_a_node_unfit() {
    let mut command = Command::new(binary());
    let elsewhere = std::env::temp_dir().join(fresh_name().to_string());
    command.arg("--bpffs").arg(&elsewhere);
    let (answer, code, _) = check(command);
    assert_eq!((code, &answer["fit"]), (Some(1), &false.into()), "{answer}");
    assert_eq!(found(&answer, "BPF file system")["found"], "no");
    assert!(!elsewhere.exists(), "check has changed something");
}

#[test]
fn somebody_without_permission_is_told_so_and_nothing_is_called_missing() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
    let mut command = Command::new(copy_of_binary(dir.path()));
    command.uid(65_534).gid(65_534);
    let (answer, code, said) = check(command);
    assert_eq!((code, answer.get("fit")), (Some(4), None), "{answer}");
    assert!(said.contains("root"), "{said}");
    assert_eq!(found(&answer, "redirect_peer")["found"], "unknown");
}
