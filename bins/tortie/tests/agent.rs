//! What `tortie agent` refuses before it touches anything: exit code 2, with the flag and the way out.

use std::process::{Command, Output};

use serde_json::Value;

fn agent(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let store = format!("dir:{}", directory.path().display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_tortie"));
    command.args(["agent", "--store", &store]).env_remove("TORTIE_NODE").env_remove("TORTIE_CONFIG");
    command.arg("--run-dir").arg(directory.path().join("run"));
    command.args(arguments).envs(variables.iter().copied());
    let output = command.output().unwrap();
    assert!(!directory.path().join("run").exists(), "nothing was begun");
    output
}

fn assert_refused(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
}

#[test]
fn a_name_that_no_node_has_is_refused() {
    for name in ["", "Bad_Name!", "-a", &"a".repeat(254)] {
        assert_refused(&agent(&[&format!("--node={name}")], &[]), &["--node", "TORTIE_NODE"]);
        assert_refused(&agent(&[], &[("TORTIE_NODE", name)]), &["--node", "TORTIE_NODE"]);
    }
}

#[test]
fn a_time_out_of_range_is_refused() {
    for flag in ["--resync-seconds", "--sweep-seconds"] {
        for seconds in ["0", "86401", "18446744073709551615", "-1", ""] {
            assert_refused(&agent(&["--node", "n", &format!("{flag}={seconds}")], &[]), &[flag]);
        }
    }
}

#[test]
fn a_file_of_settings_that_was_asked_for_must_be_there() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("felix.cfg").display().to_string();
    for path in [&missing, &directory.path().display().to_string()] {
        assert_refused(&agent(&["--node", "n", "--config", path], &[]), &["--config", path]);
        assert_refused(&agent(&["--node", "n"], &[("TORTIE_CONFIG", path)]), &["--config", path]);
    }
    assert_refused(&agent(&["--node", "n", "--config", ""], &[]), &["--config"]);
}

#[test]
fn what_ends_the_agent_is_json_where_its_log_is() {
    let output = agent(&["--node", "n", "--config", "/no/such.cfg", "--log-format", "json", "-v"], &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let last = lines.last().expect("it says why");
    assert_eq!((&last["level"], output.status.code()), (&"ERROR".into(), Some(2)));
    assert!(last["message"].as_str().is_some_and(|it| it.contains("/no/such.cfg")), "{last}");
    assert!(last["timestamp"].as_str().is_some_and(|it| it.ends_with('Z')), "{last}");
}
