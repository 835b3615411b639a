//! Sets of fixed prefixes.
//!
//! Owns: one set for each distinct content. Does not: know pods. Invariant: members never change.

use super::Ids;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use tortie_intent::SetId;

#[derive(Debug, Default)]
pub(super) struct Nets {
    by_content: BTreeMap<BTreeSet<IpNet>, SetId>,
    users: BTreeMap<SetId, (BTreeSet<IpNet>, u32)>,
}

impl Nets {
    /// The set of these prefixes, and its members if it is new.
    pub(super) fn need(&mut self, nets: BTreeSet<IpNet>, ids: &mut Ids) -> (SetId, Option<BTreeSet<IpNet>>) {
        if let Some(id) = self.by_content.get(&nets) {
            if let Some((_, users)) = self.users.get_mut(id) {
                *users = users.saturating_add(1);
            }
            return (*id, None);
        }
        let id = ids.next();
        self.by_content.insert(nets.clone(), id);
        self.users.insert(id, (nets.clone(), 1));
        (id, Some(nets))
    }

    /// One user less; how many are left.
    pub(super) fn release(&mut self, id: SetId) -> Option<u32> {
        let (_, users) = self.users.get_mut(&id)?;
        *users = users.saturating_sub(1);
        Some(*users)
    }

    pub(super) fn remove(&mut self, id: SetId) {
        if let Some((nets, _)) = self.users.remove(&id) {
            self.by_content.remove(&nets);
        }
    }
}
