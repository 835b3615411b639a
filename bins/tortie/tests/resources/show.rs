//! What `get` and its tables print, and what a verb says of a store or a flag that it cannot use.

use std::process::Command;

use super::{Answer, POLICY, POOL, World};

#[test]
fn tables_say_what_kubectl_says() {
    let world = World::new();
    let service = |name: &str, spec: &str, status: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{{spec}}}, status: {{{status}}}}}\n---\n"
        )
    };
    let given = "loadBalancer: {ingress: [{ip: 192.0.2.9}, {hostname: lb.example}]}";
    world.file(
        "s/services.yaml",
        &[
            service("a", "type: LoadBalancer, ports: [{port: 1}]", ""),
            service("b", "type: LoadBalancer, ports: [{port: 1}], externalIPs: [198.51.100.1]", given),
            service("c", "type: LoadBalancer, ports: [{port: 1}]", given),
            service("d", "type: ExternalName, externalName: db.example", ""),
            service("e", "ports: [{port: 1}], externalIPs: [198.51.100.1]", ""),
        ]
        .concat(),
    );
    let column = |line: &str, heading: &str| -> Vec<String> {
        let out = world.tortie(line).out;
        let at = out.find(heading).unwrap_or_else(|| panic!("{out}"));
        out.lines()
            .skip(1)
            .map(|it| it[at..].split_whitespace().next().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(
        column("get svc", "EXTERNAL-IP"),
        [
            "<pending>",
            "192.0.2.9,lb.example,198.51.100.1",
            "192.0.2.9,lb.example",
            "db.example",
            "198.51.100.1"
        ]
    );
    let pod = |name: &str, metadata: &str, status: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}{metadata}}}, spec: {{containers: [{{name: c}}]}}, status: {{{status}}}}}\n---\n"
        )
    };
    let going = ", deletionTimestamp: 2026-01-31T12:00:00Z";
    world.file(
        "s/pods.yaml",
        &[
            pod("a", "", "phase: Running"),
            pod("b", going, "phase: Running"),
            pod("c", going, "phase: Succeeded"),
            pod("d", "", "phase: Failed, reason: Evicted"),
        ]
        .concat(),
    );
    assert_eq!(column("get pods", "STATUS"), ["Running", "Terminating", "Succeeded", "Evicted"]);
    let node = |name: &str, labels: &str, spec: &str, status: &str| {
        format!(
            "{{apiVersion: v1, kind: Node, metadata: {{name: {name}, labels: {{{labels}}}}}, spec: {{{spec}}}, status: {{{status}}}}}\n---\n"
        )
    };
    let ready = |status: &str| format!("conditions: [{{type: Ready, status: {status}}}]");
    world.file(
        "s/nodes.yaml",
        &[
            node("a", "node-role.kubernetes.io/etcd: '', kubernetes.io/role: door", "", &ready("'True'")),
            node("b", "", "unschedulable: true", &ready("'True'")),
            node("c", "", "", &ready("'False'")),
            node("d", "", "", &ready("Unknown")),
            node("e", "", "", ""),
        ]
        .concat(),
    );
    assert_eq!(
        column("get nodes", "STATUS"),
        ["Ready", "Ready,SchedulingDisabled", "NotReady", "NotReady", "Unknown"]
    );
    assert_eq!(column("get nodes", "ROLES"), ["door,etcd", "<none>", "<none>", "<none>", "<none>"]);
}

#[test]
fn a_kubeconfig_or_context_that_is_typed_wins_over_a_directory_of_the_environment() {
    let world = World::new();
    world.file("s/a.yaml", POOL);
    for flag in ["--kubeconfig no.config", "--context elsewhere"] {
        let answer = world.tortie(&format!("get ippools {flag}"));
        assert_eq!((answer.code, answer.out.as_str()), (3, ""), "{flag}: {}", answer.err);
        let both = world.tortie(&format!("--store dir:s get ippools {flag}"));
        assert_eq!((both.code, both.out.as_str()), (2, ""), "{flag}");
        assert!(both.err.contains("--store dir: is no cluster"), "{flag}: {}", both.err);
    }
    assert!(world.tortie("get ippools --kubeconfig no.config").err.contains("no.config"));
}

#[test]
fn a_flag_of_another_verb_is_refused() {
    let world = World::new();
    world.file("s/a.yaml", POOL);
    world.file("p.yaml", &POOL.replace("/16", "/15"));
    for line in [
        "apply --skip-exists -f p.yaml",
        "replace --skip-exists -f p.yaml",
        "replace --force -f p.yaml",
        "create --force-conflicts -f p.yaml",
    ] {
        let answer = world.tortie(line);
        assert_eq!((answer.code, answer.out.as_str()), (2, ""), "{line}: {}", answer.err);
        assert!(answer.err.contains("unexpected argument"), "{line}: {}", answer.err);
    }
    assert_eq!(world.text("s/a.yaml"), POOL);
    world.says("create --skip-exists -f p.yaml", "ippool.projectcalico.org/main skipped: it exists\n");
    world.says("apply --force -f p.yaml", "ippool.projectcalico.org/main configured\n");
}

#[test]
fn get_shows_tables_lists_and_single_objects() {
    let world = World::new();
    world.file("s/all.yaml", &format!(
        "{POOL}---\n{POLICY}---\n{{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: shop, labels: {{app: web}}}}, \
         spec: {{nodeName: n1, containers: [{{name: c}}]}}, status: {{phase: Running, podIP: 10.244.0.7, \
         containerStatuses: [{{name: c, ready: true, image: i, imageID: i, restartCount: 0}}]}}}}\n"
    ));
    world.says(
        "get pods -A",
        "NAMESPACE   NAME   READY   STATUS    AGE\nshop        web    1/1     Running   <unknown>\n",
    );
    world.says("get po -n shop -o wide", "NAME   READY   STATUS    IP           NODE   AGE\nweb    1/1     Running   10.244.0.7   n1     <unknown>\n");
    assert_eq!(
        world.tortie("get pods"),
        Answer { code: 0, out: String::new(), err: "No resources found in default namespace.\n".into() }
    );
    let list: serde_json::Value = serde_json::from_str(&world.tortie("get pods -A -o json").out).unwrap();
    assert_eq!(list["items"][0]["status"]["podIP"], "10.244.0.7");
    let one: serde_json::Value =
        serde_json::from_str(&world.tortie("get netpol deny-all -o json").out).unwrap();
    assert_eq!(one["metadata"]["namespace"], "default", "where the file does not say");
    world.refuses("get pod web", 1, "tortie: pods \"web\" not found\n");
    world.refuses("get pdos", 2, "tortie: there is no kind \"pdos\"; did you mean pods?\n");
    world.refuses("get pods -l 'a of (b)'", 2, "tortie: --selector: \"a of (b)\" is no requirement; write key, !key, key=value, key!=value, key in (a,b) or key notin (a,b)\n");
    assert_eq!(world.tortie("get nodes").err, "No resources found\n", "nodes are in no namespace");
    assert_eq!(
        world.tortie("get pod web db -n shop"),
        Answer {
            code: 1,
            out: "NAME   READY   STATUS    AGE\nweb    1/1     Running   <unknown>\n".into(),
            err: "tortie: pods \"db\" not found\n".into()
        }
    );
    assert_eq!(
        world.tortie("get pods,svc web -n shop"),
        Answer {
            code: 1,
            out: "NAME   READY   STATUS    AGE\nweb    1/1     Running   <unknown>\n".into(),
            err: "tortie: services \"web\" not found\n".into()
        }
    );
    world.refuses(
        "get pod web -n shop -l app=db",
        2,
        "tortie: names and -l cannot be combined; leave out one of them\n",
    );
    world.says(
        "get pods,netpol -n shop",
        "NAME   READY   STATUS    AGE\nweb    1/1     Running   <unknown>\n",
    );
}

#[test]
fn what_get_prints_can_be_applied_again() {
    let world = World::new();
    world.file("s/all.yaml", &format!("{POOL}---\n{POLICY}"));
    let printed = world.tortie("get all -A -o yaml").out;
    let answer = world.tortie_with("apply -f -", &printed);
    assert_eq!(
        answer.out,
        "networkpolicy.networking.k8s.io/deny-all configured\nippool.projectcalico.org/main unchanged\n"
    );
}

#[test]
fn every_name_of_a_kind_finds_it() {
    let world = World::new();
    for name in [
        "po",
        "pod",
        "pods",
        "Pod",
        "no",
        "node",
        "nodes",
        "ns",
        "namespaces",
        "svc",
        "services",
        "eps",
        "endpointslice",
        "endpointslices.discovery.k8s.io",
        "netpol",
        "networkpolicy",
        "networkpolicies",
        "networkpolicies.networking.k8s.io",
        "networkpolicy.v1.networking.k8s.io",
        "np",
        "gnp",
        "globalnetworkpolicies",
        "caliconetworkpolicies",
        "networkpolicies.projectcalico.org",
        "networkpolicies.crd.projectcalico.org",
        "ippool",
        "ippools",
        "ipPool",
        "ippools.projectcalico.org",
        "felixconfig",
        "felixconfigs",
        "felixconfiguration",
        "felixconfigurations",
        "bgpp",
        "hep",
        "netset",
        "tiers",
        "sa",
        "cm",
        "cnp",
    ] {
        let answer = world.tortie(&format!("get {name}"));
        assert_eq!((answer.code, answer.out.as_str()), (0, ""), "{name}: {answer:?}");
    }
}

#[test]
fn a_policy_of_the_default_tier_is_one_object_under_both_of_its_names() {
    let world = World::new();
    let policy = |name: &str| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{selector: all()}}\n"
        )
    };
    let said = |verb: &str| format!("globalnetworkpolicy.projectcalico.org/deny {verb}\n");
    world.file("short.yaml", &policy("deny"));
    world.file("long.yaml", &policy("default.deny"));
    assert_eq!(world.tortie("create -f long.yaml").out, said("created"));
    assert_eq!(world.tortie("create -f short.yaml").code, 1, "it exists");
    assert_eq!(world.tortie("apply -f long.yaml").out, said("unchanged"));
    for name in ["deny", "default.deny"] {
        let labelled = world.tortie(&format!("label --overwrite globalnetworkpolicy {name} by={name}"));
        assert_eq!((labelled.code, labelled.out), (0, said("labeled")), "{}", labelled.err);
        let shown = world.tortie(&format!("get globalnetworkpolicy {name}"));
        assert_eq!(shown.out, "NAME   AGE\ndeny   <unknown>\n", "{}", shown.err);
    }
    assert_eq!(world.files().len(), 1);
    world.says("delete globalnetworkpolicy default.deny", &said("deleted"));
    assert_eq!(world.files(), [""; 0]);
    // Two files may hold it under both names: one of them is in force, and the other is named.
    world.file("s/1.yaml", &policy("deny"));
    world.file("s/2.yaml", &policy("default.deny"));
    let listed = world.tortie("get globalnetworkpolicies");
    assert_eq!(listed.out, "NAME   AGE\ndeny   <unknown>\n");
    assert!(
        listed.err.contains("s/2.yaml:1") && listed.err.contains("is also in s/1.yaml:1"),
        "{}",
        listed.err
    );
}

#[test]
fn a_store_that_cannot_be_used_says_what_to_do() {
    let world = World::new();
    world.refuses("--store dir:nowhere get pods", 3, "tortie: nowhere: cannot be read: No such file or directory (os error 2); check --store and the permissions\n");
    // Without a store it is the cluster that kubectl would take.
    for words in [&["get", "pods"][..], &["--store", "kube", "get", "pods"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tortie"));
        command.env_clear().env("HOME", world.root.path()).args(words);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{words:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("--store dir:PATH") && said.contains("KUBECONFIG"), "{said}");
    }
    let nowhere = world.root.path().join("missing.kubeconfig");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tortie"));
    let output =
        command.env("KUBECONFIG", &nowhere).args(["--store", "kube", "get", "pods"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8(output.stderr).unwrap().contains("missing.kubeconfig"));
}
