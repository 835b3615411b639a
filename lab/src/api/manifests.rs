//! What an operator installs before the agents: kinds and rights, as deploy/ has them.
//!
//! Owns: the list of files, and applying them.
//! Does not: change them; agents run with exactly these rights.
//! Invariant: a file of deploy/crds that is not in the list fails a test.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tortie_store::kube::ClusterError;

use super::{explain, resource};
use crate::cluster;
use crate::error::Result;
use crate::lab::Lab;
use crate::object::{self, Object};

const KINDS: [&str; 19] = [
    include_str!("../../../deploy/crds/bgpconfigurations.yaml"),
    include_str!("../../../deploy/crds/bgpfilters.yaml"),
    include_str!("../../../deploy/crds/bgppeers.yaml"),
    include_str!("../../../deploy/crds/caliconodestatuses.yaml"),
    include_str!("../../../deploy/crds/clusterinformations.yaml"),
    include_str!("../../../deploy/crds/felixconfigurations.yaml"),
    include_str!("../../../deploy/crds/globalnetworkpolicies.yaml"),
    include_str!("../../../deploy/crds/globalnetworksets.yaml"),
    include_str!("../../../deploy/crds/hostendpoints.yaml"),
    include_str!("../../../deploy/crds/ipamconfigs.yaml"),
    include_str!("../../../deploy/crds/ippools.yaml"),
    include_str!("../../../deploy/crds/ipreservations.yaml"),
    include_str!("../../../deploy/crds/kubecontrollersconfigurations.yaml"),
    include_str!("../../../deploy/crds/networkpolicies.yaml"),
    include_str!("../../../deploy/crds/networksets.yaml"),
    include_str!("../../../deploy/crds/stagedglobalnetworkpolicies.yaml"),
    include_str!("../../../deploy/crds/stagedkubernetesnetworkpolicies.yaml"),
    include_str!("../../../deploy/crds/stagednetworkpolicies.yaml"),
    include_str!("../../../deploy/crds/tiers.yaml"),
];
const RIGHTS: &str = include_str!("../../../deploy/base/rbac.yaml");
/// Where an operator's kustomization puts what names no namespace.
const NAMESPACE: &str = "kube-system";
/// A kind is served a moment after it has been defined.
const PATIENCE: Duration = Duration::from_secs(30);

impl Lab {
    /// Defines Calico's kinds, gives the agents their rights, and makes the default pools and settings.
    pub(crate) fn install(&self) -> Result<()> {
        for text in KINDS {
            for object in object::parse(text, "deploy/crds")? {
                self.cluster()?.apply(&resource(&object)?, None, true).map_err(explain)?;
            }
        }
        for mut object in object::parse(RIGHTS, "deploy/base/rbac.yaml")? {
            if object.namespace().is_some() {
                object.set(&["metadata", "namespace"], json!(NAMESPACE));
            }
            self.cluster()?.apply(&resource(&object)?, None, true).map_err(explain)?;
        }
        let plan = &self.state.plan;
        let defaults = cluster::default_pools(plan).into_iter().chain([cluster::felix()]);
        defaults.into_iter().try_for_each(|object| self.make_default(&object))
    }

    fn make_default(&self, object: &Object) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.cluster()?.create(&resource(object)?) {
                Err(ClusterError::NotServed { .. }) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(50));
                }
                Err(error) if error.is_already_exists() => return Ok(()),
                // Defined, and not yet listening.
                Err(error) if error.is_not_found() && Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(50));
                }
                other => return other.map(drop).map_err(explain),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_that_an_operator_installs_is_installed_here_too() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/crds");
        let files = std::fs::read_dir(directory).unwrap().flatten();
        let count = files.filter(|file| file.file_name() != "kustomization.yaml").count();
        assert_eq!(count, KINDS.len());
    }
}
