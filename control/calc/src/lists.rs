//! Rule lists, shared by content.
//!
//! Owns: list ids and how many endpoints use each. Does not: make rules.
//! Invariant: equal lists have one id; a list exists while an endpoint uses it.

use crate::outbox::{Outbox, Phase};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tortie_intent::{Intent, List, ListId};

/// All lists.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    by_content: BTreeMap<Arc<List>, ListId>,
    used: BTreeMap<ListId, (Arc<List>, u32)>,
    created: BTreeSet<ListId>,
    idle: BTreeSet<ListId>,
    last: u32,
}

impl Lists {
    /// The id of a list. It goes at the end of the flush unless somebody uses it.
    pub(crate) fn id(&mut self, list: List) -> ListId {
        if let Some(id) = self.by_content.get(&list) {
            return *id;
        }
        self.last = self.last.wrapping_add(1);
        let (id, list) = (ListId(self.last), Arc::new(list));
        self.by_content.insert(list.clone(), id);
        self.used.insert(id, (list, 0));
        self.created.insert(id);
        self.idle.insert(id);
        id
    }

    /// One user more.
    pub(crate) fn take(&mut self, id: ListId) {
        if let Some((_, users)) = self.used.get_mut(&id) {
            *users = users.saturating_add(1);
            self.idle.remove(&id);
        }
    }

    /// One user less.
    pub(crate) fn release(&mut self, id: ListId) {
        if let Some((_, users)) = self.used.get_mut(&id) {
            *users = users.saturating_sub(1);
            if *users == 0 {
                self.idle.insert(id);
            }
        }
    }

    /// Ends a flush: says what is new and removes what nobody uses.
    pub(crate) fn finish(&mut self, out: &mut Outbox) {
        for id in std::mem::take(&mut self.idle) {
            if let Some((list, _)) = self.used.remove(&id) {
                self.by_content.remove(&list);
            }
            if !self.created.remove(&id) {
                out.push(Phase::ListRemove, Intent::List(id, None));
            }
        }
        for id in std::mem::take(&mut self.created) {
            if let Some((list, _)) = self.used.get(&id) {
                out.push(Phase::List, Intent::List(id, Some(list.clone())));
            }
        }
    }
}
