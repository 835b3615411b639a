//! Agents that may not start, and pods that vanish while they are being attached.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tortie_lab::{Lab, Where};
use tortie_tests_e2e::{binary, copy_of_binary, tortie_lab};

use crate::verbs::{assert_no_panic, cluster, on_node, said, status, written};

const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node1, containers: [{name: c, image: any}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
";

#[test]
fn a_second_agent_of_a_node_refuses_and_says_which_process_holds_it() {
    let test = cluster(1, WORLD);
    let first = test.lab.agent_pid("node1").expect("an agent");
    let started = Instant::now();
    let output = on_node(&test.lab, "node1", &["agent", "--node", "node1"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_no_panic(&output);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains(&format!("process {first}")),
        "{}",
        said(&output)
    );
    assert!(started.elapsed() < Duration::from_secs(5), "at once");
    assert_eq!(test.lab.agent_pid("node1"), Some(first));
    assert_eq!(status(&test.lab, "node1").0, Some(0));
    assert!(test.probe("pod:default/client", "pod:default/server", |_| {}).is_connected());
}

/// `tortie agent` for a node of no cluster.
fn agent(program: &Path, store: &str, run_dir: &str, bpffs: &str, user: Option<u32>) -> Output {
    let mut command = Command::new(program);
    command.args(["agent", "--node", "n", "--store", &format!("dir:{store}")]);
    command.args(["--run-dir", run_dir, "--bpffs", bpffs]);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    command.output().expect("running tortie")
}

#[test]
fn an_agent_without_root_bpffs_or_store_says_what_to_do() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| {
        let path = directory.path().join(name);
        fs::create_dir(&path).expect("a directory");
        path.to_str().expect("a path").to_owned()
    };
    let (store, plain) = (at("store"), at("plain"));
    let run = directory.path().join("run").to_str().expect("a path").to_owned();
    let missing = directory.path().join("missing").to_str().expect("a path").to_owned();
    fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
    let readable = copy_of_binary(directory.path());
    let output = agent(&readable, &store, &run, &plain, Some(65_534));
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert_no_panic(&output);
    assert!(String::from_utf8_lossy(&output.stderr).contains("root"), "{}", said(&output));
    let cases = [(&store, &plain, 4, "mount -t bpf"), (&missing, &plain, 3, "create it")];
    for (store, bpffs, code, fix) in cases {
        let output = agent(&readable, store, &run, bpffs, None);
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        assert_no_panic(&output);
        assert!(String::from_utf8_lossy(&output.stderr).contains(fix), "{}", said(&output));
    }
}

#[test]
fn a_kernel_without_type_information_will_do() {
    // A mount namespace of its own in which the kernel shows none.
    let script = format!("mount -t tmpfs none /sys/kernel/btf && exec {} check", binary().display());
    let check = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().expect("unshare");
    assert_no_panic(&check);
    let said = said(&check);
    let programs =
        said.lines().find(|line| line.contains("packet programs")).expect("the programs are tried");
    assert!(programs.contains("verified in"), "{said}");
}

/// Calls the plugin for a pod of its own; the caller collects it.
fn plugin(lab: &Lab, command: &str, netns: &str) -> std::process::Child {
    let mut place = lab.place(&Where::Node("node1".into())).expect("the node");
    let list = fs::read(lab.paths.node("node1").join("cni/10-tortie.conflist")).expect("the configuration");
    let list: Value = serde_json::from_slice(&list).expect("JSON");
    let mut config = list["plugins"][0].clone();
    config["cniVersion"] = list["cniVersion"].clone();
    config["name"] = list["name"].clone();
    config["readyTimeoutSeconds"] = 5.into();
    for (name, value) in [
        ("CNI_COMMAND", command.to_owned()),
        ("CNI_CONTAINERID", "fleeting".to_owned()),
        ("CNI_NETNS", format!("/run/netns/{netns}")),
        ("CNI_IFNAME", "eth0".to_owned()),
        ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=fleeting".to_owned()),
        (
            "CNI_PATH",
            std::env::var("CNI_PATH").unwrap_or_else(|_| "/opt/cni/bin:/usr/lib/cni:/usr/libexec/cni".into()),
        ),
    ] {
        place.env.insert(name.to_owned(), OsString::from(value));
    }
    let argv = [binary().into_os_string(), "cni".into()];
    let mut child = place.spawn(&argv, [Stdio::piped(), Stdio::piped(), Stdio::piped()]).expect("the plugin");
    child.stdin.take().expect("stdin").write_all(config.to_string().as_bytes()).expect("writing");
    child
}

fn ip(arguments: &str) -> bool {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip");
    output.status.success()
}

#[test]
fn a_pod_whose_interface_vanishes_while_it_is_attached_leaves_the_node_healthy() {
    let test = cluster(1, WORLD);
    let directory = tempfile::tempdir().expect("a directory");
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: fleeting}\nspec: {nodeName: node1, containers: [{name: c, image: any}]}\n";
    let file = written(directory.path(), "pod.yaml", pod);
    let path = file.to_str().expect("a path");
    let applied = on_node(&test.lab, "node1", &["apply", "-f", path]);
    assert!(applied.status.success(), "{}", said(&applied));
    // The laboratory's prefix: it is swept up with it whatever happens here.
    let netns = test.lab.name.pod("default", "fleeting");
    for pause in [0, 5, 10, 20, 30, 50, 80, 120] {
        assert!(ip(&format!("netns add {netns}")));
        let adding = plugin(&test.lab, "ADD", &netns);
        thread::sleep(Duration::from_millis(pause));
        // The interface goes at once; the namespace's name with it.
        ip(&format!("-n {netns} link delete eth0"));
        assert!(ip(&format!("netns delete {netns}")));
        let added = adding.wait_with_output().expect("the plugin");
        assert_no_panic(&added);
        let deleted = plugin(&test.lab, "DEL", &netns).wait_with_output().expect("the plugin");
        assert!(deleted.status.success(), "after {pause} ms: {}", said(&deleted));
    }
    let removed = on_node(&test.lab, "node1", &["delete", "-f", path]);
    assert!(removed.status.success(), "{}", said(&removed));
    test.lab.wait(Duration::from_secs(10)).expect("wait");
    let (code, answer) = status(&test.lab, "node1");
    assert_eq!(code, Some(0), "{answer}");
    assert!(test.probe("pod:default/client", "pod:default/server", |_| {}).is_connected());
    let logs = tortie_lab(&test.lab.name, &["logs", "node1"]);
    assert!(!said(&logs).contains("panicked"), "{}", said(&logs));
}
