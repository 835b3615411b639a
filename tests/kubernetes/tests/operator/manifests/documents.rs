//! The commands of docs/ are run: the blocks that begin with "```console run", one after the other, as a person would.
//!
//! Blocks without that word need what a laboratory has not: a registry, a kubelet that runs containers, a host to change.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use tortie_lab::Lab;
use tortie_tests_kubernetes::kubectl;

use super::root;

/// With a CRD goes every object of its kind, which the next network may need.
#[test]
fn what_install_says_of_taking_it_off_leaves_the_crds_to_a_step_of_their_own() {
    let text = fs::read_to_string(root().join("docs/install.md")).unwrap();
    let (_, section) = text.split_once("## Taking it off").unwrap();
    let places = section.lines().filter_map(|line| line.strip_prefix("$ kubectl delete -k "));
    let kinds = |place: &str| {
        let kubectl = std::process::Command::new(super::component("kubectl"))
            .arg("kustomize")
            .arg(root().join(place.split(' ').next().unwrap()))
            .output()
            .unwrap();
        let rendered = String::from_utf8(kubectl.stdout).unwrap();
        rendered.lines().filter_map(|line| line.strip_prefix("kind: ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let kinds: Vec<Vec<String>> = places.map(kinds).collect();
    assert_eq!(kinds.len(), 2, "{kinds:?}");
    let is_crd = |kind: &String| kind == "CustomResourceDefinition";
    assert!(!kinds[0].iter().any(is_crd) && kinds[0].contains(&"DaemonSet".to_owned()), "{kinds:?}");
    assert!(kinds[1].len() == 19 && kinds[1].iter().all(is_crd), "{kinds:?}");
}

/// In the order in which an operator meets them.
const DOCUMENTS: [(&str, usize); 5] =
    [("install", 3), ("configure", 2), ("upgrade", 1), ("migrate", 6), ("resources", 1)];

/// What a cluster that is to be moved has, and no laboratory.
const BEFORE: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: NAME, namespace: kube-system, labels: {k8s-app: NAME}}
spec:
  selector: {matchLabels: {k8s-app: NAME}}
  template:
    metadata: {labels: {k8s-app: NAME}}
    spec:
      hostNetwork: true
      nodeSelector: {kubernetes.io/os: linux}
      tolerations: [{operator: Exists}]
      containers: [{name: NAME, image: any}]
";
const OTHERS: [&str; 2] = ["kube-proxy", "calico-node"];

pub fn do_what_they_say(lab: &Lab) {
    for name in OTHERS {
        kubectl(lab, &["create", "-f", "-"], &BEFORE.replace("NAME", name)).unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    for (name, count) in DOCUMENTS {
        let text = fs::read_to_string(root().join(format!("docs/{name}.md"))).unwrap();
        let blocks = blocks(&text);
        assert_eq!(blocks.len(), count, "docs/{name}.md has blocks to run");
        for block in blocks {
            run(lab, directory.path(), name, &block);
        }
    }
    for name in OTHERS {
        kubectl(lab, &["-n", "kube-system", "delete", "daemonset", name], "").unwrap();
    }
    kubectl(lab, &["-n", "kube-system", "delete", "configmap", "kubernetes-services-endpoint"], "").unwrap();
    kubectl(lab, &["label", "node", "node1", "tortie.dev/moved-"], "").unwrap();
}

/// Where the person is: beside deploy/, with the kustomization that install.md shows, and a backup.
fn prepare(directory: &Path) {
    let copied =
        std::process::Command::new("cp").arg("-r").arg(root().join("deploy")).arg(directory).status();
    assert!(copied.unwrap().success());
    let text = fs::read_to_string(root().join("docs/install.md")).unwrap();
    let (_, rest) = text.split_once("```yaml\n").unwrap();
    let (kustomization, _) = rest.split_once("\n```").unwrap();
    fs::write(directory.join("kustomization.yaml"), filled(kustomization, "")).unwrap();
    fs::create_dir(directory.join("backup")).unwrap();
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: kept}\n";
    fs::write(directory.join("backup/all.yaml"), namespace).unwrap();
}

/// Words in capitals stand for what a person has.
fn filled(text: &str, kubeconfig: &str) -> String {
    text.replace("REGISTRY", "registry.example")
        .replace("kube:FILE", &format!("kube:{kubeconfig}"))
        .replace("NODE", "node1")
}

/// As a shell takes them.
fn blocks(text: &str) -> Vec<String> {
    let parts = text.split("```console run\n").skip(1);
    let block = |part: &str| {
        let (block, _) = part.split_once("\n```").expect("an end");
        block.lines().map(|line| line.strip_prefix("$ ").unwrap_or(line)).collect::<Vec<_>>().join("\n")
    };
    parts.map(block).collect()
}

fn run(lab: &Lab, directory: &Path, name: &str, block: &str) {
    let kubeconfig = lab.admin_kubeconfig();
    let block = filled(block, kubeconfig.to_str().unwrap());
    let mut place = lab.control_plane_place().unwrap();
    let binary = tortie_tests_e2e::binary();
    let mut path = binary.parent().unwrap().as_os_str().to_owned();
    path.push(":");
    path.push(place.env.get("PATH").cloned().unwrap_or_default());
    place.env.insert("PATH".into(), path);
    // Whoever edits changes nothing.
    place.env.insert("EDITOR".into(), "true".into());
    let script = format!("set -eu; cd {}\n{block}\n", directory.display());
    let command: Vec<OsString> = ["timeout", "90", "sh", "-c", &script].map(Into::into).to_vec();
    let child = place.spawn(&command, [Stdio::null(), Stdio::piped(), Stdio::piped()]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "docs/{name}.md: {block}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
