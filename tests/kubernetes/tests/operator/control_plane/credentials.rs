//! What an agent shows the API server expires, and is renewed where it is: nobody starts the agent again.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tortie_lab::{Component, Lab};
use tortie_tests_e2e::TestLab;
use tortie_tests_kubernetes::{kubectl, while_asking};

use super::world::{PATIENCE, asking, denied, start_api_server, status, until};

const NODE: &str = "node2";
const DAY: Duration = Duration::from_secs(86_400);

/// Until a certificate is renewed in its file.
pub fn certificate(test: &mut TestLab) {
    let lab = &test.lab;
    let expires = SystemTime::now() + Duration::from_secs(8);
    lab.renew_agent_certificate(NODE, expires).expect("a certificate");
    restart_agent(lab);
    let spoil = || {
        let left = expires.duration_since(SystemTime::now()).unwrap_or_default();
        thread::sleep(left + Duration::from_secs(1));
    };
    let renew = || lab.renew_agent_certificate(NODE, SystemTime::now() + DAY).expect("a certificate");
    is_survived(lab, spoil, renew);
}

/// Until another token is in its file. A token that is bound to a Secret is worth nothing when that is deleted.
pub fn token(test: &mut TestLab) {
    let lab = &test.lab;
    let config = lab.agent_kubeconfig(NODE);
    let with_certificate = fs::read_to_string(&config).expect("a kubeconfig");
    let file = config.with_extension("token");
    let mut with_token: Value = serde_json::from_str(&with_certificate).expect("JSON");
    with_token["users"][0]["user"] = json!({"tokenFile": file});
    kubectl(lab, &["-n", "kube-system", "create", "secret", "generic", "first"], "").expect("a Secret");
    write_token(lab, &file, &["--bound-object-kind=Secret", "--bound-object-name=first"]);
    fs::write(&config, with_token.to_string()).expect("writing");
    restart_agent(lab);
    let spoil = || {
        kubectl(lab, &["-n", "kube-system", "delete", "secret", "first"], "").expect("delete");
    };
    is_survived(lab, spoil, || write_token(lab, &file, &[]));
    fs::write(&config, with_certificate).expect("writing");
    restart_agent(lab);
}

fn write_token(lab: &Lab, file: &PathBuf, more: &[&str]) {
    let arguments = [&["-n", "kube-system", "create", "token", "tortie-node"], more].concat();
    let token = kubectl(lab, &arguments, "").expect("a token");
    fs::write(file, token.trim()).expect("writing");
}

fn restart_agent(lab: &Lab) {
    lab.kill_agent(NODE).expect("kill-agent");
    lab.start_agent(NODE).expect("start-agent");
    lab.wait_node(NODE, PATIENCE).expect("wait");
    let store = &status(lab, NODE)["store"];
    assert_eq!(store["connected"], true, "{store}");
}

/// `spoil` makes what the agent has worthless. Everything stays in force, `status` says what is the matter, and after
/// `renew` what changed meanwhile arrives.
fn is_survived(lab: &Lab, spoil: impl FnOnce() + Send, renew: impl FnOnce() + Send) {
    let pid = lab.agent_pid(NODE);
    let still = asking(lab, "still");
    let denied = denied(&still);
    let ((), attempts) = while_asking(lab, &still, || {
        spoil();
        // Watches that are open go on; a server that starts again ends them.
        lab.kill_component(Component::ApiServer).expect("killing");
        start_api_server(lab);
        let refused = || {
            let trouble = status(lab, NODE)["store"]["trouble"].clone();
            trouble.as_str().is_some_and(|text| text.starts_with("401 "))
        };
        until(refused, "status says that the API server does not know the agent");
        label(lab, "app=client");
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) {
            assert!(!lab.probe(&denied).expect("probe").is_connected(), "nobody has told the agent");
        }
        renew();
        until(|| lab.probe(&denied).expect("probe").is_connected(), "the change arrives");
        label(lab, "app-");
        lab.wait(PATIENCE).expect("wait");
        assert!(!lab.probe(&denied).expect("probe").is_connected());
    });
    assert!(attempts.made > 20 && attempts.failed.is_empty(), "{attempts:?}");
    assert_eq!(lab.agent_pid(NODE), pid, "the agent has never been away");
}

/// The API server may be starting.
fn label(lab: &Lab, label: &str) {
    until(|| kubectl(lab, &["label", "pod", "stranger", label], "").is_ok(), "the pod is labelled");
}
