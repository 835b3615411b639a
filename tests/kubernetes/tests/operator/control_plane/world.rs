//! What is in the cluster of these tests.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tortie_lab::{Component, Lab, Probe};
use tortie_tests_e2e::{briefly, endpoint};

pub use tortie_tests_kubernetes::{PATIENCE, until};

pub const WORLD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: client}}
spec: {nodeName: node1, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger}
spec: {nodeName: node1, containers: [{name: c, image: any}]}
---
apiVersion: v1
kind: Pod
metadata: {name: still, labels: {app: still}}
spec: {nodeName: node2, containers: [{name: c, image: any, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: still}
spec: {ipFamilyPolicy: PreferDualStack, selector: {app: still}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 2
      containers: [{name: c, image: any, ports: [{containerPort: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ipFamilyPolicy: PreferDualStack, selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: still}
spec: {podSelector: {matchLabels: {app: still}}, ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]}
";

/// The client asks a Service; resolved now, so that asking needs no API server.
pub fn asking(lab: &Lab, service: &str) -> Probe {
    let probe = Probe {
        timeout: Duration::from_secs(5),
        ..Probe::new(endpoint("pod:default/client"), endpoint(&format!("svc:default/{service}")))
    };
    lab.resolve(&probe).expect("the Service's address")
}

/// The same, asked by somebody who may not.
pub fn denied(probe: &Probe) -> Probe {
    let mut denied = Probe { from: endpoint("pod:default/stranger"), ..probe.clone() };
    briefly(&mut denied);
    denied
}

/// What the agent of a node says about itself.
pub fn status(lab: &Lab, node: &str) -> Value {
    lab.ask_agent(node, &json!({"verb": "status"}), Instant::now() + PATIENCE).expect("status")
}

/// Kills etcd and the API server.
pub fn kill(lab: &Lab) {
    for component in [Component::ApiServer, Component::Etcd] {
        lab.kill_component(component).expect("killing");
    }
}

/// Starts what was killed, and returns when everything agrees.
pub fn revive(lab: &Lab) {
    lab.start_component(Component::Etcd).expect("starting");
    start_api_server(lab);
    lab.wait(PATIENCE).expect("wait");
}

/// Starts it after it was killed, and the controllers anew when it answers: after several outages in a row each of their
/// watches waits for up to a minute before it tries again, and a Service whose slices one has not seen for longer.
pub fn start_api_server(lab: &Lab) {
    lab.start_component(Component::ApiServer).expect("starting");
    lab.kill_component(Component::ControllerManager).expect("killing");
    lab.start_component(Component::ControllerManager).expect("starting");
}
