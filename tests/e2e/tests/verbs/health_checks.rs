//! What load balancers ask of a node: `healthCheckNodePort`, and kube-proxy's page.

use std::net::SocketAddr;

use crate::observe::{configure, get, until, until_closed};

const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: near, labels: {app: server}}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, labels: {app: elsewhere}}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: here}
spec: {type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 30010, ipFamilyPolicy: PreferDualStack, selector: {app: server}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere}
spec: {type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 30011, ipFamilyPolicy: PreferDualStack, selector: {app: elsewhere}, ports: [{port: 80}]}
";

const OWN: [&str; 2] = ["10.240.0.1", "fd00:240::1"];

fn at(host: &str, port: u16) -> String {
    SocketAddr::new(host.parse().expect("an address"), port).to_string()
}

#[test]
fn load_balancers_learn_which_nodes_have_endpoints_in_both_families_and_of_changes() {
    let mut test = crate::empty();
    test.apply(WORLD);
    for host in OWN {
        let body = until(&test, &at(host, 30010), "/", 200);
        assert!(body.contains("\"localEndpoints\": 1"), "{body}");
        assert!(body.contains("\"serviceProxyHealthy\": true"), "{body}");
        let body = until(&test, &at(host, 30011), "/", 503);
        assert!(body.contains("\"localEndpoints\": 0"), "{body}");
        for path in ["/healthz", "/livez"] {
            until(&test, &at(host, 10256), path, 200);
        }
    }
    let unready = "
apiVersion: v1
kind: Pod
metadata: {name: near, labels: {app: server}, annotations: {tortie.dev/ready: 'false'}}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
";
    test.apply(unready);
    OWN.iter().for_each(|host| _ = until(&test, &at(host, 30010), "/", 503));
    configure(&test, "bpfKubeProxyHealthzPort: 10266");
    until(&test, &at(OWN[0], 10266), "/healthz", 200);
    assert!(get(&test, &at(OWN[0], 10256), "/healthz").is_err());
    configure(&test, "bpfKubeProxyHealthzPort: 0");
    until_closed(&test, &at(OWN[0], 10266), "/healthz");
}
