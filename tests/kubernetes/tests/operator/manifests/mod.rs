//! deploy/ against a real API server: everything is taken, mistakes are refused with words.

mod bad_input;
mod documents;
mod each_right;
mod mistakes;
mod rights;
mod verbs;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tortie_lab::Lab;
use tortie_tests_kubernetes::{cluster, kubectl};

/// One test, so that one control plane serves all of them.
#[test]
fn an_api_server_takes_what_is_shipped_and_refuses_mistakes() {
    let mut test = cluster(1);
    let lab = &test.lab;
    the_usual_installation_is_taken(lab);
    overlays_are_taken(lab);
    the_chart_renders_the_same_objects(lab);
    mistakes::are_refused_with_words(lab);
    documents::do_what_they_say(lab);
    verbs::write_what_kubectl_reads(lab);
    verbs::apply_what_a_file_says_and_no_more(lab);
    verbs::bring_back_what_was_printed(lab);
    verbs::patch_as_the_server_does(lab);
    verbs::name_policies_as_their_users_do(lab);
    verbs::switch_the_data_plane(lab);
    rights::are_exactly_what_is_needed(lab);
    each_right::is_needed(lab);
    rights::may_be_lost_and_come_back(&mut test);
    bad_input::is_named_and_disturbs_nothing(&mut test);
}

#[test]
fn the_crds_are_what_their_script_writes() {
    let status = Command::new("python3").arg(root().join("scripts/crds.py")).arg("--check").status().unwrap();
    assert!(status.success(), "run scripts/crds.py");
}

/// Nothing that the agent or the CNI plugin could not use gets as far as a node.
#[test]
fn the_chart_refuses_values_that_a_node_could_not_use() {
    for wrong in [
        "cni.mtu=-5",
        "cni.mtu=abc",
        "cni.mtu=1500.5",
        "cni.mtu=67",
        "cni.mtu=65536",
        "cni.mut=1500",
        "cni.binDir=opt",
        "apiServer.port=0",
    ] {
        let refused = chart(&["--set", wrong]).unwrap_err();
        let (field, _) = wrong.split_once('.').unwrap();
        assert!(refused.contains(&format!("at '/{field}")), "{wrong}: {refused}");
    }
    assert!(chart(&["--set", "cni.mtu=1400"]).unwrap().contains(r#""mtu": 1400"#));
    let moved = chart(&["--set-string", r"nodeSelector.tortie\.dev/moved=yes"]).unwrap();
    assert!(moved.contains("kubernetes.io/os: linux") && moved.contains(r#"tortie.dev/moved: "yes""#));
}

/// What helm makes of the chart, or what it says against the values.
fn chart(values: &[&str]) -> Result<String, String> {
    let render = ["template", "tortie", &path("deploy/chart"), "--namespace", "kube-system"];
    let output = Command::new(component("helm"))
        .args(render)
        .args(["--kube-version", "1.36.3"])
        .args(values)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn component(name: &str) -> String {
    let found = Command::new(root().join("scripts/kubernetes.sh")).arg(name).output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    String::from_utf8(found.stdout).unwrap().trim().to_owned()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

fn path(below: &str) -> String {
    root().join(below).to_str().unwrap().to_owned()
}

fn the_usual_installation_is_taken(lab: &Lab) {
    kubectl(lab, &["apply", "--server-side", "--force-conflicts", "-k", &path("deploy")], "").unwrap();
    kubectl(lab, &["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"], "").unwrap();
    let crds: Value =
        serde_json::from_str(&kubectl(lab, &["get", "crd", "-o", "json"], "").unwrap()).unwrap();
    for crd in crds["items"].as_array().unwrap() {
        let conditions = crd["status"]["conditions"].as_array().unwrap();
        let bad = conditions.iter().find(|it| it["type"] == "NonStructuralSchema" || it["status"] != "True");
        assert_eq!(bad, None, "{}", crd["metadata"]["name"]);
    }
}

fn overlays_are_taken(lab: &Lab) {
    for overlay in [
        "deploy/overlays/api-server-address",
        "deploy/overlays/calico-crds-present",
        "tests/kubernetes/cluster/tortie",
    ] {
        let arguments =
            ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-k", &path(overlay)];
        kubectl(lab, &arguments, "").unwrap();
    }
}

/// Two ways to install must not drift apart: name by name, what they would make is the same but for labels.
fn the_chart_renders_the_same_objects(lab: &Lab) {
    let rendered = chart(&["--set", "apiServer.host=192.0.2.10"]).unwrap();
    kubectl(lab, &["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"], &rendered)
        .unwrap();
    let dry = |more: &[&str], input: &str| {
        let arguments: Vec<&str> =
            ["create", "--dry-run=client", "-o", "json"].iter().chain(more).copied().collect();
        objects(&kubectl(lab, &arguments, input).unwrap())
    };
    let kustomized = dry(&["-k", &path("deploy/overlays/api-server-address")], "");
    let charted = dry(&["-f", "-"], &rendered);
    assert_eq!(charted.len(), 8);
    for object in &charted {
        let name = |it: &Value| (it["kind"].clone(), it["metadata"]["name"].clone());
        let other = kustomized.iter().find(|it| name(it) == name(object));
        assert_eq!(other, Some(object), "chart and kustomization");
    }
}

/// What kubectl prints, one object after the other or as a list, without what is allowed to differ.
fn objects(printed: &str) -> Vec<Value> {
    let documents = serde_json::Deserializer::from_str(printed).into_iter::<Value>().map(Result::unwrap);
    let flat = documents.flat_map(|it| match it.get("items") {
        Some(Value::Array(items)) => items.clone(),
        _ => vec![it],
    });
    flat.map(comparable).collect()
}

fn comparable(mut object: Value) -> Value {
    for pointer in ["/metadata", "/spec/template/metadata"] {
        for key in ["labels", "annotations", "creationTimestamp"] {
            if let Some(metadata) = object.pointer_mut(pointer).and_then(Value::as_object_mut) {
                metadata.remove(key);
            }
        }
    }
    for list in ["/spec/template/spec/initContainers", "/spec/template/spec/containers"] {
        for container in object.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            container.as_object_mut().unwrap().remove("imagePullPolicy");
        }
    }
    if let Some(conflist) = object.pointer_mut("/data/cni_network_config") {
        *conflist = serde_json::from_str(conflist.as_str().unwrap()).unwrap();
    }
    object
}
