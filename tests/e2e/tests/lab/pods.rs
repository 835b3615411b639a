//! Pods as a cluster would have them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tortie_lab::{Key, Object, Protocol, Verdict, Where};
use tortie_tests_e2e::{TestLab, binary, said, tortie_lab};

fn stored(test: &TestLab, kind: &str, namespace: &str) -> Vec<Object> {
    let objects = test.lab.objects().expect("the store");
    objects
        .into_iter()
        .filter(|object| object.kind() == kind && object.namespace() == Some(namespace))
        .collect()
}

fn pod(name: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: front}}{more}}}\n\
         spec: {{containers: [{{name: c, image: any, ports: [{{name: http, containerPort: 8080}}]}}]}}\n"
    )
}

const SERVICE: &str = "---\napiVersion: v1\nkind: Service\nmetadata: {name: front, namespace: shop}\nspec: {selector: {app: front}, ports: [{port: 80, targetPort: http}]}\n";

#[test]
fn a_service_has_a_slice_that_follows_its_pods() {
    let mut test = TestLab::plain(2);
    test.apply(
        &[pod("a", ""), pod("b", ", annotations: {tortie.dev/ready: \"false\"}"), SERVICE.to_owned()]
            .concat(),
    );
    let ready = |test: &TestLab| -> Vec<(String, bool)> {
        let slices = stored(test, "EndpointSlice", "shop");
        let endpoints = slices.iter().flat_map(|slice| slice.list("/endpoints"));
        let text = |value: &Value, pointer: &str| {
            value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let ready = |value: &Value| value.pointer("/conditions/ready") == Some(&Value::Bool(true));
        endpoints.map(|endpoint| (text(endpoint, "/targetRef/name"), ready(endpoint))).collect()
    };
    assert_eq!(ready(&test), [("a".to_owned(), true), ("b".to_owned(), false)]);
    test.apply(&pod("b", ""));
    assert_eq!(ready(&test), [("a".to_owned(), true), ("b".to_owned(), true)]);
    test.delete(&pod("a", ""));
    assert_eq!(ready(&test), [("b".to_owned(), true)]);
}

#[test]
fn a_pod_that_is_deleted_and_made_again_is_another_pod_and_serves() {
    let mut test = TestLab::plain(1);
    let uid =
        |test: &TestLab| stored(test, "Pod", "shop")[0].text("/metadata/uid").expect("a uid").to_owned();
    test.apply(&pod("a", ""));
    let first = uid(&test);
    test.apply(&pod("a", ""));
    assert_eq!(uid(&test), first, "applying again is not making again");
    test.delete(&pod("a", ""));
    assert!(test.lab.attachment("shop", "a").is_err());
    test.apply(&pod("a", ""));
    assert_ne!(uid(&test), first);
    assert!(test.probe("client:c1", "pod:shop/a", |_| {}).is_connected());
}

#[test]
fn a_pod_with_a_grace_period_serves_while_it_terminates() {
    let mut test = TestLab::plain(1);
    let yaml = pod("a", "").replace("spec: {", "spec: {terminationGracePeriodSeconds: 2, ") + SERVICE;
    test.apply(&yaml);
    let mut other = test.lab.clone();
    let key = Key::core("Pod", Some("shop"), "a");
    let deleting = std::thread::spawn(move || other.delete(&[key], None).map(drop));
    let terminating = |test: &TestLab| {
        let slices = stored(test, "EndpointSlice", "shop");
        slices.iter().any(|slice| slice.at("/endpoints/0/conditions/terminating") == Some(&Value::Bool(true)))
    };
    let started = std::time::Instant::now();
    while !terminating(&test) {
        assert!(started.elapsed() < Duration::from_millis(1500), "no slice says terminating");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(test.probe("client:c1", "pod:shop/a", |_| {}).is_connected());
    deleting.join().expect("the thread").expect("lab delete");
    assert!(stored(&test, "Pod", "shop").is_empty());
    assert!(test.lab.attachment("shop", "a").is_err());
}

#[test]
fn a_host_network_pod_has_the_nodes_addresses_and_serves_there() {
    let mut test = TestLab::plain(2);
    test.apply(&pod("a", "").replace("spec: {", "spec: {hostNetwork: true, nodeName: node2, "));
    let result = test.probe("client:c1", "node:node2", |probe| probe.port = Some(8080));
    assert_eq!((result.result, result.server.as_deref()), (Verdict::Connected, Some("shop/a")));
    assert_eq!(stored(&test, "Pod", "shop")[0].text("/status/podIP"), Some("10.240.0.2"));
}

#[test]
fn a_container_with_the_image_host_runs_its_command_in_the_pod_until_the_pod_goes() {
    let mut test = TestLab::plain(1);
    let yaml = "
apiVersion: v1
kind: Pod
metadata: {name: own}
spec: {containers: [{name: c, image: host, command: [sleep], args: ['600']}]}
";
    test.apply(yaml);
    let inside = |test: &TestLab| {
        let output = tortie_lab(
            &test.lab.name,
            &["exec", "--node", "node1", "--", "ip", "netns", "pids", &test.lab.name.pod("default", "own")],
        );
        String::from_utf8_lossy(&output.stdout).lines().count()
    };
    assert_eq!(inside(&test), 1);
    test.delete(yaml);
    assert_eq!(inside(&test), 0);
}

#[test]
fn programs_run_in_pods_on_nodes_and_outside_with_their_own_exit_codes() {
    let mut test = TestLab::plain(1);
    test.apply(&pod("a", ""));
    let name = &test.lab.name;
    let code = |arguments: &[&str]| tortie_lab(name, &[&["exec"], arguments].concat()).status.code();
    assert_eq!(code(&["-n", "shop", "a", "--", "sh", "-c", "exit 7"]), Some(7));
    assert_eq!(code(&["--node", "node1", "--", "test", "-e", "/sys/class/net/eth0"]), Some(0));
    assert_eq!(
        code(&["--client", "c1", "--", "sh", "-c", "ip route get 10.244.1.2 | grep -q 192.0.2.254"]),
        Some(0)
    );
    assert_eq!(code(&["-n", "shop", "none", "--", "true"]), Some(1));
    let output = tortie_lab(
        name,
        &["exec", "--node", "node1", "--", "sh", "-c", "echo $TORTIE_STORE; cat /proc/self/cgroup"],
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("dir:") && text.contains(&format!("/{}", name.machine("node1"))), "{text}");
    assert!(test.lab.place(&Where::Node("node9".into())).is_err());
}

#[test]
fn the_router_sends_a_prefix_where_it_was_told_last() {
    let mut test = TestLab::plain(2);
    let prefix: ipnet::IpNet = "203.0.113.0/24".parse().expect("a prefix");
    let address = "203.0.113.5";
    for (node, other) in [("node1", "node2"), ("node2", "node1")] {
        test.lab.route(prefix, node).expect("lab route");
        for (which, verb) in [(node, "replace"), (other, "del")] {
            tortie_lab(
                &test.lab.name,
                &["exec", "--node", which, "--", "ip", "address", verb, "203.0.113.5/32", "dev", "lo"],
            );
        }
        let result = test.probe("client:c1", address, |probe| probe.protocol = Protocol::Icmp);
        assert_eq!(result.result, Verdict::Connected, "{node}: {result:?}");
    }
}

#[test]
fn bad_objects_are_refused_by_name_and_change_nothing() {
    let mut test = TestLab::plain(1);
    let before = test.lab.objects().expect("the store").len();
    for (yaml, expected) in [
        (
            pod("a", "") + &pod("b", "").replace("spec: {", "spec: {nodeName: node9, "),
            "Pod shop/b: spec.nodeName",
        ),
        (pod("a", "") + &pod("a", ""), "Pod shop/a appears twice"),
        (SERVICE.replace("spec: {", "spec: {clusterIP: 10.96.0.999, "), "Service shop/front: spec.clusterIP"),
    ] {
        let objects = tortie_lab::parse_objects(&yaml, "the test").expect("YAML");
        let error = test.lab.apply(objects).expect_err("bad input").to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(test.lab.objects().expect("the store").len(), before);
    }
}

#[test]
fn a_pod_whose_network_failed_leaves_nothing_and_gets_it_the_next_time() {
    let test = TestLab::nodes(1);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("pod.yaml");
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: late}, spec: {nodeName: node1, containers: [{name: c, image: any}]}}";
    fs::write(&file, pod).expect("writing");
    let apply = |plugins: Option<&str>| {
        let mut command = Command::new(binary());
        command.args(["lab", "apply", "--name", &test.lab.name.to_string(), "-f"]).arg(&file);
        plugins.map(|plugins| command.env("CNI_PATH", plugins));
        command.output().expect("running tortie")
    };
    let failed = apply(Some("/nowhere"));
    assert!(!failed.status.success() && said(&failed).contains("default/late"), "{}", said(&failed));
    assert!(test.lab.attachment("default", "late").is_err());
    let netns = Path::new("/run/netns").join(test.lab.name.pod("default", "late"));
    assert!(!netns.exists(), "{}", netns.display());
    let done = apply(None);
    assert!(done.status.success(), "{}", said(&done));
    assert!(!test.lab.attachment("default", "late").expect("attached").addresses.is_empty());
}
