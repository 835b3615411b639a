//! New pods of this node, while it is not known which policies they have.
//!
//! Owns: keeping them back, and when that ends. Does not: know what is in force.
//! Invariant: who is kept back is unknown to everybody else, and a pod that is not known has no network: it is never let
//! go with policies that are older than it.

use super::current::Current;
use super::follow::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use tokio::time::Instant;

/// Pods that wait.
#[derive(Debug, Default)]
pub(super) struct Withheld {
    /// By namespace and name.
    pods: BTreeMap<(String, String), Value>,
}

impl Withheld {
    /// What is said of pods, without the ones that have to wait while policies are behind: those for which `is_new` says that
    /// they are to run here and are not known.
    pub fn pass(
        &mut self,
        signal: Signal,
        policies: Current,
        is_new: impl FnOnce(&Value) -> bool,
    ) -> Option<Signal> {
        match &signal {
            // Those that are still there are said again.
            Signal::Listing | Signal::NotServed { .. } => self.pods.clear(),
            Signal::Gone(pod) => {
                self.pods.remove(&name(pod));
            }
            Signal::Is(pod) if policies.is_behind() && is_new(pod) => {
                let Signal::Is(pod) = signal else { return None };
                let (namespace, pod_name) = name(&pod);
                tracing::info!(namespace, pod = pod_name, "a new pod waits until policies can be read");
                self.pods.insert((namespace, pod_name), pod);
                return None;
            }
            _ => {}
        }
        Some(signal)
    }

    /// When somebody may be let go.
    pub fn until(&self, policies: Current) -> Option<Instant> {
        policies.from().filter(|_| !self.pods.is_empty())
    }

    /// Those whose time has come.
    pub fn let_go(&mut self, policies: Current) -> impl Iterator<Item = Value> + use<> {
        let pods = if policies.is_behind() { BTreeMap::new() } else { std::mem::take(&mut self.pods) };
        pods.into_values()
    }
}

fn name(pod: &Value) -> (String, String) {
    let of = |field: &str| {
        pod.pointer(&format!("/metadata/{field}")).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    (of("namespace"), of("name"))
}
