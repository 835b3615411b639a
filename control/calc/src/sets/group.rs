//! The sets of one query: one for all its pods, or one for each number that a port name stands for.
//!
//! Owns: member counts. Does not: know which pods match. Invariant: a member counts the pods that bring it.

use super::{Facts, GroupKey};
use std::collections::BTreeMap;
use tortie_intent::{Member, SetId};

#[derive(Debug)]
pub(super) struct Group {
    pub(super) key: GroupKey,
    pub(super) users: u32,
    /// By port number; 0 for a group without port name.
    pub(super) sets: BTreeMap<u16, MemberSet>,
}

#[derive(Debug)]
pub(super) struct MemberSet {
    pub(super) id: SetId,
    pub(super) members: BTreeMap<Member, u32>,
}

impl MemberSet {
    pub(super) fn new(id: SetId) -> Self {
        Self { id, members: BTreeMap::new() }
    }

    /// One more pod brings the member; whether it is new.
    pub(super) fn bring(&mut self, member: Member) -> bool {
        let count = self.members.entry(member).or_insert(0);
        *count = count.saturating_add(1);
        *count == 1
    }

    /// One pod less brings the member; whether it is gone.
    pub(super) fn take(&mut self, member: Member) -> bool {
        let Some(count) = self.members.get_mut(&member) else { return false };
        *count = count.saturating_sub(1);
        *count == 0 && self.members.remove(&member).is_some()
    }
}

impl Group {
    pub(super) fn new(key: GroupKey) -> Self {
        Self { key, users: 0, sets: BTreeMap::new() }
    }

    /// What a pod with these facts brings, by port number.
    pub(super) fn part(&self, facts: Option<&Facts>) -> Vec<(u16, Member)> {
        let Some(facts) = facts else { return Vec::new() };
        let mut ports: Vec<u16> = match &self.key.port {
            None => vec![0],
            Some(name) => facts.ports.iter().filter(|port| name.names(port)).map(|port| port.port).collect(),
        };
        ports.sort_unstable();
        ports.dedup();
        let mut addresses = facts.addresses.clone();
        addresses.sort_unstable();
        addresses.dedup();
        ports.iter().flat_map(|port| addresses.iter().map(|a| (*port, Member::from(*a)))).collect()
    }

    /// Its sets; of those by port number, the ones that have members.
    pub(super) fn inhabited(&self) -> impl Iterator<Item = (u16, SetId)> {
        let plain = self.key.port.is_none();
        self.sets.iter().filter(move |(_, set)| plain || !set.members.is_empty()).map(|(n, set)| (*n, set.id))
    }

    /// Removes and returns the sets of numbers that no pod has any more.
    pub(super) fn sweep(&mut self) -> Vec<SetId> {
        if self.key.port.is_none() {
            return Vec::new();
        }
        let ids = self.sets.values().filter(|set| set.members.is_empty()).map(|set| set.id).collect();
        self.sets.retain(|_, set| !set.members.is_empty());
        ids
    }
}
