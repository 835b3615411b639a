//! A cluster of some size in the API server.
//!
//! Owns: what is in it.
//! Does not: run any of it; its nodes are elsewhere.
//! Invariant: controllers are stopped before, so that nothing of it is changed or removed.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};
use tortie_lab::{Component, Object};
use tortie_store::kube::{Cluster, Method};

use super::{Bench, Kube, NAMESPACE, service, slice};
use crate::exit::Failure;

/// Requests that are under way at once.
const AT_ONCE: usize = 16;
/// Endpoints of a Service.
const ENDPOINTS: u32 = 5;

impl Bench {
    pub(super) fn fill(&self, kube: &Kube) -> Result<(), Failure> {
        self.lab.kill_component(Component::ControllerManager)?;
        let cluster = self.lab.cluster()?;
        let namespace = format!("/api/v1/namespaces/{NAMESPACE}");
        let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices");
        let policies = format!("/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies");
        at_once(kube.services, |index| {
            let name = format!("s{index}");
            post(cluster, &format!("{namespace}/services"), service(&name, false).value())?;
            let addresses: Vec<String> = (0..ENDPOINTS).map(|n| address(index * ENDPOINTS + n)).collect();
            post(cluster, &slices, slice(&name, &addresses).value())
        })?;
        at_once(kube.other_pods, |index| {
            let name = format!("other-{index}");
            let labels = json!({"app": format!("a{}", index % kube.policies.max(1)), "all": "others"});
            let mut pod = super::pod(&name, Some(&format!("elsewhere-{}", index % 100)));
            pod.set(&["metadata", "labels"], labels);
            post(cluster, &format!("{namespace}/pods"), pod.value())?;
            let status = json!({"status": {"phase": "Running", "podIP": address(index),
                "podIPs": [{"ip": address(index)}]}});
            let path = format!("{namespace}/pods/{name}/status");
            let patch = ("application/merge-patch+json", &status);
            cluster.raw(&Method::PATCH, &path, Some(patch)).with_context(|| path.clone())?;
            Ok(())
        })?;
        at_once(kube.policies, |index| {
            let app = json!({"matchLabels": {"app": format!("a{index}")}});
            // The server pod of this laboratory is selected by every tenth.
            let selected =
                if index % 10 == 0 { json!({"matchLabels": {"name": "server"}}) } else { app.clone() };
            let spec = json!({"podSelector": selected, "ingress": [{"from": [{"podSelector": app}],
                "ports": [{"port": 1000 + index}]}]});
            let name = format!("p{index}");
            let rest = json!({"spec": spec});
            let policy = Object::make("networking.k8s.io/v1", "NetworkPolicy", Some(NAMESPACE), &name, rest);
            post(cluster, &policies, policy.value())
        })
    }
}

/// The address of an other pod; endpoints are other pods, over and over.
fn address(index: u32) -> String {
    let index = index % 60_000;
    format!("10.244.{}.{}", 10 + index / 250, 1 + index % 250)
}

fn post(cluster: &Cluster, path: &str, body: &Value) -> anyhow::Result<()> {
    match cluster.raw(&Method::POST, path, Some(("application/json", body))) {
        Err(error) if error.is_already_exists() => Ok(()),
        other => other.map(drop).with_context(|| format!("POST {path}")),
    }
}

pub(in crate::bench) fn at_once(
    count: u32,
    work: impl Fn(u32) -> anyhow::Result<()> + Sync,
) -> Result<(), Failure> {
    let next = AtomicU32::new(0);
    thread::scope(|scope| {
        let worker = || -> anyhow::Result<()> {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return Ok(());
                }
                work(index)?;
            }
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            worker.join().map_err(|_| anyhow!("a worker panicked"))??;
        }
        Ok(())
    })
}
