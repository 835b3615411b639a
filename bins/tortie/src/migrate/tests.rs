use super::*;
use std::fs;
use tortie_store::dir::Directory;
use tortie_store::objects::Objects;

const CALM: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.244.1.0/24]}
status: {nodeInfo: {operatingSystem: linux, architecture: amd64, kernelVersion: 6.1.0-18}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: shop}
spec: {podSelector: {}}
---
apiVersion: projectcalico.org/v3
kind: Profile
metadata: {name: kns.default}
spec: {}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: kube-proxy, namespace: kube-system}
spec: {template: {spec: {containers: [{name: kube-proxy, image: x}]}}}
status: {desiredNumberScheduled: 3}
";

fn examined(text: &str) -> Report {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("all.yaml"), text).unwrap();
    let objects = Objects::Directory(Directory::new(directory.path()).unwrap());
    examine(&objects.view().unwrap())
}

fn of(report: &Report, verdict: Verdict) -> Vec<String> {
    let with = |it: &Finding| format!("{}: {}", it.object, it.what);
    report.items.iter().filter(|it| it.verdict == verdict).map(with).collect()
}

#[test]
fn a_cluster_of_kubernetes_own_policies_may_move() {
    let report = examined(CALM);
    assert_eq!(of(&report, Verdict::Blocks), Vec::<String>::new(), "{report:?}");
    let differs = of(&report, Verdict::Differs);
    assert!(differs.len() == 1 && differs[0].starts_with("DaemonSet kube-system/kube-proxy"), "{differs:?}");
    let supported = of(&report, Verdict::Supported);
    assert!(supported.iter().any(|it| it.starts_with("1 of networkpolicies")), "{supported:?}");
    assert!(report.found.iter().any(|line| line.contains("on 3 nodes")), "{:?}", report.found);
}

#[test]
fn what_would_open_close_or_part_something_blocks_and_says_what_to_do() {
    let cases = [
        (
            "apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {name: tor}\nspec: {peerIP: 192.0.2.1}",
            "BGP",
        ),
        ("apiVersion: v1\nkind: Node\nmetadata: {name: n2}\nspec: {}", "podCIDRs"),
        ("apiVersion: v1\nkind: Node\nmetadata: {name: n2}\nspec: {podCIDRs: []}", "podCIDRs"),
        (
            "apiVersion: v1\nkind: Node\nmetadata: {name: n3}\nspec: {podCIDR: 10.244.3.0/24}\nstatus: {nodeInfo: {operatingSystem: windows}}",
            "windows",
        ),
        (
            "apiVersion: v1\nkind: Node\nmetadata: {name: n4}\nspec: {podCIDR: 10.244.4.0/24}\nstatus: {nodeInfo: {kernelVersion: 5.15.0-1}}",
            "5.15.0-1 is older than 6.1",
        ),
        (
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: a}\nspec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.1/99}}]}]}",
            "cidr",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: a, annotations: {cni.projectcalico.org/floatingIPs: '[\"1.2.3.4\"]'}}\nspec: {containers: []}",
            "floatingIPs",
        ),
        ("kind: [", "all.yaml"),
    ];
    for (text, word) in cases {
        let report = examined(&format!("{CALM}---\n{text}\n"));
        let blocks: Vec<&Finding> = report.items.iter().filter(|it| it.verdict == Verdict::Blocks).collect();
        assert_eq!(blocks.len(), 1, "{word}: {blocks:?}");
        let told = format!("{}: {}", blocks[0].object, blocks[0].what);
        assert!(told.contains(word) && !blocks[0].fix.is_empty(), "{word}: {told}");
    }
}

#[test]
fn every_wish_that_is_lost_is_told_and_who_has_one_is_not_called_supported() {
    let pod = |annotation: &str| {
        format!(
            "kind: Pod\nmetadata: {{name: p, namespace: a, annotations: {{{annotation}: '1'}}}}\nspec: {{containers: []}}"
        )
    };
    let namespace = |annotation: &str| {
        format!("kind: Namespace\nmetadata: {{name: a, annotations: {{{annotation}: '1'}}}}")
    };
    for (object, verdict) in [
        (pod("cni.projectcalico.org/hwAddr"), Verdict::Blocks),
        (pod("cni.projectcalico.org/ipv4pools"), Verdict::Blocks),
        (pod("qos.projectcalico.org/ingressBandwidth"), Verdict::Blocks),
        (pod("qos.projectcalico.org/dscp"), Verdict::Blocks),
        (pod("kubernetes.io/ingress-bandwidth"), Verdict::Differs),
        (pod("kubernetes.io/egress-bandwidth"), Verdict::Differs),
        (namespace("cni.projectcalico.org/ipv4pools"), Verdict::Blocks),
        (namespace("cni.projectcalico.org/ipv6pools"), Verdict::Blocks),
    ] {
        let report = examined(&format!("{CALM}---\napiVersion: v1\n{object}\n"));
        let asks = |it: &Finding| it.verdict == verdict && it.what.contains("asks by annotation");
        assert_eq!(report.items.iter().filter(|it| asks(it)).count(), 1, "{object}: {report:?}");
        let supported = of(&report, Verdict::Supported);
        assert!(
            !supported.iter().any(|it| it.contains("pods") || it.contains("namespaces")),
            "{supported:?}"
        );
    }
}

#[test]
fn a_health_check_node_port_is_answered_as_before() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: w, namespace: a}\nspec: {type: LoadBalancer, \
                   externalTrafficPolicy: Local, healthCheckNodePort: 32000, clusterIP: 10.96.0.9, \
                   ports: [{port: 80, nodePort: 30080}]}";
    let report = examined(&format!("{CALM}---\n{service}\n"));
    let supported = of(&report, Verdict::Supported);
    assert!(supported.iter().any(|it| it.starts_with("1 of services")), "{report:?}");
}

#[test]
fn a_node_whose_kubelet_has_not_reported_yet_is_no_foreign_system() {
    let silent = "nodeInfo: {operatingSystem: '', architecture: '', kernelVersion: ''}";
    let text = CALM
        .replace("nodeInfo: {operatingSystem: linux, architecture: amd64, kernelVersion: 6.1.0-18}", silent);
    assert!(text.contains(silent));
    assert_eq!(of(&examined(&text), Verdict::Blocks), Vec::<String>::new());
}

#[test]
fn a_kube_proxy_that_has_been_put_aside_is_no_matter() {
    let report = examined(&CALM.replace("desiredNumberScheduled: 3", "desiredNumberScheduled: 0"));
    assert_eq!(of(&report, Verdict::Differs), Vec::<String>::new());
    assert!(screen(&report, false).contains("nothing blocks, nothing differs"));
}

#[test]
fn the_screen_says_first_what_blocks() {
    let report = examined(&CALM.replace("spec: {podCIDRs: [10.244.1.0/24]}", "spec: {}"));
    let text = screen(&report, false);
    let at = |word: &str| text.find(word).unwrap_or_else(|| panic!("{word} in {text}"));
    assert!(at("BLOCKS") < at("DIFFERS") && at("DIFFERS") < at("SUPPORTED"), "{text}");
    assert!(text.contains("1 to settle first, 1 to read"), "{text}");
}

#[test]
fn a_policy_of_calico_is_called_what_its_users_call_it_in_both_forms() {
    for (api_version, name) in
        [("projectcalico.org/v3", "deny"), ("crd.projectcalico.org/v1", "default.deny")]
    {
        let text = format!(
            "apiVersion: {api_version}\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{types: [Ingress]}}"
        );
        let blocks = of(&examined(&format!("{CALM}---\n{text}\n")), Verdict::Blocks);
        assert_eq!(blocks, ["NetworkPolicy shop/deny: its rules are not enforced by this version"], "{name}");
    }
}
