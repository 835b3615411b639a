//! Each rule, and each verb of it, taken away by itself: what fails then, and that it comes back.

use std::fs;

use serde_json::{Value, json};
use tortie_lab::Lab;
use tortie_tests_kubernetes::{PATIENCE, kubectl, until};

use super::rights::{NOT_ENFORCED, NOT_SERVED, asked_since, is_reported};

const NODE: &str = "node1";
const ROLES: [&[&str]; 2] = [&["clusterrole"], &["-n", "kube-system", "role"]];
const ADDRESS: &str = "projectcalico.org/IPv4Address";

/// An agent that starts with one right less is refused exactly that, and says so or does not do what it is for.
pub fn is_needed(lab: &Lab) {
    kubectl(lab, &["apply", "--server-side", "-f", "-"], NOT_ENFORCED).unwrap();
    for place in ROLES {
        let mut get = place.to_vec();
        get.insert(place.len() - 1, "get");
        get.extend(["tortie-node", "-o", "json"]);
        let mut role: Value = serde_json::from_str(&kubectl(lab, &get, "").unwrap()).unwrap();
        role["metadata"] = json!({"name": "tortie-node", "namespace": role["metadata"]["namespace"]});
        for (number, rule) in role["rules"].as_array().unwrap().iter().enumerate() {
            if texts(rule, "resources").iter().any(|name| NOT_SERVED.contains(&name.as_str())) {
                continue;
            }
            for verb in texts(rule, "verbs") {
                take_away(lab, &role, number, &verb);
            }
        }
        replace(lab, &role);
    }
    start_anew(lab);
    lab.wait(PATIENCE).unwrap();
    until(|| is_told(lab) && has_event(lab), "with all rights everything is done again");
    kubectl(lab, &["delete", "globalnetworkpolicies.crd.projectcalico.org", "rights"], "").unwrap();
}

fn take_away(lab: &Lab, role: &Value, number: usize, verb: &str) {
    let mut less = role.clone();
    let rule = &mut less["rules"][number];
    let resources = texts(rule, "resources");
    let what = format!("{verb} of {}", resources.join(", "));
    rule["verbs"].as_array_mut().unwrap().retain(|it| it != verb);
    if rule["verbs"] == json!([]) {
        less["rules"].as_array_mut().unwrap().remove(number);
    }
    forget_what_was_told(lab);
    replace(lab, &less);
    let log = fs::metadata(lab.audit_log()).unwrap().len();
    start_anew(lab);
    let refused = || asked_since(lab, log).1;
    until(|| refused().iter().any(|it| it.2 == verb), &format!("without {what} something is refused"));
    match verb {
        "list" | "watch" if resources == ["customresourcedefinitions"] => {}
        "list" | "watch" => {
            let all = || refused().iter().all(|(_, resource, _)| is_reported(lab, resource));
            until(all, &format!("without {what} status names what may not be read"));
        }
        "get" if resources == ["namespaces"] => {}
        "get" | "patch" => assert!(!is_told(lab), "without {what} the Node is told nothing"),
        "create" => assert!(!has_event(lab), "without {what} there are no Events"),
        _ => panic!("{what}: what is it for?"),
    }
    for (_, resource, asked) in refused() {
        assert!(
            asked == verb && resources.contains(&resource),
            "{asked} {resource} was refused without {what}"
        );
    }
}

fn replace(lab: &Lab, role: &Value) {
    kubectl(lab, &["replace", "-f", "-"], &role.to_string()).unwrap();
}

/// An agent that starts asks for everything at once.
fn start_anew(lab: &Lab) {
    lab.kill_agent(NODE).unwrap();
    lab.start_agent(NODE).unwrap();
}

/// So that the agent has a reason to say it again.
fn forget_what_was_told(lab: &Lab) {
    lab.kill_agent(NODE).unwrap();
    kubectl(lab, &["delete", "events", "--all"], "").unwrap();
    kubectl(lab, &["annotate", "node", NODE, &format!("{ADDRESS}-")], "").unwrap();
    let condition = json!({"status": {"conditions": [{"type": "NetworkUnavailable", "status": "True"}]}});
    let patch = ["patch", "node", NODE, "--subresource=status", "--patch", &condition.to_string()];
    kubectl(lab, &patch, "").unwrap();
}

/// Whether the Node has both: its address, and that it has a network.
fn is_told(lab: &Lab) -> bool {
    let node: Value =
        serde_json::from_str(&kubectl(lab, &["get", "node", NODE, "-o", "json"], "").unwrap()).unwrap();
    let mut conditions = node["status"]["conditions"].as_array().unwrap().iter();
    let has_network = conditions.any(|it| it["type"] == "NetworkUnavailable" && it["status"] == "False");
    has_network && node["metadata"]["annotations"][ADDRESS].is_string()
}

fn has_event(lab: &Lab) -> bool {
    kubectl(lab, &["get", "events", "-o", "name"], "").unwrap().contains("event/rights.")
}

fn texts(rule: &Value, field: &str) -> Vec<String> {
    rule[field].as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect()
}
