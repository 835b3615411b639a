//! A node starts again: nothing is pinned, nothing runs, and the API server is where it is hard to reach.

use std::fs;
use std::process::Stdio;

use serde_json::Value;
use tortie_lab::{Component, Lab, Where};
use tortie_tests_e2e::TestLab;
use tortie_tests_kubernetes::kubectl;

use super::world::{PATIENCE, asking, denied, start_api_server, status};

const NODE: &str = "node2";
/// Nobody listens there.
const NOBODY: [&str; 2] = ["10.240.0.254:6443", "[fd00:240::fe]:6443"];
/// The Service of the API server, which is one of ours.
const SERVICE: &str = "https://10.96.0.1:443";

/// The memory is lost as well. The first addresses lead nowhere, the next one to a Service that only we could serve.
pub fn without_memory(test: &mut TestLab) {
    let lab = &test.lab;
    let server = lab.api_server_url();
    let servers = [NOBODY[0], NOBODY[1], SERVICE, &server].join(",");
    reboot(lab, false, &[("TORTIE_API_SERVERS", &servers)]);
    comes_up(lab);
    assert_eq!(status(lab, NODE)["store"]["server"], server);
    // From now on the Service works: it is enough, and the next server is asked when it is not.
    lab.kill_component(Component::ApiServer).expect("killing");
    start_api_server(lab);
    lab.wait(PATIENCE).expect("wait");
}

/// The API server is behind our Service and nowhere else: what the node remembers is enough to serve it.
pub fn with_memory_and_a_service(test: &mut TestLab) {
    let lab = &test.lab;
    reboot(lab, true, &[("TORTIE_API_SERVERS", SERVICE)]);
    comes_up(lab);
    assert_eq!(status(lab, NODE)["store"]["server"], SERVICE);
}

/// The address of the configuration leads nowhere; the cluster has told another.
pub fn with_memory_and_a_config_map(test: &mut TestLab) {
    let lab = &test.lab;
    let address = lab.api_server_url();
    let (host, port) = address.trim_start_matches("https://").rsplit_once(':').expect("a port");
    let literal = [format!("KUBERNETES_SERVICE_HOST={host}"), format!("KUBERNETES_SERVICE_PORT={port}")]
        .map(|pair| format!("--from-literal={pair}"));
    let create = ["-n", "kube-system", "create", "configmap", "kubernetes-services-endpoint"];
    kubectl(lab, &[&create[..], &[&literal[0], &literal[1]]].concat(), "").expect("create");
    lab.wait(PATIENCE).expect("wait");
    reboot(lab, true, &[("TORTIE_API_SERVERS", NOBODY[0])]);
    comes_up(lab);
    assert_eq!(status(lab, NODE)["store"]["server"], address);
    kubectl(lab, &["-n", "kube-system", "delete", "configmap", "kubernetes-services-endpoint"], "")
        .expect("delete");
    // As it was.
    lab.kill_agent(NODE).expect("kill-agent");
    lab.start_agent(NODE).expect("start-agent");
    lab.wait(PATIENCE).expect("wait");
}

/// Pins and everything below /run are gone. `remembers`: the memory is on a disk.
fn reboot(lab: &Lab, remembers: bool, environment: &[(&str, &str)]) {
    lab.kill_agent(NODE).expect("kill-agent");
    let pins = lab.paths.node_bpffs(NODE);
    fs::remove_dir_all(&pins).expect("unpinning");
    fs::create_dir(&pins).expect("an empty directory");
    for entry in fs::read_dir(lab.paths.run_dir(NODE)).expect("the run directory").flatten() {
        let path = entry.path();
        if remembers && entry.file_name() == "store" {
            continue;
        }
        let is_directory = path.is_dir();
        let removed = if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    unplug(lab);
    assert!(!lab.probe(&asking(lab, "still")).expect("probe").is_connected(), "nothing is left of the node");
    lab.start_agent_with(NODE, environment).expect("start-agent");
}

/// Links to pods, and routes that an agent has made, do not outlive a machine's power.
fn unplug(lab: &Lab) {
    let script = "for link in /sys/class/net/*; do case ${link##*/} in lo|eth0|ifb*) ;; *) ip link delete ${link##*/} ;; esac; \
                  done; ip route flush table all proto 80; ip -6 route flush table all proto 80";
    let place = lab.place(&Where::Node(NODE.into())).expect("the node");
    let command = ["sh", "-c", script].map(Into::into);
    let mut child = place.spawn(&command, [Stdio::null(), Stdio::null(), Stdio::null()]).expect("sh");
    child.wait().expect("wait");
}

/// Its pods get networks anew, as a kubelet gives them after a restart, and everything is as before.
fn comes_up(lab: &Lab) {
    lab.wait_node(NODE, PATIENCE).expect("the agent");
    let pods = kubectl(lab, &["get", "pods", "--field-selector", "spec.nodeName=node2", "-o", "json"], "");
    let pods: Value = serde_json::from_str(&pods.expect("get")).expect("JSON");
    for pod in pods["items"].as_array().expect("items") {
        let name = pod["metadata"]["name"].as_str().expect("a name");
        lab.restart_sandbox("default", name, PATIENCE).expect("a new sandbox");
    }
    lab.wait(PATIENCE).expect("wait");
    let still = asking(lab, "still");
    assert!(lab.probe(&still).expect("probe").is_connected());
    assert!(!lab.probe(&denied(&still)).expect("probe").is_connected());
    let web = asking(lab, "web");
    assert!(lab.matrix(&vec![web; 20]).expect("matrix").iter().all(|result| result.is_connected()));
}
