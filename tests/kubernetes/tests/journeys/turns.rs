//! Laboratories that use one control plane, one after the other.

use tortie_lab::Lab;
use tortie_tests_e2e::TestLab;
use tortie_tests_kubernetes::{Lent, kubectl};

/// Of everything that outlives its laboratory if nobody takes care: what controllers make again, what has to be given
/// back to the API server, what is the cluster's and not a namespace's.
const MUCH: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, finalizers: [example.org/never]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: default}
spec: {podSelector: {}, ingress: []}
---
apiVersion: crd.projectcalico.org/v1
kind: GlobalNetworkSet
metadata: {name: partners}
spec: {nets: [192.0.2.0/24]}
";

const SERVED: &str = "
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec:
  type: NodePort
  clusterIP: 10.96.0.50
  selector: {app: server}
  ports: [{port: 80, nodePort: 30080}]
";

#[test]
fn a_laboratory_finds_nothing_of_the_one_before_it() {
    let lent = Lent::take();
    let mut first = TestLab::with(lent.options(1));
    let (names, settings) = (names(&first.lab), settings(&first.lab));
    assert!(names.contains("node/node1") && settings.contains("10.244.0.0/16"), "{names} {settings}");
    first.apply(&format!("{MUCH}---{SERVED}"));
    let patch = r#"{"spec": {"bpfLogLevel": "Debug"}}"#;
    kubectl(&first.lab, &["patch", "felixconfiguration", "default", "--type=merge", "-p", patch], "")
        .unwrap();
    kubectl(&first.lab, &["delete", "ippools", "--all"], "").unwrap();
    drop(first);
    lent.reset();

    let mut second = TestLab::with(lent.options(1));
    assert_eq!(self::names(&second.lab), names);
    assert_eq!(self::settings(&second.lab), settings);
    // The same addresses and ports can be had again, and no policy of the first closes them.
    second.apply(SERVED);
    let answered = second.probe("client:c1", "node:node1", |probe| probe.port = Some(30080));
    assert!(answered.is_connected(), "{answered:?}");
}

/// Every object of every kind, but what comes and goes by itself; sorted, as not every list is.
fn names(lab: &Lab) -> String {
    let kinds = kubectl(lab, &["api-resources", "--verbs=list", "-o", "name"], "").unwrap();
    let passing = |kind: &&str| !kind.starts_with("events") && !kind.starts_with("leases");
    let kinds: Vec<&str> = kinds.lines().filter(passing).collect();
    let names = kubectl(lab, &["get", &kinds.join(","), "-A", "-o", "name"], "").unwrap();
    let mut names: Vec<&str> = names.lines().collect();
    names.sort_unstable();
    names.join("\n")
}

fn settings(lab: &Lab) -> String {
    let specs = "jsonpath={range .items[*]}{.metadata.name} {.spec}{\"\\n\"}{end}";
    kubectl(lab, &["get", "felixconfigurations,ippools", "-o", specs], "").unwrap()
}
