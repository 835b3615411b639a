//! The shipped rights are what an agent needs: each is used, nothing else is asked for, and their loss is survived.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Seek as _, SeekFrom};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tortie_lab::{Lab, Probe};
use tortie_tests_e2e::{TestLab, endpoint};
use tortie_tests_kubernetes::{PATIENCE, kubectl, until};

/// What the role names and this API server has not: later and earlier forms of kinds, of clusters that differ.
pub const NOT_SERVED: [&str; 3] =
    ["adminnetworkpolicies", "baselineadminnetworkpolicies", "clusternetworkpolicies"];

/// Not enforced by this version, so that an Event is owed.
pub const NOT_ENFORCED: &str = "
apiVersion: crd.projectcalico.org/v1
kind: GlobalNetworkPolicy
metadata: {name: rights}
spec: {selector: has(rights), types: [Ingress], ingress: [{action: Deny}]}
";

const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: client}}
spec: {nodeName: node1, containers: [{name: c, image: any}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger}
spec: {nodeName: node1, containers: [{name: c, image: any}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server}
spec: {podSelector: {matchLabels: {app: server}}, ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]}
";

/// Group, resource with its part, verb.
pub type Right = (String, String, String);

pub fn are_exactly_what_is_needed(lab: &Lab) {
    let granted = granted(lab);
    let served = kubectl(lab, &["api-resources", "--no-headers", "-o", "name"], "").unwrap();
    let is_served = |(group, resource, _): &Right| {
        let name = resource.split('/').next().unwrap();
        let full = if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") };
        served.lines().any(|line| line == full)
    };
    let absent: BTreeSet<&str> = granted
        .iter()
        .filter(|right| !is_served(right) && !right.0.ends_with("projectcalico.org"))
        .map(|(_, resource, _)| resource.as_str())
        .collect();
    assert_eq!(absent, BTreeSet::from(NOT_SERVED));

    kubectl(lab, &["apply", "--server-side", "-f", "-"], NOT_ENFORCED).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (used, refused) = asked(lab);
        assert_eq!(refused, BTreeSet::new(), "the agent asked for more than it may");
        let unused: Vec<_> = granted.iter().filter(|it| is_served(it) && !used.contains(*it)).collect();
        if unused.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "granted, and never used: {unused:?}");
        thread::sleep(Duration::from_millis(200));
    }
    kubectl(lab, &["delete", "globalnetworkpolicies.crd.projectcalico.org", "rights"], "").unwrap();
}

/// All rights are taken away from an agent at work: what is in force stays, `status` says why nothing new comes, and
/// when they are back everything goes on.
pub fn may_be_lost_and_come_back(test: &mut TestLab) {
    test.apply(WORLD);
    let may = |test: &TestLab, from: &str| {
        let probe = Probe {
            timeout: Duration::from_secs(2),
            ..Probe::new(endpoint(from), endpoint("pod:default/server"))
        };
        test.lab.probe(&probe).unwrap().is_connected()
    };
    let as_it_should_be =
        |test: &TestLab| (may(test, "pod:default/client"), may(test, "pod:default/stranger"));
    assert_eq!(as_it_should_be(test), (true, false));

    let kept = kubectl(&test.lab, &["get", "clusterrolebinding", "tortie-node", "-o", "json"], "").unwrap();
    kubectl(&test.lab, &["delete", "clusterrolebinding", "tortie-node"], "").unwrap();
    // An agent that starts anew asks for everything at once.
    test.lab.kill_agent("node1").unwrap();
    test.lab.start_agent("node1").unwrap();
    until(|| asked(&test.lab).1.iter().any(|(_, resource, _)| resource == "pods"), "a request is refused");
    until(|| is_reported(&test.lab, "networkpolicies"), "status says so");
    assert_eq!(as_it_should_be(test), (true, false), "what was in force stays");

    let mut binding: Value = serde_json::from_str(&kept).unwrap();
    for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
        binding["metadata"].as_object_mut().unwrap().remove(field);
    }
    kubectl(&test.lab, &["create", "-f", "-"], &binding.to_string()).unwrap();
    kubectl(&test.lab, &["label", "pod", "stranger", "app=client"], "").unwrap();
    test.lab.wait(PATIENCE).unwrap();
    assert_eq!(as_it_should_be(test), (true, true), "and what is new arrives");
}

/// Whether the agent says of a kind that it may not read it.
pub fn is_reported(lab: &Lab, resource: &str) -> bool {
    let request = serde_json::json!({"verb": "status"});
    let status = lab.ask_agent("node1", &request, Instant::now() + PATIENCE).unwrap();
    let rejected = status["rejected"].as_array().into_iter().flatten();
    rejected.map(Value::to_string).any(|row| row.contains(resource) && row.contains("forbidden"))
}

fn granted(lab: &Lab) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for role in
        [&["get", "clusterrole", "tortie-node"][..], &["-n", "kube-system", "get", "role", "tortie-node"]]
    {
        let printed = kubectl(lab, &[role, &["-o", "json"]].concat(), "").unwrap();
        let role: Value = serde_json::from_str(&printed).unwrap();
        let texts = |rule: &Value, field: &str| -> Vec<String> {
            rule[field].as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect()
        };
        for rule in role["rules"].as_array().unwrap() {
            for group in texts(rule, "apiGroups") {
                for resource in texts(rule, "resources") {
                    for verb in texts(rule, "verbs") {
                        rights.insert((group.clone(), resource.clone(), verb));
                    }
                }
            }
        }
    }
    assert!(rights.len() > 20, "{rights:?}");
    rights
}

/// What agents have asked for so far: what was allowed, and what was not.
fn asked(lab: &Lab) -> (BTreeSet<Right>, BTreeSet<Right>) {
    asked_since(lab, 0)
}

/// The same, after so many bytes of the audit log.
pub fn asked_since(lab: &Lab, bytes: u64) -> (BTreeSet<Right>, BTreeSet<Right>) {
    let (mut used, mut refused) = (BTreeSet::new(), BTreeSet::new());
    let mut log = fs::File::open(lab.audit_log()).unwrap();
    log.seek(SeekFrom::Start(bytes)).unwrap();
    for line in io::read_to_string(log).unwrap().lines() {
        // The last line may be half written.
        let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
        let text =
            |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut resource = text("/objectRef/resource");
        if resource.is_empty() {
            continue;
        }
        let part = text("/objectRef/subresource");
        if !part.is_empty() {
            resource = format!("{resource}/{part}");
        }
        let forbidden = text("/annotations/authorization.k8s.io~1decision") == "forbid";
        let right = (text("/objectRef/apiGroup"), resource, text("/verb"));
        if forbidden {
            refused.insert(right)
        } else {
            used.insert(right)
        };
    }
    (used, refused)
}
