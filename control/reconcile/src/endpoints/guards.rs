//! Interfaces that have a workload's name and belong to no endpoint.
//!
//! Owns: which interfaces there are, and which carry programs that drop everything. Does not: know workloads.
//! Invariant: an interface that the node itself speaks by is never guarded.

use super::GUARD_SLOT;
use crate::delta::{Now, Written};
use crate::dirty::{Dirty, Retry};
use crate::kernel::{HookError, Kernel};
use std::collections::{BTreeMap, BTreeSet};

/// The interfaces of this node, by name.
#[derive(Debug, Default)]
pub(super) struct Guards {
    interfaces: BTreeMap<String, u32>,
    prefix: String,
    nodes_own: BTreeSet<String>,
    guarded: BTreeMap<String, u32>,
    errors: BTreeMap<String, Retry>,
}

impl Guards {
    /// The start of workload interfaces' names.
    pub fn set_prefix(&mut self, prefix: &str) {
        prefix.clone_into(&mut self.prefix);
    }

    /// Interfaces that the node itself speaks by: whatever their names, none of them is a workload's.
    pub fn set_nodes_own(&mut self, interfaces: BTreeSet<String>) {
        self.guarded.retain(|name, _| !interfaces.contains(name));
        self.nodes_own = interfaces;
    }

    /// Those that were said last.
    pub fn nodes_own(&self) -> &BTreeSet<String> {
        &self.nodes_own
    }

    /// An interface has this index, or is gone.
    pub fn interface(&mut self, name: &str, ifindex: Option<u32>) {
        match ifindex {
            Some(ifindex) => self.interfaces.insert(name.to_owned(), ifindex),
            None => self.interfaces.remove(name),
        };
        self.guarded.retain(|guarded, index| guarded != name || Some(*index) == ifindex);
        self.errors.remove(name);
    }

    /// The index of an interface that is there.
    pub fn index(&self, name: &str) -> Option<u32> {
        self.interfaces.get(name).copied()
    }

    /// The kernel has these guarded.
    pub fn found(&mut self, guarded: BTreeMap<String, u32>) {
        self.guarded = guarded;
    }

    /// It carries an endpoint's programs now, or none.
    pub fn forget(&mut self, name: &str) {
        self.guarded.remove(name);
    }

    /// All that are guarded, with their indices.
    pub fn guarded(&self) -> &BTreeMap<String, u32> {
        &self.guarded
    }

    /// Workload interfaces that are not among `owned` drop everything, unless `is_needed` says of an index that they carry others'.
    pub fn attach(
        &mut self,
        kernel: &mut Kernel,
        owned: &BTreeSet<&str>,
        is_needed: impl Fn(u32) -> bool,
        now: Now,
    ) -> Written {
        let mut written = Written::default();
        if self.prefix.is_empty() {
            return written;
        }
        for (name, ifindex) in &self.interfaces {
            let ours = name.starts_with(&self.prefix) && !owned.contains(name.as_str());
            if !ours
                || self.nodes_own.contains(name)
                || self.guarded.get(name) == Some(ifindex)
                || is_needed(*ifindex)
            {
                continue;
            }
            let before = self.errors.get(name).cloned();
            if before.as_ref().is_some_and(|retry| retry.at > now) {
                continue;
            }
            match kernel.hooks.attach(name, *ifindex, GUARD_SLOT) {
                Ok(()) => {
                    self.guarded.insert(name.clone(), *ifindex);
                    self.errors.remove(name);
                    written.done += 1;
                }
                Err(HookError::Gone) => {}
                Err(error) => {
                    self.errors.insert(name.clone(), Retry::after(before, error.to_string(), now));
                    written.failed += 1;
                }
            }
        }
        written
    }

    /// What could not be guarded.
    pub fn dirty(&self) -> impl Iterator<Item = Dirty> {
        self.errors.iter().map(|(name, retry)| Dirty::failed(format!("interface {name}"), retry))
    }

    /// When it is tried again.
    pub fn retries(&self) -> impl Iterator<Item = &Retry> {
        self.errors.values()
    }
}
