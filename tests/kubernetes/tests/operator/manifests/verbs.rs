//! The verbs of people on a real API server, beside kubectl: what one writes the other reads.

use std::time::{Duration, Instant};

use serde_json::Value;
use tortie_lab::Lab;
use tortie_tests_kubernetes::{kubectl, tortie, until};

const PATIENCE: Duration = Duration::from_secs(30);
const SET: &str = "{apiVersion: projectcalico.org/v3, kind: GlobalNetworkSet, metadata: {name: verbs}, spec: {nets: [NET]}}";
const SETS: &str = "globalnetworksets.crd.projectcalico.org";
const POLICIES: &str = "globalnetworkpolicies.crd.projectcalico.org";
const SETTINGS: &str = "felixconfigurations.crd.projectcalico.org";

pub fn write_what_kubectl_reads(lab: &Lab) {
    let set = |net: &str| SET.replace("NET", net);
    let nets = || kubectl(lab, &["get", SETS, "verbs", "-o", "jsonpath={.spec.nets}"], "").unwrap();
    tortie(lab, &["create", "-f", "-"], &set("192.0.2.0/24")).unwrap();
    assert_eq!(nets(), r#"["192.0.2.0/24"]"#);
    tortie(lab, &["create", "-f", "-"], &set("192.0.2.0/24")).unwrap_err();
    tortie(lab, &["create", "--skip-exists", "-f", "-"], &set("198.51.100.0/24")).unwrap();
    assert_eq!(nets(), r#"["192.0.2.0/24"]"#, "what exists is left as it is");
    tortie(lab, &["apply", "-f", "-"], &set("198.51.100.0/24")).unwrap();
    assert_eq!(nets(), r#"["198.51.100.0/24"]"#);
    tortie(lab, &["replace", "-f", "-"], &set("203.0.113.0/24")).unwrap();
    assert_eq!(nets(), r#"["203.0.113.0/24"]"#);
    tortie(lab, &["apply", "--dry-run=server", "-f", "-"], &set("192.0.2.0/24")).unwrap();
    assert_eq!(nets(), r#"["203.0.113.0/24"]"#, "a dry run writes nothing");
    tortie(
        lab,
        &["patch", "globalnetworkset", "verbs", "-p", r#"{"spec": {"nets": ["2001:db8::/32"]}}"#],
        "",
    )
    .unwrap();
    assert_eq!(nets(), r#"["2001:db8::/32"]"#);
    tortie(lab, &["label", "globalnetworkset", "verbs", "side=outer"], "").unwrap();
    let got = tortie(lab, &["get", "globalnetworkset", "verbs", "-o", "json"], "").unwrap();
    let got: Value = serde_json::from_str(&got).unwrap();
    assert_eq!(got["metadata"]["labels"]["side"], "outer", "{got}");
    tortie(lab, &["delete", "globalnetworkset", "verbs"], "").unwrap();
    kubectl(lab, &["get", SETS, "verbs"], "").unwrap_err();
    tortie(lab, &["get", "globalnetworkset", "verbs"], "").unwrap_err();

    let version = tortie(lab, &["version"], "").unwrap();
    assert!(version.contains(env!("CARGO_PKG_VERSION")) && version.contains("1."), "{version}");
    let report = tortie(lab, &["migrate", "check", "-o", "json"], "").unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let items = report["items"].as_array().unwrap();
    let blocks: Vec<_> = items.iter().filter(|item| item["verdict"] == "blocks").collect();
    assert!(!items.is_empty() && blocks.is_empty(), "nothing blocks in a laboratory: {blocks:?}");
}

/// As docs/install.md says it.
pub fn bring_back_what_was_printed(lab: &Lab) {
    let deny = "{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: back}, spec: {selector: never()}}";
    let named = ["globalnetworkset/verbs", "globalnetworkpolicy/back"];
    for verb in [&["create", "--skip-exists", "-f", "-"][..], &["apply", "-f", "-"]] {
        tortie(lab, &["create", "-f", "-"], &format!("{}\n---\n{deny}", SET.replace("NET", "192.0.2.0/24")))
            .unwrap();
        let before = tortie(lab, &["get", "calico", "-A", "-o", "yaml"], "").unwrap();
        assert!(before.contains("resourceVersion") && !before.contains("kind: Pod\n"), "{before}");
        kubectl(lab, &["delete", SETS, "verbs"], "").unwrap();
        kubectl(lab, &["delete", POLICIES, "default.back"], "").unwrap();
        let said = tortie(lab, verb, &before).unwrap();
        let created = said.lines().filter(|line| line.ends_with(" created")).count();
        assert_eq!(created, named.len(), "{said}");
        named.iter().for_each(|object| drop(tortie(lab, &["delete", object], "").unwrap()));
    }
}

const SERVICE: &str = "{apiVersion: v1, kind: Service, metadata: {name: verbs, labels: {old: x}}, spec: {ports: [{name: a, port: 80}, {name: b, port: 443}]}}";
const SHORTER: &str =
    "{apiVersion: v1, kind: Service, metadata: {name: verbs}, spec: {ports: [{name: a, port: 80}]}}";

/// Whoever wrote it before, in whatever way; but what was never in a file stays.
pub fn apply_what_a_file_says_and_no_more(lab: &Lab) {
    let ports =
        || kubectl(lab, &["get", "service", "verbs", "-o", "jsonpath={.spec.ports[*].port}"], "").unwrap();
    let label = |name: &str| {
        let path = format!("jsonpath={{.metadata.labels.{name}}}");
        kubectl(lab, &["get", "service", "verbs", "-o", &path], "").unwrap()
    };
    let ours = |verb: &str, text: &str| tortie(lab, &[verb, "-f", "-"], text).unwrap();
    let delete = || kubectl(lab, &["delete", "service", "verbs"], "").unwrap();
    ours("create", SERVICE);
    ours("apply", SHORTER);
    assert_eq!((ports(), label("old")), ("80".into(), String::new()), "after create");
    ours("replace", SERVICE);
    tortie(lab, &["label", "service", "verbs", "by=hand"], "").unwrap();
    ours("apply", SHORTER);
    assert_eq!((ports(), label("old")), ("80".into(), String::new()), "after replace");
    assert_eq!(label("by"), "hand", "what tortie label has set");
    delete();
    kubectl(lab, &["apply", "-f", "-"], SERVICE).unwrap();
    ours("apply", SHORTER);
    assert_eq!(label("old"), "x", "what kubectl has applied is kubectl's");
    tortie(lab, &["apply", "--force-conflicts", "-f", "-"], SHORTER).unwrap();
    assert_eq!((ports(), label("old")), ("80".into(), String::new()), "after kubectl apply");
    assert_eq!(ours("apply", SHORTER).trim(), "service/verbs unchanged");
    delete();
    // With addresses of both families in its status, which the server refuses to be given.
    let apply = || {
        let node = tortie(lab, &["get", "node", "node1", "-o", "yaml"], "").unwrap();
        assert_eq!(node.matches("InternalIP").count(), 2, "{node}");
        tortie(lab, &["apply", "--force-conflicts", "-f", "-"], &node).is_ok()
    };
    until(apply, "a Node is applied as it was printed");
    assert_eq!(
        tortie(lab, &["get", "node", "node1", "-o", "yaml"], "").unwrap().matches("InternalIP").count(),
        2
    );
}

/// A strategic patch has words of its own, which only the server understands.
pub fn patch_as_the_server_does(lab: &Lab) {
    tortie(lab, &["create", "-f", "-"], SERVICE).unwrap();
    let patch = |object: &[&str], patch: &str, more: &[&str]| {
        tortie(lab, &[&["patch", "--type", "strategic", "-p", patch][..], object, more].concat(), "")
    };
    let service = ["service", "verbs"];
    let without = r#"{"spec": {"ports": [{"$patch": "delete", "port": 443}]}}"#;
    let dry = patch(&service, without, &["--dry-run", "-o", "json"]).unwrap();
    let dry: Value = serde_json::from_str(&dry).unwrap();
    assert_eq!(dry["spec"]["ports"].as_array().unwrap().len(), 1, "{dry}");
    let ports =
        || kubectl(lab, &["get", "service", "verbs", "-o", "jsonpath={.spec.ports[*].port}"], "").unwrap();
    assert_eq!(ports(), "80 443", "a dry run writes nothing");
    patch(&service, without, &[]).unwrap();
    assert_eq!(ports(), "80");
    let more = r#"{"spec": {"ports": [{"name": "c", "port": 8080}]}}"#;
    patch(&service, more, &[]).unwrap();
    assert_eq!(ports(), "8080 80", "lists are merged by their keys");
    let said = patch(&service, r#"{"spec": {"prots": []}}"#, &[]).unwrap_err();
    assert!(said.contains("unknown field"), "{said}");
    tortie(lab, &["delete", "service", "verbs"], "").unwrap();
    // What is not Kubernetes' own knows merge patches only.
    tortie(lab, &["create", "-f", "-"], &SET.replace("NET", "192.0.2.0/24")).unwrap();
    patch(&["globalnetworkset", "verbs"], r#"{"spec": {"nets": ["2001:db8::/32"]}}"#, &[]).unwrap();
    tortie(lab, &["delete", "globalnetworkset", "verbs"], "").unwrap();
}

/// `deny` to people is `default.deny` to the server, whose kinds are in the storage form here.
pub fn name_policies_as_their_users_do(lab: &Lab) {
    const POLICY: &str = "{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: deny}, spec: {order: 1, types: [Ingress]}}";
    let said = tortie(lab, &["apply", "-f", "-"], POLICY).unwrap();
    assert_eq!(said.trim(), "globalnetworkpolicy.projectcalico.org/deny created");
    let said = tortie(lab, &["apply", "-f", "-"], POLICY).unwrap();
    assert_eq!(said.trim(), "globalnetworkpolicy.projectcalico.org/deny unchanged");
    kubectl(lab, &["get", POLICIES, "default.deny"], "").unwrap();
    until(|| has_event_about(lab, "default.deny", ""), "kubectl shows an Event about it");
    tortie(lab, &["label", "globalnetworkpolicy", "default.deny", "side=outer"], "").unwrap();
    tortie(lab, &["patch", "globalnetworkpolicy", "deny", "-p", r#"{"spec": {"order": 2}}"#], "").unwrap();
    let shown = tortie(lab, &["get", "globalnetworkpolicy", "deny", "-o", "json"], "").unwrap();
    let value: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(value["apiVersion"], "projectcalico.org/v3");
    assert_eq!(
        (&value["metadata"]["name"], &value["metadata"]["labels"]["side"]),
        (&"deny".into(), &"outer".into())
    );
    assert_eq!(value["spec"]["order"], 2.0);
    tortie(lab, &["replace", "-f", "-"], &shown).unwrap();
    let listed = tortie(lab, &["get", "globalnetworkpolicies", "-l", "side=outer"], "").unwrap();
    assert!(listed.lines().any(|line| line.starts_with("deny ")), "{listed}");
    tortie(lab, &["delete", "globalnetworkpolicy", "deny"], "").unwrap();
    kubectl(lab, &["get", POLICIES, "default.deny"], "").unwrap_err();

    // From a client that knows of no tiers.
    const OLD: &str = "{apiVersion: crd.projectcalico.org/v1, kind: GlobalNetworkPolicy, metadata: {name: old}, spec: {order: 1, types: [Ingress]}}";
    kubectl(lab, &["create", "-f", "-"], OLD).unwrap();
    tortie(lab, &["label", "globalnetworkpolicy", "old", "side=outer"], "").unwrap();
    tortie(lab, &["patch", "globalnetworkpolicy", "old", "-p", r#"{"spec": {"order": 2}}"#], "").unwrap();
    let shown = tortie(lab, &["get", "globalnetworkpolicy", "default.old", "-o", "json"], "").unwrap();
    let value: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(value["metadata"]["name"], "old");
    assert_eq!(value["spec"]["order"].as_f64(), Some(2.0));
    kubectl(lab, &["get", POLICIES, "default.old"], "").unwrap_err();
    tortie(lab, &["delete", "globalnetworkpolicy", "old"], "").unwrap();
    kubectl(lab, &["get", POLICIES, "old"], "").unwrap_err();
}

/// By kubectl and by `tortie patch`: true is taken, false is refused with an Event and in `status`, and what runs stays.
pub fn switch_the_data_plane(lab: &Lab) {
    let with_kubectl = |value: bool| {
        let patch = format!(r#"{{"spec": {{"bpfEnabled": {value}}}}}"#);
        kubectl(lab, &["patch", SETTINGS, "default", "--type=merge", "--patch", &patch], "").unwrap();
    };
    with_kubectl(true);
    lab.wait(PATIENCE).unwrap();
    assert!(!is_refused(lab));
    with_kubectl(false);
    until(|| is_refused(lab), "status says that bpfEnabled is refused");
    until(|| has_event_about(lab, "default", "bpfEnabled"), "kubectl shows an Event about it");
    let enabled = r#"{"spec": {"bpfEnabled": true}}"#;
    tortie(lab, &["patch", "felixconfiguration", "default", "-p", enabled], "").unwrap();
    until(|| !is_refused(lab), "it is taken back");
    assert!(lab.agent_is_alive("node1"));
}

fn is_refused(lab: &Lab) -> bool {
    let request = serde_json::json!({"verb": "status"});
    let status = lab.ask_agent("node1", &request, Instant::now() + PATIENCE).unwrap();
    status["rejected"].to_string().contains("bpfEnabled")
}

fn has_event_about(lab: &Lab, name: &str, word: &str) -> bool {
    let printed = kubectl(lab, &["get", "events", "-A", "-o", "json"], "").unwrap();
    let events: Value = serde_json::from_str(&printed).unwrap();
    events["items"].as_array().unwrap().iter().any(|event| {
        event["involvedObject"]["name"] == name
            && event["message"].as_str().is_some_and(|text| text.contains(word))
    })
}
