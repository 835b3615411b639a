//! `<run-dir>/nodes.json`: which node an address belongs to, for those who list routes and drops.
//!
//! Owns: the file's form and both ends of it. Does not: matter to the data plane; what is lost is written anew.
//! Invariant: the file is complete whenever it exists.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tortie::replace::replace_json;
use tortie_model::NodeName;

/// Names of nodes by address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeNames {
    /// This node.
    pub node: String,
    /// All nodes, this one included.
    pub addresses: BTreeMap<IpAddr, String>,
    #[serde(skip)]
    by_node: BTreeMap<NodeName, Vec<IpAddr>>,
    #[serde(skip)]
    changed: bool,
}

/// Its name.
pub const NODES: &str = "nodes.json";

fn path(run_dir: &Path) -> PathBuf {
    run_dir.join(NODES)
}

impl NodeNames {
    /// Only this node is known, and none of its addresses.
    pub fn new(node: &NodeName) -> Self {
        Self {
            node: node.as_str().to_owned(),
            addresses: BTreeMap::new(),
            by_node: BTreeMap::new(),
            changed: true,
        }
    }

    /// A node has these addresses; none: it is gone.
    pub fn set(&mut self, node: &NodeName, addresses: &[IpAddr]) {
        let before = match addresses {
            [] => self.by_node.remove(node),
            some => self.by_node.insert(node.clone(), some.to_vec()),
        };
        let before = before.unwrap_or_default();
        if before == addresses {
            return;
        }
        let is_its = |name: &String| name == node.as_str();
        for address in &before {
            if self.addresses.get(address).is_some_and(is_its) {
                self.addresses.remove(address);
            }
        }
        // What another node has as well is its name again.
        for (other, its) in &self.by_node {
            let left = its.iter().filter(|address| before.contains(address));
            left.for_each(|address| {
                _ = self.addresses.entry(*address).or_insert_with(|| other.as_str().to_owned())
            });
        }
        self.addresses.extend(addresses.iter().map(|address| (*address, node.as_str().to_owned())));
        self.changed = true;
    }

    /// An address as people are told of it: with its node, where it is known.
    pub fn of(&self, address: &IpAddr) -> String {
        self.addresses.get(address).map_or_else(|| address.to_string(), |node| format!("{node} ({address})"))
    }

    /// Whether the file is to be written: something has changed since this was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Writes the file.
    pub fn write(&self, run_dir: &Path) -> io::Result<()> {
        replace_json(&path(run_dir), self)
    }

    /// What the last agent wrote; nothing where there is no such file.
    pub fn read(run_dir: &Path) -> Self {
        let bytes = fs::read(path(run_dir)).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_belongs_to_the_node_that_had_it_last_and_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (NodeName::new("node1"), NodeName::new("node2"));
        let addresses: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let mut names = NodeNames::new(&one);
        names.set(&one, &addresses);
        names.set(&two, &addresses[..1]);
        names.write(dir.path()).unwrap();
        let read = NodeNames::read(dir.path());
        assert_eq!(read.node, "node1");
        assert_eq!(read.addresses.get(&addresses[0]).map(String::as_str), Some("node2"));
        names.set(&two, &[]);
        names.write(dir.path()).unwrap();
        let read = NodeNames::read(dir.path());
        let of = |address| read.addresses.get(address).map(String::as_str);
        assert_eq!(addresses.each_ref().map(of), [Some("node1"); 2], "the other one has it still");
        assert_eq!(names.of(&addresses[1]), "node1 (fd00::1)");
        names.set(&one, &[]);
        assert!(names.addresses.is_empty());
        assert_eq!(names.of(&addresses[1]), "fd00::1");
    }

    #[test]
    fn what_has_not_changed_need_not_be_written() {
        let mut names = NodeNames::new(&NodeName::new("node1"));
        assert_eq!([names.take_changed(), names.take_changed()], [true, false]);
        names.set(&NodeName::new("node2"), &[]);
        assert!(!names.take_changed());
        names.set(&NodeName::new("node2"), &["10.0.0.2".parse().unwrap()]);
        assert!(names.take_changed());
    }
}
