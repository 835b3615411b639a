//! `<run-dir>/pod-cidrs.json`: the prefixes that this node's pods get their addresses from.
//!
//! Owns: the file's form and both ends of it: the agent writes what its Node says, the CNI plugin reads it, so that
//! a pod can be added while no API server answers. Does not: choose addresses.
//! Invariant: the file is complete whenever it exists; what was good stays when the Node says nothing any more.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::replace::replace_json;

/// What is in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodCidrs {
    /// As `spec.podCIDRs` of the Node has them.
    pub pod_cidrs: Vec<IpNet>,
}

/// Where the file is.
pub fn path(run_dir: &Path) -> PathBuf {
    run_dir.join("pod-cidrs.json")
}

impl PodCidrs {
    /// What the agent last wrote; `None` where there is no such file, or none that can be read.
    pub fn read(run_dir: &Path) -> Option<Self> {
        let bytes = fs::read(path(run_dir)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Writes the file when it says something else. A Node without prefixes changes nothing: pods keep theirs.
    pub fn publish(run_dir: &Path, prefixes: &[IpNet]) -> io::Result<()> {
        let wanted = Self { pod_cidrs: prefixes.to_vec() };
        if prefixes.is_empty() || Self::read(run_dir).as_ref() == Some(&wanted) {
            return Ok(());
        }
        replace_json(&path(run_dir), &wanted)
    }

    /// The first prefix of each family, IPv4 first.
    pub fn of_each_family(&self) -> Vec<IpNet> {
        [true, false].into_iter().filter_map(|v4| self.of_family(v4)).collect()
    }

    /// The first prefix of a family.
    pub fn of_family(&self, v4: bool) -> Option<IpNet> {
        self.pod_cidrs.iter().copied().find(|net| matches!(net.addr(), IpAddr::V4(_)) == v4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_node_that_says_nothing_any_more_keeps_what_it_said() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(PodCidrs::read(dir.path()), None);
        PodCidrs::publish(dir.path(), &[]).unwrap();
        assert_eq!(PodCidrs::read(dir.path()), None);
        let both = nets(&["fd00:65::/64", "10.65.0.0/24"]);
        PodCidrs::publish(dir.path(), &both).unwrap();
        PodCidrs::publish(dir.path(), &[]).unwrap();
        let read = PodCidrs::read(dir.path()).unwrap();
        assert_eq!(read.pod_cidrs, both);
        assert_eq!(read.of_each_family(), nets(&["10.65.0.0/24", "fd00:65::/64"]));
    }

    #[test]
    fn a_damaged_file_is_none_and_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(path(dir.path()), "{\"podCidrs\": [\"10.").unwrap();
        assert_eq!(PodCidrs::read(dir.path()), None);
        PodCidrs::publish(dir.path(), &nets(&["10.65.0.0/24"])).unwrap();
        assert_eq!(PodCidrs::read(dir.path()).unwrap().of_family(true), nets(&["10.65.0.0/24"]).pop());
        assert_eq!(PodCidrs::read(dir.path()).unwrap().of_family(false), None);
    }
}
