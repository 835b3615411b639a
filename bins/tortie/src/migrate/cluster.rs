//! What runs in the cluster, and its nodes.
//!
//! Owns: who else wires pods or serves Services there, and what nodes must have. Does not: look at resources' rules.
//! Invariant: reads only.

use serde_json::Value;
use tortie_host::features::{OLDEST_KERNEL, kernel_version};
use tortie_store::kind::{Kind, Role};
use tortie_store::resource::Resource;

use super::finding::Finding;
use super::{Used, of};

/// Kinds that nothing but this check looks at.
pub static KINDS: &[Kind] = &[
    Kind {
        group: "apps",
        versions: &["v1"],
        kind: "DaemonSet",
        plural: "daemonsets",
        aliases: &[],
        namespaced: true,
        role: Role::Kept,
    },
    Kind {
        group: "operator.tigera.io",
        versions: &["v1"],
        kind: "Installation",
        plural: "installations",
        aliases: &[],
        namespaced: false,
        role: Role::Kept,
    },
];

/// What runs there now, a line each.
pub fn found(used: &Used) -> Vec<String> {
    let mut lines = Vec::new();
    for info in of(used, "projectcalico.org", "ClusterInformation") {
        let version = text(info, "/spec/calicoVersion").unwrap_or("of unknown version");
        let kind = text(info, "/spec/clusterType").unwrap_or("unknown");
        lines.push(format!("Calico {version} (cluster type {kind})"));
    }
    for daemon in of(used, "apps", "DaemonSet") {
        if let Some(what) = known_daemon(daemon) {
            let nodes = daemon.value.pointer("/status/desiredNumberScheduled").and_then(Value::as_u64);
            let nodes = nodes.map(|n| format!(" on {n} nodes")).unwrap_or_default();
            lines.push(format!("{what}: DaemonSet {}/{}{nodes}", daemon.key.namespace, daemon.key.name));
        }
    }
    if let Some(mode) = of(used, "", "ConfigMap").iter().find_map(proxy_mode) {
        lines.push(format!("kube-proxy is configured for mode {mode:?}"));
    }
    let nodes = of(used, "", "Node").len();
    lines.push(format!(
        "{nodes} Nodes, {} Pods, {} Services",
        of(used, "", "Pod").len(),
        of(used, "", "Service").len()
    ));
    lines
}

/// What of it matters.
pub fn findings(used: &Used) -> Vec<Finding> {
    let mut findings = Vec::new();
    for daemon in of(used, "apps", "DaemonSet").iter().filter(|it| runs(it)) {
        let object = format!("DaemonSet {}/{}", daemon.key.namespace, daemon.key.name);
        match known_daemon(daemon) {
            Some("kube-proxy") => findings.push(Finding::differs(
                &object,
                "Tortie serves Services itself; kube-proxy beside it is idle for pods and costs CPU",
                "after the move: kubectl patch ds -n kube-system kube-proxy -p '{\"spec\":{\"template\":{\"spec\":\
                 {\"nodeSelector\":{\"non-calico\":\"true\"}}}}}'",
            )),
            Some(other) => findings.push(Finding::differs(
                &object,
                &format!("{other} wires pods now; a node has one of the two at a time"),
                "move node by node: docs/migrate.md",
            )),
            None => {}
        }
    }
    for installation in of(used, "operator.tigera.io", "Installation") {
        findings.push(Finding::differs(
            &installation.key.object_name().to_string(),
            "the operator puts back what is changed of Calico's own objects",
            "scale tigera-operator to 0 before the move; docs/migrate.md",
        ));
    }
    for node in of(used, "", "Node") {
        findings.extend(node_findings(node));
    }
    for pod in of(used, "", "Pod") {
        findings.extend(pod_findings(pod));
    }
    for namespace in of(used, "", "Namespace") {
        findings.extend(wishes(namespace, POOLS.iter()));
    }
    findings
}

/// By the containers' names, which everybody's manifests share; names of DaemonSets differ.
fn known_daemon(daemon: &Resource) -> Option<&'static str> {
    let containers = daemon.value.pointer("/spec/template/spec/containers")?.as_array()?;
    containers.iter().find_map(|it| match it.get("name")?.as_str()? {
        "calico-node" => Some("calico-node"),
        "kube-proxy" => Some("kube-proxy"),
        "cilium-agent" => Some("cilium"),
        "kube-flannel" => Some("flannel"),
        _ => None,
    })
}

/// One whose node selector takes no node has been put aside.
fn runs(daemon: &Resource) -> bool {
    let scheduled = daemon.value.pointer("/status/desiredNumberScheduled").and_then(Value::as_u64);
    scheduled != Some(0)
}

fn proxy_mode(map: &Resource) -> Option<String> {
    if map.key.name != "kube-proxy" {
        return None;
    }
    let config = text(map, "/data/config.conf")?;
    let line = config.lines().find_map(|line| line.trim().strip_prefix("mode:"))?;
    Some(line.trim().trim_matches('"').to_owned())
}

fn node_findings(node: &Resource) -> Vec<Finding> {
    let object = node.key.object_name().to_string();
    let mut findings = Vec::new();
    let os = text(node, "/status/nodeInfo/operatingSystem").unwrap_or("linux");
    if os != "linux" {
        let fix = "keep Calico on it; Tortie runs on Linux";
        return vec![Finding::blocks(&object, &format!("its operating system is {os}"), fix)];
    }
    match text(node, "/status/nodeInfo/architecture") {
        Some(other) if !matches!(other, "amd64" | "arm64") => {
            findings.push(Finding::blocks(
                &object,
                &format!("its architecture is {other}"),
                "use amd64 or arm64 nodes",
            ));
        }
        _ => {}
    }
    if let Some(release) = text(node, "/status/nodeInfo/kernelVersion") {
        let (major, minor) = OLDEST_KERNEL;
        if kernel_version(release).is_some_and(|found| found < OLDEST_KERNEL) {
            let what = format!("its kernel {release} is older than {major}.{minor}");
            findings.push(Finding::blocks(
                &object,
                &what,
                "upgrade it; `tortie check` on the node says what is missing",
            ));
        }
    }
    let has_cidr = text(node, "/spec/podCIDRs/0").or(text(node, "/spec/podCIDR")).is_some();
    if !has_cidr {
        let what = "it has no spec.podCIDRs, from which pods get their addresses";
        let fix =
            "run kube-controller-manager with --allocate-node-cidrs and --cluster-cidr inside the IPPools";
        findings.push(Finding::blocks(&object, what, fix));
    }
    findings
}

/// An annotation by which Calico's own plugins treat pods differently, and what it asks for.
type Wish = (&'static str, &'static str);

/// Of a Pod, or of a Namespace for all its Pods.
const POOLS: [Wish; 2] = [
    ("cni.projectcalico.org/ipv4pools", "an address of certain pools"),
    ("cni.projectcalico.org/ipv6pools", "an address of certain pools"),
];
const OF_A_POD: [Wish; 5] = [
    ("cni.projectcalico.org/ipAddrs", "a fixed address"),
    ("cni.projectcalico.org/ipAddrsNoIpam", "a fixed address outside address management"),
    ("cni.projectcalico.org/hwAddr", "a fixed MAC address"),
    ("cni.projectcalico.org/floatingIPs", "floating addresses"),
    ("cni.projectcalico.org/allowedSourcePrefixes", "to send from other addresses"),
];
/// Limits of bandwidth, packets and connections, and a mark for them.
const QUALITY_OF_SERVICE: &str = "qos.projectcalico.org/";
/// What the plugin `bandwidth` of the CNI project reads, after whichever plugin.
const BANDWIDTH: [&str; 2] = ["kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth"];

fn pod_findings(pod: &Resource) -> Vec<Finding> {
    let mut findings = wishes(pod, POOLS.iter().chain(&OF_A_POD));
    for name in annotations(pod) {
        if name.starts_with(QUALITY_OF_SERVICE) {
            findings.push(unmet(pod, name, "a limit or a mark of its traffic"));
        }
        if BANDWIDTH.contains(&name.as_str()) {
            findings.push(Finding::differs(
                &pod.key.object_name().to_string(),
                &format!("asks by annotation {name} for a limit, which only the CNI plugin bandwidth brings"),
                "put bandwidth after tortie-cni in the conflist (install cni --config), or do without it",
            ));
        }
    }
    findings
}

fn wishes<'w>(resource: &Resource, known: impl Iterator<Item = &'w Wish>) -> Vec<Finding> {
    let asked = |(name, _): &&Wish| annotations(resource).any(|it| it == name);
    known.filter(asked).map(|(name, what)| unmet(resource, name, what)).collect()
}

fn unmet(resource: &Resource, annotation: &str, what: &str) -> Finding {
    Finding::blocks(
        &resource.key.object_name().to_string(),
        &format!("asks by annotation {annotation} for {what}, which Tortie does not give"),
        "do without it, or keep its node on Calico",
    )
}

fn annotations(resource: &Resource) -> impl Iterator<Item = &String> {
    let annotations = resource.value.pointer("/metadata/annotations").and_then(Value::as_object);
    annotations.into_iter().flat_map(|annotations| annotations.keys())
}

/// An API server has an empty text for what nobody has said, such as a Node's system before its kubelet reports.
fn text<'r>(resource: &'r Resource, path: &str) -> Option<&'r str> {
    resource.value.pointer(path)?.as_str().filter(|text| !text.is_empty())
}
