//! Which queries a label's value makes a difference to.
//!
//! Owns: the way from labels to queries. Does not: know pods.
//! Invariant: a query whose result differs between two sets of labels is in [`Mentions::telling_apart`] of them,
//! if all its tests were added.

use super::QueryId;
use crate::query::{Of, Test};
use std::collections::{BTreeMap, BTreeSet};
use tortie_model::namespace::Labels;

#[derive(Debug, Default)]
struct OfKey {
    /// Queries with a test that names the value.
    values: BTreeMap<String, BTreeSet<QueryId>>,
    /// Queries with a test of presence.
    presence: BTreeSet<QueryId>,
}

/// Queries by the labels that they test.
#[derive(Debug, Default)]
pub(super) struct Mentions {
    keys: BTreeMap<Of, BTreeMap<String, OfKey>>,
}

impl Mentions {
    pub(super) fn add(&mut self, test: &Test, id: QueryId) {
        let key = self.keys.entry(test.of).or_default().entry(test.key.clone()).or_default();
        match test.values() {
            Some(values) => {
                for value in values {
                    key.values.entry(value.clone()).or_default().insert(id);
                }
            }
            None => _ = key.presence.insert(id),
        }
    }

    /// Removes a query from under one of its tests. Two tests of one label are removed together.
    pub(super) fn remove(&mut self, test: &Test, id: QueryId) {
        let Some(keys) = self.keys.get_mut(&test.of) else { return };
        let Some(key) = keys.get_mut(&test.key) else { return };
        match test.values() {
            Some(values) => {
                for value in values {
                    if let Some(ids) = key.values.get_mut(value) {
                        ids.remove(&id);
                        if ids.is_empty() {
                            key.values.remove(value);
                        }
                    }
                }
            }
            None => _ = key.presence.remove(&id),
        }
        if key.values.is_empty() && key.presence.is_empty() {
            keys.remove(&test.key);
        }
    }

    /// Queries with a test of this label's presence.
    pub(super) fn presence(&self, of: Of, key: &str) -> impl Iterator<Item = QueryId> {
        self.key(of, key).into_iter().flat_map(|key| key.presence.iter().copied())
    }

    /// Queries with a test that names this value of this label.
    pub(super) fn value(&self, of: Of, key: &str, value: &str) -> impl Iterator<Item = QueryId> {
        self.key(of, key).and_then(|key| key.values.get(value)).into_iter().flatten().copied()
    }

    /// Queries with a test that these labels, where there were none, can turn.
    pub(super) fn naming(&self, of: Of, labels: &Labels) -> BTreeSet<QueryId> {
        self.telling_apart(of, &Labels::new(), labels)
    }

    /// Queries with a test that can turn when labels change from `old` to `new`.
    pub(super) fn telling_apart(&self, of: Of, old: &Labels, new: &Labels) -> BTreeSet<QueryId> {
        let mut found = BTreeSet::new();
        let changed = old.iter().filter(|(k, v)| new.get(*k) != Some(v));
        let changed = changed.chain(new.iter().filter(|(k, v)| old.get(*k) != Some(v)));
        for (key, value) in changed {
            found.extend(self.value(of, key, value));
            if old.contains_key(key) != new.contains_key(key) {
                found.extend(self.presence(of, key));
            }
        }
        found
    }

    fn key(&self, of: Of, key: &str) -> Option<&OfKey> {
        self.keys.get(&of)?.get(key)
    }
}

/// Takes `item` out of a two-level map and leaves nothing empty behind.
pub(super) fn forget<T: Ord>(
    map: &mut BTreeMap<String, BTreeMap<String, BTreeSet<T>>>,
    key: &str,
    value: &str,
    item: &T,
) {
    let Some(values) = map.get_mut(key) else { return };
    if let Some(items) = values.get_mut(value) {
        items.remove(item);
        if items.is_empty() {
            values.remove(value);
        }
    }
    if values.is_empty() {
        map.remove(key);
    }
}
