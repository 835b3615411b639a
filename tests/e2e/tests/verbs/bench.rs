//! `tortie bench` has figures to give. Which, a machine that runs tests does not decide.

use std::process::Command;

use serde_json::Value;

#[test]
fn connections_to_one_of_many_services_are_measured_in_both_families() {
    let mut command = Command::new(tortie_tests_e2e::binary());
    let output =
        command.args(["bench", "packet", "--only", "connect", "-o", "json"]).output().expect("bench");
    // 1: a figure misses its target.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", tortie_tests_e2e::said(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let items = answer["items"].as_array().cloned().unwrap_or_default();
    for family in ["ipv4", "ipv6"] {
        let is_it = |item: &&Value| item["name"] == "connect-hit-20000" && item["family"] == family;
        let found = items.iter().find(is_it);
        assert!(found.is_some_and(|item| item["value"].as_f64() > Some(0.0)), "{family}: {answer}");
    }
}
