//! What became of sets between two flushes.
//!
//! Owns: squashing; what came and went again is not said. Does not: know why.
//! Invariant: what is said leads from the sets of the last flush to those of now.

use crate::outbox::{Outbox, Phase};
use std::collections::{BTreeMap, BTreeSet};
use tortie_intent::{Intent, Member, SetChange, SetId};

/// What became of sets since the last flush.
#[derive(Debug, Default)]
pub(super) struct Changes {
    created: BTreeSet<SetId>,
    removed: BTreeSet<SetId>,
    members: BTreeMap<SetId, Moves>,
}

#[derive(Debug, Default)]
struct Moves {
    add: BTreeSet<Member>,
    remove: BTreeSet<Member>,
}

impl Changes {
    pub(super) fn create(&mut self, id: SetId, members: impl IntoIterator<Item = Member>) {
        self.created.insert(id);
        self.members.entry(id).or_default().add.extend(members);
    }

    pub(super) fn add(&mut self, id: SetId, member: Member) {
        let moves = self.members.entry(id).or_default();
        if !moves.remove.remove(&member) {
            moves.add.insert(member);
        }
    }

    pub(super) fn remove(&mut self, id: SetId, member: Member) {
        let moves = self.members.entry(id).or_default();
        if !moves.add.remove(&member) {
            moves.remove.insert(member);
        }
    }

    pub(super) fn drop_set(&mut self, id: SetId) {
        if self.created.remove(&id) {
            self.members.remove(&id);
        } else {
            self.removed.insert(id);
        }
    }

    pub(super) fn say(self, out: &mut Outbox) {
        for id in self.created {
            out.push(Phase::SetCreate, Intent::Set(id, SetChange::Create));
        }
        for (id, moves) in self.members {
            let (add, remove): (Vec<_>, Vec<_>) =
                (moves.add.into_iter().collect(), moves.remove.into_iter().collect());
            if !add.is_empty() {
                let add = SetChange::Update { add, remove: Vec::new() };
                out.push(Phase::MemberAdd, Intent::Set(id, add));
            }
            if !remove.is_empty() {
                let remove = SetChange::Update { add: Vec::new(), remove };
                out.push(Phase::MemberRemove, Intent::Set(id, remove));
            }
        }
        for id in self.removed {
            out.push(Phase::SetRemove, Intent::Set(id, SetChange::Remove));
        }
    }
}
